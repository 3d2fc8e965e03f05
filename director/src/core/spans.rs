//! How many took how long: counts by bounds, and the sum.

use std::time::Duration;

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spans {
    bounds: &'static [Duration],
    /// The last is for those that took longer than all bounds.
    counts: Vec<u64>,
    sum: Duration,
}

impl Spans {
    /// None yet. The bounds rise.
    pub fn new(bounds: &'static [Duration]) -> Spans {
        Spans {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: Duration::ZERO,
        }
    }

    /// One more.
    pub fn count(&mut self, took: Duration) {
        let place = self.bounds.iter().position(|&bound| took <= bound);
        self.counts[place.unwrap_or(self.bounds.len())] += 1;
        self.sum = self.sum.saturating_add(took);
    }

    /// How many took no longer than each of the bounds.
    pub fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> {
        let mut sum = 0;
        self.bounds
            .iter()
            .zip(&self.counts)
            .map(move |(&bound, count)| {
                sum += count;
                (bound, sum)
            })
    }

    /// How many there were.
    pub fn number(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long they took together.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}
