//! The pure core: instructions per packet, by callgrind. The same on every machine and however busy
//! it is, so that a change of a few instructions shows.
//!
//! This program runs itself under valgrind: once as the case says, and once without the core, to
//! take off what it costs to write the packets.

mod world;

use std::env;
use std::process::Command;

use director::core::operation::ForwardMethod;
use world::{BATCH, Way, World};

fn main() {
    if let Ok(case) = env::var(CASE) {
        return run(
            &case,
            env::var(BATCHES).map_or(0, |count| count.parse().unwrap_or(0)),
        );
    }
    // What cargo hands over (`--bench`) is for harnesses that choose.
    println!("instructions per packet, {BATCH} packets a batch");
    for case in CASES {
        let batches = if case.ends_with(GROWING) {
            [16_u64, 80]
        } else {
            [2_u64, 18]
        };
        let [few, many] = batches.map(|batches| instructions(case, batches));
        let written = batches.map(|batches| instructions(&format!("write {case}"), batches));
        let packets = (batches[1] - batches[0]) * BATCH as u64;
        let each = (many - few).saturating_sub(written[1] - written[0]) / packets;
        println!("{each:>6}  {case}");
    }
}

fn instructions(case: &str, batches: u64) -> u64 {
    let own = env::current_exe().expect("a program has a path");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(own)
        .env(CASE, case)
        .env(BATCHES, batches.to_string())
        .output()
        .expect("make bench-core installs valgrind");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let total = text
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, total) = total.unwrap_or_else(|| panic!("no sum in:\n{text}"));
    total.trim().parse().expect("a number")
}

fn run(case: &str, batches: u64) {
    let (write_only, case) = match case.strip_prefix("write ") {
        Some(case) => (true, case),
        None => (false, case),
    };
    let (method, way) = match case {
        "hit, NAT, reply" => (ForwardMethod::Nat, Way::Reply),
        "hit, FULLNAT, request" => (ForwardMethod::FullNat, Way::Request),
        "hit, DR" => (ForwardMethod::Direct, Way::Request),
        _ => (ForwardMethod::Nat, Way::Request),
    };
    let grows = case.ends_with(GROWING);
    let scheduler = case
        .trim_end_matches(GROWING)
        .trim_end_matches(STRANGERS)
        .strip_prefix("new connection, NAT, ");
    let (scheduler, servers) = match scheduler.and_then(|name| name.split_once(", ")) {
        Some((name, _)) => (Some(name), MANY_SERVERS),
        None if scheduler.is_some() => (scheduler, SERVERS),
        None => (None, 1),
    };
    let mut world = World::new(method, scheduler.unwrap_or("rr"), servers);
    if case.ends_with(STRANGERS) {
        world = world.with_strangers();
    }
    let before = match scheduler {
        None => CONNECTIONS,
        Some(_) if grows => 0,
        Some(_) => ROOMY,
    };
    world.fill(before);
    for batch in 0..batches as u32 {
        match scheduler {
            Some(_) => world.requests((before + batch * BATCH as u32..).take(BATCH)),
            None => world.draw(way, CONNECTIONS),
        }
        if !write_only {
            world.handle(BATCH);
        }
    }
}

const CASES: [&str; 11] = [
    "hit, NAT, request",
    "hit, NAT, reply",
    "hit, DR",
    "hit, FULLNAT, request",
    "new connection, NAT, rr",
    "new connection, NAT, wrr",
    "new connection, NAT, wlc",
    "new connection, NAT, rr, every client new",
    "new connection, NAT, wlc, every client new",
    "new connection, NAT, wlc, 1 000 servers",
    "new connection, NAT, rr, while the table grows from nothing to 5 000",
];
/// Fewer than the loop begins to prefetch for.
const CONNECTIONS: u32 = 1_000;
/// So many that the table has just grown and has room for another thousand.
const ROOMY: u32 = 2_900;
const STRANGERS: &str = ", every client new";
const GROWING: &str = ", while the table grows from nothing to 5 000";
/// To choose from.
const SERVERS: u16 = 10;
const MANY_SERVERS: u16 = 1_000;
const CASE: &str = "LVS_INSTRUCTIONS_CASE";
const BATCHES: &str = "LVS_INSTRUCTIONS_BATCHES";
