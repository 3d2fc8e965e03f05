//! ESP behind a director: it follows the conversation of its two hosts about their keys, and is the host's
//! before that.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use common::datagrams::receive;
use laboratory::host::Host;
use laboratory::paths::{Method, Paths};
use laboratory::wait::SOON;
use shared::wire::ipv4::Packet;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// All ESP packets to an address of a host.
fn sealed(host: &Host, address: Ipv4Addr) -> Socket {
    let esp = Protocol::from(ESP);
    let socket = host.run(|| Socket::new(Domain::IPV4, Type::RAW, Some(esp)).unwrap());
    let own = SockAddr::from(SocketAddrV4::new(address, 0));
    socket.bind(&own).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

fn send(socket: &Socket, to: Ipv4Addr, number: u8) {
    let to = SockAddr::from(SocketAddrV4::new(to, 0));
    socket.send_to(&[number; 200], &to).unwrap();
}

/// Who sent the next packet, and its number.
fn received(mut socket: &Socket, what: &str) -> (Ipv4Addr, u8) {
    let mut buffer = [0; 2000];
    let length = loop {
        match socket.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => break outcome.unwrap_or_else(|error| panic!("{what}: {error}")),
        }
    };
    let packet = Packet::new_checked(&buffer[..length]).unwrap();
    let number = packet.payload()[0];
    assert_eq!(packet.payload(), [number; 200], "{what}");
    (packet.source().into(), number)
}

fn follows(method: Method) {
    let paths = Paths::new(method);
    let director = paths.start("");
    let address = paths.server_address();
    director.admin("-A -u 192.0.2.100:500 -s rr");
    let options = method.options();
    director.admin(&format!("-a -u 192.0.2.100:500 -r {address}:500 {options}"));
    let what = || format!("{method:?}: {}", director.admin("status"));
    let client = sealed(&paths.client, Paths::CLIENT);
    let server = sealed(&paths.server, paths.answering_address());
    let bound = |host: &Host, address| {
        let socket = host.run(|| UdpSocket::bind((address, 500)).unwrap());
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket
    };
    let asks = bound(&paths.client, Paths::CLIENT);
    let answers = bound(&paths.server, paths.answering_address());

    // Nobody has spoken of keys: the server must not see this one.
    send(&client, Paths::VIP, 1);
    asks.send_to(b"keys?", (Paths::VIP, 500)).unwrap();
    assert_eq!(receive(&answers, &mut [0; 100]).unwrap(), 5, "{}", what());
    send(&client, Paths::VIP, 2);
    assert_eq!(received(&server, &what()), (Paths::CLIENT, 2));
    send(&server, Paths::CLIENT, 3);
    assert_eq!(received(&client, &what()), (Paths::VIP, 3));
}

#[test]
fn by_nat() {
    follows(Method::Nat);
}

#[test]
fn by_direct_routing() {
    follows(Method::Direct);
}

#[test]
fn by_a_tunnel() {
    follows(Method::Ipip);
}

const ESP: i32 = 50;
