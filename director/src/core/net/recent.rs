//! The next hops that were found last, by address.
//!
//! A client opens several connections in a row, and each looks for the way to it. One place per hash of
//! the address: clients that share one only find their way more slowly.

use shared::addr::Addr;

use super::CachedHop;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Recent([(Addr, CachedHop); PLACES]);

impl Recent {
    /// What was last found of an address, or of another one in its place.
    pub(super) fn get(&self, to: Addr) -> Option<CachedHop> {
        let (address, hop) = self.0[place(to)];
        (address == to).then_some(hop)
    }

    pub(super) fn put(&mut self, to: Addr, hop: CachedHop) {
        self.0[place(to)] = (to, hop);
    }
}

impl Default for Recent {
    fn default() -> Recent {
        Recent([(Addr::UNSPECIFIED_V4, CachedHop::default()); PLACES])
    }
}

fn place(address: Addr) -> usize {
    let bits = address.to_bits();
    let spread = (bits as u64 ^ (bits >> 64) as u64).wrapping_mul(GOLDEN);
    (spread >> (u64::BITS - PLACES.ilog2())) as usize
}

/// 6 KiB.
const PLACES: usize = 256;
/// 2^64 divided by the golden ratio: neighbouring addresses land far apart.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
