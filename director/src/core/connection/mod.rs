//! Connections: the entry, and the table that finds it from a packet of either direction.
//!
//! The table is a [slab](Slab) of entries, an [index](Index) from the hash of a flow to a slot, and a
//! [keyed hash](HashKey). A NAT connection is in the index twice, by what its client sends and by what
//! its real server answers; with the other methods the answers do not pass the director.

mod hash;
mod index;
mod slab;
#[cfg(test)]
mod tests;

use std::time::Duration;

use shared::addr::{Addr, FlowKey, Protocol};
use shared::time::Time;

use self::hash::HashKey;
use self::index::{Entry, Index};
use self::slab::Slab;
use super::net::CachedHop;
use super::operation::ForwardMethod;
use super::protocol::State;
use super::server::ServerId;
use super::timer::Link;

/// A connection's slot in the table. Good until the connection expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(super) u32);

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
    state: State,
    /// When its last packet passed.
    pub(super) last_seen: Time,
    /// How long it may be idle after that, seconds.
    pub(super) timeout_secs: u32,
    /// Next hop towards the client.
    pub client_hop: CachedHop,
    /// Of a template: how many connections it controls. Of a connection: the slot of its template and
    /// one, or 0.
    control: u32,
    /// Packets from the client, as far as the number goes.
    pub(super) packets: u32,
    /// Of a template: whether one of its connections was ever established.
    assured: bool,
    pub(super) timer: Link,
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
            last_seen: now,
            timeout_secs: NEW_TIMEOUT_SECS,
            client_hop: CachedHop::default(),
            control: 0,
            packets: 0,
            assured: false,
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
    pub(super) fn set_controller(&mut self, template: ConnectionId) {
        self.control = template.0 + 1;
    }

    /// A template controls one connection more, or one less.
    pub(super) fn recount_controlled(&mut self, change: i32) {
        self.control = self.control.saturating_add_signed(change);
    }

    /// One of its connections was established: `drop_entry` lets it be from now on.
    pub(super) fn assure(&mut self) {
        self.assured = true;
    }

    /// Whether one of its connections was ever established.
    pub fn is_assured(&self) -> bool {
        self.assured
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

    /// How its packets get there: what its server had when the connection was made.
    pub fn forward(&self) -> ForwardMethod {
        self.forward
    }

    /// Its real server.
    pub fn server(&self) -> ServerId {
        self.server
    }

    /// The state of its protocol.
    pub fn state(&self) -> State {
        self.state
    }

    pub(super) fn set_state(&mut self, state: State) {
        self.state = state;
    }

    /// When it ends, should no packet come.
    pub fn deadline(&self) -> Time {
        self.last_seen + Duration::from_secs(u64::from(self.timeout_secs))
    }

    /// The flow of the packets of one direction, as they reach the director; none if that direction
    /// does not pass it.
    #[inline]
    fn key(&self, direction: Direction) -> Option<FlowKey> {
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
            (Direction::Reply, _) => None,
        }
    }
}

/// All connections. See the [module](self).
#[derive(Debug)]
pub struct ConnectionTable {
    index: Index,
    slab: Slab,
    key: HashKey,
    most: usize,
    /// Of the batch at hand.
    hashes: Vec<u32>,
}

impl ConnectionTable {
    /// An empty table for at most `most` connections; `hash_key` is two random words.
    pub fn new(most: u32, hash_key: [u64; 2]) -> ConnectionTable {
        ConnectionTable {
            index: Index::new(),
            slab: Slab::default(),
            key: HashKey::new(hash_key),
            most: most.min(MOST_SLOTS) as usize,
            hashes: Vec::new(),
        }
    }

    /// The connection that a packet belongs to, and which way the packet goes.
    #[inline(always)]
    pub fn find(&self, flow: &FlowKey) -> Option<(ConnectionId, Direction)> {
        self.index
            .find(self.key.hash(flow), |entry| self.has_key(entry, flow))
            .map(|entry| (ConnectionId(entry.slot), entry.direction))
    }

    /// Asks for the memory that the lookups of some packets will read, all at once: then a lookup
    /// waits for it as often as a batch has packets, and not four times as often. A table that is in the
    /// cache anyway is left alone.
    pub(super) fn prefetch(&mut self, flows: impl Iterator<Item = FlowKey>) {
        if self.len() < WORTH_PREFETCHING {
            return;
        }
        self.hashes.clear();
        for flow in flows {
            let hash = self.key.hash(&flow);
            self.index.prefetch(hash);
            self.hashes.push(hash);
        }
        for &hash in &self.hashes {
            if let Some(entry) = self.index.guess(hash) {
                self.slab.prefetch(entry.slot);
            }
        }
    }

    /// Whether there is room for so many more.
    pub fn has_room(&self, many: usize) -> bool {
        self.slab.len() + many <= self.most
    }

    /// The template of this [`template_key`].
    pub fn find_template(&self, key: &FlowKey) -> Option<ConnectionId> {
        self.find(key).map(|(id, _)| id)
    }

    /// Makes a template one that is never found again; it stays until its time is over.
    pub fn retire_template(&mut self, id: ConnectionId) {
        let Some(template) = self.slab.get_mut(id.0) else {
            return;
        };
        let (slot, direction) = (id.0, Direction::Request);
        let entry = Entry { slot, direction };
        if let Some(key) = template.key(direction) {
            self.index.remove(self.key.hash(&key), entry);
        }
        template.virtual_port = RETIRED;
        template.destination_port = RETIRED;
        if let Some(key) = template.key(direction) {
            let (slab, hash) = (&self.slab, self.key.hash(&key));
            self.index
                .insert(hash, entry, |other| slab_has_key(slab, other, &key));
        }
    }

    /// Adds a connection that no packet will find: of a service that schedules each packet anew.
    pub fn insert_unseen(&mut self, connection: Connection) -> ConnectionId {
        ConnectionId(self.slab.insert(connection))
    }

    /// Adds a connection.
    pub fn insert(&mut self, connection: Connection) -> ConnectionId {
        let slot = self.slab.insert(connection);
        for direction in DIRECTIONS {
            if let Some(key) = self.slab.get(slot).and_then(|c| c.key(direction)) {
                let (slab, entry) = (&self.slab, Entry { slot, direction });
                self.index.insert(self.key.hash(&key), entry, |other| {
                    slab_has_key(slab, other, &key)
                });
            }
        }
        ConnectionId(slot)
    }

    /// Takes a connection out. It must not be on a timer wheel any more.
    pub fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        let slot = id.0;
        let connection = self.slab.remove(slot)?;
        for direction in DIRECTIONS {
            if let Some(key) = connection.key(direction) {
                self.index
                    .remove(self.key.hash(&key), Entry { slot, direction });
            }
        }
        Some(connection)
    }

    /// A connection that is in the table.
    #[inline]
    pub fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.slab.get(id.0)
    }

    /// A connection that is in the table.
    #[inline]
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slab.get_mut(id.0)
    }

    /// The entries, as the timer wheel sees them.
    pub(super) fn slab_mut(&mut self) -> &mut Slab {
        &mut self.slab
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many slots there are, used or not.
    pub fn slots(&self) -> usize {
        self.slab.slots()
    }

    /// The connections in the next `most` slots from `cursor` on, and where to go on after them.
    pub fn piece(
        &self,
        cursor: usize,
        most: usize,
    ) -> (
        impl Iterator<Item = (ConnectionId, &Connection)>,
        Option<usize>,
    ) {
        let end = cursor.saturating_add(most).min(self.slab.slots());
        let connections = (cursor..end).filter_map(|slot| {
            let id = ConnectionId(slot as u32);
            Some((id, self.get(id)?))
        });
        (
            connections,
            Some(end).filter(|&end| end < self.slab.slots()),
        )
    }

    #[inline]
    fn has_key(&self, entry: Entry, flow: &FlowKey) -> bool {
        slab_has_key(&self.slab, entry, flow)
    }
}

#[inline]
fn slab_has_key(slab: &Slab, entry: Entry, flow: &FlowKey) -> bool {
    slab.get(entry.slot)
        .is_some_and(|connection| connection.key(entry.direction).as_ref() == Some(flow))
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

const DIRECTIONS: [Direction; 2] = [Direction::Request, Direction::Reply];

/// Timeout of a connection before its first packet has moved its state (`ip_vs_conn_new`).
const NEW_TIMEOUT_SECS: u32 = 3;

/// What a template's protocol has besides its own number: TCP is 6, UDP 17, SCTP 132 (0x84).
const TEMPLATE: u8 = 0x40;

/// Ports of a template that is never found again (`ip_vs_check_template`).
const RETIRED: u16 = 0xffff;

/// Connections whose entries and index (about 150 bytes each) do not fit into a processor's own cache.
const WORTH_PREFETCHING: usize = 4096;

/// What the words of the index can name.
const MOST_SLOTS: u32 = (1 << 31) - 2;
