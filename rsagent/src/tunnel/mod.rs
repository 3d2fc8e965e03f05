//! The real server's end of the director's tunnels.
//!
//! | module | what is in it |
//! |---|---|
//! | [`decapsulate`] | a program that takes the tunnel off what comes in; pure |
//! | [`clamp`] | a program that lowers the maximum segment size of what goes out; pure |
//! | [`layout`] | where things are in a frame |
//! | [`filters`] | puts them on interfaces, finds them again, takes them away |
//! | [`device`] | the kernel's own device for IPIP |
//!
//! The programs hang on interfaces as filters of traffic control (`clsact`), on kernels with tcx too:
//! a filter outlives the process that put it there, and goes with its network namespace. A tcx link
//! would have to be pinned for that, into a file system that need not be mounted and that all network
//! namespaces share.

pub(crate) mod clamp;
pub(crate) mod decapsulate;
pub(crate) mod device;
pub(crate) mod filters;
mod layout;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// What the programs are made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Tunnels {
    /// What may be inside.
    pub(crate) vips: BTreeSet<Ipv4Addr>,
    /// The host's addresses that tunnels end at.
    pub(crate) own: BTreeSet<Ipv4Addr>,
    /// The UDP port of GUE.
    pub(crate) port: u16,
    /// Who takes IPIP.
    pub(crate) ipip: Ipip,
}

/// Who takes the tunnel off IPIP packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ipip {
    /// The kernel's device.
    Kernel,
    /// Our program: the kernel has none.
    Program,
}

#[cfg(test)]
mod tests;
