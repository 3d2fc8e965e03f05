//! FULLNAT of clients of IPv6, to real servers of IPv6 and of IPv4.

use proptest::prelude::*;
use shared::addr::{Addr, Family, Protocol};
use shared::wire::icmpv4::{self, Error};
use shared::wire::ipv4::{self, Packet};
use shared::wire::vnet::{NEEDS_CSUM, VnetHeader};
use shared::wire::{checksum, ethernet, icmpv6, ipv6, sctp, transport};

use super::fullnat::{PORT, SYN_OPTIONS, out};
use super::ipv6::{
    CLIENT6, FAR_CLIENT6, LOCAL6, SERVER6, VIP6, carried, extended, frame_of, serving,
};
use super::laboratory::*;
use crate::core::director::Director;
use crate::core::ip::{self, Ip, header_bytes};
use crate::core::operation::{
    Beyond, ForwardMethod, Introduction, Operation, OperationError, SegmentSize, ServerSpec,
    ServiceKey, ServiceSpec,
};
use crate::core::reason::Reason;
use crate::core::verdict::{Outgoing, Verdict};

type End = (Addr, u16);

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

fn segment(
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
fn read(packet: &[u8]) -> ((End, End), Vec<u8>) {
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

fn number(segment: &[u8], at: usize) -> u32 {
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

const fn reversed((from, to): (End, End)) -> (End, End) {
    (to, from)
}

#[test]
fn a_datagram_and_its_answer_have_two_other_ends() {
    for (side, kind) in [(six(), ethernet::IPV6), (four(), ethernet::IPV4)] {
        let mut director = side.lab();
        let asked = from_client(&mut director, &datagram(there(53), b"hello"));
        assert_eq!(asked.verdict, Verdict::Forward(INSIDE));
        assert_eq!(asked.ethernet, (SERVER_MAC, INSIDE_MAC));
        assert_eq!(
            (asked.ethertype, asked.packet.len()),
            (kind, side.header() + 13)
        );
        let (ends, segment) = read(&asked.packet);
        assert_eq!(ends, reversed(back(side, 5353)));
        assert_eq!(segment[8..], *b"hello");
        let ip = Ip::read(&asked.packet).unwrap();
        assert_eq!((ip.ttl, ip.tos), (63, 0xb8));

        let answer = from_server(&mut director, &datagram(back(side, 5353), b"world"));
        assert_eq!(answer.verdict, Verdict::Forward(OUTSIDE));
        assert_eq!(answer.ethernet, (CLIENT_MAC, OUTSIDE_MAC));
        assert_eq!(answer.ethertype, ethernet::IPV6);
        let (ends, segment) = read(&answer.packet);
        assert_eq!(ends, reversed(there(53)));
        assert_eq!(segment[8..], *b"world");
        let ip = Ip::read(&answer.packet).unwrap();
        assert_eq!((ip.ttl, ip.tos), (63, 0xb8));
    }
}

#[test]
fn extension_headers_do_not_reach_ipv4() {
    let mut director = four().lab();
    let options = [ipv6::DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0];
    let asked = extended(datagram(there(53), b"hello"), &[&options, &options]);
    let asked = from_client(&mut director, &asked);
    assert_eq!(asked.packet.len(), 33);
    assert_eq!(read(&asked.packet).0, reversed(back(four(), 5353)));
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

#[test]
fn the_option_has_the_address_of_ipv6() {
    for side in [six(), four()] {
        let (mut director, shift) = shaken(side, Beyond::default());
        for (flags, data) in [(ACK, &b""[..]), (0x18, b"hello")] {
            let packet = segment(there(80), flags, (1001, 7001), &[], data);
            let (ends, named) = read(&out(&from_client(&mut director, &packet)));
            assert_eq!(ends, reversed(back(side, 8080)));
            assert_eq!(number(&named, 4), shift.wrapping_add(1001));
            assert_eq!(named[12] >> 4, 10);
            let [high, low] = 40001_u16.to_be_bytes();
            assert_eq!(named[20..24], [254, 20, high, low]);
            assert_eq!(named[24..40], CLIENT6.octets());
            assert_eq!(&named[40..], data);
        }
        // As soon as the server has acknowledged data it knows.
        let told = segment(
            back(side, 8080),
            ACK,
            (7001, shift.wrapping_add(1006)),
            &[],
            b"",
        );
        let (_, told) = read(&out(&from_server(&mut director, &told)));
        assert_eq!(number(&told, 8), 1006);
        let more = segment(there(80), ACK, (1006, 7001), &[], b"more");
        let plain = from_client(&mut director, &more);
        assert_eq!(plain.verdict, Verdict::Forward(INSIDE));
        assert_eq!(read(&plain.packet).1[12] >> 4, 5);
    }
}

#[test]
fn the_proxy_protocol_names_both_ends_of_ipv6() {
    for side in [six(), four()] {
        let beyond = Beyond {
            introduction: Introduction::ProxyProtocol,
            ..Beyond::default()
        };
        let (mut director, shift) = shaken(side, beyond);
        let packet = segment(there(80), 0x18, (1001, 7001), &[], b"hello");
        let sent = train(&mut director, VnetHeader::default(), &packet);
        let [(_, header), (_, data)] = &sent[..] else {
            panic!("{sent:?}");
        };
        let (ends, header) = read(header);
        assert_eq!(ends, reversed(back(side, 8080)));
        assert_eq!(number(&header, 4), shift.wrapping_add(1001));
        let [high, low] = 40001_u16.to_be_bytes();
        let expected = [
            &b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24"[..],
            &CLIENT6.octets(),
            &VIP6.octets(),
            &[high, low, 0, 80],
        ];
        assert_eq!(header[20..], expected.concat());
        let (ends, data) = read(data);
        assert_eq!(ends, reversed(back(side, 8080)));
        assert_eq!(number(&data, 4), shift.wrapping_add(1001 + 52));
        assert_eq!(data[20..], *b"hello");
        let told = segment(
            back(side, 8080),
            ACK,
            (7001, shift.wrapping_add(1058)),
            &[],
            b"",
        );
        let (_, told) = read(&out(&from_server(&mut director, &told)));
        assert_eq!(number(&told, 8), 1006);
    }
}

#[test]
fn data_of_a_syn_are_left_out_in_front_of_a_header() {
    for side in [six(), four()] {
        let mut director = side.with(Beyond {
            introduction: Introduction::ProxyProtocol,
            ..Beyond::default()
        });
        let syn = segment(there(80), SYN, (1000, 0), &SYN_OPTIONS, b"early");
        let (_, syn) = read(&out(&from_client(&mut director, &syn)));
        assert_eq!(syn.len(), 36);
    }
}

/// A frame of many segments, its checksum left to the card.
fn partial(packet: &[u8], gso_size: u16) -> (VnetHeader, Vec<u8>) {
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

#[test]
fn frames_of_many_segments_go_through_whole() {
    let data: Vec<u8> = (0..20_000_u32).map(|n| (n / 7) as u8).collect();
    for side in [six(), four()] {
        let (mut director, shift) = shaken(side, Beyond::default());
        let acknowledged = shift.wrapping_add(1006);
        let mut other = side.lab();
        from_client(&mut other, &datagram(there(53), b"hello"));
        let packets = [
            // The server has the option by then.
            segment(there(80), ACK, (1006, 7002), &[], &data),
            segment(back(side, 8080), ACK, (7001, acknowledged), &[], &data),
            datagram(there(53), &data),
            datagram(back(side, 5353), &data),
        ];
        for packet in &packets {
            let from_inside = Ip::read(packet).unwrap().source == side.server;
            let size = if from_inside { 1400 } else { 1440 };
            let (vnet, packet) = partial(packet, size);
            let (port, mac, own) = if from_inside {
                (INSIDE, SERVER_MAC, INSIDE_MAC)
            } else {
                (OUTSIDE, CLIENT_MAC, OUTSIDE_MAC)
            };
            let director = match Ip::read(&packet).unwrap().protocol {
                Protocol::TCP => &mut director,
                _ => &mut other,
            };
            let sent = send(director, port, mac, own, vnet, &packet);
            assert!(matches!(sent.verdict, Verdict::Forward(_)), "{sent:?}");
            let (expected, _) = partial(&sent.packet, size);
            assert_eq!(sent.vnet, expected);
            let (_, segment) = read(&completed(sent.vnet, &sent.packet));
            assert_eq!(segment[segment.len() - data.len()..], data);
        }
    }
}

#[test]
fn a_datagram_without_a_checksum_gets_one_if_it_is_whole() {
    let side = four();
    let mut director = side.lab();
    from_client(&mut director, &datagram(there(53), b"hello"));
    let mut bare = datagram(back(side, 5353), &[7; 64]);
    transport::set_field(&mut bare, 20 + transport::UDP_CHECKSUM, 0);
    let answer = from_server(&mut director, &bare);
    assert_eq!(read(&answer.packet).0, reversed(there(53)));
    let [first, later] = cut_v4(&bare, 32);
    for piece in [&first, &later] {
        let answer = from_server(&mut director, piece);
        assert_eq!(answer.verdict, Verdict::Drop(Reason::NoChecksum));
    }
}

/// An IPv4 packet in two pieces.
fn cut_v4(packet: &[u8], at: usize) -> [Vec<u8>; 2] {
    let piece = |from: usize, to: usize, more: u16| {
        let header = ipv4::Header {
            tos: 0,
            identification: 99,
            fragment: (from / 8) as u16 | more,
            ttl: 64,
            protocol: packet[9],
            source: packet[12..16].try_into().unwrap(),
            destination: packet[16..20].try_into().unwrap(),
        };
        let body = &packet[20 + from..20 + to];
        [&header.to_bytes(body.len())[..], body].concat()
    };
    [piece(0, at, ipv4::MF), piece(at, packet.len() - 20, 0)]
}

fn cut_v6(packet: &[u8], at: usize) -> [Vec<u8>; 2] {
    let piece = |from: usize, to: usize, more: u16| {
        let [high, low] = (from as u16 | more).to_be_bytes();
        let body = carried(packet[6], CLIENT6, VIP6, &packet[40 + from..40 + to]);
        extended(body, &[&[ipv6::FRAGMENT, 0, high, low, 1, 2, 3, 4]])
    };
    [piece(0, at, ipv6::MORE), piece(at, packet.len() - 40, 0)]
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

/// What fragments of one packet make when they are put together.
fn together(pieces: &[Vec<u8>]) -> Vec<u8> {
    let first = Ip::read(&pieces[0]).unwrap();
    let mut whole = Vec::new();
    for piece in pieces {
        let ip = Ip::read(piece).unwrap();
        assert_eq!(ip.total, piece.len());
        let part = ip.piece.unwrap();
        assert_eq!(part.identification, first.piece.unwrap().identification);
        assert_eq!((ip.source, ip.ttl), (first.source, first.ttl));
        let at = usize::from(part.offset);
        let payload = ip.payload(piece);
        if whole.len() < at + payload.len() {
            whole.resize(at + payload.len(), 0);
        }
        whole[at..at + payload.len()].copy_from_slice(payload);
    }
    packet(first.protocol, first.source, first.destination, &whole)
}

#[test]
fn fragments_follow_their_first_one_in_either_order() {
    for side in [six(), four()] {
        for order in [[0, 1], [1, 0]] {
            let mut director = side.lab();
            let asked = datagram(there(53), &[5; 100]);
            let pieces = cut_v6(&asked, 64);
            let there: Vec<Vec<u8>> = order
                .iter()
                .flat_map(|&at| all(&from_client(&mut director, &pieces[at])))
                .collect();
            assert_eq!(there.len(), 2);
            assert_eq!(read(&together(&there)).0, reversed(back(side, 5353)));
        }
    }
    for order in [[0, 1], [1, 0]] {
        let mut director = four().lab();
        from_client(&mut director, &datagram(there(53), b"hello"));
        let pieces = cut_v4(&datagram(back(four(), 5353), &[5; 100]), 64);
        let sent: Vec<Vec<u8>> = order
            .iter()
            .flat_map(|&at| all(&from_server(&mut director, &pieces[at])))
            .collect();
        assert_eq!(sent.len(), 2);
        let identification = Ip::read(&sent[0]).unwrap().piece.unwrap().identification;
        assert_eq!(identification, 99);
        assert_eq!(read(&together(&sent)).0, reversed(there(53)));
    }
}

/// What may be fragmented is, and no piece is larger than the way takes.
#[test]
fn what_is_too_big_for_one_way_and_may_be_cut_is() {
    let side = four();
    let mut director = side.lab();
    set_mtu(&mut director, 0, OUTSIDE_MAC, 1280);
    from_client(&mut director, &datagram(there(53), b"hello"));
    let mut answer = datagram(back(side, 5353), &[9; 1400]);
    answer[6..8].fill(0);
    answer[10..12].fill(0);
    let sum = checksum::checksum(&answer[..20]);
    transport::set_field(&mut answer, 10, sum);
    let sent = from_server(&mut director, &answer);
    let pieces = all(&sent);
    assert_eq!(pieces.len(), 2);
    assert!(pieces.iter().all(|piece| piece.len() <= 1280));
    let (ends, whole) = read(&together(&pieces));
    assert_eq!((ends, &whole[8..]), (reversed(there(53)), &[9; 1400][..]));
    // A piece of such a one as well.
    let [first, _] = cut_v4(&answer, 1400);
    let sizes: Vec<usize> = all(&from_server(&mut director, &first))
        .iter()
        .map(Vec::len)
        .collect();
    assert_eq!(sizes, [1272 + 8, 48 + 168]);

    // The least of IPv6 goes through a link of IPv4 that is narrower still.
    set_mtu(&mut director, 1, INSIDE_MAC, 800);
    let asked = datagram(there(53), &[9; 1280 - 48]);
    let pieces = all(&from_client(&mut director, &asked));
    assert_eq!(pieces.len(), 2);
    assert!(pieces.iter().all(|piece| piece.len() <= 800));
    assert_eq!(read(&together(&pieces)).0, reversed(back(side, 5353)));
}

/// The one ICMP error that was sent: its packet's ends, its message, and the packet it is about.
fn error_sent(outcome: &Outcome) -> (Addr, Addr, Vec<u8>, Vec<u8>) {
    let [Outgoing::Transmit(_, frame)] = &outcome.outbox[..] else {
        panic!("{outcome:?}")
    };
    error(&frame[24..])
}

fn error(packet: &[u8]) -> (Addr, Addr, Vec<u8>, Vec<u8>) {
    let ip = Ip::read(packet).unwrap();
    let message = ip.payload(packet);
    match ip.family() {
        Family::V4 => assert!(checksum::verifies(message)),
        Family::V6 => assert!(icmpv6::verifies(
            message,
            ip.source.to_bytes(),
            ip.destination.to_bytes()
        )),
    }
    (
        ip.source,
        ip.destination,
        message.to_vec(),
        message[8..].to_vec(),
    )
}

/// The MTU that an error tells.
fn mtu_of(to: Addr, message: &[u8]) -> Option<u32> {
    match to.family() {
        Family::V4 => icmpv4::next_mtu(message).map(u32::from),
        Family::V6 => icmpv6::next_mtu(message),
    }
}

#[test]
fn senders_are_told_what_fits_in_their_own_family() {
    for (side, behind, fits) in [
        (six(), 1400, 1400),
        (four(), 1400, 1420),
        (four(), 900, 1280),
    ] {
        let (mut director, _) = shaken(side, Beyond::default());
        set_mtu(&mut director, 1, INSIDE_MAC, behind);
        let size = |bytes: usize| segment(there(80), ACK, (1006, 7002), &[], &vec![7; bytes - 60]);
        let out = from_client(&mut director, &size(1440));
        assert_eq!(out.verdict, Verdict::Drop(Reason::TooBig));
        let (from, to, message, about) = error_sent(&out);
        assert_eq!((from, to), (vip(), client()));
        assert_eq!(mtu_of(to, &message), Some(fits as u32));
        assert_eq!(about[8..40], size(1440)[8..40]);
        let out = from_client(&mut director, &size(fits));
        assert!(!matches!(out.verdict, Verdict::Drop(_)), "{out:?}");
        let mut old = size(100);
        old[7] = 1;
        let out = from_client(&mut director, &old);
        assert_eq!(out.verdict, Verdict::Drop(Reason::TtlExceeded));
        assert_eq!(error_sent(&out).2[0], icmpv6::TIME_EXCEEDED);
    }
    for (side, fits) in [(six(), 1300_usize), (four(), 1280)] {
        let (mut director, shift) = shaken(side, Beyond::default());
        set_mtu(&mut director, 0, OUTSIDE_MAC, 1300);
        // By this it is known where the client is now.
        from_client(
            &mut director,
            &segment(there(80), ACK, (1001, 7001), &[], b""),
        );
        let acknowledged = shift.wrapping_add(1006);
        let size = |bytes: usize| {
            let data = vec![7; bytes - side.header() - 20];
            segment(back(side, 8080), ACK, (7001, acknowledged), &[], &data)
        };
        let out = from_server(&mut director, &size(fits + 1));
        assert_eq!(out.verdict, Verdict::Drop(Reason::TooBig));
        let (_, to, message, _) = error_sent(&out);
        assert_eq!(to, side.server);
        assert_eq!(mtu_of(to, &message), Some(fits as u32));
        let out = from_server(&mut director, &size(fits));
        assert_eq!(out.verdict, Verdict::Forward(OUTSIDE));
    }
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

#[test]
fn errors_of_others_reach_both_ends_about_what_they_know() {
    for side in [six(), four()] {
        let growth = 40 - side.header() as u32;
        let too_big = Error::FragmentationNeeded { mtu: 1400 };
        for (said, mtu) in [(too_big, Some(1400)), (Error::PortUnreachable, None)] {
            let (mut director, shift) = shaken(side, Beyond::default());
            let asked = segment(there(80), ACK, (1006, 7002), &[], b"data");
            let request = out(&from_client(&mut director, &asked));
            // As much of it as a stingy router quotes.
            let quoted = &request[..side.header() + 8];
            let told = from_server(&mut director, &error_about(said, side.local, quoted));
            let packets = all(&told);
            let (from, to, message, about) = error(&packets[0]);
            assert_eq!((from, to), (vip(), client()));
            assert_eq!(mtu_of(to, &message), mtu.map(|mtu| mtu + growth));
            let ip = Ip::read(&about).unwrap();
            assert_eq!((ip.source, ip.destination), (client(), vip()));
            assert_eq!(ip.total, asked.len());
            assert_eq!(transport::ports(&about[40..]), Some((40001, 80)));
            assert_eq!(number(&about, 44), 1006);

            let acknowledged = shift.wrapping_add(1006);
            let said_back = segment(back(side, 8080), ACK, (7002, acknowledged), &[], b"data");
            let reply = out(&from_server(&mut director, &said_back));
            let told = from_client(&mut director, &error_about(said, vip(), &reply));
            let packets = all(&told);
            let (from, to, message, about) = error(&packets[0]);
            assert_eq!((from, to), (side.local, side.server));
            assert_eq!(mtu_of(to, &message), mtu.map(|mtu| mtu - growth));
            let ip = Ip::read(&about).unwrap();
            assert_eq!((ip.source, ip.destination), (side.server, side.local));
            assert_eq!(ip.total, said_back.len());
            let segment = &about[side.header()..];
            assert_eq!(transport::ports(segment), Some((8080, PORT)));
            assert_eq!(number(segment, 4), 7002);
        }
    }
    // One that is broken, and one that IPv6 has no word for.
    let mut director = four().lab();
    let request = from_client(&mut director, &datagram(there(53), b"hello")).packet;
    let mut broken = error_about(Error::PortUnreachable, four().local, &request);
    *broken.last_mut().unwrap() ^= 1;
    let told = from_server(&mut director, &broken);
    assert_eq!(told.verdict, Verdict::Drop(Reason::IcmpChecksum));
    let quench = Error::Relayed {
        kind: icmpv4::SOURCE_QUENCH,
        code: 0,
        rest: 0,
    };
    let told = from_server(&mut director, &error_about(quench, four().local, &request));
    assert_eq!(told.verdict, Verdict::Drop(Reason::Untranslatable));
}

#[test]
fn sctp_keeps_its_checksum() {
    for side in [six(), four()] {
        let mut director = side.lab();
        let key = ServiceKey::new(Protocol::SCTP, VIP6, 36412);
        let server = ServerSpec::new(side.server.ip(), 3868, ForwardMethod::FullNat, 1);
        for operation in [
            Operation::AddService(ServiceSpec::new(key, "rr")),
            Operation::AddServer(key, server),
        ] {
            director.apply(NOW, &operation).unwrap();
        }
        let chunk = |(from, to): (End, End), kind: u8| {
            let mut body = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
            body.extend([0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0, kind, 0, 0, 4]);
            sctp::sum_up(&mut body);
            packet(Protocol::SCTP, from.0, to.0, &body)
        };
        let ends = |packet: &[u8]| {
            let ip = Ip::read(packet).unwrap();
            assert!(sctp::verifies(ip.payload(packet)), "CRC32c");
            let (from, to) = transport::ports(ip.payload(packet)).unwrap();
            ((ip.source, from), (ip.destination, to))
        };
        let init = from_client(&mut director, &chunk(there(36412), sctp::chunk::INIT));
        assert_eq!(ends(&init.packet), reversed(back(side, 3868)));
        let answer = chunk(back(side, 3868), sctp::chunk::INIT_ACK);
        let answer = from_server(&mut director, &answer);
        assert_eq!(ends(&answer.packet), reversed(there(36412)));
    }
}

#[test]
fn the_largest_segment_fits_into_both_ways() {
    // MTUs outside and inside, and what has room for either.
    for (side, outside, inside, room) in [
        (six(), 1500, 1400, 1340),
        (four(), 1500, 1400, 1360),
        (four(), 1400, 1500, 1340),
    ] {
        let mut director = side.with(Beyond {
            segment_size: SegmentSize::PathMtu,
            introduction: Introduction::None,
            ..Beyond::default()
        });
        set_mtu(&mut director, 0, OUTSIDE_MAC, outside);
        set_mtu(&mut director, 1, INSIDE_MAC, inside);
        let options = [2, 4, 0x20, 0];
        let syn = segment(there(80), SYN, (1000, 0), &options, b"");
        let (_, syn) = read(&out(&from_client(&mut director, &syn)));
        assert_eq!(transport::field(&syn, 22), Some(room));
        let acknowledged = number(&syn, 4).wrapping_add(1);
        let answer = segment(
            back(side, 8080),
            SYN_ACK,
            (7000, acknowledged),
            &options,
            b"",
        );
        let (_, answer) = read(&out(&from_server(&mut director, &answer)));
        assert_eq!(transport::field(&answer, 22), Some(room));
    }
}

#[test]
fn what_comes_to_a_local_address_is_taken_and_answered() {
    let side = six();
    let mut director = side.lab();
    let ends = ((side.server, 8080), (side.local, 2000));
    let quoted = datagram(reversed(ends), b"hello");
    for packet in [
        segment(ends, ACK, (1, 1), &[], b""),
        datagram(ends, b"hello"),
        error_about(Error::PortUnreachable, side.local, &quoted),
    ] {
        assert!(director.takes(INSIDE, &frame_of(INSIDE_MAC, &packet)));
    }
    let stray = from_server(&mut director, &segment(ends, ACK, (1, 1), &[], b""));
    assert_eq!(stray.verdict, Verdict::Drop(Reason::NoConnection));
    let (told, reset) = read(&all(&stray)[0]);
    assert_eq!((told, reset[13]), (reversed(ends), 0x04));
    let none = Operation::DeleteLocalAddress(LOCAL6.into());
    for operation in [Operation::Flush, none] {
        director.apply(NOW, &operation).unwrap();
    }
    let packet = datagram(ends, b"hello");
    assert!(!director.takes(INSIDE, &frame_of(INSIDE_MAC, &packet)));
}

#[test]
fn each_family_needs_local_addresses_of_its_own() {
    let mut director = serving(ForwardMethod::Nat, SERVER6.into());
    let key = ServiceKey::new(Protocol::TCP, VIP6, 80);
    let mut apply = |operation: &Operation| match director.apply(NOW, operation) {
        Err(OperationError::Unfit(reason) | OperationError::Invalid(reason)) => reason,
        Err(OperationError::NotYet(reason)) => reason,
        Err(other) => panic!("{other:?}"),
        Ok(()) => String::new(),
    };
    let full_nat = |server: &str| {
        let server: std::net::IpAddr = server.parse().unwrap();
        Operation::AddServer(key, ServerSpec::new(server, 80, ForwardMethod::FullNat, 1))
    };
    let add = |address: &str| Operation::AddLocalAddress {
        address: address.parse().unwrap(),
        interface: None,
    };
    let remove = |address: &str| Operation::DeleteLocalAddress(address.parse().unwrap());
    for wrong in ["::1", "fe80::1", "ff02::1", "::"] {
        let reason = apply(&add(wrong));
        assert!(reason.contains("not the address of one host"), "{reason}");
    }
    let lacks = "there is no local address of its family";
    assert_eq!(apply(&add("10.1.0.2")), "");
    assert!(apply(&full_nat("2001:db8:1::12")).contains(lacks));
    assert_eq!(apply(&full_nat("10.1.0.11")), "");
    assert_eq!(apply(&add("2001:db8:1::2")), "");
    assert_eq!(apply(&full_nat("2001:db8:1::12")), "");
    for last in ["10.1.0.2", "2001:db8:1::2"] {
        let reason = apply(&remove(last));
        assert!(reason.contains("is the last one of its family"), "{reason}");
    }
    assert_eq!(apply(&add("2001:db8:1::3")), "");
    assert_eq!(apply(&remove("2001:db8:1::2")), "");

    // The kernel's word for the other methods stays.
    let nat = ServerSpec::new(std::net::Ipv4Addr::from(SERVER), 80, ForwardMethod::Nat, 1);
    let reason = apply(&Operation::AddServer(key, nat));
    assert!(reason.contains("needs a tunnel"), "{reason}");
    let four = ServiceKey::new(Protocol::TCP, std::net::Ipv4Addr::from(VIP), 80);
    let six = ServerSpec::new(SERVER6, 80, ForwardMethod::FullNat, 1);
    let reason = apply(&Operation::AddServer(four, six));
    assert!(reason.contains("FULLNAT of an IPv4 service"), "{reason}");
}

proptest! {
    /// Whatever comes from either end: no panic, and nothing but what is of the other end's family leaves.
    #[test]
    fn garbage_is_survived(
        next in prop::sample::select(vec![0_u8, 1, 6, 17, 44, 58, 60, 132]),
        fragment in any::<u16>(),
        options in 0_usize..=10,
        length in prop::option::of(any::<u16>()),
        mut rest in prop::collection::vec(any::<u8>(), 0..200),
        to_port in any::<bool>(),
        partial in any::<bool>(),
    ) {
        let side = four();
        let mut director = side.lab();
        from_client(&mut director, &datagram(there(53), b"hello"));
        if to_port && rest.len() >= 4 {
            rest[..4].copy_from_slice(&[5353_u16.to_be_bytes(), PORT.to_be_bytes()].concat());
        }
        let header = ipv4::Header {
            tos: 0,
            identification: 1,
            fragment,
            ttl: 64,
            protocol: next,
            source: SERVER,
            destination: LOCAL,
        };
        let mut packet = [
            &header.to_bytes(rest.len() + 4 * options)[..],
            &vec![1; 4 * options],
            &rest,
        ].concat();
        packet[0] += options as u8;
        if let Some(length) = length {
            transport::set_field(&mut packet, 2, length);
        }
        packet[10..12].fill(0);
        let sum = checksum::checksum(&packet[..20 + 4 * options]);
        transport::set_field(&mut packet, 10, sum);
        let vnet = VnetHeader {
            flags: u8::from(partial),
            gso_type: if partial { 5 } else { 0 },
            hdr_len: 42,
            gso_size: 100,
            csum_start: 34,
            csum_offset: 6,
        };
        let answer = send(&mut director, INSIDE, SERVER_MAC, INSIDE_MAC, vnet, &packet);
        if answer.verdict == Verdict::Forward(OUTSIDE) {
            prop_assert_eq!(answer.packet[0] >> 4, 6);
        }
        let asked = carried(next, CLIENT6, VIP6, &rest);
        let asked = from_client(&mut director, &asked);
        if asked.verdict == Verdict::Forward(INSIDE) {
            prop_assert_eq!(asked.packet[0] >> 4, 4);
        }
    }
}
