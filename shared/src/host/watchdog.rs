//! systemd's watchdog (`WatchdogSec=`): it ends a service that does not say in time that it is alive. Only
//! what could hang may say so, which is the event loop itself.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// Who is to be told, and how often.
#[derive(Debug)]
pub struct Watchdog {
    socket: UnixDatagram,
    to: OsString,
    every: Duration,
}

impl Watchdog {
    /// The one that waits for this process; `None` if there is none.
    ///
    /// # Errors
    /// There is no socket for it.
    pub fn of_this_process() -> io::Result<Option<Watchdog>> {
        let patience = sd_notify::watchdog_enabled();
        let (Some(patience), Some(to)) = (patience, std::env::var_os("NOTIFY_SOCKET")) else {
            return Ok(None);
        };
        Watchdog::new(to, patience).map(Some)
    }

    fn new(to: OsString, patience: Duration) -> io::Result<Watchdog> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Watchdog {
            socket,
            to,
            every: patience / 2,
        })
    }

    /// From one word to the next: half of the time that systemd waits, as sd_watchdog_enabled(3) advises.
    pub fn every(&self) -> Duration {
        self.every
    }

    /// Says that the loop turns. It never waits: if systemd is behind, the next word will do.
    pub fn feed(&self) {
        let _ = self.socket.send_to(b"WATCHDOG=1\n", &self.to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_arrives_and_a_full_queue_stops_nobody() {
        let folder = std::env::temp_dir();
        let path = folder.join(format!("lvs-watchdog-{}", std::process::id()));
        let systemd = UnixDatagram::bind(&path).expect("a socket");
        let watchdog = Watchdog::new(path.clone().into(), Duration::from_secs(10));
        let watchdog = watchdog.expect("a socket");
        assert_eq!(watchdog.every(), Duration::from_secs(5));
        for _ in 0..10_000 {
            watchdog.feed();
        }
        let mut buffer = [0; 100];
        let length = systemd.recv(&mut buffer).expect("a word");
        assert_eq!(&buffer[..length], b"WATCHDOG=1\n");
        drop(systemd);
        watchdog.feed();
        let _ = std::fs::remove_file(path);
    }
}
