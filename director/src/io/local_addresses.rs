//! The local addresses of FULLNAT: which of them may be the director's, and where they go.
//!
//! All TCP, UDP and SCTP to them is taken, so that none may be an address that the host already has for something
//! else. They carry a protocol number of their own, by which one that a killed director left is known. An
//! address goes when no connection has a port of it any more.

use std::net::IpAddr;

use shared::host::netlink::{
    Address, LOCAL_ADDRESS_PROTOCOL, Link, Netlink, NetlinkError, NewAddress, Prefix, Scope,
};
use shared::time::Time;
use tracing::{info, warn};

use super::give_back;
use crate::core::director::Director;
use crate::core::net;
use crate::core::operation::{Operation, OperationError};

/// The local addresses that this process has put on the host.
#[derive(Debug)]
pub(super) struct LocalAddresses {
    ours: Vec<(IpAddr, u32)>,
    /// Interfaces that they may go on, if they are in no subnet; none means all.
    interfaces: Vec<String>,
}

/// Where an address is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    link: u32,
    name: String,
    /// A director that was killed has left it there.
    is_there: bool,
}

impl LocalAddresses {
    /// None yet. `interfaces` are those that packets are taken from.
    pub(super) fn new(interfaces: Vec<String>) -> LocalAddresses {
        LocalAddresses {
            ours: Vec::new(),
            interfaces,
        }
    }

    /// Has the director do something, and the host what belongs to it.
    ///
    /// # Errors
    /// Why not; then nothing was done.
    pub(super) fn apply(
        &mut self,
        director: &mut Director,
        now: Time,
        operation: &Operation,
        netlink: &mut Netlink,
    ) -> Result<(), OperationError> {
        let Operation::AddLocalAddress { address, interface } = operation else {
            director.apply(now, operation)?;
            if matches!(operation, Operation::DeleteLocalAddress(_)) {
                self.retire(director, netlink);
            }
            return Ok(());
        };
        let address = *address;
        let unfit = |what: String| OperationError::Unfit(format!("local address {address} {what}"));
        let of_host = |error: NetlinkError| unfit(format!("cannot be added: {error}"));
        let (links, addresses) = (
            netlink.links().map_err(of_host)?,
            netlink.addresses().map_err(of_host)?,
        );
        let place = self.place(address, interface.as_deref(), &links, &addresses);
        let place = place.map_err(unfit)?;
        director.apply(now, operation)?;
        if self.ours.iter().any(|&(ours, _)| ours == address) {
            return Ok(());
        }
        if !place.is_there
            && let Err(error) = add(address, &place, netlink)
        {
            director.apply(now, &Operation::DeleteLocalAddress(address))?;
            return Err(of_host(error));
        }
        self.ours.push((address, place.link));
        Ok(())
    }

    /// Where an address goes: on the interface that is asked for, else on the one whose subnet it is in, else on
    /// the first. Or why it must not.
    fn place(
        &self,
        address: IpAddr,
        interface: Option<&str>,
        links: &[Link],
        addresses: &[Address],
    ) -> Result<Place, String> {
        let there = addresses.iter().find(|a| a.prefix.address == address);
        if there.is_some_and(|there| there.protocol != LOCAL_ADDRESS_PROTOCOL) {
            return Err(
                "is an address of this host already; all TCP, UDP and SCTP to it would be lost to the host: name \
                 one that nobody uses"
                    .to_owned(),
            );
        }
        let usable = |link: &&Link| {
            let named = self.interfaces.is_empty() || self.interfaces.contains(&link.name);
            named && !link.loopback && link.hardware == ETHERNET
        };
        let by_index = |index: u32| links.iter().find(|link| link.index == index);
        let asked = match interface {
            Some(name) => {
                let link = links.iter().find(|link| link.name == name);
                Some(
                    link.ok_or_else(|| format!("cannot go on {name}: there is no such interface"))?,
                )
            }
            None => None,
        };
        let is_on = there.and_then(|there| by_index(there.link));
        if let (Some(asked), Some(is_on)) = (asked, is_on)
            && asked.index != is_on.index
        {
            return Err(format!("is on {} already", is_on.name));
        }
        let in_subnet = || addresses.iter().find(|a| contains(a.prefix, address));
        let link = asked
            .or(is_on)
            .or_else(|| in_subnet().and_then(|a| by_index(a.link)))
            .or_else(|| links.iter().find(usable))
            .ok_or("has no interface to go on")?;
        Ok(Place {
            link: link.index,
            name: link.name.clone(),
            is_there: there.is_some(),
        })
    }

    /// Takes those from the host that give no ports any more and that no connection has one of.
    pub(super) fn retire(&mut self, director: &Director, netlink: &mut Netlink) {
        if self.ours.is_empty() {
            return;
        }
        let needed = director.balancer.local_addresses();
        self.ours.retain(|&(address, link)| {
            let stays = needed.iter().any(|needed| needed.address == address);
            if !stays {
                remove(address, link, netlink);
            }
            stays
        });
    }

    /// Takes those from the host that a killed director has left and that this one has no use for. While
    /// another director is there they may be that one's.
    pub(super) fn remove_leftovers(&self, own_device: u32, netlink: &mut Netlink) {
        let others = |link: &Link| give_back::is_one(link) && link.index != own_device;
        let found = netlink
            .links()
            .and_then(|links| Ok((links, netlink.addresses()?)));
        match found {
            Ok((links, _)) if links.iter().any(others) => {}
            Ok((_, addresses)) => {
                for left in addresses {
                    let address = left.prefix.address;
                    if left.protocol == LOCAL_ADDRESS_PROTOCOL
                        && !self.ours.contains(&(address, left.link))
                    {
                        remove(address, left.link, netlink);
                    }
                }
            }
            Err(error) => warn!("what a killed director may have left stays: {error}"),
        }
    }

    /// Takes all of them from the host.
    pub(super) fn remove_all(&mut self, netlink: &mut Netlink) {
        for (address, link) in self.ours.drain(..) {
            remove(address, link, netlink);
        }
    }
}

fn add(address: IpAddr, place: &Place, netlink: &mut Netlink) -> Result<(), NetlinkError> {
    netlink.add_address(&NewAddress {
        link: place.link,
        prefix: Prefix::host(address),
        label: None,
        scope: Scope::Universe,
        protocol: LOCAL_ADDRESS_PROTOCOL,
    })?;
    info!("local address {address} is here, on {}", place.name);
    Ok(())
}

fn remove(address: IpAddr, link: u32, netlink: &mut Netlink) {
    match netlink.delete_address(link, Prefix::host(address)) {
        Ok(()) => info!("local address {address} is gone"),
        Err(error) if error.is_missing() => {}
        Err(error) => warn!("{error}"),
    }
}

/// Whether an address is in the subnet of an interface; a whole address is none.
fn contains(subnet: Prefix, address: IpAddr) -> bool {
    let whole = Prefix::host(subnet.address).length;
    let subnet_of = || net::Prefix::new(subnet.address.into(), subnet.length);
    (1..whole).contains(&subnet.length) && subnet_of().contains(address.into())
}

/// `ARPHRD_ETHER`
const ETHERNET: u16 = 1;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use shared::host::netlink::OUR_PROTOCOL;

    use super::*;

    fn link(index: u32, name: &str, hardware: u16) -> Link {
        Link {
            index,
            name: name.to_owned(),
            mac: None,
            mtu: 1500,
            up: true,
            carrier: true,
            loopback: name == "lo",
            promiscuity: 0,
            kind: None,
            master: None,
            hardware,
        }
    }

    fn address(link: u32, number: u8, length: u8, protocol: u8) -> Address {
        Address {
            link,
            prefix: Prefix::new(Ipv4Addr::new(10, link as u8, 0, number), length),
            label: None,
            scope: Scope::Universe,
            flags: 0,
            protocol,
        }
    }

    #[test]
    fn an_address_goes_where_it_is_asked_for_or_belongs() {
        let links = [
            link(1, "lo", 772),
            link(2, "eth0", ETHERNET),
            link(3, "eth1", ETHERNET),
        ];
        let addresses = [
            address(2, 1, 24, 0),
            address(3, 1, 24, 0),
            address(3, 100, 32, OUR_PROTOCOL),
            address(3, 9, 32, LOCAL_ADDRESS_PROTOCOL),
        ];
        let locals = LocalAddresses::new(vec!["eth1".to_owned()]);
        let place = |address: [u8; 4], interface| {
            let place = locals.place(address.into(), interface, &links, &addresses);
            place.map(|place| (place.name, place.is_there))
        };
        let on = |name: &str, is_there| Ok((name.to_owned(), is_there));
        assert_eq!(place([10, 2, 0, 9], None), on("eth0", false));
        assert_eq!(place([10, 3, 0, 8], None), on("eth1", false));
        assert_eq!(place([10, 7, 0, 8], None), on("eth1", false));
        assert_eq!(place([10, 3, 0, 9], None), on("eth1", true));
        assert_eq!(place([10, 7, 0, 8], Some("eth0")), on("eth0", false));
        for (address, interface, fault) in [
            ([10, 3, 0, 1], None, "an address of this host already"),
            ([10, 3, 0, 100], None, "an address of this host already"),
            ([10, 3, 0, 8], Some("eth7"), "there is no such interface"),
            ([10, 3, 0, 9], Some("eth0"), "is on eth1 already"),
        ] {
            let refused = place(address, interface).unwrap_err();
            assert!(refused.contains(fault), "{refused}");
        }
    }
}
