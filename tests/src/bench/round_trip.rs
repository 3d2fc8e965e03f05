//! One small datagram at a time, there and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use super::cpu::{ENDS, pin, pin_self};
use super::lane::{Lane, Middle};
use super::report::{Goal, Row};
use super::{SERVER, UDP};
use crate::ipv6::like;

/// All rows of this kind. Every run is short, so there are at least nine.
pub fn measure(repeat: usize) -> Vec<Row> {
    let lanes = [Middle::Kernel, Middle::Nftables, Middle::Nat].map(Lane::line);
    let goal = Goal::new(Middle::Nat, Middle::Kernel, 3.0, 2.0);
    rows(&lanes, "UDP round trip", goal, repeat)
}

/// IPv6 beside IPv4.
pub(super) fn of_both_families(repeat: usize) -> Vec<Row> {
    let lanes = [Middle::Nat, Middle::NatV6].map(Lane::line);
    let goal = Goal::new(Middle::NatV6, Middle::Nat, 1.0 / 0.85, 1.0);
    rows(&lanes, "UDP round trip of both families", goal, repeat)
}

fn rows(lanes: &[Lane], title: &str, goal: Goal, repeat: usize) -> Vec<Row> {
    for lane in lanes {
        echo(lane);
        if let Some(process) = lane.process() {
            pin(process, ENDS);
        }
    }
    let mut half = Row::new(format!("{title}, p50"), "us", PLACEMENT).goals(&[goal]);
    let mut most = Row::new(format!("{title}, p99"), "us", PLACEMENT);
    for _ in 0..repeat.max(9) {
        for lane in lanes {
            let mut times = run(lane);
            times.sort();
            let at = |part: usize| times[times.len() * part / 100].as_nanos() as f64 / 1e3;
            half.add(lane.middle, at(50));
            most.add(lane.middle, at(99));
        }
    }
    vec![half, most]
}

/// Answers as long as the program runs.
fn echo(lane: &Lane) {
    let address: IpAddr = match lane.target {
        IpAddr::V4(_) => SERVER.into(),
        IpAddr::V6(_) => like(SERVER).into(),
    };
    let socket = lane
        .server
        .run(|| UdpSocket::bind((address, UDP)).expect("a free port"));
    std::thread::spawn(move || {
        pin_self(ENDS);
        let mut bytes = [0; 64];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            // Whoever asked may be gone.
            let _ = socket.send_to(&bytes[..length], from);
        }
    });
}

fn run(lane: &Lane) -> Vec<Duration> {
    lane.client.run(|| {
        pin_self(ENDS);
        let own: IpAddr = match lane.target {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((own, 0)).expect("a port");
        socket.connect(lane.at(UDP)).expect("a route");
        socket
            .set_read_timeout(Some(Duration::from_secs(2)))
            .expect("a socket");
        let mut answer = [0; 64];
        let mut times = Vec::with_capacity(ROUNDS);
        for round in 0..ROUNDS + WARM {
            let begin = Instant::now();
            socket.send(&(round as u64).to_be_bytes()).expect("sent");
            let length = socket.recv(&mut answer);
            let length = length.unwrap_or_else(|error| panic!("{}: {error}", lane.middle.name()));
            assert_eq!(answer[..length], (round as u64).to_be_bytes());
            if round >= WARM {
                times.push(begin.elapsed());
            }
        }
        times
    })
}

const PLACEMENT: &str = "everything on CPU 1";
const ROUNDS: usize = 10_000;
/// Not counted.
const WARM: usize = 500;
