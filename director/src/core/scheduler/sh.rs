//! Source hashing (`ip_vs_sh.c`): the client's address decides. Each server has as many buckets in turn as
//! its weight; one of weight 0 has one too, and refuses.

use super::hash_table::{BUCKETS, HashTable, bucket};
use super::{Opening, Pool, Scheduler};
use crate::core::operation::SchedulerFlags;
use crate::core::server::Server;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct SourceHashing {
    table: HashTable,
}

impl Scheduler for SourceHashing {
    fn init(&mut self, pool: &Pool<'_>) {
        self.table.fill(pool, turns);
    }

    fn added(&mut self, pool: &Pool<'_>) {
        self.table.fill(pool, turns);
    }

    fn deleted(&mut self, pool: &Pool<'_>, _position: usize) {
        self.table.fill(pool, turns);
    }

    fn updated(&mut self, pool: &Pool<'_>) {
        self.table.fill(pool, turns);
    }

    fn pick(&mut self, pool: &Pool<'_>, opening: &mut Opening<'_>) -> Option<usize> {
        let has = |flag| opening.flags.0 & flag != 0;
        let port = if has(SchedulerFlags::FLAG_2) {
            opening.flow.source_port
        } else {
            0
        };
        let own = bucket(opening.flow.source, port);
        let (position, server) = self.table.get(pool, own)?;
        if server.is_usable() {
            return Some(position);
        }
        if !has(SchedulerFlags::FLAG_1) {
            return None;
        }
        // The kernel adds the client's bucket twice, so its search does not begin where it just failed.
        (0..BUCKETS as u32)
            .map(|offset| (offset + own) % BUCKETS as u32 + own)
            .filter_map(|bucket| self.table.get(pool, bucket))
            .find(|(_, server)| server.is_usable())
            .map(|(position, _)| position)
    }
}

fn turns(server: &Server) -> usize {
    server.weight().unsigned_abs() as usize
}
