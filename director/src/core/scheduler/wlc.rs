//! Weighted least-connection (`ip_vs_wlc.c`): the server with the least overhead for its weight. An
//! active connection is as much as 256 inactive ones, and counts among all of them besides.

use shared::addr::FlowKey;

use super::{Pool, Scheduler};
use crate::core::server::Server;

/// See the [module](self). It keeps nothing.
#[derive(Debug, Default)]
pub(super) struct WeightedLeastConnection;

impl Scheduler for WeightedLeastConnection {
    fn pick(&mut self, pool: &Pool<'_>, _flow: &FlowKey) -> Option<usize> {
        pool.iter()
            .filter(|(_, server)| server.is_usable())
            .reduce(|least, other| {
                // overhead / weight compared without dividing; the first of equals stays.
                if overhead(least.1) * weight(other.1) > overhead(other.1) * weight(least.1) {
                    other
                } else {
                    least
                }
            })
            .map(|(position, _)| position)
    }
}

fn overhead(server: &Server) -> u128 {
    (u128::from(server.active()) << 8) + u128::from(server.total())
}

fn weight(server: &Server) -> u128 {
    u128::from(server.weight().unsigned_abs())
}
