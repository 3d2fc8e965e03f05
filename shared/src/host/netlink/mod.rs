//! Links, addresses, routes, rules, neighbours and ingress filters of the host, by rtnetlink (RFC 3549, rtnetlink(7)),
//! what nftables does to forwarded packets, and which TCP sockets listen.
//!
//! [`Netlink`] asks and changes, and waits for the kernel's answer, which comes at once.
//! [`Monitor`] tells what changes, without blocking. Both speak in the plain values of [`types`].
//!
//! Both belong to the network namespace of the thread that opened them.
//!
//! What we put into the kernel carries [`OUR_PROTOCOL`], so that leftovers of a killed program are
//! known from what the administrator put there.

mod chains;
mod change;
mod decode;
mod dump;
mod filter;
mod listeners;
mod monitor;
mod request;
mod types;

#[cfg(test)]
mod tests;

pub use chains::ForwardChain;
pub use change::NewAddress;
pub use filter::{Hook, IngressFilter};
pub use listeners::{Listener, Listeners};
pub use monitor::{Event, Monitor};
pub use request::{Netlink, NetlinkError};
pub use types::{
    Address, Link, Neighbour, NeighbourState, NextHop, Prefix, Route, RouteKind, Rule, RulePorts,
    Scope,
};

/// The protocol number of the addresses (`IFA_PROTO`), routes and rules that we add: nobody's in
/// `/etc/iproute2/rt_protos`, shown as `proto 76` by `ip`.
///
/// Kernels before 5.18 keep no protocol of addresses: there an address shows none.
pub const OUR_PROTOCOL: u8 = 76;

/// The same for the local addresses of FULLNAT alone, which must not be anybody else's.
pub const LOCAL_ADDRESS_PROTOCOL: u8 = 77;

/// The routing table of connected and static routes, `RT_TABLE_MAIN`.
pub const TABLE_MAIN: u32 = 254;

/// `RTPROT_KERNEL`, of `include/uapi/linux/rtnetlink.h`: what the kernel has made itself.
pub const RTPROT_KERNEL: u8 = 2;

/// `RTPROT_RA`: what a router has advertised.
pub const RTPROT_RA: u8 = 9;

/// The routing table of the host's own addresses, `RT_TABLE_LOCAL`.
pub const TABLE_LOCAL: u32 = 255;
