//! The VIPs of the configuration: added at the start, removed at the end. An address that the
//! administrator put there is left alone, both ways; one that a killed director left behind is
//! known by its protocol number.

use shared::host::netlink::{
    Address, Netlink, NetlinkError, NewAddress, OUR_PROTOCOL, Prefix, Scope,
};
use tracing::{info, warn};

use crate::config::Vip;

/// The addresses that this process answers for.
#[derive(Debug, Default)]
pub(super) struct Vips {
    ours: Vec<(Vip, u32)>,
}

impl Vips {
    /// Makes the host's addresses those of the configuration.
    pub(super) fn set(&mut self, wanted: &[Vip], netlink: &mut Netlink) {
        let (stay, go): (Vec<_>, Vec<_>) = self
            .ours
            .drain(..)
            .partition(|(vip, _)| wanted.contains(vip));
        self.ours = stay;
        for (vip, link) in go {
            remove(&vip, link, netlink);
        }
        let known: Vec<Vip> = self.ours.iter().map(|(vip, _)| vip.clone()).collect();
        for vip in wanted.iter().filter(|vip| !known.contains(vip)) {
            match add(vip, netlink) {
                Ok(Some(link)) => self.ours.push((vip.clone(), link)),
                Ok(None) => {}
                Err(error) => warn!("VIP {}: {error}", vip.address),
            }
        }
    }

    /// Removes what was added.
    pub(super) fn remove_all(&mut self, netlink: &mut Netlink) {
        for (vip, link) in self.ours.drain(..) {
            remove(&vip, link, netlink);
        }
    }
}

/// The interface that the address is now ours on; none if it is somebody else's.
fn add(vip: &Vip, netlink: &mut Netlink) -> Result<Option<u32>, NetlinkError> {
    let Some(link) = netlink.link_by_name(&vip.interface)? else {
        warn!(
            "VIP {}: there is no interface {}",
            vip.address, vip.interface
        );
        return Ok(None);
    };
    let prefix = Prefix::new(vip.address, vip.prefix);
    let there = |address: &Address| address.link == link.index && address.prefix == prefix;
    if let Some(address) = netlink.addresses()?.into_iter().find(there) {
        // Left behind by a director that was killed, or the administrator's own.
        return Ok((address.protocol == OUR_PROTOCOL).then_some(link.index));
    }
    let label = vip.label.as_deref();
    let scope = Scope::Universe;
    netlink.add_address(&NewAddress {
        link: link.index,
        prefix,
        label,
        scope,
        protocol: OUR_PROTOCOL,
    })?;
    info!("VIP {prefix} is here, on {}", vip.interface);
    Ok(Some(link.index))
}

fn remove(vip: &Vip, link: u32, netlink: &mut Netlink) {
    let prefix = Prefix::new(vip.address, vip.prefix);
    match netlink.delete_address(link, prefix) {
        Ok(()) => info!("VIP {prefix} is gone, from {}", vip.interface),
        Err(error) if error.is_missing() => {}
        Err(error) => warn!("{error}"),
    }
}
