//! Longest prefix match over the kernel's routes.
//!
//! The kernel's default policy: table `local` before `main` before `default`
//! (`ip-rule(8)`). Local addresses are asked first by [`Network`](super::Network), so that here
//! the tables only decide between equal prefixes. A lookup happens once per connection, not per
//! packet: one ordered map per prefix length in use, longest first.

use std::collections::BTreeMap;

use shared::addr::{Addr, Family};

/// A network: an address and how many of its leading bits count (0 to 32, or 0 to 128).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// Any address of the network.
    pub address: Addr,
    /// Leading bits, in the terms of the address's own family.
    pub length: u8,
}

impl Prefix {
    /// A length beyond the family's is the whole address.
    pub fn new(address: Addr, length: u8) -> Prefix {
        Prefix {
            address,
            length: length.min(super::host_length(address.family())),
        }
    }

    /// Whether an address is of this network.
    pub fn contains(self, address: Addr) -> bool {
        let same_family = address.family() == self.address.family();
        same_family && Prefix { address, ..self }.network() == self.network()
    }

    /// The same network with all other bits 0.
    pub fn network(self) -> Prefix {
        let mask = mask(self.address.family(), self.length);
        Prefix {
            address: masked(self.address, mask),
            length: self.length,
        }
    }
}

/// The bits of an [`Addr`] that a prefix of this length looks at.
fn mask(family: Family, length: u8) -> u128 {
    let dropped = super::host_length(family).saturating_sub(length);
    u128::MAX.checked_shl(u32::from(dropped)).unwrap_or(0)
}

fn masked(address: Addr, mask: u128) -> Addr {
    Addr::from_bytes((address.to_bits() & mask).to_be_bytes())
}

/// A route as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteInfo {
    /// Which packets.
    pub destination: Prefix,
    /// 255 `local`, 254 `main`, 253 `default`; others are for rules of the administrator's and are
    /// not looked at.
    pub table: u32,
    /// The lower wins among equal prefixes.
    pub metric: u32,
    /// Where to.
    pub kind: RouteKind,
    /// The route's own limit, if it has one, bytes.
    pub mtu: Option<u32>,
    /// What the host's own packets call themselves that go this way, if the route says so.
    pub source: Option<Addr>,
}

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// Out of an interface, to a gateway or directly.
    Unicast {
        /// The kernel's number of the interface.
        ifindex: u32,
        /// None: the destination is on that link.
        gateway: Option<Addr>,
    },
    /// To the host itself.
    Local,
    /// Blackhole, unreachable, prohibit, or something that is not to be forwarded.
    Unreachable,
}

/// The routes of both families.
#[derive(Debug, Default)]
pub(super) struct Routes {
    v4: Table,
    v6: Table,
}

impl Routes {
    /// One more route, or with `replaces` instead of those of its table and metric. Returns whether anything
    /// changed.
    pub(super) fn insert(&mut self, route: RouteInfo, replaces: bool) -> bool {
        if !(TABLE_DEFAULT..=TABLE_LOCAL).contains(&route.table) {
            return false;
        }
        let family = route.destination.address.family();
        let table = self.table_mut(family);
        let key = route.destination.network();
        let like = table
            .of_length(key.length, family)
            .entry(key.address)
            .or_default();
        let before = like.clone();
        let rank = |route: &RouteInfo| (route.table, route.metric);
        // NLM_F_REPLACE sends only the new route. Of IPv4 the kernel allows one per table and metric unless it
        // was appended, and then the first one is used; of IPv6 several, such as those of routers that
        // advertise themselves.
        let alone = replaces || family == Family::V4;
        let place = like
            .iter()
            .position(|old| rank(old) == rank(&route) && (alone || old.kind == route.kind));
        match place {
            Some(at) => like[at] = route,
            None => like.push(route),
        }
        if replaces {
            let mut first = true;
            like.retain(|old| rank(old) != rank(&route) || std::mem::take(&mut first));
        }
        like.sort_by_key(|route| (std::cmp::Reverse(route.table), route.metric));
        *like != before
    }

    /// Returns whether anything changed.
    pub(super) fn remove(&mut self, route: &RouteInfo) -> bool {
        let key = route.destination.network();
        let family = route.destination.address.family();
        let table = self.table_mut(family);
        let of_length = table.lengths.iter_mut().find(|of| of.length == key.length);
        let Some(networks) = of_length.map(|of| &mut of.networks) else {
            return false;
        };
        let Some(like) = networks.get_mut(&key.address) else {
            return false;
        };
        let before = like.len();
        like.retain(|old| {
            (old.table, old.metric, old.kind) != (route.table, route.metric, route.kind)
        });
        let changed = like.len() != before;
        if like.is_empty() {
            networks.remove(&key.address);
        }
        table.lengths.retain(|of| !of.networks.is_empty());
        changed
    }

    /// All routes anew. Returns whether anything changed.
    pub(super) fn replace(&mut self, routes: Vec<RouteInfo>) -> bool {
        let mut new = Routes::default();
        for route in routes {
            new.insert(route, false);
        }
        let changed = new.v4 != self.v4 || new.v6 != self.v6;
        *self = new;
        changed
    }

    /// The route of the longest prefix that holds `to`.
    pub(super) fn find(&self, to: Addr) -> Option<&RouteInfo> {
        let table = match to.family() {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        };
        table
            .lengths
            .iter()
            .find_map(|of| of.networks.get(&masked(to, of.mask))?.first())
    }

    fn table_mut(&mut self, family: Family) -> &mut Table {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

/// Longest prefix first.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table {
    lengths: Vec<OfLength>,
}

/// The routes whose prefixes have one length.
#[derive(Debug, PartialEq, Eq)]
struct OfLength {
    length: u8,
    mask: u128,
    networks: BTreeMap<Addr, Vec<RouteInfo>>,
}

impl Table {
    fn of_length(&mut self, length: u8, family: Family) -> &mut BTreeMap<Addr, Vec<RouteInfo>> {
        let at = self.lengths.partition_point(|of| of.length > length);
        if self.lengths.get(at).is_none_or(|of| of.length != length) {
            let of = OfLength {
                length,
                mask: mask(family, length),
                networks: BTreeMap::new(),
            };
            self.lengths.insert(at, of);
        }
        &mut self.lengths[at].networks
    }
}

const TABLE_DEFAULT: u32 = 253;
const TABLE_LOCAL: u32 = 255;
