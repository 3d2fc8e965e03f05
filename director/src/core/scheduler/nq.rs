//! Never queue (`ip_vs_nq.c`): the first idle server, whatever its weight; when none is idle as `sed`.

use super::least::{self, expected_delay};
use super::{Opening, Pool, Scheduler};

/// See the [module](self). It keeps nothing.
#[derive(Debug, Default)]
pub(super) struct NeverQueue;

impl Scheduler for NeverQueue {
    fn shares_by_weight(&self) -> bool {
        true
    }

    fn pick(&mut self, pool: &Pool<'_>, _opening: &mut Opening<'_>) -> Option<usize> {
        pool.iter()
            .find(|(_, server)| server.is_usable() && server.active() == 0)
            .map(|(position, _)| position)
            .or_else(|| least::weighted(pool, expected_delay))
    }
}
