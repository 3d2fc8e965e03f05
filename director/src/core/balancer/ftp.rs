//! Data connections of FTP, which go where their control connection goes.

use std::time::Duration;

use shared::addr::{Addr, FlowKey, Protocol};
use shared::time::Time;

use super::half_open::is_half_open;
use super::{Balancer, Class};
use crate::core::capture::CaptureKey;
use crate::core::connection::{Connection, ConnectionId, Endpoint};
use crate::core::ftp::{Expected, Invitation, Keys, Numbers};
use crate::core::operation::ForwardMethod;
use crate::core::protocol::State;
use crate::core::protocol::tcp::TcpState;
use crate::core::reason::Reason;
use crate::core::server::ServerId;

impl Balancer {
    /// The server of a control connection waits at this port for its client. Where the client is to go; none if
    /// it is not helped.
    pub(in crate::core) fn expect_data(
        &mut self,
        now: Time,
        control: ConnectionId,
        server_port: u16,
    ) -> Option<Endpoint> {
        let connection = self.connection(control);
        let vip = connection.virtual_endpoint().address;
        let invitation = |port| Invitation {
            client: connection.client().address,
            vip,
            port,
        };
        let destination = Endpoint {
            address: connection.destination().address,
            port: server_port,
        };
        let expected = Expected {
            control,
            server: connection.server(),
            destination,
            until: now + WAITING,
        };
        // The same words again, or a port to which nobody else has sent this client.
        let free = |port: &u16| {
            let known = self.transfers.expected(&invitation(*port));
            let same = known.is_some_and(|known| known.destination == destination);
            *port >= FIRST_UNPRIVILEGED
                && (same || known.is_none() && self.transfers.has_room(control))
        };
        let port = (0..TRIES).map(|more| server_port.wrapping_add(more));
        let port = { port }.find(free)?;
        let invitation = invitation(port);
        if self.transfers.expect(invitation, expected) {
            let keys = keys_of(vip, port, destination);
            keys.into_iter().for_each(|key| self.captures.acquire(key));
        }
        Some(Endpoint { address: vip, port })
    }

    /// A client that was told where to go for data, and comes.
    pub(super) fn schedule_data(&mut self, now: Time, flow: &FlowKey) -> Option<Class> {
        let invitation = Invitation {
            client: flow.source,
            vip: flow.destination,
            port: flow.destination_port,
        };
        if flow.protocol != Protocol::TCP {
            return None;
        }
        let expected = *self.transfers.expected(&invitation)?;
        if !self.connections.has_room(1) {
            return Some(Class::Drop(Reason::TableFull));
        }
        self.transfers.take(&invitation);
        let keys = keys_of(invitation.vip, invitation.port, expected.destination);
        let Expected {
            control,
            server,
            destination,
            ..
        } = expected;
        if !self.has_server(server, destination) {
            keys.into_iter().for_each(|key| self.captures.release(key));
            return None;
        }
        let connection = Connection::new(flow, server, ForwardMethod::Nat, destination, now);
        Some(Class::Request(self.begin_data(connection, control, keys)))
    }

    /// The client of a control connection waits at this port for its server. Whether it is helped.
    pub(in crate::core) fn open_data(
        &mut self,
        now: Time,
        control: ConnectionId,
        client_port: u16,
    ) -> bool {
        let connection = self.connection(control);
        let (virtual_end, to) = (connection.virtual_endpoint(), connection.destination());
        let (server, client_hop) = (connection.server(), connection.client_hop);
        let flow = FlowKey {
            source_port: client_port,
            destination_port: virtual_end.port.wrapping_sub(1),
            ..connection.request()
        };
        let destination = Endpoint {
            port: to.port.wrapping_sub(1),
            ..to
        };
        if self.find(&flow).is_some() {
            return true;
        }
        let back = FlowKey {
            protocol: flow.protocol,
            source: destination.address,
            source_port: destination.port,
            destination: flow.source,
            destination_port: flow.source_port,
        };
        let room = self.connections.has_room(1) && self.transfers.has_room(control);
        // Of another service its server may have one to the same port.
        if !room || client_port < FIRST_UNPRIVILEGED || self.find(&back).is_some() {
            return false;
        }
        let keys = keys_of(flow.destination, flow.destination_port, destination);
        keys.into_iter().for_each(|key| self.captures.acquire(key));
        let mut connection = Connection::new(&flow, server, ForwardMethod::Nat, destination, now);
        let state = State::Tcp(TcpState::Listen);
        connection.set_state(state);
        connection.client_hop = client_hop;
        connection.timeout_secs = self.settings.timeouts.secs(state);
        self.begin_data(connection, control, keys);
        true
    }

    /// It is none of those that a service counts.
    fn begin_data(
        &mut self,
        connection: Connection,
        control: ConnectionId,
        keys: Keys,
    ) -> ConnectionId {
        let (server, flow) = (connection.server(), connection.request());
        let (half_open, forward) = (is_half_open(connection.state()), connection.forward());
        let deadline = connection.deadline();
        let server = &mut self.servers[server];
        server.bind(forward);
        self.services[server.service].connections += 1;
        let id = self.connections.insert(connection);
        self.wheel.set(self.connections.slab_mut(), id.0, deadline);
        if half_open {
            self.enter_half_open(id);
        }
        if self.captures.has_local_clients() {
            self.expect_answers(&flow);
        }
        self.transfers.begin(id, control, keys);
        id
    }

    /// Whether a server is still the one that it was.
    fn has_server(&self, id: ServerId, destination: Endpoint) -> bool {
        let server = self.servers.get(id);
        server.is_some_and(|server| destination.address == server.spec().key.address.into())
    }

    /// A connection has ended, which may have been one of FTP.
    #[cold]
    pub(super) fn end_transfers(&mut self, id: ConnectionId) {
        if let Some(keys) = self.transfers.end(id) {
            keys.into_iter().for_each(|key| self.captures.release(key));
        }
        if self.transfers.goes_on(id) {
            self.forget_transfers(Time::ZERO, Some(id));
        }
    }

    /// Data connections that do not come.
    pub(super) fn expire_transfers(&mut self, now: Time) {
        if self.transfers.poll_at().is_some_and(|at| at <= now) {
            self.forget_transfers(now, None);
            self.transfers.swept();
        }
    }

    fn forget_transfers(&mut self, now: Time, ended: Option<ConnectionId>) {
        for (invitation, destination) in self.transfers.overdue(now, ended) {
            self.transfers.take(&invitation);
            let keys = keys_of(invitation.vip, invitation.port, destination);
            keys.into_iter().for_each(|key| self.captures.release(key));
        }
    }

    /// How far the server's words of a control connection have moved.
    pub(in crate::core) fn numbers(&self, control: ConnectionId) -> Option<Numbers> {
        self.transfers.numbers(control)
    }

    /// They have moved further.
    pub(in crate::core) fn set_numbers(&mut self, control: ConnectionId, numbers: Numbers) {
        self.transfers.set_numbers(control, numbers);
    }
}

/// What is taken from the wire for a data connection.
fn keys_of(vip: Addr, port: u16, destination: Endpoint) -> Keys {
    let protocol = Protocol::TCP;
    [
        CaptureKey::Service {
            protocol,
            address: vip,
            port,
        },
        CaptureKey::Reply {
            protocol,
            address: destination.address,
            port: destination.port,
        },
    ]
}

/// So long a data connection may take to come: as the kernel gives one that listens.
const WAITING: Duration = Duration::from_secs(120);
/// Ports that are tried for a client that has been sent to the first one already.
const TRIES: u16 = 16;
/// Nobody waits for data below.
const FIRST_UNPRIVILEGED: u16 = 1024;
