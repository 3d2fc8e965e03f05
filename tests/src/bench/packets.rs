//! Small packets one way: how many of those that a saturating generator offers arrive.

use std::time::{Duration, Instant};

use shared::host::netlink::Netlink;
use shared::sys::bpf::Reg::{R0, R1, R6, R10};
use shared::sys::bpf::tcx::{TCX_NEXT, TcxLink};
use shared::sys::bpf::{Assembler, Cond, Program, Size, skb};
use shared::wire::ethernet;

use super::UDP;
use super::cpu::{ENDS, Used, pin_self};
use super::lane::{Lane, Middle, UDP_TIMEOUT};
use super::offer::{Ends, Flows, Kind, Offer};
use super::report::{Goal, Row};
use crate::host::Host;
use crate::wait::{SOON, wait_for};

/// All rows of this kind, so many repetitions.
pub fn measure(repeat: usize) -> Vec<Row> {
    let (lanes, _sinks): (Vec<Lane>, Vec<TcxLink>) = [
        Middle::Kernel,
        Middle::Nftables,
        Middle::Nat,
        Middle::Direct,
    ]
    .map(prepare)
    .into_iter()
    .unzip();
    [
        ("1 flow", Flows::Many(1)),
        ("1 000 flows", Flows::Many(1_000)),
        ("100 000 flows", Flows::Many(100_000)),
        ("each packet a new flow", Flows::Endless),
    ]
    .into_iter()
    .flat_map(|(name, flows)| {
        let goals: &[Goal] = match flows {
            Flows::Many(1_000) => &[
                Goal::new(Middle::Nat, Middle::Kernel, 0.7, 0.95),
                Goal::new(Middle::Nat, Middle::Nftables, 0.85, 1.15),
            ],
            _ => &[],
        };
        rows(&lanes, name, flows, goals, repeat)
    })
    .collect()
}

/// FULLNAT beside NAT.
pub(super) fn full_nat(repeat: usize) -> Vec<Row> {
    let (lanes, _sinks): (Vec<Lane>, Vec<TcxLink>) = [Middle::Nat, Middle::FullNat]
        .map(prepare)
        .into_iter()
        .unzip();
    let goal = Goal::new(Middle::FullNat, Middle::Nat, 0.8, 0.95);
    rows(&lanes, "1 000 flows", Flows::Many(1_000), &[goal], repeat)
}

/// IPv6 beside IPv4.
pub(super) fn of_both_families(repeat: usize) -> Vec<Row> {
    let pairs = [
        [Middle::Nat, Middle::NatV6],
        [Middle::Direct, Middle::DirectV6],
        [Middle::FullNat, Middle::FullNatV6],
    ];
    let of = |[four, six]: [Middle; 2]| {
        let (lanes, _sinks): (Vec<Lane>, Vec<TcxLink>) =
            [four, six].map(prepare).into_iter().unzip();
        let goal = Goal::new(six, four, 0.85, 1.0);
        rows(&lanes, "1 000 flows", Flows::Many(1_000), &[goal], repeat)
    };
    pairs.into_iter().flat_map(of).collect()
}

fn rows(lanes: &[Lane], name: &str, flows: Flows, goals: &[Goal], repeat: usize) -> Vec<Row> {
    let title = |what| format!("UDP 64 B, {name}: {what}");
    let mut delivered = Row::new(title("delivered"), "packets/s", PLACEMENT).goals(goals);
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
            // More than the answers to questions of ARP.
            arrived(lane) > before + 8
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

fn prepare(middle: Middle) -> (Lane, TcxLink) {
    let lane = Lane::line(middle);
    // Frames made by a program reach a veth that has GRO; nothing here is merged.
    lane.director.succeed("ethtool", &["-K", "cl", "gro", "on"]);
    let sink = sink(&lane.server);
    if middle == Middle::Nftables {
        let seconds = UDP_TIMEOUT.to_string();
        lane.director
            .sysctl("net/netfilter/nf_conntrack_udp_timeout", &seconds);
    }
    (lane, sink)
}

fn offer(lane: &Lane, flows: Flows) -> Offer {
    let ends = ends(lane, UDP);
    Offer::new(Kind::Udp, &ends, flows, lane.client.ifindex("eth0"))
}

/// From the client to a port of the virtual address.
pub(super) fn ends(lane: &Lane, port: u16) -> Ends {
    let mac = |host: &Host, device: &str| {
        let link = host.netlink(|netlink: &mut Netlink| netlink.link_by_name(device));
        link.and_then(|link| link.mac).expect("an Ethernet device")
    };
    Ends {
        source_mac: mac(&lane.client, "eth0"),
        destination_mac: mac(&lane.director, "cl"),
        destination: lane.target,
        port,
    }
}

/// The receiver: drops UDP datagrams as early as the kernel can, so that the cost of receiving, which a veth puts on
/// whoever sends, is next to nothing.
fn sink(server: &Host) -> TcxLink {
    let mut asm = Assembler::new();
    let [pass, drop] = ["pass", "drop"].map(|name| asm.label(name));
    asm.mov(R6, R1);
    asm.load(Size::Word, R1, R6, skb::PROTOCOL);
    asm.jump_if(R1, Cond::Eq, skb::network(ethernet::IPV4), drop);
    asm.jump_if(R1, Cond::Ne, skb::network(ethernet::IPV6), pass);
    // Its questions for neighbours are answered.
    asm.copy_frame(NEXT_HEADER, STACK, 1, pass);
    asm.load(Size::Byte, R1, R10, STACK);
    asm.jump_if(R1, Cond::Eq, 17, drop);
    asm.bind(pass);
    asm.mov(R0, TCX_NEXT);
    asm.exit();
    asm.bind(drop);
    asm.mov(R0, TCX_DROP);
    asm.exit();
    let code = asm.finish().expect("the labels are bound");
    let program = Program::load("lvs_sink", &code, &[]).unwrap_or_else(|error| panic!("{error}"));
    let ifindex = server.ifindex("eth0");
    server.run(|| {
        TcxLink::attach_ingress(&program, ifindex).unwrap_or_else(|error| panic!("{error}"))
    })
}

/// Packets that the server has received.
fn arrived(lane: &Lane) -> u64 {
    let text = lane
        .server
        .run(|| std::fs::read_to_string("/proc/thread-self/net/dev").expect("proc is mounted"));
    let eth0 = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("eth0:"));
    let packets = eth0.and_then(|counters| counters.split_whitespace().nth(1));
    packets
        .expect("the counters of eth0")
        .parse()
        .expect("a number")
}

/// Of IPv6, in a frame.
const NEXT_HEADER: i32 = 20;
const STACK: i16 = -8;
const TCX_DROP: i32 = 2;
const PLACEMENT: &str =
    "director on CPU 0; generator, receiver and the kernel's forwarding on CPU 1";
const RUN: Duration = Duration::from_secs(1);
/// A call sets up and tears down for tens of milliseconds besides.
const BURST: u32 = 1_000_000;
