//! The rules themselves, and the routes that they lead to.

use shared::addr::{Family, Protocol};
use shared::host::netlink::{
    Netlink, NetlinkError, OUR_PROTOCOL, Prefix, RTPROT_KERNEL, Route, Rule, RulePorts, Scope,
    TABLE_LOCAL,
};
use tracing::warn;

use crate::core::capture::RouteKey;

/// The routes into the device, and the rules around those of keys.
pub(super) fn make(
    family: Family,
    (ifindex, device): (u32, &str),
    netlink: &mut Netlink,
) -> Result<(), NetlinkError> {
    // The host's own packets are to be made as for the wire; those of others may have been merged.
    for (table, mtu) in [(TABLE, None), (TABLE_OWN, Some(OWN_MTU))] {
        netlink.replace_route(&Route {
            table,
            mtu,
            link: Some(ifindex),
            // Wider than the device's own address: nobody is to be called by that.
            scope: SITE,
            ..Route::to(Prefix::any(family))
        })?;
    }
    netlink.add_rule(&Rule::lookup(family, BEHIND, TABLE_LOCAL))?;
    let past = |priority| Rule {
        goto: Some(BEHIND),
        ..Rule::lookup(family, priority, 0)
    };
    for (priority, device) in [(BEFORE, device), (OURS, "lo")] {
        netlink.add_rule(&Rule {
            input: Some(device.to_owned()),
            ..past(priority)
        })?;
    }
    if family == Family::V6 {
        // A rule of marks for a whole address means its neighbours' questions too, which nobody but the
        // host can answer. Errors about what was marked are taken off the wire.
        netlink.add_rule(&Rule {
            ip_protocol: Some(Protocol::ICMPV6.0),
            ..past(BEFORE)
        })?;
    }
    let rules = netlink.rules(family)?;
    if rules.iter().any(|rule| is_local(rule, FIRST)) {
        netlink.delete_rule(&local(family, FIRST))?;
    }
    for rule in &rules {
        let foreign = rule.protocol != OUR_PROTOCOL && !is_local(rule, FIRST);
        if foreign && rule.priority <= BEHIND {
            warn!(
                "{rule} comes before the director's own, which begin at {BEFORE}: what it decides does \
                 not get here"
            );
        }
    }
    Ok(())
}

/// Puts the rule of local addresses back and removes ours.
pub(super) fn remove(family: Family, netlink: &mut Netlink) -> Result<(), NetlinkError> {
    let rules = match netlink.rules(family) {
        // A host that does not know the family, or has no rules for it, has none of ours.
        Err(error) if error.errno() == Some(libc::EAFNOSUPPORT) => return Ok(()),
        rules => rules?,
    };
    let ours =
        |rule: &&Rule| rule.protocol == OUR_PROTOCOL && (BEFORE..=BEHIND).contains(&rule.priority);
    let moved = rules.iter().filter(ours).any(|rule| is_local(rule, BEHIND));
    if moved && !rules.iter().any(|rule| is_local(rule, FIRST)) {
        netlink.add_rule(&local(family, FIRST))?;
    }
    for rule in rules.iter().filter(ours) {
        netlink.delete_rule(rule)?;
    }
    let routes = netlink.routes(family)?;
    for route in routes
        .iter()
        .filter(|route| [TABLE, TABLE_OWN].contains(&route.table) && route.protocol == OUR_PROTOCOL)
    {
        netlink.delete_route(route)?;
    }
    Ok(())
}

fn is_local(rule: &Rule, priority: u32) -> bool {
    (rule.priority, rule.table) == (priority, TABLE_LOCAL)
}

/// The kernel's own rule.
fn local(family: Family, priority: u32) -> Rule {
    Rule {
        protocol: RTPROT_KERNEL,
        ..Rule::lookup(family, priority, TABLE_LOCAL)
    }
}

pub(super) fn rule(key: RouteKey) -> Rule {
    let family = key.family();
    let to_us = Rule::lookup(family, OURS, TABLE);
    match key {
        RouteKey::Mark { mark, .. } => Rule {
            mark: Some(mark),
            ..to_us
        },
        RouteKey::Destination { protocol, address } => Rule {
            destination: Some(Prefix::host(address.ip())),
            ip_protocol: Some(protocol.0),
            ..to_us
        },
        RouteKey::Answer {
            protocol,
            address,
            port,
        } => Rule {
            source: Some(Prefix::host(address.ip())),
            ip_protocol: Some(protocol.0),
            source_ports: ports(port),
            ..own(family)
        },
        RouteKey::Question {
            protocol,
            address,
            port,
        } => Rule {
            destination: Some(Prefix::host(address.ip())),
            ip_protocol: Some(protocol.0),
            destination_ports: ports(port),
            ..own(family)
        },
    }
}

/// Of what the host itself sends.
fn own(family: Family) -> Rule {
    Rule {
        input: Some("lo".to_owned()),
        ..Rule::lookup(family, BEFORE, TABLE_OWN)
    }
}

fn ports(port: u16) -> Option<RulePorts> {
    (port != 0).then_some(RulePorts {
        first: port,
        last: port,
    })
}

/// Where the kernel puts the rule of local addresses.
const FIRST: u32 = 0;
/// In front of ours.
pub(super) const BEFORE: u32 = 1;
const OURS: u32 = 2;
/// Where that of local addresses is meanwhile.
pub(super) const BEHIND: u32 = 3;
/// "LV"
const TABLE: u32 = 0x4c56;
/// For what the host itself sends.
const TABLE_OWN: u32 = TABLE + 1;
/// `RT_SCOPE_SITE`
const SITE: Scope = Scope::Other(200);
/// Of Ethernet.
const OWN_MTU: u32 = 1500;
