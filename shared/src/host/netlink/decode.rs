//! From the kernel's messages to our values.
//!
//! The headers are read by `netlink-packet-route`, the attributes here: its message decoders fail
//! a whole message for one attribute that they do not like, and each new kernel brings new ones.
//! A director must not stop for the statistics of an interface that it does not use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NlaBuffer, NlasIterator, parse_string, parse_u8, parse_u32};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressHeader;
use netlink_packet_route::link::{LinkFlags, LinkHeader};
use netlink_packet_route::neighbour::NeighbourHeader;
use netlink_packet_route::route::{RouteFlags, RouteHeader};
use netlink_packet_route::rule::RuleHeader;
use netlink_packet_route::tc::TcHeader;

use super::filter::IngressFilter;
use super::request::Fault;
use super::types::{Address, Link, Neighbour, NextHop, Prefix, Route, Rule, RulePorts};
use crate::addr::Family;

/// A link; `None` for what bridges tell about their ports (family `AF_BRIDGE`), where a deletion
/// means only that the port has left the bridge.
pub(super) fn link(body: &[u8]) -> Result<Option<Link>, Fault> {
    let header = LinkHeader::parse(body)?;
    if header.interface_family != AddressFamily::Unspec {
        return Ok(None);
    }
    let mut link = Link {
        index: header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: header.flags.contains(LinkFlags::Up),
        carrier: header.flags.contains(LinkFlags::LowerUp),
        loopback: header.flags.contains(LinkFlags::Loopback),
        promiscuity: 0,
        kind: None,
        master: None,
        hardware: header.link_layer_type.into(),
    };
    for attribute in attributes(body, LINK_HEADER_BYTES) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            IFLA_ADDRESS => link.mac = value.try_into().ok(),
            IFLA_IFNAME => link.name = parse_string(value)?,
            IFLA_MTU => link.mtu = parse_u32(value)?,
            IFLA_MASTER => link.master = Some(parse_u32(value)?),
            IFLA_PROMISCUITY => link.promiscuity = parse_u32(value)?,
            IFLA_LINKINFO => link.kind = kind_of(value)?,
            _ => {}
        }
    }
    Ok(Some(link))
}

/// A filter; `None` for what stands in front of the filters of a priority.
pub(super) fn filter(body: &[u8]) -> Result<Option<IngressFilter>, Fault> {
    let header = TcHeader::parse(body)?;
    let (mut kind, mut options) = (String::new(), None);
    for attribute in attributes(body, TC_HEADER_BYTES) {
        let attribute = attribute?;
        match attribute.kind() {
            TCA_KIND => kind = parse_string(attribute.value())?,
            TCA_OPTIONS => options = Some(attribute.value().to_vec()),
            _ => {}
        }
    }
    let mut name = None;
    for option in options
        .iter()
        .filter(|_| kind == "bpf")
        .flat_map(NlasIterator::new)
    {
        let option = option?;
        if option.kind() == TCA_BPF_NAME {
            name = Some(parse_string(option.value())?);
        }
    }
    Ok(Some(IngressFilter {
        priority: (header.info >> 16) as u16,
        handle: header.handle.into(),
        kind,
        name,
    })
    .filter(|filter| filter.handle != 0))
}

/// An address; `None` for families other than IPv4 and IPv6.
pub(super) fn address(body: &[u8]) -> Result<Option<Address>, Fault> {
    let header = AddressHeader::parse(body)?;
    let Some(family) = family(header.family) else {
        return Ok(None);
    };
    let mut address = None;
    let mut local = None;
    let mut label = None;
    let mut flags = u32::from(header.flags.bits());
    let mut protocol = 0;
    for attribute in attributes(body, ADDRESS_HEADER_BYTES) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            libc::IFA_ADDRESS => address = Some(ip(family, value)?),
            libc::IFA_LOCAL => local = Some(ip(family, value)?),
            libc::IFA_LABEL => label = Some(parse_string(value)?),
            libc::IFA_FLAGS => flags = parse_u32(value)?,
            IFA_PROTO => protocol = parse_u8(value)?,
            _ => {}
        }
    }
    // On a point-to-point link IFA_ADDRESS is the peer's, and IFA_LOCAL ours.
    let Some(own) = local.or(address) else {
        return Err(Fault::Malformed("an address without an address".to_owned()));
    };
    Ok(Some(Address {
        link: header.index,
        prefix: Prefix::new(own, header.prefix_len),
        label,
        scope: u8::from(header.scope).into(),
        flags,
        protocol,
    }))
}

/// A route; `None` for other families, and for what the kernel has learnt about single
/// destinations (path MTUs and redirects, `RTM_F_CLONED`).
pub(super) fn route(body: &[u8]) -> Result<Option<Route>, Fault> {
    let header = RouteHeader::parse(body)?;
    let Some(family) = family(header.address_family) else {
        return Ok(None);
    };
    if header.flags.contains(RouteFlags::Cloned) {
        return Ok(None);
    }
    let mut route = Route {
        table: u32::from(header.table),
        destination: Prefix {
            length: header.destination_prefix_length,
            ..Prefix::any(family)
        },
        kind: u8::from(header.kind).into(),
        link: None,
        gateway: None,
        source: None,
        mtu: None,
        metric: 0,
        tos: header.tos,
        protocol: header.protocol.into(),
        scope: u8::from(header.scope).into(),
        dead: is_dead(header.flags.bits()),
        others: Vec::new(),
    };
    for attribute in attributes(body, ROUTE_HEADER_BYTES) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            libc::RTA_TABLE => route.table = parse_u32(value)?,
            libc::RTA_DST => route.destination.address = ip(family, value)?,
            libc::RTA_PREFSRC => route.source = Some(ip(family, value)?),
            libc::RTA_PRIORITY => route.metric = parse_u32(value)?,
            libc::RTA_METRICS => route.mtu = mtu(value)?,
            libc::RTA_MULTIPATH => multipath(family, value, &mut route)?,
            _ => next_hop_attribute(family, &attribute, &mut route)?,
        }
    }
    Ok(Some(route))
}

/// The MTU among a route's metrics; 0 says that there is none.
fn mtu(metrics: &[u8]) -> Result<Option<u32>, Fault> {
    for metric in NlasIterator::new(metrics) {
        let metric = metric?;
        if metric.kind() == RTAX_MTU {
            return Ok(Some(parse_u32(metric.value())?).filter(|&mtu| mtu != 0));
        }
    }
    Ok(None)
}

/// A neighbour; `None` for other families (a bridge's forwarding table) and proxies.
pub(super) fn neighbour(body: &[u8]) -> Result<Option<Neighbour>, Fault> {
    let header = NeighbourHeader::parse(body)?;
    let Some(family) = family(header.family) else {
        return Ok(None);
    };
    let flags = header.flags.bits();
    if flags & libc::NTF_PROXY != 0 {
        return Ok(None);
    }
    let mut address = None;
    let mut mac = None;
    let mut extended_flags = 0;
    for attribute in attributes(body, NEIGHBOUR_HEADER_BYTES) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            libc::NDA_DST => address = Some(ip(family, value)?),
            libc::NDA_LLADDR => mac = value.try_into().ok(),
            NDA_FLAGS_EXT => extended_flags = parse_u32(value)?,
            _ => {}
        }
    }
    let Some(address) = address else {
        return Ok(None);
    };
    Ok(Some(Neighbour {
        link: header.ifindex,
        address,
        mac,
        state: u16::from(header.state).into(),
        flags,
        extended_flags,
    }))
}

/// A rule; `None` for other families (the kernel has some for multicast).
pub(super) fn rule(body: &[u8]) -> Result<Option<Rule>, Fault> {
    let header = RuleHeader::parse(body)?;
    let Some(family) = family(header.family) else {
        return Ok(None);
    };
    let mut rule = Rule {
        protocol: 0,
        ..Rule::lookup(family, 0, u32::from(header.table))
    };
    for attribute in attributes(body, RULE_HEADER_BYTES) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            FRA_DST => rule.destination = Some(Prefix::new(ip(family, value)?, header.dst_len)),
            FRA_SRC => rule.source = Some(Prefix::new(ip(family, value)?, header.src_len)),
            FRA_IIFNAME => rule.input = Some(parse_string(value)?),
            FRA_GOTO => rule.goto = Some(parse_u32(value)?),
            FRA_PRIORITY => rule.priority = parse_u32(value)?,
            FRA_FWMARK => rule.mark = Some(parse_u32(value)?),
            FRA_TABLE => rule.table = parse_u32(value)?,
            FRA_PROTOCOL => rule.protocol = parse_u8(value)?,
            FRA_IP_PROTO => rule.ip_protocol = Some(parse_u8(value)?),
            FRA_SPORT_RANGE => rule.source_ports = Some(ports(value)?),
            FRA_DPORT_RANGE => rule.destination_ports = Some(ports(value)?),
            _ => {}
        }
    }
    Ok(Some(rule))
}

/// Reads the first next hop into the route, and the others beside it.
fn multipath(family: Family, mut hops: &[u8], route: &mut Route) -> Result<(), Fault> {
    let mut first = true;
    // struct rtnexthop: length, flags, weight, interface; attributes behind it.
    while let Some((head, _)) = hops.split_first_chunk::<NEXT_HOP_HEADER_BYTES>() {
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let Some(attributes) = hops.get(NEXT_HOP_HEADER_BYTES..length) else {
            return Err(Fault::Malformed(format!("a next hop of {length} bytes")));
        };
        let mut hop = Route::to(route.destination);
        hop.link = Some(u32::from_ne_bytes([head[4], head[5], head[6], head[7]]));
        hop.dead = is_dead(u32::from(head[2]));
        for attribute in NlasIterator::new(attributes) {
            next_hop_attribute(family, &attribute?, &mut hop)?;
        }
        let Route {
            link,
            gateway,
            dead,
            ..
        } = hop;
        if std::mem::take(&mut first) {
            (route.link, route.gateway, route.dead) = (link, gateway, dead);
        } else {
            route.others.push(NextHop {
                link,
                gateway,
                dead,
            });
        }
        hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(())
}

fn next_hop_attribute(
    family: Family,
    attribute: &NlaBuffer<&[u8]>,
    route: &mut Route,
) -> Result<(), Fault> {
    let value = attribute.value();
    match attribute.kind() {
        libc::RTA_OIF => route.link = Some(parse_u32(value)?),
        libc::RTA_GATEWAY => route.gateway = Some(ip(family, value)?),
        // A gateway of the other family: its family in two bytes, then the address.
        RTA_VIA => {
            route.gateway = match value.get(2..) {
                Some(address) if address.len() == 4 => Some(ip(Family::V4, address)?),
                Some(address) => Some(ip(Family::V6, address)?),
                None => return Err(Fault::Malformed("an empty gateway".to_owned())),
            }
        }
        _ => {}
    }
    Ok(())
}

fn kind_of(link_info: &[u8]) -> Result<Option<String>, Fault> {
    for attribute in NlasIterator::new(link_info) {
        let attribute = attribute?;
        if attribute.kind() == IFLA_INFO_KIND {
            return Ok(Some(parse_string(attribute.value())?));
        }
    }
    Ok(None)
}

fn attributes(body: &[u8], header_bytes: usize) -> NlasIterator<&[u8]> {
    NlasIterator::new(body.get(header_bytes..).unwrap_or_default())
}

fn family(family: AddressFamily) -> Option<Family> {
    match family {
        AddressFamily::Inet => Some(Family::V4),
        AddressFamily::Inet6 => Some(Family::V6),
        _ => None,
    }
}

fn ip(family: Family, bytes: &[u8]) -> Result<IpAddr, Fault> {
    let address = match family {
        Family::V4 => <[u8; 4]>::try_from(bytes).map(|b| Ipv4Addr::from(b).into()),
        Family::V6 => <[u8; 16]>::try_from(bytes).map(|b| Ipv6Addr::from(b).into()),
    };
    address.map_err(|_| Fault::Malformed(format!("an address of {} bytes", bytes.len())))
}

/// struct fib_rule_port_range: two ports in host order.
fn ports(bytes: &[u8]) -> Result<RulePorts, Fault> {
    let &[a, b, c, d] = bytes else {
        return Err(Fault::Malformed(format!(
            "a port range of {} bytes",
            bytes.len()
        )));
    };
    Ok(RulePorts {
        first: u16::from_ne_bytes([a, b]),
        last: u16::from_ne_bytes([c, d]),
    })
}

fn is_dead(flags: u32) -> bool {
    flags & (RouteFlags::Dead | RouteFlags::Linkdown).bits() != 0
}

// Sizes of ifinfomsg, ifaddrmsg, rtmsg, ndmsg, fib_rule_hdr and rtnexthop.
const TC_HEADER_BYTES: usize = 20;
/// `include/uapi/linux/rtnetlink.h`
const RTAX_MTU: u16 = 2;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
const LINK_HEADER_BYTES: usize = 16;
const ADDRESS_HEADER_BYTES: usize = 8;
const ROUTE_HEADER_BYTES: usize = 12;
const NEIGHBOUR_HEADER_BYTES: usize = 12;
const RULE_HEADER_BYTES: usize = 12;
const NEXT_HOP_HEADER_BYTES: usize = 8;

// Attribute types of linux/if_link.h, if_addr.h, rtnetlink.h, neighbour.h and fib_rules.h that
// the libc crate has not.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_PROMISCUITY: u16 = 30;
const IFLA_INFO_KIND: u16 = 1;
const IFA_PROTO: u16 = 11;
const RTA_VIA: u16 = 18;
const NDA_FLAGS_EXT: u16 = 15;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_GOTO: u16 = 4;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_PROTOCOL: u16 = 21;
const FRA_IP_PROTO: u16 = 22;
const FRA_SPORT_RANGE: u16 = 23;
const FRA_DPORT_RANGE: u16 = 24;
