//! Schedulers: which real server gets the next connection.
//!
//! A scheduler is one file with the trait, and one line in [`SCHEDULERS`].

mod dh;
mod fo;
mod hash_table;
mod lblc;
mod lblcr;
mod lc;
mod least;
mod locality;
mod mh;
mod none;
mod nq;
mod ovf;
mod rr;
mod sed;
mod sh;
#[cfg(test)]
mod tests;
mod twos;
mod wlc;
mod wrr;

use std::fmt::Debug;
use std::time::Duration;

use shared::addr::FlowKey;
use shared::time::Time;

use super::arena::Arena;
use super::operation::{OperationError, SchedulerFlags, ServerKey};
use super::random::Random;
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

    /// Whether twice the weight is twice the share: then a share can rise slowly.
    fn shares_by_weight(&self) -> bool {
        false
    }

    /// The position of the server for a new connection.
    fn pick(&mut self, pool: &Pool<'_>, opening: &mut Opening<'_>) -> Option<usize>;
}

/// The packet that opens a connection, and what else a choice may depend on.
#[derive(Debug)]
pub struct Opening<'a> {
    /// Of the packet.
    pub flow: &'a FlowKey,
    /// The service's (`-b`).
    pub flags: SchedulerFlags,
    /// When.
    pub now: Time,
    /// `lblc_expiration` and `lblcr_expiration`: how long what they remember may be idle.
    pub expiration: Expiration,
    /// For choices by lot.
    pub random: &'a mut Random,
}

/// How long the locality-based schedulers remember an idle destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiration {
    /// `lblc_expiration`
    pub lblc: Duration,
    /// `lblcr_expiration`
    pub lblcr: Duration,
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

    /// The server at a position.
    pub fn get(self, position: usize) -> Option<&'a Server> {
        self.list.get(position).map(|&id| &self.servers[id])
    }

    /// The server of a name.
    pub fn find(self, key: &ServerKey) -> Option<(usize, &'a Server)> {
        self.iter().find(|(_, server)| server.spec().key == *key)
    }
}

/// The scheduler of a name, in its initial state.
pub fn by_name(name: &str) -> Result<Box<dyn Scheduler>, OperationError> {
    SCHEDULERS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, scheduler)| scheduler())
        .ok_or_else(|| OperationError::NoSuchScheduler(name.to_owned()))
}

/// How a scheduler comes into being.
type Make = fn() -> Box<dyn Scheduler>;

/// All schedulers.
const SCHEDULERS: &[(&str, Make)] = &[
    ("rr", || Box::<rr::RoundRobin>::default()),
    ("wrr", || Box::<wrr::WeightedRoundRobin>::default()),
    ("lc", || Box::<lc::LeastConnection>::default()),
    ("wlc", || Box::<wlc::WeightedLeastConnection>::default()),
    ("sed", || Box::<sed::ShortestExpectedDelay>::default()),
    ("nq", || Box::<nq::NeverQueue>::default()),
    ("lblc", || Box::<lblc::LocalityBased>::default()),
    ("lblcr", || Box::<lblcr::LocalityBasedReplicated>::default()),
    ("dh", || Box::<dh::DestinationHashing>::default()),
    ("sh", || Box::<sh::SourceHashing>::default()),
    ("mh", || Box::<mh::Maglev>::default()),
    ("fo", || Box::<fo::FailOver>::default()),
    ("ovf", || Box::<ovf::OverFlow>::default()),
    ("twos", || Box::<twos::PowerOfTwoChoices>::default()),
    ("none", || Box::<none::Nobody>::default()),
];
