//! The namespace laboratory: hosts, links and programs for the demo and the end-to-end tests.
//!
//! A [`Host`](host::Host) is a network namespace that has no name outside this process. It goes
//! with everything in it when the process ends, however it ends, so that nothing is ever left
//! behind and any number of laboratories stand side by side.
//!
//! What goes wrong while a laboratory is set up ends the test with a panic that names it.

pub mod agent;
pub mod bench;
pub mod deaths;
pub mod host;
pub mod ipv6;
pub mod link;
pub mod papers;
pub mod paths;
pub mod process;
pub mod programs;
pub mod topology;
pub mod wait;
pub mod web;
