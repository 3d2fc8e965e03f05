//! The same for IPv6: NAT and direct routing, errors, fragments, and headers that lead nowhere.

mod errors;
mod fragments;

use std::net::{IpAddr, Ipv6Addr};

use proptest::prelude::*;
use shared::addr::{Addr, Protocol};
use shared::wire::icmpv4::Error;
use shared::wire::vnet::{NEEDS_CSUM, VnetHeader};
use shared::wire::{checksum, icmpv6, ipv6, sctp, transport};

use super::laboratory::*;
use crate::core::director::Director;
use crate::core::ip::Ip;
use crate::core::net::{Mac, NetworkEvent, PortId, Prefix, RouteInfo, RouteKind};
use crate::core::operation::{
    Beyond, ForwardMethod, Operation, ServerGone, ServerKey, ServerSpec, ServiceKey, ServiceSpec,
};
use crate::core::reason::Reason;
use crate::core::verdict::{Outbox, Outgoing, Verdict};

pub(super) const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
pub(super) const FAR_CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 7);
pub(super) const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100);
pub(super) const SERVER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x11);
/// A local address of FULLNAT.
pub(super) const LOCAL6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
pub(super) const INNER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xfe);

pub(super) type End = (Ipv6Addr, u16);

/// That of IPv4, with the same services at addresses of IPv6. The gateway has a link-local address.
pub(super) fn director6(method: ForwardMethod) -> Director {
    serving(method, SERVER6.into())
}

/// The same with a real server of either family.
pub(super) fn serving(method: ForwardMethod, server: IpAddr) -> Director {
    let mut director = director(method);
    let route = |destination, length, ifindex, gateway: Option<Ipv6Addr>| {
        NetworkEvent::Route(RouteInfo {
            destination: Prefix::new(addr(destination), length),
            table: 254,
            metric: 0,
            kind: RouteKind::Unicast {
                ifindex,
                gateway: gateway.map(addr),
            },
            mtu: None,
            source: None,
        })
    };
    let address = |ifindex, address, length| NetworkEvent::Address {
        ifindex,
        prefix: Prefix::new(addr(address), length),
    };
    let neighbour = |ifindex, address, mac| NetworkEvent::Neighbour {
        ifindex,
        address: addr(address),
        mac,
    };
    for event in [
        address(0, VIP6, 128),
        address(1, INNER6, 64),
        route(CLIENT6, 64, 0, None),
        route(SERVER6, 64, 1, None),
        route(Ipv6Addr::UNSPECIFIED, 0, 0, Some(GATEWAY6)),
        neighbour(0, GATEWAY6, GATEWAY_MAC),
        neighbour(1, SERVER6, SERVER_MAC),
    ] {
        director.network_changed(event, &mut Outbox::default());
    }
    if method == ForwardMethod::FullNat {
        let local = Operation::AddLocalAddress {
            address: LOCAL6.into(),
            interface: None,
        };
        director.apply(NOW, &local).unwrap();
    }
    for (protocol, port, inner) in [(Protocol::TCP, 80, 8080), (Protocol::UDP, 53, 5353)] {
        let key = ServiceKey::new(protocol, VIP6, port);
        let inner = if method.is_nat() { inner } else { port };
        for operation in [
            Operation::AddService(ServiceSpec::new(key, "rr")),
            Operation::AddServer(key, ServerSpec::new(server, inner, method, 1)),
        ] {
            director.apply(NOW, &operation).unwrap();
        }
    }
    director
}

fn addr(address: Ipv6Addr) -> Addr {
    Addr::from(IpAddr::V6(address))
}

pub(super) fn carried(
    next_header: u8,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    payload: &[u8],
) -> Vec<u8> {
    let header = ipv6::Header {
        traffic_class: 0,
        next_header,
        hop_limit: 64,
        source: source.octets(),
        destination: destination.octets(),
    };
    [&header.to_bytes(payload.len())[..], payload].concat()
}

/// A segment or datagram with its checksum.
pub(super) fn segment(
    kind: Kind,
    source: End,
    destination: End,
    payload: &[u8],
) -> (Protocol, Vec<u8>) {
    let mut bytes = [source.1.to_be_bytes(), destination.1.to_be_bytes()].concat();
    let (protocol, at) = match kind {
        Kind::Tcp(flags) => {
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
            (Protocol::TCP, transport::TCP_CHECKSUM)
        }
        _ => {
            bytes.extend((8 + payload.len() as u16).to_be_bytes());
            bytes.extend([0, 0]);
            (Protocol::UDP, transport::UDP_CHECKSUM)
        }
    };
    bytes.extend(payload);
    if kind != Kind::UdpWithoutChecksum {
        let pseudo = pseudo(protocol, source.0, destination.0, bytes.len());
        let sum = !checksum::fold(checksum::sum(&bytes, pseudo));
        transport::set_field(&mut bytes, at, sum);
    }
    (protocol, bytes)
}

pub(super) fn pseudo(
    protocol: Protocol,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    length: usize,
) -> u32 {
    let (source, destination) = (source.octets(), destination.octets());
    checksum::pseudo_v6(source, destination, protocol.0, length as u32)
}

pub(super) fn packet(kind: Kind, source: End, destination: End) -> Vec<u8> {
    let (protocol, segment) = segment(kind, source, destination, b"hello");
    carried(protocol.0, source.0, destination.0, &segment)
}

pub(super) fn syn() -> Vec<u8> {
    packet(Kind::Tcp(SYN), (CLIENT6, 40001), (VIP6, 80))
}

/// With extension headers in front of what it carries, each with its kind first.
pub(super) fn extended(mut packet: Vec<u8>, extensions: &[&[u8]]) -> Vec<u8> {
    let mut next = packet[6];
    let mut chain = Vec::new();
    for extension in extensions.iter().rev() {
        chain.splice(0..0, [&[next], &extension[1..]].concat());
        next = extension[0];
    }
    packet[6] = next;
    let length = (packet.len() - ipv6::HEADER + chain.len()) as u16;
    transport::set_field(&mut packet, 4, length);
    packet.splice(ipv6::HEADER..ipv6::HEADER, chain);
    packet
}

/// Ends of a packet, after its checksum was verified.
pub(super) fn read6(packet: &[u8]) -> (End, End) {
    let ip = Ip::read(packet).unwrap();
    let segment = ip.payload(packet);
    let [source, destination] =
        [ip.source, ip.destination].map(|end| Ipv6Addr::from(end.to_bytes()));
    let pseudo = pseudo(ip.protocol, source, destination, segment.len());
    assert_eq!(checksum::fold(checksum::sum(segment, pseudo)), 0xffff);
    let (from, to) = transport::ports(segment).unwrap();
    ((source, from), (destination, to))
}

#[test]
fn nat_rewrites_both_ways() {
    for (kind, port, inner, answer) in [
        (Kind::Tcp(SYN), 80, 8080, Kind::Tcp(SYN_ACK)),
        (Kind::Udp, 53, 5353, Kind::Udp),
    ] {
        let mut director = director6(ForwardMethod::Nat);
        let asked = packet(kind, (CLIENT6, 40001), (VIP6, port));
        let request = from_client(&mut director, &asked);
        assert_eq!(request.verdict, Verdict::Forward(INSIDE));
        assert_eq!(request.ethernet, (SERVER_MAC, INSIDE_MAC));
        assert_eq!(read6(&request.packet), ((CLIENT6, 40001), (SERVER6, inner)));
        assert_eq!(Ip::read(&request.packet).unwrap().ttl, 63);

        let answer = packet(answer, (SERVER6, inner), (CLIENT6, 40001));
        let reply = from_server(&mut director, &answer);
        assert_eq!(reply.verdict, Verdict::Forward(OUTSIDE));
        assert_eq!(reply.ethernet, (CLIENT_MAC, OUTSIDE_MAC));
        assert_eq!(read6(&reply.packet), ((VIP6, port), (CLIENT6, 40001)));
    }
}

#[test]
fn a_client_behind_a_router_with_a_link_local_address_is_answered_through_it() {
    let mut director = director6(ForwardMethod::Nat);
    let syn = packet(Kind::Tcp(SYN), (FAR_CLIENT6, 40001), (VIP6, 80));
    from_client(&mut director, &syn);
    let answer = packet(Kind::Tcp(SYN_ACK), (SERVER6, 8080), (FAR_CLIENT6, 40001));
    let reply = from_server(&mut director, &answer);
    assert_eq!(reply.ethernet, (GATEWAY_MAC, OUTSIDE_MAC));
}

#[test]
fn direct_routing_changes_the_hop_limit_only() {
    let mut director = director6(ForwardMethod::Direct);
    let mut asked = extended(syn(), &[&[ipv6::DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0]]);
    let out = from_client(&mut director, &asked);
    assert_eq!(out.verdict, Verdict::Forward(INSIDE));
    assert_eq!(out.ethernet, (SERVER_MAC, INSIDE_MAC));
    asked[7] = 63;
    assert_eq!(out.packet, asked);
}

#[test]
fn partial_checksums_and_segments_go_through_whole() {
    for (kind, port, gso_type, at) in [
        (Kind::Tcp(ACK), 80, 4, transport::TCP_CHECKSUM),
        (Kind::Udp, 53, 5, transport::UDP_CHECKSUM),
    ] {
        let mut director = director6(ForwardMethod::Nat);
        if port == 80 {
            from_client(&mut director, &syn());
        }
        let (protocol, mut segment) = segment(kind, (CLIENT6, 40001), (VIP6, port), &[7; 20_000]);
        let sum = pseudo(protocol, CLIENT6, VIP6, segment.len());
        transport::set_field(&mut segment, at, checksum::fold(sum));
        let packet = carried(protocol.0, CLIENT6, VIP6, &segment);
        let vnet = VnetHeader {
            flags: NEEDS_CSUM,
            gso_type,
            hdr_len: 74,
            gso_size: 1440,
            csum_start: 54,
            csum_offset: at as u16,
        };
        let out = offered(&mut director, vnet, &packet);
        // 1440 bytes and 60 of headers are just what the link takes.
        assert_eq!(out.verdict, Verdict::Forward(INSIDE), "{kind:?}");
        assert_eq!(out.vnet, vnet);
        let (_, destination) = read6(&completed(out.vnet, &out.packet));
        assert_eq!(destination.0, SERVER6);
    }
}

#[test]
fn a_datagram_never_leaves_nat_without_a_checksum() {
    let mut director = director6(ForwardMethod::Nat);
    let bare = packet(Kind::UdpWithoutChecksum, (CLIENT6, 40001), (VIP6, 53));
    let out = from_client(&mut director, &bare);
    assert_eq!(read6(&out.packet).1, (SERVER6, 5353));
}

#[test]
fn nobody_can_have_sent_from_these_addresses() {
    let mut director = director6(ForwardMethod::Nat);
    for source in ["::", "::1", "ff02::1", "::ffff:10.0.0.10"] {
        let source: Ipv6Addr = source.parse().unwrap();
        let syn = packet(Kind::Tcp(SYN), (source, 40001), (VIP6, 80));
        let out = from_client(&mut director, &syn);
        assert_eq!(out.verdict, Verdict::Drop(Reason::MartianSource));
    }
    // A VIP of IPv4 in the form that only this program gives it.
    let mapped = std::net::Ipv4Addr::from(VIP).to_ipv6_mapped();
    let syn = packet(Kind::Tcp(SYN), (CLIENT6, 40001), (mapped, 80));
    assert_eq!(from_client(&mut director, &syn).verdict, Verdict::Local);
}

#[test]
fn extension_headers_are_passed_over_or_the_hosts() {
    let hop_by_hop = [ipv6::HOP_BY_HOP, 0, 1, 4, 0, 0, 0, 0];
    let options = [ipv6::DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0];
    let passed = [ipv6::ROUTING, 0, 4, 0, 0, 0, 0, 0];
    let routed = [ipv6::ROUTING, 0, 0, 1, 0, 0, 0, 0];
    let atomic = [ipv6::FRAGMENT, 0, 0, 0, 0, 0, 0, 9];
    let (ours, hosts) = (Verdict::Forward(INSIDE), Verdict::Local);
    for (extensions, verdict) in [
        (&[&hop_by_hop[..], &options, &passed][..], ours),
        (&[&atomic], ours),
        (&[&options[..]; 5], ours),
        (&[&options[..]; 6], hosts),
        (&[&routed], hosts),
        (&[&options, &hop_by_hop], hosts),
    ] {
        let mut director = director6(ForwardMethod::Nat);
        let asked = extended(syn(), extensions);
        let out = from_client(&mut director, &asked);
        assert_eq!(out.verdict, verdict, "{extensions:?}");
        match verdict {
            Verdict::Local => assert_eq!(out.packet, asked),
            _ => assert_eq!(read6(&out.packet).1, (SERVER6, 8080)),
        }
        let connections = director.balancer.connection_count();
        assert_eq!(connections, usize::from(verdict == ours));
    }
}

/// The one ICMP error that was sent: sender, receiver, message.
pub(super) fn error_sent(outcome: &Outcome) -> (Ipv6Addr, Ipv6Addr, Vec<u8>) {
    let [Outgoing::Transmit(_, frame)] = &outcome.outbox[..] else {
        panic!("{outcome:?}")
    };
    assert_eq!(frame[22..24], [0x86, 0xdd]);
    let packet = &frame[24..];
    let ip = Ip::read(packet).unwrap();
    assert_eq!((ip.protocol, ip.ttl), (Protocol::ICMPV6, 64));
    let message = ip.payload(packet);
    let (source, destination) = (ip.source.to_bytes(), ip.destination.to_bytes());
    assert!(icmpv6::verifies(message, source, destination));
    (source.into(), destination.into(), message.to_vec())
}

#[test]
fn both_ends_are_reset_when_their_server_is_removed() {
    let mut director = director6(ForwardMethod::Nat);
    let key = ServiceKey::new(Protocol::TCP, VIP6, 80);
    let spec = ServiceSpec {
        beyond: Beyond {
            server_gone: Some(ServerGone::Reset),
            ..Beyond::default()
        },
        ..ServiceSpec::new(key, "rr")
    };
    director.apply(NOW, &Operation::EditService(spec)).unwrap();
    for flags in [SYN, ACK] {
        from_client(
            &mut director,
            &packet(Kind::Tcp(flags), (FAR_CLIENT6, 4000), (VIP6, 80)),
        );
    }
    let server = ServerKey {
        address: SERVER6.into(),
        port: 8080,
    };
    director
        .apply(NOW, &Operation::DeleteServer(key, server))
        .unwrap();
    let mut outbox = Outbox::default();
    director.handle_timeout(NOW + std::time::Duration::from_millis(1), &mut outbox);
    let told: Vec<(End, End)> = outbox
        .drain()
        .map(|outgoing| match outgoing {
            Outgoing::Transmit(_, frame) => {
                assert_eq!(frame[22..24], [0x86, 0xdd]);
                assert_eq!(frame[24 + 40 + 13], 0x14, "a reset");
                read6(&frame[24..])
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let client = (FAR_CLIENT6, 4000);
    assert_eq!(told, [((VIP6, 80), client), (client, (SERVER6, 8080))]);
}

#[test]
fn frames_of_the_family_are_told_by_their_type() {
    let mut director = director6(ForwardMethod::Nat);
    let mut other = frame_of(OUTSIDE_MAC, &syn());
    other[12..14].copy_from_slice(&[0x88, 0xa8]);
    assert!(!director.takes(PortId(0), &other));
    assert!(director.takes(PortId(0), &frame_of(OUTSIDE_MAC, &syn())));
}

pub(super) fn frame_of(to: Mac, packet: &[u8]) -> Vec<u8> {
    [&to.0[..], &[2; 6], &[0x86, 0xdd], packet].concat()
}

proptest! {
    /// Whatever extension headers and payloads: no panic, never a connection for somebody else's address, and
    /// nothing goes on that the capture would not have taken.
    #[test]
    fn garbage_is_survived(
        next in prop::sample::select(vec![0_u8, 6, 17, 43, 44, 58, 60]),
        length in prop::option::of(any::<u16>()),
        rest in prop::collection::vec(any::<u8>(), 0..1300),
        to_vip in any::<bool>(),
        vnet in any::<[u8; 10]>(),
        method in prop::sample::select(vec![
            ForwardMethod::Nat, ForwardMethod::Direct, ForwardMethod::Tunnel,
        ]),
    ) {
        let mut director = director6(method);
        set_mtu(&mut director, 1, INSIDE_MAC, 1280);
        let to = if to_vip { VIP6 } else { FAR_CLIENT6 };
        let mut packet = carried(next, CLIENT6, to, &rest);
        if let Some(length) = length {
            transport::set_field(&mut packet, 4, length);
        }
        let taken = director.takes(OUTSIDE, &frame_of(OUTSIDE_MAC, &packet));
        let out = offered(&mut director, VnetHeader::from_bytes(vnet), &packet);
        prop_assert!(to_vip || director.balancer.connection_count() == 0);
        prop_assert!(taken || out.verdict != Verdict::Forward(INSIDE));
    }
}

/// Two servers of FTP that wait for the same client at the same port: the second one's words become longer.
#[test]
fn words_of_ftp_grow_with_their_packet() {
    let mut director = director6(ForwardMethod::Nat);
    let key = ServiceKey::new(Protocol::TCP, VIP6, 21);
    let other = Ipv6Addr::from(SERVER6.to_bits() + 1);
    let method = ForwardMethod::Nat;
    for operation in [
        Operation::AddService(ServiceSpec::new(key, "rr")),
        Operation::AddServer(key, ServerSpec::new(SERVER6, 21, method, 1)),
        Operation::AddServer(key, ServerSpec::new(other, 21, method, 1)),
    ] {
        director.apply(NOW, &operation).unwrap();
    }
    // The newest server is the first.
    let words = |port| format!("229 Entering Extended Passive Mode (|||{port}|)\r\n");
    for (port, server, told) in [(4000, other, 9999), (4001, SERVER6, 10000)] {
        let client = (CLIENT6, port);
        from_client(&mut director, &packet(Kind::Tcp(SYN), client, (VIP6, 21)));
        let data = words(9999);
        let (protocol, segment) = segment(Kind::Tcp(ACK), (server, 21), client, data.as_bytes());
        let packet = carried(protocol.0, server, CLIENT6, &segment);
        let outcome = from_server(&mut director, &packet);
        let [Outgoing::Transmit(OUTSIDE, frame)] = &outcome.outbox[..] else {
            panic!("{outcome:?}");
        };
        assert_eq!(read6(&frame[24..]), ((VIP6, 21), client));
        assert_eq!(frame[24 + 60..], *words(told).as_bytes());
    }
    let data = packet(Kind::Tcp(SYN), (CLIENT6, 5555), (VIP6, 10000));
    let there = from_client(&mut director, &data);
    assert_eq!(there.verdict, Verdict::Forward(INSIDE));
    assert_eq!(read6(&there.packet).1, (SERVER6, 9999));
}

#[test]
fn sctp_is_balanced_over_ipv6_as_well() {
    let mut director = director6(ForwardMethod::Nat);
    let key = ServiceKey::new(Protocol::SCTP, VIP6, 36412);
    for operation in [
        Operation::AddService(ServiceSpec::new(key, "rr")),
        Operation::AddServer(key, ServerSpec::new(SERVER6, 3868, ForwardMethod::Nat, 1)),
    ] {
        director.apply(NOW, &operation).unwrap();
    }
    let packet = |from: End, to: End, kind: u8| {
        let mut body = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
        body.extend([0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0, kind, 0, 0, 4]);
        sctp::sum_up(&mut body);
        carried(Protocol::SCTP.0, from.0, to.0, &body)
    };
    let ends = |packet: &[u8]| {
        let ip = Ip::read(packet).unwrap();
        assert!(sctp::verifies(ip.payload(packet)), "CRC32c");
        let (from, to) = transport::ports(ip.payload(packet)).unwrap();
        ((ip.source, from), (ip.destination, to))
    };
    let (client, vip, server) = ((CLIENT6, 40001), (VIP6, 36412), (SERVER6, 3868));
    let at = |end: End| (addr(end.0), end.1);
    let init = packet(client, vip, sctp::chunk::INIT);
    // Also where the sender has left the sum to its card.
    let mut left = init.clone();
    left[48..52].fill(0);
    let vnet = VnetHeader {
        flags: NEEDS_CSUM,
        csum_start: 54,
        csum_offset: 8,
        ..VnetHeader::default()
    };
    for outcome in [
        from_client(&mut director, &init),
        offered(&mut director, vnet, &left),
    ] {
        assert_eq!(outcome.verdict, Verdict::Forward(INSIDE));
        assert_eq!(ends(&outcome.packet), (at(client), at(server)));
        assert!(!outcome.vnet.is_partial());
    }
    let answer = packet(server, client, sctp::chunk::INIT_ACK);
    let answer = from_server(&mut director, &answer);
    assert_eq!(ends(&answer.packet), (at(vip), at(client)));
    // Its first chunk opens nothing.
    let data = packet((CLIENT6, 40002), vip, 0);
    assert_eq!(from_client(&mut director, &data).verdict, Verdict::Local);
}
