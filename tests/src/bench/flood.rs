//! A flood of SYNs with invented sources: how many the director takes, and what becomes meanwhile of
//! connections that are established and of honest clients.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use director::sys::packet_socket::PacketSocket;

use super::FLOODED;
use super::cpu::{ENDS, pin_self};
use super::lane::{Lane, Middle, committed};
use super::offer::{Flows, Kind, Offer, syn};
use super::packets::ends;
use super::report::Row;
use crate::wait::{SOON, wait_for};

/// All rows of this kind, so many repetitions.
///
/// # Panics
/// If a connection is reset or loses a packet that it must not lose, if something is lost that is not
/// counted, or if the memory outgrows its bound.
pub fn measure(repeat: usize) -> Vec<Row> {
    let title = |what| format!("a million SYNs of invented clients: {what}");
    let mut rate = Row::new(title("taken without a loss"), "SYNs/s", PLACEMENT);
    let mut above = Row::new(
        title("taken of all that can be offered"),
        "SYNs/s",
        PLACEMENT,
    );
    let mut honest = Row::new(
        title("honest clients at 80 % of that"),
        "connections/s",
        PLACEMENT,
    );
    let mut alone = Row::new(
        title("honest clients without it"),
        "connections/s",
        PLACEMENT,
    );
    let mut memory = Row::new(title("memory"), "bytes/half-open connection", PLACEMENT);
    for _ in 0..repeat {
        let lab = Lab::new();
        let established: Vec<TcpStream> = (0..ESTABLISHED).map(|_| lab.connect()).collect();
        alone.add(Middle::Nat, lab.honest_during(|| thread::sleep(RUN)));
        // The first million fills the budget, so that what is measured then is the worst.
        let before = lab.resident();
        let blast = lab.blast();
        memory.add(
            Middle::Nat,
            (lab.resident() - before) as f64 / f64::from(lab.half_open()),
        );
        above.add(Middle::Nat, blast);
        lab.check(&established);
        let most = lab.most_without_loss();
        rate.add(Middle::Nat, most);
        // Where somebody else takes the director's CPU away for some milliseconds, the ring overflows
        // at any rate: then it is tried again.
        let calm = (0..ATTEMPTS).find_map(|_| lab.honest_under_flood(most));
        honest.add(Middle::Nat, calm.expect("packets were lost at 80 %"));
        lab.check(&established);
    }
    vec![rate, above, honest, alone, memory]
}

struct Lab {
    lane: Lane,
    /// Counts what the server answered.
    answered: Arc<AtomicU64>,
}

impl Lab {
    fn new() -> Lab {
        let lane = Lane::line(Middle::Nat);
        lane.director.succeed("ethtool", &["-K", "cl", "gro", "on"]);
        lane.server.succeed("nft", &["-f", &committed("flood.nft")]);
        let answered = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&answered);
        let listener = lane
            .server
            .run(|| TcpListener::bind(("0.0.0.0", FLOODED)).expect("a free port"));
        thread::spawn(move || {
            pin_self(ENDS);
            for stream in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                thread::spawn(move || echo(stream, &count));
            }
        });
        Lab { lane, answered }
    }

    fn connect(&self) -> TcpStream {
        self.lane.client.run(|| {
            let stream = TcpStream::connect(self.lane.at(FLOODED)).expect("a connection");
            stream.set_read_timeout(Some(SOON)).expect("a timeout");
            ask(&stream);
            stream
        })
    }

    /// Every connection that was there before is there still.
    fn check(&self, established: &[TcpStream]) {
        established.iter().for_each(ask);
        let director = self.lane.administered().expect("a director");
        let listed = director.admin("-Lnc");
        let count = listed.matches("ESTABLISHED").count();
        assert!(count >= established.len(), "{count} are left");
    }

    /// Honest clients, one after the other, while something lasts: how many in a second.
    fn honest_during(&self, what: impl FnOnce()) -> f64 {
        let stop = Arc::new(AtomicBool::new(false));
        let (address, stopped) = (self.lane.at(FLOODED), Arc::clone(&stop));
        let before = self.answered.load(Ordering::Relaxed);
        let clients: JoinHandle<()> = self.lane.client.run(|| {
            thread::spawn(move || {
                pin_self(ENDS);
                while !stopped.load(Ordering::Relaxed) {
                    if let Ok(stream) = TcpStream::connect(address) {
                        ask(&stream);
                    }
                }
            })
        });
        let begin = Instant::now();
        what();
        let took = begin.elapsed();
        let served = self.answered.load(Ordering::Relaxed) - before;
        stop.store(true, Ordering::Relaxed);
        clients.join().expect("honest clients are served");
        served as f64 / took.as_secs_f64()
    }

    /// A million as fast as the machine can. What is lost is lost by the ring, and counted there. How
    /// many were taken in a second.
    fn blast(&self) -> f64 {
        let offer = Offer::new(
            Kind::Syn,
            &ends(&self.lane, FLOODED),
            Flows::Endless,
            self.lane.client.ifindex("eth0"),
        );
        let (losses, spoofed) = (self.ring_losses(), self.spoofed());
        let begin = Instant::now();
        self.lane.client.run(|| {
            pin_self(ENDS);
            offer.send(FLOOD);
        });
        let took = begin.elapsed();
        let through = || self.spoofed() - spoofed;
        let told = || through() + (self.ring_losses() - losses);
        let all = wait_for(SOON, || told() == u64::from(FLOOD));
        assert!(all, "{} of {FLOOD} SYNs are accounted for", told());
        through() as f64 / took.as_secs_f64()
    }

    /// Rates go up until the ring loses something whenever it is tried, or the generator cannot follow.
    fn most_without_loss(&self) -> f64 {
        let mut flood = self.flood();
        let mut best = 0.0_f64;
        for step in 1.. {
            let rate = f64::from(step) * STEP;
            let mut follows = false;
            for _ in 0..ATTEMPTS {
                let lost = self.ring_losses();
                let began = Instant::now();
                let count = (rate * RUN.as_secs_f64()) as u32;
                flood.send(count, rate, Wait::Busy);
                let reached = f64::from(count) / began.elapsed().as_secs_f64();
                if self.ring_losses() == lost {
                    best = best.max(reached.min(rate));
                    follows |= reached >= rate * 0.97;
                }
                if follows {
                    break;
                }
            }
            if !follows {
                break;
            }
        }
        best
    }

    /// Honest clients a second at 80 % of a rate; none if anything was lost.
    fn honest_under_flood(&self, most: f64) -> Option<f64> {
        let (retransmitted, lost) = (self.retransmitted(), self.ring_losses());
        let mut flood = self.flood();
        let honest = self.honest_during(|| flood.send(FLOOD, most * 0.8, Wait::Idle));
        let calm = (self.retransmitted(), self.ring_losses()) == (retransmitted, lost);
        calm.then_some(honest)
    }

    fn flood(&self) -> Flood<'_> {
        Flood {
            frames: (0..FRAMES)
                .map(|flow| syn(&ends(&self.lane, FLOODED), spread(flow)))
                .collect(),
            next: 0,
            ifindex: self.lane.client.ifindex("eth0"),
            lane: &self.lane,
        }
    }

    fn status(&self, line: &str, word: usize) -> u64 {
        let status = self
            .lane
            .administered()
            .expect("a director")
            .admin("status");
        let line = status.lines().find(|found| found.starts_with(line));
        let number = line.and_then(|line| line[20..].split([' ', ',']).nth(word));
        let number = number.and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("{status}"))
    }

    fn ring_losses(&self) -> u64 {
        self.status("lost by the rings", 0)
    }

    fn half_open(&self) -> u32 {
        u32::try_from(self.status("half-open", 0)).expect("not so many")
    }

    /// Invented packets that reached the server.
    fn spoofed(&self) -> u64 {
        let list = ["list", "counter", "netdev", "flood", "spoofed"];
        let text = self.lane.server.succeed("nft", &list);
        let mut words = text
            .split_whitespace()
            .skip_while(|word| *word != "packets");
        words.nth(1).and_then(|n| n.parse().ok()).expect(&text)
    }

    fn retransmitted(&self) -> u64 {
        let ends = [&self.lane.client, &self.lane.server];
        ends.map(|end| end.counter("Tcp", "RetransSegs"))
            .iter()
            .sum()
    }

    /// Bytes of memory that the director has.
    fn resident(&self) -> u64 {
        let process = self.lane.process().expect("a director");
        let text = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("a size") * 1024
    }
}

/// A generator that keeps to a rate.
struct Flood<'a> {
    frames: Vec<Vec<u8>>,
    next: usize,
    ifindex: u32,
    lane: &'a Lane,
}

impl Flood<'_> {
    fn send(&mut self, count: u32, rate: f64, how: Wait) {
        let Flood {
            frames,
            next,
            ifindex,
            lane,
        } = self;
        lane.client.run(|| {
            pin_self(ENDS);
            let mut socket = PacketSocket::new();
            // Whoever has been kept waiting catches up slowly, and not in a burst of any length.
            let least = match how {
                Wait::Busy => Duration::ZERO,
                Wait::Idle => Duration::from_secs_f64(f64::from(BATCH) * 0.8 / rate),
            };
            let begin = Instant::now();
            let (mut sent, mut next_at) = (0, begin);
            while sent < count {
                let due = begin + Duration::from_secs_f64(f64::from(sent) / rate);
                let due = due.max(next_at);
                next_at = due.max(Instant::now()) + least;
                while let Some(wait) = due.checked_duration_since(Instant::now()) {
                    match how {
                        Wait::Busy => std::hint::spin_loop(),
                        Wait::Idle => thread::sleep(wait),
                    }
                }
                let batch = frames.iter().cycle().skip(*next).take(BATCH as usize);
                let batch = batch.map(|frame| (*ifindex, &frame[..]));
                let went = socket.send_batch(batch, |_, error| panic!("{error}"));
                *next = (*next + went) % frames.len();
                sent += BATCH;
            }
        });
    }
}

/// What the generator does between two batches.
#[derive(Debug, Clone, Copy)]
enum Wait {
    /// It keeps the CPU.
    Busy,
    /// It leaves the CPU to others.
    Idle,
}

/// Answers each byte.
fn echo(mut stream: TcpStream, count: &AtomicU64) {
    let mut byte = [0; 1];
    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// A byte there and a byte back.
fn ask(mut stream: &TcpStream) {
    let mut byte = [0; 1];
    stream.write_all(b"?").expect("the connection lives");
    stream.read_exact(&mut byte).expect("the connection lives");
}

/// Flows one after the other that have nothing in common.
fn spread(flow: u32) -> u32 {
    flow.wrapping_mul(0x9e37_79b1)
}

const PLACEMENT: &str = "director on CPU 0; generator, clients and server on CPU 1";
const FLOOD: u32 = 1_000_000;
/// Different SYNs of the generator that keeps to a rate.
const FRAMES: u32 = 1 << 18;
const ESTABLISHED: usize = 100;
const RUN: Duration = Duration::from_secs(1);
/// Between two rates, SYNs a second.
const STEP: f64 = 50_000.0;
const ATTEMPTS: usize = 3;
/// Frames sent together.
const BATCH: u32 = 32;
