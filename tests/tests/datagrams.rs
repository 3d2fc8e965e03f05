//! Fragments and ICMP errors about NAT connections, on real packets.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;

use common::datagrams::receive;
use laboratory::host::Host;
use laboratory::programs::Director;
use laboratory::topology::Routed;
use laboratory::wait::{SOON, wait_for};
use socket2::{Domain, Protocol, Socket, Type};

/// One server, UDP port 53 of the VIP mapped to 5353.
fn lab() -> (Routed, Director) {
    let lab = Routed::new(1);
    let director = Director::start(&lab.director);
    director.admin("-A -u 10.0.0.100:53 -s rr");
    director.admin("-a -u 10.0.0.100:53 -r 10.1.0.11:5353 -m");
    (lab, director)
}

fn bound(host: &Host, address: &str) -> UdpSocket {
    let socket = host.run(|| UdpSocket::bind(address).unwrap());
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

fn connected(host: &Host, to: &str) -> UdpSocket {
    let socket = bound(host, "0.0.0.0:0");
    socket.connect(to).unwrap();
    socket
}

/// Answers each datagram with its bytes in reverse order, until one is empty.
fn echo(socket: UdpSocket) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        loop {
            match socket.recv_from(&mut buffer) {
                Ok((length @ 1.., from)) => {
                    buffer[..length].reverse();
                    socket.send_to(&buffer[..length], from).unwrap();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return,
            }
        }
    })
}

/// Everything that reaches a device, from the Ethernet header on.
fn tap(host: &Host) -> Socket {
    let all = Protocol::from(i32::from(0x0003_u16.to_be()));
    let tap = host.run(|| Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap());
    tap.set_nonblocking(true).unwrap();
    tap
}

fn tapped(mut tap: &Socket) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut buffer = vec![0; 65_536];
    while let Ok(length) = tap.read(&mut buffer) {
        frames.push(buffer[..length].to_vec());
    }
    frames
}

fn assert_hidden(frames: &[Vec<u8>]) {
    assert!(!frames.is_empty());
    let server = Routed::server(0).octets();
    let shown = frames
        .iter()
        .find(|frame| frame.windows(4).any(|four| four == server));
    assert!(
        shown.is_none(),
        "the client sees the server's address: {shown:02x?}"
    );
}

#[test]
fn four_thousand_bytes_each_way_with_offloads_and_without() {
    let (lab, director) = lab();
    let server = echo(bound(&lab.servers[0], "0.0.0.0:5353"));
    let tap = tap(&lab.client);
    let client = connected(&lab.client, "10.0.0.100:53");
    let request: Vec<u8> = (0..4000_u32).map(|n| (n * 7 / 5) as u8).collect();
    let answer: Vec<u8> = request.iter().rev().copied().collect();
    for round in 0..2 {
        client.send(&request).unwrap();
        let mut got = vec![0; 8000];
        let length = receive(&client, &mut got)
            .unwrap_or_else(|error| panic!("round {round}: {error}\n{}", director.admin("status")));
        assert!(got[..length] == answer, "round {round}: the answer differs");
        lab.director.offloads_off("cl");
        lab.director.offloads_off("rs");
        lab.servers[0].offloads_off("eth0");
        lab.client.offloads_off("eth0");
    }
    for host in [&lab.client, &lab.servers[0]] {
        assert_eq!(host.counter("Udp", "InCsumErrors"), 0, "{}", host.name());
    }
    assert_hidden(&tapped(&tap));
    client.send(&[]).unwrap();
    server.join().unwrap();
}

#[test]
fn a_server_that_does_not_listen_says_so_as_the_vip() {
    let (lab, _director) = lab();
    let tap = tap(&lab.client);
    let client = connected(&lab.client, "10.0.0.100:53");
    client.send(b"anybody?").unwrap();
    let error = receive(&client, &mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_hidden(&tapped(&tap));
}

#[test]
fn no_server_is_told_at_once() {
    let (lab, director) = lab();
    director.admin("-d -u 10.0.0.100:53 -r 10.1.0.11:5353");
    let client = connected(&lab.client, "10.0.0.100:53");
    client.send(b"anybody?").unwrap();
    let error = receive(&client, &mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn datagrams_of_other_ports_are_the_hosts_also_in_fragments() {
    let (lab, _director) = lab();
    // A port of the VIP that is no service: the host's own program answers.
    let host = echo(bound(&lab.director, "10.0.0.100:54"));
    let client = connected(&lab.client, "10.0.0.100:54");
    for length in [10, 4000] {
        let request = vec![7; length];
        client.send(&request).unwrap();
        assert_eq!(receive(&client, &mut [0; 8000]).unwrap(), length);
    }
    client.send(&[]).unwrap();
    host.join().unwrap();
    // A real server's balanced port and another one, directly and through the host's forwarding.
    lab.director.sysctl("net/ipv4/ip_forward", "1");
    for port in [5353, 5354] {
        let server = echo(bound(&lab.servers[0], &format!("0.0.0.0:{port}")));
        let client = connected(&lab.client, &format!("10.1.0.11:{port}"));
        for length in [10, 4000] {
            client.send(&vec![7; length]).unwrap();
            assert_eq!(
                receive(&client, &mut [0; 8000]).unwrap(),
                length,
                "port {port}"
            );
        }
        client.send(&[]).unwrap();
        server.join().unwrap();
    }
}

#[test]
fn whatever_the_hosts_settings_are_it_is_balanced() {
    let (lab, director) = lab();
    let server = echo(bound(&lab.servers[0], "0.0.0.0:5353"));
    let client = connected(&lab.client, "10.0.0.100:53");
    for forward in ["0", "1"] {
        lab.director.sysctl("net/ipv4/ip_forward", forward);
        for filter in ["0", "1", "2"] {
            for device in ["all", "cl", "rs"] {
                let setting = format!("net/ipv4/conf/{device}/rp_filter");
                lab.director.sysctl(&setting, filter);
            }
            client.send(b"hello").unwrap();
            let mut answer = [0; 8];
            let length = receive(&client, &mut answer).unwrap_or_else(|error| {
                panic!(
                    "forward {forward}, rp_filter {filter}: {error}\n{}",
                    director.admin("status")
                )
            });
            assert_eq!(&answer[..length], b"olleh");
        }
    }
    client.send(&[]).unwrap();
    server.join().unwrap();
}

#[test]
fn the_vip_may_be_an_address_of_lo() {
    let (lab, director) = lab();
    lab.director.address("lo", "10.0.0.200/32");
    director.admin("-A -u 10.0.0.200:53 -s rr");
    director.admin("-a -u 10.0.0.200:53 -r 10.1.0.11:5353 -m");
    let server = echo(bound(&lab.servers[0], "0.0.0.0:5353"));
    let client = connected(&lab.client, "10.0.0.200:53");
    client.send(b"hello").unwrap();
    let mut answer = [0; 8];
    let length = receive(&client, &mut answer).unwrap();
    assert_eq!(&answer[..length], b"olleh");
    client.send(&[]).unwrap();
    server.join().unwrap();
    assert!(
        lab.client
            .run(|| common::ping(Ipv4Addr::new(10, 0, 0, 200)))
    );
}

#[test]
fn broken_frames_are_dropped_by_name() {
    let (lab, director) = lab();
    let tap = tap(&lab.client);
    let client = connected(&lab.client, "10.0.0.100:53");
    client.send(b"hello").unwrap();
    let mut sound = Vec::new();
    let sent = wait_for(SOON, || {
        // Our own request, as it left: Ethernet type IPv4, protocol UDP.
        sound = tapped(&tap)
            .into_iter()
            .find(|frame| frame[12..14] == [8, 0] && frame[23] == 17)
            .unwrap_or_default();
        !sound.is_empty()
    });
    assert!(sent, "the request was not seen");
    let mut lying = sound.clone();
    lying[17] = 200;
    let mut damaged = sound.clone();
    damaged[22] ^= 1;
    let device = lab.client.ifindex("eth0");
    lab.client
        .run(|| common::inject(device, &[&lying, &damaged]));
    let named = wait_for(SOON, || {
        let status = director.admin("status");
        status.contains("malformed_ip") && status.contains("ip_checksum")
    });
    assert!(named, "{}", director.admin("status"));
}
