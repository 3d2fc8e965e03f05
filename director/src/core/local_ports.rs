//! The local addresses of FULLNAT and the ports that its connections have on them.
//!
//! A port is taken once per local address, real server and protocol, so that every real server can have as
//! many connections as a local address of its family has ports. Addresses are taken in turn, ports in order: one that was
//! let go comes last, so that the real server has forgotten the connection that had it before.

use std::collections::BTreeMap;

use shared::addr::{Addr, Family, Protocol};

use super::connection::Endpoint;

/// A port of a local address, as a connection keeps it. The address is the one at this place of the
/// [`LocalPorts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LocalEnd {
    /// Which of the local addresses.
    pub place: u8,
    /// Host order.
    pub port: u16,
}

/// Whom a port is used to talk to: protocol and end of the real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Peer(Protocol, Addr, u16);

impl Peer {
    const fn new(protocol: Protocol, server: Endpoint) -> Peer {
        Peer(protocol, server.address, server.port)
    }
}

/// The pool. See the [module](self).
#[derive(Debug, Default)]
pub struct LocalPorts {
    /// A place stays an address' until nobody uses it any more.
    places: Vec<Place>,
    /// Whose turn it is.
    turn: usize,
    /// Behind which port each address begins.
    behind: u16,
}

impl LocalPorts {
    /// A pool that gives the ports behind this one first. It should be another one at each start: real
    /// servers remember connections of a former run for a while (TIME_WAIT), whose numbers may be later.
    pub fn behind(port: u16) -> LocalPorts {
        LocalPorts {
            behind: port,
            ..LocalPorts::default()
        }
    }

    /// Makes these the local addresses, at most [`MOST_ADDRESSES`]. Those that are none any more give no
    /// further ports, and are [forgotten](Self::take_forgotten) as soon as no connection has one.
    pub fn set_addresses(&mut self, addresses: &[Addr]) {
        for place in &mut self.places {
            place.listed = addresses.contains(&place.address);
        }
        for &address in addresses {
            if self.places.iter().any(|place| place.address == address) {
                continue;
            }
            let fresh = Place::new(address, self.behind);
            match self.places.iter_mut().find(|place| place.is_vacant()) {
                Some(vacant) => *vacant = fresh,
                None => self.places.push(fresh),
            }
        }
    }

    /// Whether there is room for these addresses beside those that connections still use.
    pub fn has_room_for(&self, addresses: &[Addr]) -> bool {
        let kept = self.places.iter().filter(|place| place.used > 0);
        let kept = kept.filter(|place| !addresses.contains(&place.address));
        addresses.len() + kept.count() <= MOST_ADDRESSES
    }

    /// The address at a place.
    pub fn address(&self, place: u8) -> Addr {
        let place = self.places.get(usize::from(place));
        place.map_or(Addr::UNSPECIFIED_V4, |place| place.address)
    }

    /// Every place in use with its address.
    pub fn places(&self) -> impl Iterator<Item = (u8, &Place)> {
        let places = self.places.iter().enumerate();
        let places = places.filter(|(_, place)| !place.is_vacant());
        places.map(|(at, place)| (at as u8, place))
    }

    /// Whether an address is a local one, or was and is still used.
    pub fn contains(&self, address: Addr) -> bool {
        self.places().any(|(_, place)| place.address == address)
    }

    /// Whether there is an address to take ports of towards real servers of a family.
    pub fn has_any(&self, family: Family) -> bool {
        let mut places = self.places.iter();
        places.any(|place| place.listed && place.address.family() == family)
    }

    /// A port to talk to this end of a real server; none if all ports of all addresses of its family are taken.
    pub fn take(&mut self, protocol: Protocol, server: Endpoint) -> Option<LocalEnd> {
        let peer = Peer::new(protocol, server);
        let count = self.places.len();
        for step in 0..count {
            let at = (self.turn + step) % count;
            let place = &mut self.places[at];
            if !place.listed || place.address.family() != server.address.family() {
                continue;
            }
            if let Some(port) = place.take(peer) {
                self.turn = at + 1;
                let place = at as u8;
                return Some(LocalEnd { place, port });
            }
            place.conflicts += 1;
        }
        None
    }

    /// A port of the address at a place where a connection has one already, also if that is no local address any
    /// more: real servers want to know some connections of one client by one address.
    pub fn take_beside(
        &mut self,
        place: u8,
        protocol: Protocol,
        server: Endpoint,
    ) -> Option<LocalEnd> {
        let beside = self.places.get_mut(usize::from(place))?;
        match beside.take(Peer::new(protocol, server)) {
            Some(port) => Some(LocalEnd { place, port }),
            None => {
                beside.conflicts += 1;
                None
            }
        }
    }

    /// A connection to this end of a real server needs its port no longer.
    pub fn let_go(&mut self, protocol: Protocol, server: Endpoint, end: LocalEnd) {
        if let Some(place) = self.places.get_mut(usize::from(end.place)) {
            place.let_go(Peer::new(protocol, server), end.port);
        }
    }
}

/// A local address and what is taken of it.
#[derive(Debug)]
pub struct Place {
    address: Addr,
    /// Whether it gives ports.
    listed: bool,
    /// Ports of all peers together.
    used: u32,
    peers: BTreeMap<Peer, Ports>,
    /// The port that was taken last, for peers that are new or were forgotten.
    last: u16,
    /// At how many peers those without a port are forgotten.
    tidy_at: usize,
    conflicts: u64,
}

impl Place {
    fn new(address: Addr, last: u16) -> Place {
        Place {
            address,
            listed: true,
            used: 0,
            peers: BTreeMap::new(),
            last,
            tidy_at: FEW_PEERS,
            conflicts: 0,
        }
    }

    /// The address.
    pub fn address(&self) -> Addr {
        self.address
    }

    /// Whether it is one of the configured addresses, and not only used by connections of before.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// How many connections have a port of it.
    pub fn used(&self) -> u32 {
        self.used
    }

    /// How many ports are left towards the real server that has the most of them.
    pub fn fewest_left(&self) -> u32 {
        let most = self.peers.values().map(|ports| ports.used).max();
        PORTS - most.unwrap_or(0)
    }

    /// How often all ports towards a peer were taken.
    pub fn conflicts(&self) -> u64 {
        self.conflicts
    }

    fn is_vacant(&self) -> bool {
        !self.listed && self.used == 0
    }

    fn take(&mut self, peer: Peer) -> Option<u16> {
        if self.peers.len() >= self.tidy_at && !self.peers.contains_key(&peer) {
            self.peers.retain(|_, ports| ports.used > 0);
            self.tidy_at = (2 * self.peers.len()).max(FEW_PEERS);
        }
        let last = self.last;
        let ports = self.peers.entry(peer).or_insert_with(|| Ports::new(last));
        let port = ports.take()?;
        self.last = port;
        self.used += 1;
        Some(port)
    }

    fn let_go(&mut self, peer: Peer, port: u16) {
        if let Some(ports) = self.peers.get_mut(&peer)
            && ports.let_go(port)
        {
            self.used -= 1;
        }
    }
}

/// The ports of one address towards one peer.
#[derive(Debug)]
struct Ports {
    /// Where the search for the next one begins: behind the one that was taken last.
    next: u32,
    used: u32,
    /// A bit for each port, made as they are needed.
    chunks: [Option<Box<Chunk>>; CHUNKS],
}

impl Ports {
    fn new(last: u16) -> Ports {
        Ports {
            next: u32::from(last) + 1,
            used: 0,
            chunks: Default::default(),
        }
    }

    /// The next port in order that is free. Looks at no more than all chunks and the words of one and a half.
    fn take(&mut self) -> Option<u16> {
        if self.used == PORTS {
            return None;
        }
        let from = if self.next > u32::from(LAST_PORT) {
            u32::from(FIRST_PORT)
        } else {
            self.next
        };
        // The first chunk comes once more in the end: what is in front of `from`.
        let first = from as usize / CHUNK;
        let places = (0..=CHUNKS).map(|step| (first + step) % CHUNKS);
        for (step, chunk) in places.enumerate() {
            let begin = if step == 0 { from as usize % CHUNK } else { 0 };
            let bits = self.chunks[chunk].get_or_insert_with(|| Box::new(Chunk::new(chunk)));
            if let Some(bit) = bits.first_free(begin) {
                bits.set(bit);
                let port = (chunk * CHUNK + bit) as u16;
                self.next = u32::from(port) + 1;
                self.used += 1;
                return Some(port);
            }
        }
        None
    }

    /// Whether the port was taken.
    fn let_go(&mut self, port: u16) -> bool {
        let (at, bit) = (usize::from(port) / CHUNK, usize::from(port) % CHUNK);
        let Some(chunk) = &mut self.chunks[at] else {
            return false;
        };
        if port < FIRST_PORT || !chunk.clear(bit) {
            return false;
        }
        if chunk.free == Chunk::room(at) {
            self.chunks[at] = None;
        }
        self.used -= 1;
        true
    }
}

/// Taken ports, in words of 64.
#[derive(Debug)]
struct Chunk {
    free: u32,
    taken: [u64; CHUNK / 64],
}

impl Chunk {
    /// One without a port taken, but those that are never given.
    fn new(at: usize) -> Chunk {
        let mut chunk = Chunk {
            free: CHUNK as u32,
            taken: [0; CHUNK / 64],
        };
        for port in at * CHUNK..usize::from(FIRST_PORT).min((at + 1) * CHUNK) {
            chunk.set(port % CHUNK);
        }
        chunk
    }

    /// How many ports there are to give.
    fn room(at: usize) -> u32 {
        let below = usize::from(FIRST_PORT)
            .saturating_sub(at * CHUNK)
            .min(CHUNK);
        (CHUNK - below) as u32
    }

    /// The first free port from `begin` on.
    fn first_free(&self, begin: usize) -> Option<usize> {
        if self.free == 0 {
            return None;
        }
        let first = begin / 64;
        let words = self.taken.iter().enumerate().skip(first);
        words
            .map(|(at, &taken)| {
                let before = if at == first {
                    (1 << (begin % 64)) - 1
                } else {
                    0
                };
                (at, !(taken | before))
            })
            .find(|&(_, free)| free != 0)
            .map(|(at, free)| at * 64 + free.trailing_zeros() as usize)
    }

    fn set(&mut self, bit: usize) {
        self.taken[bit / 64] |= 1 << (bit % 64);
        self.free -= 1;
    }

    /// Whether it was set.
    fn clear(&mut self, bit: usize) -> bool {
        let (word, mask) = (&mut self.taken[bit / 64], 1 << (bit % 64));
        let was = *word & mask != 0;
        // Not as a sum of `was`: rustc 1.95 loses that where this is inlined (rust-lang/rust#158206).
        if was {
            *word ^= mask;
            self.free += 1;
        }
        was
    }
}

/// What the place of a [`LocalEnd`] can name.
pub const MOST_ADDRESSES: usize = 256;
/// Those below belong to well-known services (DPVS begins at the same).
pub const FIRST_PORT: u16 = 1025;
const LAST_PORT: u16 = u16::MAX;
/// Of one address towards one real server.
pub const PORTS: u32 = LAST_PORT as u32 - FIRST_PORT as u32 + 1;
/// Ports of a chunk: half a kilobyte.
const CHUNK: usize = 4096;
const CHUNKS: usize = (LAST_PORT as usize + 1) / CHUNK;
/// Peers that are all remembered, so that their ports go on where they were.
const FEW_PEERS: usize = 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn server(number: u8) -> Endpoint {
        Endpoint {
            address: Addr::from_v4_bytes([10, 1, 0, number]),
            port: 80,
        }
    }

    fn local(number: u8) -> Addr {
        Addr::from_v4_bytes([10, 9, 0, number])
    }

    fn pool(addresses: u8) -> LocalPorts {
        let mut pool = LocalPorts::default();
        let addresses: Vec<Addr> = (0..addresses).map(local).collect();
        pool.set_addresses(&addresses);
        pool
    }

    #[test]
    fn addresses_take_turns_and_ports_count_up() {
        let mut pool = pool(2);
        let taken: Vec<(u8, u16)> = (0..4)
            .map(|_| pool.take(Protocol::TCP, server(1)).unwrap())
            .map(|end| (end.place, end.port))
            .collect();
        assert_eq!(taken, [(0, 1025), (1, 1025), (0, 1026), (1, 1026)]);
        // Those of another protocol are others.
        let end = pool.take(Protocol::UDP, server(1)).unwrap();
        assert_eq!((end.place, end.port), (0, 1027));
    }

    #[test]
    fn the_first_port_is_behind_a_given_one() {
        let cases = [(0, FIRST_PORT), (40_000, 40_001), (LAST_PORT, FIRST_PORT)];
        for (behind, first) in cases {
            let mut pool = LocalPorts::behind(behind);
            pool.set_addresses(&[local(1)]);
            let end = pool.take(Protocol::TCP, server(1)).unwrap();
            assert_eq!(end.port, first);
        }
    }

    #[test]
    fn every_server_has_all_ports_and_then_no_more() {
        let mut pool = pool(1);
        for number in 1..=2 {
            let ports: BTreeSet<u16> = (0..PORTS)
                .map(|_| pool.take(Protocol::TCP, server(number)).unwrap().port)
                .collect();
            assert_eq!(ports.len(), PORTS as usize);
            assert_eq!(ports.first(), Some(&FIRST_PORT));
            assert_eq!(pool.take(Protocol::TCP, server(number)), None);
        }
        let place = pool.places().next().unwrap().1;
        assert_eq!((place.used(), place.fewest_left()), (2 * PORTS, 0));
        assert_eq!(place.conflicts(), 2);
        let end = LocalEnd {
            place: 0,
            port: 5000,
        };
        pool.let_go(Protocol::TCP, server(2), end);
        assert_eq!(pool.take(Protocol::TCP, server(1)), None);
        assert_eq!(pool.take(Protocol::TCP, server(2)), Some(end));
    }

    #[test]
    fn a_port_comes_again_after_all_others() {
        let mut pool = pool(1);
        let first = pool.take(Protocol::TCP, server(1)).unwrap();
        pool.let_go(Protocol::TCP, server(1), first);
        for _ in 1..PORTS {
            let end = pool.take(Protocol::TCP, server(1)).unwrap();
            assert_ne!(end, first);
            pool.let_go(Protocol::TCP, server(1), end);
        }
        assert_eq!(pool.take(Protocol::TCP, server(1)), Some(first));
    }

    #[test]
    fn ports_go_round_while_the_latest_are_in_use() {
        let mut pool = pool(1);
        let mut used = Vec::new();
        let mut random = 1_u32;
        for taken in 0..3 * PORTS {
            let end = pool.take(Protocol::TCP, server(1));
            used.push(end.unwrap_or_else(|| panic!("after {taken}")));
            if used.len() > 14_000 {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let some = used.swap_remove(random as usize % used.len());
                pool.let_go(Protocol::TCP, server(1), some);
            }
        }
    }

    #[test]
    fn an_address_that_is_none_any_more_stays_until_its_ports_are_back() {
        let mut pool = pool(1);
        let end = pool.take(Protocol::TCP, server(1)).unwrap();
        pool.set_addresses(&[local(7)]);
        assert!(pool.contains(local(0)) && pool.contains(local(7)));
        let other = pool.take(Protocol::TCP, server(1)).unwrap();
        assert_eq!(
            (pool.address(end.place), pool.address(other.place)),
            (local(0), local(7))
        );
        pool.let_go(Protocol::TCP, server(1), end);
        assert!(!pool.contains(local(0)));
        pool.set_addresses(&[local(7), local(8)]);
        assert_eq!(pool.address(end.place), local(8));
        pool.set_addresses(&[]);
        assert!(!pool.has_any(Family::V4) && pool.contains(local(7)) && !pool.contains(local(8)));
    }

    #[test]
    fn another_port_of_an_address_in_use_is_given_whatever_it_is_by_now() {
        let mut pool = pool(2);
        let end = pool.take(Protocol::TCP, server(1)).unwrap();
        pool.set_addresses(&[local(7)]);
        let beside = |pool: &mut LocalPorts| pool.take_beside(end.place, Protocol::TCP, server(2));
        let other = beside(&mut pool).unwrap();
        assert_eq!(pool.address(other.place), local(0));
        for _ in 1..PORTS {
            assert!(beside(&mut pool).is_some());
        }
        assert_eq!(beside(&mut pool), None);
        assert_eq!(pool.places().next().unwrap().1.conflicts(), 1);
        pool.let_go(Protocol::TCP, server(2), other);
        assert_eq!(beside(&mut pool), Some(other));
        assert_eq!(pool.take_beside(99, Protocol::TCP, server(2)), None);
    }

    #[test]
    fn peers_without_a_port_are_forgotten() {
        let mut pool = pool(1);
        for port in 0..u16::MAX {
            let server = Endpoint { port, ..server(1) };
            let end = pool.take(Protocol::TCP, server).unwrap();
            pool.let_go(Protocol::TCP, server, end);
        }
        assert!(pool.places[0].peers.len() <= FEW_PEERS);
        let chunks = |ports: &Ports| ports.chunks.iter().flatten().count();
        assert_eq!(pool.places[0].peers.values().map(chunks).sum::<usize>(), 0);
    }

    proptest! {
        /// Whatever comes and goes, no port is given twice, and none is lost.
        #[test]
        fn no_port_is_given_twice(steps in prop::collection::vec((any::<bool>(), 0_u8..3, any::<u16>()), 1..600)) {
            let mut pool = pool(3);
            let mut taken: Vec<(u8, LocalEnd)> = Vec::new();
            for (takes, number, which) in steps {
                if takes || taken.is_empty() {
                    let end = pool.take(Protocol::TCP, server(number)).unwrap();
                    prop_assert!(end.port >= FIRST_PORT);
                    prop_assert!(!taken.contains(&(number, end)));
                    taken.push((number, end));
                } else {
                    let (number, end) = taken.swap_remove(usize::from(which) % taken.len());
                    pool.let_go(Protocol::TCP, server(number), end);
                    pool.let_go(Protocol::TCP, server(number), end);
                }
                let used: u32 = pool.places().map(|(_, place)| place.used()).sum();
                prop_assert_eq!(used as usize, taken.len());
            }
        }
    }
}
