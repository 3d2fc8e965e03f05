//! What rsagent has changed, kept until it is undone.
//!
//! One file for each network namespace, since namespaces share `/run`. Its name has the inode
//! number of the namespace, by which an administrator finds it (`lsns -t net`). The kernel uses
//! these numbers again, so the file also holds the namespace's cookie, and a file of a namespace
//! that is gone counts for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use shared::host::sysctl::Remembered;
use shared::sys::namespace;

/// What has been changed.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Which namespace this is about.
    cookie: u64,
    /// The VIPs that have been started.
    pub(crate) vips: BTreeMap<IpAddr, Owner>,
    /// Settings as they were.
    pub(crate) settings: Remembered,
    /// Tunnels that have been started.
    #[serde(default)]
    pub(crate) tunnels: Option<Tunnelled>,
    /// What the administrator wants of this server.
    #[serde(default)]
    pub(crate) condition: Condition,
    /// `stop` asks `run` to end.
    #[serde(default)]
    pub(crate) leaving: bool,
}

/// What the administrator wants of a server.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Condition {
    /// It serves.
    #[default]
    Ready,
    /// It serves whom it has, and gets nobody new.
    Drain,
    /// Somebody works on it.
    Maintenance,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Condition::Ready => "ready",
            Condition::Drain => "drain",
            Condition::Maintenance => "maintenance",
        })
    }
}

impl State {
    /// Of the calling thread's network namespace, as it is; nothing is locked or made.
    pub(crate) fn peek() -> Result<State, StateError> {
        let store = path("json")?;
        let cookie = cookie()?;
        Ok(load(&store, cookie)?.unwrap_or_else(|| State::new(cookie)))
    }

    fn new(cookie: u64) -> State {
        State {
            cookie,
            ..State::default()
        }
    }

    /// Whether there is nothing to keep.
    fn is_empty(&self) -> bool {
        self.vips.is_empty()
            && self.settings.is_empty()
            && self.tunnels.is_none()
            && self.condition == Condition::Ready
            && !self.leaving
    }
}

/// What tunnels were started with.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tunnelled {
    /// The VIPs inside.
    pub(crate) vips: BTreeSet<IpAddr>,
    /// GUE's port.
    pub(crate) port: u16,
    /// The interfaces that were asked for.
    pub(crate) interfaces: Vec<String>,
    /// Interfaces that have their `clsact` from us.
    pub(crate) clsact: BTreeSet<String>,
    /// Whether the kernel's device was down; `None`: it is not used.
    pub(crate) device_was_down: Option<bool>,
}

/// What a file is about, whoever wrote it.
#[derive(Deserialize)]
struct About {
    cookie: Option<u64>,
}

/// Who put a VIP on `lo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Owner {
    /// We did, and remove it.
    Agent,
    /// The administrator did: it is left alone.
    Administrator,
}

/// The file. No other rsagent works on this machine while it is open.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    _lock: Flock<File>,
}

/// Why the state could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("{doing} {path}: {source}")]
    File {
        doing: &'static str,
        path: String,
        source: io::Error,
    },
    #[error(
        "{path} cannot be read ({source}). It says what rsagent has changed; remove it if you have \
         looked after that yourself"
    )]
    Content {
        path: String,
        source: serde_json::Error,
    },
    #[error("which network namespace this is: {0}")]
    Namespace(shared::sys::SyscallError),
}

impl Store {
    /// Opens the file of the calling thread's network namespace, and reads what is in it.
    pub(crate) fn open() -> Result<(Store, State), StateError> {
        let folder = Path::new(FOLDER);
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(FOLDER_MODE).create(folder);
        made.map_err(file("create", folder))?;
        let lock = File::open(folder).map_err(file("open", folder))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusive)
            .map_err(|(_, error)| file("lock", folder)(error.into()))?;

        let store = Store {
            path: path("json")?,
            _lock: lock,
        };
        let cookie = cookie()?;
        let state = load(&store.path, cookie)?.unwrap_or_else(|| State::new(cookie));
        Ok((store, state))
    }

    /// Keeps the state, as a whole or not at all; with nothing in it, removes the file.
    pub(crate) fn save(&self, state: &State) -> Result<(), StateError> {
        if state.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(file("remove", &self.path)(error))
                }
                _ => Ok(()),
            };
        }
        let text =
            serde_json::to_string_pretty(state).map_err(|source| content(&self.path, source))?;
        let new = self.path.with_extension("new");
        fs::write(&new, text).map_err(file("write", &new))?;
        fs::rename(&new, &self.path).map_err(file("write", &self.path))
    }
}

/// The state of the namespace with that cookie, if the file is about it.
fn load(path: &Path, cookie: u64) -> Result<Option<State>, StateError> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        outcome => outcome.map_err(file("read", path))?,
    };
    // Whatever else is in the file of another namespace, another version may have written it.
    let about: About = serde_json::from_slice(&text).map_err(|source| content(path, source))?;
    if about.cookie != Some(cookie) {
        return Ok(None);
    }
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|source| content(path, source))
}

fn content(path: &Path, source: serde_json::Error) -> StateError {
    StateError::Content {
        path: path.display().to_string(),
        source,
    }
}

/// A file of ours for the calling thread's network namespace.
pub(crate) fn path(kind: &str) -> Result<PathBuf, StateError> {
    let own = Path::new("/proc/thread-self/ns/net");
    let inode = fs::metadata(own).map_err(file("read", own))?.ino();
    Ok(Path::new(FOLDER).join(format!("rsagent-{inode}.{kind}")))
}

/// The namespace's cookie; 0 before Linux 5.14, where the file's name must do.
fn cookie() -> Result<u64, StateError> {
    match namespace::cookie() {
        Err(error) if error.errno() == Some(nix::libc::ENOPROTOOPT) => Ok(0),
        outcome => outcome.map_err(StateError::Namespace),
    }
}

pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.display().to_string();
    move |source| StateError::File {
        doing,
        path,
        source,
    }
}

/// Where the state of all our programs is; the director's control socket too.
pub(crate) const FOLDER: &str = "/run/lvs";

const FOLDER_MODE: u32 = 0o755;
