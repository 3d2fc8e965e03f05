//! How often the host may send ICMP errors: the kernel's two limits (`icmp_global_allow`,
//! `inet_peer_xrlim_allow`; sysctls `icmp_msgs_per_sec` 1000, `icmp_msgs_burst` 50,
//! `icmp_ratelimit` 1000 ms).

use std::collections::BTreeMap;
use std::time::Duration;

use shared::addr::Addr;
use shared::time::Time;
use shared::wire::icmpv4::Error;

/// Buckets of tokens: one for all, one for each receiver.
#[derive(Debug)]
pub struct Limiter {
    global: Bucket,
    receivers: BTreeMap<Addr, Bucket>,
}

/// Time that has not been spent yet, at most a burst of it.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    saved: Duration,
    since: Time,
}

impl Default for Limiter {
    fn default() -> Limiter {
        Limiter {
            global: Bucket::full(Time::ZERO, GLOBAL),
            receivers: BTreeMap::new(),
        }
    }
}

impl Limiter {
    /// Whether one more error may be sent to `to`. The path MTU is always told to a receiver whom
    /// nobody told too much else.
    pub fn allows(&mut self, now: Time, to: Addr, error: Error) -> bool {
        if matches!(error, Error::FragmentationNeeded { .. }) {
            return true;
        }
        if !self.global.take(now, GLOBAL) {
            return false;
        }
        if self.receivers.len() >= MOST_RECEIVERS && !self.receivers.contains_key(&to) {
            // Whoever has a full bucket again need not be remembered.
            self.receivers
                .retain(|_, bucket| !bucket.is_full(now, RECEIVER));
            if self.receivers.len() >= MOST_RECEIVERS {
                return false;
            }
        }
        let bucket = self
            .receivers
            .entry(to)
            .or_insert_with(|| Bucket::full(now, RECEIVER));
        bucket.take(now, RECEIVER)
    }
}

/// What a bucket holds and what an error costs.
#[derive(Debug, Clone, Copy)]
struct Rate {
    cost: Duration,
    most: Duration,
}

impl Bucket {
    fn full(now: Time, rate: Rate) -> Bucket {
        Bucket {
            saved: rate.most,
            since: now,
        }
    }

    fn saved(&self, now: Time, rate: Rate) -> Duration {
        (self.saved + now.since(self.since)).min(rate.most)
    }

    fn is_full(&self, now: Time, rate: Rate) -> bool {
        self.saved(now, rate) == rate.most
    }

    fn take(&mut self, now: Time, rate: Rate) -> bool {
        self.saved = self.saved(now, rate);
        self.since = now;
        match self.saved.checked_sub(rate.cost) {
            Some(rest) => {
                self.saved = rest;
                true
            }
            None => false,
        }
    }
}

/// 1000 a second, 50 at once.
const GLOBAL: Rate = Rate {
    cost: Duration::from_millis(1),
    most: Duration::from_millis(50),
};
/// One a second to each receiver, 6 at once.
const RECEIVER: Rate = Rate {
    cost: Duration::from_secs(1),
    most: Duration::from_secs(6),
};
/// More than the global limit can have in use.
const MOST_RECEIVERS: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver(last: u8) -> Addr {
        Addr::from_v4_bytes([10, 0, 0, last])
    }

    #[test]
    fn six_at_once_and_then_one_a_second() {
        let mut limiter = Limiter::default();
        let mut now = Time::from_secs(100);
        let sent = (0..20)
            .filter(|_| limiter.allows(now, receiver(1), Error::PortUnreachable))
            .count();
        assert_eq!(sent, 6);
        now = now + Duration::from_secs(1);
        assert!(limiter.allows(now, receiver(1), Error::TimeExceeded));
        assert!(!limiter.allows(now, receiver(1), Error::PortUnreachable));
        assert!(limiter.allows(now, receiver(2), Error::PortUnreachable));
        assert!(limiter.allows(now, receiver(1), Error::FragmentationNeeded { mtu: 1400 }));
    }

    #[test]
    fn fifty_at_once_to_all() {
        let mut limiter = Limiter::default();
        let now = Time::from_secs(100);
        let sent = (0..=255)
            .filter(|&last| limiter.allows(now, receiver(last), Error::PortUnreachable))
            .count();
        assert_eq!(sent, 50);
    }
}
