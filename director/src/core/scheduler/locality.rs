//! What `lblc` and `lblcr` have in common: the memory of destinations, and when a server counts as
//! overloaded for them.
//!
//! The kernel collects garbage by a timer. Here it is collected when a connection comes and its time is
//! due, which nobody can tell from outside: without connections nothing is remembered or asked.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::addr::Addr;
use shared::time::Time;

use super::Pool;
use crate::core::server::Server;

/// What is remembered of each destination.
#[derive(Debug)]
pub(super) struct Memory<T> {
    entries: BTreeMap<Addr, Remembered<T>>,
    collect_at: Option<Time>,
    /// Collections since the last full one.
    collections: u32,
    /// Where a partial collection goes on.
    rover: Addr,
}

#[derive(Debug)]
struct Remembered<T> {
    value: T,
    last_use: Time,
}

impl<T> Default for Memory<T> {
    fn default() -> Memory<T> {
        Memory {
            entries: BTreeMap::new(),
            collect_at: None,
            collections: 0,
            rover: Addr::UNSPECIFIED_V4,
        }
    }
}

impl<T> Memory<T> {
    /// What is remembered of a destination that is used now.
    pub(super) fn recall(&mut self, destination: Addr, now: Time) -> Option<&mut T> {
        let entry = self.entries.get_mut(&destination)?;
        entry.last_use = now;
        Some(&mut entry.value)
    }

    /// Remembers a destination, unless the memory is full by far.
    pub(super) fn remember(&mut self, destination: Addr, now: Time, value: T) {
        let known = self.entries.contains_key(&destination);
        if known || self.entries.len() < MOST_ENTRIES * 3 / 2 {
            let last_use = now;
            let entry = Remembered { value, last_use };
            self.entries.insert(destination, entry);
        }
    }

    /// Forgets idle destinations, if it is time.
    pub(super) fn collect(&mut self, now: Time, expiration: Duration) {
        let at = *self.collect_at.get_or_insert(now + COLLECT_EVERY);
        if now < at {
            return;
        }
        let missed = now.since(at).as_secs() / COLLECT_EVERY.as_secs();
        self.collect_at = Some(at + COLLECT_EVERY * (missed as u32 + 1));
        self.collections = self.collections.saturating_add(missed as u32 + 1);
        if self.collections >= FULL_EVERY {
            self.collections = 0;
            self.entries
                .retain(|_, entry| now.since(entry.last_use) <= expiration);
        } else {
            self.collect_some(now);
        }
    }

    /// A memory that is too large loses a third more than is too much, as far as it is idle.
    fn collect_some(&mut self, now: Time) {
        let excess = self.entries.len().saturating_sub(MOST_ENTRIES);
        let goal = (excess * 4 / 3).min(MOST_ENTRIES / 2);
        let (before, behind) = (
            self.entries.range(..self.rover),
            self.entries.range(self.rover..),
        );
        let idle: Vec<Addr> = behind
            .chain(before)
            .filter(|(_, entry)| now.since(entry.last_use) >= IDLE)
            .map(|(destination, _)| *destination)
            .take(goal)
            .collect();
        for destination in idle {
            self.entries.remove(&destination);
            self.rover = destination;
        }
    }
}

/// Whether a server has more active connections than its weight while another has less than half of its
/// own.
pub(super) fn is_overloaded(pool: &Pool<'_>, server: &Server) -> bool {
    let active = |server: &Server| u64::from(server.active());
    let weight = |server: &Server| u64::from(server.weight().unsigned_abs());
    active(server) > weight(server)
        && pool
            .iter()
            .any(|(_, other)| active(other) * 2 < weight(other))
}

const COLLECT_EVERY: Duration = Duration::from_secs(60);
/// Every thirtieth collection looks at everything.
const FULL_EVERY: u32 = 30;
/// `CONFIG_IP_VS_LBLC_TAB_BITS` is 10, with 16 entries a bucket.
const MOST_ENTRIES: usize = 16384;
/// Of what a partial collection takes.
const IDLE: Duration = Duration::from_secs(6 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> Addr {
        Addr::from_v4_bytes((number as u32).to_be_bytes())
    }

    #[test]
    fn idle_entries_go_by_and_by() {
        let mut memory = Memory::default();
        let second = Time::from_secs;
        let day = Duration::from_secs(86400);
        for number in 0..MOST_ENTRIES * 2 {
            memory.collect(second(0), day);
            memory.remember(address(number), second(0), ());
        }
        assert_eq!(memory.entries.len(), MOST_ENTRIES * 3 / 2);
        assert!(memory.recall(address(0), second(300)).is_some());
        memory.collect(second(300), day);
        assert_eq!(
            memory.entries.len(),
            MOST_ENTRIES * 3 / 2,
            "none is idle yet"
        );
        memory.collect(second(360), day);
        assert_eq!(
            memory.entries.len(),
            MOST_ENTRIES * 3 / 2 - MOST_ENTRIES / 2
        );
        assert!(memory.recall(address(0), second(360)).is_some());
        memory.collect(second(100_000), day);
        assert_eq!(memory.entries.len(), 0);
    }
}
