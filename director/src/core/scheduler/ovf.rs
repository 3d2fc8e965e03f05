//! Weighted overflow (`ip_vs_ovf.c`): the server with the greatest weight, until it has more active
//! connections than its weight; then the next. UDP is never active, so it never overflows.

use super::fo::heaviest;
use super::{Opening, Pool, Scheduler};

/// See the [module](self). It keeps nothing.
#[derive(Debug, Default)]
pub(super) struct OverFlow;

impl Scheduler for OverFlow {
    fn pick(&mut self, pool: &Pool<'_>, _opening: &mut Opening<'_>) -> Option<usize> {
        heaviest(pool.iter().filter(|(_, server)| {
            server.is_usable() && server.active() <= server.weight().unsigned_abs()
        }))
    }
}
