//! How the loop does: how many turns, how long they take, and which was the longest of late.

use std::time::Duration;

use shared::time::Time;

use crate::core::spans::Spans;

/// See the [module](self). A turn is all that is done between two waits.
#[derive(Debug, Clone)]
pub struct Turns {
    spans: Spans,
    longest: Duration,
    /// Of the minute before.
    before: Duration,
    /// When that minute ends.
    minute: Time,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns {
            spans: Spans::new(&BOUNDS),
            longest: Duration::ZERO,
            before: Duration::ZERO,
            minute: Time::ZERO,
        }
    }
}

impl Turns {
    /// Counts a turn that ended `now`.
    pub fn count(&mut self, now: Time, took: Duration) {
        self.spans.count(took);
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

    pub(super) fn spans(&self) -> &Spans {
        &self.spans
    }
}

/// A packet of a full batch waits through one of the first, and a client notices one of the last.
const BOUNDS: [Duration; 7] = [
    Duration::from_micros(10),
    Duration::from_micros(100),
    Duration::from_micros(300),
    Duration::from_millis(1),
    Duration::from_millis(2),
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
        let spans = turns.spans();
        let counts: Vec<u64> = spans.cumulative().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 3, 3, 3, 4, 4, 4]);
        assert_eq!(spans.number(), 5);
        assert_eq!(spans.sum(), Duration::from_micros(502_065));
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
