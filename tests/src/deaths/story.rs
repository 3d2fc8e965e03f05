//! What happened in a run, and what must not have.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use super::NOTICED;
use super::clients::Request;
use super::clock::Clock;
use super::plan::Way;
use super::tap::Syn;

/// A real server was dead. Times are since the begin of the run.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// Which, counted from 0.
    pub server: usize,
    /// How it died.
    pub way: Way,
    /// It was well until then,
    pub died: Duration,
    /// and from then on.
    pub returned: Duration,
}

impl Outage {
    pub(super) fn new(server: usize, way: Way, died: Duration) -> Outage {
        Outage {
            server,
            way,
            died,
            returned: Duration::MAX,
        }
    }
}

/// What the director said of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    at: Duration,
    server: usize,
    up: bool,
}

/// What the director's log says of servers that are called so.
pub(super) fn verdicts(log: &str, servers: &[String], clock: Clock) -> Vec<Verdict> {
    let lines = log.lines().filter_map(|line| {
        let server = servers.iter().position(|server| line.contains(server))?;
        let up = line.contains(" is up, for ");
        let told = up || line.contains(" is down, for ");
        told.then_some(Verdict {
            at: clock.of_line(line)?,
            server,
            up,
        })
    });
    lines.collect()
}

/// See the [module](self).
#[derive(Debug)]
pub struct Story {
    pub(super) seed: u64,
    pub(super) length: Duration,
    pub(super) outages: Vec<Outage>,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) syns: Vec<Syn>,
    pub(super) requests: Vec<Request>,
    pub(super) log: String,
}

impl Story {
    /// How often a server died.
    pub fn deaths(&self) -> usize {
        self.outages.len()
    }

    /// Requests that were made.
    pub fn requests(&self) -> usize {
        self.requests.len()
    }

    /// Those that failed.
    pub fn failed(&self) -> usize {
        self.failures().count()
    }

    /// Those that failed though no server that they were sent to was dead and not yet declared down.
    pub fn failed_outside(&self) -> usize {
        self.outside().count()
    }

    /// Connections that were begun towards a server while it was declared down, and segments of earlier ones
    /// that asked once more.
    pub fn sent_while_down(&self) -> (usize, usize) {
        let mut known = BTreeSet::new();
        let (mut begun, mut again) = (0, 0);
        for syn in &self.syns {
            let first = known.insert((syn.port, syn.sequence));
            if self.is_down(syn.server, syn.at) {
                *(if first { &mut begun } else { &mut again }) += 1;
            }
        }
        (begun, again)
    }

    /// From a death to its verdict, of those that were noticed.
    pub fn detections(&self) -> Vec<(Way, Duration)> {
        let noticed = self.outages.iter().filter_map(|outage| {
            let at = self.declared(outage)?;
            Some((outage.way, at - outage.died))
        });
        noticed.collect()
    }

    /// The numbers.
    pub fn text(&self) -> String {
        let detections = self.detections();
        let (begun, again) = self.sent_while_down();
        let mut text = format!(
            "seed {}, {:?}: {} requests, {} failed, {} of them outside of the times from a death to its \
             verdict; {} deaths, {} noticed; sent to servers that were down: {begun} new connections, {again} \
             repeated SYNs",
            self.seed,
            self.length,
            self.requests(),
            self.failed(),
            self.failed_outside(),
            self.outages.len(),
            detections.len()
        );
        for way in Way::ALL {
            let of_way = detections.iter().filter(|(known, _)| *known == way);
            let longest = of_way.map(|(_, time)| *time).max().unwrap_or_default();
            // Memory takes everything.
            let _ = write!(text, "; {way:?}: noticed after {longest:.0?} at most");
        }
        text
    }

    /// Holds the run against what was promised.
    ///
    /// # Panics
    /// If it was not kept.
    pub fn judge(&self) {
        let text = self.text();
        assert_eq!(self.sent_while_down(), (0, 0), "{text}\n{}", self.log);
        let outside: Vec<String> = self
            .outside()
            .map(|request| {
                let syns = self.syns.iter().filter(|syn| syn.port == request.port);
                format!("{request:?}, of its port {:?}", syns.collect::<Vec<_>>())
            })
            .collect();
        let nothing: &[String] = &[];
        assert_eq!(
            outside, nothing,
            "{text}\n{:#?}\n{:?}\n{}",
            self.outages, self.verdicts, self.log
        );
        for outage in &self.outages {
            let lasted = outage.returned - outage.died;
            let after = self.declared(outage).map(|at| at - outage.died);
            assert!(
                after.map_or(lasted < NOTICED + SLACK, |after| after < NOTICED + SLACK),
                "{outage:?} noticed after {after:?}\n{text}\n{}",
                self.log
            );
        }
        // The run has shown something: requests went on, each server had some at the end, and all were seen.
        assert!(
            self.outages.len() >= 3 && !self.detections().is_empty(),
            "{text}"
        );
        assert!(
            self.requests() > self.length.as_secs() as usize * 50,
            "{text}"
        );
        assert!(self.failed() > 0, "{text}");
        let unseen = self
            .requests
            .iter()
            .filter(|request| request.failure.is_none());
        let unseen = unseen.filter(|request| self.servers_of(request).is_empty());
        assert_eq!(unseen.count(), 0, "{text}");
        let mut last: BTreeMap<usize, Duration> = BTreeMap::new();
        last.extend(self.syns.iter().map(|syn| (syn.server, syn.at)));
        for outage in &self.outages {
            assert!(
                last[&outage.server] > outage.returned,
                "{text}\n{}",
                self.log
            );
        }
    }

    fn failures(&self) -> impl Iterator<Item = &Request> {
        let requests = self.requests.iter();
        requests.filter(|request| request.failure.is_some())
    }

    fn outside(&self) -> impl Iterator<Item = &Request> {
        self.failures().filter(|request| {
            let servers = self.servers_of(request);
            let mut outages = self.outages.iter();
            !outages.any(|outage| {
                // A check that was begun before the return may have its verdict after it.
                let over = self.declared(outage).unwrap_or(outage.returned);
                servers.contains(&outage.server)
                    && request.begin <= over
                    && request.end >= outage.died
            })
        })
    }

    /// Whom the director sent it to.
    fn servers_of(&self, request: &Request) -> BTreeSet<usize> {
        let from = self.syns.partition_point(|syn| syn.at < request.begin);
        let syns = self.syns[from..].iter();
        let meanwhile = syns.take_while(|syn| syn.at <= request.end);
        let of_it = meanwhile.filter(|syn| syn.port == request.port);
        of_it.map(|syn| syn.server).collect()
    }

    /// When a dead server was declared down, if that was because of this death.
    fn declared(&self, outage: &Outage) -> Option<Duration> {
        let verdicts = self.verdicts.iter();
        let down = verdicts.filter(|verdict| verdict.server == outage.server && !verdict.up);
        let mut after = down
            .map(|verdict| verdict.at)
            .filter(|at| *at >= outage.died);
        after
            .next()
            .filter(|at| *at < outage.returned.saturating_add(NOTICED))
    }

    fn is_down(&self, server: usize, at: Duration) -> bool {
        let verdicts = self.verdicts.iter();
        let mut of_it = verdicts.filter(|verdict| verdict.server == server && verdict.at < at);
        of_it.next_back().is_some_and(|verdict| !verdict.up)
    }
}

/// What a loaded machine may take in addition.
const SLACK: Duration = Duration::from_millis(1500);
