//! FULLNAT: real servers behind a router, whose way to the clients is not through the director.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

#[path = "../common/mod.rs"]
mod common;
mod local_addresses;
mod proxy_protocol;
mod reuse;
mod segment_size;

use std::fs;
use std::io::Read;
use std::net::Ipv4Addr;

use common::Pair;
use laboratory::host::Host;
use laboratory::link::cable;
use laboratory::process::scratch;
use laboratory::programs::{Director, Nginx};
use laboratory::wait::SOON;
use shared::host::netlink::Netlink;
use socket2::{Domain, Protocol, Socket, Type};

/// ```text
/// client 10.0.0.10 -- cl 10.0.0.1 director 10.9.0.1 rt -- di 10.9.0.254 router 10.1.0.1 rs -- server 10.1.0.11
///                     VIP 10.0.0.100       local address 10.9.0.9
/// ```
/// The server's way to everywhere is the router, and the router knows no way to the client's network.
struct Lab {
    client: Host,
    director: Host,
    router: Host,
    server: Host,
}

impl Lab {
    fn new() -> Lab {
        let host = Host::new;
        let lab = Lab {
            client: host("client"),
            director: host("director"),
            router: host("router"),
            server: host("server 1"),
        };
        cable((&lab.client, "eth0"), (&lab.director, "cl"));
        cable((&lab.director, "rt"), (&lab.router, "di"));
        cable((&lab.router, "rs"), (&lab.server, "eth0"));
        lab.client.address("eth0", "10.0.0.10/24");
        lab.director.address("cl", "10.0.0.1/24");
        lab.director.address("cl", "10.0.0.100/32");
        lab.director.address("rt", "10.9.0.1/24");
        lab.director.gateway(Ipv4Addr::new(10, 9, 0, 254));
        lab.router.address("di", "10.9.0.254/24");
        lab.router.address("rs", "10.1.0.1/24");
        lab.router.sysctl("net/ipv4/ip_forward", "1");
        lab.server.address("eth0", "10.1.0.11/24");
        lab.server.gateway(Ipv4Addr::new(10, 1, 0, 1));
        lab
    }

    /// A director with the local address and one server for TCP and one for UDP.
    fn start(&self) -> Director {
        self.start_with(CONFIG)
    }

    fn start_with(&self, configuration: &str) -> Director {
        let file = scratch("toml");
        fs::write(&file, configuration).unwrap();
        let name = file.display().to_string();
        let director = Director::start_with(&self.director, &["--config", &name]);
        fs::remove_file(&file).unwrap();
        director
    }

    fn offloads_off(&self) {
        for device in ["cl", "rt"] {
            self.director.offloads_off(device);
        }
        self.client.offloads_off("eth0");
        self.server.offloads_off("eth0");
    }

    /// Whether the director's host has the address 10.9.0.`number`.
    fn has(&self, number: u8) -> bool {
        let addresses = self.director.netlink(Netlink::addresses);
        let local = Ipv4Addr::new(10, 9, 0, number);
        addresses
            .iter()
            .any(|address| address.prefix.address == local)
    }
}

const CONFIG: &str = r#"
[fullnat]
local_addresses = ["10.9.0.9"]

[[service]]
address = "10.0.0.100:80"
protocol = "tcp"
scheduler = "rr"
[[service.server]]
address = "10.1.0.11:8080"
forward = "fullnat"

[[service]]
address = "10.0.0.100:53"
protocol = "udp"
scheduler = "rr"
[[service.server]]
address = "10.1.0.11:5353"
forward = "fullnat"
"#;

#[test]
fn a_thousand_requests_come_back_without_a_route_to_the_director() {
    let lab = Lab::new();
    let _web = Nginx::start(&lab.server, "server 1", 8080, None);
    let director = lab.start();
    let answers = lab.client.succeed(
        "curl",
        &[
            "-sS",
            "-m",
            "60",
            "--http1.0",
            "http://10.0.0.100/?[1-1000]",
        ],
    );
    assert_eq!(answers, "server 1\n".repeat(1000));
    let listing = director.admin("-Ln");
    assert!(listing.contains("FullNat"), "{listing}");
    let saved = director.admin("-Sn");
    assert!(
        saved.contains("-a -t 10.0.0.100:80 -r 10.1.0.11:8080 -b -w 1"),
        "{saved}"
    );
    let status = director.admin("status");
    assert!(status.contains("dropped packets\n  none"), "{status}");
    assert!(status.contains("10.9.0.9 "), "{status}");
    for host in [&lab.client, &lab.server] {
        assert_eq!(host.counter("Tcp", "InCsumErrors"), 0, "{}", host.name());
    }
}

/// What a capture on the server's host sees of a connection's segments to it.
#[test]
fn the_server_is_told_the_client_s_address_and_port() {
    let lab = Lab::new();
    let _director = lab.start();
    let capture = lab.server.run(|| {
        let all = Protocol::from(i32::from(ETH_P_ALL.to_be()));
        Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap()
    });
    capture.set_read_timeout(Some(SOON)).unwrap();
    let mut pair = Pair::connect(&lab.client, &lab.server, "10.0.0.100:80", 8080);
    pair.talk();
    let port = pair.client.local_addr().unwrap().port();
    assert_eq!(
        pair.server.peer_addr().unwrap().ip(),
        Ipv4Addr::new(10, 9, 0, 9)
    );
    let mut buffer = [0; 4096];
    let mut seen = Vec::new();
    // The handshake's last segment, and the one with data; the SYN before them has no such option.
    while seen.len() < 3 {
        let length = (&capture).read(&mut buffer).unwrap();
        seen.extend(to_the_server(&buffer[..length]).map(<[u8]>::to_vec));
    }
    assert!(toa(&seen[0]).is_none() && seen[0][13] & 0x02 != 0);
    let expected = [&port.to_be_bytes()[..], &[10, 0, 0, 10]].concat();
    for segment in &seen[1..] {
        assert_eq!(toa(segment).as_deref(), Some(&expected[..]));
    }
}

/// The TCP segment of a frame to the server's port.
fn to_the_server(frame: &[u8]) -> Option<&[u8]> {
    let packet = frame.get(14..)?;
    let ours = packet[9] == 6 && packet[16..20] == [10, 1, 0, 11];
    let segment = packet.get(20..)?;
    (frame[12..14] == [8, 0] && ours && segment[2..4] == 8080_u16.to_be_bytes()).then_some(segment)
}

/// What is in the TOA option of a segment.
fn toa(segment: &[u8]) -> Option<Vec<u8>> {
    let mut options = &segment[20..usize::from(segment[12] >> 4) * 4];
    loop {
        match *options {
            [1, ..] => options = &options[1..],
            [254, 8, ref rest @ ..] => return Some(rest[..6].to_vec()),
            [_, length, ..] if length >= 2 => options = &options[usize::from(length)..],
            _ => return None,
        }
    }
}

const ETH_P_ALL: u16 = 3;
