//! What the director is started with.

use std::fs;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use shared::agent::Key;

use super::agents::{self, AgentsError};
use super::capture::CaptureKind;
use super::checks::{TrustError, TrustStore};
use crate::config::{Config, Faults};

/// The command line and the configuration, read and checked.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The configuration file, if one was named: what a reload [`load`]s again.
    pub config_file: Option<PathBuf>,
    /// What it says; empty if there is none.
    pub config: Config,
    /// `--interface`: if any, instead of those of the configuration.
    pub interfaces: Vec<String>,
    /// The key that vouches for the reports of agents.
    pub agent_key: Option<Key>,
    /// Who vouches for the certificates that checks see.
    pub trust: TrustStore,
    /// How frames are taken.
    pub capture: CaptureKind,
    /// Where the control socket goes.
    pub control: PathBuf,
    /// Where the process id goes.
    pub pid_file: Option<PathBuf>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read, or is not UTF-8.
    #[error("cannot read the configuration {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What reading it said.
        source: Error,
    },
    /// It can be read, and this is what is wrong with it.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// It asks for a key that cannot be had.
    #[error(transparent)]
    Agents(#[from] AgentsError),
    /// It asks for certificates that cannot be had.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// A configuration, with the key and the certificates that it names.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// What the file says.
    pub config: Config,
    /// The key that vouches for the reports of agents.
    pub agent_key: Option<Key>,
    /// Who vouches for the certificates that checks see.
    pub trust: TrustStore,
}

/// Reads a configuration file. If none is named it is the usual one, which need not be there: then
/// the configuration is empty.
///
/// # Errors
/// The file cannot be read, or all that is wrong in it, or the key or the certificates that it names cannot be
/// used.
pub fn load(named: Option<&Path>) -> Result<Loaded, LoadError> {
    let file = named.unwrap_or(Path::new(USUAL_FILE));
    let config = match fs::read_to_string(file) {
        Ok(text) => Config::parse(&text, &file.display().to_string())?,
        Err(error) if named.is_none() && error.kind() == ErrorKind::NotFound => Config::default(),
        Err(source) => {
            return Err(LoadError::Unreadable {
                file: file.to_owned(),
                source,
            });
        }
    };
    let agent_key = agents::read_key(&config)?;
    let trust = TrustStore::read(&config)?;
    Ok(Loaded {
        config,
        agent_key,
        trust,
    })
}

/// The configuration when none is named.
const USUAL_FILE: &str = "/etc/lvs/director.toml";
