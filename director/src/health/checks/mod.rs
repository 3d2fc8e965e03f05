//! Health checks: which are to be made when, and what their outcomes mean for the servers.
//!
//! A check of one server is made once, whichever services share it. A server is up if all its checks are.
//! Whoever makes the checks asks for those that are [due](Checks::start) and says how they
//! [ended](Checks::finish).

mod body;
mod checker;
mod dns;
mod echo;
mod failure;
mod http;
mod model;
pub mod script;
mod smtp;
mod talk;
mod tally;
#[cfg(test)]
mod tests;
mod udp;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use shared::time::Time;

use self::checker::Checker;
pub use self::failure::{Failure, Outcome, Pass, quoted};
pub use self::model::{
    Check, Digest, Dns, Http, HttpVersion, Kind, Nibbles, Pattern, Probe, Reply, Script,
    StatusRange, Timing, Tls, Trust, Udp, Url, hex,
};
pub use self::talk::{Talk, Turn, talk};
use self::tally::Tallies;
use crate::core::judgement::{Health, Judgement};
use crate::core::operation::{ServerKey, ServiceKey};
use crate::core::random::Random;
use crate::core::view::{CheckTally, CheckView};

/// A real server that is judged by checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Of which service.
    pub service: ServiceKey,
    /// Which server.
    pub server: ServerKey,
    /// Its configured weight.
    pub weight: i32,
    /// All of them must go well.
    pub probes: Vec<Probe>,
}

/// A judgement that is another one than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Of which service.
    pub service: ServiceKey,
    /// Which server.
    pub server: ServerKey,
    /// What is said of it now.
    pub judgement: Judgement,
    /// For the log; none if it is up or down as before, or from the start on.
    pub sentence: Option<String>,
}

/// Names a check as long as it is there; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckId(u64);

/// A check that is to be made now.
#[derive(Debug, Clone)]
pub struct Start {
    /// Whose outcome to say.
    pub id: CheckId,
    /// What to ask of whom.
    pub probe: Arc<Probe>,
    /// Which URL.
    pub round: usize,
    /// For what must not be guessed.
    pub entropy: u64,
}

/// All checks. See the [module](self).
#[derive(Debug)]
pub struct Checks {
    random: Random,
    next: u64,
    ids: BTreeMap<Arc<Probe>, CheckId>,
    entries: BTreeMap<CheckId, Entry>,
    due: BTreeSet<(Time, CheckId)>,
    watched: Vec<Watched>,
    tallies: Tallies,
}

#[derive(Debug)]
struct Entry {
    probe: Arc<Probe>,
    checker: Checker,
    /// Places of those that it judges.
    watched: Vec<usize>,
    /// When it is to be made; none while it is.
    at: Option<Time>,
    /// When it was begun the last time.
    begun: Time,
}

#[derive(Debug)]
struct Watched {
    service: ServiceKey,
    server: ServerKey,
    weight: i32,
    checks: Vec<CheckId>,
    last: Option<Said>,
}

/// What was said of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    judgement: Judgement,
    /// Whether it is only down because it has not been checked yet.
    unknown: bool,
}

impl Checks {
    /// Nothing is checked yet. The seed is for what must not be guessed.
    pub fn new(seed: u64) -> Checks {
        Checks {
            random: Random::new(seed),
            next: 0,
            ids: BTreeMap::new(),
            entries: BTreeMap::new(),
            due: BTreeSet::new(),
            watched: Vec::new(),
            tallies: Tallies::default(),
        }
    }

    /// These servers are checked from now on, and no others. Checks that were made before go on as they are.
    /// Says what each server is, also if that is what was said before: it may have been removed and added
    /// since. Those that are not checked any more are as they were configured.
    pub fn watch(&mut self, now: Time, watches: impl IntoIterator<Item = Watch>) -> Vec<Verdict> {
        let mut before: BTreeMap<(ServiceKey, ServerKey), Said> = BTreeMap::new();
        for Watched {
            service,
            server,
            last,
            ..
        } in std::mem::take(&mut self.watched)
        {
            before.extend(last.map(|last| ((service, server), last)));
        }
        for entry in self.entries.values_mut() {
            entry.watched.clear();
        }
        for watch in watches {
            let place = self.watched.len();
            let probes = watch.probes.into_iter();
            let checks = probes.map(|probe| self.enter(now, probe, place)).collect();
            let (service, server) = (watch.service, watch.server);
            self.watched.push(Watched {
                service,
                server,
                weight: watch.weight,
                checks,
                last: before.remove(&(service, server)),
            });
        }
        self.forget_unwatched();
        let freed = before.into_keys().map(|(service, server)| Verdict {
            service,
            server,
            judgement: Judgement::default(),
            sentence: None,
        });
        let mut verdicts: Vec<Verdict> = freed.collect();
        for place in 0..self.watched.len() {
            let (verdict, _) = self.judge(place);
            verdicts.push(verdict);
        }
        verdicts
    }

    /// The check of this probe, which is made if it is new.
    fn enter(&mut self, now: Time, probe: Probe, place: usize) -> CheckId {
        if let Some(id) = self.ids.get(&probe) {
            let entry = self.entries.get_mut(id).expect("both have the same checks");
            entry.watched.push(place);
            return *id;
        }
        let id = CheckId(self.next);
        self.next += 1;
        let timing = probe.check.timing;
        let most = u64::try_from(timing.warmup.as_nanos()).unwrap_or(u64::MAX);
        let at = now + Duration::from_nanos(self.random.up_to(most));
        let probe = Arc::new(probe);
        self.ids.insert(Arc::clone(&probe), id);
        self.due.insert((at, id));
        let entry = Entry {
            probe,
            checker: Checker::new(now, &timing),
            watched: vec![place],
            at: Some(at),
            begun: at,
        };
        let kind = entry.probe.check.kind.name();
        self.tallies.enter(kind, entry.checker.is_up());
        self.entries.insert(id, entry);
        id
    }

    fn forget_unwatched(&mut self) {
        let (ids, due, tallies) = (&mut self.ids, &mut self.due, &mut self.tallies);
        self.entries.retain(|id, entry| {
            let stays = !entry.watched.is_empty();
            if !stays {
                ids.remove(&entry.probe);
                tallies.leave(entry.probe.check.kind.name(), entry.checker.is_up());
                if let Some(at) = entry.at {
                    due.remove(&(at, *id));
                }
            }
            stays
        });
    }

    /// When the next check is to be made.
    pub fn poll_at(&self) -> Option<Time> {
        self.due.first().map(|&(at, _)| at)
    }

    /// A check that is to be made now, if there is one. It is not due again before it has
    /// [ended](Self::finish).
    pub fn start(&mut self, now: Time) -> Option<Start> {
        let &(_, id) = self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.pop_first();
        let entry = self
            .entries
            .get_mut(&id)
            .expect("what is due has not been forgotten");
        entry.at = None;
        entry.begun = now;
        Some(Start {
            id,
            probe: Arc::clone(&entry.probe),
            round: entry.checker.round(),
            entropy: self.random.word(),
        })
    }

    /// A check could not be made, and that is nothing to say of its server: it is tried again a little later.
    pub fn postpone(&mut self, now: Time, id: CheckId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            let at = now
                + entry
                    .probe
                    .check
                    .timing
                    .delay_before_retry
                    .max(SHORTEST_DELAY);
            entry.at = Some(at);
            self.due.insert((at, id));
        }
    }

    /// A check has ended.
    pub fn finish(&mut self, now: Time, id: CheckId, outcome: Outcome) -> Vec<Verdict> {
        let Some(entry) = self.entries.get_mut(&id) else {
            return Vec::new();
        };
        let kind = entry.probe.check.kind.name();
        self.tallies.count(kind, &outcome, now.since(entry.begun));
        self.tallies.leave(kind, entry.checker.is_up());
        let after = entry.checker.conclude(now, &entry.probe.check, outcome);
        self.tallies.enter(kind, entry.checker.is_up());
        let at = now + after;
        entry.at = Some(at);
        self.due.insert((at, id));
        let places = entry.watched.clone();
        let verdicts = places.into_iter().map(|place| self.judge(place));
        verdicts
            .filter(|(_, fresh)| *fresh)
            .map(|(verdict, _)| verdict)
            .collect()
    }

    /// What is to be said of a server, and whether it is anything new.
    fn judge(&mut self, place: usize) -> (Verdict, bool) {
        let entries = &self.entries;
        let watched = &mut self.watched[place];
        let checks = watched.checks.iter().filter_map(|id| entries.get(id));
        let mut said = Said {
            judgement: Judgement::default(),
            unknown: false,
        };
        let mut change = 0;
        for entry in checks {
            if let Pass::Weight(weight) = entry.checker.pass() {
                // As a change, so that those of several scripts add up.
                change += i32::from(weight) - watched.weight;
            }
            if entry.checker.is_up() || said.judgement.health == Health::Down {
                continue;
            }
            said.unknown = !entry.checker.has_run();
            said.judgement = Judgement {
                health: Health::Down,
                reason: Some(reason(entry)),
                ..Judgement::default()
            };
        }
        said.judgement.change = change;
        let fresh = watched.last.as_ref() != Some(&said);
        let verdict = Verdict {
            service: watched.service,
            server: watched.server,
            sentence: sentence(watched, &said),
            judgement: said.judgement.clone(),
        };
        watched.last = Some(said);
        (verdict, fresh)
    }

    /// What the checks of each kind came to.
    pub fn tallies(&self) -> Vec<CheckTally> {
        self.tallies.views()
    }

    /// All checks, and how they are.
    pub fn views(&self, now: Time) -> Vec<CheckView> {
        let views = self.entries.values().map(|entry| {
            let (probe, checker) = (&entry.probe, &entry.checker);
            let places = entry.watched.iter();
            let servers: BTreeSet<ServerKey> =
                places.map(|&place| self.watched[place].server).collect();
            CheckView {
                check: probe.to_string(),
                kind: probe.check.kind.name().to_owned(),
                servers: servers.into_iter().collect(),
                up: checker.is_up(),
                checked: checker.has_run(),
                secs: now.since(checker.since()).as_secs(),
                failure: checker.failure().map(ToString::to_string),
            }
        });
        views.collect()
    }
}

/// Why a check has its server down.
fn reason(entry: &Entry) -> String {
    let kind = entry.probe.check.kind.name();
    match entry.checker.failure() {
        Some(failure) => format!("its check by {kind} fails: {failure}"),
        None if entry.checker.has_run() => format!("its check by {kind} is not through yet"),
        None => format!("its check by {kind} has not been made yet"),
    }
}

fn sentence(watched: &Watched, said: &Said) -> Option<String> {
    let health = said.judgement.health;
    let gist = |said: &Said| (said.judgement.health, said.unknown);
    let before = watched.last.as_ref().map(gist);
    if before == Some(gist(said)) || before.is_none() && health == Health::Up {
        return None;
    }
    let (server, service) = (watched.server, watched.service);
    let because = said.judgement.reason.as_ref();
    let because = because.map_or_else(String::new, |reason| format!(": {reason}"));
    Some(format!(
        "{server} is {}, for {service}{because}",
        health.name()
    ))
}

/// What is in the way of a check here is there for some time.
const SHORTEST_DELAY: Duration = Duration::from_secs(1);
