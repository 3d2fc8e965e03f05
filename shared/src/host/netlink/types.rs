//! What netlink tells and takes, as plain values.
//!
//! Addresses are the standard library's here, not [`crate::addr::Addr`]: routing tables may hold
//! IPv6 prefixes of `::ffff:0:0/96`, which an `Addr` cannot tell from IPv4.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::addr::Family;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Interface index, unique within its network namespace and not reused soon.
    pub index: u32,
    /// Name, such as `eth0`.
    pub name: String,
    /// Ethernet address; `None` where there is none of six bytes (a TUN device).
    pub mac: Option<[u8; 6]>,
    /// MTU in bytes.
    pub mtu: u32,
    /// The administrator has set it up (`IFF_UP`).
    pub up: bool,
    /// The driver has a carrier (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// A loopback device.
    pub loopback: bool,
    /// How many users want it promiscuous; not zero: it receives frames of others.
    pub promiscuity: u32,
    /// The driver's kind, such as `veth`, `bridge`, `tun`; `None` for real network cards.
    pub kind: Option<String>,
    /// Index of the bridge, bond or team that it is a member of.
    pub master: Option<u32>,
    /// Hardware type, one of `ARPHRD_*`: 1 Ethernet, 772 loopback, 65534 none (TUN).
    pub hardware: u16,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Index of its interface.
    pub link: u32,
    /// The host's own address, and the length of its prefix.
    pub prefix: Prefix,
    /// IPv4: the label that `ifconfig` shows, the interface's name unless set.
    pub label: Option<String>,
    /// How far the address is valid.
    pub scope: Scope,
    /// `IFA_F_*` flags; tentative ones (0x40) are not usable yet.
    pub flags: u32,
    /// Who added it (`IFA_PROTO`); 0: nobody said, or a kernel before 5.18.
    pub protocol: u8,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Routing table.
    pub table: u32,
    /// Destination; a default route has length 0.
    pub destination: Prefix,
    /// What it does with packets.
    pub kind: RouteKind,
    /// Interface that packets leave by. Of a multipath route, the first next hop's.
    pub link: Option<u32>,
    /// Next router, which may be of the other family; `None`: on-link. Of a multipath route, the
    /// first next hop's.
    pub gateway: Option<IpAddr>,
    /// Address that the host's own packets leave with, if the route says so.
    pub source: Option<IpAddr>,
    /// Largest packet that the route takes (`RTAX_MTU`), bytes, if it says so.
    pub mtu: Option<u32>,
    /// Among routes of one table and destination the smallest wins.
    pub metric: u32,
    /// The route is for this type of service alone; 0: for all.
    pub tos: u8,
    /// Who added it (`RTPROT_*`): 2 kernel, 3 boot, 4 static.
    pub protocol: u8,
    /// How far the destination is. [`Scope::Universe`] in a route to add means what `ip route`
    /// would choose: host for local routes, link where there is no gateway.
    pub scope: Scope,
    /// The kernel does not use it, as its interface is down or without carrier.
    pub dead: bool,
    /// Of a multipath route, the next hops behind the first.
    pub others: Vec<NextHop>,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    /// Interface that packets leave by.
    pub link: Option<u32>,
    /// Next router; `None`: on-link.
    pub gateway: Option<IpAddr>,
    /// The kernel does not use it.
    pub dead: bool,
}

impl Route {
    /// A unicast route of the main table with our protocol number; the rest is set by struct
    /// update.
    pub fn to(destination: Prefix) -> Route {
        Route {
            table: super::TABLE_MAIN,
            destination,
            kind: RouteKind::Unicast,
            link: None,
            gateway: None,
            source: None,
            mtu: None,
            metric: 0,
            tos: 0,
            protocol: super::OUR_PROTOCOL,
            scope: Scope::Universe,
            dead: false,
            others: Vec::new(),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route to {}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if self.table != super::TABLE_MAIN {
            write!(f, " in table {}", self.table)?;
        }
        Ok(())
    }
}

/// A routing policy rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Family; IPv4 and IPv6 have lists of their own.
    pub family: Family,
    /// Place in the list, smaller first.
    pub priority: u32,
    /// Packets with this mark.
    pub mark: Option<u32>,
    /// Packets from here.
    pub source: Option<Prefix>,
    /// Packets to there.
    pub destination: Option<Prefix>,
    /// Packets that came in by the interface of this name.
    pub input: Option<String>,
    /// Packets of this IP protocol.
    pub ip_protocol: Option<u8>,
    /// Packets from these ports.
    pub source_ports: Option<RulePorts>,
    /// Packets to these ports.
    pub destination_ports: Option<RulePorts>,
    /// Table to look in; 0 for rules that do something else.
    pub table: u32,
    /// The priority of the rule to go on with, of rules that do that.
    pub goto: Option<u32>,
    /// Who added it (`RTPROT_*`).
    pub protocol: u8,
}

impl Rule {
    /// A rule that sends every packet of a family to a table, with our protocol number; the rest
    /// is set by struct update.
    pub fn lookup(family: Family, priority: u32, table: u32) -> Rule {
        Rule {
            family,
            priority,
            mark: None,
            source: None,
            destination: None,
            input: None,
            ip_protocol: None,
            source_ports: None,
            destination_ports: None,
            table,
            goto: None,
            protocol: super::OUR_PROTOCOL,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}", self.priority)?;
        if let Some(mark) = self.mark {
            write!(f, " fwmark {mark}")?;
        }
        write!(f, " lookup {}", self.table)
    }
}

/// A range of ports in a rule, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RulePorts {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

/// An entry of the neighbour tables (ARP and neighbour discovery).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Index of the interface that it is behind.
    pub link: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its Ethernet address, if known. It stays when the entry has failed: see
    /// [`NeighbourState::is_valid`].
    pub mac: Option<[u8; 6]>,
    /// What the kernel thinks of it.
    pub state: NeighbourState,
    /// `NTF_*` flags.
    pub flags: u8,
    /// `NTF_EXT_*` flags; bit 0: the kernel keeps it resolved (managed).
    pub extended_flags: u32,
}

/// The kernel's state of a neighbour, `NUD_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighbourState {
    /// No entry worth the name.
    None,
    /// Being asked for, no answer yet.
    Incomplete,
    /// Answered lately.
    Reachable,
    /// Answered once; used as it is and verified on the next use by the kernel's own traffic.
    Stale,
    /// Used while stale, about to be verified.
    Delay,
    /// Being verified.
    Probe,
    /// Did not answer.
    Failed,
    /// Needs no resolution.
    NoArp,
    /// Set by hand.
    Permanent,
}

impl NeighbourState {
    /// Whether the entry's Ethernet address can be used (`NUD_VALID`).
    pub const fn is_valid(self) -> bool {
        !matches!(self, Self::None | Self::Incomplete | Self::Failed)
    }
}

/// What a route does with packets, `RTN_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// To a gateway or a neighbour.
    Unicast,
    /// To the host itself.
    Local,
    /// To the host itself, and sent as link-layer broadcast.
    Broadcast,
    /// IPv6 anycast: to the host itself.
    Anycast,
    /// Multicast.
    Multicast,
    /// Dropped in silence.
    Blackhole,
    /// Dropped, host unreachable.
    Unreachable,
    /// Dropped, administratively prohibited.
    Prohibit,
    /// Go on with the next rule.
    Throw,
    /// A kind that we do not know.
    Other(u8),
}

/// How far an address or destination is, `RT_SCOPE_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere.
    Universe,
    /// On the link.
    Link,
    /// In this host.
    Host,
    /// Another value.
    Other(u8),
}

/// An address with the length of its prefix. The bits behind the length are kept: an interface's
/// address has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// Address.
    pub address: IpAddr,
    /// Length in bits.
    pub length: u8,
}

impl Prefix {
    /// An address with a length.
    pub fn new(address: impl Into<IpAddr>, length: u8) -> Prefix {
        Prefix {
            address: address.into(),
            length,
        }
    }

    /// One address alone: /32 or /128.
    pub fn host(address: impl Into<IpAddr>) -> Prefix {
        let address = address.into();
        let length = if address.is_ipv4() { 32 } else { 128 };
        Prefix { address, length }
    }

    /// Every address of a family: length 0.
    pub fn any(family: Family) -> Prefix {
        match family {
            Family::V4 => Prefix::new(Ipv4Addr::UNSPECIFIED, 0),
            Family::V6 => Prefix::new(Ipv6Addr::UNSPECIFIED, 0),
        }
    }

    /// The family of the address.
    pub fn family(&self) -> Family {
        Family::of(self.address)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl From<u8> for RouteKind {
    fn from(kind: u8) -> RouteKind {
        match kind {
            libc::RTN_UNICAST => Self::Unicast,
            libc::RTN_LOCAL => Self::Local,
            libc::RTN_BROADCAST => Self::Broadcast,
            libc::RTN_ANYCAST => Self::Anycast,
            libc::RTN_MULTICAST => Self::Multicast,
            libc::RTN_BLACKHOLE => Self::Blackhole,
            libc::RTN_UNREACHABLE => Self::Unreachable,
            libc::RTN_PROHIBIT => Self::Prohibit,
            libc::RTN_THROW => Self::Throw,
            other => Self::Other(other),
        }
    }
}

impl From<RouteKind> for u8 {
    fn from(kind: RouteKind) -> u8 {
        match kind {
            RouteKind::Unicast => libc::RTN_UNICAST,
            RouteKind::Local => libc::RTN_LOCAL,
            RouteKind::Broadcast => libc::RTN_BROADCAST,
            RouteKind::Anycast => libc::RTN_ANYCAST,
            RouteKind::Multicast => libc::RTN_MULTICAST,
            RouteKind::Blackhole => libc::RTN_BLACKHOLE,
            RouteKind::Unreachable => libc::RTN_UNREACHABLE,
            RouteKind::Prohibit => libc::RTN_PROHIBIT,
            RouteKind::Throw => libc::RTN_THROW,
            RouteKind::Other(other) => other,
        }
    }
}

impl From<u8> for Scope {
    fn from(scope: u8) -> Scope {
        match scope {
            libc::RT_SCOPE_UNIVERSE => Self::Universe,
            libc::RT_SCOPE_LINK => Self::Link,
            libc::RT_SCOPE_HOST => Self::Host,
            other => Self::Other(other),
        }
    }
}

impl From<Scope> for u8 {
    fn from(scope: Scope) -> u8 {
        match scope {
            Scope::Universe => libc::RT_SCOPE_UNIVERSE,
            Scope::Link => libc::RT_SCOPE_LINK,
            Scope::Host => libc::RT_SCOPE_HOST,
            Scope::Other(other) => other,
        }
    }
}

impl From<u16> for NeighbourState {
    fn from(state: u16) -> NeighbourState {
        match state {
            libc::NUD_INCOMPLETE => Self::Incomplete,
            libc::NUD_REACHABLE => Self::Reachable,
            libc::NUD_STALE => Self::Stale,
            libc::NUD_DELAY => Self::Delay,
            libc::NUD_PROBE => Self::Probe,
            libc::NUD_FAILED => Self::Failed,
            libc::NUD_NOARP => Self::NoArp,
            libc::NUD_PERMANENT => Self::Permanent,
            // The kernel gives exactly one of these bits, or none.
            _ => Self::None,
        }
    }
}
