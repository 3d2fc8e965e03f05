//! What the kernel's texts under `/proc` say. Pure.

/// Time of all processors since the start, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CpuTimes {
    /// Doing something.
    pub(crate) busy: u64,
    /// All of it.
    pub(crate) all: u64,
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal, and guest times,
/// which are part of the first two.
pub(crate) fn cpu_times(stat: &str) -> Option<CpuTimes> {
    let mut fields = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_ascii_whitespace();
    let mut times = CpuTimes::default();
    for place in 0..8 {
        // Old kernels and some containers have fewer.
        let Some(field) = fields.next() else { break };
        let ticks: u64 = field.parse().ok()?;
        times.all += ticks;
        if !matches!(place, IDLE | IOWAIT) {
            times.busy += ticks;
        }
    }
    Some(times)
}

/// Per cent of the time between two looks.
pub(crate) fn busy_percent(before: CpuTimes, now: CpuTimes) -> f64 {
    let all = now.all.saturating_sub(before.all);
    let busy = now.busy.saturating_sub(before.busy);
    if all == 0 {
        return 0.0;
    }
    (100.0 * busy as f64 / all as f64).clamp(0.0, 100.0)
}

/// `/proc/loadavg`: thousandths of the average over one minute.
pub(crate) fn run_queue(loadavg: &str) -> Option<u32> {
    let (one, _) = loadavg.split_once(' ')?;
    let (whole, part) = one.split_once('.')?;
    let hundredths: u32 = part.get(..2)?.parse().ok()?;
    Some(
        whole
            .parse::<u32>()
            .ok()?
            .saturating_mul(1000)
            .saturating_add(hundredths * 10),
    )
}

/// `/proc/net/sockstat` or `sockstat6`: TCP sockets in use, listening ones too.
pub(crate) fn sockets(sockstat: &str) -> Option<u32> {
    let line = sockstat.lines().find_map(|line| {
        line.strip_prefix("TCP: ")
            .or_else(|| line.strip_prefix("TCP6: "))
    })?;
    let mut fields = line.split_ascii_whitespace();
    fields.find(|field| *field == "inuse")?;
    fields.next()?.parse().ok()
}

// Places in /proc/stat.
const IDLE: usize = 3;
const IOWAIT: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processors_are_as_busy_as_they_say() {
        let before = cpu_times("cpu  100 0 50 800 50 0 0 0 10 0\ncpu0 1 1\n").unwrap();
        assert_eq!(
            before,
            CpuTimes {
                busy: 150,
                all: 1000
            }
        );
        let now = cpu_times("cpu  130 0 60 850 60 0 0 0 10 0\n").unwrap();
        assert_eq!(busy_percent(before, now), 40.0);
        assert_eq!(busy_percent(now, now), 0.0);
        assert_eq!(busy_percent(now, before), 0.0, "it has gone back");
        assert_eq!(cpu_times("intr 1"), None);
        assert_eq!(cpu_times("cpu  a"), None);
    }

    #[test]
    fn load_and_sockets_are_read() {
        assert_eq!(run_queue("1.25 0.70 0.50 2/300 4711\n"), Some(1250));
        assert_eq!(run_queue("12.00 0.70"), Some(12_000));
        assert_eq!(run_queue("1"), None);
        let four =
            "sockets: used 100\nTCP: inuse 7 orphan 0 tw 2 alloc 9 mem 1\nUDP: inuse 1 mem 0\n";
        assert_eq!(sockets(four), Some(7));
        assert_eq!(sockets("TCP6: inuse 3\nUDP6: inuse 2\n"), Some(3));
        assert_eq!(sockets("UDP: inuse 3\n"), None);
    }
}
