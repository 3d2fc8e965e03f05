//! Services whose real servers are watched over together. Whatever changes the weight of a server comes by here,
//! so that a packet never meets a service between two states.

use std::collections::{BTreeMap, BTreeSet};

use shared::time::Time;

use super::Balancer;
use crate::core::guard::{Change, Guard, GuardView, Guarded};
use crate::core::operation::{ServerGone, ServerSpec, ServiceKey};
use crate::core::scheduler::Pool;
use crate::core::server::{Role, ServerId};
use crate::core::service::{Service, ServiceId};

impl Balancer {
    /// These services are guarded from now on, and no others. Those that come later need
    /// [`guard_new`](Self::guard_new).
    pub fn set_guards(&mut self, now: Time, guards: BTreeMap<ServiceKey, Guard>) {
        let former = std::mem::replace(&mut self.guards, guards);
        let either = former.keys().chain(self.guards.keys());
        let changed = either.filter(|key| former.get(key) != self.guards.get(key));
        let changed: BTreeSet<ServiceKey> = changed.copied().collect();
        for key in changed {
            if let Ok(id) = self.id_of(&key) {
                self.guard(now, id, self.guards.get(&key).cloned());
            }
        }
    }

    /// Services that were added since the last call are guarded from now on, which is to be called when their
    /// servers have been added: without them there is no quorum.
    pub fn guard_new(&mut self, now: Time) {
        for key in std::mem::take(&mut self.new_services) {
            if let (Some(guard), Ok(id)) = (self.guards.get(&key).cloned(), self.id_of(&key)) {
                self.guard(now, id, Some(guard));
            }
        }
    }

    fn guard(&mut self, now: Time, id: ServiceId, guard: Option<Guard>) {
        let former = self.services[id].guarded.take();
        let sorry = |guard: Option<&Guard>| guard.and_then(|guard| guard.sorry.clone());
        if sorry(former.as_ref().map(|former| &former.guard)) != sorry(guard.as_ref()) {
            self.dismiss(now, id);
        }
        self.services[id].guarded = guard.map(|guard| {
            Box::new(Guarded {
                guard,
                has_quorum: former.as_ref().and_then(|former| former.has_quorum),
                panic_since: former.as_ref().and_then(|former| former.panic_since),
            })
        });
        if former.is_some() && self.services[id].guarded.is_none() {
            self.let_go(now, id);
        }
        self.settle_failures(id);
        self.settle_guard(now, id);
    }

    /// A service that is guarded no longer: its servers are on their own.
    fn let_go(&mut self, now: Time, id: ServiceId) {
        let ids = self.services[id].servers.clone();
        let mut changed = self.believe(now, &ids, None);
        changed |= self.withhold(now, id, false);
        if changed {
            self.tell_scheduler(id);
        }
    }

    /// What has changed since the last call, in its order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// A server of this service may weigh something else now, or may have come or gone.
    pub(super) fn settle_guard(&mut self, now: Time, id: ServiceId) {
        if self.services[id].guarded.is_none() {
            return;
        }
        let mut changed = self.doubt(now, id);
        let stand_in = self.count_quorum(id);
        if stand_in.is_none() {
            // It goes before they return.
            self.dismiss(now, id);
        }
        changed |= self.withhold(now, id, stand_in.is_some());
        if changed {
            self.tell_scheduler(id);
        }
        if let Some(sorry) = stand_in
            && self.position_of(id, &sorry.key).is_none()
        {
            let service = self.services[id].spec.key;
            if let Err(error) = self.insert_server(now, &service, &sorry, Role::Sorry) {
                let reason = error.to_string();
                self.changes.push(Change::NoSorry { service, reason });
            }
        }
    }

    /// Whether the quorum is there. If not, the server that stands in, if there is one.
    fn count_quorum(&mut self, id: ServiceId) -> Option<ServerSpec> {
        let (weight, whole) = self.weights(&self.services[id]);
        let service = self.services[id].spec.key;
        let guarded = self.services[id].guarded.as_deref_mut()?;
        let had = guarded.has_quorum;
        let has = guarded.guard.has_quorum(had, weight, whole);
        guarded.has_quorum = Some(has);
        let quorum = guarded.guard.quorum;
        let sorry = guarded.guard.sorry.as_ref().map(|sorry| sorry.key);
        match (had, has) {
            (None | Some(true), false) => self.changes.push(Change::QuorumLost {
                service,
                weight,
                quorum,
                sorry,
            }),
            (Some(false), true) => self.changes.push(Change::QuorumGained {
                service,
                weight,
                quorum,
                sorry,
            }),
            _ => {}
        }
        guarded.guard.sorry.clone().filter(|_| !has)
    }

    /// Whether failures are believed. Whether a weight has changed.
    fn doubt(&mut self, now: Time, id: ServiceId) -> bool {
        let service = &mut self.services[id];
        let key = service.spec.key;
        let Some(guarded) = service.guarded.as_deref_mut() else {
            return false;
        };
        let ids = service.servers.clone();
        let Some(panic) = guarded.guard.panic else {
            guarded.panic_since = None;
            return self.believe(now, &ids, None);
        };
        let (mut all, mut failed_at) = (0, Vec::new());
        for &id in &ids {
            let server = &self.servers[id];
            all += usize::from(!server.is_sorry());
            failed_at.extend(server.failed_at());
        }
        match guarded.panic_since {
            None => {
                let failed = panic.at_once(&failed_at);
                if panic.too_many(failed, all) {
                    guarded.panic_since = failed_at.iter().max().copied();
                    let service = key;
                    self.changes.push(Change::Panic {
                        service,
                        failed,
                        all,
                    });
                }
            }
            Some(_) if !panic.too_many(failed_at.len(), all) => {
                guarded.panic_since = None;
                self.changes.push(Change::PanicOver(key));
            }
            Some(_) => {}
        }
        let since = guarded.panic_since;
        let doubtful = failed_at.iter().copied().filter(|&at| {
            // Those that failed together, and whatever fails from then on.
            since.is_some_and(|since| at + panic.within >= since)
        });
        let first = doubtful.min();
        self.believe(now, &ids, first)
    }

    /// Servers that failed from this time on count as if they had not.
    fn believe(&mut self, now: Time, ids: &[ServerId], doubt_from: Option<Time>) -> bool {
        let mut changed = false;
        for &id in ids {
            let kept = match (self.servers[id].failed_at(), doubt_from) {
                (Some(at), Some(from)) => at >= from,
                _ => false,
            };
            if self.servers[id].is_kept() != kept {
                self.servers[id].set_kept(kept);
                self.settle_failure(id);
                changed |= self.weigh_anew(now, id);
            }
        }
        changed
    }

    /// While the sorry server serves, the others get nothing. Whether a weight has changed.
    fn withhold(&mut self, now: Time, id: ServiceId, withheld: bool) -> bool {
        let mut changed = false;
        for at in 0..self.services[id].servers.len() {
            let id = self.services[id].servers[at];
            let server = &mut self.servers[id];
            if !server.is_sorry() && server.is_withheld() != withheld {
                server.set_withheld(withheld);
                changed |= self.weigh_anew(now, id);
            }
        }
        changed
    }

    /// What becomes of the connections of all servers that are down.
    pub(super) fn settle_failures(&mut self, id: ServiceId) {
        for at in 0..self.services[id].servers.len() {
            self.settle_failure(self.services[id].servers[at]);
        }
    }

    /// What becomes of the connections of a server that is down, where the service says that they are not to stay.
    pub(super) fn settle_failure(&mut self, id: ServerId) {
        let server = &mut self.servers[id];
        let service = &self.services[server.service];
        let gone = service.spec.beyond.server_gone;
        let ends = matches!(gone, Some(ServerGone::Reset | ServerGone::Reschedule));
        let guarded = service.guarded.as_ref();
        let key = server.spec().key;
        let stays = guarded.is_some_and(|guarded| guarded.guard.inhibited.contains(&key));
        if server.settle_failure(ends && !stays) {
            self.sweep_at = Some(0);
        }
    }

    pub(super) fn tell_scheduler(&mut self, id: ServiceId) {
        let service = &mut self.services[id];
        let pool = Pool::new(&service.servers, &self.servers);
        service.scheduler.updated(&pool);
    }

    /// Takes the sorry server away; its connections go on.
    pub(super) fn dismiss(&mut self, now: Time, id: ServiceId) {
        let sorry = |at: &ServerId| self.servers[*at].is_sorry();
        if let Some(position) = self.services[id].servers.iter().position(sorry) {
            self.take_out(now, id, position);
        }
    }

    fn weigh_anew(&mut self, now: Time, id: ServerId) -> bool {
        let before = self.servers[id].weight();
        self.servers[id].settle_weight();
        self.weigh(now, id);
        self.servers[id].weight() != before
    }

    /// Of the servers that are up, and of all.
    fn weights(&self, service: &Service) -> (u64, u64) {
        let servers = service.servers.iter();
        let servers = servers
            .map(|&id| &self.servers[id])
            .filter(|server| !server.is_sorry());
        servers.fold((0, 0), |(up, all), server| {
            let configured = u64::from(server.spec().weight.unsigned_abs());
            (
                up + u64::from(server.own_weight().unsigned_abs()),
                all + configured,
            )
        })
    }

    /// For listings.
    pub(super) fn guard_view(&self, service: &Service) -> Option<GuardView> {
        let guarded = service.guarded.as_ref()?;
        Some(GuardView {
            weight: self.weights(service).0,
            quorum: guarded.guard.quorum,
            has_quorum: guarded.has_quorum != Some(false),
            panic: guarded.panic_since.is_some(),
        })
    }
}
