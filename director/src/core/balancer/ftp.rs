//! Data connections of FTP, which go where their control connection goes.
//!
//! Each is there as soon as its ends have agreed on it, and listed as the kernel lists it: it listens, for as long as
//! that state may last. That of a passive client has no port of the client yet, and no packet finds it until the
//! client comes.

use shared::addr::{FlowKey, Protocol};
use shared::time::Time;

use super::{Balancer, Class};
use crate::core::capture::CaptureKey;
use crate::core::connection::{Connection, ConnectionId, Endpoint};
use crate::core::ftp::{Invitation, Moved};
use crate::core::operation::ForwardMethod;
use crate::core::protocol::State;
use crate::core::protocol::tcp::TcpState;

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
        let (client, vip) = (connection.client(), connection.virtual_endpoint().address);
        let destination = Endpoint {
            address: connection.destination().address,
            port: server_port,
        };
        let known = |port| {
            let invitation = Invitation {
                client: client.address,
                vip,
                port,
            };
            self.transfers.expected(&invitation)
        };
        // The same words again, or a port to which nobody else has sent this client.
        let free = |&port: &u16| {
            let same = |id| self.connection(id).destination() == destination;
            port >= FIRST_UNPRIVILEGED && known(port).is_none_or(same)
        };
        let port = (0..TRIES).map(|more| server_port.wrapping_add(more));
        let port = { port }.find(free)?;
        if let Some(id) = known(port) {
            self.connection_mut(id).last_seen = now;
        } else {
            let flow = FlowKey {
                source_port: UNKNOWN,
                destination_port: port,
                ..connection.request()
            };
            let data = self.new_data(now, control, &flow, destination)?;
            let invitation = Invitation::to(&data);
            let id = self.begin_data(data, control);
            self.transfers.expect(invitation, id);
        }
        Some(Endpoint { address: vip, port })
    }

    /// A client that was told where to go for data, and comes.
    pub(super) fn schedule_data(&mut self, flow: &FlowKey) -> Option<Class> {
        let invitation = Invitation {
            client: flow.source,
            vip: flow.destination,
            port: flow.destination_port,
        };
        if flow.protocol != Protocol::TCP {
            return None;
        }
        let id = self.transfers.take(&invitation)?;
        self.reveal_data(id, flow.source_port);
        Some(Class::Request(id))
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
        let back = FlowKey {
            protocol: flow.protocol,
            source: destination.address,
            source_port: destination.port,
            destination: flow.source,
            destination_port: flow.source_port,
        };
        // Of another service its server may have one to the same port.
        let taken = forward == ForwardMethod::Nat && self.find(&back).is_some();
        if taken || client_port < FIRST_UNPRIVILEGED {
            return None;
        }
        let data = self.new_data(now, control, &flow, destination)?;
        let known_client = self.known_client(&data);
        let id = self.begin_data(data, control);
        self.reveal_data(id, client_port);
        Some(known_client)
    }

    /// A data connection that waits for one of its ends, if a control connection may have one more.
    fn new_data(
        &mut self,
        now: Time,
        control: ConnectionId,
        flow: &FlowKey,
        destination: Endpoint,
    ) -> Option<Connection> {
        if !self.connections.has_room(1) || !self.transfers.has_room(control) {
            return None;
        }
        let own = self.connection(control);
        let (forward, place) = (own.forward(), own.local().place);
        let mut data = Connection::new(flow, own.server(), forward, destination, now);
        data.client_hop = own.client_hop;
        let state = State::Tcp(TcpState::Listen);
        data.set_state(state);
        data.timeout_secs = self.settings.timeouts.secs(state);
        if forward == ForwardMethod::FullNat {
            // Of the same address: servers ask whether both connections are of one client.
            let beside = self.locals.take_beside(place, flow.protocol, destination);
            data.set_local(beside?);
        }
        Some(data)
    }

    /// It is none of those that a service counts, and packets do not find it yet.
    fn begin_data(&mut self, data: Connection, control: ConnectionId) -> ConnectionId {
        let (forward, deadline) = (data.forward(), data.deadline());
        keys_of_data(&data).for_each(|key| self.captures.acquire(key));
        let server = &mut self.servers[data.server()];
        server.bind(forward);
        self.services[server.service].connections += 1;
        let id = self.connections.insert_unseen(data);
        self.wheel.set(self.connections.slab_mut(), id.0, deadline);
        if forward == ForwardMethod::FullNat {
            self.shifts.begin(id);
        }
        self.transfers.begin(id, control);
        id
    }

    /// The port of its client is known.
    fn reveal_data(&mut self, id: ConnectionId, client_port: u16) {
        self.connections.reveal(id, client_port);
        let data = self.connection(id);
        let (forward, flow) = (data.forward(), data.request());
        if forward == ForwardMethod::Nat && self.captures.has_local_clients() {
            self.expect_answers(&flow);
        }
    }

    /// Whether a connection is one of data.
    pub(super) fn is_data(&self, id: ConnectionId) -> bool {
        !self.transfers.is_empty() && self.transfers.is_data(id)
    }

    /// A connection has ended, which may have been one of FTP.
    #[cold]
    pub(super) fn end_transfers(&mut self, id: ConnectionId, connection: &Connection) {
        if self.transfers.end(id, connection) {
            keys_of_data(connection).for_each(|key| self.captures.release(key));
        }
        if self.transfers.goes_on(id) {
            for data in self.transfers.expected_by(id) {
                self.end(data);
            }
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

/// What is taken from the wire for a data connection. By FULLNAT answers go to a local address, of which everything
/// is taken anyway.
fn keys_of_data(data: &Connection) -> impl Iterator<Item = CaptureKey> + use<> {
    let protocol = Protocol::TCP;
    let (virtual_end, destination) = (data.virtual_endpoint(), data.destination());
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
    let reply = (data.forward() == ForwardMethod::Nat).then_some(reply);
    std::iter::once(service).chain(reply)
}

/// The port of a client that has not come, as the kernel lists it.
const UNKNOWN: u16 = 0;
/// Ports that are tried for a client that has been sent to the first one already.
const TRIES: u16 = 16;
/// Nobody waits for data below.
const FIRST_UNPRIVILEGED: u16 = 1024;
