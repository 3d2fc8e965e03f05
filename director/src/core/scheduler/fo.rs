//! Weighted fail-over (`ip_vs_fo.c`): the server with the greatest weight takes everything.

use super::{Opening, Pool, Scheduler};
use crate::core::server::Server;

/// See the [module](self). It keeps nothing.
#[derive(Debug, Default)]
pub(super) struct FailOver;

impl Scheduler for FailOver {
    fn pick(&mut self, pool: &Pool<'_>, _opening: &mut Opening<'_>) -> Option<usize> {
        heaviest(pool.iter().filter(|(_, server)| server.is_usable()))
    }
}

/// The position of the greatest weight; of equals the first.
pub(super) fn heaviest<'a>(servers: impl Iterator<Item = (usize, &'a Server)>) -> Option<usize> {
    let heaviest = servers.reduce(|heaviest, other| {
        if other.1.weight() > heaviest.1.weight() {
            other
        } else {
            heaviest
        }
    });
    heaviest.map(|(position, _)| position)
}
