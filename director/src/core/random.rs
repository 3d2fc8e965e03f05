//! Random numbers that are told beforehand: a generator that begins with a seed from outside.

/// SplitMix64: every seed is a good one, and each number costs a few instructions. Nobody can gain by
/// guessing what it is used for here.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator of the numbers that belong to this seed.
    pub const fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number from 0 to `most`, all of them as likely as the others.
    pub fn up_to(&mut self, most: u64) -> u64 {
        // The upper half of a product: the bias is below 2^-32 for anything that is summed up here.
        ((u128::from(self.word()) * (u128::from(most) + 1)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_numbers_come_up_alike() {
        let mut random = Random::new(7);
        let mut seen = [0; 6];
        for _ in 0..6000 {
            seen[random.up_to(5) as usize] += 1;
        }
        assert!(
            seen.iter().all(|count| (850..1150).contains(count)),
            "{seen:?}"
        );
        assert_eq!(random.up_to(0), 0);
    }
}
