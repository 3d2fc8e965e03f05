//! Linux Virtual Server in userspace: the director and its administration tool.
//!
//! | module | what is in it | may know |
//! |---|---|---|
//! | [`core`] | services, real servers, connections, schedulers, forwarding; pure | `shared::wire` |
//! | [`config`] | the TOML file, its checks, the difference between two of them; pure | `core`, `health` |
//! | [`health`] | who judges real servers: their agents and health checks; pure | `core`, `shared::agent` |
//! | [`control`] | ipvsadm's grammar and texts, the control protocol; pure | `core` |
//! | [`sys`] | `unsafe`: the AF_PACKET ring and sockets | the C library |
//! | [`io`] | the event loop and everything with a file descriptor | all; nobody knows `io` |

pub mod config;
pub mod control;
pub mod core;
pub mod health;
pub mod io;
pub mod sys;
