//! What changes: the kernel's notifications, without blocking.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use netlink_packet_core::NLM_F_REPLACE;
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::decode;
use super::request::{ANSWER_BYTES, Fault, Messages, NetlinkError, during, open_socket, receive};
use super::types::{Address, Link, Neighbour, Route};

/// A change of the host's network.
///
/// The kernel does not tell everything: when an interface goes down or away, or an address, the
/// IPv4 routes that depended on it go **without a word**. Whoever keeps a copy of the routes asks
/// for them anew after [`Event::LinkGone`], a [`Event::Link`] that is no longer up, and
/// [`Event::AddressGone`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An interface is new or has changed.
    Link(Link),
    /// An interface is gone (or has moved to another namespace).
    LinkGone(Link),
    /// An address is new or has changed.
    Address(Address),
    /// An address is gone.
    AddressGone(Address),
    /// A route is new.
    Route(Route),
    /// A route has taken the place of the one with the same table, destination, type of service
    /// and metric.
    RouteReplaced(Route),
    /// A route is gone.
    RouteGone(Route),
    /// A neighbour is new or has changed.
    Neighbour(Neighbour),
    /// A neighbour is gone.
    NeighbourGone(Neighbour),
    /// Events were lost, as they came faster than they were read: everything is to be asked for
    /// anew. Comes once for each loss; events that follow are later than it.
    Lost,
}

/// A socket that tells changes of links, addresses, routes and neighbours of both families.
///
/// Open it before the first dump, so that no change falls between the two.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
    waiting: VecDeque<Event>,
}

impl Monitor {
    /// Opens a socket into the network namespace of the calling thread.
    pub fn open() -> Result<Monitor, NetlinkError> {
        Monitor::of(&[&GROUPS[..], &[libc::RTNLGRP_NEIGH]].concat())
    }

    /// The same without neighbours, of which a busy host has many changes.
    pub fn without_neighbours() -> Result<Monitor, NetlinkError> {
        Monitor::of(&GROUPS)
    }

    fn of(groups: &[u32]) -> Result<Monitor, NetlinkError> {
        let mut socket = open_socket(NETLINK_ROUTE, MONITOR_RECEIVE_BYTES)?;
        socket.bind_auto().map_err(during("bind"))?;
        socket
            .set_non_blocking(true)
            .map_err(during("O_NONBLOCK"))?;
        for &group in groups {
            socket
                .add_membership(group)
                .map_err(during("subscribe to changes"))?;
        }
        Ok(Monitor {
            socket,
            buffer: Vec::with_capacity(ANSWER_BYTES),
            waiting: VecDeque::new(),
        })
    }

    fn take_events(&mut self) {
        for message in Messages(&self.buffer) {
            let event = message.and_then(|message| {
                event(message.message_type(), message.flags(), message.payload())
            });
            match event {
                Ok(Some(event)) => self.waiting.push_back(event),
                Ok(None) => {}
                Err(_) => self.waiting.push_back(Event::Lost),
            }
        }
    }
}

/// The changes there are now: `None` means none **yet**. With edge-triggered readiness, read until
/// then.
impl Iterator for Monitor {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            match receive(&self.socket, &mut self.buffer) {
                Ok(()) => self.take_events(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // ENOBUFS; and whatever else a receive fails with, an event may have been in it.
                Err(_) => return Some(Event::Lost),
            }
        }
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn event(kind: u16, flags: u16, body: &[u8]) -> Result<Option<Event>, Fault> {
    Ok(match kind {
        libc::RTM_NEWLINK => decode::link(body)?.map(Event::Link),
        libc::RTM_DELLINK => decode::link(body)?.map(Event::LinkGone),
        libc::RTM_NEWADDR => decode::address(body)?.map(Event::Address),
        libc::RTM_DELADDR => decode::address(body)?.map(Event::AddressGone),
        libc::RTM_NEWROUTE if flags & NLM_F_REPLACE != 0 => {
            decode::route(body)?.map(Event::RouteReplaced)
        }
        libc::RTM_NEWROUTE => decode::route(body)?.map(Event::Route),
        libc::RTM_DELROUTE => decode::route(body)?.map(Event::RouteGone),
        libc::RTM_NEWNEIGH => decode::neighbour(body)?.map(Event::Neighbour),
        libc::RTM_DELNEIGH => decode::neighbour(body)?.map(Event::NeighbourGone),
        _ => None,
    })
}

const GROUPS: [u32; 5] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_ROUTE,
];

/// Receive buffer of the monitor: a routing daemon that changes tens of thousands of routes at
/// once must fit.
const MONITOR_RECEIVE_BYTES: usize = 8 * 1024 * 1024;
