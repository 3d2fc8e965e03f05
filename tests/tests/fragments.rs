//! Datagrams in fragments that the test cuts itself, in every order, by each forwarding method.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use common::datagrams::receive;
use laboratory::host::Host;
use laboratory::paths::{Method, Narrow, Paths};
use laboratory::wait::{SOON, wait_for};
use shared::wire::ipv4::{Header, MF};
use shared::wire::{checksum, transport};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Sends IP packets as they are.
struct Raw(Socket);

impl Raw {
    fn new(host: &Host) -> Raw {
        let raw = Protocol::from(IPPROTO_RAW);
        Raw(host.run(|| Socket::new(Domain::IPV4, Type::RAW, Some(raw)).unwrap()))
    }

    fn send(&self, packet: &[u8]) {
        let to = SockAddr::from(SocketAddrV4::new(Paths::VIP, 0));
        self.0.send_to(packet, &to).unwrap();
    }
}

/// One fragment of a datagram from the client to the VIP.
fn fragment(identification: u16, offset: usize, more: bool, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        tos: 0,
        identification,
        fragment: (offset / 8) as u16 | if more { MF } else { 0 },
        ttl: 64,
        protocol: 17,
        source: Paths::CLIENT.octets(),
        destination: Paths::VIP.octets(),
    };
    [&header.to_bytes(payload.len())[..], payload].concat()
}

/// A datagram in three fragments that fit into 1 500 bytes.
fn fragments(identification: u16, data: &[u8]) -> [Vec<u8>; 3] {
    let length = 8 + data.len() as u16;
    let mut segment = Vec::new();
    for field in [CLIENT_PORT, 53, length, 0] {
        segment.extend(field.to_be_bytes());
    }
    segment.extend(data);
    let [client, vip] = [Paths::CLIENT, Paths::VIP].map(|address| address.octets());
    let pseudo = checksum::pseudo_v4(client, vip, 17, length);
    let sum = !checksum::fold(checksum::sum(&segment, pseudo));
    transport::set_field(&mut segment, transport::UDP_CHECKSUM, sum);
    let [one, two] = [1480, 2960];
    [
        fragment(identification, 0, true, &segment[..one]),
        fragment(identification, one, true, &segment[one..two]),
        fragment(identification, two, false, &segment[two..]),
    ]
}

fn bound(host: &Host, address: Ipv4Addr, port: u16) -> UdpSocket {
    let socket = host.run(|| UdpSocket::bind((address, port)).unwrap());
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

/// Every order of arrival: the server gets each datagram whole, and its answer, in fragments too, comes back.
fn every_order_arrives(method: Method, own_mtu: u32, one_packet: bool) {
    let paths = Paths::new(method);
    paths.mtu(Narrow::Own, own_mtu);
    let server = bound(&paths.server, paths.answering_address(), 53);
    let client = bound(&paths.client, Paths::CLIENT, CLIENT_PORT);
    let director = paths.start("");
    if one_packet {
        let service = match method {
            Method::Mark => "-f 1",
            _ => "-u 192.0.2.100:53",
        };
        director.admin(&format!("-E {service} -s rr -o"));
    }
    let raw = Raw::new(&paths.client);
    for (number, order) in ORDERS.into_iter().enumerate() {
        let what = || {
            let status = director.admin("status");
            format!("{method:?}, MTU {own_mtu}, {order:?}: {status}")
        };
        let data: Vec<u8> = (0..4000).map(|at| (at * 7 + number) as u8).collect();
        let parts = fragments(100 + number as u16, &data);
        for at in order {
            raw.send(&parts[at]);
        }
        let mut buffer = vec![0; 8000];
        let (length, from) = received(&server, &mut buffer)
            .unwrap_or_else(|error| panic!("the server: {error}, {}", what()));
        assert!(buffer[..length] == data, "the server, {}", what());
        if one_packet && !method.answers_directly() {
            // The connection is over before its answer comes.
            continue;
        }
        server.send_to(&data, from).unwrap();
        let length = receive(&client, &mut buffer)
            .unwrap_or_else(|error| panic!("the client: {error}, {}", what()));
        assert!(buffer[..length] == data, "the client, {}", what());
    }
    let status = director.admin("status");
    assert!(status.contains("dropped packets\n  none"), "{status}");
}

/// The next datagram and who sent it.
fn received(
    socket: &UdpSocket,
    buffer: &mut [u8],
) -> std::io::Result<(usize, std::net::SocketAddr)> {
    loop {
        match socket.recv_from(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

#[test]
fn whatever_order_they_come_in() {
    for method in Method::ALL {
        every_order_arrives(method, 1500, false);
    }
}

/// They fit into the way to the director, and not into the one behind it.
#[test]
fn they_are_cut_again_where_the_way_out_is_narrow() {
    for method in Method::ALL {
        every_order_arrives(method, 1400, false);
    }
}

#[test]
fn of_services_that_schedule_each_datagram_anew() {
    for method in [Method::Nat, Method::Direct, Method::Ipip, Method::Mark] {
        every_order_arrives(method, 1500, true);
    }
}

/// Those that no first one comes for: so many wait, and the director goes on serving.
#[test]
fn a_flood_of_later_ones_is_dropped_by_name() {
    let paths = Paths::new(Method::Nat);
    let server = bound(&paths.server, paths.answering_address(), 53);
    let director = paths.start("");
    let raw = Raw::new(&paths.client);
    for identification in 1000..3000 {
        raw.send(&fragment(identification, 1480, true, &[7; 64]));
    }
    let named = wait_for(SOON, || director.admin("status").contains("fragments_full"));
    assert!(named, "{}", director.admin("status"));
    for part in fragments(100, &[9; 4000]) {
        raw.send(&part);
    }
    let length = receive(&server, &mut [0; 8000]).unwrap();
    assert_eq!(length, 4000, "{}", director.admin("status"));
}

const IPPROTO_RAW: i32 = 255;
const CLIENT_PORT: u16 = 40_001;
const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];
