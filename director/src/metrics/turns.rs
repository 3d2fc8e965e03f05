//! How the loop does: how many turns, how long they take, and which was the longest of late.

use std::time::Duration;

use prometheus::proto::{Bucket, Histogram};
use shared::time::Time;

/// See the [module](self). A turn is all that is done between two waits.
#[derive(Debug, Clone, Default)]
pub struct Turns {
    /// By the bounds; the last is for those that are longer than all.
    counts: [u64; BOUNDS.len() + 1],
    busy: Duration,
    longest: Duration,
    /// Of the minute before.
    before: Duration,
    /// When that minute ends.
    minute: Time,
}

impl Turns {
    /// Counts a turn that ended `now`.
    pub fn count(&mut self, now: Time, took: Duration) {
        let place = BOUNDS.iter().position(|&bound| took <= bound);
        self.counts[place.unwrap_or(BOUNDS.len())] += 1;
        self.busy += took;
        if now >= self.minute {
            let fresh = now.since(self.minute) < MINUTE;
            self.before = if fresh { self.longest } else { Duration::ZERO };
            self.longest = Duration::ZERO;
            self.minute = now + MINUTE;
        }
        self.longest = self.longest.max(took);
    }

    /// The longest turn of the last one to two minutes.
    pub fn longest(&self) -> Duration {
        self.longest.max(self.before)
    }

    pub(super) fn histogram(&self) -> Histogram {
        let mut sum = 0;
        let buckets = BOUNDS.iter().zip(&self.counts).map(|(bound, count)| {
            sum += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound.as_secs_f64());
            bucket.set_cumulative_count(sum);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(self.counts.iter().sum());
        histogram.set_sample_sum(self.busy.as_secs_f64());
        histogram
    }
}

/// A packet of a full batch waits through one of the first, and a client notices one of the last.
const BOUNDS: [Duration; 7] = [
    Duration::from_micros(10),
    Duration::from_micros(100),
    Duration::from_micros(300),
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(10),
    Duration::from_millis(100),
];
const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_counted_by_how_long_they_take() {
        let mut turns = Turns::default();
        for micros in [5, 10, 50, 2_000, 500_000] {
            turns.count(Time::from_secs(1), Duration::from_micros(micros));
        }
        let histogram = turns.histogram();
        let counts = histogram.get_bucket().iter();
        let counts: Vec<u64> = counts.map(Bucket::cumulative_count).collect();
        assert_eq!(counts, [2, 3, 3, 3, 4, 4, 4]);
        assert_eq!(histogram.get_sample_count(), 5);
        assert!((histogram.get_sample_sum() - 0.502_065).abs() < 1e-9);
    }

    #[test]
    fn the_longest_is_forgotten_after_two_minutes() {
        let mut turns = Turns::default();
        let long = Duration::from_millis(7);
        let short = Duration::from_micros(3);
        turns.count(Time::from_secs(100), long);
        turns.count(Time::from_secs(159), short);
        assert_eq!(turns.longest(), long);
        turns.count(Time::from_secs(161), short);
        assert_eq!(turns.longest(), long);
        turns.count(Time::from_secs(222), short);
        assert_eq!(turns.longest(), short);
        turns.count(Time::from_secs(223), long);
        // Nothing for a long time.
        turns.count(Time::from_secs(1000), short);
        assert_eq!(turns.longest(), short);
    }
}
