//! What the director's host can do to it while traffic flows.
#![allow(clippy::unwrap_used, reason = "a test may end here")]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use laboratory::host::Host;
use laboratory::link::cable;
use laboratory::programs::Director;
use laboratory::topology::Routed;
use laboratory::wait::{SOON, wait_for};

/// A client and a server that answer each other through the director.
struct Flow {
    lab: Routed,
    director: Director,
    client: UdpSocket,
    next: AtomicU64,
    /// Datagrams that reached the server.
    arrived: Arc<AtomicU64>,
}

impl Flow {
    fn new() -> Flow {
        let lab = Routed::new(1);
        let director = Director::start(&lab.director);
        for (kind, port) in [("-u", 53), ("-t", 80)] {
            director.admin(&format!("-A {kind} 10.0.0.100:{port} -s rr"));
            director.admin(&format!(
                "-a {kind} 10.0.0.100:{port} -r 10.1.0.11:{port} -m"
            ));
        }
        let arrived = Arc::new(AtomicU64::new(0));
        let socket = lab.servers[0].run(|| UdpSocket::bind("0.0.0.0:53").unwrap());
        socket2::SockRef::from(&socket)
            .set_recv_buffer_size(64 << 20)
            .unwrap();
        let count = Arc::clone(&arrived);
        thread::spawn(move || {
            let mut buffer = [0; 65_536];
            loop {
                match socket.recv_from(&mut buffer) {
                    // A datagram without an answer is of another kind of test.
                    Ok((length, from)) => {
                        count.fetch_add(1, Ordering::Relaxed);
                        if buffer[0] == ANSWER {
                            // The way back may be what is broken.
                            let _ = socket.send_to(&buffer[..length], from);
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return,
                }
            }
        });
        let client = connected(&lab.client);
        let next = AtomicU64::new(0);
        let flow = Flow {
            lab,
            director,
            client,
            next,
            arrived,
        };
        flow.must_serve("at first");
        flow
    }

    /// Whether a datagram of this many bytes comes back at once.
    fn exchanges(&self, bytes: usize) -> bool {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut datagram = vec![ANSWER; bytes];
        datagram[1..9].copy_from_slice(&number.to_be_bytes());
        if self.client.send(&datagram).is_err() {
            return false;
        }
        let mut answer = vec![0; 65_536];
        let deadline = Instant::now() + Duration::from_millis(300);
        while Instant::now() < deadline {
            match self.client.recv(&mut answer) {
                Ok(length) if answer[..length] == datagram[..] => return true,
                _ => {}
            }
        }
        false
    }

    fn must_serve(&self, when: &str) {
        assert!(
            wait_for(SOON, || self.exchanges(100)),
            "nothing comes back {when}:\n{}",
            self.director.admin("status")
        );
        // And from a client that nobody knows yet.
        let other = Flow::stranger(&self.lab.client);
        assert!(wait_for(SOON, other), "no new connection {when}");
    }

    fn stranger(client: &Host) -> impl Fn() -> bool {
        let socket = connected(client);
        move || {
            let mut answer = [0; 16];
            socket.send(&[ANSWER; 16]).is_ok() && socket.recv(&mut answer).is_ok()
        }
    }

    /// Sends until something was dropped for this reason.
    fn must_drop(&self, reason: &str) {
        let before = self.dropped(reason);
        let counted = wait_for(SOON, || {
            self.exchanges(100);
            self.dropped(reason) > before
        });
        assert!(counted, "no {reason}:\n{}", self.director.admin("status"));
    }

    fn dropped(&self, reason: &str) -> u64 {
        drops(&self.director).get(reason).copied().unwrap_or(0)
    }

    fn ip(&self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.lab.director.succeed("ip", &words);
    }
}

fn connected(client: &Host) -> UdpSocket {
    let socket = client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.connect("10.0.0.100:53").unwrap();
    let patience = Some(Duration::from_millis(100));
    socket.set_read_timeout(patience).unwrap();
    socket
}

/// Packets dropped, by reason, and `rings`: lost by them.
fn drops(director: &Director) -> BTreeMap<String, u64> {
    let status = director.admin("status");
    let rings = status
        .lines()
        .find(|line| line.starts_with("lost by the rings"));
    let lost = rings.unwrap().split_whitespace().nth(4).unwrap();
    let mut drops: BTreeMap<String, u64> = director.drops().into_iter().collect();
    drops.insert("rings".to_owned(), lost.parse().unwrap());
    drops
}

#[test]
fn an_interface_goes_down_and_comes_up() {
    let flow = Flow::new();
    for device in ["rs", "cl"] {
        flow.ip(&format!("link set {device} down"));
        if device == "rs" {
            flow.must_drop("no_route");
        } else {
            assert!(!flow.exchanges(100));
        }
        flow.ip(&format!("link set {device} up"));
        flow.must_serve("after it came up");
    }
}

#[test]
fn an_interface_vanishes_and_another_of_its_name_comes() {
    let flow = Flow::new();
    flow.ip("link del cl");
    assert!(!flow.exchanges(100));
    cable((&flow.lab.client, "eth0"), (&flow.lab.director, "cl"));
    flow.lab.client.address("eth0", "10.0.0.10/24");
    flow.lab.director.address("cl", "10.0.0.1/24");
    flow.lab.director.address("cl", "10.0.0.100/32");
    flow.must_serve("by the new interface");
}

#[test]
fn an_interface_is_renamed() {
    let flow = Flow::new();
    for device in ["cl", "rs"] {
        flow.ip(&format!("link set {device} down"));
        flow.ip(&format!("link set {device} name new-{device}"));
        flow.ip(&format!("link set new-{device} up"));
    }
    flow.must_serve("by the same interfaces under new names");
    let status = flow.director.admin("status");
    assert!(
        status.contains("  new-cl ") && status.contains("  new-rs "),
        "{status}"
    );
}

#[test]
fn an_interface_changes_its_mac() {
    let flow = Flow::new();
    let neighbours = [(&flow.lab.client, "cl"), (&flow.lab.servers[0], "rs")];
    for (number, (neighbour, device)) in neighbours.into_iter().enumerate() {
        flow.ip(&format!(
            "link set {device} address 02:00:00:00:77:0{number}"
        ));
        // Its neighbours look again by themselves, after half a minute.
        neighbour.output("ip", &["neigh", "flush", "dev", "eth0"]);
        flow.must_serve("after the change");
    }
}

#[test]
fn a_servers_mac_changes() {
    let flow = Flow::new();
    let server = &flow.lab.servers[0];
    server.succeed(
        "ip",
        &["link", "set", "eth0", "address", "02:00:00:00:77:11"],
    );
    server.output("ip", &["neigh", "flush", "dev", "eth0"]);
    // As a server does that is started or replaced, it asks for its gateway, by which all know it.
    let asks = server.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    let served = wait_for(SOON, || {
        let _ = asks.send_to(b"anything", "10.1.0.1:9");
        flow.exchanges(100)
    });
    assert!(served, "{}", flow.director.admin("status"));
}

#[test]
fn neighbours_and_routes_go_and_come() {
    let flow = Flow::new();
    for _ in 0..3 {
        for device in ["rs", "cl"] {
            // It fails when a neighbour goes by itself meanwhile.
            let forget = ["neigh", "flush", "dev", device];
            flow.lab.director.output("ip", &forget);
        }
        flow.must_serve("after the neighbours were forgotten");
    }
    flow.ip("route del 10.1.0.0/24 dev rs");
    flow.must_drop("no_route");
    flow.ip("route add 10.1.0.0/24 dev rs");
    flow.must_serve("after the route returned");
}

#[test]
fn the_mtu_changes_while_datagrams_of_its_size_flow() {
    let flow = Flow::new();
    let lan = |mtu| {
        flow.ip(&format!("link set cl mtu {mtu}"));
        flow.ip(&format!("link set rs mtu {mtu}"));
        flow.lab.client.mtu("eth0", mtu);
        flow.lab.servers[0].mtu("eth0", mtu);
        flow.lab.switch_mtu(mtu);
    };
    for mtu in [9000, 1500, 4000, 1280, 1500] {
        lan(mtu);
        let bytes = mtu as usize - 28;
        assert!(wait_for(SOON, || flow.exchanges(bytes)), "{bytes} bytes");
        // In fragments, and larger than a slot of the ring was.
        assert!(
            wait_for(SOON, || flow.exchanges(20_000)),
            "in fragments of {mtu}"
        );
        flow.must_serve("with another MTU");
    }
}

/// A slow link: its queue drops (ENOBUFS), or holds so much that the send buffer is full (EAGAIN).
#[test]
fn what_a_full_queue_refuses_is_counted() {
    for limit in ["3000", "100000000"] {
        let flow = Flow::new();
        let line = format!("qdisc add dev rs root tbf rate 200kbit burst 3000 limit {limit}");
        let words: Vec<&str> = line.split_whitespace().collect();
        flow.lab.director.succeed("tc", &words);
        let enough = wait_for(SOON, || {
            (0..1000).for_each(|_| drop(flow.client.send(&[SILENT; 1000])));
            flow.dropped("queue_full") > 0
        });
        assert!(enough, "{}", flow.director.admin("status"));
        flow.lab
            .director
            .succeed("tc", &["qdisc", "del", "dev", "rs", "root"]);
        flow.must_serve("after the queue is gone");
        let drops = drops(&flow.director);
        let expected = ["queue_full", "rings"];
        let others = drops
            .keys()
            .filter(|reason| !expected.contains(&reason.as_str()));
        assert_eq!(others.count(), 0, "{drops:?}");
    }
}

/// What came while it stood still is in its ring as far as it fits, and goes on; the rest is counted.
#[test]
fn a_director_that_stands_still_for_five_seconds_wedges_nothing() {
    let flow = Flow::new();
    let server = flow.lab.servers[0].run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
    });
    let mut open = flow
        .lab
        .client
        .run(|| TcpStream::connect("10.0.0.100:80").unwrap());
    let mut speak = |byte: u8| {
        let mut answer = [0];
        open.write_all(&[byte]).unwrap();
        open.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [byte]);
    };
    speak(1);
    let (arrived, before) = (flow.arrived.load(Ordering::Relaxed), drops(&flow.director));

    flow.director.process.signal("STOP");
    let end = Instant::now() + Duration::from_secs(5);
    let mut sent = 0;
    while sent < 10_000 || Instant::now() < end {
        if sent < 10_000 {
            flow.client.send(&[SILENT; 100]).unwrap();
            sent += 1;
        } else {
            thread::sleep(Duration::from_millis(10));
        }
    }
    flow.director.process.signal("CONT");
    flow.must_serve("after it stood still");
    speak(2);

    let count = || flow.arrived.load(Ordering::Relaxed) - arrived;
    let lost = || {
        let now = drops(&flow.director);
        let of = |drops: &BTreeMap<String, u64>| drops.values().sum::<u64>();
        of(&now) - of(&before)
    };
    // Besides, the server has got the datagrams of the exchanges above.
    let added_up = wait_for(SOON, || count() + lost() >= sent);
    assert!(
        added_up,
        "{} of {sent} arrived, {} are counted",
        count(),
        lost()
    );
    assert!(lost() > 0, "the ring has no room for so many");
    assert!(count() + lost() <= sent + flow.next.load(Ordering::Relaxed) + 200);
}

/// The first byte of a datagram that is to be answered, and of one that is not.
const ANSWER: u8 = 1;
const SILENT: u8 = 0;
