//! Shortest expected delay (`ip_vs_sed.c`): the least active connections for the weight, counting the one
//! to come. Inactive ones do not matter.

use super::least::{self, expected_delay};
use super::{Opening, Pool, Scheduler};

/// See the [module](self). It keeps nothing.
#[derive(Debug, Default)]
pub(super) struct ShortestExpectedDelay;

impl Scheduler for ShortestExpectedDelay {
    fn shares_by_weight(&self) -> bool {
        true
    }

    fn pick(&mut self, pool: &Pool<'_>, _opening: &mut Opening<'_>) -> Option<usize> {
        least::weighted(pool, expected_delay)
    }
}
