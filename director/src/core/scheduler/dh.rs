//! Destination hashing (`ip_vs_dh.c`): the address that the packet is for decides, which makes sense where
//! a service has many. Weights matter only as 0 or not, and there is no second choice.

use super::hash_table::{HashTable, bucket};
use super::{Opening, Pool, Scheduler};

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct DestinationHashing {
    table: HashTable,
}

impl Scheduler for DestinationHashing {
    fn init(&mut self, pool: &Pool<'_>) {
        self.table.fill(pool, |_| 1);
    }

    fn added(&mut self, pool: &Pool<'_>) {
        self.table.fill(pool, |_| 1);
    }

    fn deleted(&mut self, pool: &Pool<'_>, _position: usize) {
        self.table.fill(pool, |_| 1);
    }

    fn pick(&mut self, pool: &Pool<'_>, opening: &mut Opening<'_>) -> Option<usize> {
        let (position, server) = self.table.get(pool, bucket(opening.flow.destination, 0))?;
        server.is_usable().then_some(position)
    }
}
