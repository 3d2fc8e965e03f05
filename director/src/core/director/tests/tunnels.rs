//! Forwarding by tunnel.

use std::time::Duration;

use shared::wire::icmpv4::{self, Error};
use shared::wire::ipv4::{self, Packet};
use shared::wire::vnet::VnetHeader;
use shared::wire::{checksum, transport};

use super::errors::about;
use super::fragments;
use super::laboratory::*;
use crate::core::capture::CaptureKey;
use crate::core::director::Director;
use crate::core::frame::{self, Frame};
use crate::core::net::NetworkEvent;
use crate::core::operation::{
    ForwardMethod, Operation, ServerSpec, ServiceKey, Tunnel, TunnelChecksum,
};
use crate::core::reason::Reason;
use crate::core::verdict::{Outbox, Outgoing, Verdict};
use shared::addr::{Addr, Protocol};

const GUE: Tunnel = Tunnel::Gue {
    port: 6080,
    checksum: TunnelChecksum::Full,
};

pub(crate) fn tunnelling(tunnel: Tunnel) -> Director {
    let mut director = director(ForwardMethod::Tunnel);
    for (protocol, port) in [(Protocol::TCP, 80), (Protocol::UDP, 53)] {
        let key = ServiceKey::new(protocol, std::net::Ipv4Addr::from(VIP), port);
        let (address, method) = (std::net::Ipv4Addr::from(SERVER), ForwardMethod::Tunnel);
        let mut server = ServerSpec::new(address, port, method, 1);
        server.tunnel = tunnel;
        director
            .apply(NOW, &Operation::EditServer(key, server))
            .unwrap();
    }
    let client = NetworkEvent::Neighbour {
        ifindex: 0,
        address: Addr::from_v4_bytes(CLIENT),
        mac: CLIENT_MAC,
    };
    director.network_changed(client, &mut Outbox::default());
    director
}

/// What is inside of an outer packet between director and server.
fn inside(tunnel: Tunnel, outer: &[u8]) -> Vec<u8> {
    let packet = Packet::new_checked(outer).unwrap();
    assert_eq!((packet.source(), packet.destination()), (INNER, SERVER));
    let (protocol, behind_ip) = match tunnel {
        Tunnel::Ipip => (4, 0),
        Tunnel::Gue { .. } => (17, 12),
        Tunnel::Gre { .. } => (47, 4),
    };
    assert_eq!(packet.protocol(), protocol);
    packet.payload()[behind_ip..].to_vec()
}

fn syn() -> Sketch {
    tcp((CLIENT, 40001), (VIP, 80), SYN)
}

fn at(director: &mut Director, now: shared::time::Time, packet: &[u8]) -> (Verdict, Vec<Outgoing>) {
    let mut buffer = vec![0; 64];
    let vnet = VnetHeader::default();
    buffer.extend(frame::compose(OUTSIDE_MAC, CLIENT_MAC, vnet, &[packet]));
    let end = buffer.len();
    let mut frame = Frame::new(&mut buffer, 64, end).unwrap();
    let mut outbox = Outbox::default();
    let verdict = director.handle_frame(now, OUTSIDE, &mut frame, &mut outbox);
    (verdict, outbox.drain().collect())
}

#[test]
fn packets_travel_inside_others() {
    for tunnel in [
        Tunnel::Ipip,
        GUE,
        Tunnel::Gre {
            checksum: TunnelChecksum::None,
        },
    ] {
        let mut director = tunnelling(tunnel);
        for sketch in [syn(), udp((CLIENT, 40001), (VIP, 53))] {
            let out = from_client(&mut director, &sketch.packet());
            assert_eq!(out.verdict, Verdict::Forward(INSIDE));
            assert_eq!(out.ethernet, (SERVER_MAC, INSIDE_MAC));
            let inner = inside(tunnel, &out.packet);
            let expected = Sketch { ttl: 63, ..sketch };
            assert_eq!(inner, expected.packet());
            let outer = Packet::new_checked(&out.packet).unwrap();
            let fragile = expected.fragment == ipv4::DF;
            assert_eq!((outer.ttl(), outer.dont_fragment()), (63, fragile));
            // What is not to be fragmented needs no identification.
            assert_eq!(outer.identification() == 0, fragile);
        }
        let captures = director.balancer.captures();
        let users = captures
            .keys()
            .filter(|key| matches!(key, CaptureKey::Tunnel { .. }));
        assert_eq!(users.count(), 1);
    }
}

#[test]
fn a_route_says_which_address_the_director_uses() {
    let mut director = tunnelling(Tunnel::Ipip);
    from_client(&mut director, &syn().packet());
    let NetworkEvent::Route(mut preferred) = route([10, 1, 0, 0], 24, 1, None) else {
        unreachable!()
    };
    preferred.source = Some(Addr::from_v4_bytes([10, 0, 0, 1]));
    director.network_changed(NetworkEvent::Route(preferred), &mut Outbox::default());
    let out = from_client(&mut director, &syn().packet());
    let outer = Packet::new_checked(&out.packet).unwrap();
    assert_eq!(outer.source(), [10, 0, 0, 1]);
}

#[test]
fn partial_checksums_move_with_the_packet() {
    for tunnel in [Tunnel::Ipip, GUE] {
        let mut director = tunnelling(tunnel);
        let (vnet, packet) = syn().partial(0);
        let out = offered(&mut director, vnet, &packet);
        assert_eq!(out.verdict, Verdict::Forward(INSIDE));
        assert!(out.vnet.is_partial());
        let whole = completed(out.vnet, &out.packet);
        read(&inside(tunnel, &whole));
        if tunnel == GUE {
            read(&whole);
        }
    }
}

#[test]
fn the_encapsulation_counts_when_a_packet_is_too_big() {
    for (tunnel, overhead) in [(Tunnel::Ipip, 20), (GUE, 32)] {
        let mut director = tunnelling(tunnel);
        for (bytes, fits) in [(1500 - overhead, true), (1501 - overhead, false)] {
            let sketch = Sketch {
                payload: vec![7; bytes - 40],
                ..syn()
            };
            let out = from_client(&mut director, &sketch.packet());
            if fits {
                assert_eq!(out.verdict, Verdict::Forward(INSIDE));
                assert_eq!(out.packet.len(), 1500);
                continue;
            }
            assert_eq!(out.verdict, Verdict::Drop(Reason::TooBig));
            let [Outgoing::Transmit(_, frame)] = &out.outbox[..] else {
                panic!("{out:?}")
            };
            let packet = Packet::new_checked(&frame[24..]).unwrap();
            let mtu = icmpv4::next_mtu(packet.payload()).map(usize::from);
            assert_eq!(mtu, Some(1500 - overhead));
            // It left where replies of the connection would.
            let totals = director.balancer.totals();
            assert_eq!((totals.out_packets, totals.out_bytes), (1, 576));
        }
    }
}

#[test]
fn what_may_be_fragmented_is_cut_before_it_goes_into_the_tunnel() {
    let mut director = tunnelling(GUE);
    let sketch = Sketch {
        payload: (0..1472).map(|n| n as u8).collect(),
        ..udp((CLIENT, 40001), (VIP, 53))
    };
    let (vnet, partial) = sketch.partial(0);
    let out = send(
        &mut director,
        OUTSIDE,
        CLIENT_MAC,
        OUTSIDE_MAC,
        vnet,
        &partial,
    );
    assert_eq!(out.verdict, Verdict::Consumed);
    let mut pieces = Vec::new();
    for outgoing in &out.outbox {
        let Outgoing::Transmit(INSIDE, frame) = outgoing else {
            panic!("{outgoing:?}")
        };
        let outer = Packet::new_checked(&frame[24..]).unwrap();
        assert!(!outer.is_fragment() && outer.total_length() <= 1500);
        read(&frame[24..]);
        pieces.push(inside(GUE, &frame[24..]).to_vec());
    }
    assert_eq!(pieces.len(), 2);
    let whole = fragments::joined(&pieces);
    assert_eq!(read(&whole), ((CLIENT, 40001), (VIP, 53)));
    let expected = Sketch { ttl: 63, ..sketch };
    assert_eq!(whole[20..], expected.packet()[20..]);
}

/// `pmtu_disc` is off: what must not be cut is sent all the same, and only the outer packet can be.
#[test]
fn what_may_not_be_fragmented_but_is_to_be_sent_leaves_in_pieces_of_the_outer_packet() {
    let mut director = tunnelling(GUE);
    let switch = Operation::SetSysctl {
        name: "pmtu_disc".to_owned(),
        value: 0,
    };
    director.apply(NOW, &switch).unwrap();
    let sketch = Sketch {
        payload: (0..1472).map(|n| n as u8).collect(),
        fragment: ipv4::DF,
        ..udp((CLIENT, 40001), (VIP, 53))
    };
    let out = from_client(&mut director, &sketch.packet());
    assert_eq!(out.verdict, Verdict::Consumed);
    let mut whole = Vec::new();
    for outgoing in &out.outbox {
        let Outgoing::Transmit(INSIDE, frame) = outgoing else {
            panic!("{outgoing:?}")
        };
        let piece = Packet::new_checked(&frame[24..]).unwrap();
        assert_eq!(usize::from(piece.fragment_offset()), whole.len());
        assert!(piece.total_length() <= 1500);
        assert_eq!((piece.source(), piece.destination()), (INNER, SERVER));
        whole.extend(piece.payload());
    }
    assert_eq!(out.outbox.len(), 2);
    let expected = Sketch { ttl: 63, ..sketch };
    assert_eq!(whole[12..], expected.packet());
    let pseudo = checksum::pseudo_v4(INNER, SERVER, 17, whole.len() as u16);
    assert_eq!(checksum::fold(checksum::sum(&whole, pseudo)), 0xffff);
}

#[test]
fn frames_of_many_segments_are_cut_and_each_has_its_tunnel() {
    let payload: Vec<u8> = (0..20_000_u32).map(|n| (n / 7) as u8).collect();
    for tunnel in [Tunnel::Ipip, GUE] {
        for (sketch, header) in [(syn(), 40), (udp((CLIENT, 40001), (VIP, 53)), 28)] {
            let mut director = tunnelling(tunnel);
            let sketch = Sketch {
                payload: payload.clone(),
                ..sketch
            };
            let (vnet, packet) = sketch.partial(1400);
            let segments = train(&mut director, vnet, &packet);
            assert_eq!(segments.len(), 15);
            let mut together: Vec<u8> = Vec::new();
            for (vnet, packet) in &segments {
                assert!(vnet.is_partial() && !vnet.is_gso());
                let whole = completed(*vnet, packet);
                let inner = inside(tunnel, &whole);
                read(&inner);
                if tunnel == GUE {
                    read(&whole);
                }
                together.extend(&inner[header..]);
            }
            assert_eq!(together, payload);
            let totals = director.balancer.totals();
            assert_eq!(
                (totals.in_packets, totals.in_bytes),
                (1, packet.len() as u64)
            );
        }
    }
}

#[test]
fn segments_are_judged_by_their_own_size() {
    let mut director = tunnelling(Tunnel::Ipip);
    let sketch = Sketch {
        payload: vec![7; 20_000],
        ..syn()
    };
    let (vnet, packet) = sketch.partial(1440);
    assert_eq!(train(&mut director, vnet, &packet).len(), 14);
    let (vnet, packet) = sketch.partial(1441);
    let out = offered(&mut director, vnet, &packet);
    assert_eq!(out.verdict, Verdict::Drop(Reason::TooBig));
    // Without DF they leave in pieces.
    let (vnet, packet) = Sketch {
        fragment: 0,
        ..sketch
    }
    .partial(1450);
    let out = offered(&mut director, vnet, &packet);
    assert_eq!((out.verdict, out.outbox.len()), (Verdict::Consumed, 27));
    let (mut vnet, packet) = syn().partial(1400);
    vnet.gso_type = 3;
    let out = offered(&mut director, vnet, &packet);
    assert_eq!(out.verdict, Verdict::Drop(Reason::Unsegmentable));
}

#[test]
fn segments_wait_for_a_neighbour_as_other_frames_do() {
    let mut director = tunnelling(Tunnel::Ipip);
    let silent = NetworkEvent::NeighbourFailed {
        ifindex: 1,
        address: Addr::from_v4_bytes(SERVER),
    };
    director.network_changed(silent, &mut Outbox::default());
    let sketch = Sketch {
        payload: vec![7; 5000],
        ..syn()
    };
    let (vnet, packet) = sketch.partial(1400);
    let out = offered(&mut director, vnet, &packet);
    assert_eq!((out.verdict, out.outbox.len()), (Verdict::Consumed, 0));
    let answer = NetworkEvent::Neighbour {
        ifindex: 1,
        address: Addr::from_v4_bytes(SERVER),
        mac: SERVER_MAC,
    };
    let mut outbox = Outbox::default();
    director.network_changed(answer, &mut outbox);
    let frames: Vec<Outgoing> = outbox.drain().collect();
    assert_eq!(frames.len(), 4);
    for outgoing in frames {
        let Outgoing::Transmit(INSIDE, frame) = outgoing else {
            panic!("{outgoing:?}")
        };
        read(&inside(Tunnel::Ipip, &frame[24..]));
    }
}

#[test]
fn later_fragments_follow_through_the_tunnel_also_when_they_came_first() {
    let mut director = tunnelling(Tunnel::Ipip);
    let sketch = udp((CLIENT, 40001), (VIP, 53));
    let header = |offset: u16, more: u16, bytes: usize| {
        let header = ipv4::Header {
            tos: 0,
            identification: 5,
            fragment: (offset / 8) | more,
            ttl: 64,
            protocol: 17,
            source: CLIENT,
            destination: VIP,
        };
        header.to_bytes(bytes)
    };
    let datagram = &sketch.packet()[20..];
    let first = [&header(0, ipv4::MF, 8)[..], &datagram[..8]].concat();
    let second = [&header(8, 0, datagram.len() - 8)[..], &datagram[8..]].concat();
    assert_eq!(
        from_client(&mut director, &second).verdict,
        Verdict::Consumed
    );
    let out = from_client(&mut director, &first);
    assert_eq!(out.verdict, Verdict::Forward(INSIDE));
    assert_eq!(inside(Tunnel::Ipip, &out.packet)[20..], first[20..]);
    let [Outgoing::Transmit(INSIDE, frame)] = &out.outbox[..] else {
        panic!("{out:?}")
    };
    assert_eq!(inside(Tunnel::Ipip, &frame[24..])[20..], second[20..]);
}

/// A router between director and server, about the outer packet.
fn error_about(outer: &[u8], error: Error) -> Vec<u8> {
    about(&outer[..outer.len().min(80)], error, [10, 1, 0, 254], INNER)
}

#[test]
fn a_narrow_link_in_the_tunnel_is_told_to_the_client_and_remembered_for_ten_minutes() {
    for (tunnel, overhead) in [(Tunnel::Ipip, 20), (GUE, 32)] {
        let mut director = tunnelling(tunnel);
        let large = Sketch {
            payload: vec![7; 1300],
            ..syn()
        };
        let sent = from_client(&mut director, &large.packet());
        let told = Error::FragmentationNeeded { mtu: 1300 };
        let error = error_about(&sent.packet, told);
        let out = from_server(&mut director, &error);
        assert_eq!(out.verdict, Verdict::Consumed);
        let [Outgoing::Transmit(OUTSIDE, frame)] = &out.outbox[..] else {
            panic!("{out:?}")
        };
        let packet = Packet::new_checked(&frame[24..]).unwrap();
        assert_eq!((packet.source(), packet.destination()), (VIP, CLIENT));
        assert!(checksum::verifies(packet.payload()));
        let mtu = icmpv4::next_mtu(packet.payload()).map(usize::from);
        assert_eq!(mtu, Some(1300 - overhead));
        let quoted = &packet.payload()[8..];
        assert_eq!(quoted, &inside(tunnel, &sent.packet)[..quoted.len()]);
        // From now on the director says so itself.
        for (later, verdict) in [
            (1, Verdict::Drop(Reason::TooBig)),
            (599, Verdict::Drop(Reason::TooBig)),
            (601, Verdict::Forward(INSIDE)),
        ] {
            let now = NOW + Duration::from_secs(later);
            assert_eq!(at(&mut director, now, &large.packet()).0, verdict);
        }
    }
}

#[test]
fn nobody_can_make_the_path_narrower_than_the_kernel_would() {
    let mut director = tunnelling(Tunnel::Ipip);
    let sent = from_client(&mut director, &syn().packet());
    for mtu in [0, 68, 551] {
        let error = error_about(&sent.packet, Error::FragmentationNeeded { mtu });
        from_server(&mut director, &error);
    }
    let sketch = |bytes: usize| Sketch {
        payload: vec![7; bytes - 40],
        ..syn()
    };
    let verdict =
        |director: &mut Director, bytes| from_client(director, &sketch(bytes).packet()).verdict;
    assert_eq!(verdict(&mut director, 532), Verdict::Forward(INSIDE));
    assert_eq!(verdict(&mut director, 533), Verdict::Drop(Reason::TooBig));
}

#[test]
fn other_errors_in_the_tunnel_are_relayed() {
    let mut director = tunnelling(GUE);
    let sent = from_client(&mut director, &syn().packet());
    for error in [
        Error::TimeExceeded,
        Error::Relayed {
            kind: 3,
            code: 1,
            rest: 0,
        },
    ] {
        let out = from_server(&mut director, &error_about(&sent.packet, error));
        let [Outgoing::Transmit(OUTSIDE, frame)] = &out.outbox[..] else {
            panic!("{out:?}")
        };
        let packet = Packet::new_checked(&frame[24..]).unwrap();
        let quoted = inside(GUE, &sent.packet);
        assert_eq!(packet.payload(), error.message(&quoted));
    }
}

#[test]
fn errors_about_packets_of_others_are_the_hosts() {
    let mut director = tunnelling(Tunnel::Ipip);
    let sent = from_client(&mut director, &syn().packet()).packet;
    let unreachable = Error::TimeExceeded;
    let is_the_hosts = |director: &mut Director, change: &dyn Fn(&mut Vec<u8>)| {
        let mut quoted = sent.clone();
        change(&mut quoted);
        let out = from_server(director, &error_about(&quoted, unreachable));
        out.verdict == Verdict::Local && out.outbox.is_empty()
    };
    assert!(!is_the_hosts(&mut director, &|_| {}));
    // Of another director, to another server, by another tunnel, of an unknown connection, a fragment.
    assert!(is_the_hosts(&mut director, &|quoted| quoted[15] = 77));
    assert!(is_the_hosts(&mut director, &|quoted| quoted[19] = 77));
    assert!(is_the_hosts(&mut director, &|quoted| quoted[9] = 47));
    assert!(is_the_hosts(&mut director, &|quoted| quoted[40] ^= 1));
    assert!(is_the_hosts(&mut director, &|quoted| quoted[7] = 1));
    for length in 20..44 {
        assert!(
            is_the_hosts(&mut director, &|quoted| quoted.truncate(length)),
            "{length}"
        );
    }
    let mut broken = error_about(&sent, unreachable);
    broken[24] ^= 1;
    let out = from_server(&mut director, &broken);
    assert_eq!(out.verdict, Verdict::Drop(Reason::IcmpChecksum));
}

#[test]
fn errors_of_the_client_go_through_the_tunnel() {
    for tunnel in [Tunnel::Ipip, GUE] {
        let mut director = tunnelling(tunnel);
        from_client(&mut director, &udp((CLIENT, 40001), (VIP, 53)).packet());
        let answer = udp((VIP, 53), (CLIENT, 40001)).packet();
        let error = about(&answer, Error::PortUnreachable, CLIENT, VIP);
        let out = from_client(&mut director, &error);
        assert_eq!(out.verdict, Verdict::Forward(INSIDE));
        assert_eq!(inside(tunnel, &out.packet)[12..], error[12..]);
    }
}

#[test]
fn a_server_hears_of_a_reset_through_its_tunnel() {
    let mut director = tunnelling(Tunnel::Ipip);
    let key = ServiceKey::new(Protocol::TCP, std::net::Ipv4Addr::from(VIP), 80);
    let mut spec = crate::core::operation::ServiceSpec::new(key, "rr");
    spec.beyond.server_gone = Some(crate::core::operation::ServerGone::Reset);
    director.apply(NOW, &Operation::EditService(spec)).unwrap();
    from_client(&mut director, &syn().packet());
    let ack = tcp((CLIENT, 40001), (VIP, 80), ACK);
    from_client(&mut director, &ack.packet());
    let server = crate::core::operation::ServerKey {
        address: std::net::Ipv4Addr::from(SERVER).into(),
        port: 80,
    };
    director
        .apply(NOW, &Operation::DeleteServer(key, server))
        .unwrap();
    let mut outbox = Outbox::default();
    director.handle_timeout(NOW, &mut outbox);
    let frames: Vec<Outgoing> = outbox.drain().collect();
    let resets: Vec<Vec<u8>> = frames
        .iter()
        .filter_map(|outgoing| match outgoing {
            Outgoing::Transmit(INSIDE, frame) => Some(inside(Tunnel::Ipip, &frame[24..])),
            _ => None,
        })
        .collect();
    let [reset] = &resets[..] else {
        panic!("{frames:?}")
    };
    assert_eq!(read(reset), ((CLIENT, 40001), (VIP, 80)));
    assert_eq!(transport::tcp_flags(&reset[20..]), Some(0x14));
    // No connection is left, and nothing of the tunnel is taken any more.
    let captures = director.balancer.captures();
    let of_tcp = captures.keys().filter(|key| {
        matches!(
            key,
            CaptureKey::Service {
                protocol: Protocol::TCP,
                ..
            }
        )
    });
    assert_eq!(of_tcp.count(), 1);
}
