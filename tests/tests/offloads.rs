//! Every combination of offloads on the devices around the director, with small, large and mixed MTU:
//! what arrives is what was sent, and no checksum is wrong.
#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use common::datagrams;
use laboratory::host::Host;
use laboratory::paths::{Method, Paths};
use laboratory::programs::Director;
use laboratory::topology::{OneLan, Routed};
use laboratory::wait::{SOON, wait_for};
use shared::addr::Family;

/// What ethtool calls them. Without checksums there is no segmentation on a device, but in the kernel
/// there is.
const FEATURES: [&[&str]; 4] = [&["tx", "rx"], &["tso"], &["gso"], &["gro"]];

/// Client and server of a laboratory, and the director's devices between them.
struct Matrix<'a> {
    client: &'a Host,
    server: &'a Host,
    vip: IpAddr,
    director: &'a Host,
    devices: &'a [&'a str],
    administered: Director,
    /// Bytes of the largest datagram that need not be cut.
    largest: usize,
}

impl<'a> Matrix<'a> {
    fn new(
        (client, director, server): (&'a Host, &'a Host, &'a Host),
        devices: &'a [&'a str],
        (vip, rip, method): (IpAddr, IpAddr, &str),
    ) -> Matrix<'a> {
        let administered = Director::start(director);
        for (kind, port) in [("-t", TCP), ("-u", UDP)] {
            let [vip, rip] = [vip, rip].map(|address| SocketAddr::new(address, port));
            administered.admin(&format!("-A {kind} {vip} -s rr"));
            administered.admin(&format!("-a {kind} {vip} -r {rip} {method}"));
        }
        // A datagram's answer comes from where it went to.
        let answering = if method == "-g" { vip } else { rip };
        Matrix::of(
            (client, director, server),
            devices,
            (vip, answering),
            (administered, 1472),
        )
    }

    fn of(
        (client, director, server): (&'a Host, &'a Host, &'a Host),
        devices: &'a [&'a str],
        (vip, answering): (IpAddr, IpAddr),
        (administered, largest): (Director, usize),
    ) -> Matrix<'a> {
        echo_tcp(server);
        datagrams::echo(server, answering, UDP);
        Matrix {
            client,
            server,
            vip,
            director,
            devices,
            administered,
            largest,
        }
    }

    /// All combinations, with those of the peers all on and all off.
    fn run(&self) {
        for peers in [true, false] {
            for end in [self.client, self.server] {
                set(end, "eth0", |_| peers);
            }
            for combination in 0..1 << FEATURES.len() {
                for device in self.devices {
                    set(self.director, device, |feature| {
                        combination >> feature & 1 == 1
                    });
                }
                let what = format!("combination {combination:04b}, peers {peers}");
                self.stream(&what);
                self.datagrams(&what);
            }
        }
        for host in [self.client, self.server] {
            for protocol in ["Tcp", "Udp"] {
                let wrong = host.counter(protocol, "InCsumErrors");
                assert_eq!(wrong, 0, "{protocol} of {}", host.name());
            }
            // Nothing is lost; but where two CPUs send segments of one connection, a veth may put
            // them in another order, and their sender then sends some again.
            let (again, sent) = (
                host.counter("Tcp", "RetransSegs"),
                host.counter("Tcp", "OutSegs"),
            );
            assert!(
                again <= sent / 20 + 20,
                "{again} of {sent} by {}",
                host.name()
            );
        }
    }

    fn no_drops_but(&self, expected: &[&str]) {
        let status = self.administered.admin("status");
        assert!(status.contains("lost by the rings   0 packets"), "{status}");
        for (reason, _) in self.administered.drops() {
            assert!(expected.contains(&reason.as_str()), "{status}");
        }
    }

    /// A megabyte there and back.
    fn stream(&self, what: &str) {
        let sent = pattern(1_000_000);
        let got = self.client.run(|| {
            let vip = (self.vip, TCP).into();
            let stream = TcpStream::connect_timeout(&vip, SOON);
            let mut stream = stream.unwrap_or_else(|error| panic!("{what}: {error}"));
            stream.set_read_timeout(Some(SOON)).unwrap();
            let mut writer = stream.try_clone().unwrap();
            let sent = sent.clone();
            let writing = thread::spawn(move || {
                writer.write_all(&sent).unwrap();
                writer.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut got = Vec::new();
            let read = stream.read_to_end(&mut got);
            read.unwrap_or_else(|error| panic!("{what}: {error}"));
            writing.join().unwrap();
            got
        });
        assert!(got == sent, "TCP, {what}: {} bytes came back", got.len());
    }

    /// Datagrams of several sizes there and back, and one large one that leaves its host as twenty.
    fn datagrams(&self, what: &str) {
        let socket = datagrams::connected(self.client, self.vip, UDP);
        for bytes in [1, 1000, self.largest] {
            datagrams::exchange(&socket, &pattern(bytes), what);
        }
        datagrams::exchange_segments(&socket, &pattern(SEGMENT * SEGMENTS), SEGMENT, what);
    }
}

fn set(host: &Host, device: &str, on: impl Fn(usize) -> bool) {
    let mut words = vec!["-K", device];
    for (number, names) in FEATURES.iter().enumerate() {
        for name in *names {
            words.extend([*name, if on(number) { "on" } else { "off" }]);
        }
    }
    let segmentation = if on(1) && on(0) { "on" } else { "off" };
    words.extend(["tx-udp-segmentation", segmentation]);
    // It complains of what the kernel does besides, such as no segmentation without checksums.
    host.output("ethtool", &words);
}

/// No two pieces of it are alike.
fn pattern(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(bytes).collect()
}

fn echo_tcp(server: &Host) {
    let listener = server.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, TCP)).unwrap());
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                // The client says what was lost.
                let _ = stream.read_to_end(&mut bytes);
                let _ = stream.write_all(&bytes);
            });
        }
    });
}

/// NAT with these MTUs in front of the director and behind it.
fn nat(front: u32, behind: u32, test: impl Fn(&Matrix)) {
    let lab = Routed::new(1);
    lab.client.mtu("eth0", front);
    lab.director.mtu("cl", front);
    lab.director.mtu("rs", behind);
    lab.switch_mtu(behind);
    lab.servers[0].mtu("eth0", behind);
    let matrix = Matrix::new(
        (&lab.client, &lab.director, &lab.servers[0]),
        &["cl", "rs"],
        (Routed::VIP.into(), Routed::server(0).into(), "-m"),
    );
    test(&matrix);
}

fn direct(mtu: u32) {
    let lab = OneLan::new(1);
    let server = &lab.servers[0];
    server.sysctl("net/ipv4/conf/all/arp_ignore", "1");
    server.sysctl("net/ipv4/conf/all/arp_announce", "2");
    server.address("lo", "10.2.0.100/32");
    for host in [&lab.client, &lab.director, server] {
        host.mtu("eth0", mtu);
    }
    lab.switch_mtu(mtu);
    let matrix = Matrix::new(
        (&lab.client, &lab.director, server),
        &["eth0"],
        (OneLan::VIP.into(), OneLan::server(0).into(), "-g"),
    );
    matrix.run();
    matrix.no_drops_but(&[]);
}

/// A method that has a network of its own, with routers.
fn routed(method: Method, family: Family) {
    let paths = Paths::of(method, family);
    let largest = match family {
        Family::V4 => 1472,
        Family::V6 => 1452,
    };
    let matrix = Matrix::of(
        (&paths.client, &paths.director, &paths.server),
        &["cl", "rs"],
        (paths.vip(), paths.answering_address()),
        (paths.start(""), largest - method.outer(family) as usize),
    );
    matrix.run();
    matrix.no_drops_but(&[]);
}

laboratory::of_both_families! {
    routed(Method::Ipip) => ipip_of_ipv4, ipip_of_ipv6;
    routed(Method::Gue) => gue_of_ipv4, gue_of_ipv6;
    routed(Method::Gre) => gre_of_ipv4, gre_of_ipv6;
    routed(Method::FullNat) => fullnat_of_ipv4, fullnat_of_ipv6;
    routed(Method::Mark) => firewall_mark_of_ipv4, firewall_mark_of_ipv6;
}

#[test]
fn nat_of_ipv6() {
    routed(Method::Nat, Family::V6);
}

#[test]
fn nat_1500() {
    nat(1500, 1500, |matrix| {
        matrix.run();
        matrix.no_drops_but(&[]);
    });
}

#[test]
fn nat_9000() {
    nat(9000, 9000, |matrix| {
        matrix.run();
        matrix.no_drops_but(&[]);
    });
}

#[test]
fn nat_9000_in_front_of_1500() {
    nat(9000, 1500, |matrix| {
        matrix.run();
        // DF is set, as on all datagrams of a host that looks for the path's MTU: it is told.
        let socket = datagrams::connected(matrix.client, matrix.vip, UDP);
        let patience = Some(Duration::from_millis(200));
        socket.set_read_timeout(patience).unwrap();
        let sent = pattern(8000);
        let learned = wait_for(SOON, || {
            let mut answer = [0; 9000];
            // The first one is refused, and with EMSGSIZE when the news is there.
            let _ = socket.send(&sent);
            datagrams::receive(&socket, &mut answer)
                .is_ok_and(|length| answer[..length] == sent[..])
        });
        assert!(learned, "{}", matrix.administered.admin("status"));
        matrix.no_drops_but(&["too_big"]);
    });
}

#[test]
fn nat_1500_in_front_of_9000() {
    nat(1500, 9000, |matrix| {
        matrix.run();
        matrix.no_drops_but(&["too_big"]);
    });
}

#[test]
fn direct_routing_1500() {
    direct(1500);
}

#[test]
fn direct_routing_9000() {
    direct(9000);
}

const TCP: u16 = 80;
const UDP: u16 = 53;
const SEGMENT: usize = 1000;
const SEGMENTS: usize = 20;
