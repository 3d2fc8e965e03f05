//! The pure heart: plain values and functions of `now`. No clock, no socket, no randomness.

mod arena;
pub mod balancer;
pub mod capture;
pub mod connection;
pub mod deny;
pub mod director;
pub mod egress;
pub mod forward;
mod fragments;
pub mod frame;
mod icmp;
pub mod local_ports;
pub mod marks;
pub mod net;
pub mod operation;
pub mod protocol;
mod random;
pub mod reason;
pub mod scheduler;
pub mod server;
pub mod service;
pub mod stats;
pub mod sysctl;
pub mod timer;
pub mod trash;
pub mod verdict;
pub mod view;
