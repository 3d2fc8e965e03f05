//! The power of two choices (`ip_vs_twos.c`): two servers are drawn by weight, and the one with the less
//! overhead for its weight is taken.

use super::least::{is_cheaper, overhead};
use super::{Opening, Pool, Scheduler};
use crate::core::server::Server;

/// See the [module](self). It keeps nothing.
#[derive(Debug, Default)]
pub(super) struct PowerOfTwoChoices;

impl Scheduler for PowerOfTwoChoices {
    fn shares_by_weight(&self) -> bool {
        true
    }

    fn pick(&mut self, pool: &Pool<'_>, opening: &mut Opening<'_>) -> Option<usize> {
        let weights = usable(pool).map(|(_, server)| weight(server));
        let total: u64 = weights.sum();
        let mut draw = || drawn(pool, opening.random.up_to(total));
        let (first, second) = (draw()?, draw()?);
        let chosen = if is_cheaper(second.1, first.1, overhead) {
            second
        } else {
            first
        };
        Some(chosen.0)
    }
}

/// The server at which the weights, summed up in the order of the list, reach the lot.
fn drawn<'a>(pool: &Pool<'a>, lot: u64) -> Option<(usize, &'a Server)> {
    let mut sum = 0;
    usable(pool).find(|(_, server)| {
        sum += weight(server);
        sum >= lot
    })
}

fn usable<'a>(pool: &Pool<'a>) -> impl Iterator<Item = (usize, &'a Server)> {
    pool.iter().filter(|(_, server)| server.is_usable())
}

fn weight(server: &Server) -> u64 {
    u64::from(server.weight().unsigned_abs())
}
