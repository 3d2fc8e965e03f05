//! Data connections of FTP, which go where their control connection goes.

use std::time::Duration;

use shared::addr::{FlowKey, Protocol};
use shared::time::Time;

use super::half_open::is_half_open;
use super::{Balancer, Class};
use crate::core::capture::CaptureKey;
use crate::core::connection::{Connection, ConnectionId, Endpoint};
use crate::core::ftp::{Expected, Invitation, Moved};
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
            forward: connection.forward(),
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
            keys_of(invitation, &expected).for_each(|key| self.captures.acquire(key));
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
        if !self.has_server(expected.server, expected.destination) {
            self.expect_no_more(invitation);
            return None;
        }
        let Expected {
            control,
            server,
            destination,
            forward,
            ..
        } = expected;
        let mut connection = Connection::new(flow, server, forward, destination, now);
        if !self.take_port_beside(control, &mut connection) {
            return Some(Class::NoPort);
        }
        // What is taken from the wire for it stays so.
        self.transfers.take(&invitation);
        Some(Class::Request(self.begin_data(connection, control)))
    }

    /// The client of a control connection waits at this port for its server. Where the server is to go; none if it
    /// is not helped.
    pub(in crate::core) fn open_data(
        &mut self,
        now: Time,
        control: ConnectionId,
        client_port: u16,
    ) -> Option<Endpoint> {
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
        let forward = connection.forward();
        if let Some((id, _)) = self.find(&flow) {
            let known = self.connection(id);
            let over = State::Tcp(TcpState::TimeWait);
            if known.state() != over {
                let same = (known.destination(), known.forward()) == (destination, forward);
                return same.then(|| self.known_client(known));
            }
            // A client may have but one port for all. Its server has not forgotten the former connection, and
            // by FULLNAT comes to another port of ours.
            self.end(id);
        }
        let room = self.connections.has_room(1) && self.transfers.has_room(control);
        if !room || client_port < FIRST_UNPRIVILEGED {
            return None;
        }
        let back = FlowKey {
            protocol: flow.protocol,
            source: destination.address,
            source_port: destination.port,
            destination: flow.source,
            destination_port: flow.source_port,
        };
        // Of another service its server may have one to the same port.
        if forward == ForwardMethod::Nat && self.find(&back).is_some() {
            return None;
        }
        let mut connection = Connection::new(&flow, server, forward, destination, now);
        if !self.take_port_beside(control, &mut connection) {
            return None;
        }
        let known_client = self.known_client(&connection);
        keys_of_data(&connection).for_each(|key| self.captures.acquire(key));
        let state = State::Tcp(TcpState::Listen);
        connection.set_state(state);
        connection.client_hop = client_hop;
        connection.timeout_secs = self.settings.timeouts.secs(state);
        self.begin_data(connection, control);
        Some(known_client)
    }

    /// By FULLNAT a data connection has a port of the local address of its control connection: servers ask whether
    /// both are of one client. False if there is none left.
    fn take_port_beside(&mut self, control: ConnectionId, data: &mut Connection) -> bool {
        if data.forward() != ForwardMethod::FullNat {
            return true;
        }
        let place = self.connection(control).local().place;
        let end = self
            .locals
            .take_beside(place, data.protocol(), data.destination());
        end.is_some_and(|end| {
            data.set_local(end);
            true
        })
    }

    /// It is none of those that a service counts.
    fn begin_data(&mut self, connection: Connection, control: ConnectionId) -> ConnectionId {
        let (server, flow) = (connection.server(), connection.request());
        let forward = connection.forward();
        let half_open = is_half_open(connection.state());
        let deadline = connection.deadline();
        let server = &mut self.servers[server];
        server.bind(forward);
        self.services[server.service].connections += 1;
        let id = self.connections.insert(connection);
        self.wheel.set(self.connections.slab_mut(), id.0, deadline);
        if half_open {
            self.enter_half_open(id);
        }
        if forward == ForwardMethod::Nat && self.captures.has_local_clients() {
            self.expect_answers(&flow);
        }
        if forward == ForwardMethod::FullNat {
            self.shifts.begin(id);
        }
        self.transfers.begin(id, control);
        id
    }

    /// Whether a server is still the one that it was.
    fn has_server(&self, id: ServerId, destination: Endpoint) -> bool {
        let server = self.servers.get(id);
        server.is_some_and(|server| destination.address == server.spec().key.address.into())
    }

    /// Whether a connection is one of data.
    pub(super) fn is_data(&self, id: ConnectionId) -> bool {
        !self.transfers.is_empty() && self.transfers.is_data(id)
    }

    /// A connection has ended, which may have been one of FTP.
    #[cold]
    pub(super) fn end_transfers(&mut self, id: ConnectionId, connection: &Connection) {
        if self.transfers.end(id) {
            keys_of_data(connection).for_each(|key| self.captures.release(key));
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
        for invitation in self.transfers.overdue(now, ended) {
            self.expect_no_more(invitation);
        }
    }

    fn expect_no_more(&mut self, invitation: Invitation) {
        if let Some(expected) = self.transfers.take(&invitation) {
            keys_of(invitation, &expected).for_each(|key| self.captures.release(key));
        }
    }

    /// How far the words of a control connection have moved.
    pub(in crate::core) fn words_moved(&self, control: ConnectionId) -> Moved {
        self.transfers.moved(control)
    }

    /// They have moved further.
    pub(in crate::core) fn set_words_moved(&mut self, control: ConnectionId, moved: Moved) {
        self.transfers.set_moved(control, moved);
    }
}

/// What is taken from the wire for a data connection that is expected.
fn keys_of(invitation: Invitation, expected: &Expected) -> impl Iterator<Item = CaptureKey> {
    let virtual_end = Endpoint {
        address: invitation.vip,
        port: invitation.port,
    };
    keys(expected.forward, virtual_end, expected.destination)
}

/// The same for one that is there.
fn keys_of_data(data: &Connection) -> impl Iterator<Item = CaptureKey> {
    keys(data.forward(), data.virtual_endpoint(), data.destination())
}

/// By FULLNAT answers go to a local address, of which everything is taken anyway.
fn keys(
    forward: ForwardMethod,
    virtual_end: Endpoint,
    destination: Endpoint,
) -> impl Iterator<Item = CaptureKey> {
    let protocol = Protocol::TCP;
    let service = CaptureKey::Service {
        protocol,
        address: virtual_end.address,
        port: virtual_end.port,
    };
    let reply = CaptureKey::Reply {
        protocol,
        address: destination.address,
        port: destination.port,
    };
    let reply = (forward == ForwardMethod::Nat).then_some(reply);
    std::iter::once(service).chain(reply)
}

/// So long a data connection may take to come: as the kernel gives one that listens.
const WAITING: Duration = Duration::from_secs(120);
/// Ports that are tried for a client that has been sent to the first one already.
const TRIES: u16 = 16;
/// Nobody waits for data below.
const FIRST_UNPRIVILEGED: u16 = 1024;
