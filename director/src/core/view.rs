//! What the director shows of itself: plain values for listings, metrics and the control protocol.

use serde::{Deserialize, Serialize};
use shared::addr::Protocol;
use std::net::IpAddr;

use super::guard::GuardView;
use super::judgement::{DrainView, Health};
use super::operation::{ServerKey, ServerSpec, ServiceSpec};
use super::spans::Spans;

/// A service with its real servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// As it was configured.
    pub spec: ServiceSpec,
    /// Counters and rates.
    pub stats: StatsView,
    /// Its quorum, if the configuration has it watched over.
    #[serde(default)]
    pub guard: Option<GuardView>,
    /// Newest first, as the kernel lists them.
    pub servers: Vec<ServerView>,
}

/// A real server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerView {
    /// As it was configured.
    pub spec: ServerSpec,
    /// Active connections (TCP: ESTABLISHED, SYN_SENT, SYN_RECV, SYNACK).
    pub active: u32,
    /// All other connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// The weight that counts: the configured one, one that a judge sets, or 0 while the server is down or
    /// drained.
    pub effective_weight: i32,
    /// What its judge says.
    pub health: Health,
    /// Why it is not up, or gets nothing though it is, or something though it is not.
    pub reason: Option<String>,
    /// Whether it stands in for servers that are not enough.
    #[serde(default)]
    pub sorry: bool,
    /// How far it is drained.
    pub drain: Option<DrainView>,
    /// Counters and rates.
    pub stats: StatsView,
}

impl ServerView {
    /// A server that was just added.
    pub fn new(spec: ServerSpec) -> ServerView {
        ServerView {
            active: 0,
            inactive: 0,
            persistent: 0,
            effective_weight: spec.weight,
            health: Health::Up,
            reason: None,
            sorry: false,
            drain: None,
            stats: StatsView::default(),
            spec,
        }
    }
}

/// Counters since the start or the last zeroing, and smoothed rates per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StatsView {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Bytes of IP packets from clients.
    pub in_bytes: u64,
    /// Bytes of IP packets to clients.
    pub out_bytes: u64,
    /// Connections per second.
    pub cps: u64,
    /// Packets from clients per second.
    pub in_pps: u64,
    /// Packets to clients per second.
    pub out_pps: u64,
    /// Bytes per second from clients.
    pub in_bps: u64,
    /// Bytes per second to clients.
    pub out_bps: u64,
}

/// A connection or a persistence template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionView {
    /// Protocol 0 for templates of firewall marks.
    pub protocol: Protocol,
    /// Until it times out, milliseconds.
    pub expires_ms: u64,
    /// As the kernel names it: `ESTABLISHED`, `UDP`, ...
    pub state: String,
    /// Client address (CIP).
    pub client: IpAddr,
    /// Client port; 0 for templates.
    pub client_port: u16,
    /// Virtual address, or the mark as an address.
    pub virtual_address: IpAddr,
    /// Virtual port.
    pub virtual_port: u16,
    /// Real server's address.
    pub destination: IpAddr,
    /// Real server's port.
    pub destination_port: u16,
    /// Of a template of a persistence engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineView>,
}

/// What a persistence engine knows a client by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineView {
    /// Its name: `sip`.
    pub name: String,
    /// The Call-ID, of whose bytes each is a letter of Latin-1. Without blanks.
    pub data: String,
}

/// Timeouts that `--set` changes, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeoutsView {
    /// ESTABLISHED.
    pub tcp: u32,
    /// FIN_WAIT.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

/// A switch of `net.ipv4.vs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysctlView {
    /// Its name, without what is in front of it.
    pub name: String,
    /// Its value.
    pub value: i32,
}

/// What a client asks first: ipvsadm prints it above every listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfoView {
    /// The director's version.
    pub version: String,
    /// What `size=` shows: 2 to the power of `table_bits`.
    pub table_size: u32,
}

/// What the director says of itself. Packets are counted since its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    /// The director's version.
    pub version: String,
    /// Seconds since its start.
    pub uptime_secs: u64,
    /// Interfaces whose packets are taken.
    pub interfaces: Vec<InterfaceView>,
    /// Connections and templates in the table.
    pub connections: u64,
    /// Connections of which only one end has been heard.
    pub half_open: u64,
    /// Half-open connections that had to make room for newer ones, since the start.
    pub pushed_out: u64,
    /// Segments that should have told a real server who its client is (TOA), and had no room for it.
    #[serde(default)]
    pub unnamed_clients: u64,
    /// The local addresses of FULLNAT.
    #[serde(default)]
    pub local_addresses: Vec<LocalAddressView>,
    /// Reports of agents; none if nobody listens to them.
    #[serde(default)]
    pub reports: Option<ReportsView>,
    /// Who else answers ARP or neighbour discovery for VIPs.
    #[serde(default)]
    pub rivals: Vec<RivalView>,
    /// Keys by which the capture program knows what to take.
    pub capture_keys: u64,
    /// Packets that were taken and then given to the host after all.
    pub given_back: u64,
    /// Dropped packets by reason; reasons that never occurred may be missing.
    pub drops: Vec<DropView>,
}

impl StatusView {
    /// Packets that all rings together had no room for.
    pub fn ring_losses(&self) -> u64 {
        self.interfaces.iter().fold(0, |sum, interface| {
            sum.saturating_add(interface.ring_losses)
        })
    }
}

/// The agent of a real server, as it said last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentView {
    /// Where its reports come from.
    pub address: IpAddr,
    /// The name that it gives itself.
    pub identity: String,
    /// `ready`, `drain`, `maintenance` or `leaving`.
    pub state: String,
    /// Since its last report, milliseconds.
    pub age_ms: u64,
    /// Between two reports as it says, milliseconds.
    pub interval_ms: u32,
    /// Whether all its own checks are well.
    pub healthy: bool,
    /// Whether its host keeps silent about the VIPs in ARP.
    pub arp_suppressed: bool,
    /// VIPs that should be there and are not.
    pub missing_vips: Vec<IpAddr>,
    /// Its own checks that fail.
    pub failed_checks: Vec<String>,
    /// What is wrong, in its words.
    pub faults: Vec<String>,
    /// The weight that it wants.
    pub wanted_weight: Option<u16>,
    /// Per cent of the time of all its cores.
    pub cpu_percent: u8,
    /// Thousandths of its load average over one minute.
    pub run_queue_thousandths: u32,
    /// Connections that wait there to be accepted.
    pub listen_queue: u32,
    /// Open connections there.
    pub connections: u32,
    /// Real servers of services that it judges; 0 if no service has one at its address.
    pub servers: u64,
}

/// A health check of real servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckView {
    /// What is asked of whom.
    pub check: String,
    /// `tcp`, `http`, ...
    pub kind: String,
    /// The real servers that it judges.
    pub servers: Vec<ServerKey>,
    /// Whether they are up as far as this check goes.
    pub up: bool,
    /// Whether it has been made yet.
    pub checked: bool,
    /// Since when it is up or down, seconds.
    pub secs: u64,
    /// Why it failed the last time, if it did.
    pub failure: Option<String>,
}

/// The checks of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckTally {
    /// `tcp`, `http`, ...
    pub kind: &'static str,
    /// Those by which their servers are up.
    pub up: u64,
    /// Those by which they are down.
    pub down: u64,
    /// How often one succeeded since the start.
    pub passed: u64,
    /// How often one failed.
    pub failed: u64,
    /// How long they took, those that failed included.
    pub took: Spans,
}

/// How many reports of agents came since the start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReportsView {
    /// Good ones.
    pub good: u64,
    /// Those that count for nothing, by reason; reasons that never occurred are missing. A good one of an
    /// unknown sender is here too.
    pub ignored: Vec<DropView>,
}

/// Somebody who answers ARP or neighbour discovery for a VIP in the director's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RivalView {
    /// The VIP.
    pub vip: IpAddr,
    /// Where it was heard.
    pub interface: String,
    /// Its Ethernet address.
    pub mac: String,
    /// The real server that it is, if it is one.
    pub server: Option<IpAddr>,
}

/// An interface whose packets are taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceView {
    /// Its name.
    pub name: String,
    /// Packets that were taken.
    pub received: u64,
    /// Packets that were sent.
    pub sent: u64,
    /// Packets that the ring had no room for.
    pub ring_losses: u64,
}

/// A local address of FULLNAT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalAddressView {
    /// The address.
    pub address: IpAddr,
    /// Whether new connections get a port of it; if not, it is only there for those that have one.
    pub listed: bool,
    /// Connections that have a port of it.
    pub connections: u32,
    /// Ports that are left towards the real server that has the most of them.
    pub fewest_left: u32,
    /// How often a connection would have had a port of it, and all towards its real server were taken.
    #[serde(default)]
    pub conflicts: u64,
}

/// How many packets were dropped for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropView {
    /// Why.
    pub reason: String,
    /// How many.
    pub packets: u64,
}
