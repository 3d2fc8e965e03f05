//! Time as a plain value.
//!
//! Everything that decides takes `now` as an argument. Only the edge reads a clock
//! (`CLOCK_MONOTONIC`, once per turn of the loop) and makes a [`Time`] of it.

use std::ops::{Add, Sub};
use std::time::Duration;

/// An instant: nanoseconds since some fixed moment before the program's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The fixed moment itself.
    pub const ZERO: Time = Time(0);

    /// The instant `nanos` nanoseconds after the fixed moment.
    pub const fn from_nanos(nanos: u64) -> Time {
        Time(nanos)
    }

    /// The instant `millis` milliseconds after the fixed moment.
    pub const fn from_millis(millis: u64) -> Time {
        Time(millis * 1_000_000)
    }

    /// The instant `secs` seconds after the fixed moment.
    pub const fn from_secs(secs: u64) -> Time {
        Time(secs * 1_000_000_000)
    }

    /// Nanoseconds since the fixed moment.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the fixed moment.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, span: Duration) -> Time {
        Time(
            self.0
                .saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    fn sub(self, span: Duration) -> Time {
        Time(
            self.0
                .saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Time::ZERO - Duration::from_secs(1), Time::ZERO);
        assert_eq!(
            Time::from_secs(2) + Duration::from_millis(500),
            Time::from_millis(2500)
        );
        assert_eq!(Time::from_secs(1).since(Time::from_secs(2)), Duration::ZERO);
        assert_eq!(
            Time::from_secs(1) + Duration::MAX,
            Time::from_nanos(u64::MAX)
        );
    }
}
