//! The keyed hash of flows.
//!
//! Clients choose their addresses and ports, so an unkeyed hash would let one of them fill a single
//! run of the index. Each step multiplies two secret-masked 64-bit words and folds the 128-bit
//! product, which mixes every input bit into every output bit for the price of one multiplication.

use shared::addr::FlowKey;

/// Two secret words that make the hash unpredictable to clients.
#[derive(Clone, Copy)]
pub(super) struct HashKey([u64; 2]);

impl HashKey {
    /// From two random words.
    pub(super) const fn new(words: [u64; 2]) -> HashKey {
        HashKey(words)
    }

    /// The hash of a flow as it stands in a packet. The two directions of a flow differ.
    #[inline(always)]
    pub(super) fn hash(&self, flow: &FlowKey) -> u32 {
        let [k0, k1] = self.0;
        let source = flow.source.to_bits();
        let destination = flow.destination.to_bits();
        let rest = u64::from(flow.source_port)
            | u64::from(flow.destination_port) << 16
            | u64::from(flow.protocol.0) << 32;
        let low = fold(source as u64 ^ k0, destination as u64 ^ k1);
        // Of IPv4 addresses the upper halves are zero.
        let high = match ((source >> 64) as u64, (destination >> 64) as u64) {
            (0, 0) => 0,
            (source, destination) => fold(source ^ k1 ^ SPREAD[0], destination ^ k0 ^ SPREAD[1]),
        };
        (fold(low ^ high.rotate_left(32) ^ k1, rest ^ k0 ^ SPREAD[2]) >> 32) as u32
    }
}

impl std::fmt::Debug for HashKey {
    /// Says nothing of the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey")
    }
}

const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    (product >> 64) as u64 ^ product as u64
}

/// Odd constants of many bits (the fraction of pi) that keep the steps apart from one another.
const SPREAD: [u64; 3] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7345,
    0xa409_3822_299f_31d1,
];

#[cfg(test)]
mod tests {
    use shared::addr::{Addr, Protocol};

    use super::*;

    /// Ports that count up, the commonest input, must spread like random numbers: with 8 flows per
    /// bucket on average no bucket of 1024 gets 32.
    #[test]
    fn counting_ports_spread_evenly() {
        for key in [[1, 2], [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]] {
            let key = HashKey::new(key);
            let mut buckets = [0_u32; 1024];
            for port in 0..8192 {
                let flow = FlowKey {
                    protocol: Protocol::TCP,
                    source: Addr::from_v4_bytes([10, 0, 0, 10]),
                    source_port: port,
                    destination: Addr::from_v4_bytes([10, 0, 0, 100]),
                    destination_port: 80,
                };
                buckets[(key.hash(&flow) >> 22) as usize] += 1;
            }
            assert!(buckets.iter().all(|&flows| flows < 32), "{buckets:?}");
        }
    }

    #[test]
    fn the_key_decides() {
        let flow = FlowKey {
            protocol: Protocol::UDP,
            source: Addr::from_v4_bytes([10, 0, 0, 10]),
            source_port: 1,
            destination: Addr::from_v4_bytes([10, 0, 0, 100]),
            destination_port: 53,
        };
        assert_ne!(
            HashKey::new([1, 2]).hash(&flow),
            HashKey::new([1, 3]).hash(&flow)
        );
        assert_ne!(
            HashKey::new([1, 2]).hash(&flow),
            HashKey::new([1, 2]).hash(&flow.reversed())
        );
    }
}
