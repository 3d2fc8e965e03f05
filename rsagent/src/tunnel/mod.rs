//! The real server's end of the director's tunnels.
//!
//! | module | what is in it |
//! |---|---|
//! | [`address`] | the sets of addresses that the programs look into |
//! | [`decapsulate`] | a program that takes the tunnel off what comes in; pure |
//! | [`clamp`] | a program that lowers the maximum segment size of what goes out; pure |
//! | [`layout`] | where things are in a frame |
//! | [`plan`] | which interfaces and addresses tunnels end at; pure |
//! | [`filters`] | the programs as filters of interfaces |
//! | [`device`] | the kernel's own device for IPIP |
//! | [`apply`] | starts it all, stops it, compares |
//!
//! IPv4 in IPv4 without more ends at the kernel's device where the kernel has it; all else ends in our program.
//!
//! The programs hang on interfaces as filters of traffic control (`clsact`), on kernels with tcx too:
//! a filter outlives the process that put it there, and goes with its network namespace. A tcx link
//! would have to be pinned for that, into a file system that need not be mounted and that all network
//! namespaces share.

mod address;
pub(crate) mod apply;
mod clamp;
mod decapsulate;
mod device;
pub(crate) mod filters;
mod layout;
mod plan;

use std::collections::BTreeSet;
use std::net::IpAddr;

/// What the programs are made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Tunnels {
    /// What may be inside.
    pub(crate) vips: BTreeSet<IpAddr>,
    /// The host's addresses that tunnels end at.
    pub(crate) own: BTreeSet<IpAddr>,
    /// The UDP port of GUE.
    pub(crate) port: u16,
    /// Who takes IPIP.
    pub(crate) ipip: Ipip,
}

/// Who takes the tunnel off packets of IPv4 in IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ipip {
    /// The kernel's device.
    Kernel,
    /// Our program: the kernel has none.
    Program,
}

#[cfg(test)]
mod tests;
