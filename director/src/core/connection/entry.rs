//! The entry of a connection, and of a persistence template, which is one too.

use std::time::Duration;

use shared::addr::{Addr, FlowKey, Protocol};
use shared::time::Time;

use crate::core::local_ports::LocalEnd;
use crate::core::net::CachedHop;
use crate::core::operation::ForwardMethod;
use crate::core::protocol::State;
use crate::core::server::ServerId;
use crate::core::timer::Link;

/// A connection's slot in the table. Good until the connection expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(in crate::core) u32);

/// Which way a packet of a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client.
    Request,
    /// From the real server, through the director.
    Reply,
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Address.
    pub address: Addr,
    /// Host order.
    pub port: u16,
}

/// A connection. What a lookup compares and a forwarder needs is in the first half, what a packet changes
/// is in the second.
#[derive(Debug)]
#[repr(C)]
pub struct Connection {
    client: Addr,
    virtual_address: Addr,
    destination: Addr,
    client_port: u16,
    virtual_port: u16,
    destination_port: u16,
    protocol: Protocol,
    forward: ForwardMethod,
    server: ServerId,
    /// Of a [`LocalEnd`], whose two parts fit into what would be left empty here.
    local_place: u8,
    local_port: u16,
    /// When its last packet passed.
    pub(in crate::core) last_seen: Time,
    /// How long it may be idle after that, seconds.
    pub(in crate::core) timeout_secs: u32,
    /// Next hop towards the client.
    pub client_hop: CachedHop,
    /// Of a template: how many connections it controls. Of a connection: the slot of its template and
    /// one, or 0.
    control: u32,
    /// Packets from the client, as far as the number goes.
    pub(in crate::core) packets: u32,
    /// Of a template: whether one of its connections was ever established.
    assured: bool,
    followed: bool,
    state: State,
    pub(in crate::core) timer: Link,
}

impl Connection {
    /// A connection of no packets yet, for the flow of a client's packet.
    pub fn new(
        flow: &FlowKey,
        server: ServerId,
        forward: ForwardMethod,
        destination: Endpoint,
        now: Time,
    ) -> Connection {
        Connection {
            client: flow.source,
            virtual_address: flow.destination,
            destination: destination.address,
            client_port: flow.source_port,
            virtual_port: flow.destination_port,
            destination_port: destination.port,
            protocol: flow.protocol,
            forward,
            server,
            state: State::new(flow.protocol),
            local_place: 0,
            local_port: 0,
            last_seen: now,
            timeout_secs: NEW_TIMEOUT_SECS,
            client_hop: CachedHop::default(),
            control: 0,
            packets: 0,
            assured: false,
            followed: false,
            timer: Link::default(),
        }
    }

    /// A persistence template: it remembers the real server of a client, or of a client's network, and
    /// no packet belongs to it. `flow` is a [`template_key`].
    pub fn template(
        flow: &FlowKey,
        server: ServerId,
        forward: ForwardMethod,
        destination: Endpoint,
        now: Time,
        timeout_secs: u32,
    ) -> Connection {
        Connection {
            timeout_secs,
            ..Connection::new(flow, server, forward, destination, now)
        }
    }

    /// Whether it is a persistence template.
    #[inline]
    pub fn is_template(&self) -> bool {
        self.protocol.0 & TEMPLATE != 0
    }

    /// The template that controls it, if its service is persistent.
    #[inline]
    pub fn controller(&self) -> Option<ConnectionId> {
        let slot = self.control.checked_sub(1)?;
        (!self.is_template()).then_some(ConnectionId(slot))
    }

    /// Whether a template controls it. Not for templates.
    #[inline]
    pub fn is_controlled(&self) -> bool {
        self.control != 0
    }

    /// Of a template: how many connections it controls.
    pub fn controlled(&self) -> u32 {
        if self.is_template() { self.control } else { 0 }
    }

    /// A connection is controlled by this template from now on.
    pub(in crate::core) fn set_controller(&mut self, template: ConnectionId) {
        self.control = template.0 + 1;
    }

    /// A template controls one connection more, or one less.
    pub(in crate::core) fn recount_controlled(&mut self, change: i32) {
        self.control = self.control.saturating_add_signed(change);
    }

    /// One of its connections was established: `drop_entry` lets it be from now on.
    pub(in crate::core) fn assure(&mut self) {
        self.assured = true;
    }

    /// Whether one of its connections was ever established.
    pub fn is_assured(&self) -> bool {
        self.assured
    }

    /// Whether its sequence numbers are kept, for a reset that may come.
    #[inline]
    pub fn is_followed(&self) -> bool {
        self.followed
    }

    /// Its sequence numbers are kept from now on.
    pub(in crate::core) fn follow(&mut self) {
        self.followed = true;
    }

    /// A template that no new connection will find.
    pub(super) fn retire(&mut self) {
        self.virtual_port = RETIRED;
        self.destination_port = RETIRED;
    }

    /// Its state, as ipvsadm prints it.
    pub fn state_name(&self) -> &'static str {
        match (self.is_template(), self.assured) {
            (false, _) => self.state.name(),
            (true, false) => "NONE",
            (true, true) => "ASSURED",
        }
    }

    /// Transport protocol. 0 of a template for a firewall mark.
    pub fn protocol(&self) -> Protocol {
        Protocol(self.protocol.0 & !TEMPLATE)
    }

    /// The client (CIP and its port).
    pub fn client(&self) -> Endpoint {
        Endpoint {
            address: self.client,
            port: self.client_port,
        }
    }

    /// The port of a client that has come to where it was expected.
    pub(super) fn set_client_port(&mut self, port: u16) {
        self.client_port = port;
    }

    /// Whom the client believes to talk to (VIP and its port).
    pub fn virtual_endpoint(&self) -> Endpoint {
        Endpoint {
            address: self.virtual_address,
            port: self.virtual_port,
        }
    }

    /// Whom it talks to (RIP and its port).
    pub fn destination(&self) -> Endpoint {
        Endpoint {
            address: self.destination,
            port: self.destination_port,
        }
    }

    /// The flow of the client's packets.
    pub fn request(&self) -> FlowKey {
        FlowKey {
            protocol: self.protocol(),
            source: self.client,
            source_port: self.client_port,
            destination: self.virtual_address,
            destination_port: self.virtual_port,
        }
    }

    /// How its packets get there: what its server had when the connection was made.
    pub fn forward(&self) -> ForwardMethod {
        self.forward
    }

    /// Its real server.
    pub fn server(&self) -> ServerId {
        self.server
    }

    /// As whom its real server knows its client, with FULLNAT.
    pub fn local(&self) -> LocalEnd {
        LocalEnd {
            place: self.local_place,
            port: self.local_port,
        }
    }

    pub(in crate::core) fn set_local(&mut self, end: LocalEnd) {
        self.local_place = end.place;
        self.local_port = end.port;
    }

    /// The state of its protocol.
    pub fn state(&self) -> State {
        self.state
    }

    pub(in crate::core) fn set_state(&mut self, state: State) {
        self.state = state;
    }

    /// When it ends, should no packet come.
    pub fn deadline(&self) -> Time {
        self.last_seen + Duration::from_secs(u64::from(self.timeout_secs))
    }

    /// The flow of the packets of one direction, as they reach the director; none if that direction
    /// does not pass it. `locals` are the local addresses by their place.
    #[inline]
    pub(super) fn key(&self, direction: Direction, locals: &[Addr]) -> Option<FlowKey> {
        match (direction, self.forward) {
            (Direction::Request, _) => Some(FlowKey {
                protocol: self.protocol,
                source: self.client,
                source_port: self.client_port,
                destination: self.virtual_address,
                destination_port: self.virtual_port,
            }),
            (Direction::Reply, ForwardMethod::Nat) if !self.is_template() => Some(FlowKey {
                protocol: self.protocol,
                source: self.destination,
                source_port: self.destination_port,
                destination: self.client,
                destination_port: self.client_port,
            }),
            (Direction::Reply, ForwardMethod::FullNat) if !self.is_template() => Some(FlowKey {
                protocol: self.protocol,
                source: self.destination,
                source_port: self.destination_port,
                destination: *locals.get(usize::from(self.local_place))?,
                destination_port: self.local_port,
            }),
            (Direction::Reply, _) => None,
        }
    }
}

/// The key of a template: no packet has it, since it says of the protocol that it is a template's.
pub fn template_key(
    protocol: Protocol,
    client: Addr,
    virtual_address: Addr,
    virtual_port: u16,
) -> FlowKey {
    FlowKey {
        protocol: Protocol(protocol.0 | TEMPLATE),
        source: client,
        source_port: 0,
        destination: virtual_address,
        destination_port: virtual_port,
    }
}

/// Timeout of a connection before its first packet has moved its state (`ip_vs_conn_new`).
const NEW_TIMEOUT_SECS: u32 = 3;

/// What a template's protocol has besides its own number: TCP is 6, UDP 17, SCTP 132 (0x84).
const TEMPLATE: u8 = 0x40;

/// Ports of a template that is never found again (`ip_vs_check_template`).
const RETIRED: u16 = 0xffff;
