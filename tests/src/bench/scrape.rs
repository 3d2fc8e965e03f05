//! Prometheus at a large site: a thousand services with ten real servers each, and packets of one of them.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use super::VIP;
use super::cpu::{self, MIDDLE};
use super::lane::Middle;
use super::report::Row;
use super::site::{Site, p99, short};
use crate::topology::Routed;

/// All rows of this kind, so many repetitions.
///
/// # Panics
/// If a packet is lost.
pub fn measure(repeat: usize) -> Vec<Row> {
    let site = site();
    cpu::pin(site.director.process.id(), MIDDLE);
    let title = |what| format!("1 000 services with 10 real servers: {what}");
    let mut time = Row::new(title("a scrape"), "ms", PLACEMENT);
    let mut turn = Row::new(title("turns of up to 1 ms meanwhile"), "%", PLACEMENT);
    let mut alone = Row::new(title("UDP round trip, p99"), "us", PLACEMENT);
    let scraped = title("UDP round trip, p99, scraped each 15 s");
    let mut scraped = Row::new(scraped, "us", PLACEMENT);
    let mut ratio = Row::new(title("that, divided by that without"), "", PLACEMENT);
    let mut crowd = Row::new(
        title("UDP round trip, p99, scraped without a pause"),
        "us",
        PLACEMENT,
    );
    for _ in 0..repeat {
        let quiet = site.round_trips_during(|| thread::sleep(RUN));
        let quiet = p99(quiet);
        alone.add(Middle::Nat, quiet);
        let before = site.turns("0.001");
        let times = site.round_trips_during(|| {
            site.scrape_humbly();
            thread::sleep(RUN);
        });
        let times = p99(times);
        scraped.add(Middle::Nat, times);
        ratio.add(Middle::Nat, times / quiet);
        let after = site.turns("0.001");
        turn.add(Middle::Nat, short(before, after) * 100.0);
        let times = site.round_trips_during(|| {
            let begin = Instant::now();
            while begin.elapsed() < CROWD {
                site.scrape_humbly();
            }
        });
        crowd.add(Middle::Nat, p99(times));
        let mut scrapes = [(); 3].map(|()| site.scrape().0);
        scrapes.sort();
        time.add(Middle::Nat, scrapes[1].as_secs_f64() * 1e3);
    }
    vec![time, turn, alone, scraped, ratio, crowd]
}

/// The site. One of its services echoes datagrams; nobody asks for the others.
///
/// # Panics
/// Without root, or without the programs.
pub fn site() -> Site {
    Site::new(Routed::new(1), &configuration())
}

fn configuration() -> String {
    let mut text = String::new();
    let mut service = |port: u16, servers: &[Ipv4Addr]| {
        let line = writeln!(
            text,
            "[[service]]\naddress = \"{VIP}:{port}\"\nprotocol = \"tcp\""
        );
        line.expect("memory");
        for address in servers {
            let line = writeln!(
                text,
                "[[service.server]]\naddress = \"{address}:{port}\"\nforward = \"nat\""
            );
            line.expect("memory");
        }
    };
    let many: Vec<Ipv4Addr> = (0..SERVERS).map(|n| Ipv4Addr::new(10, 1, 1, n)).collect();
    for port in 1..SERVICES {
        service(port, &many);
    }
    text
}

/// How many services there are.
pub const SERVICES: u16 = 1000;
/// How many real servers each has, but for the one that echoes.
pub const SERVERS: u8 = 10;
/// Between the scrapes of Prometheus, as its own example has it.
const RUN: Duration = Duration::from_secs(15);
/// For one scrape after the other.
const CROWD: Duration = Duration::from_secs(3);
const PLACEMENT: &str = "director on CPU 0; client, server and who scrapes on CPU 1";
