//! FULLNAT: both addresses are others, and replies find their client by the local port.

use shared::addr::Addr;
use shared::wire::ipv4;
use shared::wire::transport;

use super::laboratory::*;
use crate::core::director::Director;
use crate::core::operation::{ForwardMethod, Operation, OperationError};
use crate::core::reason::Reason;
use crate::core::verdict::{Outgoing, Verdict};

fn lab() -> Director {
    director(ForwardMethod::FullNat)
}

#[test]
fn a_datagram_and_its_answer_have_two_other_ends() {
    let mut director = lab();
    let there = from_client(&mut director, &udp((CLIENT, 4000), (VIP, 53)).packet());
    assert_eq!(there.verdict, Verdict::Forward(INSIDE));
    assert_eq!(read(&there.packet), ((LOCAL, PORT), (SERVER, 5353)));
    let back = from_server(&mut director, &udp((SERVER, 5353), (LOCAL, PORT)).packet());
    assert_eq!(back.verdict, Verdict::Forward(OUTSIDE));
    assert_eq!(back.ethernet, (CLIENT_MAC, OUTSIDE_MAC));
    assert_eq!(read(&back.packet), ((VIP, 53), (CLIENT, 4000)));
    // Another client gets another port; the first one keeps its.
    let other = from_client(&mut director, &udp((FAR_CLIENT, 4000), (VIP, 53)).packet());
    assert_eq!(read(&other.packet).0, (LOCAL, PORT + 1));
    let again = from_client(&mut director, &udp((CLIENT, 4000), (VIP, 53)).packet());
    assert_eq!(read(&again.packet).0, (LOCAL, PORT));
}

#[test]
fn partial_checksums_stay_partial() {
    let mut director = lab();
    let (vnet, packet) = udp((CLIENT, 4000), (VIP, 53)).partial(0);
    let there = offered(&mut director, vnet, &packet);
    let whole = completed(there.vnet, &there.packet);
    assert_eq!(read(&whole), ((LOCAL, PORT), (SERVER, 5353)));
}

#[test]
fn later_fragments_follow() {
    let mut director = lab();
    let mut whole = udp((CLIENT, 4000), (VIP, 53));
    whole.payload = vec![7; 2944];
    let packet = whole.packet();
    let cut = |from: usize, to: usize, more: u16| {
        let header = ipv4::Header {
            tos: 0,
            identification: 9,
            fragment: (from / 8) as u16 | more,
            ttl: 64,
            protocol: 17,
            source: CLIENT,
            destination: VIP,
        };
        let body = &packet[20 + from..20 + to];
        [&header.to_bytes(body.len())[..], body].concat()
    };
    let first = from_client(&mut director, &cut(0, 1480, ipv4::MF));
    assert_eq!(first.verdict, Verdict::Forward(INSIDE));
    let later = from_client(&mut director, &cut(1480, 2952, 0));
    assert_eq!(later.verdict, Verdict::Forward(INSIDE));
    assert_eq!(
        (&later.packet[12..16], &later.packet[16..20]),
        (&LOCAL[..], &SERVER[..])
    );
}

#[test]
fn errors_are_translated_both_ways() {
    let mut director = lab();
    let sent = from_client(&mut director, &udp((CLIENT, 4000), (VIP, 53)).packet());
    let back = from_server(&mut director, &udp((SERVER, 5353), (LOCAL, PORT)).packet());
    let router = [10, 1, 0, 99];
    let about_request = icmp(router, LOCAL, &sent.packet);
    let told = from_server(&mut director, &about_request);
    assert_eq!(told.verdict, Verdict::Forward(OUTSIDE));
    assert_eq!(
        (&told.packet[12..16], &told.packet[16..20]),
        (&VIP[..], &CLIENT[..])
    );
    let quoted = &told.packet[28..];
    assert_eq!((&quoted[12..16], &quoted[16..20]), (&CLIENT[..], &VIP[..]));
    assert_eq!(transport::ports(&quoted[20..]), Some((4000, 53)));
    let about_reply = icmp(CLIENT, VIP, &back.packet);
    let told = from_client(&mut director, &about_reply);
    assert_eq!(told.verdict, Verdict::Forward(INSIDE));
    assert_eq!(
        (&told.packet[12..16], &told.packet[16..20]),
        (&LOCAL[..], &SERVER[..])
    );
    let quoted = &told.packet[28..];
    assert_eq!(
        (&quoted[12..16], &quoted[16..20]),
        (&SERVER[..], &LOCAL[..])
    );
    assert_eq!(transport::ports(&quoted[20..]), Some((5353, PORT)));
}

/// A port unreachable.
fn icmp(from: [u8; 4], to: [u8; 4], about: &[u8]) -> Vec<u8> {
    let message = shared::wire::icmpv4::Error::PortUnreachable.message(&about[..28]);
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
fn what_belongs_to_no_connection_is_not_the_hosts() {
    let mut director = lab();
    let stray = from_server(&mut director, &udp((SERVER, 5353), (LOCAL, 2000)).packet());
    assert_eq!(stray.verdict, Verdict::Drop(Reason::NoConnection));
    assert!(stray.outbox.is_empty());
    let stray = from_server(
        &mut director,
        &tcp((SERVER, 8080), (LOCAL, 2000), ACK).packet(),
    );
    assert_eq!(stray.verdict, Verdict::Drop(Reason::NoConnection));
    let [Outgoing::Transmit(INSIDE, reset)] = &stray.outbox[..] else {
        panic!("{:?}", stray.outbox);
    };
    let reset = &reset[24..];
    assert_eq!(read(reset), ((LOCAL, 2000), (SERVER, 8080)));
    assert_eq!(reset[33], 0x04);
}

#[test]
fn the_capture_takes_what_is_sent_to_local_addresses() {
    let mut director = lab();
    let frame = |packet: &[u8]| {
        crate::core::frame::compose(INSIDE_MAC, SERVER_MAC, Default::default(), &[packet])[10..]
            .to_vec()
    };
    for packet in [
        udp((SERVER, 5353), (LOCAL, 2000)).packet(),
        tcp((SERVER, 9), (LOCAL, 9), ACK).packet(),
        icmp(
            [10, 1, 0, 99],
            LOCAL,
            &udp((LOCAL, 2000), (SERVER, 5353)).packet(),
        ),
    ] {
        assert!(director.takes(INSIDE, &frame(&packet)));
    }
    let none = Operation::DeleteLocalAddress(LOCAL.into());
    for operation in [Operation::Flush, none] {
        director.apply(NOW, &operation).unwrap();
    }
    let packet = udp((SERVER, 5353), (LOCAL, 2000)).packet();
    assert!(!director.takes(INSIDE, &frame(&packet)));
}

#[test]
fn without_a_port_the_client_is_refused() {
    let mut director = lab();
    let mut last = Verdict::Consumed;
    for number in 0..=crate::core::local_ports::PORTS {
        let client = [10, 0, 1 + (number / 60_000) as u8, 10];
        let port = 1024 + (number % 60_000) as u16;
        let packet = udp((client, port), (VIP, 53)).packet();
        last = from_client(&mut director, &packet).verdict;
        if number == 0 {
            assert_eq!(last, Verdict::Forward(INSIDE));
        }
    }
    assert_eq!(last, Verdict::Drop(Reason::LocalPorts));
    // Those of another server or protocol are others.
    let other = from_client(&mut director, &tcp((CLIENT, 4000), (VIP, 80), SYN).packet());
    assert_eq!(other.verdict, Verdict::Forward(INSIDE));
}

#[test]
fn what_does_not_go_together_is_refused() {
    let mut director = lab();
    let mut refused = |operation: &Operation| match director.apply(NOW, operation) {
        Err(OperationError::Unfit(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let reason = refused(&Operation::AddLocalAddress {
        address: VIP.into(),
        interface: None,
    });
    assert!(reason.contains("is that of service"), "{reason}");
    let reason = refused(&Operation::DeleteLocalAddress(LOCAL.into()));
    assert!(reason.contains("needs a local address"), "{reason}");
    let reason = refused(&Operation::DeleteLocalAddress(VIP.into()));
    assert!(reason.contains("is no local address"), "{reason}");
    let local = Addr::from_v4_bytes(LOCAL).ip();
    let key = crate::core::operation::ServiceKey::new(shared::addr::Protocol::TCP, local, 80);
    let service = crate::core::operation::ServiceSpec::new(key, "rr");
    let reason = refused(&Operation::AddService(service));
    assert!(reason.contains("is a local address"), "{reason}");
}

/// A TCP segment with numbers and options.
pub(super) fn segment(
    (source, destination): (([u8; 4], u16), ([u8; 4], u16)),
    flags: u8,
    (sequence, acknowledged): (u32, u32),
    options: &[u8],
    data: &[u8],
) -> Vec<u8> {
    let mut sketch = tcp(source, destination, flags);
    sketch.payload = [options, data].concat();
    let mut packet = sketch.packet();
    packet[24..28].copy_from_slice(&sequence.to_be_bytes());
    packet[28..32].copy_from_slice(&acknowledged.to_be_bytes());
    packet[32] = ((20 + options.len() as u8) / 4) << 4;
    packet[36..38].fill(0);
    let segment = &packet[20..];
    let pseudo =
        shared::wire::checksum::pseudo_v4(source.0, destination.0, 6, segment.len() as u16);
    let sum = !shared::wire::checksum::fold(shared::wire::checksum::sum(segment, pseudo));
    packet[36..38].copy_from_slice(&sum.to_be_bytes());
    packet
}

pub(super) fn number(packet: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(packet[20 + at..24 + at].try_into().unwrap())
}

/// The first local port, which the laboratory's entropy decides.
pub(super) const PORT: u16 = 14_220;

pub(super) const SYN_OPTIONS: [u8; 16] = [2, 4, 5, 180, 1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0];
pub(super) const THERE: (([u8; 4], u16), ([u8; 4], u16)) = ((CLIENT, 4000), (VIP, 80));
pub(super) const BACK: (([u8; 4], u16), ([u8; 4], u16)) = ((SERVER, 8080), (LOCAL, PORT));

/// The packet that came out, in place or besides.
pub(super) fn out(outcome: &Outcome) -> Vec<u8> {
    match (&outcome.verdict, &outcome.outbox[..]) {
        (Verdict::Forward(_), []) => outcome.packet.clone(),
        (Verdict::Consumed, [Outgoing::Transmit(_, bytes)]) => bytes[24..].to_vec(),
        other => panic!("{other:?}"),
    }
}

/// A handshake: the director, and what is added to the client's numbers.
fn shaken() -> (Director, u32) {
    let mut director = lab();
    let syn = segment(THERE, SYN, (1000, 0), &SYN_OPTIONS, b"");
    let syn = out(&from_client(&mut director, &syn));
    assert_eq!(read(&syn), (BACK.1, BACK.0));
    let shift = number(&syn, 4).wrapping_sub(1000);
    assert_ne!(shift, 0);
    // The MSS stays, the timestamps are gone.
    assert_eq!(
        syn[40..56],
        [2, 4, 5, 180, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    );
    let answer = segment(
        BACK,
        SYN_ACK,
        (7000, shift.wrapping_add(1001)),
        &[2, 4, 5, 180],
        b"",
    );
    let answer = out(&from_server(&mut director, &answer));
    assert_eq!(read(&answer), (THERE.1, THERE.0));
    assert_eq!((number(&answer, 4), number(&answer, 8)), (7000, 1001));
    // The client leaves room for the option.
    assert_eq!(answer[40..44], [2, 4, 5, 172]);
    (director, shift)
}

#[test]
fn the_segments_that_complete_a_handshake_name_the_client() {
    let (mut director, shift) = shaken();
    let [p, q] = 4000_u16.to_be_bytes();
    let [a, b, c, d] = CLIENT;
    for (flags, data) in [(ACK, &b""[..]), (0x18, b"hello")] {
        let packet = segment(THERE, flags, (1001, 7001), &[], data);
        let named = out(&from_client(&mut director, &packet));
        assert_eq!(read(&named), (BACK.1, BACK.0));
        assert_eq!(number(&named, 4), shift.wrapping_add(1001));
        assert_eq!(named[32] >> 4, 7);
        assert_eq!(named[40..48], [254, 8, p, q, a, b, c, d]);
        assert_eq!(&named[48..], data);
    }
    // As soon as the server has acknowledged data it knows.
    let packet = segment(BACK, ACK, (7001, shift.wrapping_add(1006)), &[], b"");
    assert_eq!(number(&out(&from_server(&mut director, &packet)), 8), 1006);
    let packet = segment(THERE, ACK, (1006, 7001), &[], b"more");
    let plain = from_client(&mut director, &packet);
    assert_eq!(plain.verdict, Verdict::Forward(INSIDE));
    assert_eq!(
        (number(&plain.packet, 4), plain.packet[32] >> 4),
        (shift.wrapping_add(1006), 5)
    );
    assert_eq!(director.balancer.unnamed_clients(), 0);
}

#[test]
fn a_partial_checksum_covers_the_option_too() {
    let (mut director, _) = shaken();
    let packet = segment(THERE, ACK, (1001, 7001), &[], b"hello");
    let mut partial = packet.clone();
    let pseudo = shared::wire::checksum::pseudo_v4(CLIENT, VIP, 6, 25);
    partial[36..38].copy_from_slice(&shared::wire::checksum::fold(pseudo).to_be_bytes());
    let vnet = shared::wire::vnet::VnetHeader {
        flags: shared::wire::vnet::NEEDS_CSUM,
        csum_start: 34,
        csum_offset: 16,
        ..Default::default()
    };
    let sent = send(
        &mut director,
        OUTSIDE,
        CLIENT_MAC,
        OUTSIDE_MAC,
        vnet,
        &partial,
    );
    let whole = completed(vnet, &out(&sent));
    assert_eq!(read(&whole), (BACK.1, BACK.0));
}

#[test]
fn a_segment_without_room_goes_without_the_option() {
    let (mut director, _) = shaken();
    let mut long = segment(THERE, ACK, (1001, 7001), &[], &[7; 1460]);
    let outcome = from_client(&mut director, &long);
    assert_eq!(outcome.verdict, Verdict::Forward(INSIDE));
    assert_eq!(outcome.packet.len(), 1500);
    long = segment(THERE, ACK, (1001, 7001), &[1; 36], b"x");
    assert_eq!(
        from_client(&mut director, &long).verdict,
        Verdict::Forward(INSIDE)
    );
    assert_eq!(director.balancer.unnamed_clients(), 2);
}

#[test]
fn selective_acknowledgments_are_in_the_numbers_of_the_client() {
    let (mut director, shift) = shaken();
    let [begin, end] = [2000_u32, 3000].map(|edge| edge.wrapping_add(shift).to_be_bytes());
    // At an odd offset, where the checksum's words are split.
    let options = [&[1, 5, 10][..], &begin, &end, &[0]].concat();
    let packet = segment(BACK, ACK, (7001, shift.wrapping_add(1001)), &options, b"");
    let told = out(&from_server(&mut director, &packet));
    assert_eq!(read(&told), (THERE.1, THERE.0));
    assert_eq!(told[43..47], 2000_u32.to_be_bytes());
    assert_eq!(told[47..51], 3000_u32.to_be_bytes());
}
