//! The director's copy of the host's network: ports, addresses, routes, neighbours.
//!
//! The kernel decides where packets go and who answers for an address; the edge tells this copy
//! what changed ([`Network::apply`]), so that no packet ever asks a netlink question. What a packet
//! needs, the next hop, is looked up once, interned ([`hops`]) and cached beside the real server
//! or the connection as a [`CachedHop`]; a packet then pays one comparison and one index.

mod hops;
mod recent;
mod routes;

use std::collections::BTreeMap;
use std::fmt;

use shared::addr::{Addr, Family};

pub use hops::{Ask, Hop, HopId};
pub use routes::{Prefix, RouteInfo, RouteKind};

use hops::{Held, Hops, Keep};
use recent::Recent;
use routes::Routes;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One of the host's Ethernet interfaces, as a small number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PortId(pub u16);

/// What the director knows of an Ethernet interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The kernel's number of the interface.
    pub ifindex: u32,
    /// For the log.
    pub name: String,
    /// Its own address.
    pub mac: Mac,
    /// Largest IP packet it takes, bytes.
    pub mtu: u32,
    /// Whether frames can leave through it.
    pub up: bool,
}

/// A change of the host's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkEvent {
    /// An Ethernet interface came or changed.
    Link(Port),
    /// An interface vanished.
    LinkGone {
        /// The kernel's number of it.
        ifindex: u32,
    },
    /// All Ethernet interfaces, after some changes may have been missed.
    Links(Vec<Port>),
    /// The host got an address.
    Address {
        /// The interface that carries it.
        ifindex: u32,
        /// The address and the length of its network's prefix.
        prefix: Prefix,
    },
    /// The host lost an address.
    AddressGone {
        /// The interface that carried it.
        ifindex: u32,
        /// As it was added.
        prefix: Prefix,
    },
    /// All addresses with the interfaces that carry them, after some changes may have been missed.
    Addresses(Vec<(u32, Prefix)>),
    /// A route came; of IPv4 it replaces its like.
    Route(RouteInfo),
    /// A route came instead of its like.
    RouteReplaced(RouteInfo),
    /// A route went.
    RouteGone(RouteInfo),
    /// All routes, after some may have been missed.
    Routes(Vec<RouteInfo>),
    /// A neighbour answered, or changed its address.
    Neighbour {
        /// The interface it is reached through.
        ifindex: u32,
        /// Its IP address.
        address: Addr,
        /// Its Ethernet address.
        mac: Mac,
    },
    /// A neighbour did not answer.
    NeighbourFailed {
        /// The interface it was asked for on.
        ifindex: u32,
        /// Its IP address.
        address: Addr,
    },
    /// The kernel forgot a neighbour, because nobody used it for a while.
    NeighbourGone {
        /// The interface it was reached through.
        ifindex: u32,
        /// Its IP address.
        address: Addr,
    },
}

/// Where a packet to some address goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// Out of a port, to a neighbour.
    Via(&'a Hop),
    /// To the host itself.
    Local,
    /// Nowhere: no route, or through an interface that is not Ethernet.
    Unreachable,
}

/// The answer of [`Network::resolve`], kept where it is used; stale when the routes changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CachedHop {
    hop: u32,
    /// 0 is "not looked up".
    generation: u32,
}

/// The copy. See the [module](self).
#[derive(Debug)]
pub struct Network {
    ports: Vec<Option<Port>>,
    addresses: BTreeMap<Addr, Vec<(u32, u8)>>,
    routes: Routes,
    hops: Hops,
    recent: Recent,
    generation: u32,
}

impl Default for Network {
    fn default() -> Network {
        Network {
            ports: Vec::new(),
            addresses: BTreeMap::new(),
            routes: Routes::default(),
            hops: Hops::default(),
            recent: Recent::default(),
            generation: 1,
        }
    }
}

impl Network {
    /// Takes note of a change of the host's network.
    pub fn apply(&mut self, event: NetworkEvent) {
        match event {
            NetworkEvent::Link(port) => self.set_port(port),
            NetworkEvent::LinkGone { ifindex } => self.remove_port(ifindex),
            NetworkEvent::Links(ports) => {
                let known: Vec<u32> = self.ports().map(|(_, port)| port.ifindex).collect();
                for ifindex in known {
                    if !ports.iter().any(|port| port.ifindex == ifindex) {
                        self.remove_port(ifindex);
                    }
                }
                for port in ports {
                    self.set_port(port);
                }
            }
            NetworkEvent::Addresses(all) => {
                let mut new = BTreeMap::<Addr, Vec<(u32, u8)>>::new();
                for (ifindex, prefix) in all {
                    new.entry(prefix.address)
                        .or_default()
                        .push((ifindex, prefix.length));
                }
                if new != self.addresses {
                    self.addresses = new;
                    self.routes_changed();
                }
            }
            NetworkEvent::Address { ifindex, prefix } => {
                let holders = self.addresses.entry(prefix.address).or_default();
                if !holders.contains(&(ifindex, prefix.length)) {
                    holders.push((ifindex, prefix.length));
                    self.routes_changed();
                }
            }
            NetworkEvent::AddressGone { ifindex, prefix } => {
                if let Some(holders) = self.addresses.get_mut(&prefix.address) {
                    holders.retain(|holder| *holder != (ifindex, prefix.length));
                    if holders.is_empty() {
                        self.addresses.remove(&prefix.address);
                    }
                    self.routes_changed();
                }
            }
            NetworkEvent::Route(route) => {
                if self.routes.insert(route, false) {
                    self.routes_changed();
                }
            }
            NetworkEvent::RouteReplaced(route) => {
                if self.routes.insert(route, true) {
                    self.routes_changed();
                }
            }
            NetworkEvent::RouteGone(route) => {
                if self.routes.remove(&route) {
                    self.routes_changed();
                }
            }
            NetworkEvent::Routes(routes) => {
                if self.routes.replace(routes) {
                    self.routes_changed();
                }
            }
            NetworkEvent::Neighbour {
                ifindex,
                address,
                mac,
            } => {
                if let Some(port) = self.port_of(ifindex) {
                    self.hops.answered(port, address, mac);
                }
            }
            NetworkEvent::NeighbourFailed { ifindex, address } => {
                if let Some(port) = self.port_of(ifindex) {
                    self.hops.failed(port, address);
                }
            }
            NetworkEvent::NeighbourGone { ifindex, address } => {
                if let Some(port) = self.port_of(ifindex) {
                    self.hops.forgotten(port, address);
                }
            }
        }
    }

    /// The next hop towards `to`. What was found is kept in `cached`.
    ///
    /// `seen` is the port and the Ethernet address that a frame of `to` came from: a client on the
    /// same link needs no neighbour entry of the kernel, its own frame tells its address.
    #[inline(always)]
    pub fn resolve(
        &mut self,
        cached: &mut CachedHop,
        to: Addr,
        seen: Option<(PortId, Mac)>,
    ) -> Route<'_> {
        if !self.is_current(cached) {
            if let Some(recent) = self.recall(to, seen) {
                *cached = recent;
            } else {
                match self.look_up(to, seen) {
                    Found::Hop(id) => {
                        *cached = CachedHop {
                            hop: id.0,
                            generation: self.generation,
                        };
                        self.recent.put(to, *cached);
                    }
                    Found::Local => return Route::Local,
                    Found::Unreachable => return Route::Unreachable,
                }
            }
        }
        self.hops
            .take(HopId(cached.hop))
            .map_or(Route::Unreachable, Route::Via)
    }

    /// Whether `cached` is as good as a new look at the routes.
    #[inline]
    pub fn is_current(&self, cached: &CachedHop) -> bool {
        cached.generation == self.generation
    }

    /// Keeps a frame (virtio header, Ethernet header, packet) until the neighbour answers, and asks
    /// for it. Its Ethernet addresses are filled in when it leaves.
    pub fn hold(&mut self, hop: HopId, frame: Vec<u8>) {
        self.hops.hold(hop, frame);
    }

    /// Whether there are frames whose neighbour answered.
    pub fn has_ready(&self) -> bool {
        self.hops.has_ready()
    }

    /// The frames whose neighbour answered, in the order they were held, with their port.
    pub fn take_ready(&mut self) -> Vec<(PortId, Vec<u8>)> {
        self.hops
            .take_ready()
            .into_iter()
            .map(|Held { port, frame }| (port, frame))
            .collect()
    }

    /// Neighbours to ask the kernel for.
    pub fn take_asks(&mut self) -> Vec<(u32, Ask)> {
        self.hops
            .take_asks()
            .into_iter()
            .filter_map(|ask| self.port(ask.port).map(|port| (port.ifindex, ask)))
            .collect()
    }

    /// Queues the neighbours that packets went to since the last call, to be asked for again: the
    /// director's own frames keep no entry of the kernel alive.
    pub fn refresh(&mut self) {
        self.hops.refresh();
    }

    /// How many held frames were given up since the last call.
    pub fn take_lost(&mut self) -> u32 {
        self.hops.take_lost()
    }

    /// Whether `address` is the host's own.
    pub fn is_local(&self, address: Addr) -> bool {
        self.addresses.contains_key(&address) || address.ip().is_loopback()
    }

    /// The host's own addresses.
    pub fn local_addresses(&self) -> impl Iterator<Item = Addr> + '_ {
        self.addresses.keys().copied()
    }

    /// The addresses of an interface, with their networks.
    pub fn addresses_of(&self, ifindex: u32) -> impl Iterator<Item = Prefix> + '_ {
        self.addresses.iter().flat_map(move |(address, holders)| {
            let here = holders.iter().filter(move |(at, _)| *at == ifindex);
            here.map(|(_, length)| Prefix::new(*address, *length))
        })
    }

    /// The address that the host speaks with when it answers `towards` through `port`, if it is known: one
    /// of that port, of the same network if there is one, else any of the host's that is not loopback.
    pub fn source_for(&self, port: Option<PortId>, towards: Addr) -> Option<Addr> {
        let port = port.and_then(|port| self.port(port));
        let ifindex = port.map(|port| port.ifindex);
        let family = towards.family();
        let candidates = || {
            self.addresses
                .iter()
                .filter(move |(address, _)| address.family() == family)
                .filter(|(address, _)| !address.ip().is_loopback())
                .flat_map(|(address, holders)| {
                    holders.iter().map(move |holder| (*address, *holder))
                })
        };
        candidates()
            .find(|(address, (at, length))| {
                ifindex.is_none_or(|i| *at == i) && Prefix::new(*address, *length).contains(towards)
            })
            .or_else(|| candidates().find(|(_, (at, _))| Some(*at) == ifindex))
            .or_else(|| candidates().next())
            .map(|(address, _)| address)
    }

    /// The address that the host's own packets to `to` carry when they leave by `port`: what the route
    /// says, else one of the port's.
    pub fn source_towards(&self, port: PortId, to: Addr) -> Option<Addr> {
        let route = self.routes.find(to);
        let said = route.and_then(|route| route.source);
        said.or_else(|| {
            let neighbour = match route.map(|route| route.kind) {
                Some(RouteKind::Unicast {
                    gateway: Some(gateway),
                    ..
                }) if gateway.family() == to.family() => gateway,
                _ => to,
            };
            self.source_for(Some(port), neighbour)
        })
    }

    /// Changes whenever what was worked out from routes, addresses and ports must be worked out anew.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// What is known of a port.
    pub fn port(&self, port: PortId) -> Option<&Port> {
        self.ports.get(usize::from(port.0))?.as_ref()
    }

    /// The port of an interface.
    pub fn port_of(&self, ifindex: u32) -> Option<PortId> {
        let at = self
            .ports
            .iter()
            .position(|port| port.as_ref().is_some_and(|port| port.ifindex == ifindex))?;
        u16::try_from(at).ok().map(PortId)
    }

    /// All ports.
    pub fn ports(&self) -> impl Iterator<Item = (PortId, &Port)> {
        self.ports
            .iter()
            .enumerate()
            .filter_map(|(at, port)| Some((PortId(u16::try_from(at).ok()?), port.as_ref()?)))
    }

    fn set_port(&mut self, new: Port) {
        match self.port_of(new.ifindex) {
            Some(id) => {
                let slot = &mut self.ports[usize::from(id.0)];
                if slot.as_ref() == Some(&new) {
                    return;
                }
                self.hops.port_changed(id, &new);
                *slot = Some(new);
            }
            None => {
                let free = self.ports.iter().position(Option::is_none);
                match free {
                    Some(at) => self.ports[at] = Some(new),
                    None if self.ports.len() <= usize::from(u16::MAX) => self.ports.push(Some(new)),
                    None => return,
                }
            }
        }
        self.routes_changed();
    }

    fn remove_port(&mut self, ifindex: u32) {
        if let Some(id) = self.port_of(ifindex) {
            self.ports[usize::from(id.0)] = None;
            self.hops.port_gone(id);
            self.routes_changed();
        }
    }

    /// What was found of this address before, if looking again would find and change nothing else.
    fn recall(&self, to: Addr, seen: Option<(PortId, Mac)>) -> Option<CachedHop> {
        let recent = self.recent.get(to)?;
        let holds = self.is_current(&recent) && self.hops.agrees(HopId(recent.hop), seen);
        holds.then_some(recent)
    }

    fn look_up(&mut self, to: Addr, seen: Option<(PortId, Mac)>) -> Found {
        if self.is_local(to) {
            return Found::Local;
        }
        let Some(route) = self.routes.find(to) else {
            return Found::Unreachable;
        };
        match route.kind {
            RouteKind::Local => Found::Local,
            RouteKind::Unreachable => Found::Unreachable,
            RouteKind::Unicast { ifindex, gateway } => {
                let Some(id) = self.port_of(ifindex) else {
                    return Found::Unreachable;
                };
                let Some(port) = self.port(id).filter(|port| port.up) else {
                    return Found::Unreachable;
                };
                let (source, mtu) = (
                    port.mac,
                    route.mtu.map_or(port.mtu, |mtu| mtu.min(port.mtu)),
                );
                let neighbour = gateway.unwrap_or(to);
                let learned = match (gateway, seen) {
                    (None, Some((at, mac))) if at == id => Some(mac),
                    _ => None,
                };
                if self.hops.is_full() {
                    self.hops.clear();
                    self.routes_changed();
                }
                let keep = if gateway.is_none() && seen.is_some() {
                    Keep::Once
                } else {
                    Keep::Fresh
                };
                Found::Hop(self.hops.intern(id, neighbour, source, mtu, learned, keep))
            }
        }
    }

    /// Cached hops are looked up again at their next packet.
    fn routes_changed(&mut self) {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
    }
}

enum Found {
    Hop(HopId),
    Local,
    Unreachable,
}

/// The length of a whole address of `family` as a prefix, in the terms of [`Addr`].
pub fn host_length(family: Family) -> u8 {
    match family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}

#[cfg(test)]
mod tests;
