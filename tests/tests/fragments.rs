//! Datagrams in fragments that the test cuts itself, in every order, by each forwarding method.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::net::{IpAddr, SocketAddr, UdpSocket};

use common::bound;
use common::datagrams::receive;
use director::core::ip::{OWN_TTL, Own, pseudo};
use laboratory::paths::{Method, Narrow, Paths};
use laboratory::wait::{SOON, wait_for};
use shared::addr::{Addr, Family};
use shared::wire::ipv4::MF;
use shared::wire::{checksum, ipv6, transport};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Sends IP packets from the client to the VIP as they are.
struct Raw {
    socket: Socket,
    client: IpAddr,
    vip: SocketAddr,
}

impl Raw {
    fn new(paths: &Paths) -> Raw {
        let raw = Protocol::from(IPPROTO_RAW);
        let vip = paths.at(0);
        let open = || Socket::new(Domain::for_address(vip), Type::RAW, Some(raw)).unwrap();
        Raw {
            socket: paths.client.run(open),
            client: paths.client_address(),
            vip,
        }
    }

    fn send(&self, packet: &[u8]) {
        self.socket
            .send_to(packet, &SockAddr::from(self.vip))
            .unwrap();
    }

    /// One fragment of a datagram.
    fn fragment(&self, identification: u16, offset: usize, more: bool, payload: &[u8]) -> Vec<u8> {
        let six = self.vip.is_ipv6();
        let header = Own {
            source: self.client.into(),
            destination: self.vip.ip().into(),
            protocol: shared::addr::Protocol(if six { ipv6::FRAGMENT } else { UDP }),
            tos: 0,
            ttl: OWN_TTL,
            identification,
            fragment: (offset / 8) as u16 | if more { MF } else { 0 },
        };
        if !six {
            return [&header.to_bytes(payload.len())[..], payload].concat();
        }
        let field = (offset as u16 | u16::from(more)).to_be_bytes();
        let number = identification.to_be_bytes();
        let extension = [UDP, 0, field[0], field[1], 0, 0, number[0], number[1]];
        let payload = [&extension, payload].concat();
        [&header.to_bytes(payload.len())[..], &payload].concat()
    }

    /// A datagram in three fragments that fit into 1 500 bytes.
    fn fragments(&self, identification: u16, data: &[u8]) -> [Vec<u8>; 3] {
        let length = 8 + data.len() as u16;
        let mut segment = Vec::new();
        for field in [CLIENT_PORT, 53, length, 0] {
            segment.extend(field.to_be_bytes());
        }
        segment.extend(data);
        let (client, vip) = (Addr::from(self.client), Addr::from(self.vip.ip()));
        let pseudo = pseudo(client, vip, shared::addr::Protocol(UDP), length);
        let sum = !checksum::fold(checksum::sum(&segment, pseudo));
        transport::set_field(&mut segment, transport::UDP_CHECKSUM, sum);
        // Those of IPv6 fit into each tunnel as well: nobody cuts them on their way.
        let one = if self.vip.is_ipv6() { 1392 } else { 1480 };
        let two = 2 * one;
        [
            self.fragment(identification, 0, true, &segment[..one]),
            self.fragment(identification, one, true, &segment[one..two]),
            self.fragment(identification, two, false, &segment[two..]),
        ]
    }
}

/// Every order of arrival: the server gets each datagram whole, and its answer, in fragments too, comes back.
fn every_order_arrives(method: Method, family: Family, own_mtu: u32, one_packet: bool) {
    let paths = Paths::of(method, family);
    paths.mtu(Narrow::Own, own_mtu);
    let server = bound(&paths.server, paths.answering_address(), 53);
    let client = bound(&paths.client, paths.client_address(), CLIENT_PORT);
    let director = paths.start("");
    if one_packet {
        let services = paths.services();
        let service = services.last().unwrap();
        director.admin(&format!("-E {service} -s rr -o"));
    }
    let raw = Raw::new(&paths);
    for (number, order) in ORDERS.into_iter().enumerate() {
        let what = || {
            let status = director.admin("status");
            format!("{method:?}, MTU {own_mtu}, {order:?}: {status}")
        };
        let data: Vec<u8> = (0..4000).map(|at| (at * 7 + number) as u8).collect();
        let parts = raw.fragments(100 + number as u16, &data);
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
fn received(socket: &UdpSocket, buffer: &mut [u8]) -> std::io::Result<(usize, SocketAddr)> {
    loop {
        match socket.recv_from(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

fn any_order(family: Family) {
    for method in Method::ALL {
        every_order_arrives(method, family, 1500, false);
    }
}

fn scheduled_anew(family: Family) {
    for method in [Method::Nat, Method::Direct, Method::Ipip, Method::Mark] {
        every_order_arrives(method, family, 1500, true);
    }
}

laboratory::of_both_families! {
    any_order => whatever_order_they_come_in, whatever_order_those_of_ipv6_come_in;
    scheduled_anew => of_services_that_schedule_each_datagram_anew, those_of_ipv6_too;
}

/// They fit into the way to the director, and not into the one behind it. Nobody cuts IPv6 on its way.
#[test]
fn they_are_cut_again_where_the_way_out_is_narrow() {
    for method in Method::ALL {
        every_order_arrives(method, Family::V4, 1400, false);
    }
}

/// Those that no first one comes for: so many wait, and the director goes on serving.
#[test]
fn a_flood_of_later_ones_is_dropped_by_name() {
    let paths = Paths::new(Method::Nat);
    let server = bound(&paths.server, paths.answering_address(), 53);
    let director = paths.start("");
    let raw = Raw::new(&paths);
    for identification in 1000..3000 {
        raw.send(&raw.fragment(identification, 1480, true, &[7; 64]));
    }
    let named = wait_for(SOON, || director.admin("status").contains("fragments_full"));
    assert!(named, "{}", director.admin("status"));
    for part in raw.fragments(100, &[9; 4000]) {
        raw.send(&part);
    }
    let length = receive(&server, &mut [0; 8000]).unwrap();
    assert_eq!(length, 4000, "{}", director.admin("status"));
}

const IPPROTO_RAW: i32 = 255;
const UDP: u8 = 17;
const CLIENT_PORT: u16 = 40_001;
const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];
