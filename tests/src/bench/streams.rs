//! TCP in bulk, by iperf3.

use std::process::Command;

use super::IPERF;
use super::cpu::{self, ENDS, Used, pin_self};
use super::lane::{Lane, Middle};
use super::report::{Goal, Row};
use crate::process::Process;
use crate::wait::{SOON, wait_for};

/// All rows of this kind, so many repetitions.
pub fn measure(repeat: usize) -> Vec<Row> {
    let line = [
        Middle::Kernel,
        Middle::Nftables,
        Middle::Nat,
        Middle::Haproxy,
        Middle::Nginx,
    ];
    let mut rows = Vec::new();
    {
        let lanes = line.map(Lane::line);
        let _servers = lanes.each_ref().map(server);
        for (title, options, floor, aim) in [
            ("TCP NAT, 1 stream", &[][..], 0.7, 1.0),
            ("TCP NAT, 4 streams", &["-P", "4"], 0.6, 0.9),
            ("TCP NAT, 1 stream in reverse", &["-R"], 0.55, 0.75),
        ] {
            let goal = Goal::new(Middle::Nat, Middle::Kernel, floor, aim);
            rows.extend(turns(&lanes, title, options, &[goal], repeat));
        }
    }
    let lanes = [Middle::Nobody, Middle::Direct].map(Lane::lan);
    let _servers = lanes.each_ref().map(server);
    let goal = Goal::new(Middle::Direct, Middle::Nobody, 0.45, 0.65);
    let title = "TCP DR on one LAN, 1 stream";
    rows.extend(turns(&lanes, title, &[], &[goal], repeat));
    rows
}

pub(super) fn turns(
    lanes: &[Lane],
    title: &str,
    options: &[&str],
    goals: &[Goal],
    repeat: usize,
) -> [Row; 2] {
    let mut speed = Row::new(title, "Gb/s", PLACEMENT).goals(goals);
    let mut process = Row::new(
        format!("{title}: CPU time of what is in the middle"),
        "ms/GB",
        PLACEMENT,
    );
    for _ in 0..repeat {
        for lane in lanes {
            let (bytes, seconds, used) = run(lane, options);
            speed.add(lane.middle, bytes * 8.0 / 1e9 / seconds);
            if lane.process().is_some() {
                process.add(lane.middle, used * 1e3 / (bytes / 1e9));
            }
        }
    }
    [speed, process]
}

/// Bytes that arrived, seconds that it took, and CPU time of the middle.
fn run(lane: &Lane, options: &[&str]) -> (f64, f64, f64) {
    let target = lane.target.to_string();
    let mut words = vec!["-c", &target, "-t", SECONDS, "-J"];
    words.extend(options);
    let used = Used::now(lane.process(), &[]);
    let output = lane.client.run(|| {
        pin_self(ENDS);
        Command::new("iperf3")
            .args(&words)
            .output()
            .expect("make bench installs iperf3")
    });
    let (process, _) = used.since(lane.process(), &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "iperf3 through {}: {text}",
        lane.middle.name()
    );
    let json: serde_json::Value = serde_json::from_str(&text).expect("iperf3 prints JSON");
    let sum = &json["end"]["sum_received"];
    let number = |name: &str| sum[name].as_f64().expect("a number");
    (number("bytes"), number("seconds"), process.as_secs_f64())
}

pub(super) fn server(lane: &Lane) -> Process {
    let mut command = Command::new("iperf3");
    command.arg("-s");
    let process = lane.server.spawn(command);
    cpu::pin(process.id(), ENDS);
    let target = lane.at(IPERF);
    let listens = wait_for(SOON, || {
        lane.client
            .run(|| std::net::TcpStream::connect(target).is_ok())
    });
    assert!(listens, "iperf3 does not listen:\n{}", process.printed());
    process
}

const SECONDS: &str = "2";
const PLACEMENT: &str =
    "director, haproxy or nginx on CPU 0; both ends and the kernel's forwarding on CPU 1";
