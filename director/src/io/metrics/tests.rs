//! Clients of every kind, good and bad, with a clock that the test turns.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use mio::{Events, Poll};
use shared::time::Time;

use super::{MOST_CLIENTS, MOST_TEXTS, MetricsDesk};
use crate::config;
use crate::metrics::tests::{World, snapshot};

/// A desk and its loop.
struct Lab {
    poll: Poll,
    desk: MetricsDesk,
    now: Time,
    world: World,
    forwards: Result<(), &'static str>,
}

/// Somebody who asks.
struct Peer {
    stream: TcpStream,
    got: Vec<u8>,
    ended: bool,
}

impl Lab {
    /// Of a site that is shown in some megabytes, if it is large.
    fn new(world: World) -> Lab {
        let poll = Poll::new().unwrap();
        let config = config::Metrics {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            ..config::Metrics::default()
        };
        let desk = MetricsDesk::open(&config, poll.registry().try_clone().unwrap()).unwrap();
        Lab {
            poll,
            desk,
            now: Time::from_secs(1000),
            world,
            forwards: Ok(()),
        }
    }

    fn peer(&self) -> Peer {
        let listener = self.desk.listener.as_ref().unwrap();
        let stream = TcpStream::connect(listener.socket.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        Peer {
            stream,
            got: Vec::new(),
            ended: false,
        }
    }

    /// One turn of the loop.
    fn turn(&mut self) {
        let mut events = Events::with_capacity(64);
        let patience = Some(Duration::from_millis(1));
        self.poll.poll(&mut events, patience).unwrap();
        for event in &events {
            assert!(super::owns(event.token()));
            self.desk.wake(self.now, event.token());
        }
        if self.desk.wants_scrape() {
            self.desk.begin(&snapshot());
        }
        self.desk.go_on(self.now, self.forwards, &self.world);
    }

    /// Turns until something holds.
    #[track_caller]
    fn turn_until(&mut self, mut holds: impl FnMut(&mut Lab) -> bool) {
        for _ in 0..20_000 {
            if holds(self) {
                return;
            }
            self.turn();
        }
        panic!("it never came to that: {:?}", self.desk);
    }

    /// Turns until nothing is left to do.
    fn rest(&mut self) {
        self.turn();
        self.turn_until(|lab| !lab.desk.is_busy());
        self.turn();
    }

    /// What somebody gets for a request: head and body.
    #[track_caller]
    fn ask(&mut self, request: &str) -> (String, String) {
        let mut peer = self.peer();
        peer.say(request);
        self.turn_until(|_| peer.hear());
        let text = String::from_utf8(peer.got.clone()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
        (head.to_owned(), body.to_owned())
    }

    fn clients(&self) -> usize {
        self.desk.clients.len()
    }
}

impl Peer {
    fn say(&mut self, words: &str) {
        self.stream.write_all(words.as_bytes()).unwrap();
    }

    /// Takes what has come; whether the connection has ended.
    fn hear(&mut self) -> bool {
        let mut bytes = [0; 65_536];
        while !self.ended {
            match self.stream.read(&mut bytes) {
                Ok(0) => self.ended = true,
                Ok(count) => self.got.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.ended = true,
            }
        }
        self.ended
    }
}

const METRICS: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

fn large() -> World {
    World::of(100, 100)
}

#[test]
fn pages_and_refusals() {
    let mut lab = Lab::new(World::of(3, 2));
    let status = |lab: &mut Lab, request: &str| {
        let (head, body) = lab.ask(&format!("{request}\r\n\r\n"));
        let line = head.lines().next().unwrap();
        (line.split_once(' ').unwrap().1.to_owned(), body)
    };
    let row = |status: &str, body: &str| (status.to_owned(), body.to_owned());
    let health = "GET /healthz HTTP/1.1";
    assert_eq!(status(&mut lab, health), row("200 OK", "ok\n"));
    let readiness = "GET /readyz HTTP/1.1";
    assert_eq!(status(&mut lab, readiness), row("200 OK", "ok\n"));
    lab.forwards = Err("not yet");
    let expected = row("503 Service Unavailable", "not yet\n");
    assert_eq!(status(&mut lab, readiness), expected);
    assert_eq!(status(&mut lab, health).0, "200 OK");
    assert!(status(&mut lab, "GET / HTTP/1.0").1.contains("/readyz"));
    assert_eq!(
        status(&mut lab, "HEAD /metrics HTTP/1.1"),
        row("200 OK", "")
    );
    assert_eq!(
        status(&mut lab, "HEAD /healthz HTTP/1.1"),
        row("200 OK", "")
    );
    for (request, expected) in [
        ("GET /metric HTTP/1.1", "404 Not Found"),
        ("POST /metrics HTTP/1.1", "405 Method Not Allowed"),
        ("\u{16}\u{3}\u{1}\u{2}", "400 Bad Request"),
    ] {
        assert_eq!(status(&mut lab, request).0, expected, "{request}");
    }
    let huge = format!("GET / HTTP/1.1\r\nCookie: {}", "x".repeat(100_000));
    let refused = "431 Request Header Fields Too Large";
    assert_eq!(status(&mut lab, &huge).0, refused);
    lab.rest();
    assert_eq!(lab.clients(), 0);
    assert_eq!(lab.desk.counts(), (0, 0));
}

#[test]
fn a_scrape_is_whole() {
    let mut lab = Lab::new(World::of(100, 10));
    let (head, body) = lab.ask(METRICS);
    assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
    let up = body
        .lines()
        .filter(|line| line.starts_with("lvs_backend_up{"));
    assert_eq!(up.count(), 1000);
    assert!(body.ends_with('\n'));
}

/// Numbers are never older than the question for them.
#[test]
fn whoever_asks_meanwhile_waits_for_the_next_scrape() {
    let mut lab = Lab::new(large());
    let (mut first, mut second) = (lab.peer(), lab.peer());
    first.say(METRICS);
    lab.turn_until(|lab| lab.desk.scrape.is_some());
    second.say(METRICS);
    lab.turn_until(|_| first.hear());
    assert_eq!(lab.desk.counts().0, 2, "the second has begun by then");
    lab.turn_until(|_| second.hear());
    assert_eq!(first.got, second.got);
}

#[test]
fn who_is_slow_to_ask_has_to_go() {
    let mut lab = Lab::new(World::default());
    let (mut silent, mut slow) = (lab.peer(), lab.peer());
    lab.turn_until(|lab| lab.clients() == 2);
    for letter in ["G", "E", "T", " "] {
        slow.say(letter);
        lab.rest();
        lab.now = lab.now + Duration::from_secs(1);
    }
    lab.turn();
    assert_eq!(lab.clients(), 2);
    assert_eq!(lab.desk.poll_at(), Some(lab.now + Duration::from_secs(1)));
    lab.now = lab.now + Duration::from_secs(1);
    lab.turn();
    assert_eq!((lab.clients(), lab.desk.counts().1), (0, 2));
    lab.turn_until(|_| silent.hear() && slow.hear());
}

#[test]
fn who_is_slow_to_read_has_to_go_and_keeps_nobody_waiting() {
    let mut lab = Lab::new(large());
    let mut slow = lab.peer();
    slow.say(METRICS);
    lab.turn_until(|lab| lab.desk.texts.len() == 1);
    lab.rest();
    assert_eq!(lab.clients(), 1, "its text is larger than all buffers");
    let (_, body) = lab.ask(METRICS);
    assert!(body.len() > 1_000_000);
    lab.now = lab.now + Duration::from_secs(29);
    lab.turn();
    assert_eq!(lab.desk.counts(), (2, 0));
    lab.now = lab.now + Duration::from_secs(1);
    lab.turn();
    assert_eq!((lab.clients(), lab.desk.counts().1), (0, 1));
    lab.turn_until(|_| slow.hear());
}

#[test]
fn slow_readers_hold_few_texts() {
    let mut lab = Lab::new(large());
    let mut peers = Vec::new();
    for number in 1..=2 * MOST_TEXTS {
        let mut peer = lab.peer();
        peer.say(METRICS);
        peers.push(peer);
        lab.turn_until(|lab| lab.desk.counts().0 == number as u64);
        lab.turn_until(|lab| lab.desk.scrape.is_none());
        let alive = lab.desk.texts.iter();
        let alive = alive.filter(|text| text.strong_count() > 0).count();
        assert_eq!(alive, number.min(MOST_TEXTS));
    }
    assert_eq!(lab.desk.counts().1, MOST_TEXTS as u64);
    let ended: Vec<bool> = peers.iter_mut().map(Peer::hear).collect();
    assert_eq!(ended, [true, true, true, false, false, false]);
}

#[test]
fn many_clients_make_room_for_who_asks() {
    let mut lab = Lab::new(World::of(3, 2));
    let mut idle: Vec<Peer> = (0..3 * MOST_CLIENTS).map(|_| lab.peer()).collect();
    lab.turn_until(|lab| lab.clients() == MOST_CLIENTS);
    let (_, body) = lab.ask(METRICS);
    assert!(body.contains("lvs_backend_up"));
    let gone = idle.iter_mut().filter_map(|peer| peer.hear().then_some(()));
    assert!(gone.count() > 2 * MOST_CLIENTS);
}

#[test]
fn who_goes_on_talking_is_not_listened_to_for_ever() {
    let mut lab = Lab::new(World::default());
    let mut peer = lab.peer();
    peer.say("GET /healthz HTTP/1.1\r\n\r\n");
    lab.turn_until(|lab| lab.clients() == 1);
    let more = [b'x'; 16_384];
    // Until the other end resets it.
    lab.turn_until(|_| match peer.stream.write(&more) {
        Ok(_) => false,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    });
    assert_eq!(lab.clients(), 0);
}

#[test]
fn a_scrape_that_nobody_waits_for_is_given_up() {
    let mut lab = Lab::new(large());
    let mut peers: Vec<Peer> = (0..2).map(|_| lab.peer()).collect();
    peers[0].say(METRICS);
    lab.turn_until(|lab| lab.desk.scrape.is_some());
    lab.now = lab.now + Duration::from_secs(30);
    lab.turn();
    lab.turn();
    assert!(lab.desk.scrape.is_none());
    assert!(!lab.desk.is_busy());
}

#[test]
fn the_port_changes_with_the_configuration() {
    let mut lab = Lab::new(World::default());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let former = lab.desk.listener.as_ref().unwrap().address;
    let config = |address| config::Metrics {
        listen: Some(address),
        ..config::Metrics::default()
    };
    lab.desk.reload(&config(taken.local_addr().unwrap()));
    // It listens where it did.
    assert_eq!(lab.desk.listener.as_ref().unwrap().address, former);
    assert_eq!(lab.ask("GET /healthz HTTP/1.1\r\n\r\n").1, "ok\n");
    let other = SocketAddr::from(([127, 0, 0, 2], 0));
    lab.desk.reload(&config(other));
    let listener = lab.desk.listener.as_ref().unwrap();
    assert_eq!(listener.socket.local_addr().unwrap().ip(), other.ip());
    assert_eq!(lab.ask("GET /healthz HTTP/1.1\r\n\r\n").1, "ok\n");
}

#[test]
fn a_port_of_somebody_else_is_an_error_if_it_was_asked_for() {
    let poll = Poll::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = config::Metrics {
        listen: Some(taken.local_addr().unwrap()),
        ..config::Metrics::default()
    };
    let error = MetricsDesk::open(&config, poll.registry().try_clone().unwrap()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("write another `listen' in [metrics]"),
        "{text}"
    );
}
