//! How many ICMP errors may leave: the kernel's two token buckets (`net/ipv4/icmp.c`, `icmp_ratelimit`
//! and `icmp_msgs_per_sec` in its documentation).

use std::collections::BTreeMap;
use std::time::Duration;

use shared::addr::Addr;
use shared::time::Time;
use shared::wire::icmpv4::Error;

/// The limits. Those of the kernel are the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `icmp_ratelimit`: the time between two errors to one receiver. None: no such limit.
    pub interval: Option<Duration>,
    /// How many may follow one another at once to one receiver.
    pub burst: u32,
    /// `icmp_msgs_per_sec`: errors per second to all receivers. None: no such limit.
    pub per_second: Option<u32>,
    /// `icmp_msgs_burst`: how many may follow one another at once to all receivers.
    pub total_burst: u32,
    /// How many receivers are known at once. An unknown one of more is not limited by itself.
    pub receivers: usize,
}

impl Limits {
    /// No limits at all.
    #[cfg(test)]
    pub(crate) const NONE: Limits = Limits {
        interval: None,
        burst: 0,
        per_second: None,
        total_burst: 0,
        receivers: 0,
    };
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            interval: Some(Duration::from_secs(1)),
            burst: 6,
            per_second: Some(1000),
            total_burst: 50,
            receivers: 8192,
        }
    }
}

/// The buckets.
#[derive(Debug)]
pub struct Limiter {
    limits: Limits,
    credit: u32,
    credited: Time,
    receivers: BTreeMap<Addr, Bucket>,
    random: u64,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// In units of time: an error costs an interval.
    tokens: Duration,
    filled: Time,
}

impl Limiter {
    /// Full buckets. `seed` is for the random part of the common one.
    pub fn new(limits: Limits, seed: u64) -> Limiter {
        Limiter {
            limits,
            credit: limits.total_burst,
            credited: Time::ZERO,
            receivers: BTreeMap::new(),
            random: seed,
        }
    }

    /// Whether an error may leave; if so, it is counted. "Fragmentation needed" always may: without
    /// it connections stall.
    pub fn allows(&mut self, now: Time, to: Addr, error: Error) -> bool {
        if matches!(error, Error::FragmentationNeeded { .. }) {
            return true;
        }
        // The order of 6.11 and later: who may not have one by itself takes none from the others.
        let allowed = self.has_credit(now) && self.takes_token(now, to);
        if allowed {
            self.spend_credit();
        }
        allowed
    }

    /// `icmp_global_allow`
    fn has_credit(&mut self, now: Time) -> bool {
        let Some(per_second) = self.limits.per_second else {
            return true;
        };
        let elapsed = now.since(self.credited).min(Duration::from_secs(1));
        if elapsed >= REFILL_EVERY {
            let earned = u128::from(per_second) * elapsed.as_nanos() / NANOS_PER_SEC;
            if earned > 0 {
                self.credit = self
                    .credit
                    .saturating_add(earned as u32)
                    .min(self.limits.total_burst);
                self.credited = now;
            }
        }
        self.credit > 0
    }

    /// `icmp_global_consume`: one on average, so that nobody can count on its fingers what others
    /// caused.
    fn spend_credit(&mut self) {
        if self.limits.per_second.is_some() {
            self.credit = self.credit.saturating_sub((self.next_random() % 3) as u32);
        }
    }

    /// `inet_peer_xrlim_allow`
    fn takes_token(&mut self, now: Time, to: Addr) -> bool {
        let Some(interval) = self.limits.interval else {
            return true;
        };
        let most = interval * self.limits.burst;
        if !self.receivers.contains_key(&to) && self.receivers.len() >= self.limits.receivers {
            // A bucket that has had the time to fill says no more than none.
            self.receivers
                .retain(|_, bucket| bucket.at(now, most) < most);
            if self.receivers.len() >= self.limits.receivers {
                return true;
            }
        }
        let bucket = self.receivers.entry(to).or_insert(Bucket {
            tokens: most,
            filled: now,
        });
        bucket.tokens = bucket.at(now, most);
        bucket.filled = now;
        match bucket.tokens.checked_sub(interval) {
            Some(rest) => {
                bucket.tokens = rest;
                true
            }
            None => false,
        }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Bucket {
    fn at(self, now: Time, most: Duration) -> Duration {
        self.tokens.saturating_add(now.since(self.filled)).min(most)
    }
}

/// The common bucket is not touched more often.
const REFILL_EVERY: Duration = Duration::from_millis(20);

const NANOS_PER_SEC: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver(number: u32) -> Addr {
        Addr::from_v4_bytes(number.to_be_bytes())
    }

    fn allowed(limiter: &mut Limiter, now: Time, to: Addr, tries: u32) -> usize {
        (0..tries)
            .filter(|_| limiter.allows(now, to, Error::PortUnreachable))
            .count()
    }

    #[test]
    fn one_receiver_gets_six_at_once_and_then_one_a_second() {
        let mut limiter = Limiter::new(Limits::default(), 1);
        let at = Time::from_millis;
        assert_eq!(allowed(&mut limiter, at(10_000), receiver(1), 10), 6);
        assert_eq!(allowed(&mut limiter, at(10_999), receiver(1), 10), 0);
        assert_eq!(allowed(&mut limiter, at(11_000), receiver(1), 10), 1);
        assert_eq!(allowed(&mut limiter, at(13_500), receiver(1), 10), 2);
        assert_eq!(allowed(&mut limiter, at(14_000), receiver(1), 10), 1);
        assert_eq!(allowed(&mut limiter, at(99_000), receiver(1), 10), 6);
        assert_eq!(allowed(&mut limiter, at(99_000), receiver(2), 10), 6);
    }

    #[test]
    fn path_mtu_discovery_is_not_limited() {
        let mut limiter = Limiter::new(Limits::default(), 1);
        let error = Error::FragmentationNeeded { mtu: 1400 };
        assert!((0..1000).all(|_| limiter.allows(Time::ZERO, receiver(1), error)));
    }

    #[test]
    fn all_receivers_together_get_fifty_at_once_and_a_thousand_a_second() {
        let mut limiter = Limiter::new(Limits::default(), 1);
        let sent = (0..10_000)
            .filter(|&n| limiter.allows(Time::from_secs(5), receiver(n), Error::TimeExceeded))
            .count();
        assert!((35..80).contains(&sent), "{sent}");
        let sent = (0..100_000)
            .filter(|&n| {
                let now = Time::from_millis(6_000 + u64::from(n / 10));
                limiter.allows(now, receiver(n), Error::TimeExceeded)
            })
            .count();
        assert!((9_000..11_000).contains(&sent), "{sent}");
    }

    #[test]
    fn the_receivers_known_are_bounded() {
        let mut limiter = Limiter::new(
            Limits {
                per_second: None,
                receivers: 4,
                ..Limits::default()
            },
            1,
        );
        for n in 0..4 {
            assert!(allowed(&mut limiter, Time::from_secs(1), receiver(n), 1) == 1);
        }
        assert_eq!(
            allowed(&mut limiter, Time::from_secs(1), receiver(9), 10),
            10
        );
        assert_eq!(limiter.receivers.len(), 4);
        assert_eq!(
            allowed(&mut limiter, Time::from_secs(2), receiver(9), 10),
            6
        );
        assert_eq!(limiter.receivers.len(), 1);
    }

    #[test]
    fn limits_can_be_off() {
        let mut limiter = Limiter::new(Limits::NONE, 1);
        assert_eq!(allowed(&mut limiter, Time::ZERO, receiver(1), 1000), 1000);
        assert!(limiter.receivers.is_empty());
    }
}
