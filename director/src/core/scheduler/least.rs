//! The least of the servers by cost and weight, which most schedulers look for.

use super::Pool;
use crate::core::server::Server;

/// An active connection is as much as 256 inactive ones, and counts among all of them besides.
#[inline]
pub(super) fn overhead(server: &Server) -> u64 {
    (u64::from(server.active()) << 8) + u64::from(server.total())
}

/// What `sed` and `nq` look at: the connections that would be active with one more.
#[inline]
pub(super) fn expected_delay(server: &Server) -> u64 {
    u64::from(server.active()) + 1
}

/// The usable server with the least cost for its weight; of equals the first in the list.
#[inline]
pub(super) fn weighted(pool: &Pool<'_>, cost: impl Fn(&Server) -> u64) -> Option<usize> {
    // Heavier than any server can be.
    let mut least = Load { cost: 1, weight: 0 };
    let mut found = None;
    for (position, server) in pool.iter() {
        let load = Load::of(server, &cost);
        if load.is_below(least) && server.is_usable() {
            (least, found) = (load, Some(position));
        }
    }
    found
}

/// Whether the cost of `one` for its weight is below that of `other`.
pub(super) fn is_cheaper(one: &Server, other: &Server, cost: impl Fn(&Server) -> u64) -> bool {
    Load::of(one, &cost).is_below(Load::of(other, &cost))
}

#[derive(Debug, Clone, Copy)]
struct Load {
    cost: u64,
    weight: u64,
}

impl Load {
    #[inline]
    fn of(server: &Server, cost: impl Fn(&Server) -> u64) -> Load {
        Load {
            cost: cost(server),
            weight: u64::from(server.weight().unsigned_abs()),
        }
    }

    /// Compared without dividing. 41 bits times 31 may be more than 64.
    #[inline]
    fn is_below(self, other: Load) -> bool {
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        product(other.cost, self.weight) > product(self.cost, other.weight)
    }
}
