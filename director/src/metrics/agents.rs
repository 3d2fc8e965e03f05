//! The agents of real servers, as they reported last.

use super::family::Kind::Gauge;
use super::sheet::{Measure, Row, Sheet};
use crate::core::view::AgentView;

/// The families of agents.
#[derive(Debug)]
pub(super) struct Agents(Sheet<AgentView>);

impl Agents {
    pub(super) fn new() -> Agents {
        Agents(Sheet::new(AGENT))
    }

    pub(super) fn add(&mut self, agents: Vec<AgentView>) {
        let rows = agents.into_iter();
        let rows: Vec<Row<AgentView>> = rows
            .map(|agent| (vec![("agent", agent.address.to_string())], agent))
            .collect();
        self.0.add(rows);
    }

    pub(super) fn into_texts(self) -> impl Iterator<Item = Vec<u8>> {
        self.0.into_texts()
    }
}

const AGENT: &[Measure<AgentView>] = &[
    Measure {
        name: "lvs_agent_report_age_seconds",
        help: "Time since the last report of the real server's agent.",
        kind: Gauge,
        parts: &[(None, |agent| agent.age_ms as f64 / 1e3)],
    },
    Measure {
        name: "lvs_agent_healthy",
        help: "Whether all own checks of the real server's agent are well.",
        kind: Gauge,
        parts: &[(None, |agent| f64::from(u8::from(agent.healthy)))],
    },
    Measure {
        name: "lvs_agent_connections",
        help: "Open connections at the real server, as its agent says.",
        kind: Gauge,
        parts: &[(None, |agent| agent.connections.into())],
    },
    Measure {
        name: "lvs_agent_waiting_connections",
        help: "Connections that wait at the real server to be accepted, as its agent says.",
        kind: Gauge,
        parts: &[(None, |agent| agent.listen_queue.into())],
    },
];
