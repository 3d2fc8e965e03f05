//! The agents of real servers: what they report, and what that means for the servers.
//!
//! An agent is known by the address that its reports come from, which is that of its real server (RIP). A
//! server that is judged by its agent is down until the first report, up while reports come and say so,
//! and down at once when one says otherwise or when [`AgentCheck::missed`] of them are missing. What comes
//! and is no good report changes nothing and is counted ([`complaints`]).

pub mod check;
pub mod complaints;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use shared::agent::{Key, Order, Report, Stale, Window, decode};
use shared::time::Time;

use self::check::AgentCheck;
use self::complaints::{Complaint, Complaints};
pub use self::verdict::Verdict;
use self::verdict::judge;
use crate::core::judgement::{Health, Judgement};
use crate::core::operation::{ForwardMethod, ServerKey, ServiceKey};
use crate::core::view::{AgentView, ReportsView};

/// A real server that is judged by its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// Of which service.
    pub service: ServiceKey,
    /// Which server.
    pub server: ServerKey,
    /// How packets get there.
    pub forward: ForwardMethod,
    /// What is expected of its agent.
    pub check: AgentCheck,
}

/// All agents. See the [module](self).
#[derive(Debug, Default)]
pub struct Agents {
    key: Option<Key>,
    agents: BTreeMap<IpAddr, Agent>,
    watched: BTreeMap<IpAddr, Vec<Watched>>,
    /// When to look whether an agent has fallen silent.
    due: BTreeSet<(Time, IpAddr)>,
    /// The earliest of these of each: a report need not ask for another look.
    looks: BTreeMap<IpAddr, Time>,
    complaints: Complaints,
}

/// What is known of an agent.
#[derive(Debug)]
struct Agent {
    window: Window,
    /// The newest.
    report: Report,
    arrived: Time,
}

#[derive(Debug)]
struct Watched {
    watch: Watch,
    /// What was said of it last.
    last: Option<Judgement>,
}

/// Which judgements are said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Say {
    All,
    /// Those that are others than before.
    Changes,
}

impl Agents {
    /// Nobody has reported yet. Without a key every report is believed.
    pub fn new(key: Option<Key>) -> Agents {
        Agents {
            key,
            ..Agents::default()
        }
    }

    /// Reports from now on are held against another key.
    pub fn set_key(&mut self, key: Option<Key>) {
        self.key = key;
    }

    /// These servers are judged from now on, and no others. Says what each is, also if that is what was said
    /// before: it may have been removed and added since. Those that are not judged any more are as they were
    /// configured.
    pub fn watch(&mut self, now: Time, watches: impl IntoIterator<Item = Watch>) -> Vec<Verdict> {
        let mut before: BTreeMap<(ServiceKey, ServerKey), Watched> = BTreeMap::new();
        for watched in std::mem::take(&mut self.watched).into_values().flatten() {
            before.insert((watched.watch.service, watched.watch.server), watched);
        }
        for watch in watches {
            let known = before.remove(&(watch.service, watch.server));
            let last = known.and_then(|known| known.last);
            let of_address = self.watched.entry(watch.server.address).or_default();
            of_address.push(Watched { watch, last });
        }
        let freed = before
            .into_values()
            .filter(|watched| watched.last.is_some());
        let mut verdicts: Vec<Verdict> = freed
            .map(|watched| Verdict::freed(&watched.watch))
            .collect();
        self.due.clear();
        self.looks.clear();
        let addresses: Vec<IpAddr> = self.watched.keys().copied().collect();
        for address in addresses {
            self.judge(now, address, Say::All, &mut verdicts);
        }
        verdicts
    }

    /// A datagram came. `wall` is the wall clock in microseconds since 1970.
    pub fn receive(&mut self, now: Time, wall: u64, from: IpAddr, datagram: &[u8]) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let known = self.agents.contains_key(&from);
        match self.take(now, wall, from, datagram) {
            Ok(Order::Newest) => {
                match self.watched.contains_key(&from) {
                    true => {}
                    // Nothing is wrong with it, so it is told once.
                    false if known => self.complaints.count_silently(Complaint::UnknownSender),
                    false => self.complaints.count(from, Complaint::UnknownSender),
                }
                self.judge(now, from, Say::Changes, &mut verdicts);
            }
            Ok(Order::Late) => {}
            Err(complaint) => self.complaints.count(from, complaint),
        }
        verdicts
    }

    /// Believes a report, or says why not.
    fn take(
        &mut self,
        now: Time,
        wall: u64,
        from: IpAddr,
        datagram: &[u8],
    ) -> Result<Order, Complaint> {
        let report = decode(datagram, self.key.as_ref())?;
        let known = self.agents.get(&from);
        let same_run = known.is_some_and(|agent| agent.report.boot == report.boot);
        if same_run && known.is_some_and(|agent| agent.report.identity != report.identity) {
            return Err(Complaint::Mistaken);
        }
        if !same_run && self.reports_elsewhere(now, from, report.boot) {
            return Err(Complaint::Mistaken);
        }
        if known.is_none() && self.agents.len() >= MOST_AGENTS {
            return Err(Complaint::TooMany);
        }
        let mut window = known.map_or_else(Window::default, |agent| agent.window.clone());
        let order = window.accept(report.boot, report.sequence, report.time, wall);
        let order = order.map_err(|stale| match stale {
            Stale::OutOfTime(_) => Complaint::OutOfTime,
            Stale::Replayed | Stale::OldBoot => Complaint::Replayed,
        })?;
        match (order, self.agents.get_mut(&from)) {
            // An older report changes nothing but the window.
            (Order::Late, Some(agent)) => agent.window = window,
            _ => {
                let agent = Agent {
                    window,
                    report,
                    arrived: now,
                };
                self.agents.insert(from, agent);
            }
        }
        self.complaints.good();
        Ok(order)
    }

    /// Whether this run of an agent reports from another address: what one real server said is not to be
    /// believed of another.
    fn reports_elsewhere(&self, now: Time, from: IpAddr, boot: u64) -> bool {
        self.agents.iter().any(|(address, agent)| {
            *address != from && agent.report.boot == boot && now.since(agent.arrived) < ELSEWHERE
        })
    }

    /// Judges the servers at an address.
    fn judge(&mut self, now: Time, address: IpAddr, say: Say, verdicts: &mut Vec<Verdict>) {
        let Some(of_address) = self.watched.get_mut(&address) else {
            return;
        };
        let heard = self.agents.get(&address);
        let heard = heard.map(|agent| (&agent.report, agent.arrived));
        let mut next: Option<Time> = None;
        for watched in of_address {
            let judgement = judge(now, &watched.watch, heard);
            if let Some((report, arrived)) = heard {
                let silent_at = arrived + watched.watch.check.patience(report);
                if silent_at > now {
                    next = next.into_iter().chain([silent_at]).min();
                }
            }
            if say == Say::Changes && watched.last.as_ref() == Some(&judgement) {
                continue;
            }
            let before = watched.last.replace(judgement.clone());
            verdicts.push(Verdict::new(&watched.watch, before, judgement));
        }
        if let Some(next) = next
            && self.looks.get(&address).is_none_or(|&look| next < look)
        {
            self.due.insert((next, address));
            self.looks.insert(address, next);
        }
    }

    /// When [`tick`](Self::tick) is to be called next.
    pub fn poll_at(&self) -> Option<Time> {
        let silent = self.due.first().map(|&(at, _)| at);
        silent.into_iter().chain(self.complaints.poll_at()).min()
    }

    /// Finds the agents that have fallen silent.
    pub fn tick(&mut self, now: Time) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        while let Some(&(at, address)) = self.due.first()
            && at <= now
        {
            self.due.pop_first();
            self.looks.remove(&address);
            self.judge(now, address, Say::Changes, &mut verdicts);
        }
        verdicts
    }

    /// What was wrong with what came, as sentences for the log: once a minute. Then it is also forgotten
    /// who has said nothing for an hour and belongs to no server.
    pub fn take_complaints(&mut self, now: Time) -> Vec<String> {
        let sentences = self.complaints.take(now);
        if !sentences.is_empty() {
            let watched = &self.watched;
            self.agents.retain(|address, agent| {
                watched.contains_key(address) || now.since(agent.arrived) < FORGOTTEN
            });
        }
        sentences
    }

    /// How many reports came, good ones and others.
    pub fn reports(&self) -> ReportsView {
        self.complaints.view()
    }

    /// The name that the agent at this address gives itself.
    pub fn identity(&self, address: IpAddr) -> Option<&str> {
        let agent = self.agents.get(&address);
        agent.map(|agent| agent.report.identity.as_str())
    }

    /// All agents that have reported.
    pub fn views(&self, now: Time) -> Vec<AgentView> {
        let views = self.agents.iter().map(|(&address, agent)| {
            let servers = self.watched.get(&address);
            verdict::view(now, address, &agent.report, agent.arrived, servers)
        });
        views.collect()
    }
}

/// Agents that are remembered; without a key anybody could be one.
const MOST_AGENTS: usize = 16_384;
/// So long a run of an agent belongs to the address that it reported from: as long as its old reports could
/// be sent again, at both ends of the window of time.
const ELSEWHERE: Duration = Duration::from_secs(60);
/// So long an agent that belongs to no server is shown.
const FORGOTTEN: Duration = Duration::from_secs(3600);
