//! Which reports of one agent are new: a window over sequence numbers, as IPsec has it
//! (RFC 4303 section 3.4.3), within a window of time.

use thiserror::Error;

/// How far an agent's clock may be from the director's, in microseconds.
pub const MAX_SKEW: u64 = 30_000_000;
/// How many sequence numbers a report may come late.
pub const REORDERING: u64 = 64;

/// What was seen of one agent.
#[derive(Debug, Clone, Default)]
pub struct Window {
    last: Option<Last>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    boot: u64,
    /// The highest sequence number.
    sequence: u64,
    /// Bit `n` is set when `sequence - n` has come.
    seen: u64,
    /// The latest time of all reports that were accepted.
    time: u64,
}

/// How an accepted report stands to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// It is the newest.
    Newest,
    /// A newer one came before it, so it must not override that.
    Late,
}

/// Why a report is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Stale {
    /// The clocks are too far apart, or it is old.
    #[error("its time is {0} ms from here; set both clocks by NTP")]
    OutOfTime(u64),
    /// It came before, or is too far behind the newest.
    #[error("it was there before")]
    Replayed,
    /// It is of another run of the agent, and not younger than what came already.
    #[error("it is of an earlier run of the agent")]
    OldBoot,
}

impl Window {
    /// Judges a report by its run, its sequence number, and its time and the wall clock's, both in
    /// microseconds since 1970; remembers it if it is accepted.
    ///
    /// # Errors
    ///
    /// Says why the report must be ignored; the window is then as it was.
    pub fn accept(
        &mut self,
        boot: u64,
        sequence: u64,
        time: u64,
        now: u64,
    ) -> Result<Order, Stale> {
        let skew = time.abs_diff(now);
        if skew > MAX_SKEW {
            return Err(Stale::OutOfTime(skew / 1000));
        }
        let first = Last {
            boot,
            sequence,
            seen: 1,
            time,
        };
        let Some(last) = &mut self.last else {
            self.last = Some(first);
            return Ok(Order::Newest);
        };
        if boot != last.boot {
            if time <= last.time {
                return Err(Stale::OldBoot);
            }
            *last = first;
            return Ok(Order::Newest);
        }
        let order = match sequence.checked_sub(last.sequence) {
            Some(0) => return Err(Stale::Replayed),
            Some(ahead) => {
                let moved = u32::try_from(ahead)
                    .ok()
                    .and_then(|ahead| last.seen.checked_shl(ahead));
                last.seen = moved.unwrap_or(0) | 1;
                last.sequence = sequence;
                Order::Newest
            }
            None => {
                let behind = last.sequence - sequence;
                if behind >= REORDERING || last.seen >> behind & 1 == 1 {
                    return Err(Stale::Replayed);
                }
                last.seen |= 1 << behind;
                Order::Late
            }
        };
        last.time = last.time.max(time);
        Ok(order)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_700_000_000_000_000;

    #[test]
    fn each_report_counts_once_and_only_the_newest_overrides() {
        let mut window = Window::default();
        let mut of = |sequence| window.accept(1, sequence, NOW, NOW);
        assert_eq!(of(10), Ok(Order::Newest));
        assert_eq!(of(10), Err(Stale::Replayed));
        assert_eq!(of(12), Ok(Order::Newest));
        assert_eq!(of(11), Ok(Order::Late));
        assert_eq!(of(11), Err(Stale::Replayed));
        assert_eq!(of(100), Ok(Order::Newest));
        assert_eq!(of(37), Ok(Order::Late));
        assert_eq!(of(36), Err(Stale::Replayed), "too far behind");
        assert_eq!(of(12), Err(Stale::Replayed));
        assert_eq!(of(u64::MAX), Ok(Order::Newest));
        assert_eq!(of(u64::MAX - 1), Ok(Order::Late));
    }

    #[test]
    fn clocks_may_be_half_a_minute_apart() {
        let accept = |time| Window::default().accept(1, 1, time, NOW);
        assert_eq!(accept(NOW - MAX_SKEW), Ok(Order::Newest));
        assert_eq!(accept(NOW + MAX_SKEW), Ok(Order::Newest));
        assert_eq!(accept(NOW - MAX_SKEW - 1), Err(Stale::OutOfTime(30_000)));
        assert_eq!(accept(0), Err(Stale::OutOfTime(NOW / 1000)));
        assert_eq!(
            accept(u64::MAX),
            Err(Stale::OutOfTime((u64::MAX - NOW) / 1000))
        );
    }

    #[test]
    fn a_new_run_takes_over_and_an_old_one_does_not_come_back() {
        let mut window = Window::default();
        assert_eq!(window.accept(1, 500, NOW, NOW), Ok(Order::Newest));
        assert_eq!(window.accept(2, 1, NOW, NOW), Err(Stale::OldBoot));
        assert_eq!(window.accept(2, 1, NOW + 1, NOW), Ok(Order::Newest));
        assert_eq!(window.accept(1, 501, NOW + 1, NOW), Err(Stale::OldBoot));
        assert_eq!(window.accept(2, 1, NOW + 1, NOW), Err(Stale::Replayed));
        assert_eq!(window.accept(2, 2, NOW + 2, NOW), Ok(Order::Newest));
    }

    proptest! {
        /// Whatever the order, no number counts twice, and each newest is above all before it.
        #[test]
        fn no_report_counts_twice(sequences in prop::collection::vec(0_u64..200, 1..300)) {
            let mut window = Window::default();
            let mut taken = BTreeSet::new();
            let mut highest = None;
            for sequence in sequences {
                match window.accept(7, sequence, NOW, NOW) {
                    Ok(order) => {
                        prop_assert!(taken.insert(sequence));
                        prop_assert_eq!(order == Order::Newest, Some(sequence) > highest);
                        highest = highest.max(Some(sequence));
                    }
                    Err(_) => prop_assert!(
                        taken.contains(&sequence)
                            || highest.is_some_and(|highest| highest >= sequence + REORDERING)
                    ),
                }
            }
        }
    }
}
