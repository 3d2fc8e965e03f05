//! TCP in bulk: frames of many segments come whole out of the ring and are sent on.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use shared::addr::Protocol;
use shared::sys::namespace::Namespace;

use super::bench::{Port, addr, ifindex, namespace, readable, run, service};
use crate::core::capture::CaptureKey;
use crate::sys::packet_socket::PacketSocket;

const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 0x01];
const SERVER: [u8; 6] = [2, 0, 0, 0, 0, 0x04];
const PATIENCE: Duration = Duration::from_secs(20);
const BYTES: usize = 16 << 20;

#[test]
fn large_frames_pass_whole() {
    let largest = transfer("");
    assert!(largest.iter().all(|&bytes| bytes > 2048), "{largest:?}");
}

/// veth trusts checksums that were never completed: only without its offloads do they count.
#[test]
fn large_frames_pass_through_a_device_that_cannot_segment() {
    transfer(
        "for device in left right; do
            ethtool -K $device tx off tso off gso off >/dev/null
        done",
    );
}

/// Sends [`BYTES`] each way through a director that only changes MACs. The largest frame it saw
/// from each side.
fn transfer(director_script: &str) -> [usize; 2] {
    let director = namespace(None, "");
    let client = namespace(
        Some(&director),
        "ip link add client address 02:00:00:00:00:01 type veth \
             peer name left address 02:00:00:00:00:02 netns $peer
        ip address add 10.9.1.1/24 dev client
        ip link set client up
        ip route add default via 10.9.1.254",
    );
    let server = namespace(
        Some(&director),
        "ip link add server address 02:00:00:00:00:04 type veth \
             peer name right address 02:00:00:00:00:03 netns $peer
        ip address add 10.9.2.1/24 dev server
        ip link set server up
        ip route add default via 10.9.2.254",
    );
    run(
        &director,
        None,
        "ip address add 10.9.1.254/24 dev left
        ip address add 10.9.2.254/24 dev right
        ip link set left up
        ip link set right up",
    );
    run(&director, None, director_script);
    let listener = server.run(|| TcpListener::bind("10.9.2.1:80").unwrap());
    let listener = listener.unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let forwarder = scope.spawn(|| director.run(|| forward(&done)).unwrap());
        let echo = scope.spawn(|| serve(&listener));
        let received = scope.spawn(|| connect(&client)).join();
        done.store(true, Ordering::Relaxed);
        assert!(
            received.unwrap() == pattern(),
            "what came is not what was sent"
        );
        assert!(
            echo.join().unwrap() == pattern(),
            "what came is not what was sent"
        );
        forwarder.join().unwrap()
    })
}

fn connect(client: &Namespace) -> Vec<u8> {
    let exchange = || {
        let server = "10.9.2.1:80".parse().unwrap();
        let mut stream = TcpStream::connect_timeout(&server, PATIENCE).unwrap();
        stream.write_all(&pattern()).unwrap();
        read(&mut stream)
    };
    client.run(exchange).unwrap()
}

fn serve(listener: &TcpListener) -> Vec<u8> {
    assert!(readable(listener, PATIENCE), "no connection");
    let (mut stream, _) = listener.accept().unwrap();
    let received = read(&mut stream);
    stream.write_all(&received).unwrap();
    received
}

fn read(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = vec![0; BYTES];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn pattern() -> Vec<u8> {
    (0..BYTES).map(|at| (at % 251) as u8).collect()
}

/// The whole of a director, almost: from each side to the other until `done`.
fn forward(done: &AtomicBool) -> [usize; 2] {
    let request = service(Protocol::TCP, "10.9.2.1", 80);
    let reply = CaptureKey::Reply {
        protocol: Protocol::TCP,
        address: addr("10.9.2.1"),
        port: 80,
    };
    let mut sides = [
        (
            Port::open(c"left", 256, &[request]),
            ifindex(c"right"),
            SERVER,
        ),
        (
            Port::open(c"right", 256, &[reply]),
            ifindex(c"left"),
            CLIENT,
        ),
    ];
    let mut socket = PacketSocket::new();
    let mut largest = [0; 2];
    while !done.load(Ordering::Relaxed) {
        for ((port, out, mac), largest) in sides.iter_mut().zip(&mut largest) {
            readable(&port.ring, Duration::from_millis(1));
            let mut batch = Vec::new();
            while let Some(frame) = port.take() {
                frame.buffer[frame.vnet_at + 10..][..6].copy_from_slice(mac);
                *largest = frame.end.saturating_sub(frame.vnet_at).max(*largest);
                batch.push(frame.vnet_at..frame.end);
            }
            let ring = &port.ring;
            let frames = batch
                .into_iter()
                .enumerate()
                .map(|(number, wire)| (*out, &ring.buffer(number)[wire]));
            socket.send_batch(frames, |number, error| panic!("{number}: {error}"));
            port.release();
        }
    }
    for (port, ..) in &mut sides {
        assert_eq!(port.ring.statistics().unwrap().too_large, 0);
    }
    largest
}
