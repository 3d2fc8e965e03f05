//! ESP behind a director: it follows the conversation of its two hosts about their keys, and is the host's
//! before that.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use common::datagrams::receive;
use laboratory::host::Host;
use laboratory::ipv6::{beside, like};
use laboratory::paths::{Method, Paths};
use laboratory::wait::SOON;
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

fn follows(method: Method, like: fn(Ipv4Addr) -> IpAddr) {
    let paths = Paths::new(method);
    let hosts = [&paths.client, &paths.director, &paths.server];
    beside(hosts.into_iter().chain(&paths.routers));
    let director = paths.start("");
    let [vip, address] = [Paths::VIP, paths.server_address()].map(like);
    let [vip_port, server_port] = [vip, address].map(|address| SocketAddr::new(address, 500));
    director.admin(&format!("-A -u {vip_port} -s rr"));
    let options = method.options();
    director.admin(&format!("-a -u {vip_port} -r {server_port} {options}"));
    let what = || format!("{method:?}, {vip}: {}", director.admin("status"));
    let [own, answering] = [Paths::CLIENT, paths.answering_address()].map(like);
    let client = sealed(&paths.client, own);
    let server = sealed(&paths.server, answering);
    let bound = |host: &Host, address| {
        let socket = host.run(|| UdpSocket::bind((address, 500)).unwrap());
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket
    };
    let asks = bound(&paths.client, own);
    let answers = bound(&paths.server, answering);

    // Nobody has spoken of keys: the server must not see this one.
    send(&client, vip, 1);
    asks.send_to(b"keys?", vip_port).unwrap();
    assert_eq!(receive(&answers, &mut [0; 100]).unwrap(), 5, "{}", what());
    send(&client, vip, 2);
    assert_eq!(received(&server, &what()), (own, 2));
    send(&server, own, 3);
    assert_eq!(received(&client, &what()), (vip, 3));
}

#[test]
fn by_nat() {
    follows(Method::Nat, IpAddr::V4);
    follows(Method::Nat, |address| like(address).into());
}

#[test]
fn by_direct_routing() {
    follows(Method::Direct, IpAddr::V4);
    follows(Method::Direct, |address| like(address).into());
}

#[test]
fn by_a_tunnel() {
    follows(Method::Ipip, IpAddr::V4);
}

const ESP: i32 = 50;
