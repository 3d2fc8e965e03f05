//! Where tunnels end on a host, from what there is. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

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

/// The interfaces that were asked for, else all Ethernet interfaces that are up but those in a bridge
/// or bond, where frames come by once more.
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
            link.up && link.master.is_none() && is_ethernet(link)
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

/// The host's addresses that tunnels end at: all but VIPs, what else we put on `lo`, and loopback.
///
/// # Errors
/// [`PlanError::NoAddress`] if there is none.
pub(crate) fn own_addresses(
    vips: &BTreeSet<Ipv4Addr>,
    facts: &Facts,
) -> Result<BTreeSet<Ipv4Addr>, PlanError> {
    let is_loopback = |index: u32| {
        let mut links = facts.links.iter();
        links.any(|link| link.index == index && link.loopback)
    };
    let own: BTreeSet<Ipv4Addr> = facts
        .addresses
        .iter()
        .filter(|known| known.protocol != OUR_PROTOCOL || !is_loopback(known.link))
        .filter_map(|known| match known.prefix.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
        .filter(|address| !address.is_loopback() && *address != device::ADDRESS)
        .filter(|address| !vips.contains(address))
        .collect();
    if own.is_empty() {
        return Err(PlanError::NoAddress);
    }
    Ok(own)
}

/// The VIPs, which must be of IPv4.
///
/// # Errors
/// [`PlanError::Inside`] for others.
pub(crate) fn inside<'a>(
    vips: impl IntoIterator<Item = &'a IpAddr>,
) -> Result<BTreeSet<Ipv4Addr>, PlanError> {
    let inside = vips.into_iter().map(|vip| match vip {
        IpAddr::V4(vip) => Ok(*vip),
        IpAddr::V6(_) => Err(PlanError::Inside(*vip)),
    });
    inside.collect()
}

fn is_ethernet(link: &Link) -> bool {
    link.hardware == ARPHRD_ETHER && !link.loopback
}

/// include/uapi/linux/if_arp.h
const ARPHRD_ETHER: u16 = 1;
