//! What the kernel's texts under `/proc` say. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A listening TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listener {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Connections that wait to be accepted.
    pub(crate) queue: u32,
}

/// Time of all processors since the start, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CpuTimes {
    /// Doing something.
    pub(crate) busy: u64,
    /// All of it.
    pub(crate) all: u64,
}

/// A line of `/proc/net/tcp` or `tcp6`, if it is of a listening socket. These come before all others
/// (`tcp_get_idx` in net/ipv4/tcp_ipv4.c); their `rx_queue` is what waits to be accepted.
pub(crate) fn listener(line: &str) -> Option<Listener> {
    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let (_, queue) = fields.next()?.split_once(':')?;
    if state != LISTEN {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    Some(Listener {
        address: SocketAddr::new(address_of(address)?, u16::from_str_radix(port, 16).ok()?),
        queue: u32::from_str_radix(queue, 16).ok()?,
    })
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

/// Words of 32 bits, as they lie in the host's memory.
fn address_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut octets = [0; 16];
            for (place, chunk) in octets.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(place * 8)?);
            }
            Some(Ipv6Addr::from(octets).to_canonical())
        }
        _ => None,
    }
}

/// `TCP_LISTEN` of net/tcp_states.h.
const LISTEN: &str = "0A";

// Places in /proc/stat.
const IDLE: usize = 3;
const IOWAIT: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn listeners_are_told_from_connections() {
        let tcp =
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000  0 0 7 1";
        let expected = Listener {
            address: "127.0.0.1:8080".parse().unwrap(),
            queue: 3,
        };
        assert_eq!(listener(tcp), Some(expected));
        let tcp6 = "   1: B80D0120000000000000000000010000:0050 00000000000000000000000000000000:0000 \
                    0A 00000000:00000000 00:00000000 00000000 0 0 9 1";
        let found = listener(tcp6).unwrap();
        assert_eq!(found.address, "[2001:db8::100]:80".parse().unwrap());
        let connection =
            "   2: 0100007F:1F90 0100007F:A8D4 01 00000000:00000003 00:00000000 0 0 0 8 1";
        assert_eq!(listener(connection), None);
        for strange in [
            "",
            "  sl  local_address rem_address   st tx_queue",
            "0: 1:2 3:4 0A 5:6",
            "0: é:2 3 0A 5:6",
        ] {
            assert_eq!(listener(strange), None, "{strange}");
        }
    }

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
