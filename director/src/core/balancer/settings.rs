//! What can be set about the tables.

use crate::core::protocol::Timeouts;

/// What the configuration says about the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Of connections, by state.
    pub timeouts: Timeouts,
    /// How many connections there may be. Further ones are refused, and those that are there stay.
    pub most_connections: u32,
    /// `net.ipv4.vs`
    pub sysctl: Sysctl,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            timeouts: Timeouts::default(),
            most_connections: 4_000_000,
            sysctl: Sysctl::default(),
        }
    }
}

/// The switches of `net.ipv4.vs` that are there so far, with the kernel's defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sysctl {
    /// `expire_nodest_conn`: connections of a removed server end (with the next packet at the
    /// latest), else their clients' packets are dropped until they time out.
    pub expire_nodest_conn: bool,
    /// `conn_reuse_mode`: 0, a SYN never makes a new connection of an old one; otherwise it does
    /// in TIME_WAIT and CLOSE, and with 2 set in FIN_WAIT too if the answers do not pass.
    pub conn_reuse_mode: u8,
    /// `sloppy_tcp`: any segment but RST may be scheduled, not only SYN.
    pub sloppy_tcp: bool,
}

impl Default for Sysctl {
    fn default() -> Sysctl {
        Sysctl {
            expire_nodest_conn: false,
            conn_reuse_mode: 1,
            sloppy_tcp: false,
        }
    }
}
