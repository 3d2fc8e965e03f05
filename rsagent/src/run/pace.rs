//! When the next report goes, and what weight to ask for. Pure: time and random numbers come in.

use std::time::Duration;

use crate::config::Weight;

/// Random numbers for jitter (`SplitMix64`), not for secrets.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next one.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }
}

/// From 90 to 100 per cent of the interval, so that many agents that were started at once do not report at
/// once for ever, and none is later than it says.
pub(crate) fn wait(interval: Duration, random: u64) -> Duration {
    let tenth = interval / 10;
    interval - tenth.mul_f64(random as f64 / u64::MAX as f64)
}

/// How busy the processors were lately, per cent: an average that forgets.
#[derive(Debug, Default)]
pub(crate) struct Busy(Option<f64>);

impl Busy {
    /// What they were in the time that has passed since the last call.
    pub(crate) fn add(&mut self, percent: f64, passed: Duration) {
        let share = passed.as_secs_f64() / (passed + MEMORY).as_secs_f64();
        let before = self.0.unwrap_or(percent);
        self.0 = Some(before + (percent - before) * share);
    }

    /// The average, whole per cent.
    pub(crate) fn percent(&self) -> u8 {
        self.0.unwrap_or(0.0).round().clamp(0.0, 100.0) as u8
    }
}

/// The weight to ask for. A server that is busy with everything it has still gets something, since 0 would
/// mean that it wants nothing.
pub(crate) fn weight(wanted: Weight, busy_percent: u8) -> Option<u16> {
    match wanted {
        Weight::Director => None,
        Weight::Fixed(weight) => Some(weight),
        Weight::Cpu => Some(u16::from(100_u8.saturating_sub(busy_percent).max(1))),
    }
}

/// What was so long ago counts half at most.
const MEMORY: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_early_by_up_to_a_tenth() {
        let second = Duration::from_secs(1);
        assert_eq!(wait(second, 0), second);
        assert_eq!(wait(second, u64::MAX), Duration::from_millis(900));
        assert_eq!(wait(second, u64::MAX / 2).as_millis(), 950);
    }

    #[test]
    fn random_numbers_are_those_of_splitmix64() {
        let mut random = Random(1_234_567);
        let numbers = [random.next(), random.next(), random.next()];
        // The reference implementation's, with this seed.
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(numbers, expected);
    }

    #[test]
    fn the_weight_follows_the_load_slowly() {
        let mut busy = Busy::default();
        assert_eq!(busy.percent(), 0);
        busy.add(10.0, Duration::from_secs(1));
        assert_eq!(busy.percent(), 10, "the first look counts whole");
        busy.add(90.0, Duration::from_secs(1));
        assert_eq!(busy.percent(), 30);
        for _ in 0..50 {
            busy.add(100.0, Duration::from_secs(1));
        }
        assert_eq!(busy.percent(), 100);
        assert_eq!(weight(Weight::Cpu, 30), Some(70));
        assert_eq!(weight(Weight::Cpu, 100), Some(1));
        assert_eq!(weight(Weight::Fixed(0), 30), Some(0));
        assert_eq!(weight(Weight::Director, 30), None);
    }
}
