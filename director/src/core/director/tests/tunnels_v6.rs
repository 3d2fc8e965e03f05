//! Tunnels of IPv6, and from one family to the other.

use std::net::{IpAddr, Ipv4Addr};

use shared::addr::{Addr, Family, Protocol};
use shared::wire::icmpv4::{self, Error};
use shared::wire::vnet::{NEEDS_CSUM, VnetHeader};
use shared::wire::{checksum, icmpv6, ipv4, ipv6, transport};

use super::ipv6::{
    CLIENT6, End, INNER6, SERVER6, VIP6, carried, director6, error_sent, packet, pseudo, read6,
    segment,
};
use super::laboratory::*;
use crate::core::director::Director;
use crate::core::ip::{Ip, pseudo as pseudo_of};
use crate::core::net::NetworkEvent;
use crate::core::operation::{
    ForwardMethod, Operation, ServerSpec, ServiceKey, ServiceSpec, Tunnel, TunnelChecksum,
};
use crate::core::reason::Reason;
use crate::core::verdict::{Outbox, Outgoing, Verdict};

/// Inside and outside.
type Mixture = (Family, Family);

const MIXTURES: [Mixture; 3] = [
    (Family::V6, Family::V6),
    (Family::V6, Family::V4),
    (Family::V4, Family::V6),
];

const KINDS: [(&str, Tunnel); 5] = [
    ("ipip", Tunnel::Ipip),
    ("gue-nocsum", gue(TunnelChecksum::None)),
    ("gue-csum", gue(TunnelChecksum::Full)),
    (
        "gre-nocsum",
        Tunnel::Gre {
            checksum: TunnelChecksum::None,
        },
    ),
    (
        "gre-csum",
        Tunnel::Gre {
            checksum: TunnelChecksum::Full,
        },
    ),
];

const fn gue(checksum: TunnelChecksum) -> Tunnel {
    Tunnel::Gue {
        port: 6080,
        checksum,
    }
}

/// Further services at a port, whose server is of the other family if that is wanted.
fn tunnelling((inside, outside): Mixture, tunnel: Tunnel, port: u16) -> Director {
    let mut director = director6(ForwardMethod::Tunnel);
    let vip: IpAddr = match inside {
        Family::V4 => Ipv4Addr::from(VIP).into(),
        Family::V6 => VIP6.into(),
    };
    let server: IpAddr = match outside {
        Family::V4 => Ipv4Addr::from(SERVER).into(),
        Family::V6 => SERVER6.into(),
    };
    for protocol in [Protocol::TCP, Protocol::UDP] {
        let key = ServiceKey::new(protocol, vip, port);
        let mut server = ServerSpec::new(server, port, ForwardMethod::Tunnel, 1);
        server.tunnel = tunnel;
        for operation in [
            Operation::AddService(ServiceSpec::new(key, "rr")),
            Operation::AddServer(key, server),
        ] {
            director.apply(NOW, &operation).unwrap();
        }
    }
    let clients: [IpAddr; 2] = [Ipv4Addr::from(CLIENT).into(), CLIENT6.into()];
    for client in clients {
        let client = NetworkEvent::Neighbour {
            ifindex: 0,
            address: client.into(),
            mac: CLIENT_MAC,
        };
        director.network_changed(client, &mut Outbox::default());
    }
    director
}

fn datagram(inside: Family, port: u16, payload: &[u8]) -> Vec<u8> {
    match inside {
        Family::V4 => {
            let mut sketch = udp((CLIENT, 40000), (VIP, port));
            sketch.payload = payload.to_vec();
            sketch.fragment = ipv4::DF;
            sketch.packet()
        }
        Family::V6 => {
            let ends: (End, End) = ((CLIENT6, 40000), (VIP6, port));
            let (protocol, segment) = segment(Kind::Udp, ends.0, ends.1, payload);
            carried(protocol.0, CLIENT6, VIP6, &segment)
        }
    }
}

/// What is inside of an outer packet, whose own checksums are verified.
fn inside(outer: &[u8]) -> Vec<u8> {
    let ip = Ip::read(outer).unwrap();
    assert_eq!(ip.total, outer.len());
    if ip.family() == Family::V4 {
        assert!(checksum::verifies(&outer[..ip.header]));
    }
    let behind = &outer[ip.header..];
    let from = match ip.protocol {
        Protocol(4 | 41) => 0,
        Protocol(47) if behind[0] & 0x80 != 0 => {
            assert!(checksum::verifies(behind));
            8
        }
        Protocol(47) => 4,
        Protocol::UDP => {
            if transport::field(behind, transport::UDP_CHECKSUM) != Some(0) {
                let (from, to) = (ip.source, ip.destination);
                let pseudo = pseudo_of(from, to, Protocol::UDP, behind.len() as u16);
                assert_eq!(checksum::fold(checksum::sum(behind, pseudo)), 0xffff);
            }
            12
        }
        other => panic!("{other}"),
    };
    behind[from..].to_vec()
}

/// With one router less to go.
fn passed(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 6 {
        packet[7] -= 1;
        return packet;
    }
    ipv4::Packet::new_checked(&mut packet[..])
        .unwrap()
        .decrement_ttl();
    packet
}

#[test]
fn each_family_travels_in_either() {
    for mixture in MIXTURES {
        for (name, tunnel) in KINDS {
            let mut director = tunnelling(mixture, tunnel, 90);
            let (family, outside) = mixture;
            let asked = datagram(family, 90, b"hello");
            let out = from_client(&mut director, &asked);
            assert_eq!(out.verdict, Verdict::Forward(INSIDE), "{mixture:?} {name}");
            assert_eq!(out.ethernet, (SERVER_MAC, INSIDE_MAC));
            assert_eq!(inside(&out.packet), passed(asked));
            let outer = Ip::read(&out.packet).unwrap();
            let (from, to) = match outside {
                Family::V4 => (Addr::from_v4_bytes(INNER), Addr::from_v4_bytes(SERVER)),
                Family::V6 => (
                    Addr::from(IpAddr::from(INNER6)),
                    Addr::from(IpAddr::from(SERVER6)),
                ),
            };
            assert_eq!((outer.source, outer.destination, outer.ttl), (from, to, 63));
        }
    }
}

/// The recorded datagrams left before anybody had completed their own checksums; those outside count on it.
fn completed_inside(mut outer: Vec<u8>) -> Vec<u8> {
    let datagram = outer.len() - 13;
    let sum = !checksum::fold(checksum::sum(&outer[datagram..], 0));
    let field = &mut outer[datagram..];
    transport::set_field(field, transport::UDP_CHECKSUM, sum);
    outer
}

/// All that differs is what the kernel chose freely: identifications, and the ports of flows.
#[test]
fn the_kernel_made_the_same_of_it() {
    for line in include_str!("tunnels_v6.txt").lines() {
        let mut words = line.split_whitespace();
        let (Some(kind), Some(port), Some(recorded)) = (words.next(), words.next(), words.next())
        else {
            panic!("{line}");
        };
        if kind == "#" {
            continue;
        }
        let port: u16 = port.parse().unwrap();
        let theirs: Vec<u8> = (0..recorded.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&recorded[at..at + 2], 16).unwrap())
            .collect();
        let theirs = completed_inside(theirs);
        let carried = inside(&theirs);
        let family = |packet: &[u8]| Ip::read(packet).unwrap().family();
        let mixture = (family(&carried), family(&theirs));
        let (_, tunnel) = KINDS.into_iter().find(|(name, _)| *name == kind).unwrap();
        let mut director = tunnelling(mixture, tunnel, port);
        let mut asked = carried;
        match mixture.0 {
            Family::V6 => asked[7] += 1,
            Family::V4 => {
                let mut edit = ipv4::Edit::new(&mut asked).unwrap();
                edit.increment_ttl();
                edit.finish();
            }
        }
        let out = from_client(&mut director, &asked);
        assert_eq!(out.verdict, Verdict::Forward(INSIDE), "{line}");
        // The sums were verified by `inside`.
        let free = |mut packet: Vec<u8>| {
            inside(&packet);
            let header = Ip::read(&packet).unwrap().header;
            if mixture.1 == Family::V4 {
                packet[4..6].fill(0);
                packet[10..12].fill(0);
            }
            if matches!(tunnel, Tunnel::Gue { .. }) {
                packet[header..header + 2].fill(0);
                let summed = packet[header + 6..header + 8] != [0, 0];
                packet[header + 6..header + 8].fill(u8::from(summed));
            }
            packet
        };
        assert_eq!(free(out.packet), free(theirs), "{line}");
    }
}

#[test]
fn the_encapsulation_counts_when_a_packet_is_too_big() {
    for (mixture, overhead) in MIXTURES.into_iter().zip([40, 20, 40]) {
        let mut director = tunnelling(mixture, Tunnel::Ipip, 90);
        let (family, _) = mixture;
        let room = 1500 - overhead;
        let empty = datagram(family, 90, b"").len();
        let fits = datagram(family, 90, &vec![7; room - empty]);
        let out = from_client(&mut director, &fits);
        assert_eq!(out.verdict, Verdict::Forward(INSIDE), "{mixture:?}");
        assert_eq!(out.packet.len(), 1500);
        let large = datagram(family, 90, &vec![7; room - empty + 1]);
        let out = from_client(&mut director, &large);
        assert_eq!(out.verdict, Verdict::Drop(Reason::TooBig), "{mixture:?}");
        let told = match family {
            Family::V6 => icmpv6::next_mtu(&error_sent(&out).2),
            Family::V4 => {
                let [Outgoing::Transmit(_, frame)] = &out.outbox[..] else {
                    panic!("{out:?}")
                };
                icmpv4::next_mtu(&frame[44..]).map(u32::from)
            }
        };
        assert_eq!(told, Some(room as u32), "{mixture:?}");
    }
}

/// Of the pieces of one outer packet.
fn joined(pieces: &[Outgoing]) -> Vec<u8> {
    let mut whole = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        let Outgoing::Transmit(INSIDE, frame) = piece else {
            panic!("{piece:?}")
        };
        let packet = &frame[24..];
        assert!(packet.len() <= 1280);
        let ip = Ip::read(packet).unwrap();
        let part = ip.piece.expect("a fragment");
        assert_eq!(usize::from(part.offset), whole.len());
        assert_eq!(part.more, number + 1 < pieces.len());
        whole.extend(ip.payload(packet));
    }
    whole
}

#[test]
fn what_every_link_of_ipv6_takes_goes_through_the_narrowest_tunnel() {
    for outside in [Family::V6, Family::V4] {
        let mut director = tunnelling((Family::V6, outside), Tunnel::Ipip, 90);
        set_mtu(&mut director, 1, INSIDE_MAC, 1280);
        let large = datagram(Family::V6, 90, &[7; 1233]);
        let out = from_client(&mut director, &large);
        assert_eq!(out.verdict, Verdict::Drop(Reason::TooBig));
        assert_eq!(icmpv6::next_mtu(&error_sent(&out).2), Some(1280));
        let least = datagram(Family::V6, 90, &[7; 1232]);
        let out = from_client(&mut director, &least);
        assert_eq!(out.verdict, Verdict::Consumed);
        assert_eq!(out.outbox.len(), 2);
        assert_eq!(joined(&out.outbox), passed(least));
    }
}

/// A packet of TCP that is to be cut into segments of so many bytes.
fn of_many_segments(ends: (End, End), size: u16, data: &[u8]) -> (VnetHeader, Vec<u8>) {
    let (protocol, mut whole) = segment(Kind::Tcp(ACK), ends.0, ends.1, data);
    let sum = checksum::fold(pseudo(protocol, CLIENT6, VIP6, whole.len()));
    transport::set_field(&mut whole, transport::TCP_CHECKSUM, sum);
    let vnet = VnetHeader {
        flags: NEEDS_CSUM,
        gso_type: 4,
        hdr_len: 74,
        gso_size: size,
        csum_start: 54,
        csum_offset: transport::TCP_CHECKSUM as u16,
    };
    (vnet, carried(protocol.0, CLIENT6, VIP6, &whole))
}

#[test]
fn frames_of_many_segments_are_cut_and_each_has_its_tunnel() {
    for outside in [Family::V6, Family::V4] {
        let mut director = tunnelling((Family::V6, outside), Tunnel::Ipip, 90);
        let ends = ((CLIENT6, 40001), (VIP6, 90));
        from_client(&mut director, &packet(Kind::Tcp(SYN), ends.0, ends.1));
        let data: Vec<u8> = (0..5000_u32).map(|at| (at / 7) as u8).collect();
        let (vnet, asked) = of_many_segments(ends, 1400, &data);
        let frames = train(&mut director, vnet, &asked);
        assert_eq!(frames.len(), 4);
        let mut came: Vec<u8> = Vec::new();
        for (number, (vnet, frame)) in frames.iter().enumerate() {
            let carried = inside(&completed(*vnet, frame));
            read6(&carried);
            let sequence = transport::field(&carried, ipv6::HEADER + 6).unwrap();
            assert_eq!(usize::from(sequence), 1 + number * 1400);
            came.extend(&carried[ipv6::HEADER + 20..]);
        }
        assert_eq!(came, data);
    }
}

/// Of TCP the receiver need not put anything together.
#[test]
fn segments_that_every_link_of_ipv6_takes_are_cut_for_the_narrowest_tunnel() {
    for outside in [Family::V6, Family::V4] {
        let mut director = tunnelling((Family::V6, outside), Tunnel::Ipip, 90);
        set_mtu(&mut director, 1, INSIDE_MAC, 1280);
        let ends = ((CLIENT6, 40001), (VIP6, 90));
        from_client(&mut director, &packet(Kind::Tcp(SYN), ends.0, ends.1));
        let data: Vec<u8> = (0..3660_u32).map(|at| (at / 7) as u8).collect();
        let (protocol, mut whole) = segment(Kind::Tcp(ACK), ends.0, ends.1, &data[..1220]);
        let nothing = VnetHeader::default();
        let asked = carried(protocol.0, CLIENT6, VIP6, &whole);
        let mut came = Vec::new();
        let of_one = train(&mut director, nothing, &asked);
        let (vnet, many) = of_many_segments(ends, 1220, &data);
        let of_many = train(&mut director, vnet, &many);
        assert_eq!((of_one.len(), of_many.len()), (2, 4));
        for (vnet, frame) in of_one.iter().chain(&of_many) {
            assert!(frame.len() <= 1280);
            let carried = inside(&completed(*vnet, frame));
            read6(&carried);
            came.extend_from_slice(&carried[ipv6::HEADER + 20..]);
        }
        assert!(came == [&data[..1220], &data].concat());
        // Nobody makes a right sum of a wrong one.
        whole[30] ^= 1;
        let spoilt = carried(protocol.0, CLIENT6, VIP6, &whole);
        let out = from_client(&mut director, &spoilt);
        assert_eq!(joined(&out.outbox), passed(spoilt));
    }
}

/// A router on the tunnel's way speaks the outer family, and the client hears of it in its own.
#[test]
fn a_narrow_link_in_the_tunnel_is_told_to_the_client() {
    for mixture @ (family, outside) in MIXTURES {
        let mut director = tunnelling(mixture, gue(TunnelChecksum::Full), 90);
        let data = datagram(family, 90, &[7; 1300]);
        let out = from_client(&mut director, &data);
        assert_eq!(out.verdict, Verdict::Forward(INSIDE));
        let narrow = Error::FragmentationNeeded { mtu: 1350 };
        let error = match outside {
            Family::V4 => super::errors::about(&out.packet, narrow, SERVER, INNER),
            Family::V6 => {
                let (from, to) = (SERVER6.octets(), INNER6.octets());
                let message = icmpv6::message(narrow, from, to, &out.packet[..1200]);
                carried(58, SERVER6, INNER6, &message)
            }
        };
        let told = from_server(&mut director, &error);
        assert_eq!(told.verdict, Verdict::Consumed, "{mixture:?}");
        let [Outgoing::Transmit(OUTSIDE, frame)] = &told.outbox[..] else {
            panic!("{mixture:?}: {told:?}")
        };
        let heard = Ip::read(&frame[24..]).unwrap();
        assert_eq!(heard.family(), family);
        let message = heard.payload(&frame[24..]);
        let overhead = if outside == Family::V6 { 52 } else { 32 };
        let expected = (1350 - overhead).max(if family == Family::V6 { 1280 } else { 0 });
        let mtu = match family {
            Family::V4 => icmpv4::next_mtu(message).map(u32::from),
            Family::V6 => icmpv6::next_mtu(message),
        };
        assert_eq!(mtu, Some(expected), "{mixture:?}");
    }
}
