//! Interned next hops: what it takes to put a packet on the wire towards a neighbour, and the few
//! frames that wait for one to answer.

use std::collections::BTreeMap;
use std::mem;

use shared::addr::Addr;

use super::{Mac, Port, PortId};

/// Names a [`Hop`] as long as the routes do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HopId(pub(super) u32);

/// A neighbour on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// Where frames leave.
    pub port: PortId,
    /// The port's own Ethernet address.
    pub source: Mac,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// The neighbour's Ethernet address; none as long as it has not answered.
    pub destination: Option<Mac>,
    /// For [`Network::hold`](super::Network::hold).
    pub id: HopId,
}

/// A neighbour that the kernel shall find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Where it is reached.
    pub port: PortId,
    /// Its IP address.
    pub address: Addr,
}

/// Traffic of AF_PACKET sockets keeps no neighbour entry of the kernel alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Real servers and gateways: the kernel is asked again as long as packets go there.
    Fresh,
    /// Clients on the link: it is asked once.
    Once,
}

/// A frame that waits, or whose time has come.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) port: PortId,
    pub(super) frame: Vec<u8>,
}

/// All next hops in use.
#[derive(Debug, Default)]
pub(super) struct Hops {
    hops: Vec<Entry>,
    /// And by the MTU of the route there: two routes by one neighbour may differ in it.
    by_neighbour: BTreeMap<(PortId, Addr, u32), u32>,
    /// What the kernel said of neighbours that no packet has needed yet.
    heard: BTreeMap<(PortId, Addr), Mac>,
    held: usize,
    ready: Vec<Held>,
    asks: Vec<Ask>,
    lost: u32,
}

#[derive(Debug)]
struct Entry {
    hop: Hop,
    address: Addr,
    keep: Keep,
    asked: Asked,
    used: Used,
    waiting: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    No,
    Yes,
}

/// Whether a packet went there since the last refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Used {
    No,
    Yes,
}

impl Hops {
    /// The hop, for a packet that goes there.
    #[inline]
    pub(super) fn take(&mut self, id: HopId) -> Option<&Hop> {
        let entry = self.hops.get_mut(id.0 as usize)?;
        entry.used = Used::Yes;
        Some(&entry.hop)
    }

    /// Asks again for the neighbours that packets went to since the last call.
    pub(super) fn refresh(&mut self) {
        for at in 0..self.hops.len() {
            let entry = &mut self.hops[at];
            if entry.keep == Keep::Fresh && mem::replace(&mut entry.used, Used::No) == Used::Yes {
                self.ask(at as u32);
            }
        }
    }

    /// The hop to a neighbour, made if it is new. `learned` is an Ethernet address that one of the
    /// neighbour's own frames showed.
    pub(super) fn intern(
        &mut self,
        port: PortId,
        address: Addr,
        source: Mac,
        mtu: u32,
        learned: Option<Mac>,
        keep: Keep,
    ) -> HopId {
        if let Some(at) = self.by_neighbour.get(&(port, address, mtu)).copied() {
            let entry = &mut self.hops[at as usize];
            entry.hop.source = source;
            entry.hop.mtu = mtu;
            // A frame may say that it comes from a real server whose place is known: that is not believed.
            let silent = entry.hop.destination.is_none();
            let believed = learned.is_some() && (entry.keep == Keep::Once || silent);
            if believed {
                entry.hop.destination = learned;
            }
            let asks = keep == Keep::Fresh && entry.keep == Keep::Once;
            if asks {
                entry.keep = Keep::Fresh;
            }
            if believed {
                self.release(at);
            }
            if asks {
                self.ask(at);
            }
            return HopId(at);
        }
        let known = learned.or_else(|| self.heard.get(&(port, address)).copied());
        let at = self.hops.len() as u32;
        let id = HopId(at);
        self.hops.push(Entry {
            hop: Hop {
                port,
                source,
                mtu,
                destination: known,
                id,
            },
            address,
            keep,
            asked: Asked::No,
            used: Used::No,
            waiting: Vec::new(),
        });
        self.by_neighbour.insert((port, address, mtu), at);
        if keep == Keep::Fresh {
            // Also a known one: what the kernel knows may be old.
            self.ask(at);
        }
        id
    }

    /// Whether a frame of the neighbour, or none, tells nothing new of it, and [`intern`](Self::intern) would
    /// only find it.
    pub(super) fn agrees(&self, id: HopId, seen: Option<(PortId, Mac)>) -> bool {
        let Some(entry) = self.hops.get(id.0 as usize) else {
            return false;
        };
        match (entry.keep, seen) {
            (Keep::Fresh, _) => entry.hop.destination.is_some(),
            (Keep::Once, Some((port, mac))) => {
                port != entry.hop.port || entry.hop.destination == Some(mac)
            }
            (Keep::Once, None) => false,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.hops.len() >= MAX_HOPS
    }

    /// Forgets all hops. Who cached one must look it up again.
    pub(super) fn clear(&mut self) {
        self.lost += self.held as u32;
        self.held = 0;
        self.hops.clear();
        self.by_neighbour.clear();
    }

    pub(super) fn hold(&mut self, id: HopId, frame: Vec<u8>) {
        let at = id.0;
        let Some(entry) = self.hops.get_mut(at as usize) else {
            self.lost += 1;
            return;
        };
        if entry.waiting.len() >= MAX_HELD_PER_HOP || self.held >= MAX_HELD {
            self.lost += 1;
        } else {
            entry.waiting.push(frame);
            self.held += 1;
        }
        if entry.hop.destination.is_some() {
            self.release(at);
        } else if entry.asked == Asked::No {
            self.ask(at);
        }
    }

    pub(super) fn answered(&mut self, port: PortId, address: Addr, mac: Mac) {
        if self.heard.len() < MAX_HOPS || self.heard.contains_key(&(port, address)) {
            self.heard.insert((port, address), mac);
        }
        for at in self.of_neighbour(port, address) {
            self.hops[at as usize].hop.destination = Some(mac);
            self.release(at);
        }
    }

    fn of_neighbour(&self, port: PortId, address: Addr) -> Vec<u32> {
        let all = (port, address, 0)..=(port, address, u32::MAX);
        self.by_neighbour.range(all).map(|(_, &at)| at).collect()
    }

    pub(super) fn failed(&mut self, port: PortId, address: Addr) {
        self.heard.remove(&(port, address));
        for at in self.of_neighbour(port, address) {
            let entry = &mut self.hops[at as usize];
            entry.hop.destination = None;
            entry.asked = Asked::No;
            let given_up = mem::take(&mut entry.waiting).len();
            self.held -= given_up;
            self.lost += given_up as u32;
        }
    }

    /// Where packets go the address stays good, and the kernel is asked to look again.
    pub(super) fn forgotten(&mut self, port: PortId, address: Addr) {
        self.heard.remove(&(port, address));
        for at in self.of_neighbour(port, address) {
            let entry = &mut self.hops[at as usize];
            match (entry.keep, entry.used) {
                (Keep::Fresh, Used::Yes) => self.ask(at),
                (Keep::Fresh, Used::No) => entry.hop.destination = None,
                (Keep::Once, _) => {}
            }
        }
    }

    pub(super) fn port_changed(&mut self, port: PortId, new: &Port) {
        for entry in self.hops.iter_mut().filter(|entry| entry.hop.port == port) {
            entry.hop.source = new.mac;
            entry.hop.mtu = entry.hop.mtu.min(new.mtu);
        }
    }

    pub(super) fn port_gone(&mut self, port: PortId) {
        self.heard.retain(|(at, _), _| *at != port);
        for entry in self.hops.iter_mut().filter(|entry| entry.hop.port == port) {
            entry.hop.destination = None;
            let given_up = mem::take(&mut entry.waiting).len();
            self.held -= given_up;
            self.lost += given_up as u32;
        }
        self.by_neighbour.retain(|(at, _, _), _| *at != port);
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn take_ready(&mut self) -> Vec<Held> {
        mem::take(&mut self.ready)
    }

    pub(super) fn take_asks(&mut self) -> Vec<Ask> {
        mem::take(&mut self.asks)
    }

    pub(super) fn take_lost(&mut self) -> u32 {
        mem::take(&mut self.lost)
    }

    fn ask(&mut self, at: u32) {
        let entry = &mut self.hops[at as usize];
        entry.asked = Asked::Yes;
        self.asks.push(Ask {
            port: entry.hop.port,
            address: entry.address,
        });
    }

    /// Completes the Ethernet headers of the frames that waited.
    fn release(&mut self, at: u32) {
        let entry = &mut self.hops[at as usize];
        entry.asked = Asked::No;
        let Hop {
            port,
            source,
            destination: Some(destination),
            ..
        } = entry.hop
        else {
            return;
        };
        self.held -= entry.waiting.len();
        for mut frame in entry.waiting.drain(..) {
            if let Some(addresses) = frame.get_mut(ETHERNET_AT..ETHERNET_AT + 12) {
                addresses[..6].copy_from_slice(&destination.0);
                addresses[6..].copy_from_slice(&source.0);
                self.ready.push(Held { port, frame });
            }
        }
    }
}

/// Behind the virtio header.
const ETHERNET_AT: usize = 10;

/// Frames that wait for one neighbour; a handful, as the first packets of new connections.
const MAX_HELD_PER_HOP: usize = 64;

/// Frames that wait in all: bounds memory when a whole network is silent.
const MAX_HELD: usize = 4096;

/// Neighbours known at once. Clients on the link count, so it is a large flat network; when it is
/// full all are looked up again.
const MAX_HOPS: usize = 65536;
