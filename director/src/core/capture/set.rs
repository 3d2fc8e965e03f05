//! What is to be taken, by whom it is needed, and how: off the wire, or by the host's routing.
//!
//! Firewall marks are put on packets by the host, after the capture has seen them. So while there is a
//! service by mark, what is *to* services is left to the host, which routes it to the director when it has
//! marked it; everything else is taken off the wire as ever.
//!
//! What the host itself sends passes no wire: that, too, it routes to the director, where it is the real server
//! of a NAT service, or, if the administrator wants so, a client.

use std::collections::BTreeMap;

use shared::addr::{Addr, Family, Protocol};

use super::CaptureKey;

/// A change that the kernel's map has not seen yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureChange {
    /// The first user of the key came.
    Insert(CaptureKey),
    /// The last user of the key went.
    Remove(CaptureKey),
}

/// Packets that the host is to route to the director.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKey {
    /// By their mark.
    Mark {
        /// The mark.
        mark: u32,
        /// Of which family.
        family: Family,
    },
    /// By where they go.
    Destination {
        /// Transport protocol.
        protocol: Protocol,
        /// VIP.
        address: Addr,
    },
    /// What the host itself answers as a real server behind NAT.
    Answer {
        /// Transport protocol.
        protocol: Protocol,
        /// RIP.
        address: Addr,
        /// Host order; 0 is every port.
        port: u16,
    },
    /// What the host itself asks of a service.
    Question {
        /// Transport protocol.
        protocol: Protocol,
        /// VIP.
        address: Addr,
        /// Host order; 0 is every port.
        port: u16,
    },
}

impl RouteKey {
    /// Which packets it is about.
    pub const fn family(self) -> Family {
        match self {
            RouteKey::Mark { family, .. } => family,
            RouteKey::Destination { address, .. }
            | RouteKey::Answer { address, .. }
            | RouteKey::Question { address, .. } => address.family(),
        }
    }
}

/// A change that the host's routing has not seen yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteChange {
    /// The first user of the key came.
    Insert(RouteKey),
    /// The last user of the key went.
    Remove(RouteKey),
}

/// The keys in force, each with the number of its users, and the changes since they were last
/// taken. A key stays as long as a service or a connection uses it.
#[derive(Debug, Default)]
pub struct CaptureSet {
    users: BTreeMap<CaptureKey, u32>,
    changes: Vec<CaptureChange>,
    marks: BTreeMap<(Family, u32), u32>,
    routed: BTreeMap<RouteKey, u32>,
    routes: Vec<RouteChange>,
    /// Whether the host's own questions are routed here.
    local_clients: bool,
    /// How many keys of clients there are.
    clients: u32,
}

impl CaptureSet {
    /// One more user of `key`, and of the fragments' key that goes with it.
    pub fn acquire(&mut self, key: CaptureKey) {
        for key in [Some(key), companion(key)].into_iter().flatten() {
            let users = self.users.entry(key).or_insert(0);
            *users += 1;
            if *users == 1 {
                let routes = self.routes(key);
                self.changes
                    .extend(in_map(key, routes).map(CaptureChange::Insert));
                if let Some(route) = in_routing(key, routes) {
                    self.route(route);
                }
                for route in self.own_routes(key) {
                    self.route(route);
                }
                self.clients += u32::from(matches!(key, CaptureKey::Client { .. }));
            }
        }
    }

    /// One user of `key` less, and of the fragments' key that goes with it.
    pub fn release(&mut self, key: CaptureKey) {
        for key in [Some(key), companion(key)].into_iter().flatten() {
            let Some(users) = self.users.get_mut(&key) else {
                continue;
            };
            *users -= 1;
            if *users == 0 {
                for route in self.own_routes(key) {
                    self.unroute(route);
                }
                self.clients -= u32::from(matches!(key, CaptureKey::Client { .. }));
                self.users.remove(&key);
                let routes = self.routes(key);
                self.changes
                    .extend(in_map(key, routes).map(CaptureChange::Remove));
                if let Some(route) = in_routing(key, routes) {
                    self.unroute(route);
                }
            }
        }
    }

    /// One more user of a mark.
    pub fn acquire_mark(&mut self, mark: u32, family: Family) {
        let first = !self.has_marks(family);
        *self.marks.entry((family, mark)).or_insert(0) += 1;
        if first {
            self.change_ways(family, true);
        }
        self.route(RouteKey::Mark { mark, family });
    }

    /// One user of a mark less.
    pub fn release_mark(&mut self, mark: u32, family: Family) {
        let Some(users) = self.marks.get_mut(&(family, mark)) else {
            return;
        };
        *users -= 1;
        if *users == 0 {
            self.marks.remove(&(family, mark));
        }
        self.unroute(RouteKey::Mark { mark, family });
        if !self.has_marks(family) {
            self.change_ways(family, false);
        }
    }

    fn has_marks(&self, family: Family) -> bool {
        let all = (family, 0)..=(family, u32::MAX);
        self.marks.range(all).next().is_some()
    }

    /// Whether the host's own questions are routed here.
    pub fn has_local_clients(&self) -> bool {
        self.local_clients
    }

    /// Routes them here, or no longer.
    pub fn set_local_clients(&mut self, on: bool) {
        if self.local_clients == on {
            return;
        }
        self.local_clients = on;
        let questions = self.users.keys().filter_map(|&key| question(key));
        let questions: Vec<RouteKey> = questions.collect();
        for route in questions {
            if on {
                self.route(route);
            } else {
                self.unroute(route);
            }
        }
    }

    /// Whether there are clients on the host whom somebody answers.
    pub fn has_clients(&self) -> bool {
        self.clients > 0
    }

    /// Whether there are changes that nobody has taken.
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// What the host routes of its own because of a key that somebody uses.
    fn own_routes(&self, key: CaptureKey) -> Vec<RouteKey> {
        match key {
            CaptureKey::Service { .. } if self.local_clients => question(key).into_iter().collect(),
            CaptureKey::Reply { address, .. } => {
                let own = self.users.contains_key(&CaptureKey::Local { address });
                own.then(|| answer(key)).flatten().into_iter().collect()
            }
            CaptureKey::Local { address } => {
                let replies = self.users.keys().filter(|key| key.address() == address);
                replies.filter_map(|&key| answer(key)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether the kernel's map holds `key`.
    pub fn contains(&self, key: CaptureKey) -> bool {
        let routes = self.routes(key);
        let of = |key| self.users.contains_key(&key);
        match key {
            CaptureKey::Service { .. } | CaptureKey::ServiceFragments { .. } => !routes && of(key),
            CaptureKey::RoutedFragments { address } => {
                routes && of(CaptureKey::ServiceFragments { address })
            }
            CaptureKey::LocalFragments { address } => routes && of(CaptureKey::Local { address }),
            CaptureKey::Marks { .. } => routes,
            CaptureKey::Reply { .. }
            | CaptureKey::ReplyFragments { .. }
            | CaptureKey::Local { .. }
            | CaptureKey::Client { .. }
            | CaptureKey::Tunnel { .. } => of(key),
        }
    }

    /// Every key that somebody uses.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = CaptureKey> {
        self.users.keys().copied()
    }

    /// The changes of the map since the last call, in order.
    pub fn take_changes(&mut self) -> Vec<CaptureChange> {
        std::mem::take(&mut self.changes)
    }

    /// The changes of the host's routing since the last call, in order. What is inserted there comes before
    /// changes of the map, what is removed comes after them, so that no packet is between.
    pub fn take_routes(&mut self) -> Vec<RouteChange> {
        std::mem::take(&mut self.routes)
    }

    /// Whether the host routes packets of a key's family here.
    fn routes(&self, key: CaptureKey) -> bool {
        self.has_marks(key.address().family())
    }

    /// Everything of a family goes to the director the one way or the other from now on.
    fn change_ways(&mut self, family: Family, routes: bool) {
        let keys = self.users.keys().copied();
        let keys: Vec<CaptureKey> = keys
            .filter(|key| key.address().family() == family)
            .collect();
        let own = [CaptureKey::Marks { family }];
        let mut changes = [Vec::new(), Vec::new()];
        for &key in &keys {
            for (way, change) in changes.iter_mut().enumerate() {
                change.extend(in_map(key, way == 1));
            }
            if let Some(route) = in_routing(key, true) {
                if routes {
                    self.route(route);
                } else {
                    self.unroute(route);
                }
            }
        }
        let [off_the_wire, mut routed] = changes;
        routed.extend(own);
        let (come, go) = if routes {
            (routed, off_the_wire)
        } else {
            (off_the_wire, routed)
        };
        let new = come.iter().filter(|key| !go.contains(key));
        let old = go.iter().filter(|key| !come.contains(key));
        self.changes.extend(new.copied().map(CaptureChange::Insert));
        self.changes.extend(old.copied().map(CaptureChange::Remove));
    }

    fn route(&mut self, key: RouteKey) {
        let users = self.routed.entry(key).or_insert(0);
        *users += 1;
        if *users == 1 {
            self.routes.push(RouteChange::Insert(key));
        }
    }

    fn unroute(&mut self, key: RouteKey) {
        let Some(users) = self.routed.get_mut(&key) else {
            return;
        };
        *users -= 1;
        if *users == 0 {
            self.routed.remove(&key);
            self.routes.push(RouteChange::Remove(key));
        }
    }
}

/// What stands in the map for a key.
fn in_map(key: CaptureKey, routes: bool) -> impl Iterator<Item = CaptureKey> {
    let keys = match key {
        _ if !routes => [Some(key), None],
        CaptureKey::Service { .. } => [None, None],
        CaptureKey::ServiceFragments { address } => {
            [Some(CaptureKey::RoutedFragments { address }), None]
        }
        CaptureKey::Local { address } => [Some(key), Some(CaptureKey::LocalFragments { address })],
        _ => [Some(key), None],
    };
    keys.into_iter().flatten()
}

/// What the host routes for a key. Not by port: later fragments have none.
fn in_routing(key: CaptureKey, routes: bool) -> Option<RouteKey> {
    match key {
        CaptureKey::Service {
            protocol, address, ..
        } if routes => Some(RouteKey::Destination { protocol, address }),
        _ => None,
    }
}

fn question(key: CaptureKey) -> Option<RouteKey> {
    match key {
        CaptureKey::Service {
            protocol,
            address,
            port,
        } => Some(RouteKey::Question {
            protocol,
            address,
            port,
        }),
        _ => None,
    }
}

fn answer(key: CaptureKey) -> Option<RouteKey> {
    match key {
        CaptureKey::Reply {
            protocol,
            address,
            port,
        } => Some(RouteKey::Answer {
            protocol,
            address,
            port,
        }),
        _ => None,
    }
}

/// The fragments of a flow carry the ports only in the first one.
fn companion(key: CaptureKey) -> Option<CaptureKey> {
    match key {
        CaptureKey::Service { address, .. } | CaptureKey::Client { address, .. } => {
            Some(CaptureKey::ServiceFragments { address })
        }
        CaptureKey::Reply { address, .. } => Some(CaptureKey::ReplyFragments { address }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: Addr = Addr::from_v4_bytes([192, 0, 2, 1]);

    const fn service(port: u16) -> CaptureKey {
        CaptureKey::Service {
            protocol: Protocol::TCP,
            address: VIP,
            port,
        }
    }

    /// While there is a mark, services are reached by routing, and everything else as before.
    #[test]
    fn a_mark_sends_what_is_to_services_through_the_hosts_routing() {
        let reply = CaptureKey::Reply {
            protocol: Protocol::TCP,
            address: Addr::from_v4_bytes([10, 0, 0, 8]),
            port: 80,
        };
        let local = CaptureKey::Local { address: VIP };
        let mut set = CaptureSet::default();
        for key in [service(80), service(81), reply, local] {
            set.acquire(key);
        }
        let before: Vec<CaptureKey> = set.keys().filter(|&key| set.contains(key)).collect();
        assert_eq!(set.take_changes().len(), before.len());
        assert!(set.take_routes().is_empty());

        set.acquire_mark(7, Family::V4);
        let mark = RouteKey::Mark {
            mark: 7,
            family: Family::V4,
        };
        let vip = RouteKey::Destination {
            protocol: Protocol::TCP,
            address: VIP,
        };
        assert_eq!(
            set.take_routes(),
            [vip, mark].map(RouteChange::Insert).to_vec()
        );
        for gone in [service(80), service(81)] {
            assert!(!set.contains(gone), "{gone}");
        }
        let there = [
            reply,
            local,
            CaptureKey::Marks { family: Family::V4 },
            CaptureKey::RoutedFragments { address: VIP },
            CaptureKey::LocalFragments { address: VIP },
        ];
        assert!(there.iter().all(|&key| set.contains(key)));
        set.take_changes();

        // What comes and goes meanwhile.
        set.release(service(80));
        set.release(local);
        set.acquire(local);
        assert!(set.take_routes().is_empty());
        set.release(service(81));
        assert_eq!(set.take_routes(), [RouteChange::Remove(vip)].to_vec());
        set.acquire(service(80));
        set.acquire(service(81));
        set.take_routes();

        set.acquire_mark(7, Family::V4);
        set.release_mark(7, Family::V4);
        assert!(set.take_routes().is_empty());
        set.release_mark(7, Family::V4);
        assert_eq!(
            set.take_routes(),
            [mark, vip].map(RouteChange::Remove).to_vec()
        );
        let after: Vec<CaptureKey> = set.keys().filter(|&key| set.contains(key)).collect();
        assert_eq!(after, before);
        assert!(there[2..].iter().all(|&key| !set.contains(key)));
    }

    /// Marks of a family change the ways of that family alone.
    #[test]
    fn the_families_have_their_own_ways() {
        let address = Addr::from_bytes([0x20; 16]);
        let six = CaptureKey::Service {
            protocol: Protocol::TCP,
            address,
            port: 80,
        };
        let mut set = CaptureSet::default();
        set.acquire(service(80));
        set.acquire(six);
        set.acquire_mark(7, Family::V6);
        assert!(set.contains(service(80)) && !set.contains(six));
        let routes = set.take_routes();
        assert!(
            routes.iter().all(
                |route| matches!(route, RouteChange::Insert(key) if key.family() == Family::V6)
            ),
            "{routes:?}"
        );
        set.acquire_mark(7, Family::V4);
        set.release_mark(7, Family::V6);
        assert!(!set.contains(service(80)) && set.contains(six));
    }

    #[test]
    fn the_hosts_own_questions_are_routed_if_asked_for() {
        let question = |port| RouteKey::Question {
            protocol: Protocol::TCP,
            address: VIP,
            port,
        };
        let mut set = CaptureSet::default();
        set.acquire(service(80));
        set.set_local_clients(true);
        set.set_local_clients(true);
        set.acquire(service(81));
        set.acquire(service(81));
        let come = [question(80), question(81)].map(RouteChange::Insert);
        assert_eq!(set.take_routes(), come.to_vec());
        set.release(service(80));
        set.set_local_clients(false);
        let gone = [question(80), question(81)].map(RouteChange::Remove);
        assert_eq!(set.take_routes(), gone.to_vec());
        set.release(service(81));
        set.release(service(81));
        assert!(set.take_routes().is_empty());
    }

    proptest::proptest! {
        /// Whatever comes and goes, in whatever order: the kernel's map holds what `contains` says.
        #[test]
        fn the_changes_add_up(
            family in proptest::sample::select(vec![Family::V4, Family::V6]),
            steps in proptest::collection::vec((0..8_u8, proptest::bool::ANY), 0..60),
        ) {
            let vip = match family {
                Family::V4 => VIP,
                Family::V6 => Addr::from_bytes([0x20; 16]),
            };
            let service = |port| CaptureKey::Service { protocol: Protocol::TCP, address: vip, port };
            let mut set = CaptureSet::default();
            let (mut map, mut routing) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
            let mut held = [0_u32; 8];
            for (what, come) in steps {
                let key = [
                    service(80),
                    service(81),
                    CaptureKey::Local { address: vip },
                    CaptureKey::Reply { protocol: Protocol::UDP, address: vip, port: 0 },
                ];
                let users = &mut held[usize::from(what)];
                if !come && *users == 0 {
                    continue;
                }
                *users = if come { *users + 1 } else { *users - 1 };
                match (key.get(usize::from(what)), come) {
                    (Some(&key), true) => set.acquire(key),
                    (Some(&key), false) => set.release(key),
                    (None, true) => set.acquire_mark(u32::from(what), family),
                    (None, false) => set.release_mark(u32::from(what), family),
                }
                for change in set.take_changes() {
                    match change {
                        CaptureChange::Insert(key) => proptest::prop_assert!(map.insert(key), "{key}"),
                        CaptureChange::Remove(key) => proptest::prop_assert!(map.remove(&key), "{key}"),
                    }
                }
                for change in set.take_routes() {
                    match change {
                        RouteChange::Insert(key) => proptest::prop_assert!(routing.insert(key)),
                        RouteChange::Remove(key) => proptest::prop_assert!(routing.remove(&key)),
                    }
                }
                let marks = held[4..].iter().filter(|&&users| users > 0).count();
                let services = usize::from(held[0] + held[1] > 0 && marks > 0);
                // The host is the real server.
                let answers = usize::from(held[2] > 0 && held[3] > 0);
                proptest::prop_assert_eq!(routing.len(), marks + services + answers);
                for key in &map {
                    proptest::prop_assert!(set.contains(*key), "{}", key);
                }
                proptest::prop_assert_eq!(map.contains(&CaptureKey::Marks { family }), marks > 0);
                proptest::prop_assert_eq!(map.contains(&service(80)), marks == 0 && held[0] > 0);
            }
        }
    }

    #[test]
    fn a_key_stays_until_its_last_user_goes() {
        let address = Addr::from_v4_bytes([192, 0, 2, 1]);
        let key = |port| CaptureKey::Service {
            protocol: Protocol::TCP,
            address,
            port,
        };
        let fragments = CaptureKey::ServiceFragments { address };
        let mut set = CaptureSet::default();
        set.acquire(key(80));
        set.acquire(key(80));
        set.acquire(key(81));
        assert_eq!(
            set.take_changes(),
            [key(80), fragments, key(81)]
                .map(CaptureChange::Insert)
                .to_vec()
        );
        set.release(key(80));
        assert!(set.take_changes().is_empty());
        set.release(key(80));
        assert_eq!(set.take_changes(), vec![CaptureChange::Remove(key(80))]);
        set.release(key(81));
        assert!(!set.contains(fragments));
        assert_eq!(
            set.take_changes(),
            [key(81), fragments].map(CaptureChange::Remove).to_vec()
        );
        set.release(key(81));
        assert!(set.take_changes().is_empty());
    }
}
