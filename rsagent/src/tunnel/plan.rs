//! Where tunnels end on a host, from what there is. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use shared::addr::Family;
use shared::host::netlink::{Link, OUR_PROTOCOL};

use super::device;
use crate::plan::{Facts, PlanError, asked_for, is_default};

/// An interface that tunnels come in by, and answers leave by.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// Its index.
    pub(crate) link: u32,
    /// Its name.
    pub(crate) name: String,
    /// Its MTU in bytes.
    pub(crate) mtu: u32,
    /// Whether a default route leaves by it. If none does, the way back to a client is another one
    /// than that of what comes in, and strict reverse path filtering would drop that.
    pub(crate) is_way_back: bool,
}

/// The interfaces that were asked for, else all Ethernet interfaces that are up and have an address that
/// others know. Those of containers and those in a bridge or bond, whose frames come by once more, have none.
///
/// # Errors
/// [`PlanError::NoInterface`], [`PlanError::NotEthernet`] of one that was asked for;
/// [`PlanError::NoWayIn`] if there is none.
pub(crate) fn ends(interfaces: &[String], facts: &Facts) -> Result<Vec<End>, PlanError> {
    for name in interfaces {
        asked_for(name, facts)?;
        if !facts
            .links
            .iter()
            .any(|link| link.name == *name && is_ethernet(link))
        {
            return Err(PlanError::NotEthernet(name.clone()));
        }
    }
    let is_end = |link: &&Link| {
        if interfaces.is_empty() {
            link.up && is_ethernet(link) && has_address(link, facts)
        } else {
            interfaces.contains(&link.name)
        }
    };
    let ends: Vec<End> = facts
        .links
        .iter()
        .filter(is_end)
        .map(|link| end(link, facts))
        .collect();
    if ends.is_empty() {
        return Err(PlanError::NoWayIn);
    }
    Ok(ends)
}

/// An interface as an end.
pub(crate) fn end(link: &Link, facts: &Facts) -> End {
    let mut routes = facts.routes.iter();
    End {
        link: link.index,
        name: link.name.clone(),
        mtu: link.mtu,
        is_way_back: routes.any(|route| {
            is_default(route)
                && route.destination.family() == Family::V4
                && route.link == Some(link.index)
        }),
    }
}

/// The host's addresses that tunnels end at: all but VIPs, what else we put on `lo`, loopback, and link-local
/// ones of IPv6, which no director beyond the link knows.
///
/// # Errors
/// [`PlanError::NoAddress`] if there is none.
pub(crate) fn own_addresses(
    vips: &BTreeSet<IpAddr>,
    facts: &Facts,
) -> Result<BTreeSet<IpAddr>, PlanError> {
    let is_loopback = |index: u32| {
        let mut links = facts.links.iter();
        links.any(|link| link.index == index && link.loopback)
    };
    let own: BTreeSet<IpAddr> = facts
        .addresses
        .iter()
        .filter(|known| known.protocol != OUR_PROTOCOL || !is_loopback(known.link))
        .map(|known| known.prefix.address)
        .filter(|address| !address.is_loopback() && *address != device::ADDRESS)
        .filter(|address| !is_link_local(address))
        .filter(|address| !vips.contains(address))
        .collect();
    if own.is_empty() {
        return Err(PlanError::NoAddress);
    }
    Ok(own)
}

fn has_address(link: &Link, facts: &Facts) -> bool {
    let mut addresses = facts.addresses.iter();
    addresses.any(|known| known.link == link.index && !is_link_local(&known.prefix.address))
}

fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn is_ethernet(link: &Link) -> bool {
    link.hardware == ARPHRD_ETHER && !link.loopback
}

/// include/uapi/linux/if_arp.h
const ARPHRD_ETHER: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{address, facts, ip, link};

    fn names(interfaces: &[&str], facts: &Facts) -> Result<Vec<(String, bool)>, PlanError> {
        let asked: Vec<String> = interfaces.iter().map(|&name| name.to_owned()).collect();
        let ends = ends(&asked, facts)?.into_iter();
        Ok(ends.map(|end| (end.name, end.is_way_back)).collect())
    }

    #[test]
    fn tunnels_end_at_ethernet_interfaces() {
        let mut facts = facts();
        let eth = |name: &str, is_way_back| (name.to_owned(), is_way_back);
        let both = [eth("eth0", true), eth("eth1", false)];
        let port = link(4, "eth2");
        let mut down = link(6, "eth3");
        down.up = false;
        let mut other = link(7, "tun0");
        other.hardware = 65_534;
        facts.links.extend([port, down, other]);
        facts.addresses.extend([
            address(4, "fe80::4/64", None, 0),
            address(6, "10.3.0.11/24", None, 0),
            address(7, "10.4.0.11/24", None, 0),
        ]);
        assert_eq!(names(&[], &facts).unwrap(), both);
        let asked = names(&["eth1", "eth3"], &facts).unwrap();
        assert_eq!(asked, [eth("eth1", false), eth("eth3", false)]);
        for name in ["lo", "tun0"] {
            let refused = Err(PlanError::NotEthernet(name.to_owned()));
            assert_eq!(names(&[name], &facts), refused);
        }
        assert!(matches!(
            names(&["eth7"], &facts),
            Err(PlanError::NoInterface { .. })
        ));
        assert_eq!(names(&[], &Facts::default()), Err(PlanError::NoWayIn));
    }

    #[test]
    fn tunnels_end_at_addresses_that_are_no_vips() {
        let mut facts = facts();
        facts.addresses.extend([
            address(1, "192.0.2.100/32", None, 0),
            address(1, "192.0.2.101/32", Some("lo:0"), OUR_PROTOCOL),
            address(1, "10.9.9.9/32", None, 0),
            address(2, "10.1.0.12/24", None, OUR_PROTOCOL),
            address(2, "fd00::11/64", None, 0),
            address(2, "fe80::11/64", None, 0),
            address(4, "169.254.76.4/32", None, OUR_PROTOCOL),
        ]);
        let vips = BTreeSet::from([ip("192.0.2.100")]);
        let expected = [
            "10.1.0.11",
            "10.1.0.12",
            "10.2.0.11",
            "10.9.9.9",
            "fd00::11",
        ];
        let expected = expected.map(ip);
        assert_eq!(own_addresses(&vips, &facts), Ok(expected.into()));
        facts.addresses.truncate(1);
        assert_eq!(own_addresses(&vips, &facts), Err(PlanError::NoAddress));
    }
}
