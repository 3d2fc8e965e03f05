//! SCTP by each forwarding method, with packets that the test builds itself: the checksum of every packet is
//! right where it arrives, also when its sender has left it to the network card.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use director::core::ip::{OWN_TTL, Own};
use director::sys::packet_socket::PacketSocket;
use laboratory::host::Host;
use laboratory::paths::{Method, Paths};
use laboratory::programs::Director;
use laboratory::wait::{SOON, wait_for};
use shared::addr::{Addr, Family};
use shared::wire::ipv4::DF;
use shared::wire::sctp::{self, chunk};
use shared::wire::transport;
use shared::wire::vnet::{NEEDS_CSUM, VnetHeader};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// One end of an association: all SCTP packets to an address of a host.
struct End {
    /// A raw one.
    socket: UdpSocket,
    port: u16,
}

impl End {
    fn new(host: &Host, address: IpAddr, port: u16) -> End {
        let (sctp, address) = (Protocol::from(SCTP), SocketAddr::new(address, 0));
        let domain = Domain::for_address(address);
        let socket = host.run(|| Socket::new(domain, Type::RAW, Some(sctp)).unwrap());
        socket.bind(&SockAddr::from(address)).unwrap();
        let socket = UdpSocket::from(socket);
        socket.set_read_timeout(Some(SOON)).unwrap();
        End { socket, port }
    }

    fn send(&self, (address, port): (IpAddr, u16), kind: u8, data: usize) {
        let packet = packet(self.port, port, kind, data);
        self.socket.send_to(&packet, (address, 0)).unwrap();
    }

    /// The next packet, whose checksum is right: who sent it, to which port, its first chunk, its length.
    fn receive(&self, what: &str) -> ((IpAddr, u16), u16, u8, usize) {
        let mut buffer = vec![0; 4000];
        let (length, sender) = loop {
            match self.socket.recv_from(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => break outcome.unwrap_or_else(|error| panic!("{what}: {error}")),
            }
        };
        // A raw socket of IPv4 tells the header too.
        let header = if sender.is_ipv4() { 20 } else { 0 };
        let body = &buffer[header..length];
        assert!(sctp::verifies(body), "{what}: CRC32c");
        let (source, destination) = transport::ports(body).unwrap();
        let kind = sctp::ChunkTypes::of(body).unwrap().next().unwrap();
        ((sender.ip(), source), destination, kind, body.len())
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
    (source, destination): (IpAddr, IpAddr),
    mut body: Vec<u8>,
) {
    body[sctp::CHECKSUM..sctp::HEADER].fill(0);
    let header = Own {
        source: Addr::from(source),
        destination: Addr::from(destination),
        protocol: shared::addr::Protocol::SCTP,
        tos: 0,
        ttl: OWN_TTL,
        identification: 1,
        fragment: DF,
    };
    let header = header.to_bytes(body.len());
    let vnet = VnetHeader {
        flags: NEEDS_CSUM,
        csum_start: 14 + header.len() as u16,
        csum_offset: sctp::CHECKSUM as u16,
        ..VnetHeader::default()
    };
    let ethertype = match source {
        IpAddr::V4(_) => [0x08, 0x00],
        IpAddr::V6(_) => [0x86, 0xdd],
    };
    let frame = [
        &vnet.to_bytes()[..],
        &router,
        &host.ethernet_address(device),
        &ethertype,
        &header,
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

fn associate(method: Method, family: Family) {
    let paths = Paths::of(method, family);
    let director = paths.start("");
    let inner_port = if method.answers_directly() {
        PORT
    } else {
        3868
    };
    let server = SocketAddr::new(paths.server_address(), inner_port);
    let service = format!("--sctp-service {}", paths.at(PORT));
    director.admin(&format!("-A {service} -s rr"));
    let options = method.options();
    director.admin(&format!("-a {service} -r {server} {options}"));
    let client = End::new(&paths.client, paths.client_address(), 40001);
    let server = End::new(&paths.server, paths.answering_address(), inner_port);
    let vip = (paths.vip(), PORT);
    let mut known = (paths.client_address(), client.port);
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
        Method::FullNat => paths.local(),
        _ => paths.client_address(),
    };
    assert_eq!(known.0, expected);
    let what = format!("{method:?}: {}", director.admin("-Lnc"));
    assert!(wait_for(SOON, || established(&director)), "{what}");

    let [outer, .., far] = &paths.routers;
    let body = packet(client.port, PORT, chunk::DATA, 700);
    let ends = (paths.client_address(), paths.vip());
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

laboratory::of_both_families! {
    associate(Method::Nat) => by_nat_of_ipv4, by_nat_of_ipv6;
    associate(Method::Direct) => by_direct_routing_of_ipv4, by_direct_routing_of_ipv6;
    associate(Method::FullNat) => by_full_nat_of_ipv4, by_full_nat_of_ipv6;
    associate(Method::Ipip) => by_ipip_of_ipv4, by_ipip_of_ipv6;
    associate(Method::Gue) => by_gue_of_ipv4, by_gue_of_ipv6;
    associate(Method::Gre) => by_gre_of_ipv4, by_gre_of_ipv6;
}

const SCTP: i32 = 132;

const PORT: u16 = 36412;
