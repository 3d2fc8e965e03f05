//! What can be set about the tables.

use crate::core::protocol::Timeouts;
use crate::core::sysctl::Sysctl;

/// What the configuration says about the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Of connections, by state.
    pub timeouts: Timeouts,
    /// How many connections there may be. Further ones are refused, and those that are there stay.
    pub most_connections: u32,
    /// How many of them may be half-open. Then the oldest of these go.
    pub most_half_open: u32,
    /// `net.ipv4.vs`
    pub sysctl: Sysctl,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            timeouts: Timeouts::default(),
            most_connections: 4_000_000,
            most_half_open: 1_000_000,
            sysctl: Sysctl::default(),
        }
    }
}
