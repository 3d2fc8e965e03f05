//! The key that vouches for reports, and who can read it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use shared::agent::{Key, KeyError};

use crate::config::Config;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyFault {
    /// The file cannot be read.
    #[error(
        "reports need a key, and {} cannot be read ({source}): copy the director's there, or report \
         without one by --insecure", path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others can read the key.
    #[error("{} can be read by others than its owner (mode {mode:o}): chmod 600 {}", path.display(), path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// What is in the file is no key.
    #[error("{}: {source}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: KeyError,
    },
}

/// The key; `None` if there are no reports, or they are to be sent without one.
///
/// # Errors
/// See [`KeyFault`].
pub(crate) fn load(config: &Config) -> Result<Option<Key>, KeyFault> {
    if config.insecure || config.directors.is_empty() {
        return Ok(None);
    }
    let path = &config.key_file;
    let unreadable = |source| KeyFault::Read {
        path: path.clone(),
        source,
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(KeyFault::Open {
            path: path.clone(),
            mode,
        });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    let key = Key::from_bytes(&bytes).map_err(|source| KeyFault::Unfit {
        path: path.clone(),
        source,
    })?;
    Ok(Some(key))
}

/// Group and everybody.
const OTHERS: u32 = 0o077;
