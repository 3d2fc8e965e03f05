//! Packet views and builders, checksums. Knows nothing but bytes.
//!
//! A view is made of untrusted bytes by a checked constructor; after that its accessors cannot
//! fail.

pub mod checksum;
pub mod ethernet;
pub mod gre;
pub mod gue;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod ndp;
pub mod sctp;
pub mod transport;
pub mod vnet;
