//! What there is: links, addresses, routes, rules, neighbours.

use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::decode;
use super::request::{Netlink, NetlinkError};
use super::types::{Address, Link, Neighbour, Route, Rule};
use crate::addr::Family;

impl Netlink {
    /// Every interface of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.dump(&message, "list interfaces", |kind, body| match kind {
            libc::RTM_NEWLINK => decode::link(body),
            _ => Ok(None),
        })
    }

    /// The interface with a name; `None` if there is none.
    pub fn link_by_name(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        self.link(message, || format!("look up interface {name}"))
    }

    /// The interface with an index; `None` if there is none.
    pub fn link_by_index(&mut self, index: u32) -> Result<Option<Link>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.link(message, || format!("look up interface {index}"))
    }

    /// Every address of both families.
    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.dump(&message, "list addresses", |kind, body| match kind {
            libc::RTM_NEWADDR => decode::address(body),
            _ => Ok(None),
        })
    }

    /// Every route of a family in every table.
    pub fn routes(&mut self, family: Family) -> Result<Vec<Route>, NetlinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = number(family);
        let message = RouteNetlinkMessage::GetRoute(message);
        self.dump(&message, "list routes", |kind, body| match kind {
            libc::RTM_NEWROUTE => decode::route(body),
            _ => Ok(None),
        })
    }

    /// Every routing rule of a family, in order.
    pub fn rules(&mut self, family: Family) -> Result<Vec<Rule>, NetlinkError> {
        let mut message = RuleMessage::default();
        message.header.family = number(family);
        let message = RouteNetlinkMessage::GetRule(message);
        self.dump(&message, "list routing rules", |kind, body| match kind {
            libc::RTM_NEWRULE => decode::rule(body),
            _ => Ok(None),
        })
    }

    /// Every neighbour of both families.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>, NetlinkError> {
        let message = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        self.dump(&message, "list neighbours", |kind, body| match kind {
            libc::RTM_NEWNEIGH => decode::neighbour(body),
            _ => Ok(None),
        })
    }

    /// What to call an interface in a message.
    pub(super) fn link_name(&mut self, index: u32) -> String {
        match self.link_by_index(index) {
            Ok(Some(link)) => link.name,
            _ => format!("interface {index}"),
        }
    }

    fn link(
        &mut self,
        message: LinkMessage,
        what: impl FnOnce() -> String,
    ) -> Result<Option<Link>, NetlinkError> {
        let message = RouteNetlinkMessage::GetLink(message);
        self.get(message, what, |kind, body| match kind {
            libc::RTM_NEWLINK => decode::link(body),
            _ => Ok(None),
        })
    }
}

pub(super) fn number(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}
