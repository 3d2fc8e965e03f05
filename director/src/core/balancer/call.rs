//! Services that ask which call of SIP a datagram is of (`--pe sip`): there is a template for each call of a client,
//! and a real server begins calls too (`ip_vs_new_conn_out`).

use shared::addr::{FlowKey, Protocol};
use shared::time::Time;

use super::persistence::masked;
use super::schedule::{Birth, request_to};
use super::{Balancer, Class, ConnectionId, Direction, Segment};
use crate::core::connection::{Endpoint, template_key};
use crate::core::operation::{Persistence, ServiceKey};
use crate::core::reason::Reason;
use crate::core::server::ServerId;
use crate::core::service::ServiceId;

/// As what a datagram of a real server leaves.
#[derive(Clone, Copy)]
struct Leave {
    server: ServerId,
    sender: Endpoint,
    persistence: Option<Persistence>,
    /// Of its call, if there is one.
    template: Option<ConnectionId>,
}

impl Balancer {
    /// After [`Class::Call`]: a packet of no connection, with the Call-ID that it says.
    pub fn schedule_call(
        &mut self,
        now: Time,
        flow: &FlowKey,
        service_id: ServiceId,
        call: Option<&[u8]>,
    ) -> Class {
        match (self.services[service_id].spec.persistence, call) {
            (Some(persistence), Some(_)) => {
                self.schedule_persistent(now, flow, service_id, persistence, call)
            }
            _ => Class::Drop(Reason::NoCallId),
        }
    }

    /// Whether a packet of no connection may be one that a real server says of its own, or an answer to one that
    /// was scheduled by itself, in a call that a service asks for.
    #[inline(never)]
    pub(super) fn may_leave(&self, flow: &FlowKey, mark: u32) -> bool {
        self.servers_that_call(flow).next().is_some() && self.service_of(flow, mark).is_none()
    }

    /// After [`Class::CallOut`]: a real server's packet of no connection, with the Call-ID that it says. It leaves as
    /// its service; without a Call-ID it does not.
    pub fn schedule_call_out(
        &mut self,
        now: Time,
        flow: &FlowKey,
        mark: u32,
        call: Option<&[u8]>,
    ) -> Class {
        let Some(leave) = self.leave_in_call(flow, call) else {
            return self.schedule_incoming(now, flow, Segment::Udp, mark);
        };
        let Leave { server, sender, .. } = leave;
        let request = request_to(flow, sender);
        let service = self.servers[server].service;
        if self
            .deny
            .denies(request.source, &self.services[service].spec.key)
        {
            return Class::Drop(Reason::Denied);
        }
        let own = leave
            .template
            .filter(|&template| self.connection(template).server() == server);
        let begins = leave.persistence.filter(|_| own.is_none());
        if !self.connections.has_room(1 + usize::from(begins.is_some())) {
            return Class::Drop(Reason::TableFull);
        }
        let template = match begins {
            Some(persistence) => {
                // One that leads to another server no longer counts.
                if let Some(template) = leave.template {
                    self.retire_template(template);
                }
                let key = key_of_call(&request, persistence);
                let to = (server, self.servers[server].spec().key.port);
                Some(self.begin_template(now, &key, call, to, persistence.timeout_secs))
            }
            None => own,
        };
        if let Some(template) = template {
            // The time of persistence counts from the last new connection.
            self.connection_mut(template).last_seen = now;
        }
        let birth = Birth {
            server,
            port: flow.source_port,
            template,
        };
        match self.begin(now, &request, &birth) {
            Class::Request(id) => Class::Reply(id),
            Class::Once(id, _) => Class::Once(id, Direction::Reply),
            class => class,
        }
    }

    /// As what a real server's packet leaves. Of several services that it is in, the kernel takes the newest; here
    /// it is that whose call it is, or else the newest.
    fn leave_in_call(&self, flow: &FlowKey, call: Option<&[u8]>) -> Option<Leave> {
        let mut newest = None;
        for (server, sender) in self.servers_that_call(flow) {
            let service = self.servers[server].service;
            let persistence = self.services[service].spec.persistence;
            let template = match (persistence, call) {
                (None, _) => None,
                (Some(_), None) => continue,
                (Some(persistence), Some(call)) => {
                    let key = key_of_call(&request_to(flow, sender), persistence);
                    self.calls.find(&key, call)
                }
            };
            let leave = Leave {
                server,
                sender,
                persistence,
                template,
            };
            let known = |template| self.connection(template).server() == server;
            if template.is_some_and(known) {
                return Some(leave);
            }
            newest = newest.or(Some(leave));
        }
        newest
    }

    /// The sender of a datagram as a real server of services with an engine, newest first, and as whom it would
    /// leave: not of marks, and not of all ports, where nobody knows.
    fn servers_that_call(&self, flow: &FlowKey) -> impl Iterator<Item = (ServerId, Endpoint)> {
        let key = (flow.protocol, flow.source, flow.source_port);
        let servers = self.real_servers.get(&key);
        let servers = servers.filter(|_| flow.protocol == Protocol::UDP);
        let servers = servers.into_iter().flatten().rev();
        servers.filter_map(|&server| {
            let spec = &self.services[self.servers[server].service].spec;
            spec.persistence_engine.as_ref()?;
            match spec.key {
                ServiceKey::Address { address, port, .. } if port != 0 => {
                    let address = address.into();
                    Some((server, Endpoint { address, port }))
                }
                _ => None,
            }
        })
    }
}

/// What a call's template has for a key besides the Call-ID.
fn key_of_call(request: &FlowKey, persistence: Persistence) -> FlowKey {
    let client = masked(request.source, persistence.netmask);
    let (address, port) = (request.destination, request.destination_port);
    template_key(request.protocol, client, address, port)
}
