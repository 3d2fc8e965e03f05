//! What becomes of a packet that belongs to no connection (`ip_vs_schedule`, `ip_vs_leave`).

use shared::addr::{Addr, FlowKey, Protocol};
use shared::time::Time;

use super::half_open::is_half_open;
use super::{Balancer, Class, ConnectionId, Direction, Segment};
use crate::core::connection::{Connection, Endpoint};
use crate::core::local_ports::LocalEnd;
use crate::core::operation::{ForwardMethod, ServerGone, ServiceKey};
use crate::core::reason::Reason;
use crate::core::scheduler::{Opening, Pool};
use crate::core::server::ServerId;
use crate::core::service::{FTP, ServiceId};

/// How a new connection differs from another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Birth {
    pub(super) server: ServerId,
    /// Port of the real server.
    pub(super) port: u16,
    /// Its template, if the service is persistent.
    pub(super) template: Option<ConnectionId>,
}

/// Where a packet went that was a connection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sending {
    server: ServerId,
    destination: Endpoint,
    forward: ForwardMethod,
    /// As whom a real server's packet left.
    sender: Option<Endpoint>,
}

impl Balancer {
    /// A packet of no connection: a service's, or not ours. No part of what a hit passes.
    #[inline(never)]
    pub(super) fn schedule(
        &mut self,
        now: Time,
        flow: &FlowKey,
        segment: Segment,
        mark: u32,
    ) -> Class {
        if self.engines > 0 && self.may_leave(flow, mark) {
            return Class::CallOut;
        }
        self.schedule_incoming(now, flow, segment, mark)
    }

    /// The same of what no real server may say of its own.
    pub(super) fn schedule_incoming(
        &mut self,
        now: Time,
        flow: &FlowKey,
        segment: Segment,
        mark: u32,
    ) -> Class {
        if self.settings.sysctl.nat_icmp_send != 0 && self.is_stray(flow, segment) {
            return Class::Stray;
        }
        if !self.deny.is_empty() && self.is_denied(flow, mark) {
            return Class::Drop(Reason::Denied);
        }
        let may_be_scheduled = segment.may_be_scheduled(self.settings.sysctl.sloppy());
        let class = if may_be_scheduled {
            self.schedule_whatever(now, flow, mark)
        } else {
            Class::NotOurs
        };
        // The host has nothing to say there.
        if class == Class::NotOurs && self.locals.contains(flow.destination) {
            return Class::NoConnection;
        }
        class
    }

    /// Makes a connection for a packet, whatever kind of packet it is.
    pub(super) fn schedule_whatever(&mut self, now: Time, flow: &FlowKey, mark: u32) -> Class {
        if !self.transfers.is_empty()
            && let Some(class) = self.schedule_data(flow)
        {
            return class;
        }
        let Some(service_id) = self.service_of(flow, mark) else {
            return Class::NotOurs;
        };
        if self.drops_packet() {
            return Class::Drop(Reason::Defence);
        }
        // The data connection of active FTP is opened by the server, and known before it comes.
        if flow.source_port == FTP_DATA {
            return Class::NotOurs;
        }
        let service = &self.services[service_id];
        if let Some(persistence) = service.spec.persistence {
            if service.spec.persistence_engine.is_some() {
                return Class::Call(service_id);
            }
            return self.schedule_persistent(now, flow, service_id, persistence, None);
        }
        // Only persistence makes sense of a service for all ports.
        if matches!(service.spec.key, ServiceKey::Address { port, .. } if port != flow.destination_port)
        {
            return self.leave(now, service_id, flow);
        }
        let Some(server) = self.pick(now, flow, service_id) else {
            return self.leave(now, service_id, flow);
        };
        if !self.connections.has_room(1) {
            return Class::Drop(Reason::TableFull);
        }
        let port = match self.servers[server].spec().key.port {
            0 => flow.destination_port,
            port => port,
        };
        let birth = Birth {
            server,
            port,
            template: None,
        };
        self.begin(now, flow, &birth)
    }

    /// With `schedule_icmp`, an error about a packet to a client makes the connection that it is about: the
    /// packet may have come by another director. Of the flow of that client's packets.
    pub fn schedule_icmp(&mut self, now: Time, flow: &FlowKey) -> Option<ConnectionId> {
        if self.settings.sysctl.schedule_icmp == 0 || self.is_denied(flow, UNMARKED) {
            return None;
        }
        match self.schedule_whatever(now, flow, UNMARKED) {
            Class::Request(id) => Some(id),
            Class::Once(id, _) => {
                self.end_once(id);
                None
            }
            _ => None,
        }
    }

    fn is_denied(&self, flow: &FlowKey, mark: u32) -> bool {
        let service = self.service_of(flow, mark);
        service.is_some_and(|id| self.deny.denies(flow.source, &self.services[id].spec.key))
    }

    /// Whether a packet of no connection comes from a real server behind NAT, which would be told so
    /// (`ip_vs_out`).
    fn is_stray(&self, flow: &FlowKey, segment: Segment) -> bool {
        !segment.aborts()
            && self
                .real_servers
                .contains_key(&(flow.protocol, flow.source, flow.source_port))
    }

    /// The server that the service's scheduler gives a new connection.
    pub(super) fn pick(
        &mut self,
        now: Time,
        flow: &FlowKey,
        service_id: ServiceId,
    ) -> Option<ServerId> {
        let service = &mut self.services[service_id];
        let mut opening = Opening {
            flow,
            flags: service.spec.flags,
            now,
            expiration: self.expiration,
            random: &mut self.random,
        };
        let pool = Pool::new(&service.servers, &self.servers);
        let position = service.scheduler.pick(&pool, &mut opening)?;
        service.servers.get(position).copied()
    }

    /// There is no server for a packet of this service.
    pub(super) fn leave(&mut self, now: Time, service_id: ServiceId, flow: &FlowKey) -> Class {
        if let Some(class) = self.bypass(now, flow, service_id) {
            return class;
        }
        match self.services[service_id].spec.key {
            // That an FTP service takes all other ports must not block the services on them.
            ServiceKey::Address { port: FTP, .. } if flow.destination_port != FTP => Class::NotOurs,
            _ => Class::NoServer,
        }
    }

    /// The service for packets of this flow (`ip_vs_service_find`): by its mark first.
    pub(super) fn service_of(&self, flow: &FlowKey, mark: u32) -> Option<ServiceId> {
        let mark = match mark {
            UNMARKED => self.marks.mark_of(flow).unwrap_or(UNMARKED),
            mark => mark,
        };
        if mark != UNMARKED {
            let family = flow.destination.family();
            let marked = self.by_key.get(&ServiceKey::Mark { mark, family });
            if marked.is_some() {
                return marked.copied();
            }
        }
        let with_port = |port| {
            let destination = (flow.destination, port, flow.protocol.0);
            self.by_destination.get(&destination).copied()
        };
        let of_ftp = || {
            let port = flow.destination_port;
            let may_be_data = port == FTP_DATA || port >= FIRST_UNPRIVILEGED;
            (flow.protocol == Protocol::TCP && may_be_data)
                .then(|| with_port(FTP))
                .flatten()
        };
        with_port(flow.destination_port)
            .or_else(of_ftp)
            .or_else(|| with_port(0))
    }

    /// Makes a connection. There is room for it.
    pub(super) fn begin(&mut self, now: Time, flow: &FlowKey, birth: &Birth) -> Class {
        let server = &mut self.servers[birth.server];
        let service = &mut self.services[server.service];
        let destination = Endpoint {
            address: server.spec().key.address.into(),
            port: birth.port,
        };
        let forward = server.spec().forward;
        let local = if forward == ForwardMethod::FullNat {
            let Some(local) = self.locals.take(flow.protocol, destination) else {
                return Class::NoPort;
            };
            local
        } else {
            LocalEnd::default()
        };
        server.bind(forward);
        service.connections += 1;
        if server.is_available() {
            for traffic in [&mut server.traffic, &mut service.traffic, &mut self.traffic] {
                traffic.connections += 1;
            }
        }
        let once = service.spec.one_packet && flow.protocol == Protocol::UDP;
        let mut connection = Connection::new(flow, birth.server, forward, destination, now);
        connection.set_local(local);
        if let Some(template) = birth.template {
            connection.set_controller(template);
            if let Some(template) = self.connections.get_mut(template) {
                template.recount_controlled(1);
            }
        }
        if once {
            let id = self.connections.insert_unseen(connection);
            return Class::Once(id, Direction::Request);
        }
        let tcp = flow.protocol == Protocol::TCP;
        let followed = tcp && service.spec.beyond.server_gone == Some(ServerGone::Reset);
        if followed {
            connection.follow();
        }
        let (deadline, half_open) = (connection.deadline(), is_half_open(connection.state()));
        let id = self.connections.insert(connection);
        self.wheel.set(self.connections.slab_mut(), id.0, deadline);
        if half_open {
            self.enter_half_open(id);
        }
        if followed {
            self.positions.begin(id);
        }
        if forward == ForwardMethod::Nat && self.captures.has_local_clients() {
            self.expect_answers(flow);
        }
        if tcp && forward == ForwardMethod::FullNat {
            self.shifts.begin(id);
        }
        Class::Request(id)
    }

    /// Where a connection of one packet goes, for the later fragments of that packet.
    pub fn sending(&self, id: ConnectionId, direction: Direction) -> Sending {
        let connection = self.connection(id);
        Sending {
            server: connection.server(),
            destination: connection.destination(),
            forward: connection.forward(),
            sender: match direction {
                Direction::Request => None,
                Direction::Reply => Some(connection.virtual_endpoint()),
            },
        }
    }

    /// A connection of one packet for a later fragment of it, to or from the same real server; it is no new one for
    /// the statistics. None if that server is gone.
    pub fn send_again(
        &mut self,
        now: Time,
        flow: &FlowKey,
        sending: Sending,
    ) -> Option<(ConnectionId, Direction)> {
        let id = sending.server;
        let server = self.servers.get(id)?;
        // The number may be another server's by now.
        let spec = server.spec();
        let is_it = Addr::from(spec.key.address) == sending.destination.address
            && spec.forward == sending.forward;
        if !is_it || !self.connections.has_room(1) {
            return None;
        }
        let (request, direction) = match sending.sender {
            None => (*flow, Direction::Request),
            Some(sender) => (request_to(flow, sender), Direction::Reply),
        };
        let server = &mut self.servers[id];
        server.bind(sending.forward);
        self.services[server.service].connections += 1;
        let connection = Connection::new(&request, id, sending.forward, sending.destination, now);
        Some((self.connections.insert_unseen(connection), direction))
    }

    /// Ends a connection of one packet, which has been dealt with.
    pub fn end_once(&mut self, id: ConnectionId) {
        self.end(id);
    }
}

/// The flow of a client's packets to which a real server's are answers that leave as `sender`.
pub(super) fn request_to(answer: &FlowKey, sender: Endpoint) -> FlowKey {
    FlowKey {
        protocol: answer.protocol,
        source: answer.destination,
        source_port: answer.destination_port,
        destination: sender.address,
        destination_port: sender.port,
    }
}

/// The mark of packets that no rule has marked.
pub const UNMARKED: u32 = 0;

/// Source port of the data connections of active FTP.
const FTP_DATA: u16 = 20;
/// `net.ipv4.ip_unprivileged_port_start`
const FIRST_UNPRIVILEGED: u16 = 1024;
