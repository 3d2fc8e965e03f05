//! No scheduler (`none`, which only netlink and the configuration can say): nobody gets anything. Its
//! service refuses new connections until it is given one.

use super::{Opening, Pool, Scheduler};

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Nobody;

impl Scheduler for Nobody {
    fn pick(&mut self, _pool: &Pool<'_>, _opening: &mut Opening<'_>) -> Option<usize> {
        None
    }
}
