//! What was changed, kept where the next run finds it, also after a crash: one file for each
//! network namespace, since namespaces share a file system.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shared::host::sysctl::Remembered;
use shared::sys::namespace::identity;

/// What is ours, and what was before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Addresses that we put on `lo`.
    pub vips: Vec<IpAddr>,
    /// Settings as they were.
    pub settings: Remembered,
}

/// The file.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
}

/// Why the state cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("the state file {}: {source}", path.display())]
pub struct StateError {
    path: PathBuf,
    source: io::Error,
}

impl Store {
    /// That of the calling thread's network namespace.
    pub fn open() -> Result<Store, StateError> {
        let folder = Path::new(FOLDER);
        let namespace = identity().map_err(|error| StateError {
            path: folder.to_owned(),
            source: error.source,
        })?;
        let path = folder.join(format!("rsagent-{namespace}.json"));
        Ok(Store { path })
    }

    /// What is in it; nothing if there is no file.
    pub fn load(&self) -> Result<State, StateError> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| self.error(error.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(State::default()),
            Err(error) => Err(self.error(error)),
        }
    }

    /// Writes it, whole or not at all; nothing to remember is no file.
    pub fn save(&self, state: &State) -> Result<(), StateError> {
        if *state == State::default() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(self.error(error)),
                _ => Ok(()),
            };
        }
        let text = serde_json::to_vec(state).map_err(|error| self.error(error.into()))?;
        let new = self.path.with_extension("new");
        fs::create_dir_all(FOLDER)
            .and_then(|()| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, &self.path))
            .map_err(|error| self.error(error))
    }

    fn error(&self, source: io::Error) -> StateError {
        StateError {
            path: self.path.clone(),
            source,
        }
    }
}

const FOLDER: &str = "/run/lvs";
