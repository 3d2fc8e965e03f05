//! Schedulers: which real server gets the next connection.
//!
//! A scheduler is one file with the trait, and one line in [`SCHEDULERS`].

mod rr;
#[cfg(test)]
mod tests;
mod wlc;
mod wrr;

use std::fmt::Debug;

use shared::addr::FlowKey;

use super::arena::Arena;
use super::operation::OperationError;
use super::server::{Server, ServerId};

/// What a scheduler is asked and told. Positions are those of the [`Pool`].
pub trait Scheduler: Debug + Send {
    /// The service begins to use this scheduler.
    fn init(&mut self, _pool: &Pool<'_>) {}

    /// A server was added; it is at position 0 and the others have moved up.
    fn added(&mut self, _pool: &Pool<'_>) {}

    /// The server that was at `position` was removed, and the ones behind it have moved down.
    fn deleted(&mut self, _pool: &Pool<'_>, _position: usize) {}

    /// A server's weight or another of its properties was changed.
    fn updated(&mut self, _pool: &Pool<'_>) {}

    /// The position of the server for a new connection, opened by a packet of this flow.
    fn pick(&mut self, pool: &Pool<'_>, flow: &FlowKey) -> Option<usize>;
}

/// The servers of a service, newest first.
#[derive(Debug, Clone, Copy)]
pub struct Pool<'a> {
    list: &'a [ServerId],
    servers: &'a Arena<ServerId, Server>,
}

impl<'a> Pool<'a> {
    pub(super) fn new(list: &'a [ServerId], servers: &'a Arena<ServerId, Server>) -> Pool<'a> {
        Pool { list, servers }
    }

    /// Positions and servers, from a position on.
    pub fn from(self, start: usize) -> impl Iterator<Item = (usize, &'a Server)> {
        let list = self.list.get(start..).unwrap_or_default();
        (start..).zip(list.iter().map(move |&id| &self.servers[id]))
    }

    /// Positions and servers.
    pub fn iter(self) -> impl Iterator<Item = (usize, &'a Server)> {
        self.from(0)
    }
}

/// The scheduler of a name, in its initial state.
pub fn by_name(name: &str) -> Result<Box<dyn Scheduler>, OperationError> {
    if let Some((_, scheduler)) = SCHEDULERS.iter().find(|(known, _)| *known == name) {
        return Ok(scheduler());
    }
    if LATER.contains(&name) {
        return Err(OperationError::NotYet(format!("scheduler `{name}'")));
    }
    Err(OperationError::NoSuchScheduler(name.to_owned()))
}

/// How a scheduler comes into being.
type Make = fn() -> Box<dyn Scheduler>;

/// All schedulers.
const SCHEDULERS: &[(&str, Make)] = &[
    ("rr", || Box::<rr::RoundRobin>::default()),
    ("wrr", || Box::<wrr::WeightedRoundRobin>::default()),
    ("wlc", || Box::<wlc::WeightedLeastConnection>::default()),
];

/// Those of the kernel that are not there yet.
const LATER: &[&str] = &[
    "lc", "sed", "nq", "lblc", "lblcr", "dh", "sh", "mh", "fo", "ovf", "twos", "none",
];
