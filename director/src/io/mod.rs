//! The event loop and everything with a file descriptor.
//!
//! Nothing here decides: frames, commands, timers and changes of the host's network are carried to
//! the pure core, and what it says is carried out.

mod agents;
mod announce;
pub mod capture;
mod checks;
mod clock;
mod control;
mod egress;
mod event_loop;
mod filter;
mod give_back;
mod host_network;
mod intake;
mod launch;
mod local_addresses;
mod memory;
mod reload;
mod rivals;
mod routing;
mod run;
mod scripts;
mod transmit;
mod vips;

#[cfg(test)]
mod packet_tests;

pub use agents::AgentsError;
pub use capture::CaptureKind;
pub use checks::{TrustError, TrustStore};
pub use launch::{Launch, LoadError, Loaded, load};
pub use run::{RunError, run};
