//! The only clock: read once per turn of the loop.

use std::time::{Instant, SystemTime};

use shared::time::Time;

/// `CLOCK_MONOTONIC` since the start of the program.
#[derive(Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    pub(super) fn start() -> Clock {
        Clock {
            start: Instant::now(),
        }
    }

    /// Now. One second is added, so that no instant of the program is [`Time::ZERO`].
    pub(super) fn now(&self) -> Time {
        Time::from_secs(1) + self.start.elapsed()
    }
}

/// The wall clock, microseconds since 1970: for what other hosts have stamped.
pub(super) fn wall_micros() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}
