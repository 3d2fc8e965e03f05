//! SCTP by each forwarding method, with packets that the test builds itself: the checksum of every packet is
//! right where it arrives, also when its sender has left it to the network card.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddrV4};

use director::sys::packet_socket::PacketSocket;
use laboratory::host::Host;
use laboratory::paths::{Method, Paths};
use laboratory::programs::Director;
use laboratory::wait::{SOON, wait_for};
use shared::wire::ipv4::{DF, Header, Packet};
use shared::wire::sctp::{self, chunk};
use shared::wire::transport;
use shared::wire::vnet::{NEEDS_CSUM, VnetHeader};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// One end of an association: all SCTP packets to an address of a host.
struct End {
    socket: Socket,
    port: u16,
}

impl End {
    fn new(host: &Host, address: Ipv4Addr, port: u16) -> End {
        let sctp = Protocol::from(SCTP);
        let socket = host.run(|| Socket::new(Domain::IPV4, Type::RAW, Some(sctp)).unwrap());
        socket
            .bind(&SockAddr::from(SocketAddrV4::new(address, 0)))
            .unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        End { socket, port }
    }

    fn send(&self, (address, port): (Ipv4Addr, u16), kind: u8, data: usize) {
        let packet = packet(self.port, port, kind, data);
        let to = SockAddr::from(SocketAddrV4::new(address, 0));
        self.socket.send_to(&packet, &to).unwrap();
    }

    /// The next packet, whose checksum is right: who sent it, to which port, its first chunk, its length.
    fn receive(&self, what: &str) -> ((Ipv4Addr, u16), u16, u8, usize) {
        let mut buffer = vec![0; 4000];
        let length = loop {
            match (&self.socket).read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => break outcome.unwrap_or_else(|error| panic!("{what}: {error}")),
            }
        };
        let packet = Packet::new_checked(&buffer[..length]).unwrap();
        let body = packet.payload();
        assert!(sctp::verifies(body), "{what}: CRC32c");
        let (source, destination) = transport::ports(body).unwrap();
        let kind = sctp::ChunkTypes::of(body).unwrap().next().unwrap();
        let sender = (packet.source().into(), source);
        (sender, destination, kind, body.len())
    }
}

/// An SCTP packet of one chunk.
fn packet(from: u16, to: u16, kind: u8, data: usize) -> Vec<u8> {
    let mut packet = [from.to_be_bytes(), to.to_be_bytes()].concat();
    packet.extend([1, 2, 3, 4, 0, 0, 0, 0, kind, 0]);
    packet.extend((4 + data as u16).to_be_bytes());
    packet.extend((0..data).map(|at| (at * 7) as u8));
    sctp::sum_up(&mut packet);
    packet
}

/// Sends a packet whose checksum the network card is to work out, by a device, to a router there.
fn leave_to_the_card(
    host: &Host,
    device: &str,
    router: [u8; 6],
    ends: (Ipv4Addr, Ipv4Addr),
    mut body: Vec<u8>,
) {
    body[sctp::CHECKSUM..sctp::HEADER].fill(0);
    let vnet = VnetHeader {
        flags: NEEDS_CSUM,
        csum_start: 34,
        csum_offset: sctp::CHECKSUM as u16,
        ..VnetHeader::default()
    };
    let header = Header {
        tos: 0,
        identification: 1,
        fragment: DF,
        ttl: 64,
        protocol: SCTP as u8,
        source: ends.0.octets(),
        destination: ends.1.octets(),
    };
    let frame = [
        &vnet.to_bytes()[..],
        &router,
        &host.ethernet_address(device),
        &[0x08, 0x00],
        &header.to_bytes(body.len()),
        &body,
    ]
    .concat();
    let ifindex = host.ifindex(device);
    host.run(|| {
        let frames = [(ifindex, &frame[..])].into_iter();
        PacketSocket::new().send_batch(frames, |_, error| panic!("{device}: {error}"));
    });
}

fn established(director: &Director) -> bool {
    let connections = director.admin("-Lnc");
    let ours = connections.lines().find(|line| line.starts_with("SCTP"));
    ours.is_some_and(|line| line.contains("14:5") && line.contains("ESTABLISHED"))
}

fn associate(method: Method) {
    let paths = Paths::new(method);
    let director = paths.start("");
    let inner_port = if method.answers_directly() {
        PORT
    } else {
        3868
    };
    let (service, address) = (
        format!("--sctp-service 192.0.2.100:{PORT}"),
        paths.server_address(),
    );
    director.admin(&format!("-A {service} -s rr"));
    let options = method.options();
    director.admin(&format!("-a {service} -r {address}:{inner_port} {options}"));
    let client = End::new(&paths.client, Paths::CLIENT, 40001);
    let server = End::new(&paths.server, paths.answering_address(), inner_port);
    let vip = (Paths::VIP, PORT);
    let mut known = (Paths::CLIENT, client.port);
    let conversation = [
        (true, chunk::INIT, 16),
        (false, chunk::INIT_ACK, 200),
        (true, chunk::COOKIE_ECHO, 180),
        (false, chunk::COOKIE_ACK, 0),
        (true, chunk::DATA, 1301),
        (false, chunk::DATA, 1401),
    ];
    for (of_client, kind, data) in conversation {
        let what = format!("{method:?}, chunk {kind}: {}", director.admin("status"));
        if of_client {
            client.send(vip, kind, data);
            let (sender, port, got, length) = server.receive(&what);
            assert_eq!((port, got, length), (inner_port, kind, 16 + data), "{what}");
            known = sender;
        } else {
            server.send(known, kind, data);
            let arrived = client.receive(&what);
            assert_eq!(arrived, (vip, client.port, kind, 16 + data), "{what}");
        }
    }
    let expected = match method {
        Method::FullNat => Paths::LOCAL,
        _ => Paths::CLIENT,
    };
    assert_eq!(known.0, expected);
    let what = format!("{method:?}: {}", director.admin("-Lnc"));
    assert!(wait_for(SOON, || established(&director)), "{what}");

    let [outer, .., far] = &paths.routers;
    let body = packet(client.port, PORT, chunk::DATA, 700);
    let ends = (Paths::CLIENT, Paths::VIP);
    let router = outer.ethernet_address("cl");
    leave_to_the_card(&paths.client, "eth0", router, ends, body);
    let (sender, port, got, length) = server.receive("left to the card");
    assert_eq!(
        (sender, port, got, length),
        (known, inner_port, chunk::DATA, 716)
    );
    if !method.answers_directly() {
        let body = packet(inner_port, known.1, chunk::DATA, 900);
        let ends = (paths.server_address(), known.0);
        let router = far.ethernet_address("rs");
        leave_to_the_card(&paths.server, "eth0", router, ends, body);
        let arrived = client.receive("left to the server's card");
        assert_eq!(arrived, (vip, client.port, chunk::DATA, 916));
    }
    let status = director.admin("status");
    assert!(status.contains("dropped packets\n  none"), "{status}");
}

#[test]
fn by_nat() {
    associate(Method::Nat);
}

#[test]
fn by_direct_routing() {
    associate(Method::Direct);
}

#[test]
fn by_full_nat() {
    associate(Method::FullNat);
}

#[test]
fn by_each_tunnel() {
    for method in [Method::Ipip, Method::Gue, Method::Gre] {
        associate(method);
    }
}

const SCTP: i32 = 132;
const PORT: u16 = 36412;
