//! Short HTTP connections: nginx answers, wrk asks, each request on a connection of its own.

use std::process::Command;
use std::time::Duration;

use super::HTTP;
use super::cpu::{self, ENDS, Used, pin_self};
use super::lane::{Lane, Middle};
use super::report::{Goal, Row};
use crate::programs::Nginx;

/// All rows of this kind, so many repetitions.
pub fn measure(repeat: usize) -> Vec<Row> {
    let mut lanes = vec![Lane::cable()];
    lanes.extend(
        [
            Middle::Kernel,
            Middle::Nftables,
            Middle::Nat,
            Middle::Haproxy,
            Middle::Nginx,
        ]
        .map(Lane::line),
    );
    let servers = prepare(&lanes);
    let goals = [
        Goal::new(Middle::Nat, Middle::Kernel, 0.75, 0.9),
        Goal::new(Middle::Nat, Middle::Haproxy, 1.15, 1.4),
    ];
    let mut rows = on_two_cpus(&lanes[1..], &servers[1..], &goals, repeat);
    rows.extend(on_one_cpu(&lanes, repeat));
    rows
}

/// FULLNAT beside NAT.
pub(super) fn full_nat(repeat: usize) -> Vec<Row> {
    let lanes = [Middle::Nat, Middle::FullNat].map(Lane::line);
    let servers = prepare(&lanes);
    let goal = Goal::new(Middle::FullNat, Middle::Nat, 0.8, 0.95);
    on_two_cpus(&lanes, &servers, &[goal], repeat)
}

/// IPv6 beside IPv4.
pub(super) fn of_both_families(repeat: usize) -> Vec<Row> {
    let lanes = [Middle::Nat, Middle::NatV6].map(Lane::line);
    let servers = prepare(&lanes);
    let goal = Goal::new(Middle::NatV6, Middle::Nat, 0.85, 1.0);
    on_two_cpus(&lanes, &servers, &[goal], repeat)
}

/// Web servers.
fn prepare(lanes: &[Lane]) -> Vec<Nginx> {
    for lane in lanes {
        // One client asks as many would: behind a proxy it closes first, and would soon have all its
        // ports in TIME_WAIT.
        lane.client.sysctl("net/ipv4/tcp_max_tw_buckets", "0");
    }
    lanes
        .iter()
        .map(|lane| {
            let nginx = Nginx::of_both_families(&lane.server, HTTP, None);
            cpu::pin(nginx.process.id(), ENDS);
            nginx
        })
        .collect()
}

/// As in life: the middle has a machine to itself.
fn on_two_cpus(lanes: &[Lane], servers: &[Nginx], goals: &[Goal], repeat: usize) -> Vec<Row> {
    let mut speed = Row::new("short HTTP connections", "connections/s", TWO_CPUS).goals(goals);
    let title = "short HTTP connections: CPU time of the process in the middle";
    let mut process = Row::new(title, "us/connection", TWO_CPUS);
    let title = "short HTTP connections: CPU time of middle and ends together";
    let mut together = Row::new(title, "us/connection", TWO_CPUS);
    for _ in 0..repeat {
        for (lane, server) in lanes.iter().zip(servers) {
            let ends = [server.process.id()];
            let used = Used::now(lane.process(), &ends);
            let (done, seconds) = run(lane);
            let (middle, all) = used.since(lane.process(), &ends);
            speed.add(lane.middle, done / seconds);
            let each = |used: Duration| used.as_secs_f64() * 1e6 / done;
            if lane.process().is_some() {
                process.add(lane.middle, each(middle));
            }
            together.add(lane.middle, each(all));
        }
    }
    vec![speed, process, together]
}

/// A veth receives where its peer sends: on two CPUs, most of the middle's CPU time is that of the TCP
/// of client and server, which it drives. On one CPU, always busy, everything costs what it costs: the
/// middle's part is what it adds to the time that client and server take without it.
fn on_one_cpu(lanes: &[Lane], repeat: usize) -> Vec<Row> {
    for lane in lanes {
        if let Some(process) = lane.process() {
            cpu::pin(process, ENDS);
        }
    }
    let title = "short HTTP connections: CPU time that the middle adds";
    let mut added = Row::new(title, "us/connection", ONE_CPU).goals(&[Goal::new(
        Middle::Nat,
        Middle::Haproxy,
        1.0 / 3.0,
        1.0 / 6.0,
    )]);
    for _ in 0..repeat {
        let times: Vec<(Middle, f64)> = lanes
            .iter()
            .map(|lane| {
                let (done, seconds) = run(lane);
                (lane.middle, seconds * 1e6 / done)
            })
            .collect();
        for (middle, time) in &times[1..] {
            added.add(*middle, time - times[0].1);
        }
    }
    vec![added]
}

/// Requests that were answered, and the seconds that it took.
fn run(lane: &Lane) -> (f64, f64) {
    let url = format!("http://{}/", lane.at(HTTP));
    let output = lane.client.run(|| {
        pin_self(ENDS);
        let mut wrk = Command::new("wrk");
        wrk.args([
            "-t",
            "1",
            "-c",
            "32",
            "-d",
            "2s",
            "-H",
            "Connection: close",
            &url,
        ]);
        wrk.output().expect("make bench installs wrk")
    });
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        !text.contains("errors"),
        "wrk through {}:\n{text}",
        lane.middle.name()
    );
    // "  52134 requests in 2.10s, 8.03MB read"
    let line = text
        .lines()
        .find(|line| line.contains(" requests in "))
        .expect("a summary");
    let words: Vec<&str> = line.split_whitespace().collect();
    let done = words[0].parse().expect("a number");
    let seconds = words[3].trim_end_matches(',').trim_end_matches('s');
    (done, seconds.parse().expect("seconds"))
}

const TWO_CPUS: &str =
    "director, haproxy or nginx on CPU 0; both ends and the kernel's forwarding on CPU 1";
const ONE_CPU: &str =
    "everything on CPU 1; time per connection less that of client and server alone";
