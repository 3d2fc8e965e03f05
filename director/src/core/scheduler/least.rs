//! The least of the servers by cost and weight, which most schedulers look for.

use super::Pool;
use crate::core::server::Server;

/// An active connection is as much as 256 inactive ones, and counts among all of them besides.
pub(super) fn overhead(server: &Server) -> u128 {
    (u128::from(server.active()) << 8) + u128::from(server.total())
}

/// What `sed` and `nq` look at: the connections that would be active with one more.
pub(super) fn expected_delay(server: &Server) -> u128 {
    u128::from(server.active()) + 1
}

/// The usable server with the least cost for its weight; of equals the first in the list.
pub(super) fn weighted(pool: &Pool<'_>, cost: fn(&Server) -> u128) -> Option<usize> {
    let usable = pool.iter().filter(|(_, server)| server.is_usable());
    let least = usable.reduce(|least, other| {
        if is_cheaper(other.1, least.1, cost) {
            other
        } else {
            least
        }
    });
    least.map(|(position, _)| position)
}

/// Whether the cost of `one` for its weight is below that of `other`: compared without dividing.
pub(super) fn is_cheaper(one: &Server, other: &Server, cost: fn(&Server) -> u128) -> bool {
    cost(other) * weight(one) > cost(one) * weight(other)
}

fn weight(server: &Server) -> u128 {
    u128::from(server.weight().unsigned_abs())
}
