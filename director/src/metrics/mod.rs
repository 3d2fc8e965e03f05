//! What the director shows to Prometheus: from its views to the text format, version 0.0.4.
//!
//! A [`Scrape`] is made in pieces, each of which looks at a bounded number of real servers, so that packets do
//! not wait for it. All numbers of one server, and of one service, are of one instant. Names, units and labels
//! follow Prometheus' conventions; no label has a value that a client could choose. With `node_exporter_names`
//! there are also the eight of node_exporter's collector ipvs, so that dashboards made for it go on.
//!
//! Every request is a page or a refusal ([`http`]).

mod agents;
mod backends;
mod family;
mod general;
pub mod http;
pub mod labels;
mod sheet;
#[cfg(test)]
pub(crate) mod tests;
mod turns;

use std::net::IpAddr;
use std::vec;

use self::agents::Agents;
use self::backends::{Backends, Services};
pub use self::general::{Reload, Snapshot};
use self::labels::BackendLabels;
pub use self::turns::Turns;
use crate::core::operation::ServiceKey;
use crate::core::view::{AgentView, ServerView, ServiceView};

/// What is to be shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Also the names of node_exporter's collector ipvs.
    pub node_exporter_names: bool,
    /// The labels of real servers that are kept.
    pub backend_labels: BackendLabels,
}

/// Where the numbers come from. Services and agents may come and go between two questions.
pub trait Source {
    /// The first service behind this one, in the order of their keys; or the first of all.
    fn service_after(&self, key: Option<&ServiceKey>) -> Option<ServiceView>;

    /// The first agent behind this one that judges a server, in the order of addresses; or the first of all.
    fn agent_after(&self, address: Option<IpAddr>) -> Option<AgentView>;
}

/// A scrape that is being made. See the [module](self).
#[derive(Debug)]
pub struct Scrape {
    general: Vec<u8>,
    services: Services,
    backends: Vec<Backends>,
    agents: Agents,
    stage: Stage,
}

/// How far it is.
#[derive(Debug)]
enum Stage {
    /// The service that was asked for last, and its servers that are not written yet.
    Services(Option<ServiceKey>, vec::IntoIter<ServerView>),
    Sums,
    Agents(Option<IpAddr>),
    Over,
}

/// Whether a scrape needs another [`step`](Scrape::step).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It does.
    More,
    /// It is complete.
    Complete,
}

impl Scrape {
    /// One that shows these options, with what there is once.
    pub fn new(options: &Options, snapshot: &Snapshot) -> Scrape {
        let labels = &options.backend_labels;
        let mut backends = vec![Backends::own(labels)];
        if options.node_exporter_names {
            backends.push(Backends::node_exporters(labels));
        }
        Scrape {
            general: general::text(snapshot, options.node_exporter_names),
            services: Services::new(),
            backends,
            agents: Agents::new(),
            stage: Stage::Services(None, Vec::new().into_iter()),
        }
    }

    /// Goes on by one piece.
    pub fn step(&mut self, source: &dyn Source) -> Progress {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Services(at, rest) => self.services(source, at, rest),
            Stage::Sums => self.sums(),
            Stage::Agents(at) => self.agents(source, at),
            Stage::Over => Stage::Over,
        };
        match self.stage {
            Stage::Over => Progress::Complete,
            _ => Progress::More,
        }
    }

    /// The whole text, in the pieces that it lies in.
    pub fn into_texts(self) -> Vec<Vec<u8>> {
        let backends = self.backends.into_iter().flat_map(Backends::into_texts);
        let texts = [self.general].into_iter();
        let texts = texts.chain(self.services.into_texts()).chain(backends);
        let texts = texts.chain(self.agents.into_texts());
        texts.filter(|text| !text.is_empty()).collect()
    }

    fn services(
        &mut self,
        source: &dyn Source,
        mut at: Option<ServiceKey>,
        mut rest: vec::IntoIter<ServerView>,
    ) -> Stage {
        let mut servers: Vec<(ServiceKey, ServerView)> = Vec::new();
        let mut services = 0;
        let next = loop {
            if let Some(key) = at {
                let room = SERVERS.saturating_sub(servers.len());
                servers.extend(rest.by_ref().take(room).map(|server| (key, server)));
            }
            if servers.len() >= SERVERS || services >= SERVICES {
                break Stage::Services(at, rest);
            }
            let Some(service) = source.service_after(at.as_ref()) else {
                break Stage::Sums;
            };
            self.services.add(&service);
            services += 1;
            at = Some(service.spec.key);
            rest = service.servers.into_iter();
        };
        for backends in &mut self.backends {
            backends.add(&servers);
        }
        next
    }

    fn sums(&mut self) -> Stage {
        let mut more = false;
        for backends in &mut self.backends {
            more |= backends.add_sums(SERVERS);
        }
        if more {
            Stage::Sums
        } else {
            Stage::Agents(None)
        }
    }

    fn agents(&mut self, source: &dyn Source, mut at: Option<IpAddr>) -> Stage {
        let mut agents = Vec::new();
        while agents.len() < SERVERS {
            let Some(agent) = source.agent_after(at) else {
                self.agents.add(agents);
                return Stage::Over;
            };
            at = Some(agent.address);
            agents.push(agent);
        }
        self.agents.add(agents);
        Stage::Agents(at)
    }
}

/// Real servers, or agents, of one piece: about a tenth of a millisecond, for which a packet may have to wait.
const SERVERS: usize = 16;
/// Services of one piece, for those that have few servers.
const SERVICES: usize = 8;
