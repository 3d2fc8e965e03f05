//! What `sh` and `dh` have in common: a table of 256 buckets, and the kernel's multiplicative hash of an
//! address (`include/linux/hash.h`).

use shared::addr::Addr;

use super::Pool;
use crate::core::server::Server;

/// Positions of servers by bucket; empty without servers.
#[derive(Debug, Default)]
pub(super) struct HashTable(Vec<u32>);

impl HashTable {
    /// Fills the buckets with the servers in turn, each time with `turns` of a server, which is at
    /// least one.
    pub(super) fn fill(&mut self, pool: &Pool<'_>, turns: fn(&Server) -> usize) {
        self.0.clear();
        while self.0.len() < BUCKETS {
            let before = self.0.len();
            for (position, server) in pool.iter() {
                let room = BUCKETS - self.0.len();
                let many = turns(server).clamp(1, room.max(1)).min(room);
                self.0.extend(std::iter::repeat_n(position as u32, many));
            }
            if self.0.len() == before {
                return;
            }
        }
    }

    /// The server of a bucket.
    pub(super) fn get<'a>(&self, pool: &Pool<'a>, bucket: u32) -> Option<(usize, &'a Server)> {
        let position = *self.0.get(bucket as usize % BUCKETS)? as usize;
        pool.get(position).map(|server| (position, server))
    }
}

/// The bucket of an address and port, which is 0 where only the address counts.
pub(super) fn bucket(address: Addr, port: u16) -> u32 {
    let sum = u32::from(port).wrapping_add(address.folded());
    sum.wrapping_mul(GOLDEN_RATIO) >> (u32::BITS - BUCKETS.ilog2())
}

/// `CONFIG_IP_VS_SH_TAB_BITS` is 8; `dh` has as many.
pub(super) const BUCKETS: usize = 256;
/// 2^32 divided by the golden ratio, as the kernel has it.
const GOLDEN_RATIO: u32 = 0x61c8_8647;
