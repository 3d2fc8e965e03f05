//! The trash that removed real servers wait in (`ip_vs_ctl.c`).

use std::time::Duration;

use shared::time::Time;

use super::server::ServerId;

/// Removed servers. They wait until they have no connections and have been idle for two minutes, so
/// that one that is added again comes back with its connections and counters.
#[derive(Debug, Default)]
pub struct Trash {
    waiting: Vec<(ServerId, Option<Time>)>,
    sweep_at: Option<Time>,
}

impl Trash {
    /// Puts a removed server in.
    pub fn put(&mut self, now: Time, id: ServerId) {
        self.waiting.push((id, None));
        self.sweep_at.get_or_insert(now + IDLE / 2);
    }

    /// Takes out the first server that `is_it` accepts, newest first.
    pub fn take(&mut self, is_it: impl Fn(ServerId) -> bool) -> Option<ServerId> {
        let at = self.waiting.iter().rposition(|&(id, _)| is_it(id))?;
        Some(self.waiting.remove(at).0)
    }

    /// Takes out the servers that have been idle long enough. `is_idle` tells which have no
    /// connections.
    pub fn sweep(&mut self, now: Time, is_idle: impl Fn(ServerId) -> bool) -> Vec<ServerId> {
        if self.sweep_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let mut ended = Vec::new();
        self.waiting.retain_mut(|(id, idle_since)| {
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
    use super::*;

    #[test]
    fn the_trash_is_swept_every_minute_and_keeps_for_two() {
        let mut trash = Trash::default();
        let second = Time::from_secs;
        trash.put(second(0), ServerId(1));
        trash.put(second(30), ServerId(2));
        let busy = |id| id != ServerId(2);
        assert_eq!(trash.poll_at(), Some(second(60)));
        assert_eq!(trash.sweep(second(60), |_| true), []);
        assert_eq!(trash.sweep(second(120), busy), []);
        assert_eq!(trash.sweep(second(180), busy), [ServerId(1)]);
        assert_eq!(trash.take(|id| id == ServerId(2)), Some(ServerId(2)));
        assert_eq!(trash.sweep(second(240), |_| true), []);
        assert_eq!(trash.poll_at(), None);
    }
}
