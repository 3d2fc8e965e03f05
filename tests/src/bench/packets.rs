//! Small packets one way: how many of those that a saturating generator offers arrive.

use std::time::{Duration, Instant};

use shared::host::netlink::Netlink;

use super::UDP;
use super::cpu::{ENDS, Used, pin_self};
use super::lane::{Lane, Middle, UDP_TIMEOUT, committed};
use super::offer::{Ends, Flows, Offer};
use super::report::Row;
use crate::wait::{SOON, wait_for};

/// All rows of this kind, so many repetitions.
pub fn measure(repeat: usize) -> Vec<Row> {
    let lanes: Vec<Lane> = [
        Middle::Kernel,
        Middle::Nftables,
        Middle::Nat,
        Middle::Direct,
    ]
    .map(prepare)
    .into();
    [
        ("1 flow", Flows::Many(1)),
        ("1 000 flows", Flows::Many(1_000)),
        ("100 000 flows", Flows::Many(100_000)),
        ("each packet a new flow", Flows::Endless),
    ]
    .into_iter()
    .flat_map(|(name, flows)| rows(&lanes, name, flows, repeat))
    .collect()
}

fn rows(lanes: &[Lane], name: &str, flows: Flows, repeat: usize) -> Vec<Row> {
    let title = |what| format!("UDP 64 B, {name}: {what}");
    let mut delivered = Row::new(title("delivered"), "packets/s", PLACEMENT);
    if flows == Flows::Many(1_000) {
        delivered = delivered.goal(Middle::Nat, Middle::Kernel, 0.7, 0.95).goal(
            Middle::Nat,
            Middle::Nftables,
            0.85,
            1.15,
        );
    }
    let mut process = Row::new(
        title("CPU time of the director"),
        "ns/packet delivered",
        PLACEMENT,
    );
    let mut machine = Row::new(
        title("CPU time of director, generator and kernel together"),
        "ns/packet delivered",
        PLACEMENT,
    );
    let offers: Vec<Offer> = lanes.iter().map(|lane| offer(lane, flows)).collect();
    for _ in 0..repeat {
        for (lane, offer) in lanes.iter().zip(&offers) {
            let run = run(lane, offer);
            delivered.add(lane.middle, run.delivered as f64 / run.took.as_secs_f64());
            let each = |used: Duration| used.as_nanos() as f64 / run.delivered as f64;
            if lane.process().is_some() {
                process.add(lane.middle, each(run.process));
            }
            machine.add(lane.middle, each(run.machine));
            settle(lane);
        }
    }
    vec![delivered, process, machine]
}

struct Run {
    delivered: u64,
    took: Duration,
    process: Duration,
    machine: Duration,
}

fn run(lane: &Lane, offer: &Offer) -> Run {
    lane.client.run(|| {
        pin_self(ENDS);
        // Whatever is not known yet is asked for now.
        let before = arrived(lane);
        let warm = wait_for(SOON, || {
            offer.send(1);
            arrived(lane) > before
        });
        assert!(warm, "nothing arrives through {}", lane.middle.name());
        let middle = lane.process();
        let (before, used, begin) = (arrived(lane), Used::now(middle, &[]), Instant::now());
        while begin.elapsed() < RUN {
            offer.send(BURST);
        }
        let took = begin.elapsed();
        let (process, machine) = used.since(middle, &[]);
        let delivered = arrived(lane) - before;
        Run {
            delivered,
            took,
            process,
            machine,
        }
    })
}

/// Whatever a run leaves behind is gone before the next one.
fn settle(lane: &Lane) {
    if let Some(director) = lane.administered() {
        let empty = wait_for(SOON, || director.admin("-Lnc").lines().count() <= 2);
        assert!(empty, "flows outlive their {UDP_TIMEOUT} s");
    }
}

fn prepare(middle: Middle) -> Lane {
    let lane = Lane::line(middle);
    // Frames made by a program reach a veth that has GRO; nothing here is merged.
    lane.director.succeed("ethtool", &["-K", "cl", "gro", "on"]);
    lane.server.succeed("nft", &["-f", &committed("count.nft")]);
    if middle == Middle::Nftables {
        let seconds = UDP_TIMEOUT.to_string();
        lane.director
            .sysctl("net/netfilter/nf_conntrack_udp_timeout", &seconds);
    }
    lane
}

fn offer(lane: &Lane, flows: Flows) -> Offer {
    let mac = |host: &crate::host::Host, device: &str| {
        let link = host.netlink(|netlink: &mut Netlink| netlink.link_by_name(device));
        link.and_then(|link| link.mac).expect("an Ethernet device")
    };
    let ends = Ends {
        source_mac: mac(&lane.client, "eth0"),
        destination_mac: mac(&lane.director, "cl"),
        destination: lane.target,
        port: UDP,
    };
    Offer::new(&ends, flows, lane.client.ifindex("eth0"))
}

/// Packets that the server has counted, and dropped.
fn arrived(lane: &Lane) -> u64 {
    let text = lane
        .server
        .succeed("nft", &["-j", "list", "counter", "netdev", "bench", "got"]);
    let json: serde_json::Value = serde_json::from_str(&text).expect("nft prints JSON");
    json["nftables"][1]["counter"]["packets"]
        .as_u64()
        .expect("a counter")
}

const PLACEMENT: &str =
    "director on CPU 0; generator, receiver and the kernel's forwarding on CPU 1";
const RUN: Duration = Duration::from_secs(1);
/// A call sets up and tears down for tens of milliseconds besides.
const BURST: u32 = 1_000_000;
