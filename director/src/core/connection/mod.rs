//! Connections: the entry, and the table that finds it from a packet of either direction.
//!
//! The table is a [slab](Slab) of entries, an [index](Index) from the hash of a flow to a slot, and a
//! [keyed hash](HashKey). A NAT or FULLNAT connection is in the index twice, by what its client sends and by what
//! its real server answers; with the other methods the answers do not pass the director.

mod entry;
mod hash;
mod index;
mod slab;
#[cfg(test)]
mod tests;

use shared::addr::{Addr, FlowKey};

use self::hash::HashKey;
use self::index::{Entry, Index};
use self::slab::Slab;

pub use self::entry::{Connection, ConnectionId, Direction, Endpoint, template_key};

/// All connections. See the [module](self).
#[derive(Debug)]
pub struct ConnectionTable {
    index: Index,
    slab: Slab,
    key: HashKey,
    most: usize,
    /// The local addresses of FULLNAT by their place. One that a connection has stays.
    locals: Vec<Addr>,
    /// Of the batch at hand.
    hashes: Vec<u32>,
}

impl ConnectionTable {
    /// An empty table for at most `most` connections; `hash_key` is two random words.
    pub fn new(most: u32, hash_key: [u64; 2]) -> ConnectionTable {
        ConnectionTable {
            index: Index::new(),
            slab: Slab::default(),
            key: HashKey::new(hash_key),
            most: most.min(MOST_SLOTS) as usize,
            locals: Vec::new(),
            hashes: Vec::new(),
        }
    }

    /// The connection that a packet belongs to, and which way the packet goes.
    #[inline(always)]
    pub fn find(&self, flow: &FlowKey) -> Option<(ConnectionId, Direction)> {
        self.index
            .find(self.key.hash(flow), |entry| self.has_key(entry, flow))
            .map(|entry| (ConnectionId(entry.slot), entry.direction))
    }

    /// Asks for the memory that the lookups of some packets will read, all at once: then a lookup
    /// waits for it as often as a batch has packets, and not four times as often. A table that is in the
    /// cache anyway is left alone.
    pub(super) fn prefetch(&mut self, flows: impl Iterator<Item = FlowKey>) {
        if self.len() < WORTH_PREFETCHING {
            return;
        }
        self.hashes.clear();
        for flow in flows {
            let hash = self.key.hash(&flow);
            self.index.prefetch(hash);
            self.hashes.push(hash);
        }
        for &hash in &self.hashes {
            if let Some(entry) = self.index.guess(hash) {
                self.slab.prefetch(entry.slot);
            }
        }
    }

    /// Sets the local address at a place, which no connection has.
    pub fn set_local(&mut self, place: u8, address: Addr) {
        let place = usize::from(place);
        if self.locals.len() <= place {
            self.locals.resize(place + 1, Addr::UNSPECIFIED_V4);
        }
        self.locals[place] = address;
    }

    /// Whether there is room for so many more.
    pub fn has_room(&self, many: usize) -> bool {
        self.slab.len() + many <= self.most
    }

    /// The template of this [`template_key`].
    pub fn find_template(&self, key: &FlowKey) -> Option<ConnectionId> {
        self.find(key).map(|(id, _)| id)
    }

    /// Makes a template one that is never found again; it stays until its time is over.
    pub fn retire_template(&mut self, id: ConnectionId) {
        let Some(template) = self.slab.get_mut(id.0) else {
            return;
        };
        let (slot, direction) = (id.0, Direction::Request);
        if let Some(key) = template.key(direction, &self.locals) {
            self.index
                .remove(self.key.hash(&key), Entry { slot, direction });
        }
        template.retire();
    }

    /// The hash of the flow of a connection's requests.
    pub fn hash_of(&self, id: ConnectionId) -> u32 {
        let key = self.get(id);
        let key = key.and_then(|c| c.key(Direction::Request, &self.locals));
        key.map_or(0, |key| self.key.hash(&key))
    }

    /// The hash of the flow from a local address to a real server, which nobody outside can tell.
    pub fn hash_to_server(&self, id: ConnectionId) -> u32 {
        let key = self.get(id);
        let key = key.and_then(|c| c.key(Direction::Reply, &self.locals));
        key.map_or(0, |key| self.key.hash(&key.reversed()))
    }

    /// Adds a connection that no packet finds: of a service that schedules each packet anew, or one of which the
    /// client's port is not known yet.
    pub fn insert_unseen(&mut self, connection: Connection) -> ConnectionId {
        ConnectionId(self.slab.insert(connection))
    }

    /// Adds a connection.
    pub fn insert(&mut self, connection: Connection) -> ConnectionId {
        let id = self.insert_unseen(connection);
        self.index(id);
        id
    }

    /// Packets find a connection that was [unseen](Self::insert_unseen), now that the port of its client is known.
    pub fn reveal(&mut self, id: ConnectionId, client_port: u16) {
        if let Some(connection) = self.slab.get_mut(id.0) {
            connection.set_client_port(client_port);
        }
        self.index(id);
    }

    fn index(&mut self, id: ConnectionId) {
        let slot = id.0;
        for direction in DIRECTIONS {
            let connection = self.slab.get(slot);
            if let Some(key) = connection.and_then(|c| c.key(direction, &self.locals)) {
                let (slab, locals) = (&self.slab, &self.locals[..]);
                let entry = Entry { slot, direction };
                self.index.insert(self.key.hash(&key), entry, |other| {
                    slab_has_key(slab, locals, other, &key)
                });
            }
        }
    }

    /// Takes a connection out. It must not be on a timer wheel any more.
    pub fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        let slot = id.0;
        let connection = self.slab.remove(slot)?;
        for direction in DIRECTIONS {
            if let Some(key) = connection.key(direction, &self.locals) {
                self.index
                    .remove(self.key.hash(&key), Entry { slot, direction });
            }
        }
        Some(connection)
    }

    /// A connection that is in the table.
    #[inline]
    pub fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.slab.get(id.0)
    }

    /// A connection that is in the table.
    #[inline]
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slab.get_mut(id.0)
    }

    /// The entries, as the timer wheel sees them.
    pub(super) fn slab_mut(&mut self) -> &mut Slab {
        &mut self.slab
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many slots there are, used or not.
    pub fn slots(&self) -> usize {
        self.slab.slots()
    }

    /// The connections in the next `most` slots from `cursor` on, and where to go on after them.
    pub fn piece(
        &self,
        cursor: usize,
        most: usize,
    ) -> (
        impl Iterator<Item = (ConnectionId, &Connection)>,
        Option<usize>,
    ) {
        let end = cursor.saturating_add(most).min(self.slab.slots());
        let connections = (cursor..end).filter_map(|slot| {
            let id = ConnectionId(slot as u32);
            Some((id, self.get(id)?))
        });
        (
            connections,
            Some(end).filter(|&end| end < self.slab.slots()),
        )
    }

    #[inline]
    fn has_key(&self, entry: Entry, flow: &FlowKey) -> bool {
        slab_has_key(&self.slab, &self.locals, entry, flow)
    }
}

#[inline]
fn slab_has_key(slab: &Slab, locals: &[Addr], entry: Entry, flow: &FlowKey) -> bool {
    slab.get(entry.slot)
        .is_some_and(|connection| connection.key(entry.direction, locals).as_ref() == Some(flow))
}

const DIRECTIONS: [Direction; 2] = [Direction::Request, Direction::Reply];

/// Connections whose entries and index (about 150 bytes each) do not fit into a processor's own cache.
const WORTH_PREFETCHING: usize = 4096;

/// What the words of the index can name.
const MOST_SLOTS: u32 = (1 << 31) - 2;
