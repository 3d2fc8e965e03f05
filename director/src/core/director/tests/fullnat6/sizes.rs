//! Fragments, and what is too big for one of two ways.

use shared::wire::ipv6;

use super::super::ipv6::{carried, extended};
use super::*;
use crate::core::reason::Reason;

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

/// Also where its sender has not cut it into segments yet.
#[test]
fn segments_are_cut_where_the_link_is_narrower_than_any_of_ipv6() {
    let (mut director, shift) = shaken(four(), Beyond::default());
    set_mtu(&mut director, 1, INSIDE_MAC, 800);
    let data: Vec<u8> = (0..3000_u32).map(|n| (n / 7) as u8).collect();
    let packet = segment(there(80), ACK, (1006, 7002), &[], &data);
    let (vnet, packet) = partial(&packet, 1220);
    let pieces = all(&offered(&mut director, vnet, &packet));
    assert!(pieces.iter().all(|piece| piece.len() <= 800));
    let mut got = Vec::new();
    // Two segments of 1 220 bytes in two pieces each, and one of 560.
    for pieces in [&pieces[..2], &pieces[2..4], &pieces[4..]] {
        let whole = match Ip::read(&pieces[0]).unwrap().piece {
            Some(_) => together(pieces),
            None => pieces[0].clone(),
        };
        let (ends, segment) = read(&whole);
        assert_eq!(ends, reversed(back(four(), 8080)));
        let at = number(&segment, 4).wrapping_sub(shift);
        assert_eq!(at as usize, 1006 + got.len());
        got.extend_from_slice(&segment[20..]);
    }
    assert_eq!(got, data);
}
