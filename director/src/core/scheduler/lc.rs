//! Least-connection (`ip_vs_lc.c`): the server with the least overhead. Weights matter only as 0 or not.

use super::least::overhead;
use super::{Opening, Pool, Scheduler};

/// See the [module](self). It keeps nothing.
#[derive(Debug, Default)]
pub(super) struct LeastConnection;

impl Scheduler for LeastConnection {
    fn pick(&mut self, pool: &Pool<'_>, _opening: &mut Opening<'_>) -> Option<usize> {
        let usable = pool.iter().filter(|(_, server)| server.is_usable());
        // Of equals the first.
        let least = usable.min_by_key(|(_, server)| overhead(server));
        least.map(|(position, _)| position)
    }
}
