//! The configuration file: model, TOML, checks, difference between two of them.
//!
//! Reading never stops at the first fault: an administrator gets the whole list, each with its
//! place and with what to write instead. Nothing here opens a file; the edge reads the text and
//! does what the values say.

pub mod plan;
mod read;
mod words;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::core::operation::{DenyRule, MarkRule, Operation, ServerKey, ServerSpec, ServiceSpec};
use crate::core::sysctl::Sysctl;
use crate::core::view::TimeoutsView;
use crate::health::agents::check::AgentCheck;
use crate::health::checks::Check;

pub use shared::config::{Fault, Faults};

/// What a configuration file says. [`Config::default`] is an empty file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Interfaces to take packets from; none means all that are up and not loopback.
    pub interfaces: Vec<String>,
    /// A file of `ipvsadm-save` text to load at start.
    pub rules: Option<PathBuf>,
    /// Whether what the director's host itself asks of services is balanced.
    pub local_clients: bool,
    /// `[sysctl]`: the switches of `net.ipv4.vs`.
    pub sysctl: Sysctl,
    /// `ipvsadm --set`, seconds.
    pub timeouts: TimeoutsView,
    /// The connection table.
    pub connections: Connections,
    /// Whose packets are dropped, in the order of the file.
    pub deny: Vec<DenyRule>,
    /// Which packets get a firewall mark, in the order of the file.
    pub marks: Vec<MarkRule>,
    /// Addresses that the director adds at start and removes at the end.
    pub vips: Vec<Vip>,
    /// `[fullnat]`: addresses that the director adds at start and removes at the end, and whose ports it gives
    /// to FULLNAT connections.
    pub local_addresses: Vec<IpAddr>,
    /// `[agents]`: where the reports of real servers come in; none is nowhere.
    pub agents: Option<Agents>,
    /// Virtual services, in the order of the file.
    pub services: Vec<Service>,
}

impl Config {
    /// Reads the text of a configuration file. `file` is only named in the faults.
    ///
    /// # Errors
    /// Every fault of the text, in the order of their places.
    pub fn parse(text: &str, file: &str) -> Result<Config, Faults> {
        read::parse(text, file)
    }

    /// What brings an empty director to the state that the file describes.
    pub fn operations(&self) -> Vec<Operation> {
        plan::plan(&Config::default(), self, &[], &[])
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            interfaces: Vec::new(),
            rules: None,
            local_clients: false,
            sysctl: Sysctl::default(),
            timeouts: DEFAULT_TIMEOUTS,
            connections: Connections::default(),
            deny: Vec::new(),
            marks: Vec::new(),
            vips: Vec::new(),
            local_addresses: Vec::new(),
            agents: None,
            services: Vec::new(),
        }
    }
}

/// `[connections]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// `conn_tab_bits`: what listings print as `size=`. The real table grows by itself.
    pub table_bits: u8,
    /// Connections beyond this number are refused.
    pub max: u32,
    /// Of these so many may be half-open; then the oldest half-open ones go. A quarter of them by default.
    pub half_open: u32,
}

impl Default for Connections {
    fn default() -> Connections {
        Connections {
            table_bits: 12,
            max: 4_000_000,
            half_open: 1_000_000,
        }
    }
}

/// `[[vip]]`: an address to put on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vip {
    /// The virtual IP address.
    pub address: IpAddr,
    /// Prefix length, 1 to 32.
    pub prefix: u8,
    /// The interface it goes on.
    pub interface: String,
    /// The name `ifconfig` shows it by, such as `eth0:0`.
    pub label: Option<String>,
}

/// `[[service]]` with its `[[service.server]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The service itself.
    pub spec: ServiceSpec,
    /// Its real servers, in the order of the file.
    pub servers: Vec<ServerSpec>,
    /// Who judges its servers.
    pub checks: Checks,
}

/// Who judges the servers of a service. This is not part of what `lvsadm` sees and changes; servers that it adds
/// are judged as well.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checks {
    /// `[service.check]`: of all servers that have none of their own.
    pub service: Judges,
    /// `[service.server.check]`
    pub servers: BTreeMap<ServerKey, Judges>,
}

/// Who judges a server: all of them have to find it fit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judges {
    /// Its agent.
    pub agent: Option<AgentCheck>,
    /// The director's own checks.
    pub checks: Vec<Check>,
}

impl Checks {
    /// Who judges this server.
    pub fn of(&self, server: &ServerKey) -> &Judges {
        self.servers.get(server).unwrap_or(&self.service)
    }

    /// Everybody who judges any server.
    pub fn all(&self) -> impl Iterator<Item = &Judges> {
        self.servers.values().chain([&self.service])
    }
}

/// `[agents]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agents {
    /// Where reports come in (UDP).
    pub listen: SocketAddr,
    /// The key that they are made with. None: everybody's are believed, which has to be asked for.
    pub key_file: Option<PathBuf>,
}

/// The kernel's, `ip_vs_proto_tcp.c` and `ip_vs_proto_udp.c`.
const DEFAULT_TIMEOUTS: TimeoutsView = TimeoutsView {
    tcp: 900,
    tcp_fin: 120,
    udp: 300,
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever an editor leaves behind, reading it says so and does not panic.
        #[test]
        fn any_text_is_read(
            text in prop::collection::vec(
                prop::sample::select(vec![
                    "[", "]", "[[service]]", "[[service.server]]", "[[vip]]", "[timeouts]", "\n",
                    "=", "\"", "{", "}", ",", ".", "address", "weight", "tcp", "server", " = ",
                    "\"192.0.2.1:80\"", "\"[::1]:80\"", "\":\"", "\"/\"", "\"\u{e9}:\"", "0x", "7",
                    "99999999999", "'''", "#", "\u{0}", "1979-05-27", "1.5",
                ]),
                0..40,
            )
        ) {
            if let Err(faults) = Config::parse(&text.concat(), "f") {
                prop_assert!(!faults.faults.is_empty());
            }
        }
    }
}
