//! Round robin (`ip_vs_rr.c`): one server after the other. Weights matter only as 0 or not.

use super::{Opening, Pool, Scheduler};

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    /// The last one picked; none is the place before the first.
    last: Option<usize>,
}

impl Scheduler for RoundRobin {
    fn added(&mut self, _pool: &Pool<'_>) {
        self.last = self.last.map(|last| last + 1);
    }

    fn deleted(&mut self, _pool: &Pool<'_>, position: usize) {
        // The one before takes the place of a last one that went.
        if self.last >= Some(position) {
            self.last = self.last.and_then(|last| last.checked_sub(1));
        }
    }

    fn pick(&mut self, pool: &Pool<'_>, _opening: &mut Opening<'_>) -> Option<usize> {
        let next = self.last.map_or(0, |last| last + 1);
        let (picked, _) = pool
            .from(next)
            .chain(pool.iter().take(next))
            .find(|(_, server)| server.is_usable())?;
        self.last = Some(picked);
        Some(picked)
    }
}
