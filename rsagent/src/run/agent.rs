//! The event loop: one thread, which waits for nothing but events.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use sd_notify::NotifyState;
use shared::agent::{Key, MAX_IDENTITY, State};
use shared::host::watchdog::Watchdog;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use super::checks::{self, Looked};
use super::directors::Directors;
use super::keeper::Keeper;
use super::measure::Measure;
use super::pace::{Random, wait, weight};
use super::report::{Observed, Sender, compose, datagram};
use super::watch::Watch;
use super::{RunError, key, tell_systemd};
use crate::apply::AgentError;
use crate::config::{Config, Mode};
use crate::file::FileError;

/// Everything that runs.
pub(crate) struct Agent {
    poll: Poll,
    signals: Signals,
    waker: Arc<Waker>,
    watch: Watch,
    keeper: Keeper,
    measure: Measure,
    random: Random,
    boot: u64,
    sequence: u64,
    duty: Duty,
    report_at: Instant,
    /// When the host is looked at again, if something was heard of it.
    look_at: Option<Instant>,
    looked: Instant,
    /// What was mended, and how many more reports tell it.
    mended: (Vec<String>, u8),
    watchdog: Option<Watchdog>,
    /// When systemd is told again that the loop turns.
    feed_at: Instant,
}

/// What comes from the configuration.
struct Duty {
    config: Config,
    key: Option<Key>,
    directors: Directors,
    identity: String,
    results: Receiver<Looked>,
    /// Name of each check, and whether its last look was well.
    checks: Vec<(String, Option<bool>)>,
}

impl Duty {
    /// What is known of checks from `before` is taken over.
    fn new(
        config: Config,
        before: &[(String, Option<bool>)],
        waker: &Arc<Waker>,
    ) -> Result<Duty, RunError> {
        let known = |name: &str| before.iter().find(|(known, _)| known == name)?.1;
        let names = config.checks.iter().map(|check| check.name.clone());
        Ok(Duty {
            key: key::load(&config)?,
            directors: Directors::new(&config.directors),
            identity: identity(&config),
            checks: names.map(|name| (name.clone(), known(&name))).collect(),
            results: checks::start(&config.checks, waker)?,
            config,
        })
    }
}

impl Agent {
    /// Makes the host what is asked for, and gets ready to run.
    pub(super) fn start(config: Config) -> Result<Agent, RunError> {
        let poll = Poll::new()?;
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let waker = Arc::new(Waker::new(poll.registry(), CHECKS)?);
        let watch = Watch::begin()?;
        let boot = random().map_err(RunError::Random)?;
        // Whatever is wrong with the key is told before anything is changed.
        let duty = Duty::new(config.clone(), &[], &waker)?;
        let keeper = Keeper::start(config)?;
        let registry = poll.registry();
        registry.register(&mut signals, SIGNALS, Interest::READABLE)?;
        for (fd, token) in [(keeper.as_raw_fd(), NETWORK), (watch.as_raw_fd(), STATE)] {
            registry.register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        }
        let now = Instant::now();
        let first_looks = duty.config.checks.iter().map(|check| check.timeout);
        Ok(Agent {
            poll,
            signals,
            waker,
            watch,
            keeper,
            measure: Measure::begin().map_err(AgentError::from)?,
            random: Random(boot),
            boot,
            sequence: 0,
            // A report before the checks have looked would say that they fail.
            report_at: now + first_looks.max().unwrap_or_default(),
            duty,
            look_at: None,
            looked: now,
            mended: (Vec::new(), 0),
            watchdog: Watchdog::of_this_process()?,
            feed_at: now,
        })
    }

    /// Until it is told to stop.
    pub(super) fn run(
        &mut self,
        configured: impl Fn() -> Result<Config, FileError>,
    ) -> Result<(), RunError> {
        let mut events = Events::with_capacity(8);
        while !self.keeper.state().leaving {
            let now = Instant::now();
            let next = [Some(self.report_at), self.look_at, self.feed(now)];
            let next = next.into_iter().flatten().min().unwrap_or(now);
            match self
                .poll
                .poll(&mut events, Some(next.saturating_duration_since(now)))
            {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => outcome?,
            }
            let signals: Vec<i32> = self.signals.pending().collect();
            if signals.iter().any(|signal| *signal != SIGHUP) {
                return self.leave();
            }
            if signals.contains(&SIGHUP) {
                self.reload(configured());
            }
            let mut news = self.take_results();
            if self.keeper.has_heard() {
                self.look_at.get_or_insert(self.looked + LEAST_PAUSE);
            }
            let is_changed = self.watch.has_changed() && self.keeper.is_out_of_date();
            if is_changed || self.look_at.is_some_and(|at| at <= Instant::now()) {
                news |= self.look();
            }
            let is_due = self.report_at <= Instant::now();
            if is_due && self.keeper.glance() {
                self.look();
            }
            if is_due || news {
                self.report(None);
            }
        }
        self.leave()
    }

    /// Tells systemd that the loop turns, if it is time; when it will be again.
    fn feed(&mut self, now: Instant) -> Option<Instant> {
        let watchdog = self.watchdog.as_ref()?;
        if self.feed_at <= now {
            watchdog.feed();
            self.feed_at = now + watchdog.every();
        }
        Some(self.feed_at)
    }

    /// Takes what the checks have found; whether that is news.
    fn take_results(&mut self) -> bool {
        let mut news = false;
        while let Ok(Looked { check, outcome }) = self.duty.results.try_recv() {
            let Some((name, ok)) = self.duty.checks.get_mut(check) else {
                continue;
            };
            if *ok == Some(outcome.is_ok()) {
                continue;
            }
            match &outcome {
                Ok(()) => println!("check {name}: passed"),
                Err(error) => println!("check {name}: {error}"),
            }
            *ok = Some(outcome.is_ok());
            news = true;
        }
        news && self.duty.checks.iter().all(|(_, ok)| ok.is_some())
    }

    /// Looks at the host; whether that is news.
    fn look(&mut self) -> bool {
        let condition = self.keeper.state().condition;
        let before = (self.keeper.findings().clone(), self.keeper.vips());
        self.keeper.look();
        (self.looked, self.look_at) = (Instant::now(), None);
        if !self.keeper.mended().is_empty() {
            self.mended = (self.keeper.mended().to_vec(), RETELL);
        }
        let now = self.keeper.state().condition;
        if now != condition {
            println!("{now} from now on");
        }
        let after = (self.keeper.findings(), self.keeper.vips());
        now != condition || !self.keeper.mended().is_empty() || (&before.0, before.1) != after
    }

    /// Takes a new configuration, as a whole or not at all.
    fn reload(&mut self, configured: Result<Config, FileError>) {
        let adopted = configured.map_err(RunError::from).and_then(|config| {
            let duty = Duty::new(config.clone(), &self.duty.checks, &self.waker)?;
            self.keeper.adopt(config)?;
            Ok(duty)
        });
        match adopted {
            Ok(duty) => {
                self.duty = duty;
                self.report_at = Instant::now();
                println!("the configuration was read again");
            }
            Err(error) => eprintln!("rsagent: the configuration stays as it was: {error}"),
        }
    }

    /// Tells all directors, and when the next report is due.
    fn report(&mut self, state: Option<State>) {
        let interval = self.duty.config.interval;
        self.report_at = Instant::now() + wait(interval, self.random.next());
        if self.duty.directors.is_empty() {
            return;
        }
        let load = self.measure.look();
        let vips = match self.duty.config.mode {
            Mode::Nat => std::collections::BTreeMap::new(),
            Mode::Dr | Mode::Tun => self.keeper.vips(),
        };
        let mended = match &self.mended {
            (_, 0) => &[],
            (mended, _) => &mended[..],
        };
        let observed = Observed {
            vips: &vips,
            findings: self.keeper.findings(),
            mended,
            checks: &self.duty.checks,
            load,
            weight: weight(self.duty.config.weight, load.cpu_percent),
            condition: self.keeper.state().condition,
        };
        self.sequence += 1;
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        let sender = Sender {
            identity: self.duty.identity.clone(),
            boot: self.boot,
            sequence: self.sequence,
            time: time.map_or(0, |time| time.as_micros() as u64),
            interval: interval.as_millis() as u32,
        };
        let mut report = compose(sender, &observed);
        report.state = state.unwrap_or(report.state);
        self.mended.1 = self.mended.1.saturating_sub(1);
        match datagram(report, self.duty.key.as_ref()) {
            Ok(datagram) => self.duty.directors.send(&datagram),
            Err(error) => eprintln!("rsagent: {error}"),
        }
    }

    /// The directors hear of it first, and have a moment to take this server out.
    fn leave(&mut self) -> Result<(), RunError> {
        tell_systemd(&[NotifyState::Stopping]);
        if !self.duty.directors.is_empty() {
            for _ in 0..LEAVING_REPORTS {
                self.report(Some(State::Leaving));
            }
            sleep(LEAVING_PAUSE);
        }
        Ok(self.keeper.undo()?)
    }
}

/// What directors know this server by.
fn identity(config: &Config) -> String {
    let host = || nix::unistd::gethostname().ok()?.into_string().ok();
    let mut name = config.name.clone().or_else(host).unwrap_or_default();
    // A host's name is ASCII and up to 64 bytes (sethostname(2)), unless somebody has tried hard.
    name.retain(|letter| !letter.is_control());
    while name.len() > MAX_IDENTITY {
        name.pop();
    }
    match name.is_empty() {
        true => "unnamed".to_owned(),
        false => name,
    }
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

const SIGNALS: Token = Token(0);
const NETWORK: Token = Token(1);
const STATE: Token = Token(2);
const CHECKS: Token = Token(3);

/// Between two looks at the host: somebody else may insist on the contrary of what we want.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// Datagrams get lost: what was mended is told so often.
const RETELL: u8 = 3;

/// The same for the last word.
const LEAVING_REPORTS: u8 = 3;

/// Directors need less for taking a server out.
const LEAVING_PAUSE: Duration = Duration::from_millis(100);
