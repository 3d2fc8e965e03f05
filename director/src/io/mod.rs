//! The event loop and everything with a file descriptor.

pub mod capture;
