//! What stands in for an agent: it reports what it is told to.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::SystemTime;

use shared::agent::{self, Key, Load, Report, State, VipReport};

/// See the [module](self).
#[derive(Debug)]
pub struct Agent {
    /// Connected to the director.
    pub socket: UdpSocket,
    /// What it will say next, but for number and time.
    pub report: Report,
    /// What vouches for it.
    pub key: Key,
}

impl Agent {
    /// One with whom all is well, and that says it reports each 200 ms.
    ///
    /// # Panics
    /// If the key is too short.
    pub fn new(socket: UdpSocket, identity: String, vip: Ipv4Addr, key: &[u8]) -> Agent {
        let report = Report {
            identity,
            boot: wall(),
            sequence: 0,
            time: 0,
            interval: 200,
            state: State::Ready,
            weight: None,
            healthy: true,
            arp_suppressed: true,
            vips: vec![VipReport {
                address: vip.into(),
                present: true,
            }],
            checks: Vec::new(),
            load: Load::default(),
            faults: Vec::new(),
        };
        let key = Key::from_bytes(key).expect("a long key");
        Agent {
            socket,
            report,
            key,
        }
    }

    /// The next report.
    ///
    /// # Panics
    /// If it does not fit.
    pub fn datagram(&mut self) -> Vec<u8> {
        self.report.sequence += 1;
        self.report.time = wall();
        agent::encode(&self.report, Some(&self.key)).expect("a small report")
    }

    /// Sends it, with this state.
    ///
    /// # Panics
    /// If it cannot be sent.
    pub fn send(&mut self, state: State) -> Vec<u8> {
        self.report.state = state;
        let datagram = self.datagram();
        self.socket.send(&datagram).expect("a way to the director");
        datagram
    }
}

/// Microseconds since 1970.
fn wall() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("a clock behind 1970").as_micros() as u64
}
