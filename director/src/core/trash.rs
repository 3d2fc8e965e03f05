//! The trash that removed real servers wait in (`ip_vs_ctl.c`).

use std::collections::BTreeMap;
use std::time::Duration;

use shared::time::Time;

use super::operation::{ServerKey, ServiceKey};
use super::server::ServerId;

/// Removed servers. They wait until they have no connections and have been idle for two minutes, so
/// that one that is added again comes back with its connections and counters.
#[derive(Debug, Default)]
pub struct Trash {
    /// Each by its name: who is added again is taken out, so there is one of each name.
    waiting: BTreeMap<(ServiceKey, ServerKey), (ServerId, Option<Time>)>,
    sweep_at: Option<Time>,
}

impl Trash {
    /// Puts a removed server in.
    pub fn put(&mut self, now: Time, service: ServiceKey, server: ServerKey, id: ServerId) {
        self.waiting.insert((service, server), (id, None));
        self.sweep_at.get_or_insert(now + IDLE / 2);
    }

    /// Takes out the server of this name, if it waits for the service of this name.
    pub fn take(&mut self, service: ServiceKey, server: ServerKey) -> Option<ServerId> {
        let (id, _) = self.waiting.remove(&(service, server))?;
        Some(id)
    }

    /// Takes out the servers that have been idle long enough. `is_idle` tells which have no
    /// connections.
    pub fn sweep(&mut self, now: Time, is_idle: impl Fn(ServerId) -> bool) -> Vec<ServerId> {
        if self.sweep_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let mut ended = Vec::new();
        self.waiting.retain(|_, (id, idle_since)| {
            if !is_idle(*id) {
                return true;
            }
            let keep = now < *idle_since.get_or_insert(now) + IDLE;
            if !keep {
                ended.push(*id);
            }
            keep
        });
        self.sweep_at = (!self.waiting.is_empty()).then(|| now + IDLE / 2);
        ended
    }

    /// When to sweep next.
    pub fn poll_at(&self) -> Option<Time> {
        self.sweep_at
    }
}

/// How long a removed server keeps its counters when nobody needs it.
const IDLE: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use shared::addr::Protocol;

    use super::*;

    #[test]
    fn the_trash_is_swept_every_minute_and_keeps_for_two() {
        let mut trash = Trash::default();
        let second = Time::from_secs;
        let service = ServiceKey::new(Protocol::TCP, [10, 0, 0, 100], 80);
        let [first, other] = [1, 2].map(|host| ServerKey {
            address: [10, 1, 0, host].into(),
            port: 80,
        });
        trash.put(second(0), service, first, ServerId(1));
        trash.put(second(30), service, other, ServerId(2));
        let busy = |id| id != ServerId(2);
        assert_eq!(trash.poll_at(), Some(second(60)));
        assert_eq!(trash.sweep(second(60), |_| true), []);
        assert_eq!(trash.sweep(second(120), busy), []);
        assert_eq!(trash.sweep(second(180), busy), [ServerId(1)]);
        assert_eq!(trash.take(service, other), Some(ServerId(2)));
        assert_eq!(trash.sweep(second(240), |_| true), []);
        assert_eq!(trash.poll_at(), None);
    }
}
