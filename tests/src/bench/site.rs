//! A director with something to do, and packets of one service that are measured meanwhile.

use std::fs;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::cpu::{ENDS, pin_self};
use super::{UDP, VIP};
use crate::process::scratch;
use crate::programs::Director;
use crate::topology::Routed;
use crate::wait::SOON;
use crate::web::page;

/// See the [module](self).
#[derive(Debug)]
pub struct Site {
    lab: Routed,
    /// The director.
    pub director: Director,
    over: Arc<AtomicBool>,
    echo: Option<JoinHandle<()>>,
}

impl Site {
    /// A director with this configuration and, behind it, a service that echoes datagrams.
    ///
    /// # Panics
    /// Without root, or without the programs.
    pub fn new(lab: Routed, configuration: &str) -> Site {
        let file = scratch("toml");
        let echoes = format!(
            "[[service]]\naddress = \"{VIP}:{UDP}\"\nprotocol = \"udp\"\n\
             [[service.server]]\naddress = \"{}:{UDP}\"\nforward = \"nat\"\n",
            Routed::server(0)
        );
        fs::write(&file, format!("{configuration}{echoes}")).expect("a file for the director");
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

    /// A scrape that leaves the CPU to the ends of packets: what they wait for is the director.
    ///
    /// # Panics
    /// If there is no answer.
    pub fn scrape_humbly(&self) {
        let url = format!("http://{}/metrics", director::config::Metrics::USUAL);
        let mut command = Command::new("chrt");
        command.args(["--idle", "0", "curl", "-sS", "-o", "/dev/null", &url]);
        let output = thread::scope(|scope| {
            let scrape = scope.spawn(|| {
                pin_self(ENDS);
                self.lab.director.run(|| command.output().expect("chrt"))
            });
            scrape.join().expect("an answer")
        });
        assert!(output.status.success(), "{output:?}");
    }

    /// The loop's turns of up to so many seconds, and all.
    ///
    /// # Panics
    /// If they are not shown.
    pub fn turns(&self, within: &str) -> (f64, f64) {
        let (_, text) = self.scrape();
        let name = "lvs_loop_turn_duration_seconds";
        let short = sample(&text, &format!("{name}_bucket{{le=\"{within}\"}}"));
        (short, sample(&text, &format!("{name}_count")))
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

/// The share of turns of up to a millisecond, of those between two looks at the counts of both.
pub fn short(before: (f64, f64), after: (f64, f64)) -> f64 {
    (after.0 - before.0) / (after.1 - before.1)
}

/// A sample of a scrape, by its name and labels.
///
/// # Panics
/// If there is none.
pub fn sample(text: &str, name: &str) -> f64 {
    let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    let found = lines.find(|(known, _)| *known == name);
    let value = found.and_then(|(_, value)| value.parse().ok());
    value.unwrap_or_else(|| panic!("no {name}"))
}

/// The time that 99 of 100 are below, microseconds.
///
/// # Panics
/// If there are none.
pub fn p99(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() * 99 / 100].as_nanos() as f64 / 1e3
}
