//! Where the connections live: chunks of slots that never move.
//!
//! The slab grows by a chunk at a time, so growing costs the same at a thousand and at a million
//! connections. Freed slots are used again, last freed first: that one is still in the cache.

use shared::sys::prefetch::prefetch;

use super::Connection;
use crate::core::timer::{Link, Timed};

/// Connections by slot.
#[derive(Debug, Default)]
pub(in crate::core) struct Slab {
    chunks: Vec<Box<[Slot; CHUNK]>>,
    /// First of the chain of vacant slots.
    vacant: Option<u32>,
    used: usize,
}

impl Slab {
    /// Puts a connection into a vacant slot.
    pub(super) fn insert(&mut self, connection: Connection) -> u32 {
        let slot = match self.vacant {
            Some(slot) => slot,
            None => self.add_chunk(),
        };
        let place = self.place_mut(slot);
        let Slot::Vacant { next } = *place else {
            unreachable!("the chain of vacant slots holds only vacant slots");
        };
        *place = Slot::Used(connection);
        self.vacant = next;
        self.used += 1;
        slot
    }

    /// Takes a connection out; its slot is vacant then.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Connection> {
        let next = self.vacant;
        let place = self.place_mut(slot);
        if matches!(place, Slot::Vacant { .. }) {
            return None;
        }
        let Slot::Used(connection) = std::mem::replace(place, Slot::Vacant { next }) else {
            return None;
        };
        self.vacant = Some(slot);
        self.used -= 1;
        Some(connection)
    }

    /// The connection in a slot, if there is one.
    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&Connection> {
        let chunk = self.chunks.get(slot as usize / CHUNK)?;
        match &chunk[slot as usize % CHUNK] {
            Slot::Used(connection) => Some(connection),
            Slot::Vacant { .. } => None,
        }
    }

    /// The connection in a slot, if there is one.
    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Connection> {
        let chunk = self.chunks.get_mut(slot as usize / CHUNK)?;
        match &mut chunk[slot as usize % CHUNK] {
            Slot::Used(connection) => Some(connection),
            Slot::Vacant { .. } => None,
        }
    }

    /// Asks for the cache lines of a slot.
    pub(super) fn prefetch(&self, slot: u32) {
        if let Some(chunk) = self.chunks.get(slot as usize / CHUNK) {
            let place = &raw const chunk[slot as usize % CHUNK];
            prefetch(place);
            prefetch(place.cast::<u8>().wrapping_add(64));
            prefetch(place.cast::<u8>().wrapping_add(size_of::<Slot>() - 1));
        }
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// How many slots there are, used or not.
    pub(super) fn slots(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    fn place_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    /// Adds a chunk, chains its slots and returns the first.
    fn add_chunk(&mut self) -> u32 {
        let first = self.slots() as u32;
        let end = first + CHUNK as u32;
        let chunk: Box<[Slot]> = (first..end)
            .map(|slot| Slot::Vacant {
                next: Some(slot + 1).filter(|&next| next < end),
            })
            .collect();
        self.chunks
            .push(chunk.try_into().expect("a chunk was collected"));
        first
    }
}

impl Timed for Slab {
    fn link(&mut self, slot: u32) -> &mut Link {
        &mut self
            .get_mut(slot)
            .expect("only connections are linked to the wheel, and unlinked before they go")
            .timer
    }
}

#[derive(Debug)]
enum Slot {
    Vacant { next: Option<u32> },
    Used(Connection),
}

/// 1024 slots, 112 KiB: small enough not to be felt when it is added.
const CHUNK: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// A hit of either direction touches a slot, which lies in two or three cache lines, and one line of the
    /// index: four at most, with nothing else of the table.
    #[test]
    fn a_slot_lies_in_three_cache_lines_at_most() {
        assert_eq!(size_of::<Slot>(), 112);
        let lines = |slot: usize| (slot * 112 + 111) / 64 - slot * 112 / 64 + 1;
        assert_eq!((0..CHUNK).map(lines).max(), Some(3));
        assert_eq!(112 * CHUNK % 64, 0, "a chunk is whole lines");
    }
}
