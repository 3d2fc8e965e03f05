//! Real servers (`ip_vs_ctl.c`).

mod check;
mod standing;

use shared::addr::{Addr, Protocol};
use shared::time::Time;

use super::arena::Id;
use super::capture::CaptureKey;
use super::judgement::{Beginning, Health, Judgements, Order};
use super::net::CachedHop;
use super::operation::{ForwardMethod, ServerSpec};
use super::service::ServiceId;
use super::stats::{Counters, Estimator};
use super::view::ServerView;

pub use self::check::{check_address, check_known, check_numbers};
pub use self::standing::{Ending, Fitness, Role};

/// A real server's number. Good as long as the server is configured or has connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub(super) u32);

impl Id for ServerId {
    fn new(number: u32) -> ServerId {
        ServerId(number)
    }

    fn number(self) -> u32 {
        self.0
    }
}

/// A real server of a service. What packets touch comes first, in one cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Server {
    pub(super) traffic: Counters,
    /// Next hop to the real server.
    pub(super) hop: CachedHop,
    pub(super) service: ServiceId,
    active: u32,
    inactive: u32,
    availability: Availability,
    load: Load,
    /// Whether its connections are to end.
    ending: Ending,
    role: Role,
    /// The sorry server serves in its place.
    withheld: bool,
    /// That it is down is not believed.
    kept: bool,
    /// The keys of its replies that are held, one for each protocol.
    pub(super) reply_keys: [Option<CaptureKey>; 3],
    /// Its places among the real servers that are told of strays.
    pub(super) stray_keys: [Option<RealKey>; 3],
    /// The key of errors about packets to it that is held: it is behind a tunnel.
    pub(super) tunnel_key: Option<CaptureKey>,
    /// Connections that were made while it was behind NAT.
    nat_connections: u32,
    /// Persistence templates.
    templates: u32,
    /// Its latest weight but 0. Only `mh` looks at it.
    last_weight: i32,
    /// See [`weight`](Server::weight).
    weight: i32,
    /// Since when it takes connections, for slow start.
    pub(super) started: Option<Time>,
    pub(super) estimator: Estimator,
    judgements: Judgements,
    /// What its judges have said last, once they have said anything.
    fitness: Option<Fitness>,
    /// Since when it is down, if it was fit before.
    failed_at: Option<Time>,
    /// To drain it.
    order: Option<Order>,
    /// Of the drain that goes on.
    drain: Option<Beginning>,
    spec: ServerSpec,
}

/// Whether a server is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// In its service's list.
    Available,
    /// Removed; in the trash.
    Removed,
    /// No server: what its connections send goes around all of them.
    Around,
}

/// The OVERLOAD flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Takes new connections.
    Normal,
    /// Has reached its upper threshold and not yet fallen below its lower one.
    Overloaded,
}

impl Server {
    /// A server that was just added to a service.
    pub fn new(service: ServiceId, spec: ServerSpec) -> Server {
        Server {
            traffic: Counters::default(),
            hop: CachedHop::default(),
            service,
            active: 0,
            inactive: 0,
            availability: Availability::Available,
            load: Load::Normal,
            ending: Ending::None,
            role: Role::Real,
            withheld: false,
            kept: false,
            reply_keys: [None; 3],
            stray_keys: [None; 3],
            tunnel_key: None,
            nat_connections: 0,
            templates: 0,
            last_weight: spec.weight,
            weight: spec.weight,
            started: None,
            estimator: Estimator::default(),
            judgements: Judgements::default(),
            fitness: None,
            failed_at: None,
            order: None,
            drain: None,
            spec,
        }
    }

    /// What stands in the place of a server for connections that go around all of them.
    pub fn around(service: ServiceId, spec: ServerSpec) -> Server {
        Server {
            availability: Availability::Around,
            ..Server::new(service, spec)
        }
    }

    /// As it was configured.
    pub fn spec(&self) -> &ServerSpec {
        &self.spec
    }

    /// What a scheduler goes by: its weight, or with slow start the present share of it.
    pub fn weight(&self) -> i32 {
        self.weight
    }

    /// Its weight without slow start: the configured one, or what its judges say; 0 while it is to get no new
    /// connections. What the administrator sets to 0 nobody raises.
    pub fn full_weight(&self) -> i32 {
        if self.withheld { 0 } else { self.own_weight() }
    }

    pub(super) fn set_weight(&mut self, weight: i32) {
        self.weight = weight;
    }

    /// Its latest weight but 0.
    pub fn last_weight(&self) -> i32 {
        self.last_weight
    }

    /// Active connections.
    pub fn active(&self) -> u32 {
        self.active
    }

    /// All other connections.
    pub fn inactive(&self) -> u32 {
        self.inactive
    }

    /// All connections.
    pub fn total(&self) -> u32 {
        self.active + self.inactive
    }

    /// Whether nothing in the table names it.
    pub fn is_idle(&self) -> bool {
        self.total() == 0 && self.templates == 0
    }

    /// Whether it is configured.
    pub fn is_available(&self) -> bool {
        self.availability == Availability::Available
    }

    /// Whether it was configured and is no longer.
    pub fn is_removed(&self) -> bool {
        self.availability == Availability::Removed
    }

    /// Whether it takes new connections at all: every scheduler skips the others.
    pub fn is_usable(&self) -> bool {
        self.weight > 0 && self.load == Load::Normal
    }

    /// Whether it has reached its upper threshold.
    pub fn is_overloaded(&self) -> bool {
        self.load == Load::Overloaded
    }

    /// Whether replies of its connections have to be taken from the wire.
    pub fn wants_reply_key(&self) -> bool {
        self.nat_connections > 0 || self.is_available() && self.spec.forward == ForwardMethod::Nat
    }

    /// Whether they are.
    pub(super) fn holds_reply_key(&self) -> bool {
        self.reply_keys != [None; 3]
    }

    /// Whether errors about packets to it have to be taken from the wire.
    pub fn wants_tunnel_key(&self) -> bool {
        self.spec.forward == ForwardMethod::Tunnel && (self.is_available() || self.total() > 0)
    }

    /// Whether the keys that are held are not those that it wants.
    pub(super) fn is_unsettled(&self) -> bool {
        self.wants_reply_key() != self.holds_reply_key()
            || self.wants_tunnel_key() != self.tunnel_key.is_some()
    }

    /// Restates everything but the key; also makes a removed server available again.
    pub fn restate(&mut self, spec: ServerSpec) {
        self.availability = Availability::Available;
        self.spec = spec;
        self.settle_weight();
        if self.has_reached_limit() {
            self.load = Load::Overloaded;
        } else if self.is_relieved() {
            self.load = Load::Normal;
        }
    }

    /// It was removed from its service. Who brings it back begins anew with judges and drains.
    pub fn withdraw(&mut self) {
        self.availability = Availability::Removed;
        self.started = None;
        self.judgements = Judgements::default();
        (self.fitness, self.failed_at) = (None, None);
        (self.withheld, self.kept) = (false, false);
        (self.order, self.drain, self.ending) = (None, None, Ending::None);
    }

    /// A template was made. It is counted nowhere else.
    pub fn bind_template(&mut self) {
        self.templates += 1;
    }

    /// A template ended.
    pub fn unbind_template(&mut self) {
        self.templates -= 1;
    }

    /// A connection was made that is forwarded by `forward`. It is born inactive.
    pub fn bind(&mut self, forward: ForwardMethod) {
        self.inactive += 1;
        self.nat_connections += u32::from(forward == ForwardMethod::Nat);
        if self.has_reached_limit() {
            self.load = Load::Overloaded;
        }
    }

    /// A connection ended that was counted as `activity` and forwarded by `forward`.
    pub fn unbind(&mut self, activity: Activity, forward: ForwardMethod) {
        match activity {
            Activity::Active => self.active -= 1,
            Activity::Inactive => self.inactive -= 1,
        }
        self.nat_connections -= u32::from(forward == ForwardMethod::Nat);
        if self.is_relieved() {
            self.load = Load::Normal;
        }
    }

    /// Whether it has as many connections as it may have.
    fn has_reached_limit(&self) -> bool {
        self.spec.upper_threshold != 0 && self.total() >= self.spec.upper_threshold
    }

    /// Whether it has so few that an overload is over. A lower threshold of 0 is three quarters of the
    /// upper one.
    fn is_relieved(&self) -> bool {
        let ServerSpec {
            upper_threshold: upper,
            lower_threshold: lower,
            ..
        } = self.spec;
        let least = if lower == 0 { upper - upper / 4 } else { lower };
        upper == 0 || self.total() < least
    }

    /// One of its connections is now counted as `activity`, and was not before.
    pub fn recount(&mut self, activity: Activity) {
        match activity {
            Activity::Active => {
                self.inactive -= 1;
                self.active += 1;
            }
            Activity::Inactive => {
                self.active -= 1;
                self.inactive += 1;
            }
        }
    }

    /// For listings.
    pub fn view(&self, now: Time) -> ServerView {
        let health = match self.judgements.health() {
            Health::Up if self.order.is_some() => Health::Draining,
            health => health,
        };
        let left = self.total() + self.templates;
        ServerView {
            spec: self.spec.clone(),
            active: self.active,
            inactive: self.inactive,
            persistent: self.templates,
            effective_weight: self.full_weight(),
            health,
            reason: self.reason(),
            sorry: self.is_sorry(),
            drain: self.drain.map(|drain| drain.view(now, left, self.order)),
            stats: self.estimator.view(&self.traffic),
        }
    }
}

/// A real server behind NAT, of whatever service (`rs_table`): protocol, address, port.
pub type RealKey = (Protocol, Addr, u16);

/// How a connection is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// `ActiveConn`
    Active,
    /// `InActConn`
    Inactive,
}

impl Activity {
    /// Of a connection in this state.
    pub const fn of(state: super::protocol::State) -> Activity {
        if state.is_active() {
            Activity::Active
        } else {
            Activity::Inactive
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(upper: u32, lower: u32) -> Server {
        Server::new(ServiceId::new(0), spec(upper, lower))
    }

    fn spec(upper: u32, lower: u32) -> ServerSpec {
        let mut spec = ServerSpec::new([10, 1, 0, 1], 80, ForwardMethod::Nat, 1);
        (spec.upper_threshold, spec.lower_threshold) = (upper, lower);
        spec
    }

    #[test]
    fn what_packets_touch_is_in_the_first_line() {
        assert!(std::mem::offset_of!(Server, load) < 64);
        assert_eq!(align_of::<Server>(), 64);
    }

    /// Connections come up to 8, then go: at which totals the flag is set on the way.
    fn overloaded_at(server: &mut Server) -> (Vec<u32>, Vec<u32>) {
        let (mut rising, mut falling) = (Vec::new(), Vec::new());
        for _ in 0..8 {
            server.bind(ForwardMethod::Nat);
            rising.extend(server.is_overloaded().then(|| server.total()));
        }
        for _ in 0..8 {
            server.unbind(Activity::Inactive, ForwardMethod::Nat);
            falling.extend(server.is_overloaded().then(|| server.total()));
        }
        (rising, falling)
    }

    #[test]
    fn thresholds_set_and_clear_the_overload_flag() {
        assert_eq!(overloaded_at(&mut server(0, 0)), (vec![], vec![]));
        assert_eq!(overloaded_at(&mut server(8, 0)), (vec![8], vec![7, 6]));
        assert_eq!(
            overloaded_at(&mut server(6, 2)),
            (vec![6, 7, 8], vec![7, 6, 5, 4, 3, 2])
        );
    }

    /// What the kernel (6.1.192) did with a fourth connection, after an edit with three.
    #[test]
    fn editing_thresholds_sets_and_clears_the_overload_flag() {
        for (before, after, overloaded) in [
            ((8, 5), (3, 2), true),
            ((8, 0), (2, 0), true),
            ((8, 5), (4, 2), false),
            ((3, 2), (8, 5), false),
            ((3, 0), (4, 0), true),
            ((3, 0), (4, 4), false),
            ((3, 2), (3, 1), true),
            ((3, 0), (2, 0), true),
            ((3, 0), (0, 0), false),
            ((0, 0), (3, 2), true),
        ] {
            let mut server = server(before.0, before.1);
            for _ in 0..3 {
                server.bind(ForwardMethod::Nat);
            }
            server.restate(spec(after.0, after.1));
            assert_eq!(server.is_overloaded(), overloaded, "{before:?} {after:?}");
        }
    }
}
