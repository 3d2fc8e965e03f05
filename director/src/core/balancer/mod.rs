//! The balancer: services, real servers and connections, and what becomes of a packet.
//!
//! [`classify`](Balancer::classify) says whose packet it is (an existing connection's, a new one's,
//! nobody's), [`advance`](Balancer::advance) counts it and moves its connection on. Both follow
//! `ip_vs_in` and `ip_vs_out` of the kernel step by step. Neither allocates for a packet of an
//! existing connection; it touches a line of the index, the two of the connection, and the first
//! line each of its server, its service and the totals.

mod administration;
mod bypass;
mod call;
mod defence;
mod ftp;
mod guard;
mod half_open;
mod judge;
mod local;
mod persistence;
mod schedule;
mod settings;
mod side_table;
mod slow_start;
mod sweep;
#[cfg(test)]
mod tests;
mod upkeep;
mod views;

use std::collections::BTreeMap;
use std::hash::Hasher;

use shared::addr::{Addr, Family, FlowKey};
use shared::time::Time;
use siphasher::sip::SipHasher13;

use super::arena::Arena;
use super::calls::Calls;
use super::capture::CaptureSet;
use super::connection::{Connection, ConnectionTable};
use super::deny::Deny;
use super::forward::sequence::Shift;
use super::ftp::Transfers;
use super::guard::{Change, Guard};
use super::local_ports::LocalPorts;
use super::marks::Marks;
use super::net::CachedHop;
use super::operation::{ServiceKey, Tunnel};
use super::protocol::State;
use super::protocol::sctp::SctpState;
use super::protocol::tcp::{Seen, TcpState};
use super::random::Random;
use super::reason::Reason;
use super::scheduler::Expiration;
use super::server::{Activity, RealKey, Server, ServerId};
use super::service::{Service, ServiceId};
use super::stats::{Counters, Estimator};
use super::sysctl::Sysctl;
use super::timer::Wheel;
use super::trash::Trash;

use self::defence::Defence;
use self::half_open::{HalfOpen, is_half_open};
pub use self::schedule::{Sending, UNMARKED};
pub use self::settings::Settings;
use self::side_table::SideTable;
use self::sweep::Positions;
pub use self::sweep::{Position, Progress, Reset};
pub use super::connection::{ConnectionId, Direction};
pub use super::protocol::Segment;

/// Whose packet it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// From the client of this connection.
    Request(ConnectionId),
    /// Of a service that schedules each packet anew: the connection is to be [ended](Balancer::end_once) as soon
    /// as the packet has been sent.
    Once(ConnectionId, Direction),
    /// From the real server of this connection.
    Reply(ConnectionId),
    /// From the client of this connection, whose real server is gone: the client is told that it is over.
    Over(ConnectionId),
    /// For a service that asks which call of SIP it is of: [`schedule_call`](Balancer::schedule_call) says more.
    Call(ServiceId),
    /// From a real server of such a service, of no connection:
    /// [`schedule_call_out`](Balancer::schedule_call_out) says more.
    CallOut,
    /// A real server's, of no connection; the server is told that the port is unreachable.
    Stray,
    /// The host's.
    NotOurs,
    /// A service's, but no real server can take it: the client is told that the port is unreachable.
    NoServer,
    /// A service's, but no local port is left to talk to its real server; the client is told that the port
    /// is unreachable.
    NoPort,
    /// To a local address of FULLNAT, of no connection; a sender of TCP is told so by a reset.
    NoConnection,
    /// A service's, and it is dropped.
    Drop(Reason),
}

/// Where packets go: virtual address, port, protocol.
type Destination = (Addr, u16, u8);

/// The tables. See the [module](self).
#[derive(Debug)]
pub struct Balancer {
    settings: Settings,
    /// As the switches say.
    expiration: Expiration,
    connections: ConnectionTable,
    wheel: Wheel,
    servers: Arena<ServerId, Server>,
    services: Arena<ServiceId, Service>,
    by_key: BTreeMap<ServiceKey, ServiceId>,
    /// The same for packets, by what is compared fastest.
    by_destination: BTreeMap<Destination, ServiceId>,
    services_added: u64,
    trash: Trash,
    traffic: Counters,
    estimator: Estimator,
    /// Next tick of the estimators; they start with the first service.
    estimate_at: Option<Time>,
    /// Where the search for connections that are not to stay goes on, while there is one.
    sweep_at: Option<usize>,
    resets: Vec<Reset>,
    changes: Vec<Change>,
    guards: BTreeMap<ServiceKey, Guard>,
    /// Since the last look at their guards.
    new_services: Vec<ServiceKey>,
    positions: Positions,
    half_open: HalfOpen,
    /// When the next deadline of a drain is.
    drain_at: Option<Time>,
    /// When [`expire`](Self::expire) was called last.
    expired_at: Time,
    /// When servers in slow start are weighed anew.
    warm_at: Option<Time>,
    deny: Deny,
    marks: Marks,
    captures: CaptureSet,
    locals: LocalPorts,
    shifts: SideTable<Shift>,
    transfers: Transfers,
    calls: Calls,
    /// Services with a persistence engine.
    engines: u32,
    /// Segments that did not tell the real server who its client is, for want of room.
    pub(super) unnamed_clients: u64,
    /// The real servers behind NAT, as servers of each of their services, newest last.
    real_servers: BTreeMap<RealKey, Vec<ServerId>>,
    random: Random,
    defence: Defence,
    /// `secure_tcp` is on.
    secure: bool,
}

impl Balancer {
    /// Empty tables. `hash_key` is two random words: without them a client could choose its ports so
    /// that all its connections lie in one place of the table.
    pub fn new(settings: Settings, hash_key: [u64; 2]) -> Balancer {
        // Nothing about the key can be told from what it brings.
        let seed = SipHasher13::new_with_keys(hash_key[0], hash_key[1]).finish();
        Balancer {
            settings,
            expiration: settings.sysctl.expiration(),
            connections: ConnectionTable::new(settings.most_connections, hash_key),
            wheel: Wheel::new(),
            servers: Arena::new(),
            services: Arena::new(),
            by_key: BTreeMap::new(),
            by_destination: BTreeMap::new(),
            services_added: 0,
            trash: Trash::default(),
            traffic: Counters::default(),
            estimator: Estimator::default(),
            estimate_at: None,
            sweep_at: None,
            resets: Vec::new(),
            changes: Vec::new(),
            guards: BTreeMap::new(),
            new_services: Vec::new(),
            positions: Positions::default(),
            half_open: HalfOpen::default(),
            drain_at: None,
            expired_at: Time::ZERO,
            warm_at: None,
            deny: Deny::default(),
            marks: Marks::default(),
            captures: CaptureSet::default(),
            locals: LocalPorts::behind((seed >> 48) as u16),
            shifts: SideTable::default(),
            transfers: Transfers::default(),
            calls: Calls::new([hash_key[1], hash_key[0]]),
            engines: 0,
            unnamed_clients: 0,
            real_servers: BTreeMap::new(),
            random: Random::new(seed),
            defence: Defence::default(),
            secure: false,
        }
    }

    /// Finds the connection of a packet, or makes it one if a service takes it. `mark` is the packet's
    /// firewall mark, or [`UNMARKED`].
    #[inline(always)]
    pub fn classify(&mut self, now: Time, flow: &FlowKey, segment: Segment, mark: u32) -> Class {
        match self.find(flow) {
            // Replies of a removed server still reach their clients.
            Some((id, Direction::Reply)) => Class::Reply(id),
            Some((id, Direction::Request)) => self.resume(now, id, flow, segment, mark),
            None => self.schedule(now, flow, segment, mark),
        }
    }

    /// The connection of a packet and which way the packet goes. Changes nothing: for the packets
    /// embedded in ICMP errors.
    #[inline(always)]
    pub fn find(&self, flow: &FlowKey) -> Option<(ConnectionId, Direction)> {
        self.connections.find(flow)
    }

    /// Asks for the memory that the packets of these flows will need. Changes nothing.
    pub fn look_ahead(&mut self, flows: impl Iterator<Item = FlowKey>) {
        self.connections.prefetch(flows);
    }

    /// Counts a packet of a connection, moves the protocol's state and restarts the timer. To be
    /// called before the packet is sent: what happens to it then changes nothing of this.
    #[inline(always)]
    pub fn advance(
        &mut self,
        now: Time,
        id: ConnectionId,
        direction: Direction,
        segment: Segment,
        ip_bytes: u32,
    ) {
        let connection = self.connections.get_mut(id).expect(IN_TABLE);
        let server_id = connection.server();
        let server = &mut self.servers[server_id];
        let service = &mut self.services[server.service];
        count(server, service, &mut self.traffic, direction, ip_bytes);
        let seen = match (direction, connection.forward()) {
            (Direction::Reply, _) => Seen::Output,
            (Direction::Request, method) if method.is_nat() => Seen::Input,
            (Direction::Request, _) => Seen::InputOnly,
        };
        let before = connection.state();
        let timeouts = service.timeouts.as_deref();
        let timeouts = timeouts.unwrap_or(&self.settings.timeouts);
        let (after, timeout_secs) = before.after(segment, seen, self.secure, timeouts);
        connection.set_state(after);
        connection.last_seen = now;
        let requests = u32::from(direction == Direction::Request);
        connection.packets = connection.packets.wrapping_add(requests);
        connection.timeout_secs = timeout_secs;
        let assures = connection.is_controlled() && after.assures(before, direction);
        let deadline = connection.deadline();
        if Wheel::is_late(&connection.timer, deadline) {
            self.wheel
                .bring_forward(self.connections.slab_mut(), id.0, deadline);
        }
        if assures {
            self.assure(id);
        }
        if before != after {
            self.moved(id, server_id, before, after);
        }
    }

    /// A connection is in another state.
    fn moved(&mut self, id: ConnectionId, server: ServerId, before: State, after: State) {
        if Activity::of(before) != Activity::of(after) {
            self.servers[server].recount(Activity::of(after));
        }
        match (is_half_open(before), is_half_open(after)) {
            (true, false) => self.leave_half_open(),
            (false, true) => self.enter_half_open(id),
            _ => {}
        }
    }

    /// Closes a connection; it is there for a little while, for what its ends still send.
    fn close(&mut self, now: Time, id: ConnectionId) {
        let closed = State::Tcp(TcpState::Close);
        let timeout_secs = self.settings.timeouts.secs(closed);
        let connection = self.connection_mut(id);
        let (server, before) = (connection.server(), connection.state());
        connection.set_state(closed);
        connection.last_seen = now;
        connection.timeout_secs = timeout_secs;
        let deadline = connection.deadline();
        self.wheel
            .bring_forward(self.connections.slab_mut(), id.0, deadline);
        self.moved(id, server, before, closed);
    }

    /// Counts a packet about a connection (an ICMP error) and leaves its timer alone.
    pub fn count_related(&mut self, id: ConnectionId, direction: Direction, ip_bytes: u32) {
        let server = &mut self.servers[self.connections.get(id).expect(IN_TABLE).server()];
        let service = &mut self.services[server.service];
        count(server, service, &mut self.traffic, direction, ip_bytes);
    }

    /// A connection that was just found.
    #[inline(always)]
    pub fn connection(&self, id: ConnectionId) -> &Connection {
        self.connections.get(id).expect(IN_TABLE)
    }

    /// A connection that was just found, to remember the next hop towards its client.
    #[inline(always)]
    pub fn connection_mut(&mut self, id: ConnectionId) -> &mut Connection {
        self.connections.get_mut(id).expect(IN_TABLE)
    }

    /// The next hop to the real server of a connection that was just found.
    #[inline]
    pub fn server_hop_mut(&mut self, server: ServerId) -> &mut CachedHop {
        &mut self.servers[server].hop
    }

    /// The encapsulation of packets to the real server of a connection that was just found.
    pub fn tunnel_of(&self, server: ServerId) -> Tunnel {
        self.servers[server].spec().tunnel
    }

    /// Whether rules of its own give packets of a family this mark.
    pub fn marks(&self, mark: u32, family: Family) -> bool {
        self.marks.gives(mark, family)
    }

    /// The switches of `net.ipv4.vs`.
    pub fn sysctl(&self) -> Sysctl {
        self.settings.sysctl
    }

    /// The keys of what is to be taken from the wire. A key stays as long as a service or a
    /// connection uses it.
    pub fn captures(&mut self) -> &mut CaptureSet {
        &mut self.captures
    }

    /// A packet that ends a connection and may begin another, by `schedule`. The old one counts until the
    /// new one is there, for the scheduler and for thresholds: the kernel's ends with the next tick.
    #[cold]
    fn replace(
        &mut self,
        id: ConnectionId,
        mut schedule: impl FnMut(&mut Balancer) -> Class,
    ) -> Class {
        let class = schedule(self);
        // The new one may have pushed it out.
        if self.connections.get(id).is_some() {
            self.end(id);
        }
        match class {
            // Now there is room.
            Class::Drop(Reason::TableFull) => schedule(self),
            class => class,
        }
    }

    /// A client's packet of a connection that exists.
    #[inline(always)]
    fn resume(
        &mut self,
        now: Time,
        id: ConnectionId,
        flow: &FlowKey,
        segment: Segment,
        mark: u32,
    ) -> Class {
        let Sysctl {
            expire_nodest_conn,
            conn_reuse_mode,
            ..
        } = self.settings.sysctl;
        let connection = self.connection(id);
        let server = &self.servers[connection.server()];
        let expire_nodest_conn = expire_nodest_conn != 0;
        let quiescent = expire_nodest_conn && server.weight() == 0;
        // A SYN from the port of a connection that is over is never lost: it is scheduled as it is.
        let is_new = segment.opens() && (quiescent || is_reused(connection, conn_reuse_mode));
        let bereaved = server.is_removed() || server.is_cut();
        if is_new {
            return self.replace(id, |balancer| balancer.schedule(now, flow, segment, mark));
        }
        if bereaved {
            return self.bereaved(now, id, flow, segment, mark);
        }
        Class::Request(id)
    }
}

/// Nothing is counted for a server that was removed.
#[inline(always)]
fn count(
    server: &mut Server,
    service: &mut Service,
    totals: &mut Counters,
    direction: Direction,
    ip_bytes: u32,
) {
    if server.is_available() {
        for traffic in [&mut server.traffic, &mut service.traffic, totals] {
            traffic.count(direction, ip_bytes);
        }
    }
}

/// Whether a SYN on this connection makes a new one (`is_new_conn_expected`).
fn is_reused(connection: &Connection, conn_reuse_mode: i32) -> bool {
    match connection.state() {
        // One of a persistent service stays where its template sent it.
        _ if conn_reuse_mode == 0 || connection.controller().is_some() => false,
        State::Tcp(TcpState::TimeWait | TcpState::Close) => true,
        State::Tcp(TcpState::FinWait) => conn_reuse_mode & 2 != 0 && !connection.forward().is_nat(),
        State::Sctp(SctpState::Closed) => true,
        State::Tcp(_) | State::Sctp(_) | State::Udp => false,
    }
}

const IN_TABLE: &str = "an id from classify or find is used before connections end";
