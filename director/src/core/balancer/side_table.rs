//! What only some connections need, beside the table: by slot, in chunks that are made when first used.

use crate::core::connection::ConnectionId;

/// Values by the slot of their connection.
#[derive(Debug)]
pub(super) struct SideTable<T>(Vec<Option<Box<[T; CHUNK]>>>);

impl<T> Default for SideTable<T> {
    fn default() -> SideTable<T> {
        SideTable(Vec::new())
    }
}

impl<T: Copy + Default> SideTable<T> {
    /// The value of a connection; the default one if it never [began](Self::begin).
    pub(super) fn of(&self, id: ConnectionId) -> T {
        let (chunk, at) = place(id);
        let chunk = self.0.get(chunk).and_then(Option::as_deref);
        chunk.map_or_else(T::default, |chunk| chunk[at])
    }

    /// A new connection, of which nothing is known.
    pub(super) fn begin(&mut self, id: ConnectionId) {
        let (chunk, at) = place(id);
        if self.0.len() <= chunk {
            self.0.resize_with(chunk + 1, || None);
        }
        let chunk = self.0[chunk].get_or_insert_with(|| Box::new([T::default(); CHUNK]));
        chunk[at] = T::default();
    }

    /// The value of a connection that [began](Self::begin).
    pub(super) fn of_mut(&mut self, id: ConnectionId) -> Option<&mut T> {
        let (chunk, at) = place(id);
        Some(&mut self.0.get_mut(chunk)?.as_deref_mut()?[at])
    }
}

const fn place(id: ConnectionId) -> (usize, usize) {
    (id.0 as usize / CHUNK, id.0 as usize % CHUNK)
}

/// Values that are allocated together.
const CHUNK: usize = 1024;
