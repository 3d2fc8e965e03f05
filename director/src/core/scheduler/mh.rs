//! Maglev hashing (`ip_vs_mh.c`): consistent hashing of the client's address over a table of prime size,
//! which each server fills in an order of its own, in turns by weight. A server that comes or goes moves
//! few clients but its own; one whose weight is set to 0 keeps its slots, and refuses.

use std::hash::Hasher;

use shared::addr::Addr;
use siphasher::sip::SipHasher13;

use super::{Opening, Pool, Scheduler};
use crate::core::operation::SchedulerFlags;
use crate::core::server::Server;

/// See the [module](self).
#[derive(Debug, Clone, Default)]
pub(super) struct Maglev {
    /// Positions of servers; empty when no server has ever had a weight.
    slots: Vec<u32>,
}

/// Where a server wants its slots.
struct Claim {
    position: u32,
    next: u32,
    skip: u32,
    /// Slots in a row.
    turns: u32,
}

impl Scheduler for Maglev {
    fn init(&mut self, pool: &Pool<'_>) {
        self.populate(pool);
    }

    fn added(&mut self, pool: &Pool<'_>) {
        self.populate(pool);
    }

    fn deleted(&mut self, pool: &Pool<'_>, _position: usize) {
        self.populate(pool);
    }

    fn updated(&mut self, pool: &Pool<'_>) {
        self.populate(pool);
    }

    fn pick(&mut self, pool: &Pool<'_>, opening: &mut Opening<'_>) -> Option<usize> {
        let has = |flag| opening.flags.0 & flag != 0;
        let port = if has(SchedulerFlags::FLAG_2) {
            opening.flow.source_port
        } else {
            0
        };
        let first = self.slot_of(opening.flow.source, port, 0);
        if let Some(position) = self.usable_at(pool, first) {
            return Some(position);
        }
        if !has(SchedulerFlags::FLAG_1) || self.slots.is_empty() {
            return None;
        }
        (0..SLOTS).find_map(|offset| {
            let offset = (offset + first) % SLOTS;
            let slot = self.slot_of(opening.flow.source, port, offset);
            self.usable_at(pool, slot)
        })
    }
}

impl Maglev {
    fn slot_of(&self, address: Addr, port: u16, offset: u32) -> u32 {
        hash(FIRST_KEY, address, port, offset) % SLOTS
    }

    fn usable_at(&self, pool: &Pool<'_>, slot: u32) -> Option<usize> {
        let position = *self.slots.get(slot as usize)? as usize;
        let server = pool.get(position)?;
        server.is_usable().then_some(position)
    }

    /// Each server in turn takes its next free slots, until there are none.
    fn populate(&mut self, pool: &Pool<'_>) {
        self.slots.clear();
        let mut claims = claims(pool);
        if claims.is_empty() {
            return;
        }
        self.slots.resize(SLOTS as usize, FREE);
        let mut free = SLOTS;
        for at in (0..claims.len()).cycle() {
            let claim = &mut claims[at];
            for _ in 0..claim.turns {
                if free == 0 {
                    return;
                }
                while self.slots[claim.next as usize] != FREE {
                    claim.step();
                }
                self.slots[claim.next as usize] = claim.position;
                claim.step();
                free -= 1;
            }
            if free == 0 {
                return;
            }
        }
    }
}

impl Claim {
    fn step(&mut self) {
        self.next = (self.next + self.skip) % SLOTS;
    }
}

/// Of the servers that have had a weight: their latest but 0 counts.
fn claims(pool: &Pool<'_>) -> Vec<Claim> {
    let weight = |server: &Server| server.last_weight().unsigned_abs();
    let weights = || pool.iter().map(|(_, server)| weight(server));
    let divisor = weights().fold(0, gcd).max(1);
    let greatest = weights().max().unwrap_or(0) / divisor;
    // So many bits are left of the greatest weight that its turns do not outgrow the table.
    let shift = (u32::BITS - greatest.leading_zeros()).saturating_sub(TURN_BITS);
    pool.iter()
        .filter(|(_, server)| weight(server) != 0)
        .map(|(position, server)| {
            let key = server.spec().key;
            let address = key.address.into();
            Claim {
                position: position as u32,
                next: hash(FIRST_KEY, address, key.port, 0) % SLOTS,
                skip: hash(SECOND_KEY, address, key.port, 0) % (SLOTS - 1) + 1,
                turns: ((weight(server) / divisor) >> shift).max(1),
            }
        })
        .collect()
}

/// The kernel's `hsiphash` of one word, which on 64-bit machines is the lower half of SipHash-1-3.
fn hash(key: u64, address: Addr, port: u16, offset: u32) -> u32 {
    let value = offset
        .wrapping_add(u32::from(port))
        .wrapping_add(address.folded());
    let mut hasher = SipHasher13::new_with_keys(key, key);
    hasher.write(&value.to_le_bytes());
    hasher.finish() as u32
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// `CONFIG_IP_VS_MH_TAB_INDEX` is 12: the greatest prime below 2^12.
const SLOTS: u32 = 4093;
/// Half of it.
const TURN_BITS: u32 = 6;
const FREE: u32 = u32::MAX;
/// Both words of each key.
const FIRST_KEY: u64 = 2_654_435_761;
const SECOND_KEY: u64 = 2_654_446_892;

#[cfg(test)]
impl Maglev {
    pub(super) fn share(&self, position: u32) -> usize {
        self.slots.iter().filter(|slot| **slot == position).count()
    }

    pub(super) fn moved_since(&self, before: &Maglev) -> usize {
        let pairs = self.slots.iter().zip(&before.slots);
        pairs.filter(|(now, before)| now != before).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(d: u8) -> Addr {
        Addr::from_v4_bytes([192, 168, 10, d])
    }

    #[test]
    fn servers_claim_the_slots_of_the_kernel() {
        for (last, offset, skip) in [(3, 3093, 3776), (2, 3679, 3377), (1, 3189, 175)] {
            assert_eq!(hash(FIRST_KEY, v4(last), 80, 0) % SLOTS, offset);
            assert_eq!(hash(SECOND_KEY, v4(last), 80, 0) % (SLOTS - 1) + 1, skip);
        }
        let client = Addr::from_v4_bytes([203, 0, 113, 7]);
        assert_eq!(hash(FIRST_KEY, client, 0, 0), 0xa86e_2c15);
        assert_eq!(hash(FIRST_KEY, client, 40000, 0), 0xb9e9_e930);
    }
}
