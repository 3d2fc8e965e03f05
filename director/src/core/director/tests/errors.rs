//! ICMP: of our own, and about connections.

use shared::wire::icmpv4::{self, Error};
use shared::wire::ipv4::{self, Packet};
use shared::wire::vnet::VnetHeader;
use shared::wire::{checksum, transport};

use super::laboratory::*;
use crate::core::director::Director;
use crate::core::net::{Mac, PortId};
use crate::core::operation::{ForwardMethod, Operation, ServerKey, ServiceKey};
use crate::core::reason::Reason;
use crate::core::verdict::{Outbox, Outgoing, Verdict};
use shared::addr::Protocol;

/// The one ICMP error that was sent: port, sender, receiver, message.
fn error_sent(outcome: &Outcome) -> (PortId, [u8; 4], [u8; 4], Vec<u8>) {
    let [Outgoing::Transmit(port, frame)] = &outcome.outbox[..] else {
        panic!("{outcome:?}")
    };
    let packet = Packet::new_checked(&frame[24..]).unwrap();
    assert_eq!(
        (packet.protocol(), packet.ttl(), packet.tos()),
        (1, 64, 0xc0)
    );
    assert!(checksum::verifies(packet.payload()));
    (
        *port,
        packet.source(),
        packet.destination(),
        packet.payload().to_vec(),
    )
}

fn remove_server(director: &mut Director) {
    let key = ServiceKey::new(Protocol::TCP, std::net::Ipv4Addr::from(VIP), 80);
    let server = ServerKey {
        address: std::net::Ipv4Addr::from(SERVER).into(),
        port: 8080,
    };
    director
        .apply(NOW, &Operation::DeleteServer(key, server))
        .unwrap();
}

#[test]
fn no_server_is_port_unreachable_from_the_vip() {
    let mut director = director(ForwardMethod::Nat);
    remove_server(&mut director);
    let syn = tcp((CLIENT, 40001), (VIP, 80), SYN).packet();
    let out = from_client(&mut director, &syn);
    assert_eq!(out.verdict, Verdict::Drop(Reason::NoServer));
    let (port, from, to, message) = error_sent(&out);
    assert_eq!((port, from, to), (OUTSIDE, VIP, CLIENT));
    assert_eq!(
        message[..2],
        [icmpv4::UNREACHABLE, icmpv4::PORT_UNREACHABLE]
    );
    assert_eq!(message[8..], syn);
    // As often as the kernel: six at once, and then one a second.
    let more = (0..20)
        .filter(|_| !from_client(&mut director, &syn).outbox.is_empty())
        .count();
    assert_eq!(more, 5);
}

#[test]
fn as_much_is_quoted_as_fits_in_576_bytes_and_the_link() {
    let mut director = director(ForwardMethod::Nat);
    remove_server(&mut director);
    let sketch = Sketch {
        payload: vec![7; 1400],
        ..tcp((CLIENT, 40001), (VIP, 80), SYN)
    };
    for (mtu, bytes) in [(1500, 576), (300, 300), (1, 68)] {
        set_mtu(&mut director, 0, OUTSIDE_MAC, mtu);
        let (_, _, _, message) = error_sent(&from_client(&mut director, &sketch.packet()));
        assert_eq!(message.len() + ipv4::MIN_HEADER, bytes);
    }
}

#[test]
fn the_last_hop_is_told() {
    let mut director = director(ForwardMethod::Nat);
    let sketch = Sketch {
        ttl: 1,
        ..tcp((CLIENT, 40001), (VIP, 80), SYN)
    };
    let out = from_client(&mut director, &sketch.packet());
    assert_eq!(out.verdict, Verdict::Drop(Reason::TtlExceeded));
    let (_, from, to, message) = error_sent(&out);
    assert_eq!((from, to, message[0]), (VIP, CLIENT, icmpv4::TIME_EXCEEDED));
    // To a server it is the director's own address on its link that speaks.
    let sketch = Sketch {
        ttl: 1,
        ..tcp((SERVER, 8080), (CLIENT, 40001), SYN_ACK)
    };
    let (port, from, to, _) = error_sent(&from_server(&mut director, &sketch.packet()));
    assert_eq!((port, from, to), (INSIDE, INNER, SERVER));
}

#[test]
fn too_big_and_not_to_be_fragmented() {
    for method in [ForwardMethod::Nat, ForwardMethod::Direct] {
        let mut director = director(method);
        set_mtu(&mut director, 1, INSIDE_MAC, 1400);
        let sketch = Sketch {
            payload: vec![7; 1400],
            ..tcp((CLIENT, 40001), (VIP, 80), SYN)
        };
        let out = from_client(&mut director, &sketch.packet());
        assert_eq!(out.verdict, Verdict::Drop(Reason::TooBig));
        let (_, from, to, message) = error_sent(&out);
        assert_eq!(
            (from, to, icmpv4::next_mtu(&message)),
            (VIP, CLIENT, Some(1400))
        );
        // As the kernel: one router less, everything else as the client sent it.
        let quoted = Sketch {
            ttl: 63,
            ..sketch.clone()
        };
        assert_eq!(message[8..], quoted.packet()[..548]);
        // A frame of many segments is judged by the segment.
        let large = Sketch {
            payload: vec![7; 20_000],
            ..sketch
        };
        for (gso_size, verdict) in [
            (1360, Verdict::Forward(INSIDE)),
            (1361, Verdict::Drop(Reason::TooBig)),
        ] {
            let (vnet, packet) = large.partial(gso_size);
            let out = offered(&mut director, vnet, &packet);
            assert_eq!(out.verdict, verdict);
        }
    }
}

/// An ICMP message from somebody about a packet.
pub(super) fn about(quoted: &[u8], error: Error, from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let message = error.message(quoted);
    let header = ipv4::Header {
        tos: 0,
        identification: 9,
        fragment: 0,
        ttl: 64,
        protocol: 1,
        source: from,
        destination: to,
    };
    [&header.to_bytes(message.len())[..], &message].concat()
}

#[test]
fn errors_from_behind_never_show_the_server() {
    let mut director = director(ForwardMethod::Nat);
    let sent = from_client(
        &mut director,
        &tcp((CLIENT, 40001), (VIP, 80), SYN).packet(),
    )
    .packet;
    // Of the server itself, and of a router behind the director.
    for from in [SERVER, [10, 1, 0, 254]] {
        let error = about(
            &sent[..28],
            Error::FragmentationNeeded { mtu: 1300 },
            from,
            CLIENT,
        );
        let out = from_server(&mut director, &error);
        assert_eq!(out.verdict, Verdict::Forward(OUTSIDE));
        let packet = Packet::new_checked(&out.packet).unwrap();
        assert_eq!(
            (packet.source(), packet.destination(), packet.ttl()),
            (VIP, CLIENT, 63)
        );
        assert!(checksum::verifies(packet.payload()));
        assert_eq!(icmpv4::next_mtu(packet.payload()), Some(1300));
        let quoted = Packet::new_lenient(&packet.payload()[8..]).unwrap();
        assert!(checksum::verifies(quoted.header()));
        assert_eq!((quoted.source(), quoted.destination()), (CLIENT, VIP));
        assert_eq!(transport::ports(quoted.payload()), Some((40001, 80)));
        assert!(!out.packet.windows(4).any(|four| four == SERVER));
    }
}

#[test]
fn a_reply_that_is_too_big_is_told_to_the_server_as_it_came() {
    let mut director = director(ForwardMethod::Nat);
    from_client(
        &mut director,
        &tcp((CLIENT, 40001), (VIP, 80), SYN).packet(),
    );
    set_mtu(&mut director, 0, OUTSIDE_MAC, 1400);
    let sketch = Sketch {
        payload: vec![7; 1400],
        ..tcp((SERVER, 8080), (CLIENT, 40001), ACK)
    };
    let out = from_server(&mut director, &sketch.packet());
    assert_eq!(out.verdict, Verdict::Drop(Reason::TooBig));
    let (port, from, to, message) = error_sent(&out);
    assert_eq!((port, from, to), (INSIDE, INNER, SERVER));
    assert_eq!(message[8..], sketch.packet()[..548]);
}

/// Asked of the kernel (6.1): a request counts before it fails, a reply that fails does not count.
#[test]
fn what_cannot_leave_counts_in_requests_only() {
    let mut director = director(ForwardMethod::Nat);
    let client = ((CLIENT, 40001), (VIP, 53));
    let server = ((SERVER, 5353), (CLIENT, 40001));
    from_client(&mut director, &udp(client.0, client.1).packet());
    from_server(&mut director, &udp(server.0, server.1).packet());
    let counted = |director: &Director| {
        let totals = director.balancer.totals();
        (totals.in_packets, totals.out_packets)
    };
    assert_eq!(counted(&director), (1, 1));
    for (ttl, mtu) in [(1, 1500), (64, 1400)] {
        set_mtu(&mut director, 0, OUTSIDE_MAC, mtu);
        set_mtu(&mut director, 1, INSIDE_MAC, mtu);
        let failing = |ends: (_, _)| Sketch {
            ttl,
            fragment: ipv4::DF,
            payload: vec![7; 1400],
            ..udp(ends.0, ends.1)
        };
        let before = counted(&director);
        let request = from_client(&mut director, &failing(client).packet());
        let reply = from_server(&mut director, &failing(server).packet());
        for out in [request, reply] {
            assert!(matches!(out.verdict, Verdict::Drop(_)), "{out:?}");
        }
        assert_eq!(counted(&director), (before.0 + 1, before.1));
    }
}

/// What the director says to the client of a direct connection is the only answer that passes it, and counts
/// as the kernel's does (6.18): two errors of 576 bytes and one that quotes a datagram whole.
#[test]
fn with_direct_routing_an_error_of_the_director_counts_as_an_answer() {
    let mut director = director(ForwardMethod::Direct);
    set_mtu(&mut director, 1, INSIDE_MAC, 1400);
    let small = Sketch {
        ttl: 1,
        payload: vec![0],
        ..udp((CLIENT, 40001), (VIP, 53))
    };
    let large = Sketch {
        fragment: ipv4::DF,
        payload: vec![7; 1400],
        ..udp((CLIENT, 40001), (VIP, 53))
    };
    for sketch in [&large, &large, &small] {
        error_sent(&from_client(&mut director, &sketch.packet()));
    }
    let totals = director.balancer.totals();
    assert_eq!((totals.in_packets, totals.out_packets), (3, 3));
    assert_eq!(totals.out_bytes, 2 * 576 + 57);
}

/// A quoted packet that cannot have been one of ours belongs to no connection, and makes none.
#[test]
fn what_lies_about_a_connection_is_the_hosts() {
    let mut director = director(ForwardMethod::Nat);
    set(&mut director, "schedule_icmp", 1);
    let quoted = tcp((VIP, 80), (CLIENT, 40001), ACK).packet();
    let error = |quoted: &[u8]| about(quoted, Error::TimeExceeded, CLIENT, VIP);
    let lie = |at: usize, value: u8| {
        let mut lying = quoted.clone();
        lying[at] = value;
        error(&lying)
    };
    for (what, lying) in [
        ("version 6", lie(0, 0x65)),
        ("a header of 16 bytes", lie(0, 0x44)),
        (
            "a header longer than what is quoted",
            error(&[&[0x4f], &quoted[1..28]].concat()),
        ),
        ("a later fragment", lie(7, 1)),
        ("a tunnel", lie(9, 4)),
        ("an error about an error", lie(9, 1)),
        ("no ports", error(&quoted[..22])),
        ("no packet", error(&[])),
        ("a port that is no service", lie(21, 81)),
    ] {
        let out = from_client(&mut director, &lying);
        assert_eq!(
            (out.verdict, out.outbox.len()),
            (Verdict::Local, 0),
            "{what}"
        );
        assert_eq!(director.balancer.connection_count(), 0, "{what}");
    }
    from_client(&mut director, &error(&quoted));
    assert_eq!(director.balancer.connection_count(), 1);
}

#[test]
fn a_quoted_total_length_in_another_byte_order_hides_nothing() {
    let mut director = director(ForwardMethod::Nat);
    let syn = tcp((CLIENT, 40001), (VIP, 80), SYN).packet();
    let mut sent = from_client(&mut director, &syn).packet;
    for length in [[0, 0], [0, 1], [0, 21], [45, 0], [255, 255]] {
        sent[2..4].copy_from_slice(&length);
        let error = about(&sent[..28], Error::TimeExceeded, SERVER, CLIENT);
        let out = from_server(&mut director, &error);
        assert_eq!(out.verdict, Verdict::Forward(OUTSIDE), "{length:?}");
        assert_eq!(out.packet[48..52], [0x9c, 0x41, 0, 80]);
        assert!(!out.packet.windows(4).any(|four| four == SERVER));
    }
}

#[test]
fn an_error_goes_to_whom_it_is_for() {
    let mut director = director(ForwardMethod::Nat);
    let syn = tcp((CLIENT, 40001), (VIP, 80), SYN).packet();
    let sent = from_client(&mut director, &syn).packet;
    let error = about(&sent[..28], Error::TimeExceeded, SERVER, FAR_CLIENT);
    let out = from_server(&mut director, &error);
    assert_eq!(out.verdict, Verdict::Forward(OUTSIDE));
    assert_eq!(out.ethernet, (GATEWAY_MAC, OUTSIDE_MAC));
}

#[test]
fn an_error_does_not_teach_where_the_client_is() {
    let mut director = director(ForwardMethod::Nat);
    let syn = tcp((CLIENT, 40001), (VIP, 80), SYN).packet();
    from_client(&mut director, &syn);
    // Every cached hop is stale now.
    let change = route([198, 51, 100, 0], 24, 1, None);
    director.network_changed(change, &mut Outbox::default());
    let answer = tcp((VIP, 80), (CLIENT, 40001), SYN_ACK).packet();
    let error = about(&answer, Error::TimeExceeded, [10, 0, 0, 66], VIP);
    let stranger = Mac([2, 0, 0, 0, 0, 66]);
    let vnet = VnetHeader::default();
    let out = send(&mut director, OUTSIDE, stranger, OUTSIDE_MAC, vnet, &error);
    assert_eq!(out.verdict, Verdict::Forward(INSIDE));
    let reply = tcp((SERVER, 8080), (CLIENT, 40001), SYN_ACK).packet();
    let out = from_server(&mut director, &reply);
    assert_eq!(out.ethernet, (CLIENT_MAC, OUTSIDE_MAC));
}

#[test]
fn an_error_that_is_too_big_is_cut_or_dropped_and_nobody_is_told() {
    let mut director = director(ForwardMethod::Nat);
    from_client(&mut director, &udp((CLIENT, 40001), (VIP, 53)).packet());
    set_mtu(&mut director, 1, INSIDE_MAC, 576);
    let answer = Sketch {
        payload: vec![7; 1000],
        ..udp((VIP, 53), (CLIENT, 40001))
    };
    let mut error = about(&answer.packet(), Error::PortUnreachable, CLIENT, VIP);
    let out = from_client(&mut director, &error);
    assert_eq!((out.verdict, out.outbox.len()), (Verdict::Consumed, 2));
    // DF, and the header's checksum with it.
    error[6] |= 0x40;
    error[10..12].fill(0);
    let sum = checksum::checksum(&error[..20]).to_be_bytes();
    error[10..12].copy_from_slice(&sum);
    let out = from_client(&mut director, &error);
    assert_eq!(out.verdict, Verdict::Drop(Reason::TooBig));
    assert!(out.outbox.is_empty());
}

#[test]
fn errors_of_the_client_reach_the_server() {
    let mut director = director(ForwardMethod::Nat);
    from_client(&mut director, &udp((CLIENT, 40001), (VIP, 53)).packet());
    let answer = udp((VIP, 53), (CLIENT, 40001)).packet();
    let error = about(&answer, Error::PortUnreachable, CLIENT, VIP);
    let out = from_client(&mut director, &error);
    assert_eq!(out.verdict, Verdict::Forward(INSIDE));
    assert_eq!(out.ethernet, (SERVER_MAC, INSIDE_MAC));
    let packet = Packet::new_checked(&out.packet).unwrap();
    assert_eq!((packet.source(), packet.destination()), (CLIENT, SERVER));
    assert!(checksum::verifies(packet.payload()));
    let quoted = Packet::new_checked(&packet.payload()[8..]).unwrap();
    assert_eq!((quoted.source(), quoted.destination()), (SERVER, CLIENT));
    assert_eq!(transport::ports(quoted.payload()), Some((5353, 40001)));
}

#[test]
fn with_direct_routing_errors_go_to_the_server_as_they_are() {
    let mut director = director(ForwardMethod::Direct);
    from_client(&mut director, &udp((CLIENT, 40001), (VIP, 53)).packet());
    let answer = udp((VIP, 53), (CLIENT, 40001)).packet();
    let error = about(&answer, Error::PortUnreachable, CLIENT, VIP);
    let out = from_client(&mut director, &error);
    assert_eq!(out.verdict, Verdict::Forward(INSIDE));
    assert_eq!(out.packet[12..], error[12..]);
}

#[test]
fn other_messages_are_the_hosts() {
    let mut director = director(ForwardMethod::Nat);
    from_client(
        &mut director,
        &tcp((CLIENT, 40001), (VIP, 80), SYN).packet(),
    );
    let answer = tcp((VIP, 80), (CLIENT, 40001), SYN_ACK).packet();
    let mut redirect = about(&answer, Error::PortUnreachable, CLIENT, VIP);
    redirect[20] = 5;
    assert_eq!(
        from_client(&mut director, &redirect).verdict,
        Verdict::Local
    );
    let stranger = tcp((VIP, 80), (CLIENT, 9), SYN_ACK).packet();
    let error = about(&stranger, Error::PortUnreachable, CLIENT, VIP);
    assert_eq!(from_client(&mut director, &error).verdict, Verdict::Local);
    let mut broken = about(&answer, Error::PortUnreachable, CLIENT, VIP);
    broken[24] ^= 1;
    let out = from_client(&mut director, &broken);
    assert_eq!(out.verdict, Verdict::Drop(Reason::IcmpChecksum));
}

/// An anycast address has more than one director, and an error may come to another one than its packet.
#[test]
fn an_error_about_an_unknown_connection_makes_it_if_asked_for() {
    let mut director = director(ForwardMethod::Nat);
    let reply = tcp((VIP, 80), (CLIENT, 40001), ACK).packet();
    let error = about(
        &reply[..28],
        Error::FragmentationNeeded { mtu: 1300 },
        [10, 0, 0, 254],
        VIP,
    );
    assert_eq!(from_client(&mut director, &error).verdict, Verdict::Local);
    set(&mut director, "schedule_icmp", 1);
    let out = from_client(&mut director, &error);
    assert_eq!(out.verdict, Verdict::Forward(INSIDE));
    let packet = Packet::new_checked(&out.packet).unwrap();
    assert_eq!(packet.destination(), SERVER);
    assert!(checksum::verifies(packet.payload()));
    let quoted = Packet::new_lenient(&packet.payload()[8..]).unwrap();
    assert_eq!(quoted.source(), SERVER);
    assert_eq!(transport::ports(quoted.payload()), Some((8080, 40001)));
    assert_eq!(director.balancer.connection_count(), 1);
    // The next one finds it.
    from_client(&mut director, &error);
    assert_eq!(director.balancer.connection_count(), 1);
}

/// With `nat_icmp_send` a real server hears that nobody waits for what it sent.
#[test]
fn a_stray_is_refused_by_the_directors_own_address() {
    let mut director = director(ForwardMethod::Nat);
    let stray = tcp((SERVER, 8080), (CLIENT, 40001), ACK).packet();
    assert_eq!(from_server(&mut director, &stray).verdict, Verdict::Local);
    set(&mut director, "nat_icmp_send", 1);
    let out = from_server(&mut director, &stray);
    assert_eq!(out.verdict, Verdict::Drop(Reason::Stray));
    let (port, from, to, message) = error_sent(&out);
    assert_eq!((port, from, to), (INSIDE, INNER, SERVER));
    assert_eq!((message[0], message[1]), (3, 3));
    // A reset needs no answer, and another port is nobody's.
    let reset = tcp((SERVER, 8080), (CLIENT, 40001), 0x04).packet();
    assert_eq!(from_server(&mut director, &reset).verdict, Verdict::Local);
    let other = tcp((SERVER, 8081), (CLIENT, 40001), ACK).packet();
    assert_eq!(from_server(&mut director, &other).verdict, Verdict::Local);
}

fn set(director: &mut Director, name: &str, value: i32) {
    let name = name.to_owned();
    let switch = Operation::SetSysctl { name, value };
    director.apply(NOW, &switch).unwrap();
}
