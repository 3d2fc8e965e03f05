//! ESP behind a director: it follows the conversation of its two hosts about their keys, and is the host's
//! before that.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use common::bound;
use common::datagrams::receive;
use laboratory::host::Host;
use laboratory::paths::{Method, Paths};
use laboratory::wait::SOON;
use shared::addr::Family;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// All ESP packets to an address of a host.
fn sealed(host: &Host, address: IpAddr) -> UdpSocket {
    let (esp, own) = (Protocol::from(ESP), SocketAddr::new(address, 0));
    let socket = host.run(|| Socket::new(Domain::for_address(own), Type::RAW, Some(esp)).unwrap());
    socket.bind(&SockAddr::from(own)).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    // No datagrams, but what the standard library reads it reads as well.
    socket.into()
}

fn send(socket: &UdpSocket, to: IpAddr, number: u8) {
    socket.send_to(&[number; 200], (to, 0)).unwrap();
}

/// Who sent the next packet, and its number.
fn received(socket: &UdpSocket, what: &str) -> (IpAddr, u8) {
    let mut buffer = [0; 2000];
    let (length, from) = loop {
        match socket.recv_from(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => break outcome.unwrap_or_else(|error| panic!("{what}: {error}")),
        }
    };
    // A raw socket of IPv4 shows the header, one of IPv6 does not.
    let header = if from.is_ipv4() { 20 } else { 0 };
    let sealed = &buffer[header..length];
    assert_eq!(sealed, [sealed[0]; 200], "{what}");
    (from.ip(), sealed[0])
}

fn follows(method: Method, family: Family) {
    let paths = Paths::of(method, family);
    let director = paths.start("");
    let (vip, vip_port) = (paths.vip(), paths.at(500));
    let server_port = SocketAddr::new(paths.server_address(), 500);
    director.admin(&format!("-A -u {vip_port} -s rr"));
    let options = method.options();
    director.admin(&format!("-a -u {vip_port} -r {server_port} {options}"));
    let what = || format!("{method:?}, {vip}: {}", director.admin("status"));
    let (own, answering) = (paths.client_address(), paths.answering_address());
    let client = sealed(&paths.client, own);
    let server = sealed(&paths.server, answering);
    let asks = bound(&paths.client, own, 500);
    let answers = bound(&paths.server, answering, 500);

    // Nobody has spoken of keys: the server must not see this one.
    send(&client, vip, 1);
    asks.send_to(b"keys?", vip_port).unwrap();
    assert_eq!(receive(&answers, &mut [0; 100]).unwrap(), 5, "{}", what());
    send(&client, vip, 2);
    assert_eq!(received(&server, &what()), (own, 2));
    send(&server, own, 3);
    assert_eq!(received(&client, &what()), (vip, 3));
}

laboratory::of_both_families! {
    follows(Method::Nat) => by_nat_of_ipv4, by_nat_of_ipv6;
    follows(Method::Direct) => by_direct_routing_of_ipv4, by_direct_routing_of_ipv6;
    follows(Method::Ipip) => by_a_tunnel_of_ipv4, by_a_tunnel_of_ipv6;
}

const ESP: i32 = 50;
