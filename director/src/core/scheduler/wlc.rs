//! Weighted least-connection (`ip_vs_wlc.c`): the server with the least overhead for its weight.

use super::least::{self, overhead};
use super::{Opening, Pool, Scheduler};

/// See the [module](self). It keeps nothing.
#[derive(Debug, Default)]
pub(super) struct WeightedLeastConnection;

impl Scheduler for WeightedLeastConnection {
    fn shares_by_weight(&self) -> bool {
        true
    }

    fn pick(&mut self, pool: &Pool<'_>, _opening: &mut Opening<'_>) -> Option<usize> {
        least::weighted(pool, overhead)
    }
}
