//! Locality-based least-connection (`ip_vs_lblc.c`), for caches: all connections to one destination go to
//! the server that had it last, unless that one has too much to do.

use super::least::{self, overhead};
use super::locality::{Memory, is_overloaded};
use super::{Opening, Pool, Scheduler};
use crate::core::operation::ServerKey;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct LocalityBased {
    /// By name: a server that was removed and added again is the same.
    memory: Memory<ServerKey>,
}

impl Scheduler for LocalityBased {
    fn pick(&mut self, pool: &Pool<'_>, opening: &mut Opening<'_>) -> Option<usize> {
        let (destination, now) = (opening.flow.destination, opening.now);
        self.memory.collect(now, opening.expiration.lblc);
        // Its upper threshold does not matter to the server that is remembered.
        let remembered = self.memory.recall(destination, now);
        if let Some((position, server)) = remembered.and_then(|key| pool.find(key))
            && server.weight() > 0
            && !is_overloaded(pool, server)
        {
            return Some(position);
        }
        let position = least::weighted(pool, overhead)?;
        let key = pool.get(position)?.spec().key;
        self.memory.remember(destination, now, key);
        Some(position)
    }
}
