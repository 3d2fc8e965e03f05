//! What the loop shows of itself to clients of the metrics port.

use std::net::IpAddr;

use shared::time::Time;

use super::EventLoop;
use crate::control::session::Backend;
use crate::core::balancer::Balancer;
use crate::core::operation::ServiceKey;
use crate::core::view::{AgentView, ServiceView};
use crate::io::agents::AgentsDesk;
use crate::io::clock::wall_micros;
use crate::metrics::{Reload, Snapshot, Source};

impl EventLoop {
    /// One piece of what they want, after the packets of this turn.
    pub(super) fn serve_metrics(&mut self) {
        let late = self.metrics.poll_at().is_some_and(|at| at <= self.now);
        if !late && !self.metrics.is_busy() {
            return;
        }
        if self.metrics.wants_scrape() {
            let snapshot = self.snapshot();
            self.metrics.begin(&snapshot);
        }
        let captures = self.intake.iter_mut().next().is_some();
        let forwards = match (captures, &self.control) {
            (true, Some(_)) => Ok(()),
            (false, _) => Err("no interface is there to take packets from"),
            (true, None) => Err("the director is starting"),
        };
        let sight = Sight {
            now: self.now,
            balancer: &self.director.balancer,
            agents: &self.agents,
        };
        self.metrics.go_on(self.now, forwards, &sight);
    }

    fn snapshot(&mut self) -> Snapshot {
        let status = self.desk().status();
        let (scrapes, cut_off) = self.metrics.counts();
        let connections = self.config.connections;
        Snapshot {
            status,
            totals: self.director.balancer.totals(),
            checks: self.checks.tallies(),
            services: self.director.balancer.service_count(),
            most_connections: connections.max,
            most_half_open: connections.half_open,
            turns: self.turns.clone(),
            reload: self.reloaded,
            scrapes: scrapes + 1,
            cut_off,
            process: self.metrics.process(),
        }
    }
}

/// What a scrape asks piece by piece.
struct Sight<'a> {
    now: Time,
    balancer: &'a Balancer,
    agents: &'a AgentsDesk,
}

impl Source for Sight<'_> {
    fn service_after(&self, key: Option<&ServiceKey>) -> Option<ServiceView> {
        self.balancer.service_after(key)
    }

    fn agent_after(&self, address: Option<IpAddr>) -> Option<AgentView> {
        self.agents.view_after(self.now, address)
    }
}

/// The configuration is read, now.
pub(super) fn reloaded_now() -> Reload {
    Reload {
        good: true,
        at_secs: wall_micros() / 1_000_000,
    }
}
