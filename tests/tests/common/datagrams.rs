//! Clients and servers of UDP.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::thread;

use laboratory::host::Host;
use laboratory::wait::SOON;
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};

/// A socket of a host that sends to an address and waits for answers from there.
pub fn connected(host: &Host, to: impl Into<IpAddr>, port: u16) -> UdpSocket {
    let to = to.into();
    let any = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = host.run(|| UdpSocket::bind(any).unwrap());
    socket.connect((to, port)).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

/// The length of the next datagram. A wait with a time limit may be interrupted by nothing at all
/// (signal(7)).
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match socket.recv(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// Answers each datagram to an address of a host with itself, as long as the program runs.
pub fn echo(server: &Host, address: impl Into<IpAddr>, port: u16) {
    let address = address.into();
    let socket = server.run(|| UdpSocket::bind((address, port)).unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        loop {
            match socket.recv_from(&mut buffer) {
                Ok((length, from)) => drop(socket.send_to(&buffer[..length], from)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
}

/// One datagram there and back.
pub fn exchange(socket: &UdpSocket, sent: &[u8], what: &str) {
    socket.send(sent).unwrap();
    let mut answer = vec![0; 65_536];
    let length = receive(socket, &mut answer)
        .unwrap_or_else(|error| panic!("{} bytes by UDP, {what}: {error}", sent.len()));
    assert!(answer[..length] == sent[..], "UDP, {what}");
}

/// One large datagram that leaves its host as many of a size, each there and back.
pub fn exchange_segments(socket: &UdpSocket, sent: &[u8], segment: usize, what: &str) {
    setsockopt(socket, UdpGsoSegment, &(segment as i32)).unwrap();
    socket.send(sent).unwrap();
    let mut missing: BTreeSet<&[u8]> = sent.chunks(segment).collect();
    while !missing.is_empty() {
        let mut answer = [0; 2000];
        let length = receive(socket, &mut answer)
            .unwrap_or_else(|error| panic!("{} segments, {what}: {error}", missing.len()));
        assert!(missing.remove(&answer[..length]), "a segment, {what}");
    }
    setsockopt(socket, UdpGsoSegment, &0).unwrap();
}
