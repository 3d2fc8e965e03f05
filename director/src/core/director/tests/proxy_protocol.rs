//! The PROXY protocol: a segment in front of the client's data, and numbers that know of it.

use proptest::prelude::*;
use shared::wire::transport;
use shared::wire::vnet::{NEEDS_CSUM, VnetHeader};

use super::fullnat::{BACK, SYN_OPTIONS, THERE, number, out, segment};
use super::laboratory::*;
use crate::core::director::Director;
use crate::core::operation::{
    Beyond, ForwardMethod, Introduction, Operation, OperationError, ServerGone, ServerSpec,
    ServiceKey, ServiceSpec,
};
use crate::core::verdict::{Outbox, Outgoing, Verdict};

const PSH_ACK: u8 = 0x18;
const FIN_ACK: u8 = 0x11;
const RST: u8 = 0x04;
const WHOLE: VnetHeader = VnetHeader {
    flags: 0,
    gso_type: 0,
    hdr_len: 0,
    gso_size: 0,
    csum_start: 0,
    csum_offset: 0,
};

fn service(protocol: shared::addr::Protocol, introduction: Introduction) -> ServiceSpec {
    let port = if protocol == shared::addr::Protocol::TCP {
        80
    } else {
        53
    };
    let key = ServiceKey::new(protocol, std::net::Ipv4Addr::from(VIP), port);
    ServiceSpec {
        beyond: Beyond {
            introduction,
            ..Beyond::default()
        },
        ..ServiceSpec::new(key, "rr")
    }
}

fn lab(introduction: Introduction) -> Director {
    let mut director = director(ForwardMethod::FullNat);
    let spec = service(shared::addr::Protocol::TCP, introduction);
    director.apply(NOW, &Operation::EditService(spec)).unwrap();
    director
}

/// A SYN and its answer: the director, and what is added to the client's numbers in front of its data.
fn shaken() -> (Director, u32) {
    let mut director = lab(Introduction::ProxyProtocol);
    let syn = segment(THERE, SYN, (1000, 0), &SYN_OPTIONS, b"");
    let syn = out(&from_client(&mut director, &syn));
    let shift = number(&syn, 4).wrapping_sub(1000);
    let acknowledged = shift.wrapping_add(1001);
    let answer = segment(BACK, SYN_ACK, (7000, acknowledged), &[2, 4, 5, 180], b"");
    let answer = out(&from_server(&mut director, &answer));
    assert_eq!((number(&answer, 4), number(&answer, 8)), (7000, 1001));
    // No segment grows, but the window begins behind the header.
    assert_eq!(answer[40..44], [2, 4, 5, 180]);
    assert_eq!(transport::field(&answer, 34), Some(0xffff - 28));
    (director, shift)
}

/// Signature, version and command, family, length, and both ends.
fn header() -> Vec<u8> {
    let [p, q] = 4000_u16.to_be_bytes();
    [
        &[
            0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11, 0, 12,
        ][..],
        &CLIENT,
        &VIP,
        &[p, q, 0, 80],
    ]
    .concat()
}

/// That this is the header on its way to the server.
fn assert_header(packet: &[u8], shift: u32, acknowledged: u32) {
    assert_eq!(read(packet), (BACK.1, BACK.0));
    assert_eq!(number(packet, 4), shift.wrapping_add(1001));
    assert_eq!(number(packet, 8), acknowledged);
    assert_eq!(packet[32..34], [0x50, PSH_ACK]);
    assert_eq!(packet[40..], header());
}

fn server_has(director: &mut Director, bytes: u32, shift: u32) -> Vec<u8> {
    let acknowledged = shift.wrapping_add(1001 + bytes);
    let packet = segment(BACK, ACK, (7001, acknowledged), &[], b"");
    out(&from_server(director, &packet))
}

#[test]
fn the_end_of_the_handshake_brings_the_header_until_the_server_has_it() {
    let (mut director, shift) = shaken();
    let last = segment(THERE, ACK, (1001, 7001), &[], b"");
    // Also where it comes again, since the server asks again.
    for _ in 0..2 {
        let sent = train(&mut director, WHOLE, &last);
        let [(_, packet)] = &sent[..] else {
            panic!("{sent:?}");
        };
        assert_header(packet, shift, 7001);
    }
    assert_eq!(number(&server_has(&mut director, 28, shift), 8), 1001);
    let plain = from_client(&mut director, &last);
    assert_eq!(plain.verdict, Verdict::Forward(INSIDE));
    assert_eq!(number(&plain.packet, 4), shift.wrapping_add(1029));
    assert_eq!(plain.packet.len(), 40);
}

#[test]
fn the_header_goes_before_the_first_data_as_often_as_they_come() {
    let (mut director, shift) = shaken();
    for (flags, data) in [(PSH_ACK, &b"hello"[..]), (PSH_ACK, b"hel"), (FIN_ACK, b"")] {
        let packet = segment(THERE, flags, (1001, 7001), &[], data);
        let sent = train(&mut director, WHOLE, &packet);
        let [(_, first), (_, second)] = &sent[..] else {
            panic!("{sent:?}");
        };
        assert_header(first, shift, 7001);
        assert_eq!(read(second), (BACK.1, BACK.0));
        assert_eq!(number(second, 4), shift.wrapping_add(1029));
        assert_eq!((second[33], &second[40..]), (flags, data));
    }
    // What comes later keeps its place, whether the server has the header or not.
    let later = segment(THERE, PSH_ACK, (1006, 7001), &[], b"more");
    for has in [0, 28] {
        server_has(&mut director, has, shift);
        let plain = from_client(&mut director, &later);
        assert_eq!(plain.verdict, Verdict::Forward(INSIDE));
        read(&plain.packet);
        assert_eq!(number(&plain.packet, 4), shift.wrapping_add(1034));
    }
    // And what the server has of the data is told in the client's numbers.
    assert_eq!(number(&server_has(&mut director, 37, shift), 8), 1010);
}

#[test]
fn a_lost_header_is_nothing_to_the_client() {
    let (mut director, shift) = shaken();
    let data = segment(THERE, PSH_ACK, (1001, 7001), &[], b"hello");
    train(&mut director, WHOLE, &data);
    let [begin, end] = [1029_u32, 1034].map(|edge| edge.wrapping_add(shift).to_be_bytes());
    let options = [&[1, 5, 10][..], &begin, &end, &[0]].concat();
    let acknowledged = shift.wrapping_add(1001);
    let told = segment(BACK, ACK, (7001, acknowledged), &options, b"");
    let told = out(&from_server(&mut director, &told));
    read(&told);
    assert_eq!(number(&told, 8), 1001);
    assert_eq!(told[43..47], 1001_u32.to_be_bytes());
    assert_eq!(told[47..51], 1006_u32.to_be_bytes());
    assert_eq!(train(&mut director, WHOLE, &data).len(), 2);
}

/// Who asks whether a port is open is no client, and must not become one.
#[test]
fn a_reset_is_where_the_server_expects_it() {
    let reset = segment(THERE, RST, (1001, 0), &[], b"");
    for (sent, expected) in [(false, 1001), (true, 1029)] {
        let (mut director, shift) = shaken();
        if sent {
            train(
                &mut director,
                WHOLE,
                &segment(THERE, ACK, (1001, 7001), &[], b""),
            );
        }
        let packet = out(&from_client(&mut director, &reset));
        read(&packet);
        assert_eq!(number(&packet, 4), shift.wrapping_add(expected));
    }
}

#[test]
fn a_frame_of_many_segments_stays_one() {
    let (mut director, shift) = shaken();
    let data: Vec<u8> = (0..20_000_u32).map(|n| (n / 7) as u8).collect();
    let mut packet = segment(THERE, PSH_ACK, (1001, 7001), &[], &data);
    let pseudo = shared::wire::checksum::pseudo_v4(CLIENT, VIP, 6, 20 + data.len() as u16);
    packet[36..38].copy_from_slice(&shared::wire::checksum::fold(pseudo).to_be_bytes());
    let vnet = VnetHeader {
        flags: NEEDS_CSUM,
        gso_type: 1,
        hdr_len: 54,
        gso_size: 1460,
        csum_start: 34,
        csum_offset: 16,
    };
    let sent = train(&mut director, vnet, &packet);
    let [(whole, first), (large, second)] = &sent[..] else {
        panic!("{sent:?}");
    };
    assert_eq!((*whole, *large), (WHOLE, vnet));
    assert_header(first, shift, 7001);
    let second = completed(*large, second);
    read(&second);
    assert_eq!(number(&second, 4), shift.wrapping_add(1029));
    assert_eq!(second[40..], data);
}

#[test]
fn data_of_a_syn_come_later() {
    for partial in [false, true] {
        let mut director = lab(Introduction::ProxyProtocol);
        let options = [2, 4, 5, 180, 34, 6, 1, 2, 3, 4, 1, 1];
        let mut syn = segment(THERE, SYN, (1000, 0), &options, b"early");
        let mut vnet = WHOLE;
        if partial {
            let pseudo = shared::wire::checksum::pseudo_v4(CLIENT, VIP, 6, 37);
            syn[36..38].copy_from_slice(&shared::wire::checksum::fold(pseudo).to_be_bytes());
            vnet = VnetHeader {
                flags: NEEDS_CSUM,
                csum_start: 34,
                csum_offset: 16,
                ..WHOLE
            };
        }
        let there = send(&mut director, OUTSIDE, CLIENT_MAC, OUTSIDE_MAC, vnet, &syn);
        let there = completed(vnet, &out(&there));
        assert_eq!(read(&there), (BACK.1, BACK.0));
        assert_eq!(there[40..], [2, 4, 5, 180, 1, 1, 1, 1, 1, 1, 1, 1]);
    }
}

#[test]
fn what_waits_for_the_servers_address_waits_in_order() {
    let (mut director, shift) = shaken();
    let forget = crate::core::net::NetworkEvent::NeighbourFailed {
        ifindex: 1,
        address: shared::addr::Addr::from_v4_bytes(SERVER),
    };
    director.network_changed(forget, &mut Outbox::default());
    let packet = segment(THERE, PSH_ACK, (1001, 7001), &[], b"hello");
    let waits = from_client(&mut director, &packet);
    assert_eq!(waits.verdict, Verdict::Consumed);
    assert!(waits.outbox.is_empty());
    let mut outbox = Outbox::default();
    let answer = crate::core::net::NetworkEvent::Neighbour {
        ifindex: 1,
        address: shared::addr::Addr::from_v4_bytes(SERVER),
        mac: SERVER_MAC,
    };
    director.network_changed(answer, &mut outbox);
    let sent: Vec<_> = outbox.drain().collect();
    let [
        Outgoing::Transmit(INSIDE, first),
        Outgoing::Transmit(INSIDE, second),
    ] = &sent[..]
    else {
        panic!("{sent:?}");
    };
    assert_header(&first[24..], shift, 7001);
    assert_eq!(&second[64..], b"hello");
}

#[test]
fn without_an_introduction_nothing_is_added() {
    let mut director = lab(Introduction::None);
    let syn = segment(THERE, SYN, (1000, 0), &SYN_OPTIONS, b"");
    let syn = out(&from_client(&mut director, &syn));
    let shift = number(&syn, 4).wrapping_sub(1000);
    let acknowledged = shift.wrapping_add(1001);
    let answer = segment(BACK, SYN_ACK, (7000, acknowledged), &[2, 4, 5, 180], b"");
    let answer = out(&from_server(&mut director, &answer));
    assert_eq!(answer[40..44], [2, 4, 5, 180]);
    let data = segment(THERE, PSH_ACK, (1001, 7001), &[], &[7; 1460]);
    let there = from_client(&mut director, &data);
    assert_eq!(there.verdict, Verdict::Forward(INSIDE));
    read(&there.packet);
    assert_eq!(number(&there.packet, 4), acknowledged);
    assert_eq!(there.packet.len(), 1500);
    assert_eq!(director.balancer.unnamed_clients(), 0);
}

#[test]
fn only_tcp_has_a_place_for_the_header() {
    let mut director = lab(Introduction::Toa);
    let spec = service(shared::addr::Protocol::UDP, Introduction::ProxyProtocol);
    let refused = director.apply(NOW, &Operation::EditService(spec));
    let Err(OperationError::Unfit(reason)) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("is not TCP"), "{reason}");
}

#[test]
fn a_removed_server_is_told_where_the_client_is() {
    let mut director = director(ForwardMethod::FullNat);
    let mut spec = service(shared::addr::Protocol::TCP, Introduction::ProxyProtocol);
    spec.beyond.server_gone = Some(ServerGone::Reset);
    let key = spec.key;
    director.apply(NOW, &Operation::EditService(spec)).unwrap();
    let syn = segment(THERE, SYN, (1000, 0), &[], b"");
    let shift = number(&out(&from_client(&mut director, &syn)), 4).wrapping_sub(1000);
    let answer = segment(BACK, SYN_ACK, (7000, shift.wrapping_add(1001)), &[], b"");
    from_server(&mut director, &answer);
    let data = segment(THERE, PSH_ACK, (1001, 7001), &[], b"hello");
    in_order(&mut director, WHOLE, &data);
    let server = ServerSpec::new(
        std::net::Ipv4Addr::from(SERVER),
        8080,
        ForwardMethod::FullNat,
        1,
    );
    let gone = Operation::DeleteServer(key, server.key);
    director.apply(NOW, &gone).unwrap();
    let mut outbox = Outbox::default();
    director.handle_timeout(NOW, &mut outbox);
    let told: Vec<_> = outbox.drain().collect();
    let to_server = told.iter().find_map(|sent| match sent {
        Outgoing::Transmit(INSIDE, frame) => Some(&frame[24..]),
        _ => None,
    });
    let to_server = to_server.unwrap();
    assert_eq!(read(to_server), (BACK.1, BACK.0));
    assert_eq!(number(to_server, 4), shift.wrapping_add(1034));
}

/// A server's end: what it has got, and whether it is there.
struct Receiver {
    bytes: Vec<Option<u8>>,
    first: u32,
}

impl Receiver {
    fn take(&mut self, packet: &[u8]) {
        read(packet);
        let at = number(packet, 4).wrapping_sub(self.first) as usize;
        let header = usize::from(packet[32] >> 4) * 4;
        for (place, &byte) in self.bytes[at..].iter_mut().zip(&packet[20 + header..]) {
            assert!(
                place.is_none_or(|before| before == byte),
                "other bytes in its place"
            );
            *place = Some(byte);
        }
    }

    /// How much of it is there without a gap.
    fn whole(&self) -> usize {
        self.bytes.iter().take_while(|byte| byte.is_some()).count()
    }
}

proptest! {
    /// Whatever a client sends in whatever pieces, and whatever of it gets lost, the server gets the header and
    /// the data behind it, and the client hears of its data alone.
    #[test]
    fn the_stream_begins_with_the_header(
        steps in prop::collection::vec((0_usize..300, 0_usize..300, any::<(bool, bool, bool)>()), 0..40)
    ) {
        let data: Vec<u8> = (0..300).map(|at| (at * 7) as u8).collect();
        let (mut director, shift) = shaken();
        let mut server = Receiver {
            bytes: vec![None; 28 + data.len()],
            first: shift.wrapping_add(1001),
        };
        let last = (0, data.len(), (true, true, true));
        for (one, other, (first_arrives, second_arrives, answers)) in steps.into_iter().chain([last]) {
            let (from, to) = (one.min(other), one.max(other));
            let packet = segment(THERE, PSH_ACK, (1001 + from as u32, 7001), &[], &data[from..to]);
            let (_, sent) = in_order(&mut director, WHOLE, &packet);
            for ((_, packet), arrives) in sent.iter().zip([first_arrives, second_arrives]) {
                if arrives {
                    server.take(packet);
                }
            }
            if answers {
                let heard = number(&server_has(&mut director, server.whole() as u32, shift), 8);
                prop_assert_eq!(heard as usize, 1001 + server.whole().saturating_sub(28));
            }
        }
        let got: Vec<u8> = server.bytes.into_iter().flatten().collect();
        prop_assert_eq!(got, [header(), data].concat());
    }
}
