//! The pure heart: plain values and functions of `now`. No clock, no socket, no randomness.

pub mod capture;
pub mod net;
pub mod operation;
pub mod view;
