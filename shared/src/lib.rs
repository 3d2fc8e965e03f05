//! What director and rsagent have in common.
//!
//! | module | what is in it | may know |
//! |---|---|---|
//! | [`wire`] | views and builders of packets, checksums; pure | nothing |
//! | [`agent`] | what a real server reports: encoding, authentication, replay; pure | nothing |
//! | [`addr`], [`time`] | addresses, protocols, instants as plain values; pure | nothing |
//! | [`config`] | configuration files in TOML, and their faults; pure | nothing |
//! | [`host`] | what both programs do to the machine they run on: netlink, sysctls | `sys` |
//! | [`sys`] | `unsafe`: TUN, BPF, tcx; nowhere else but here and in `director::sys` | the C library |

pub mod addr;
pub mod agent;
pub mod config;
pub mod host;
pub mod sys;
pub mod time;
pub mod wire;
