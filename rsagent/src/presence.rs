//! Whether `rsagent run` is at work in this network namespace: it holds a lock on a file, which has its
//! process number in it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::state::{StateError, file, path};

/// A `run` at work; its end, or that of its process, ends it.
#[derive(Debug)]
pub(crate) struct Presence {
    path: PathBuf,
    lock: Flock<File>,
    /// Whether the file outlives it.
    stays: bool,
}

impl Presence {
    /// `None`: another one is at work.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(crate) fn claim() -> Result<Option<Presence>, StateError> {
        let path = path("lock")?;
        loop {
            let mut options = File::options();
            let opened = options.write(true).create(true).truncate(false).open(&path);
            let held = opened.map_err(file("create", &path))?;
            let lock = match Flock::lock(held, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, error)) => return Err(file("lock", &path)(error.into())),
            };
            // One that has just ended has removed the file that we have locked.
            let ours = lock.metadata().map_err(file("read", &path))?.ino();
            if fs::metadata(&path).is_ok_and(|there| there.ino() == ours) {
                let stays = false;
                return Ok(Some(Presence { path, lock, stays }));
            }
        }
    }

    /// Whether one is at work. The number of one that was killed stays in the file: by it init scripts tell a
    /// killed one from one that has ended.
    ///
    /// # Errors
    /// See [`claim`](Self::claim).
    pub(crate) fn is_there() -> Result<bool, StateError> {
        let Some(mut free) = Presence::claim()? else {
            return Ok(true);
        };
        free.stays = free.lock.metadata().is_ok_and(|left| left.len() > 0);
        Ok(false)
    }

    /// Lets init scripts know whom to signal.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write_id(&mut self) -> Result<(), StateError> {
        let id = format!("{}\n", std::process::id());
        let written = self
            .lock
            .set_len(0)
            .and_then(|()| self.lock.write_all(id.as_bytes()));
        written.map_err(file("write", &self.path))
    }

    /// The same, but waits until none is at work any more, so long at most.
    ///
    /// # Errors
    /// See [`claim`](Self::claim).
    pub(crate) fn claim_within(most: Duration) -> Result<Option<Presence>, StateError> {
        let deadline = Instant::now() + most;
        loop {
            let claimed = Presence::claim()?;
            if claimed.is_some() || Instant::now() >= deadline {
                return Ok(claimed);
            }
            sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // The lock is what counts; a file that stays does no harm.
        if !self.stays {
            let _ = fs::remove_file(&self.path);
        }
    }
}
