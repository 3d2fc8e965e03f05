//! What the director shows of itself: plain values for listings, metrics and the control protocol.

use serde::{Deserialize, Serialize};
use shared::addr::Protocol;
use std::net::IpAddr;

use super::operation::{ServerSpec, ServiceSpec};

/// A service with its real servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// As it was configured.
    pub spec: ServiceSpec,
    /// Counters and rates.
    pub stats: StatsView,
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
    /// Counters and rates.
    pub stats: StatsView,
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
