//! Notices that somebody else has changed our state file: `start`, `stop`, `drain` and so on.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::state::{FOLDER, path};

/// The state file's folder, since the file itself is replaced each time.
#[derive(Debug)]
pub(crate) struct Watch {
    inotify: Inotify,
    file: OsString,
}

impl Watch {
    /// From now on; the folder must be there.
    pub(crate) fn begin() -> io::Result<Watch> {
        let path = path("json").map_err(io::Error::other)?;
        let file = path.file_name().unwrap_or(path.as_os_str());
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let changes = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE;
        inotify.add_watch(Path::new(FOLDER), changes)?;
        Ok(Watch {
            inotify,
            file: file.to_owned(),
        })
    }

    /// Whether the file has changed since the last call.
    pub(crate) fn has_changed(&self) -> bool {
        let mut changed = false;
        // An error is that there is nothing more to read.
        while let Ok(events) = self.inotify.read_events() {
            // An overflow has no name.
            let ours = |name: Option<&OsString>| name.is_none_or(|name| *name == self.file);
            changed |= events.iter().any(|event| ours(event.name.as_ref()));
        }
        changed
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_fd().as_raw_fd()
    }
}
