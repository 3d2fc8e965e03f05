//! What an administrator can tell the director to do, and why it may refuse.
//!
//! The words are ipvsadm's; the checks and their order are the kernel's (`ip_vs_ctl.c`). The same
//! values come from `lvsadm`, from the rules file and from the configuration.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use shared::addr::{Family, Protocol};

use super::judgement::Afterwards;

/// A change of services, real servers or settings. Each is applied whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// `-A`
    AddService(ServiceSpec),
    /// `-E`: restates everything but the key.
    EditService(ServiceSpec),
    /// `-D`
    DeleteService(ServiceKey),
    /// `-C`: all services; connections stay until they time out.
    Flush,
    /// `-a`
    AddServer(ServiceKey, ServerSpec),
    /// `-e`: restates everything but the key.
    EditServer(ServiceKey, ServerSpec),
    /// `-d`
    DeleteServer(ServiceKey, ServerKey),
    /// `-Z`: counters of one service and its servers, or of all and the totals.
    Zero(Option<ServiceKey>),
    /// `--set`
    SetTimeouts(TimeoutChange),
    /// `[[deny]]`: all rules, in place of those that were there.
    SetDeny(Vec<DenyRule>),
    /// `[[mark]]`: all rules, in place of those that were there.
    SetMarks(Vec<MarkRule>),
    /// `[director] local_clients`: whether what the director's host itself asks of services is balanced.
    SetLocalClients(bool),
    /// `-P`, `[fullnat] local_addresses`: gives its ports to FULLNAT connections. One that does already stays
    /// as it is.
    AddLocalAddress {
        /// The address, which nobody else may use.
        address: IpAddr,
        /// The interface it goes on; none is the one whose subnet it is in.
        interface: Option<String>,
    },
    /// `-Q`: gives no further ports. No connection ends: the address stays until its last one does.
    DeleteLocalAddress(IpAddr),
    /// `lvsadm drain`: a real server gets no new connections, in all services that have it.
    Drain {
        /// Its address.
        address: IpAddr,
        /// Its port; none is all.
        port: Option<u16>,
        /// From now on, seconds.
        deadline_secs: Option<u32>,
        /// What becomes of the connections that are left then.
        then: Afterwards,
    },
    /// `lvsadm ready`: ends that.
    Ready {
        /// Its address.
        address: IpAddr,
        /// Its port; none is all.
        port: Option<u16>,
    },
    /// `sysctl -w net.ipv4.vs.NAME=VALUE`
    SetSysctl {
        /// Without what is in front of it.
        name: String,
        /// The new value.
        value: i32,
    },
}

/// What names a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceKey {
    /// A virtual IP address (VIP) and port; port 0 stands for all ports.
    Address {
        /// TCP, UDP or SCTP.
        protocol: Protocol,
        /// The VIP.
        address: IpAddr,
        /// Host order.
        port: u16,
    },
    /// A firewall mark.
    Mark {
        /// Not 0.
        mark: u32,
        /// The family of the packets it takes.
        family: Family,
    },
}

impl ServiceKey {
    /// The key of a service by protocol, VIP and port.
    pub fn new(protocol: Protocol, address: impl Into<IpAddr>, port: u16) -> ServiceKey {
        ServiceKey::Address {
            protocol,
            address: address.into(),
            port,
        }
    }

    /// The family of the packets the service takes.
    pub fn family(&self) -> Family {
        match *self {
            ServiceKey::Address { address, .. } => Family::of(address),
            ServiceKey::Mark { family, .. } => family,
        }
    }
}

impl fmt::Display for ServiceKey {
    /// As an administrator writes it: `TCP 192.0.2.1:80`, `FWM 7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceKey::Address {
                protocol,
                address: IpAddr::V4(address),
                port,
            } => {
                write!(f, "{protocol} {address}:{port}")
            }
            ServiceKey::Address {
                protocol,
                address,
                port,
            } => {
                write!(f, "{protocol} [{address}]:{port}")
            }
            ServiceKey::Mark {
                mark,
                family: Family::V4,
            } => write!(f, "FWM {mark}"),
            ServiceKey::Mark {
                mark,
                family: Family::V6,
            } => write!(f, "FWM {mark} IPv6"),
        }
    }
}

/// Everything that `-A` and `-E` say about a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// What names it.
    pub key: ServiceKey,
    /// `-s`, for example `wlc`.
    pub scheduler: String,
    /// `-b`
    #[serde(default)]
    pub flags: SchedulerFlags,
    /// `-p`
    #[serde(default)]
    pub persistence: Option<Persistence>,
    /// `--pe`
    #[serde(default)]
    pub persistence_engine: Option<String>,
    /// `-o`
    #[serde(default)]
    pub one_packet: bool,
    /// What IPVS has not.
    #[serde(default)]
    pub beyond: Beyond,
}

/// What a service can be told that IPVS does not know. By default nothing of it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Beyond {
    /// `--server-gone`: what becomes of connections whose real server was removed. None is IPVS' way,
    /// by `expire_nodest_conn`.
    pub server_gone: Option<ServerGone>,
    /// `--timeouts`: of this service's connections; 0 is the general one.
    pub timeouts: TimeoutChange,
    /// `--slow-start`: seconds in which a new real server's share rises to its weight; 0 is at once.
    pub slow_start_secs: u32,
    /// `--proxy-protocol`, `--no-toa`: how real servers by FULLNAT learn who their client is (TCP).
    #[serde(default)]
    pub introduction: Introduction,
    /// `--set-mss`, `--clamp-mss-to-pmtu`: of TCP connections by NAT and FULLNAT.
    #[serde(default)]
    pub segment_size: SegmentSize,
}

/// The largest TCP segment (MSS) that the ends of a connection tell each other. It is never raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentSize {
    /// It stays as it is told.
    #[default]
    AsTold,
    /// Bytes.
    AtMost(u16),
    /// What fits into a packet of the routes to both ends.
    PathMtu,
}

impl SegmentSize {
    /// The numbers that there may be: from the least that Linux sends to the most that fit into a packet.
    pub const RANGE: std::ops::RangeInclusive<u16> = 88..=65_495;
}

/// How a real server by FULLNAT, which sees a local address, learns who its client is. Those by other methods
/// get their packets as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Introduction {
    /// By a TCP option, for servers with a module that reads it.
    #[default]
    Toa,
    /// By a header of the PROXY protocol, version 2, in front of the client's data.
    ProxyProtocol,
    /// Not at all.
    None,
}

/// What becomes of connections whose real server was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerGone {
    /// They go on to the removed server until they end.
    Keep,
    /// The next packet of the client goes to another server.
    Reschedule,
    /// Both ends are told at once that they are over (TCP only).
    Reset,
}

impl ServerGone {
    /// Those that there are, by name.
    pub const NAMES: [(&str, ServerGone); 3] = [
        ("keep", ServerGone::Keep),
        ("reschedule", ServerGone::Reschedule),
        ("reset", ServerGone::Reset),
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        let named = ServerGone::NAMES.iter().find(|(_, way)| *way == self);
        named.map_or("", |(name, _)| name)
    }

    /// What a name says for services of a protocol: `auto` is what suits it best.
    pub fn parse(name: &str, protocol: Protocol) -> Option<ServerGone> {
        if name == "auto" {
            return Some(match protocol {
                Protocol::TCP => ServerGone::Reset,
                _ => ServerGone::Reschedule,
            });
        }
        let named = ServerGone::NAMES.iter().find(|(known, _)| *known == name);
        named.map(|(_, way)| *way)
    }
}

/// `[[mark]]`: which packets get a firewall mark from the director itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MarkRule {
    /// The mark, not 0.
    pub mark: u32,
    /// TCP, UDP or SCTP; none is each of them.
    pub protocol: Option<Protocol>,
    /// Where they go.
    pub address: IpAddr,
    /// Destination ports, first and last of each range; none are all.
    pub ports: Vec<(u16, u16)>,
    /// The network they come from, and the length of its prefix; none is anywhere.
    pub source: Option<(IpAddr, u8)>,
}

/// `[[deny]]`: whose packets are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DenyRule {
    /// The network.
    pub source: IpAddr,
    /// Its length.
    pub length: u8,
    /// Of which service; none is of all.
    pub service: Option<ServiceKey>,
}

impl ServiceSpec {
    /// A service with a scheduler and nothing else asked for.
    pub fn new(key: ServiceKey, scheduler: &str) -> ServiceSpec {
        ServiceSpec {
            key,
            scheduler: scheduler.to_owned(),
            flags: SchedulerFlags::default(),
            persistence: None,
            persistence_engine: None,
            one_packet: false,
            beyond: Beyond::default(),
        }
    }
}

/// The three scheduler flags; what they mean is the scheduler's business (`sh-fallback`, ...).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SchedulerFlags(pub u8);

impl SchedulerFlags {
    /// `flag-1`, `sh-fallback`, `mh-fallback`.
    pub const FLAG_1: u8 = 1;
    /// `flag-2`, `sh-port`, `mh-port`.
    pub const FLAG_2: u8 = 2;
    /// `flag-3`.
    pub const FLAG_3: u8 = 4;
}

/// `-p` and `-M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// Seconds, 1 to 2678400.
    pub timeout_secs: u32,
    /// Granularity.
    pub netmask: Netmask,
}

/// The granularity of persistence. An IPv4 mask need not be contiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Netmask {
    /// IPv4, host order.
    V4(u32),
    /// IPv6 prefix length, 1 to 128.
    V6(u8),
}

/// What names a real server inside a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServerKey {
    /// The real server's address (RIP).
    pub address: IpAddr,
    /// Host order.
    pub port: u16,
}

impl fmt::Display for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(address) => write!(f, "{address}:{}", self.port),
            IpAddr::V6(address) => write!(f, "[{address}]:{}", self.port),
        }
    }
}

/// Everything that `-a` and `-e` say about a real server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSpec {
    /// What names it.
    pub key: ServerKey,
    /// How packets get there.
    pub forward: ForwardMethod,
    /// `-w`; 0 takes no new connections.
    pub weight: i32,
    /// `-x`: connections (active and inactive) from which it counts as overloaded; 0 is none.
    #[serde(default)]
    pub upper_threshold: u32,
    /// `-y`: connections below which it no longer counts as overloaded; 0 is 3/4 of the upper one.
    #[serde(default)]
    pub lower_threshold: u32,
    /// `--tun-type` and its like; only looked at with [`ForwardMethod::Tunnel`].
    #[serde(default)]
    pub tunnel: Tunnel,
}

impl ServerSpec {
    /// A server with a forwarding method and weight, and nothing else asked for.
    pub fn new(address: impl Into<IpAddr>, port: u16, forward: ForwardMethod, weight: i32) -> Self {
        ServerSpec {
            key: ServerKey {
                address: address.into(),
                port,
            },
            forward,
            weight,
            upper_threshold: 0,
            lower_threshold: 0,
            tunnel: Tunnel::default(),
        }
    }
}

/// How a packet reaches its real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForwardMethod {
    /// NAT: the destination is rewritten, replies come back through the director (`-m`, Masq).
    Nat,
    /// Direct routing: only the MAC address is rewritten (`-g`, Route).
    Direct,
    /// Tunnelling (`-i`, Tunnel).
    Tunnel,
    /// The director itself (Local).
    Local,
    /// Both addresses are rewritten (FullNat).
    FullNat,
    /// No real server at all: the packet goes where it goes itself (`cache_bypass`). Nobody can ask for it.
    Bypass,
}

impl ForwardMethod {
    /// Whether addresses are rewritten, and replies pass the director.
    #[inline]
    pub const fn is_nat(self) -> bool {
        matches!(self, ForwardMethod::Nat | ForwardMethod::FullNat)
    }

    /// Whether a real server may be of another family than its service.
    #[inline]
    pub const fn may_change_family(self) -> bool {
        matches!(self, ForwardMethod::Tunnel | ForwardMethod::FullNat)
    }
}

/// Encapsulation of [`ForwardMethod::Tunnel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tunnel {
    /// IP in IP.
    #[default]
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// UDP destination port.
        port: u16,
        /// Which checksum.
        checksum: TunnelChecksum,
    },
    /// Generic routing encapsulation.
    Gre {
        /// Which checksum; remote checksum offload is not for GRE.
        checksum: TunnelChecksum,
    },
}

/// `--tun-nocsum`, `--tun-csum`, `--tun-remcsum`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TunnelChecksum {
    /// None.
    #[default]
    None,
    /// Of the outer header.
    Full,
    /// Remote checksum offload.
    Remote,
}

/// `--set tcp tcpfin udp`, seconds; 0 keeps the present value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TimeoutChange {
    /// ESTABLISHED.
    pub tcp: u32,
    /// FIN_WAIT.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

/// Why an [`Operation`] was refused. Nothing of it was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationError {
    /// EEXIST of adding a service.
    #[error("service {0} already exists")]
    ServiceExists(ServiceKey),
    /// ESRCH.
    #[error("there is no service {0}")]
    NoSuchService(ServiceKey),
    /// ENOENT of a scheduler that nobody has ever heard of.
    #[error("there is no scheduler `{0}'")]
    NoSuchScheduler(String),
    /// ENOENT of a persistence engine.
    #[error("there is no persistence engine `{0}'")]
    NoSuchEngine(String),
    /// EEXIST of adding a server.
    #[error("service {0} already has the real server {1}")]
    ServerExists(ServiceKey, ServerKey),
    /// ENOENT of a server.
    #[error("service {0} has no real server {1}")]
    NoSuchServer(ServiceKey, ServerKey),
    /// ERANGE: weight below 0, lower threshold above the upper one.
    #[error("{0} is out of range")]
    OutOfRange(String),
    /// EINVAL.
    #[error("{0}")]
    Invalid(String),
    /// Something that IPVS has not, and that does not go together.
    #[error("{0}")]
    Unfit(String),
    /// Something that IPVS has and this director has not yet.
    #[error("{0} is not there yet")]
    NotYet(String),
}
