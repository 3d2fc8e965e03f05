//! Slow start: the share of a new real server rises to its weight, so that it can fill its caches.

use std::time::Duration;

use shared::time::Time;

use super::Balancer;
use crate::core::scheduler::Pool;
use crate::core::server::{Server, ServerId};
use crate::core::service::ServiceId;

impl Balancer {
    /// A server was added, edited or brought back, or its service edited: what its weight is worth now.
    pub(super) fn weigh(&mut self, now: Time, id: ServerId) {
        let server = &mut self.servers[id];
        let slow_start = self.services[server.service].spec.beyond.slow_start_secs;
        if server.full_weight() == 0 || slow_start == 0 {
            server.started = None;
        } else if server.started.is_none() {
            server.started = Some(now);
        }
        if server.weigh(now, slow_start) {
            self.warm_at.get_or_insert(now + STEP);
        }
    }

    /// When [`warm_up`](Self::warm_up) is to be called next.
    pub(super) fn warm_at(&self) -> Option<Time> {
        self.warm_at
    }

    /// Weighs all servers anew that have not reached their weight.
    pub(super) fn warm_up(&mut self, now: Time) {
        if self.warm_at.is_none_or(|at| at > now) {
            return;
        }
        self.warm_at = None;
        let slow = |id: &&ServiceId| self.services[**id].spec.beyond.slow_start_secs > 0;
        let ids: Vec<ServiceId> = self.by_key.values().filter(slow).copied().collect();
        for id in ids {
            let service = &mut self.services[id];
            let slow_start = service.spec.beyond.slow_start_secs;
            let (mut changed, mut warming) = (false, false);
            for &server in &service.servers {
                let server = &mut self.servers[server];
                let before = server.weight();
                warming |= server.weigh(now, slow_start);
                changed |= server.weight() != before;
            }
            if changed {
                let pool = Pool::new(&service.servers, &self.servers);
                service.scheduler.updated(&pool);
            }
            if warming {
                self.warm_at = Some(now + STEP);
            }
        }
    }
}

impl Server {
    /// Sets the present weight. Whether it is still to rise.
    fn weigh(&mut self, now: Time, slow_start_secs: u32) -> bool {
        let full = i64::from(self.full_weight());
        let Some(started) = self.started.filter(|_| slow_start_secs > 0) else {
            self.set_weight(self.full_weight());
            return false;
        };
        let took = i64::try_from(now.since(started).as_millis()).unwrap_or(i64::MAX);
        let whole = i64::from(slow_start_secs) * 1000;
        let share = full * SCALE * took.min(whole) / whole;
        let present = share.max(1).min(i64::from(i32::MAX));
        self.set_weight(present as i32);
        took < whole
    }
}

/// Between two steps.
const STEP: Duration = Duration::from_secs(1);
/// All weights of a service with slow start count so many times, or a weight of 1 could not rise.
const SCALE: i64 = 10;
