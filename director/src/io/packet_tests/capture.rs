//! What is ours goes to the ring and not to the host; everything else to the host.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use shared::addr::Protocol;
use shared::sys::namespace::Namespace;
use socket2::{Domain, Socket, Type};

use super::bench::{Port, namespace, run, service};
use crate::core::capture::CaptureChange;

const PATIENCE: Duration = Duration::from_secs(20);

/// A client, and the director with the VIP 192.0.2.1 on its interface.
fn client_and_director() -> (Namespace, Namespace) {
    let director = namespace(None, "");
    let client = namespace(
        Some(&director),
        "ip link add client type veth \
             peer name inside address 02:00:00:00:00:02 netns $peer
        ip address add 192.0.2.7/24 dev client
        ip link set client up",
    );
    run(
        &director,
        None,
        "ip address add 192.0.2.1/24 dev inside
        sysctl -qw net.ipv4.icmp_ratelimit=0
        ip link set inside up",
    );
    (client, director)
}

fn udp_to(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind("192.0.2.7:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(address).unwrap();
    socket
}

#[test]
fn the_host_is_silent_about_what_is_ours_and_answers_the_rest() {
    let (client, director) = client_and_director();
    let tcp = service(Protocol::TCP, "192.0.2.1", 80);
    let udp = service(Protocol::UDP, "192.0.2.1", 5300);
    let mut port = director
        .run(|| Port::open(c"inside", 32, &[tcp, udp]))
        .unwrap();
    let as_client = || {
        let ours = udp_to("192.0.2.1:5300");
        ours.send(b"ours").unwrap();
        let ours_tcp = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        ours_tcp.set_nonblocking(true).unwrap();
        let vip: SocketAddr = "192.0.2.1:80".parse().unwrap();
        let begun = ours_tcp.connect(&vip.into()).unwrap_err();
        assert_eq!(begun.raw_os_error(), Some(libc::EINPROGRESS));

        // These come after ours, and the host's answers to them after any answer to ours.
        let other = udp_to("192.0.2.1:5301");
        other.send(b"other").unwrap();
        let refused = other.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let vip: SocketAddr = "192.0.2.1:81".parse().unwrap();
        let refused = TcpStream::connect_timeout(&vip, PATIENCE).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

        assert!(ours.take_error().unwrap().is_none());
        assert!(ours_tcp.take_error().unwrap().is_none());
    };
    client.run(as_client).unwrap();

    let frame = port.next();
    assert_eq!(&frame.buffer[frame.end - 4..frame.end], b"ours");
    let frame = port.next();
    let tcp_header = frame.vnet_at + 10 + 14 + 20;
    assert_eq!(frame.buffer[tcp_header + 2..][..2], 80_u16.to_be_bytes());
    port.release();

    // Without its key the service is the host's again; without the link too.
    port.capture.apply(&[CaptureChange::Remove(udp)]).unwrap();
    let refused = || {
        let socket = udp_to("192.0.2.1:5300");
        socket.send(b"theirs").unwrap();
        socket.recv(&mut [0; 8]).unwrap_err().kind()
    };
    assert_eq!(client.run(refused).unwrap(), ErrorKind::ConnectionRefused);
    port.capture.apply(&[CaptureChange::Insert(udp)]).unwrap();
    drop(port);
    assert_eq!(client.run(refused).unwrap(), ErrorKind::ConnectionRefused);
}
