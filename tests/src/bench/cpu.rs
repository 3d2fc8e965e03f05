//! Who runs where, and how long.

use std::fs;
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::Pid;

/// For what stands in the middle in user space: the director, haproxy, nginx.
pub const MIDDLE: usize = 0;
/// For the ends, and for what the kernel does on their behalf.
pub const ENDS: usize = 1;

/// Keeps a process of one thread on a CPU.
///
/// # Panics
/// If there is no such CPU.
pub fn pin(process: u32, cpu: usize) {
    set(Pid::from_raw(process as i32), cpu);
}

/// Keeps the calling thread on a CPU, and the processes that it will start.
///
/// # Panics
/// If there is no such CPU.
pub fn pin_self(cpu: usize) {
    set(Pid::from_raw(0), cpu);
}

fn set(process: Pid, cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu).expect("a CPU number");
    sched_setaffinity(process, &only).expect("the benchmark needs two CPUs");
}

/// CPU time that was used up to some moment.
///
/// By `schedstat`, which is exact: the machine's own sums in `/proc/stat` count clock ticks, and
/// where packets are forwarded in long stretches without interrupts most of these are lost.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    middle: Duration,
    ends: Duration,
}

impl Used {
    /// By the process in the middle, if there is one, and by the ends: their processes, this thread,
    /// the children that it waited for, and the kernel's threads for what interrupts left over.
    ///
    /// # Panics
    /// Without `/proc`.
    pub fn now(middle: Option<u32>, ends: &[u32]) -> Used {
        let kernel = ksoftirqd().map(on_cpu);
        let others = ends.iter().copied().map(on_cpu);
        let own = stat_of("/proc/thread-self/schedstat");
        Used {
            middle: middle.map_or(Duration::ZERO, on_cpu),
            ends: kernel.chain(others).sum::<Duration>() + own + children(),
        }
    }

    /// What was used since: by the middle, and by the middle and the ends together.
    pub fn since(self, middle: Option<u32>, ends: &[u32]) -> (Duration, Duration) {
        let now = Used::now(middle, ends);
        let middle = now.middle - self.middle;
        (middle, middle + (now.ends - self.ends))
    }
}

fn on_cpu(process: u32) -> Duration {
    stat_of(&format!("/proc/{process}/schedstat"))
}

/// Time on the CPU, the first field.
fn stat_of(path: &str) -> Duration {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let nanoseconds = text.split_whitespace().next().expect("time on the CPU");
    Duration::from_nanos(nanoseconds.parse().expect("a number"))
}

fn children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("there is nothing to refuse");
    [usage.user_time(), usage.system_time()]
        .map(|time| Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()) as u64))
        .iter()
        .sum()
}

fn ksoftirqd() -> impl Iterator<Item = u32> {
    let processes = fs::read_dir("/proc").expect("proc is mounted").flatten();
    processes.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        name.starts_with("ksoftirqd/").then_some(number)
    })
}
