//! How busy the host is.

use std::fs;
use std::time::Instant;

use shared::agent::Load;
use shared::host::netlink::{Listeners, NetlinkError};

use super::pace::Busy;
use crate::procfs::{CpuTimes, busy_percent, cpu_times, run_queue, sockets};

/// Looks at the load from time to time.
#[derive(Debug)]
pub(crate) struct Measure {
    times: CpuTimes,
    at: Instant,
    busy: Busy,
    listeners: Listeners,
}

impl Measure {
    /// From now on.
    ///
    /// # Errors
    /// The kernel does not tell listening sockets.
    pub(crate) fn begin() -> Result<Measure, NetlinkError> {
        Ok(Measure {
            times: read("/proc/stat", cpu_times).unwrap_or_default(),
            at: Instant::now(),
            busy: Busy::default(),
            listeners: Listeners::open()?,
        })
    }

    /// The load since the last look. What the kernel does not tell is 0.
    pub(crate) fn look(&mut self) -> Load {
        let times = read("/proc/stat", cpu_times).unwrap_or_default();
        let percent = busy_percent(self.times, times);
        // Ticks are 10 ms: in a shorter time than a few of them nothing can be told.
        if times.all > self.times.all + FEWEST_TICKS {
            self.busy.add(percent, self.at.elapsed());
            (self.times, self.at) = (times, Instant::now());
        }
        let listeners = self.listeners.list().unwrap_or_default();
        let waiting = listeners.iter().map(|listener| listener.queue);
        let sockets: u32 = ["/proc/net/sockstat", "/proc/net/sockstat6"]
            .into_iter()
            .filter_map(|file| read(file, sockets))
            .sum();
        Load {
            cpu_percent: self.busy.percent(),
            run_queue: read("/proc/loadavg", run_queue).unwrap_or(0),
            listen_queue: waiting.sum(),
            connections: sockets.saturating_sub(listeners.len() as u32),
        }
    }
}

fn read<T>(file: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    parse(&fs::read_to_string(file).ok()?)
}

const FEWEST_TICKS: u64 = 5;
