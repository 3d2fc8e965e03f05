//! Prometheus at a large site: a thousand services with ten real servers each, and packets of one of them.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::cpu::{self, ENDS, MIDDLE, pin_self};
use super::lane::Middle;
use super::report::Row;
use super::{UDP, VIP};
use crate::process::scratch;
use crate::programs::Director;
use crate::topology::Routed;
use crate::wait::SOON;
use crate::web::page;

/// All rows of this kind, so many repetitions.
///
/// # Panics
/// If a packet is lost.
pub fn measure(repeat: usize) -> Vec<Row> {
    let site = Site::new();
    cpu::pin(site.director.process.id(), MIDDLE);
    let title = |what| format!("1 000 services with 10 real servers: {what}");
    let mut time = Row::new(title("a scrape"), "ms", PLACEMENT);
    let mut turn = Row::new(title("turns of up to 1 ms meanwhile"), "%", PLACEMENT);
    let mut alone = Row::new(title("UDP round trip, p99"), "us", PLACEMENT);
    let scraped = title("UDP round trip, p99, scraped each second");
    let mut scraped = Row::new(scraped, "us", PLACEMENT);
    let mut without = Row::new(title("the same without a pause"), "us", PLACEMENT);
    for _ in 0..repeat {
        let p99 = |mut times: Vec<Duration>| {
            times.sort();
            times[times.len() * 99 / 100].as_nanos() as f64 / 1e3
        };
        let quiet = site.round_trips_during(|| thread::sleep(RUN));
        alone.add(Middle::Nat, p99(quiet));
        let before = site.turns();
        let mut scrapes = Vec::new();
        let times = site.round_trips_during(|| {
            for _ in 0..RUN.as_secs() {
                scrapes.push(site.scrape().0);
                thread::sleep(Duration::from_secs(1));
            }
        });
        scraped.add(Middle::Nat, p99(times));
        let after = site.turns();
        turn.add(Middle::Nat, short(before, after) * 100.0);
        scrapes.sort();
        time.add(Middle::Nat, scrapes[scrapes.len() / 2].as_secs_f64() * 1e3);
        let times = site.round_trips_during(|| {
            let begin = Instant::now();
            while begin.elapsed() < RUN {
                site.scrape();
            }
        });
        without.add(Middle::Nat, p99(times));
    }
    vec![time, turn, alone, scraped, without]
}

/// The share of turns of up to a millisecond, of those between two looks at the counts of both.
pub fn short(before: (f64, f64), after: (f64, f64)) -> f64 {
    (after.0 - before.0) / (after.1 - before.1)
}

/// The site. One of its services echoes datagrams; nobody asks for the others.
#[derive(Debug)]
pub struct Site {
    lab: Routed,
    director: Director,
    over: Arc<AtomicBool>,
    echo: Option<JoinHandle<()>>,
}

impl Site {
    /// A director with all services, and who echoes.
    ///
    /// # Panics
    /// Without root, or without the programs.
    #[expect(clippy::new_without_default, reason = "it makes namespaces")]
    pub fn new() -> Site {
        let lab = Routed::new(1);
        let file = scratch("toml");
        fs::write(&file, configuration()).expect("a file for the director");
        let options = ["--config", &file.display().to_string()];
        let director = Director::start_with(&lab.director, &options);
        let _ = fs::remove_file(&file);
        let socket = lab.servers[0].run(|| UdpSocket::bind(("0.0.0.0", UDP)).expect("a free port"));
        let patience = Some(Duration::from_millis(100));
        socket.set_read_timeout(patience).expect("a socket");
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        let echo = thread::spawn(move || {
            pin_self(ENDS);
            let mut bytes = [0; 64];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut bytes) {
                    // Whoever asked may be gone.
                    let _ = socket.send_to(&bytes[..length], from);
                }
            }
        });
        Site {
            lab,
            director,
            over,
            echo: Some(echo),
        }
    }

    /// A scrape: how long it took, and its text.
    ///
    /// # Panics
    /// If there is no answer.
    pub fn scrape(&self) -> (Duration, String) {
        let (begin, at) = (Instant::now(), director::config::Metrics::USUAL);
        let text = thread::scope(|scope| {
            let scrape = scope.spawn(|| {
                pin_self(ENDS);
                page(&self.lab.director, at, "/metrics")
                    .expect("an answer")
                    .1
            });
            scrape.join().expect("an answer")
        });
        (begin.elapsed(), text)
    }

    /// The loop's turns of up to a millisecond, and all.
    ///
    /// # Panics
    /// If they are not shown.
    pub fn turns(&self) -> (f64, f64) {
        let (_, text) = self.scrape();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|value| value.trim().parse().ok());
            value.unwrap_or_else(|| panic!("no {name}"))
        };
        let name = "lvs_loop_turn_duration_seconds";
        let short = value(&format!("{name}_bucket{{le=\"0.001\"}} "));
        (short, value(&format!("{name}_count ")))
    }

    /// Round trips, one after the other, as long as `work` takes.
    ///
    /// # Panics
    /// If an answer is missing.
    pub fn round_trips_during(&self, work: impl FnOnce()) -> Vec<Duration> {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let trips = scope.spawn(|| self.round_trips(&over));
            work();
            over.store(true, Ordering::Relaxed);
            trips.join().expect("every datagram is answered")
        })
    }

    fn round_trips(&self, over: &AtomicBool) -> Vec<Duration> {
        self.lab.client.run(|| {
            pin_self(ENDS);
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
            socket.connect((Routed::VIP, UDP)).expect("a route");
            socket.set_read_timeout(Some(SOON)).expect("a socket");
            let mut times = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let begin = Instant::now();
                socket.send(b"there and back").expect("sent");
                socket.recv(&mut [0; 64]).expect("an answer");
                times.push(begin.elapsed());
            }
            times
        })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(echo) = self.echo.take() {
            let _ = echo.join();
        }
    }
}

fn configuration() -> String {
    let mut text = String::new();
    let mut service = |port: u16, protocol, servers: &[Ipv4Addr]| {
        let line = writeln!(
            text,
            "[[service]]\naddress = \"{VIP}:{port}\"\nprotocol = \"{protocol}\""
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
        service(port, "tcp", &many);
    }
    service(UDP, "udp", &[Routed::server(0)]);
    text
}

/// How many services there are.
pub const SERVICES: u16 = 1000;
/// How many real servers each has, but for the one that echoes.
pub const SERVERS: u8 = 10;
const RUN: Duration = Duration::from_secs(3);
const PLACEMENT: &str = "director on CPU 0; client, server and who scrapes on CPU 1";
