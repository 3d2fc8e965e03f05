//! One thread, one poll: timers, signals, the host's network and commands before packets, one
//! look at the clock per turn, and one when it is over.

mod desk;
mod scrape;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use shared::host::watchdog::Watchdog;
use shared::time::Time;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use std::os::fd::AsRawFd;
use tracing::{error, info, warn};

use self::desk::Desk;
use super::agents::{self, AgentsDesk};
use super::announce::Announcer;
use super::checks::ChecksDesk;
use super::clock::Clock;
use super::control::{self, Control, ControlError};
use super::host_network::{Heard, HostNetwork};
use super::intake::{self, Intake};
use super::launch::{Launch, Loaded, load};
use super::local_addresses::LocalAddresses;
use super::memory;
use super::metrics::{self, MetricsDesk};
use super::notices;
use super::reload::{self, Hands};
use super::rivals::{self, Lookout};
use super::routing::Routing;
use super::run::RunError;
use super::scripts;
use super::transmit::{Drained, Transmit};
use super::vips::Vips;
use crate::config::Config;
use crate::core::capture::RouteChange;
use crate::core::director::Director;
use crate::core::verdict::Outbox;
use crate::core::view::InterfaceView;
use crate::metrics::{Reload, Turns};
use crate::sys::packet_ring::PacketRing;

/// Everything that runs. See the [module](self).
pub(super) struct EventLoop {
    poll: Poll,
    clock: Clock,
    now: Time,
    signals: Signals,
    director: Director,
    announcer: Announcer,
    outbox: Outbox,
    network: HostNetwork,
    intake: Intake,
    transmit: Transmit,
    vips: Vips,
    locals: LocalAddresses,
    routing: Routing,
    control: Option<Control>,
    agents: AgentsDesk,
    checks: ChecksDesk,
    metrics: MetricsDesk,
    turns: Turns,
    /// How the last reading of the configuration went.
    reloaded: Reload,
    lookout: Lookout,
    /// Services or servers may be others than those that are judged.
    rewatch: bool,
    /// What the configuration demands of services may be another thing than they were told.
    reguard: bool,
    /// Rings that may have frames, by the kernel's number of their interface.
    ready: VecDeque<u32>,
    /// When neighbours in use are asked for again.
    refresh_at: Time,
    /// When the free memory of the host is looked at again; counts only while a defence asks.
    memory_at: Time,
    /// When the capture is told again that the director lives; counts only where it must be.
    beat_at: Time,
    watchdog: Option<Watchdog>,
    /// When systemd is told again that the loop turns.
    feed_at: Time,
    config: Config,
    config_file: Option<PathBuf>,
    /// `--interface` counts more than the configuration.
    interfaces_given: bool,
    started: Time,
}

impl std::fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventLoop")
            .field("director", &self.director)
            .finish_non_exhaustive()
    }
}

/// Whether the loop goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Go {
    On,
    Stop,
}

impl EventLoop {
    #[expect(clippy::too_many_arguments, reason = "the parts of the loop, once")]
    pub(super) fn new(
        poll: Poll,
        clock: Clock,
        director: Director,
        network: HostNetwork,
        intake: Intake,
        transmit: Transmit,
        vips: Vips,
        locals: LocalAddresses,
        routing: Routing,
        agents: AgentsDesk,
        checks: ChecksDesk,
        metrics: MetricsDesk,
        launch: &Launch,
    ) -> Result<EventLoop, RunError> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        poll.registry()
            .register(&mut signals, SIGNALS, Interest::READABLE)?;
        let fd = network.as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&fd), NETWORK, Interest::READABLE)?;
        let now = clock.now();
        let lookout = Lookout::open(poll.registry(), now)?;
        Ok(EventLoop {
            poll,
            clock,
            now,
            signals,
            director,
            announcer: Announcer::default(),
            outbox: Outbox::default(),
            network,
            intake,
            transmit,
            vips,
            locals,
            routing,
            control: None,
            agents,
            checks,
            metrics,
            turns: Turns::default(),
            reloaded: scrape::reloaded_now(),
            lookout,
            rewatch: true,
            reguard: true,
            ready: VecDeque::new(),
            refresh_at: now + REFRESH,
            memory_at: now,
            beat_at: now,
            watchdog: Watchdog::of_this_process()?,
            feed_at: now,
            config: launch.config.clone(),
            config_file: launch.config_file.clone(),
            interfaces_given: !launch.interfaces.is_empty(),
            started: now,
        })
    }

    /// Learns the host's network and begins to take frames.
    pub(super) fn look_around(&mut self) -> Result<(), RunError> {
        for heard in self.network.dump()? {
            self.hear(heard);
        }
        self.judge();
        self.settle();
        for name in self.intake.missing() {
            warn!("there is no interface {name} to take frames from; it may still come");
        }
        Ok(())
    }

    /// Lets lvsadm in.
    pub(super) fn open_control(&mut self, path: &Path) -> Result<(), ControlError> {
        let registry = self
            .poll
            .registry()
            .try_clone()
            .map_err(|source| ControlError::Io {
                path: path.to_owned(),
                source,
            })?;
        self.control = Some(Control::listen(path, registry)?);
        Ok(())
    }

    /// Runs until a signal says stop.
    pub(super) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            match self.poll.poll(&mut events, self.patience()) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            self.now = self.clock.now();
            if self.turn(&events) == Go::Stop {
                return Ok(());
            }
            let over = self.clock.now();
            self.turns.count(over, over.since(self.now));
        }
    }

    /// Undoes what outlives the process.
    pub(super) fn close(&mut self) {
        self.control = None;
        let good_bye = notices::say_good_bye(&self.config, &self.director.balancer);
        self.routing.undo(self.network.netlink());
        self.vips.remove_all(self.network.netlink());
        self.locals.remove_all(self.network.netlink());
        good_bye.wait();
    }

    fn turn(&mut self, events: &Events) -> Go {
        let mut signalled = false;
        let mut network_changed = false;
        for event in events {
            match event.token() {
                SIGNALS => signalled = true,
                NETWORK => network_changed = true,
                agents::AGENTS => self.agents.wake(),
                rivals::RIVALS => self.lookout.wake(),
                control::LISTENER => {
                    if let Some(control) = &mut self.control {
                        control.accept();
                    }
                }
                // What has ended is asked for in each turn.
                scripts::SCRIPTS => {}
                // Above those of checks.
                token if metrics::owns(token) => self.metrics.wake(self.now, token),
                token if ChecksDesk::owns(token) => self.checks.wake(token),
                token => match intake::ifindex_of(token) {
                    Some(ifindex) => self.ring_is_ready(ifindex),
                    None => {
                        if let Some(control) = &mut self.control {
                            control.wake(token);
                        }
                    }
                },
            }
        }
        self.tick();
        if signalled && self.obey_signals() == Go::Stop {
            return Go::Stop;
        }
        if network_changed {
            for heard in self.network.changes() {
                self.hear(heard);
            }
        }
        self.serve_control();
        self.judge();
        self.settle();
        self.take_frames();
        self.settle();
        self.serve_metrics();
        Go::On
    }

    /// How long there is nothing to do.
    fn patience(&self) -> Option<Duration> {
        let busy = self.control.as_ref().is_some_and(Control::is_busy);
        let judges = self.agents.is_busy() || self.checks.is_busy() || self.lookout.is_busy();
        if busy || judges || self.metrics.is_busy() || !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let beat = self.intake.pulse().map(|_| self.beat_at);
        let judges = [
            self.agents.poll_at(),
            self.checks.poll_at(),
            Some(self.lookout.poll_at()),
        ];
        let feed = self.watchdog.as_ref().map(|_| self.feed_at);
        let next = [self.director.poll_at(), self.metrics.poll_at(), beat, feed]
            .into_iter()
            .chain(judges)
            .flatten()
            .fold(self.refresh_at, Time::min);
        // Rounded up: the poll counts in milliseconds, and one too early would turn in vain.
        Some(next.since(self.now) + Duration::from_millis(1))
    }

    fn tick(&mut self) {
        if self.director.poll_at().is_some_and(|at| at <= self.now) {
            self.director.handle_timeout(self.now, &mut self.outbox);
        }
        if self.memory_at <= self.now && self.director.balancer.watches_memory() {
            self.memory_at = self.now + LOOK_AT_MEMORY;
            match memory::free_pages() {
                Ok(pages) => self.director.balancer.notice_memory(pages),
                Err(error) => warn!("the host's free memory cannot be told: {error}"),
            }
        }
        if let Some(pulse) = self.intake.pulse()
            && self.beat_at <= self.now
        {
            self.beat_at = self.now + pulse;
            self.intake.beat();
        }
        if let Some(watchdog) = &self.watchdog
            && self.feed_at <= self.now
        {
            self.feed_at = self.now + watchdog.every();
            watchdog.feed();
        }
        if self.refresh_at <= self.now {
            self.refresh_at = self.now + REFRESH;
            self.director.network.refresh();
        }
    }

    /// Hears the agents of real servers, checks these, and hears who answers for VIPs.
    fn judge(&mut self) {
        let balancer = &mut self.director.balancer;
        self.agents.go_on(self.now, balancer);
        self.checks.go_on(self.now, balancer);
        if std::mem::take(&mut self.rewatch) {
            self.agents.watch(self.now, &self.config, balancer);
            self.checks.watch(self.now, &self.config, balancer);
            // What their servers are like is to be known first.
            if std::mem::take(&mut self.reguard) {
                balancer.set_guards(self.now, notices::guards(&self.config));
            }
            balancer.guard_new(self.now);
        }
        let interfaces = self.intake.iter_mut().map(|(ifindex, _)| ifindex);
        let (director, outbox) = (&self.director, &mut self.outbox);
        self.lookout
            .go_on(self.now, director, &self.agents, interfaces, outbox);
    }

    fn obey_signals(&mut self) -> Go {
        let pending: Vec<i32> = self.signals.pending().collect();
        if pending.iter().any(|signal| *signal != SIGHUP) {
            return Go::Stop;
        }
        if pending.contains(&SIGHUP) {
            self.reload();
        }
        Go::On
    }

    fn reload(&mut self) {
        match load(self.config_file.as_deref()) {
            Ok(Loaded {
                config: new,
                agent_key,
                trust,
            }) => {
                let mut hands = Hands {
                    director: &mut self.director,
                    locals: &mut self.locals,
                    netlink: self.network.netlink(),
                };
                let announcer = &mut self.announcer;
                reload::reload(&self.config, &new, &mut hands, announcer, self.now);
                self.vips.set(&new.vips, self.network.netlink());
                if !self.interfaces_given && new.interfaces != self.config.interfaces {
                    self.intake.set_wanted(new.interfaces.clone());
                    match self.network.dump() {
                        Ok(all) => all.into_iter().for_each(|heard| self.hear(heard)),
                        Err(error) => warn!("the interfaces stay as they are: {error}"),
                    }
                }
                self.agents.reload(new.agents.as_ref(), agent_key);
                self.checks.set_trust(trust);
                self.metrics.reload(&new.metrics);
                self.reloaded = scrape::reloaded_now();
                self.rewatch = true;
                self.reguard = true;
                self.config = new;
                info!("the configuration is loaded again");
            }
            Err(fault) => {
                self.reloaded.good = false;
                error!("the configuration stays as it was: {fault}");
            }
        }
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Network(event) => self.director.network_changed(event, &mut self.outbox),
            Heard::Link(link) => {
                if self.intake.link_changed(&link, self.network.netlink()) {
                    self.welcome(link.index, &link.name);
                }
            }
            Heard::LinkGone { ifindex } => {
                self.intake.link_gone(ifindex);
                self.transmit.link_gone(ifindex);
                self.director.tunnels_unready();
            }
            Heard::Links(links) => {
                for ifindex in self.intake.links(&links, self.network.netlink()) {
                    let link = links.iter().find(|link| link.index == ifindex);
                    self.welcome(ifindex, link.map_or("", |link| &link.name));
                }
            }
        }
    }

    fn welcome(&mut self, ifindex: u32, name: &str) {
        if let Err(error) = self.transmit.host().forward_like(name) {
            warn!("frames given back may not be forwarded: {error}");
        }
        self.routing.interface(name, self.network.netlink());
        self.transmit.interface(ifindex, self.network.netlink());
        self.ring_is_ready(ifindex);
    }

    fn ring_is_ready(&mut self, ifindex: u32) {
        if !self.ready.contains(&ifindex) {
            self.ready.push_back(ifindex);
        }
    }

    fn serve_control(&mut self) {
        if !self.control.as_ref().is_some_and(Control::is_busy) {
            return;
        }
        // Its desk needs all the rest.
        if let Some(mut control) = self.control.take() {
            control.serve(&mut self.desk());
            self.control = Some(control);
        }
    }

    fn desk(&mut self) -> Desk<'_> {
        let mut interfaces = Vec::new();
        for (ifindex, interface) in self.intake.iter_mut() {
            let statistics = interface.rings.each_mut().map(PacketRing::statistics);
            let statistics = statistics.map(Result::unwrap_or_default);
            let port = self.director.network.port_of(ifindex);
            interfaces.push(InterfaceView {
                name: interface.name.clone(),
                received: statistics.iter().map(|ring| ring.frames).sum(),
                sent: port.map_or(0, |port| self.transmit.sent(port)),
                ring_losses: statistics
                    .iter()
                    .map(|ring| ring.ring_full + ring.too_large)
                    .sum(),
            });
        }
        interfaces.extend(self.routing.view());
        let capture_keys = self.director.capture_keys() as u64;
        Desk {
            locals: &mut self.locals,
            routing: &mut self.routing,
            agents: &self.agents,
            checks: &self.checks,
            lookout: &self.lookout,
            rewatch: &mut self.rewatch,
            netlink: self.network.netlink(),
            capture_keys,
            now: self.now,
            started: self.started,
            director: &mut self.director,
            announcer: &mut self.announcer,
            interfaces,
            given_back: self.transmit.given_back(),
            table_size: 1 << self.config.connections.table_bits,
        }
    }

    /// Each ring with frames gets its budget.
    fn take_frames(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(ifindex) = self.ready.pop_front() else {
                return;
            };
            if ifindex == self.routing.ifindex() {
                self.take_routed();
                continue;
            }
            let Some(interface) = self.intake.get_mut(ifindex) else {
                continue;
            };
            let Some(port) = self.director.network.port_of(ifindex) else {
                continue;
            };
            let (director, outbox) = (&mut self.director, &mut self.outbox);
            let drained = interface
                .rings
                .each_mut()
                .map(|ring| self.transmit.drain(self.now, port, ring, director, outbox));
            if drained.contains(&Drained::No) {
                self.ready.push_back(ifindex);
            }
        }
    }

    /// What the host has routed here.
    fn take_routed(&mut self) {
        let Some(tap) = self.routing.tap() else {
            return;
        };
        let (director, outbox) = (&mut self.director, &mut self.outbox);
        let intake = &self.intake;
        if self
            .transmit
            .drain_routed(self.now, tap, intake, director, outbox)
            == Drained::No
        {
            self.ready.push_back(self.routing.ifindex());
        }
    }

    /// Carries out what the core wants besides.
    fn settle(&mut self) {
        let changes = self.director.balancer.take_changes();
        if !changes.is_empty() {
            notices::tell(changes, &self.config, &mut self.checks);
        }
        for (ifindex, ask) in self.director.network.take_asks() {
            self.network.ask(ifindex, ask.address);
        }
        let captures = self.director.balancer.captures();
        let (changes, routes) = (captures.take_changes(), captures.take_routes());
        let netlink = self.network.netlink();
        for &route in &routes {
            if let RouteChange::Insert(key) = route
                && let Err(error) = self.routing.insert(key, netlink)
            {
                error!("the host does not route packets here: {error}");
            }
        }
        if !changes.is_empty() {
            self.intake.update(&changes);
            self.locals.retire(&self.director, netlink);
        }
        if !routes.is_empty() {
            for route in routes {
                if let RouteChange::Remove(key) = route {
                    self.routing.remove(key, netlink);
                }
            }
            self.routing.settle(netlink);
        }
        let netlink = self.network.netlink();
        self.transmit.write_headers(&mut self.director, netlink);
        if !self.outbox.is_empty() {
            self.transmit.flush(&mut self.director, &mut self.outbox);
        }
    }
}

const SIGNALS: Token = Token(0);
const NETWORK: Token = Token(1);
const EVENTS: usize = 256;
/// As often as the defences are judged.
const LOOK_AT_MEMORY: Duration = Duration::from_secs(1);
/// A neighbour that answered counts as reachable for 15 to 45 s (`base_reachable_time`), and is
/// forgotten no sooner than 60 s after that (`gc_stale_time`).
const REFRESH: Duration = Duration::from_secs(20);
