//! The configuration file.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use shared::config::Faults;

use crate::config::{Config, Flags};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// There is none, or it cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is wrong in it.
    #[error(transparent)]
    Faults(#[from] Faults),
}

/// What the file and the command line say together. A file that was not named need not be there.
///
/// # Errors
/// See [`FileError`].
pub(crate) fn configured(flags: &Flags) -> Result<Config, FileError> {
    let path = flags.config.as_deref().unwrap_or(Path::new(FILE));
    let file = match fs::read_to_string(path) {
        Ok(text) => Config::parse(&text, &path.display().to_string())?,
        Err(error) if error.kind() == ErrorKind::NotFound && flags.config.is_none() => {
            Config::default()
        }
        Err(source) => {
            return Err(FileError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    Ok(file.with(flags))
}

/// Where it is, unless it is named.
const FILE: &str = "/etc/lvs/rsagent.toml";
