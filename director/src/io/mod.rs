//! The event loop and everything with a file descriptor.

pub mod capture;
mod launch;

pub use launch::{Launch, LoadError, load};

/// Why the director could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Nothing to run.
    #[error("the event loop is not there yet")]
    NotYet,
}

/// Runs the director until it is told to stop.
///
/// # Errors
/// What kept it from starting, or what made going on impossible.
pub fn run(_launch: Launch) -> Result<(), RunError> {
    Err(RunError::NotYet)
}
