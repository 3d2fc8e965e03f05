//! `rsagent run`: keeps the host as it should be, and reports to directors.
//!
//! | module | what is in it |
//! |---|---|
//! | [`report`] | what directors are told; pure |
//! | [`pace`] | when reports go, and what weight to ask for; pure |
//! | [`agent`] | the event loop |
//! | [`keeper`] | looks at the host, and mends what is wrong |
//! | [`watch`] | notices `start`, `stop`, `drain` and so on |
//! | [`checks`] | the server's own checks |
//! | [`measure`] | how busy the host is |
//! | [`key`], [`directors`] | what vouches for reports, and their way |

mod agent;
pub(crate) mod checks;
mod directors;
mod keeper;
pub(crate) mod key;
mod measure;
mod pace;
mod report;
mod watch;

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::apply::AgentError;
use crate::config::Config;
use crate::file::FileError;
use crate::presence::Presence;
use crate::state::{StateError, Store};

/// Why `run` did not start, or ended other than it was told to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("another `rsagent run' is at work in this network namespace")]
    Another,
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Key(#[from] key::KeyFault),
    #[error("no random number: {0}")]
    Random(io::Error),
    #[error("the event loop: {0}")]
    Loop(#[from] io::Error),
}

/// Runs until it is told to stop. `configured` reads the configuration, at the start and again when it is
/// told to.
///
/// # Errors
/// See [`RunError`].
pub(crate) fn run(configured: impl Fn() -> Result<Config, FileError>) -> Result<(), RunError> {
    let config = configured()?;
    // It makes the folder that everything else is in.
    drop(Store::open()?);
    let mut presence = Presence::claim_within(OTHER_VERBS)?.ok_or(RunError::Another)?;
    presence.write_id()?;
    let (store, mut state) = Store::open()?;
    // Whoever has asked one before us to end.
    state.leaving = false;
    store.save(&state)?;
    drop(store);
    let mut agent = agent::Agent::start(config)?;
    tell_systemd(&[NotifyState::Ready]);
    agent.run(configured)
}

/// Whether [`run`] would take a configuration.
///
/// # Errors
/// It would not.
pub(crate) fn examine(config: &Config) -> Result<(), RunError> {
    if config.lacks_a_vip() {
        return Err(AgentError::NoVip.into());
    }
    key::load(config)?;
    Ok(())
}

/// Without systemd there is nobody to tell.
fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        eprintln!("rsagent: systemd was not told: {error}");
    }
}

/// `status` and others claim presence for a moment, to see whether anybody else has.
const OTHER_VERBS: Duration = Duration::from_millis(500);
