//! The rules themselves.

use shared::addr::Family;
use shared::host::netlink::{
    Netlink, NetlinkError, OUR_PROTOCOL, Prefix, Rule, RulePorts, Scope, TABLE_LOCAL,
};

use crate::core::capture::RouteKey;

/// Puts the rule of local addresses back and removes ours.
pub(super) fn remove_rules(netlink: &mut Netlink) -> Result<(), NetlinkError> {
    let rules = netlink.rules(Family::V4)?;
    let ours =
        |rule: &&Rule| rule.protocol == OUR_PROTOCOL && (BEFORE..=BEHIND).contains(&rule.priority);
    let moved = rules.iter().filter(ours).any(|rule| is_local(rule, BEHIND));
    if moved && !rules.iter().any(|rule| is_local(rule, FIRST)) {
        netlink.add_rule(&local(FIRST))?;
    }
    for rule in rules.iter().filter(ours) {
        netlink.delete_rule(rule)?;
    }
    let routes = netlink.routes(Family::V4)?;
    for route in routes
        .iter()
        .filter(|route| [TABLE, TABLE_OWN].contains(&route.table) && route.protocol == OUR_PROTOCOL)
    {
        netlink.delete_route(route)?;
    }
    Ok(())
}

pub(super) fn is_local(rule: &Rule, priority: u32) -> bool {
    (rule.priority, rule.table) == (priority, TABLE_LOCAL)
}

/// The kernel's own rule.
pub(super) fn local(priority: u32) -> Rule {
    Rule {
        protocol: RTPROT_KERNEL,
        ..Rule::lookup(Family::V4, priority, TABLE_LOCAL)
    }
}

pub(super) fn rule(key: RouteKey) -> Rule {
    let to_us = Rule::lookup(Family::V4, OURS, TABLE);
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
            ..own()
        },
        RouteKey::Question {
            protocol,
            address,
            port,
        } => Rule {
            destination: Some(Prefix::host(address.ip())),
            ip_protocol: Some(protocol.0),
            destination_ports: ports(port),
            ..own()
        },
    }
}

/// Of what the host itself sends.
fn own() -> Rule {
    Rule {
        input: Some("lo".to_owned()),
        ..Rule::lookup(Family::V4, BEFORE, TABLE_OWN)
    }
}

fn ports(port: u16) -> Option<RulePorts> {
    (port != 0).then_some(RulePorts {
        first: port,
        last: port,
    })
}

/// Where the kernel puts the rule of local addresses.
pub(super) const FIRST: u32 = 0;
/// In front of ours.
pub(super) const BEFORE: u32 = 1;
pub(super) const OURS: u32 = 2;
/// Where that of local addresses is meanwhile.
pub(super) const BEHIND: u32 = 3;
/// "LV"
pub(super) const TABLE: u32 = 0x4c56;
/// For what the host itself sends.
pub(super) const TABLE_OWN: u32 = TABLE + 1;
/// `RT_SCOPE_SITE`
pub(super) const SITE: Scope = Scope::Other(200);
/// Of Ethernet.
pub(super) const OWN_MTU: u32 = 1500;
/// include/uapi/linux/rtnetlink.h
const RTPROT_KERNEL: u8 = 2;
