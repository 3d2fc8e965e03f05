//! The health checks of real servers, made by the loop itself: sockets that never block, a bounded amount of
//! work each turn. What to ask when, and what the answers mean, the pure part knows.

mod trust;
mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::{Registry, Token};
use shared::time::Time;
use tracing::{info, warn};

pub use self::trust::{TrustError, TrustStore};
use self::wire::{Heard, OpenError, Wire, server_name};
use super::intake::RINGS;
use super::scripts::{Command, ScriptId, Scripts};
use crate::config::Config;
use crate::core::balancer::Balancer;
use crate::core::judgement::{Health, Judge};
use crate::core::view::{CheckTally, CheckView};
use crate::health::checks::script;
use crate::health::checks::{
    CheckId, Checks, Failure, Kind, Outcome, Probe, Script, Start, Talk, Turn, Verdict, Watch, talk,
};

/// Makes the checks. See the [module](self).
#[derive(Debug)]
pub(super) struct ChecksDesk {
    registry: Registry,
    checks: Checks,
    trust: TrustStore,
    scripts: Scripts,
    /// Whose scripts run.
    of_scripts: BTreeMap<ScriptId, (CheckId, Arc<Probe>)>,
    /// Programs that are told of something.
    notices: BTreeMap<ScriptId, Script>,
    /// There may be more of them that have ended.
    scripts_wait: bool,
    running: BTreeMap<usize, Running>,
    deadlines: BTreeSet<(Time, usize)>,
    /// Connections on which there may be something to do.
    ready: VecDeque<usize>,
    next: usize,
    /// When it may be told again that checks cannot be made.
    quiet_until: Time,
    buffer: Box<[u8]>,
}

/// A check that is being made.
#[derive(Debug)]
struct Running {
    id: CheckId,
    probe: Arc<Probe>,
    round: usize,
    wire: Wire,
    talk: Box<dyn Talk>,
    stage: Stage,
    /// What has not gone out yet.
    unsent: Vec<u8>,
    deadline: Time,
    /// It is among those that are ready.
    awake: bool,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Handshake,
    Talking,
}

/// What a step came to.
#[derive(Debug)]
enum Step {
    /// There may be more to do at once.
    Again,
    /// Something will wake it up.
    Wait,
    End(Outcome),
}

impl ChecksDesk {
    /// Nothing is checked yet.
    pub(super) fn new(seed: u64, trust: TrustStore, registry: Registry) -> io::Result<ChecksDesk> {
        Ok(ChecksDesk {
            scripts: Scripts::new(registry.try_clone()?),
            registry,
            checks: Checks::new(seed),
            trust,
            of_scripts: BTreeMap::new(),
            notices: BTreeMap::new(),
            scripts_wait: false,
            running: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            ready: VecDeque::new(),
            next: TOKENS,
            quiet_until: Time::ZERO,
            buffer: vec![0; BUFFER].into(),
        })
    }

    /// Whether a token is that of a check.
    pub(super) fn owns(token: Token) -> bool {
        token.0 >= TOKENS
    }

    /// The connection of a check has something.
    pub(super) fn wake(&mut self, token: Token) {
        if let Some(running) = self.running.get_mut(&token.0)
            && !std::mem::replace(&mut running.awake, true)
        {
            self.ready.push_back(token.0);
        }
    }

    /// Whether there may be something to do at once.
    pub(super) fn is_busy(&self) -> bool {
        self.scripts_wait || !self.ready.is_empty()
    }

    /// When [`go_on`](Self::go_on) is to be called next.
    pub(super) fn poll_at(&self) -> Option<Time> {
        let deadline = self.deadlines.first().map(|&(at, _)| at);
        deadline.into_iter().chain(self.checks.poll_at()).min()
    }

    /// Other certificates count from now on.
    pub(super) fn set_trust(&mut self, trust: TrustStore) {
        self.trust = trust;
    }

    /// Services, servers or checks may be others than before.
    pub(super) fn watch(&mut self, now: Time, config: &Config, balancer: &mut Balancer) {
        let mut watches = Vec::new();
        for service in &config.services {
            for server in balancer.servers(&service.spec.key) {
                let checks = &service.checks.of(&server.key).checks;
                if checks.is_empty() {
                    continue;
                }
                let probes = checks.iter();
                let probes = probes.map(|check| Probe::new(&server.key, check));
                watches.push(Watch {
                    service: service.spec.key,
                    server: server.key,
                    weight: server.weight,
                    probes: probes.collect(),
                });
            }
        }
        carry_out(self.checks.watch(now, watches), now, balancer);
    }

    /// All checks, and how they are.
    pub(super) fn views(&self, now: Time) -> Vec<CheckView> {
        self.checks.views(now)
    }

    /// What the checks of each kind came to.
    pub(super) fn tallies(&self) -> Vec<CheckTally> {
        self.checks.tallies()
    }

    /// Does what is to be done now, or a part of it: packets wait meanwhile.
    pub(super) fn go_on(&mut self, now: Time, balancer: &mut Balancer) {
        self.end_scripts(now, balancer);
        self.step_all(now, balancer);
        for _ in 0..MOST_EXPIRED {
            let Some(&(at, place)) = self.deadlines.first() else {
                break;
            };
            if at > now {
                break;
            }
            self.expire(now, place, balancer);
        }
        for _ in 0..MOST_STARTS {
            let Some(start) = self.checks.start(now) else {
                break;
            };
            self.start(now, start, balancer);
        }
    }

    fn step_all(&mut self, now: Time, balancer: &mut Balancer) {
        let mut secured = 0;
        for _ in 0..self.ready.len().min(MOST_STEPS) {
            let Some(place) = self.ready.pop_front() else {
                return;
            };
            let Some(running) = self.running.get_mut(&place) else {
                continue;
            };
            if running.probe.check.is_secure() {
                if secured == MOST_SECURE_STEPS {
                    self.ready.push_back(place);
                    continue;
                }
                secured += 1;
            }
            match running.step(&self.trust, &mut self.buffer) {
                Step::Again => self.ready.push_back(place),
                Step::Wait => running.awake = false,
                Step::End(outcome) => self.finish(now, place, outcome, balancer),
            }
        }
    }

    fn start(&mut self, now: Time, start: Start, balancer: &mut Balancer) {
        let Start {
            id,
            probe,
            round,
            entropy,
        } = start;
        let Some(talk) = talk(&probe, round, entropy) else {
            self.run_script(now, id, &probe, balancer);
            return;
        };
        let place = self.next;
        let wire = match Wire::open(&probe, &self.registry, Token(place)) {
            Ok(wire) => wire,
            Err(OpenError::There(failure)) => {
                self.conclude(now, id, Err(failure), balancer);
                return;
            }
            Err(OpenError::Here(error)) => {
                self.postpone(now, id, &probe, &error);
                return;
            }
        };
        self.next += 1;
        let deadline = now + probe.check.timing.timeout;
        self.deadlines.insert((deadline, place));
        let running = Running {
            id,
            probe,
            round,
            wire,
            talk,
            stage: Stage::Connecting,
            unsent: Vec::new(),
            deadline,
            // The poll says so, also of what is ready from the start on.
            awake: false,
        };
        self.running.insert(place, running);
    }

    /// This host could not make a check. It is told once a minute, not for each.
    fn postpone(&mut self, now: Time, id: CheckId, probe: &Probe, error: &io::Error) {
        self.checks.postpone(now, id);
        if self.quiet_until <= now {
            self.quiet_until = now + QUIET;
            warn!("the check {probe} cannot be made, which says nothing of its server: {error}");
        }
    }

    /// The time of a check is up.
    fn expire(&mut self, now: Time, place: usize, balancer: &mut Balancer) {
        let Some(running) = self.running.get_mut(&place) else {
            return;
        };
        let after = running.probe.check.timing.timeout;
        let doing = match running.stage {
            Stage::Connecting => Some("connecting"),
            Stage::Handshake => Some("in the TLS handshake"),
            Stage::Talking => None,
        };
        let outcome = match doing {
            Some(doing) => Err(Failure::TimedOut { after, doing }),
            None => running.talk.expire(after),
        };
        self.finish(now, place, outcome, balancer);
    }

    /// Closing its descriptor takes it out of the poll.
    fn finish(&mut self, now: Time, place: usize, outcome: Outcome, balancer: &mut Balancer) {
        if let Some(mut running) = self.running.remove(&place) {
            self.deadlines.remove(&(running.deadline, place));
            running.wire.close();
            self.conclude(now, running.id, outcome, balancer);
        }
    }

    fn conclude(&mut self, now: Time, id: CheckId, outcome: Outcome, balancer: &mut Balancer) {
        carry_out(self.checks.finish(now, id, outcome), now, balancer);
    }

    fn run_script(&mut self, now: Time, id: CheckId, probe: &Arc<Probe>, balancer: &mut Balancer) {
        let Kind::Script(script) = &*probe.check.kind else {
            return;
        };
        let command = Command {
            words: script.command.clone(),
            environment: vec![
                ("LVS_SERVER_ADDRESS", probe.to.ip().to_string()),
                ("LVS_SERVER_PORT", probe.to.port().to_string()),
            ],
        };
        match self.scripts.run(command, probe.check.timing.timeout) {
            Ok(run) => {
                self.of_scripts.insert(run, (id, Arc::clone(probe)));
            }
            Err(error) => {
                let ending = script::Ending::NotStarted(error.to_string());
                let outcome = script::judge(script, &ending, &[]);
                self.conclude(now, id, outcome, balancer);
            }
        }
    }

    /// Runs a program that is to be told of something. How that ends is only told if it fails.
    pub(super) fn notify(&mut self, words: Vec<String>, environment: Vec<(&'static str, String)>) {
        let script = Script {
            command: words.clone(),
            dynamic: false,
        };
        let command = Command { words, environment };
        match self.scripts.run(command, NOTICE) {
            Ok(run) => {
                self.notices.insert(run, script);
            }
            Err(error) => warn!(
                "{} cannot be told of a change: {error}",
                script.command.join(" ")
            ),
        }
    }

    fn end_scripts(&mut self, now: Time, balancer: &mut Balancer) {
        self.scripts_wait = false;
        for _ in 0..MOST_SCRIPTS {
            let Some(ended) = self.scripts.ended() else {
                return;
            };
            if let Some(script) = self.notices.remove(&ended.id)
                && let Err(failure) = script::judge(&script, &ended.ending, &ended.output)
            {
                warn!(
                    "{}, which was told of a change: {failure}",
                    script.command.join(" ")
                );
            }
            if let Some((id, probe)) = self.of_scripts.remove(&ended.id)
                && let Kind::Script(script) = &*probe.check.kind
            {
                let outcome = script::judge(script, &ended.ending, &ended.output);
                self.conclude(now, id, outcome, balancer);
            }
        }
        self.scripts_wait = true;
    }
}

impl Running {
    fn step(&mut self, trust: &TrustStore, buffer: &mut [u8]) -> Step {
        match self.try_step(trust, buffer) {
            Ok(step) => step,
            Err(failure) => Step::End(Err(failure)),
        }
    }

    /// One read at most.
    fn try_step(&mut self, trust: &TrustStore, buffer: &mut [u8]) -> Result<Step, Failure> {
        if self.stage == Stage::Connecting {
            if !self.wire.is_connected()? {
                return Ok(Step::Wait);
            }
            self.stage = Stage::Handshake;
            self.secure(trust)?;
        }
        if self.stage == Stage::Handshake && self.wire.is_secured() {
            if self.wire.verify()? {
                return Ok(Step::Again);
            }
            self.stage = Stage::Talking;
            let turn = self.talk.open();
            if let Some(outcome) = self.take(turn) {
                return Ok(Step::End(outcome));
            }
        }
        self.wire.send(&mut self.unsent)?;
        let turn = match self.wire.receive(buffer)? {
            Heard::Nothing => return Ok(Step::Wait),
            Heard::Handshake => return Ok(Step::Again),
            Heard::End => return Ok(Step::End(self.talk.close())),
            Heard::Bytes(length) => self.talk.receive(&buffer[..length]),
        };
        if let Some(outcome) = self.take(turn) {
            return Ok(Step::End(outcome));
        }
        self.wire.send(&mut self.unsent)?;
        Ok(Step::Again)
    }

    /// What it says is to be sent; the outcome, if that was all.
    fn take(&mut self, turn: Turn) -> Option<Outcome> {
        self.unsent.extend(turn.send);
        turn.outcome
    }

    fn secure(&mut self, trust: &TrustStore) -> Result<(), Failure> {
        let Kind::Http(http) = &*self.probe.check.kind else {
            return Ok(());
        };
        let Some(tls) = &http.tls else {
            return Ok(());
        };
        let client = trust.of(&tls.trust);
        let client = client.ok_or_else(|| Failure::Tls("its authorities are gone".to_owned()))?;
        let url = &http.urls[self.round % http.urls.len()];
        let name = server_name(http, url, self.probe.to.ip())?;
        self.wire.secure(&client, name)
    }
}

fn carry_out(verdicts: Vec<Verdict>, now: Time, balancer: &mut Balancer) {
    for verdict in verdicts {
        match (verdict.sentence, verdict.judgement.health) {
            (Some(sentence), Health::Up) => info!("{sentence}"),
            (Some(sentence), _) => warn!("{sentence}"),
            (None, _) => {}
        }
        let (service, server) = (&verdict.service, &verdict.server);
        balancer.judge_server(now, service, server, Judge::Checks, verdict.judgement);
    }
}

/// First token of the connections of checks; below it are those of the rings.
const TOKENS: usize = RINGS + (1 << 32);
/// One read, bytes; no datagram is longer.
const BUFFER: usize = 64 * 1024;
/// Work of one turn. A connection that is made or closed costs some 30 us.
const MOST_STARTS: usize = 8;
const MOST_STEPS: usize = 16;
const MOST_EXPIRED: usize = 16;
const MOST_SCRIPTS: usize = 16;
/// So long a program may take that is told of something.
const NOTICE: Duration = Duration::from_secs(60);
/// Between two complaints of the same kind.
const QUIET: Duration = Duration::from_secs(60);
/// A certificate with its chain comes in one step with the handshake's own signature: with RSA that is below a
/// millisecond, with three signatures of P-384 between three and four.
const MOST_SECURE_STEPS: usize = 1;
