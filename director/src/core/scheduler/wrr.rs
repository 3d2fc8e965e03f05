//! Weighted round robin (`ip_vs_wrr.c`): rounds at falling levels of weight, each taking the servers
//! whose weight reaches the level. The levels go from the greatest weight down in steps of the
//! weights' greatest common divisor.

use super::{Opening, Pool, Scheduler};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct WeightedRoundRobin {
    /// The last one picked; none is the place before the first.
    last: Option<usize>,
    level: i32,
    /// Greatest level: one step above 0 is the least.
    greatest: i32,
    step: i32,
}

impl Default for WeightedRoundRobin {
    fn default() -> WeightedRoundRobin {
        WeightedRoundRobin {
            last: None,
            level: 0,
            greatest: 0,
            step: 1,
        }
    }
}

impl Scheduler for WeightedRoundRobin {
    fn init(&mut self, pool: &Pool<'_>) {
        self.measure(pool);
        self.level = self.greatest;
    }

    fn added(&mut self, pool: &Pool<'_>) {
        self.changed(pool);
    }

    fn deleted(&mut self, pool: &Pool<'_>, _position: usize) {
        self.changed(pool);
    }

    fn updated(&mut self, pool: &Pool<'_>) {
        self.changed(pool);
    }

    fn shares_by_weight(&self) -> bool {
        true
    }

    fn pick(&mut self, pool: &Pool<'_>, _opening: &mut Opening<'_>) -> Option<usize> {
        if self.greatest == 0 {
            return None;
        }
        let began = self.last;
        let mut next = began.map_or(0, |last| last + 1);
        // When to give up: the lowest level takes every server with a weight, so once it has been
        // tried with all of them the rest is overloaded.
        let mut lowest_from_first = false;
        let mut restarted = false;
        loop {
            for (position, server) in pool.from(next) {
                if server.weight() >= self.level && !server.is_overloaded() {
                    self.last = Some(position);
                    return self.last;
                }
                // The lowest level was tried with those behind `began` before the restart.
                if lowest_from_first && restarted && Some(position) == began {
                    self.last = began;
                    return None;
                }
            }
            self.last = None;
            next = 0;
            self.level = self.next_level(pool);
            if self.level <= 0 {
                self.level = self.greatest;
                if lowest_from_first || began.is_none() {
                    return None;
                }
                restarted = true;
            }
            lowest_from_first = self.level <= self.step;
        }
    }
}

impl WeightedRoundRobin {
    fn changed(&mut self, pool: &Pool<'_>) {
        self.last = None;
        self.measure(pool);
        if self.level > self.greatest || self.level == 0 {
            self.level = self.greatest;
        } else if self.step > 1 {
            self.level = self.level / self.step * self.step + 1;
        }
    }

    /// One step down, and on to where a server can be taken, or to the lowest level: weights go up to
    /// 2^31 - 1, and when the heavy servers are overloaded so many levels have nothing for anybody.
    fn next_level(&self, pool: &Pool<'_>) -> i32 {
        let level = self.level - self.step;
        let free = pool.iter().filter(|(_, server)| !server.is_overloaded());
        let heaviest = free.map(|(_, server)| server.weight()).max().unwrap_or(0);
        let reached = heaviest.max(self.step);
        if level <= reached {
            return level;
        }
        let steps = (level - reached - 1) / self.step + 1;
        level - steps * self.step
    }

    fn measure(&mut self, pool: &Pool<'_>) {
        let weights = || pool.iter().map(|(_, server)| server.weight());
        self.step = weights().filter(|&weight| weight > 0).fold(0, gcd).max(1);
        self.greatest = weights().max().unwrap_or(0) - (self.step - 1);
    }
}

fn gcd(a: i32, b: i32) -> i32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
