//! FULLNAT of clients of IPv6, to real servers of IPv6 and of IPv4.

mod ends;
mod errors;
mod names;
mod sizes;

use shared::addr::{Addr, Family, Protocol};
use shared::wire::icmpv4::Error;
use shared::wire::ipv4::{self, Packet};
use shared::wire::vnet::{NEEDS_CSUM, VnetHeader};
use shared::wire::{checksum, icmpv6, transport};

use super::fullnat::{PORT, SYN_OPTIONS, out};
use super::ipv6::{CLIENT6, FAR_CLIENT6, LOCAL6, SERVER6, VIP6, serving};
use super::laboratory::*;
use crate::core::director::Director;
use crate::core::ip::{self, Ip, header_bytes};
use crate::core::operation::{
    Beyond, ForwardMethod, Introduction, Operation, ServiceKey, ServiceSpec,
};
use crate::core::verdict::{Outgoing, Verdict};

pub(super) type End = (Addr, u16);

/// A real server, and as whom it knows the client.
#[derive(Debug, Clone, Copy)]
struct Side {
    server: Addr,
    local: Addr,
}

fn six() -> Side {
    Side {
        server: Addr::from_bytes(SERVER6.octets()),
        local: Addr::from_bytes(LOCAL6.octets()),
    }
}

fn four() -> Side {
    Side {
        server: Addr::from_v4_bytes(SERVER),
        local: Addr::from_v4_bytes(LOCAL),
    }
}

impl Side {
    fn lab(self) -> Director {
        serving(ForwardMethod::FullNat, self.server.ip())
    }

    fn with(self, beyond: Beyond) -> Director {
        let mut director = self.lab();
        let spec = ServiceSpec {
            beyond,
            ..ServiceSpec::new(ServiceKey::new(Protocol::TCP, VIP6, 80), "rr")
        };
        director.apply(NOW, &Operation::EditService(spec)).unwrap();
        director
    }

    fn header(self) -> usize {
        header_bytes(self.server.family())
    }
}

fn client() -> Addr {
    Addr::from_bytes(CLIENT6.octets())
}

fn vip() -> Addr {
    Addr::from_bytes(VIP6.octets())
}

/// In an IP packet of the ends' family; IPv4's is not to be fragmented.
fn packet(protocol: Protocol, source: Addr, destination: Addr, payload: &[u8]) -> Vec<u8> {
    let header = ip::Own {
        source,
        destination,
        protocol,
        tos: 0xb8,
        ttl: 64,
        identification: 7,
        fragment: ipv4::DF,
    };
    [&header.to_bytes(payload.len())[..], payload].concat()
}

fn summed(protocol: Protocol, from: Addr, to: Addr, at: usize, mut segment: Vec<u8>) -> Vec<u8> {
    let pseudo = ip::pseudo(from, to, protocol, segment.len() as u16);
    let sum = !checksum::fold(checksum::sum(&segment, pseudo));
    transport::set_field(&mut segment, at, sum);
    packet(protocol, from, to, &segment)
}

pub(super) fn segment(
    (from, to): (End, End),
    flags: u8,
    (sequence, acknowledged): (u32, u32),
    options: &[u8],
    data: &[u8],
) -> Vec<u8> {
    let mut segment = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    segment.extend([sequence.to_be_bytes(), acknowledged.to_be_bytes()].concat());
    segment.extend([
        (20 + options.len() as u8) << 2,
        flags,
        0xff,
        0xff,
        0,
        0,
        0,
        0,
    ]);
    segment.extend([options, data].concat());
    summed(
        Protocol::TCP,
        from.0,
        to.0,
        transport::TCP_CHECKSUM,
        segment,
    )
}

fn datagram((from, to): (End, End), data: &[u8]) -> Vec<u8> {
    let length = (8 + data.len() as u16).to_be_bytes();
    let mut segment = [from.1.to_be_bytes(), to.1.to_be_bytes(), length, [0; 2]].concat();
    segment.extend(data);
    summed(
        Protocol::UDP,
        from.0,
        to.0,
        transport::UDP_CHECKSUM,
        segment,
    )
}

/// Ends and transport header of a packet, after all its checksums were verified.
pub(super) fn read(packet: &[u8]) -> ((End, End), Vec<u8>) {
    let ip = Ip::read(packet).unwrap();
    assert_eq!(ip.total, packet.len());
    if ip.family() == Family::V4 {
        Packet::new_checked(packet).unwrap();
    }
    let segment = ip.payload(packet);
    let pseudo = ip::pseudo(ip.source, ip.destination, ip.protocol, segment.len() as u16);
    assert_eq!(checksum::fold(checksum::sum(segment, pseudo)), 0xffff);
    let (from, to) = transport::ports(segment).unwrap();
    (((ip.source, from), (ip.destination, to)), segment.to_vec())
}

pub(super) fn number(segment: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(segment[at..at + 4].try_into().unwrap())
}

/// From a client's port to a service.
fn there(port: u16) -> (End, End) {
    ((client(), 40001), (vip(), port))
}

/// From the server to whom it knows.
fn back(side: Side, port: u16) -> (End, End) {
    ((side.server, port), (side.local, PORT))
}

pub(super) const fn reversed((from, to): (End, End)) -> (End, End) {
    (to, from)
}

/// A SYN and its answer: the director, and what is added to the client's numbers.
fn shaken(side: Side, beyond: Beyond) -> (Director, u32) {
    let mut director = side.with(beyond);
    let syn = segment(there(80), SYN, (1000, 0), &SYN_OPTIONS, b"");
    let (ends, syn) = read(&out(&from_client(&mut director, &syn)));
    assert_eq!(ends, reversed(back(side, 8080)));
    // The MSS stays, the timestamps are gone.
    assert_eq!(syn[20..28], [2, 4, 5, 180, 1, 1, 1, 1]);
    let shift = number(&syn, 4).wrapping_sub(1000);
    assert_ne!(shift, 0);
    let acknowledged = shift.wrapping_add(1001);
    let answer = segment(
        back(side, 8080),
        SYN_ACK,
        (7000, acknowledged),
        &[2, 4, 5, 180],
        b"",
    );
    let (ends, answer) = read(&out(&from_server(&mut director, &answer)));
    assert_eq!(ends, reversed(there(80)));
    assert_eq!((number(&answer, 4), number(&answer, 8)), (7000, 1001));
    let (size, window) = match beyond.introduction {
        Introduction::ProxyProtocol => ([5, 180], 0xffff - 52),
        // The client leaves room for the option.
        _ => ([5, 160], 0xffff),
    };
    assert_eq!(answer[20..24], [2, 4, size[0], size[1]]);
    assert_eq!(transport::field(&answer, 14), Some(window));
    (director, shift)
}

/// A frame of many segments, its checksum left to the card.
pub(super) fn partial(packet: &[u8], gso_size: u16) -> (VnetHeader, Vec<u8>) {
    let mut packet = packet.to_vec();
    let ip = Ip::read(&packet).unwrap();
    let (gso_type, at, header) = match (ip.protocol, ip.family()) {
        (Protocol::TCP, Family::V4) => (1, transport::TCP_CHECKSUM, 20),
        (Protocol::TCP, Family::V6) => (4, transport::TCP_CHECKSUM, 20),
        _ => (5, transport::UDP_CHECKSUM, 8),
    };
    let pseudo = ip::pseudo(
        ip.source,
        ip.destination,
        ip.protocol,
        (ip.total - ip.header) as u16,
    );
    transport::set_field(&mut packet, ip.header + at, checksum::fold(pseudo));
    let vnet = VnetHeader {
        flags: NEEDS_CSUM,
        gso_type,
        hdr_len: (14 + ip.header + header) as u16,
        gso_size,
        csum_start: (14 + ip.header) as u16,
        csum_offset: at as u16,
    };
    (vnet, packet)
}

/// All packets that came out, in order.
fn all(outcome: &Outcome) -> Vec<Vec<u8>> {
    let now = matches!(outcome.verdict, Verdict::Forward(_)).then(|| outcome.packet.clone());
    let besides = outcome.outbox.iter().map(|sent| match sent {
        Outgoing::Transmit(_, frame) => frame[24..].to_vec(),
        other => panic!("{other:?}"),
    });
    now.into_iter().chain(besides).collect()
}

/// From a router on the way: its packet with an error about `quoted`.
fn error_about(said: Error, to: Addr, quoted: &[u8]) -> Vec<u8> {
    match to.family() {
        Family::V4 => {
            let router = Addr::from_v4_bytes([10, 1, 0, 99]);
            packet(Protocol::ICMP, router, to, &said.message(quoted))
        }
        Family::V6 => {
            let router = Addr::from_bytes(FAR_CLIENT6.octets());
            let ends = (router.to_bytes(), to.to_bytes());
            let message = icmpv6::message(said, ends.0, ends.1, quoted);
            packet(Protocol::ICMPV6, router, to, &message)
        }
    }
}
