//! The pure core with many connections: memory, all in, as the growth of the process; what the growth of
//! the table costs the packets on the way; and what it costs that all connections end at once.
//!
//! This program runs itself for each size, so that none inherits another's memory.

mod world;

use std::env;
use std::fs;
use std::process::Command;

use director::core::operation::ForwardMethod;
use world::{BATCH, World};

fn main() {
    if let Ok(size) = env::var(SIZE) {
        return run(size.parse().unwrap_or(0));
    }
    for size in SIZES {
        let own = env::current_exe().expect("a program has a path");
        let status = Command::new(own).env(SIZE, size.to_string()).status();
        assert!(status.expect("it can be started").success());
    }
}

fn run(size: u32) {
    let mut world = World::new(ForwardMethod::Nat, "rr", 1);
    // What is there from the beginning is not a connection's.
    world.fill(1);
    let before = resident();
    let slowest = world.fill_and_time(size);
    assert_eq!(world.connections(), size as usize);
    let bytes = (resident() - before) as f64 / f64::from(size);
    let (calls, call, all) = world.expire_all();
    println!(
        "{size:>9} NAT connections: {bytes:.1} bytes each; slowest batch of {BATCH} new ones {slowest:.2?}; \
         end of all in {all:.2?}, {calls} calls, the slowest {call:.2?}"
    );
}

/// Bytes of memory that the process holds.
fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.expect("VmRSS").trim().trim_end_matches(" kB");
    kibibytes.parse::<u64>().expect("a number") * 1024
}

const SIZES: [u32; 4] = [1_000_000, 1_100_000, 2_200_000, 4_000_000];
const SIZE: &str = "LVS_SCALE";
