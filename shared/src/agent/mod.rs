//! What a real server's agent reports to its directors: the report as a value, its encoding, the key
//! that vouches for it and the window that knows a report that was there before.
//!
//! | module | what is in it |
//! |---|---|
//! | [`codec`] | a report as the bytes of one datagram, and back |
//! | [`authentication`] | the shared key: HMAC-SHA-256 (RFC 2104) |
//! | [`replay`] | which reports of one agent are new |
//!
//! All of it is pure: the wall clock, random numbers, files and sockets come in from outside.

pub mod authentication;
pub mod codec;
pub mod replay;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

pub use authentication::{Key, KeyError};
pub use codec::{DecodeError, EncodeError, decode, encode};
pub use replay::{Order, Stale, Window};

/// The UDP port at which directors listen.
pub const PORT: u16 = 9111;
/// Where the shared key is, on directors and real servers alike.
pub const KEY_FILE: &str = "/etc/lvs/agent.key";
/// Most bytes of a report's datagram, which every link carries in one piece.
pub const MAX_DATAGRAM: usize = 1200;
/// Most bytes of an agent's name.
pub const MAX_IDENTITY: usize = 64;
/// Most VIPs of a report.
pub const MAX_VIPS: usize = 32;
/// Most local checks of a report.
pub const MAX_CHECKS: usize = 16;
/// Most bytes of the name of a check.
pub const MAX_CHECK_NAME: usize = 32;
/// Most faults of a report.
pub const MAX_FAULTS: usize = 4;
/// Most bytes of the text of a fault.
pub const MAX_FAULT: usize = 64;

/// What an agent says of its real server, all of it each time, so that a lost report costs nothing.
///
/// Texts have no control characters, since they end up in logs and on terminals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The agent's name, usually that of its host; 1 to [`MAX_IDENTITY`] bytes.
    pub identity: String,
    /// Random for each run of the agent, so that a restart is told from a replay.
    pub boot: u64,
    /// Grows by one with each report of a run.
    pub sequence: u64,
    /// The agent's wall clock: microseconds since 1970.
    pub time: u64,
    /// Milliseconds until the next report.
    pub interval: u32,
    /// What the agent wants to happen to its server.
    pub state: State,
    /// The weight that it wants, if it wants any.
    pub weight: Option<u16>,
    /// Whether all that it checks by itself is well.
    pub healthy: bool,
    /// Whether its kernel keeps silent about the VIPs in ARP, as direct routing needs it.
    pub arp_suppressed: bool,
    /// The VIPs that should be there, and whether they are; at most [`MAX_VIPS`].
    pub vips: Vec<VipReport>,
    /// What it checked; at most [`MAX_CHECKS`].
    pub checks: Vec<CheckReport>,
    /// How busy its host is.
    pub load: Load,
    /// What is wrong, for people; at most [`MAX_FAULTS`] of at most [`MAX_FAULT`] bytes.
    pub faults: Vec<String>,
}

/// What an agent wants to happen to its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It serves.
    Ready,
    /// It wants no new connections and keeps those that it has.
    Drain,
    /// Somebody works on it.
    Maintenance,
    /// The agent stops cleanly and takes its VIPs away.
    Leaving,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Ready => "ready",
            State::Drain => "drain",
            State::Maintenance => "maintenance",
            State::Leaving => "leaving",
        })
    }
}

/// A VIP that a real server should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VipReport {
    /// The VIP.
    pub address: IpAddr,
    /// Whether the host has it where it should.
    pub present: bool,
}

/// What an agent found when it looked at a service of its own host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CheckReport {
    /// The name of the check; 1 to [`MAX_CHECK_NAME`] bytes.
    pub name: String,
    /// Whether the last look was well.
    pub ok: bool,
}

/// How busy a real server's host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Load {
    /// Per cent of the time of all cores, 0 to 100.
    pub cpu_percent: u8,
    /// Thousandths of the load average over one minute.
    pub run_queue: u32,
    /// Connections that wait to be accepted.
    pub listen_queue: u32,
    /// Open connections.
    pub connections: u32,
}
