//! One small datagram at a time, there and back.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::cpu::{ENDS, pin, pin_self};
use super::lane::{Lane, Middle};
use super::report::{Goal, Row};
use super::{SERVER, UDP};

/// All rows of this kind. Every run is short, so there are at least nine.
pub fn measure(repeat: usize) -> Vec<Row> {
    let lanes = [Middle::Kernel, Middle::Nftables, Middle::Nat].map(Lane::line);
    for lane in &lanes {
        echo(lane);
        if let Some(process) = lane.process() {
            pin(process, ENDS);
        }
    }
    let mut half = Row::new("UDP round trip, p50", "us", PLACEMENT).goals(&[Goal::new(
        Middle::Nat,
        Middle::Kernel,
        3.0,
        2.0,
    )]);
    let mut most = Row::new("UDP round trip, p99", "us", PLACEMENT);
    for _ in 0..repeat.max(9) {
        for lane in &lanes {
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
    let socket = lane
        .server
        .run(|| UdpSocket::bind((SERVER, UDP)).expect("a free port"));
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
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
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
