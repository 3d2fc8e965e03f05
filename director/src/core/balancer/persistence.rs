//! Persistence (`ip_vs_sched_persist`): a template remembers which real server a client, or a network of
//! clients, was sent to, and new connections of it follow.

use shared::addr::{Addr, Family, FlowKey, Protocol};
use shared::time::Time;

use super::schedule::Birth;
use super::{Balancer, Class, ConnectionId};
use crate::core::connection::{Connection, Endpoint, template_key};
use crate::core::operation::{Netmask, Persistence, ServiceKey};
use crate::core::reason::Reason;
use crate::core::server::ServerId;
use crate::core::service::{FTP, ServiceId};

impl Balancer {
    /// A packet that opens a connection of a persistent service; `call` is the Call-ID, if the service asks for it.
    pub(super) fn schedule_persistent(
        &mut self,
        now: Time,
        flow: &FlowKey,
        service_id: ServiceId,
        persistence: Persistence,
        call: Option<&[u8]>,
    ) -> Class {
        let client = masked(flow.source, persistence.netmask);
        let (own, per_port, key) = match self.services[service_id].spec.key {
            ServiceKey::Address { port: own, .. } => {
                // All ports together, also of FTP: its data goes where its control connection is.
                let per_port = flow.destination_port == own && own != FTP;
                let port = if per_port { own } else { 0 };
                let key = template_key(flow.protocol, client, flow.destination, port);
                (own, per_port, key)
            }
            // Whatever carries the mark, of any protocol, address and port. The kernel writes the mark where
            // the virtual address would be, of IPv6 into its first word.
            ServiceKey::Mark { mark, family } => {
                let address = match family {
                    Family::V4 => Addr::v4(mark.into()),
                    Family::V6 => Addr::from_bytes((u128::from(mark) << 96).to_be_bytes()),
                };
                (
                    ALL_PORTS,
                    false,
                    template_key(Protocol(0), client, address, ALL_PORTS),
                )
            }
        };
        let known = self.find_template(&key, call);
        let valid = known.filter(|&template| self.is_good(template));
        let template = match valid {
            Some(template) => template,
            None => {
                if let Some(template) = known {
                    self.retire_template(template);
                }
                let Some(server) = self.pick(now, flow, service_id) else {
                    return self.leave(now, service_id, flow);
                };
                if !self.connections.has_room(2) {
                    return Class::Drop(Reason::TableFull);
                }
                let port = match per_port {
                    true => self.servers[server].spec().key.port,
                    false => ALL_PORTS,
                };
                let timeout = persistence.timeout_secs;
                self.begin_template(now, &key, call, (server, port), timeout)
            }
        };
        if !self.connections.has_room(1) {
            return Class::Drop(Reason::TableFull);
        }
        let connection = self.connection_mut(template);
        // The time of persistence counts from the last new connection.
        connection.last_seen = now;
        let server = connection.server();
        let port = match self.servers[server].spec().key.port {
            port if port != 0 && flow.destination_port == own => port,
            _ => flow.destination_port,
        };
        let birth = Birth {
            server,
            port,
            template: Some(template),
        };
        self.begin(now, flow, &birth)
    }

    /// Whether connections may follow a template. Its server's weight of 0 keeps them from it only if
    /// asked for, a reached threshold never (`ip_vs_check_template`); one that is down or drained does.
    fn is_good(&self, template: ConnectionId) -> bool {
        let server = &self.servers[self.connection(template).server()];
        let quiescent = self.settings.sysctl.expire_quiescent_template != 0 && server.weight() == 0;
        server.is_available() && !server.is_shut() && !quiescent
    }

    /// The template of this [`template_key`], or of a call.
    pub(super) fn find_template(&self, key: &FlowKey, call: Option<&[u8]>) -> Option<ConnectionId> {
        match call {
            Some(call) => self.calls.find(key, call),
            None => self.connections.find_template(key),
        }
    }

    /// No new connection will find this template.
    pub(super) fn retire_template(&mut self, template: ConnectionId) {
        self.calls.retire(template);
        self.connections.retire_template(template);
    }

    /// A template that leads to this port of a server. There is room for it.
    pub(super) fn begin_template(
        &mut self,
        now: Time,
        key: &FlowKey,
        call: Option<&[u8]>,
        (server_id, port): (ServerId, u16),
        timeout_secs: u32,
    ) -> ConnectionId {
        let server = &mut self.servers[server_id];
        let spec = server.spec();
        let destination = Endpoint {
            address: spec.key.address.into(),
            port,
        };
        let forward = spec.forward;
        server.bind_template();
        let template =
            Connection::template(key, server_id, forward, destination, now, timeout_secs);
        let deadline = template.deadline();
        let id = match call {
            None => self.connections.insert(template),
            // Its key is that of many.
            Some(call) => {
                let id = self.connections.insert_unseen(template);
                self.calls.begin(id, key, call);
                id
            }
        };
        self.wheel.set(self.connections.slab_mut(), id.0, deadline);
        id
    }

    /// A connection was established: this becomes known of its template.
    #[cold]
    pub(super) fn assure(&mut self, id: ConnectionId) {
        if let Some(template) = self.connection(id).controller() {
            self.connection_mut(template).assure();
        }
    }

    /// The timer of a template ran out. While it has connections it stays for another minute, and for a
    /// minute after each of those to come (`ip_vs_conn_expire`). When that is over.
    pub(super) fn prolong(&mut self, now: Time, id: ConnectionId) -> Time {
        let connection = self.connection_mut(id);
        connection.timeout_secs = PROLONGED_SECS;
        connection.last_seen = now;
        connection.deadline()
    }
}

/// The network of a client, as far as the mask says.
pub(super) fn masked(client: Addr, netmask: Netmask) -> Addr {
    match (client.ip(), netmask) {
        (std::net::IpAddr::V4(client), Netmask::V4(mask)) => {
            Addr::v4((client.to_bits() & mask).into())
        }
        (std::net::IpAddr::V6(client), Netmask::V6(length)) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(length))
                .unwrap_or_default();
            std::net::IpAddr::V6((client.to_bits() & mask).into()).into()
        }
        _ => client,
    }
}

/// The port of a service for all of them.
const ALL_PORTS: u16 = 0;

/// What a template's timeout becomes when it runs out too early, for good.
const PROLONGED_SECS: u32 = 60;
