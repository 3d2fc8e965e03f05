//! What we change: addresses, links, routes, rules, neighbours.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressProtocol, CacheInfo,
};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteVia,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange};

use super::dump::number;
use super::request::{Netlink, NetlinkError};
use super::types::{Prefix, Route, RouteKind, Rule, RulePorts, Scope};
use crate::addr::Family;

/// An address to add. IPv6 addresses are usable at once: duplicate
/// address detection makes no sense for an address that other hosts have too. One without a network (/128) is
/// deprecated (RFC 4862 section 5.5.4): others reach it, but nothing that the host says of itself leaves with
/// it unless told to, as with IPv4.
#[derive(Debug, Clone, Copy)]
pub struct NewAddress<'a> {
    /// Index of the interface.
    pub link: u32,
    /// The address.
    pub prefix: Prefix,
    /// IPv4 only: the label that `ifconfig` shows, which begins with the interface's name
    /// (`lo:0`) and has at most 15 bytes.
    pub label: Option<&'a str>,
    /// How far the address is valid.
    pub scope: Scope,
    /// Whose it is, for example [`OUR_PROTOCOL`](super::OUR_PROTOCOL).
    pub protocol: u8,
}

impl Netlink {
    /// Adds an address. It is an error ([`NetlinkError::is_exists`]) if the interface has it.
    pub fn add_address(&mut self, new: &NewAddress<'_>) -> Result<(), NetlinkError> {
        let mut message = address_message(new.link, new.prefix);
        message.header.scope = u8::from(new.scope).into();
        let protocol = AddressProtocol::Other(new.protocol);
        message
            .attributes
            .push(AddressAttribute::Protocol(protocol));
        match (new.prefix.family(), new.label) {
            (Family::V4, Some(label)) => message
                .attributes
                .push(AddressAttribute::Label(label.to_owned())),
            (Family::V4, None) => {}
            (Family::V6, _) => {
                message.header.flags = AddressHeaderFlags::Nodad;
                if new.prefix == Prefix::host(new.prefix.address) {
                    let mut lifetimes = CacheInfo::default();
                    (lifetimes.ifa_preferred, lifetimes.ifa_valid) = (0, FOR_EVER);
                    message
                        .attributes
                        .push(AddressAttribute::CacheInfo(lifetimes));
                }
            }
        }
        self.request(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_EXCL,
            |host| format!("add {} to {}", new.prefix, host.link_name(new.link)),
        )
    }

    /// Removes an address.
    pub fn delete_address(&mut self, link: u32, prefix: Prefix) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelAddress(address_message(link, prefix));
        self.request(message, 0, |host| {
            format!("remove {prefix} from {}", host.link_name(link))
        })
    }

    /// Sets an interface up.
    pub fn set_link_up(&mut self, link: u32) -> Result<(), NetlinkError> {
        let mut message = link_message(link);
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(message), 0, |host| {
            format!("set {} up", host.link_name(link))
        })
    }

    /// Sets an interface down. Its IPv6 addresses and its routes are lost.
    pub fn set_link_down(&mut self, link: u32) -> Result<(), NetlinkError> {
        let mut message = link_message(link);
        message.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(message), 0, |host| {
            format!("set {} down", host.link_name(link))
        })
    }

    /// Adds a device that ends IPIP tunnels from and for any address. The kernel loads its module for
    /// that, which brings such a device named `tunl0` with it: then it is an error
    /// ([`NetlinkError::is_exists`]) to add another one. EOPNOTSUPP: the kernel has no such module.
    pub fn add_ipip(&mut self, name: &str) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::IpIp)]),
        ];
        let message = RouteNetlinkMessage::NewLink(message);
        self.request(message, NLM_F_CREATE | NLM_F_EXCL, |_| {
            format!("add IPIP device {name}")
        })
    }

    /// Sets the MTU of an interface, in bytes.
    pub fn set_link_mtu(&mut self, link: u32, mtu: u32) -> Result<(), NetlinkError> {
        let mut message = link_message(link);
        message.attributes.push(LinkAttribute::Mtu(mtu));
        self.request(RouteNetlinkMessage::SetLink(message), 0, |host| {
            format!("set MTU {mtu} of {}", host.link_name(link))
        })
    }

    /// Sets how many packets may wait to leave an interface.
    pub fn set_link_queue(&mut self, link: u32, packets: u32) -> Result<(), NetlinkError> {
        let mut message = link_message(link);
        message.attributes.push(LinkAttribute::TxQueueLen(packets));
        self.request(RouteNetlinkMessage::SetLink(message), 0, |host| {
            format!("set the queue of {} to {packets}", host.link_name(link))
        })
    }

    /// Adds a route with one next hop. It is an error if there is one with the same table,
    /// destination, type of service and metric.
    pub fn add_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewRoute(route_message(route));
        self.request(message, NLM_F_CREATE | NLM_F_EXCL, |_| {
            format!("add {route}")
        })
    }

    /// Adds a route, or puts it in the place of one with the same table, destination, type of
    /// service and metric.
    pub fn replace_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewRoute(route_message(route));
        self.request(message, NLM_F_CREATE | NLM_F_REPLACE, |_| {
            format!("set {route}")
        })
    }

    /// Removes a route; whatever it says must fit, the protocol too.
    pub fn delete_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelRoute(route_message(route));
        self.request(message, 0, |_| format!("remove {route}"))
    }

    /// Adds a routing rule. It is an error if there is the same one.
    pub fn add_rule(&mut self, rule: &Rule) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewRule(rule_message(rule));
        self.request(message, NLM_F_CREATE | NLM_F_EXCL, |_| {
            format!("add {rule}")
        })
    }

    /// Removes a routing rule; whatever it says must fit.
    pub fn delete_rule(&mut self, rule: &Rule) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelRule(rule_message(rule));
        self.request(message, 0, |_| format!("remove {rule}"))
    }

    /// Tells the kernel that a neighbour is in use (`NTF_USE`): it resolves it, or verifies it
    /// if it has not been heard of for long. What comes of it tells the [`super::Monitor`].
    pub fn use_neighbour(&mut self, link: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let mut message = neighbour_message(link, address);
        message.header.flags = NeighbourFlags::Use;
        self.ask_neighbour(message, link, address)
    }

    fn ask_neighbour(
        &mut self,
        message: NeighbourMessage,
        link: u32,
        address: IpAddr,
    ) -> Result<(), NetlinkError> {
        self.request(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_REPLACE,
            |host| format!("resolve neighbour {address} on {}", host.link_name(link)),
        )
    }
}

fn address_message(link: u32, prefix: Prefix) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = number(prefix.family());
    message.header.prefix_len = prefix.length;
    message.header.index = link;
    message.attributes = vec![
        AddressAttribute::Local(prefix.address),
        AddressAttribute::Address(prefix.address),
    ];
    message
}

fn link_message(link: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = link;
    message
}

fn route_message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = number(route.destination.family());
    header.destination_prefix_length = route.destination.length;
    header.tos = route.tos;
    // The whole number is in the attribute.
    header.table = u8::try_from(route.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    header.protocol = route.protocol.into();
    header.kind = u8::from(route.kind).into();
    header.scope = u8::from(scope(route)).into();

    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Table(route.table));
    if route.destination.length > 0 {
        attributes.push(RouteAttribute::Destination(
            route.destination.address.into(),
        ));
    }
    if let Some(link) = route.link {
        attributes.push(RouteAttribute::Oif(link));
    }
    match route.gateway {
        Some(gateway) if Family::of(gateway) == route.destination.family() => {
            attributes.push(RouteAttribute::Gateway(gateway.into()));
        }
        Some(gateway) => attributes.push(RouteAttribute::Via(RouteVia::from(gateway))),
        None => {}
    }
    if let Some(source) = route.source {
        attributes.push(RouteAttribute::PrefSource(source.into()));
    }
    if route.metric > 0 {
        attributes.push(RouteAttribute::Priority(route.metric));
    }
    if let Some(mtu) = route.mtu {
        attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    }
    message
}

/// The scope that `ip route` chooses when none is given. The kernel refuses a local route of a
/// wider scope, and a neighbour without link scope as a gateway.
fn scope(route: &Route) -> Scope {
    match (route.scope, route.kind) {
        (Scope::Universe, RouteKind::Local) => Scope::Host,
        (Scope::Universe, RouteKind::Unicast | RouteKind::Broadcast) if route.gateway.is_none() => {
            Scope::Link
        }
        (scope, _) => scope,
    }
}

fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = number(rule.family);
    message.header.action = match rule.goto {
        Some(_) => RuleAction::Goto,
        None => RuleAction::ToTable,
    };
    message.header.table = u8::try_from(rule.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);

    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.push(RuleAttribute::Table(rule.table));
    attributes.push(RuleAttribute::Protocol(rule.protocol.into()));
    attributes.extend(rule.goto.map(RuleAttribute::Goto));
    attributes.extend(rule.mark.map(RuleAttribute::FwMark));
    if let Some(source) = rule.source {
        message.header.src_len = source.length;
        attributes.push(RuleAttribute::Source(source.address));
    }
    if let Some(destination) = rule.destination {
        message.header.dst_len = destination.length;
        attributes.push(RuleAttribute::Destination(destination.address));
    }
    attributes.extend(rule.input.clone().map(RuleAttribute::Iifname));
    attributes.extend(
        rule.ip_protocol
            .map(|protocol| RuleAttribute::IpProtocol(i32::from(protocol).into())),
    );
    attributes.extend(
        rule.source_ports
            .map(range)
            .map(RuleAttribute::SourcePortRange),
    );
    attributes.extend(
        rule.destination_ports
            .map(range)
            .map(RuleAttribute::DestinationPortRange),
    );
    message
}

fn range(ports: RulePorts) -> RulePortRange {
    RulePortRange {
        start: ports.first,
        end: ports.last,
    }
}

fn neighbour_message(link: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = number(Family::of(address));
    message.header.ifindex = link;
    message.header.state = NeighbourState::None;
    message
        .attributes
        .push(NeighbourAttribute::Destination(address.into()));
    message
}

/// `INFINITY_LIFE_TIME` of include/net/addrconf.h
const FOR_EVER: u32 = u32::MAX;
