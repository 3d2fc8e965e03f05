//! What the director is started with.

use std::fs;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use super::capture::CaptureKind;
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
}

/// Reads a configuration file. If none is named it is the usual one, which need not be there: then
/// the configuration is empty.
///
/// # Errors
/// The file cannot be read, or all that is wrong in it.
pub fn load(named: Option<&Path>) -> Result<Config, LoadError> {
    let file = named.unwrap_or(Path::new(USUAL_FILE));
    match fs::read_to_string(file) {
        Ok(text) => Ok(Config::parse(&text, &file.display().to_string())?),
        Err(error) if named.is_none() && error.kind() == ErrorKind::NotFound => {
            Ok(Config::default())
        }
        Err(source) => Err(LoadError::Unreadable {
            file: file.to_owned(),
            source,
        }),
    }
}

/// The configuration when none is named.
const USUAL_FILE: &str = "/etc/lvs/director.toml";
