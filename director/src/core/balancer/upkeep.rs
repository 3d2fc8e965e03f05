//! What happens without a packet: connections end, rates are estimated, removed servers are forgotten,
//! and the keys of the capture follow.

use shared::addr::Protocol;
use shared::time::Time;

use super::Balancer;
use super::half_open::is_half_open;
use crate::core::capture::CaptureKey;
use crate::core::connection::ConnectionId;
use crate::core::forward::outer_protocol;
use crate::core::operation::{ForwardMethod, ServerKey, ServiceKey};
use crate::core::protocol::ipsec::is_of_keys;
use crate::core::server::{Activity, ServerId};
use crate::core::service::ServiceId;
use crate::core::stats;
use crate::core::timer::TICK;

impl Balancer {
    /// What time brings: connections end, rates are estimated, removed servers are forgotten. Does a
    /// bounded amount of work; if more is due, [`poll_at`](Self::poll_at) is not after `now`.
    pub fn expire(&mut self, now: Time) {
        self.expired_at = now;
        for _ in 0..EXPIRE_BUDGET {
            let Some(slot) = self.wheel.due(self.connections.slab_mut(), now) else {
                break;
            };
            let id = ConnectionId(slot);
            let deadline = self.connection(id).deadline();
            let look_again = match self.connection(id).controlled() {
                _ if deadline > now => deadline,
                0 if self.transfers.goes_on(id) => self.prolong(now, id),
                0 => {
                    self.end(id);
                    continue;
                }
                // Its last connection may be about to end, at the same time, and does so first.
                _ if now < deadline + TICK => deadline + TICK,
                _ => self.prolong(now, id),
            };
            self.wheel
                .set(self.connections.slab_mut(), slot, look_again);
        }
        self.end_drains(now);
        self.sweep(now);
        self.warm_up(now);
        self.empty_trash(now);
        self.estimate(now);
        self.defend(now);
    }

    /// When [`expire`](Self::expire) is to be called next.
    pub fn poll_at(&self) -> Option<Time> {
        [
            self.wheel.poll_at(),
            self.sweep_at.map(|_| Time::ZERO),
            self.drain_at,
            self.warm_at(),
            self.trash.poll_at(),
            self.estimate_at,
            self.defence_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Ends a connection.
    pub(super) fn end(&mut self, id: ConnectionId) {
        self.wheel.clear(self.connections.slab_mut(), id.0);
        let Some(connection) = self.connections.remove(id) else {
            return;
        };
        let server = &mut self.servers[connection.server()];
        if connection.is_template() {
            server.unbind_template();
            self.calls.end(id);
            self.settle_drain(connection.server());
            return;
        }
        server.unbind(Activity::of(connection.state()), connection.forward());
        let service_id = server.service;
        if connection.forward() == ForwardMethod::FullNat {
            self.let_port_go(&connection);
        }
        if self.captures.has_clients() {
            self.expect_no_more_answers(&connection);
        }
        if is_half_open(connection.state()) {
            self.leave_half_open();
        }
        if !self.transfers.is_empty() {
            self.end_transfers(id, &connection);
        }
        self.services[service_id].connections -= 1;
        self.settle_drain(connection.server());
        if let Some(template) = connection.controller() {
            self.connection_mut(template).recount_controlled(-1);
        }
        let server = &self.servers[connection.server()];
        if server.is_unsettled() {
            self.settle_server(connection.server());
        }
        self.settle_service(service_id);
    }

    fn empty_trash(&mut self, now: Time) {
        let servers = &self.servers;
        for id in self.trash.sweep(now, |id| servers[id].is_idle()) {
            let service_id = self.servers[id].service;
            self.servers.remove(id);
            self.services[service_id].server_objects -= 1;
            self.settle_service(service_id);
        }
    }

    fn estimate(&mut self, now: Time) {
        let Some(at) = self.estimate_at.filter(|&at| at <= now) else {
            return;
        };
        // A tick that was missed is gone, as a late timer of the kernel's.
        let next = at + stats::PERIOD;
        self.estimate_at = Some(if next > now {
            next
        } else {
            now + stats::PERIOD
        });
        if self.settings.sysctl.run_estimation == 0 {
            return;
        }
        self.estimator.tick(&self.traffic);
        for service in self.services.values_mut() {
            service.estimator.tick(&service.traffic);
        }
        for server in self.servers.values_mut() {
            server.estimator.tick(&server.traffic);
        }
    }

    /// Holds or lets go the keys of a server's replies and of errors about packets to it.
    pub(super) fn settle_server(&mut self, id: ServerId) {
        let server = &mut self.servers[id];
        let service = &self.services[server.service];
        let ServerKey { address, port: own } = server.spec().key;
        let (protocols, port) = match service.spec.key {
            ServiceKey::Address { protocol, port, .. } => ([Some(protocol), None, None], port),
            // Of each, and of any port.
            ServiceKey::Mark { .. } => {
                let each = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];
                (each.map(Some), 0)
            }
        };
        let port = match own {
            // Then its servers are asked on the ports that clients ask for.
            _ if port == 0 || service.wants_all_ports() => 0,
            0 => port,
            own => own,
        };
        let address = address.into();
        let mut wants = protocols.map(|protocol| {
            let protocol = protocol.filter(|_| server.wants_reply_key())?;
            Some(CaptureKey::Reply {
                protocol,
                address,
                port,
            })
        });
        if let [Some(CaptureKey::Reply { protocol, .. }), rest @ ..] = &mut wants {
            for (place, (protocol, port)) in rest.iter_mut().zip(followers(*protocol, port)) {
                *place = Some(CaptureKey::Reply {
                    protocol,
                    address,
                    port,
                });
            }
        }
        let held = std::mem::replace(&mut server.reply_keys, wants);
        if wants != held {
            let (wants, held) = (wants.into_iter().flatten(), held.into_iter().flatten());
            wants.for_each(|key| self.captures.acquire(key));
            held.for_each(|key| self.captures.release(key));
        }
        let wants = server.wants_tunnel_key().then(|| {
            let (protocol, port) = outer_protocol(server.spec().tunnel, service.spec.key.family());
            CaptureKey::Tunnel {
                protocol,
                address,
                port,
            }
        });
        let held = std::mem::replace(&mut server.tunnel_key, wants);
        if wants != held {
            wants.into_iter().for_each(|key| self.captures.acquire(key));
            held.into_iter().for_each(|key| self.captures.release(key));
        }
        let listed = server.is_available() && server.spec().forward == ForwardMethod::Nat;
        let wants = protocols.map(|protocol| Some((protocol.filter(|_| listed)?, address, own)));
        let held = std::mem::replace(&mut server.stray_keys, wants);
        if wants == held {
            return;
        }
        for key in wants.into_iter().flatten() {
            self.real_servers.entry(key).or_default().push(id);
        }
        for key in held.into_iter().flatten() {
            let Some(users) = self.real_servers.get_mut(&key) else {
                continue;
            };
            users.retain(|&user| user != id);
            if users.is_empty() {
                self.real_servers.remove(&key);
            }
        }
    }

    /// Holds or lets go the key of a service's packets, and forgets a deleted service that nobody
    /// needs any more.
    pub(super) fn settle_service(&mut self, id: ServiceId) {
        let service = &mut self.services[id];
        let mut all_ports_changed = false;
        if let ServiceKey::Address {
            protocol,
            address,
            port,
        } = service.spec.key
        {
            let (wants, wants_all) = (service.wants_key(), service.wants_all_ports());
            all_ports_changed = wants_all != service.holds_all_ports;
            for (wants, holds, port) in [
                (wants, &mut service.holds_key, port),
                (wants_all, &mut service.holds_all_ports, 0),
            ] {
                let key = |(protocol, port)| CaptureKey::Service {
                    protocol,
                    address: address.into(),
                    port,
                };
                let keys = [(protocol, port)].into_iter();
                let keys = keys.chain(followers(protocol, port)).map(key);
                match (wants, std::mem::replace(holds, wants)) {
                    (true, false) => keys.for_each(|key| self.captures.acquire(key)),
                    (false, true) => keys.for_each(|key| self.captures.release(key)),
                    _ => {}
                }
            }
        }
        if let ServiceKey::Mark { mark, family } = service.spec.key {
            let wants = service.wants_key() && !self.marks.gives(mark, family);
            match (wants, std::mem::replace(&mut service.holds_key, wants)) {
                (true, false) => self.captures.acquire_mark(mark, family),
                (false, true) => self.captures.release_mark(mark, family),
                _ => {}
            }
        }
        if !service.is_configured() && service.server_objects == 0 {
            self.services.remove(id);
        } else if all_ports_changed {
            for at in 0..self.services[id].servers.len() {
                self.settle_server(self.services[id].servers[at]);
            }
        }
    }
}

/// What belongs to packets of this port without having ports of its own.
fn followers(protocol: Protocol, port: u16) -> impl Iterator<Item = (Protocol, u16)> {
    let both = [(Protocol::ESP, 0), (Protocol::AH, 0)];
    both.into_iter().filter(move |_| is_of_keys(protocol, port))
}

/// Timers handled in one call of [`Balancer::expire`]: some tens of microseconds.
const EXPIRE_BUDGET: usize = 256;
