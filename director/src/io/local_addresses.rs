//! The local addresses of FULLNAT: which of them may be the director's, and where they go.
//!
//! All TCP and UDP to them is taken, so that none may be an address that the host already has for
//! something else.

use std::net::IpAddr;

use shared::host::netlink::{Link, Netlink, NetlinkError, OUR_PROTOCOL, Prefix};
use tracing::{error, warn};

use crate::config::{Config, Vip};
use crate::core::net;

/// The addresses that the host is to have for the director: the VIPs of the configuration, and its local
/// addresses, each on the interface that it was left on by a director that was killed, else on the one whose
/// subnet it is in, else on the first. Those that cannot be the director's alone are taken out of the
/// configuration, with the reason.
pub(super) fn place(config: &mut Config, netlink: &mut Netlink) -> Vec<Vip> {
    let mut addresses = config.vips.clone();
    if config.local_addresses.is_empty() {
        return addresses;
    }
    let placed = try_place(&config.local_addresses, &config.interfaces, netlink);
    let placed = placed.unwrap_or_else(|fault| {
        warn!("the local addresses cannot be added: {fault}");
        Vec::new()
    });
    config.local_addresses = placed.iter().map(|placed| placed.address).collect();
    addresses.extend(placed);
    addresses
}

fn try_place(
    wanted: &[IpAddr],
    interfaces: &[String],
    netlink: &mut Netlink,
) -> Result<Vec<Vip>, NetlinkError> {
    let (links, addresses) = (netlink.links()?, netlink.addresses()?);
    let usable = |link: &&Link| {
        let named = interfaces.is_empty() || interfaces.contains(&link.name);
        named && !link.loopback && link.hardware == ETHERNET
    };
    let mut placed = Vec::new();
    for &address in wanted {
        let there = addresses.iter().find(|a| a.prefix.address == address);
        if there.is_some_and(|there| there.protocol != OUR_PROTOCOL) {
            error!(
                "local address {address} is an address of this host already; all TCP and UDP to it would be \
                 lost to the host: name one that nobody uses"
            );
            continue;
        }
        let link = there
            .or_else(|| addresses.iter().find(|a| contains(a.prefix, address)))
            .and_then(|a| links.iter().find(|link| link.index == a.link))
            .or_else(|| links.iter().find(usable));
        let Some(link) = link else {
            error!("local address {address}: there is no interface for it");
            continue;
        };
        placed.push(Vip {
            address,
            prefix: if address.is_ipv4() { 32 } else { 128 },
            interface: link.name.clone(),
            label: None,
        });
    }
    Ok(placed)
}

/// Whether an address is in the subnet of an interface; a whole address is none.
fn contains(subnet: Prefix, address: IpAddr) -> bool {
    let whole = Prefix::host(subnet.address).length;
    let subnet_of = || net::Prefix::new(subnet.address.into(), subnet.length);
    (1..whole).contains(&subnet.length) && subnet_of().contains(address.into())
}

/// `ARPHRD_ETHER`
const ETHERNET: u16 = 1;
