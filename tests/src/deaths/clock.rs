//! One time for all who look at a run: since its begin, by the clock that logs are written by.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::time::TimeSpec;

/// When it began, since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Duration);

impl Clock {
    /// It begins now.
    pub(super) fn start() -> Clock {
        Clock(since_1970())
    }

    /// Since the begin.
    pub(super) fn now(self) -> Duration {
        since_1970().saturating_sub(self.0)
    }

    /// Of a time stamp of the kernel's.
    pub(super) fn of(self, stamp: TimeSpec) -> Duration {
        Duration::from(stamp).saturating_sub(self.0)
    }

    /// Of a line of the director's log, `2026-01-31T12:34:56.123456Z ...`; it is of this day or the next.
    pub(super) fn of_line(self, line: &str) -> Option<Duration> {
        let (_, time) = line.split_once('T')?;
        let (time, _) = time.split_once('Z')?;
        let mut parts = time.split([':', '.']);
        let mut next = || parts.next()?.parse::<u64>().ok();
        let (hours, minutes, seconds, micros) = (next()?, next()?, next()?, next()?);
        let of_day = Duration::from_secs((hours * 60 + minutes) * 60 + seconds)
            + Duration::from_micros(micros);
        let begin = Duration::from_nanos((self.0.as_nanos() % DAY.as_nanos()) as u64);
        Some((of_day + if of_day < begin { DAY } else { Duration::ZERO }) - begin)
    }
}

fn since_1970() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("it is later than 1970")
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_their_time_also_after_midnight() {
        let clock = Clock(DAY * 20_000 + Duration::from_secs(23 * 3600 + 59 * 60 + 58));
        let at = |line| clock.of_line(line);
        assert_eq!(
            at("2024-10-04T23:59:59.500000Z  WARN 10.1.0.11:80 is down"),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(
            at("2024-10-05T00:00:01.000250Z  INFO 10.1.0.11:80 is up"),
            Some(Duration::from_micros(3_000_250))
        );
        assert_eq!(at("no time"), None);
    }
}
