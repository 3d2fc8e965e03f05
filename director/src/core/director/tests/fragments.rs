//! Parts of datagrams, in any order, and packets that must be cut.

use shared::wire::ipv4::{self, Packet};

use super::laboratory::*;
use crate::core::operation::ForwardMethod;
use crate::core::reason::Reason;
use crate::core::verdict::{Outgoing, Verdict};

/// A datagram of 2000 bytes in two parts.
pub(super) fn parts(sketch: &Sketch) -> [Vec<u8>; 2] {
    let whole = Sketch {
        payload: (0..2000).map(|n| n as u8).collect(),
        ..sketch.clone()
    }
    .packet();
    let part = |range: std::ops::Range<usize>, more: u16| {
        let header = ipv4::Header {
            tos: 0,
            identification: 77,
            fragment: (range.start / 8) as u16 | more,
            ttl: 64,
            protocol: 17,
            source: sketch.source.0,
            destination: sketch.destination.0,
        };
        let payload = &whole[20 + range.start..20 + range.end];
        [&header.to_bytes(payload.len())[..], payload].concat()
    };
    [part(0..1480, ipv4::MF), part(1480..2008, 0)]
}

/// Puts parts together again.
pub(super) fn joined(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = vec![0; 0];
    for bytes in parts {
        let packet = Packet::new_checked(&bytes[..]).unwrap();
        let at = usize::from(packet.fragment_offset());
        payload.resize(payload.len().max(at + packet.payload().len()), 0xbb);
        payload[at..at + packet.payload().len()].copy_from_slice(packet.payload());
    }
    let packet = Packet::new_checked(&parts[0][..]).unwrap();
    let header = ipv4::Header {
        tos: 0,
        identification: 77,
        fragment: 0,
        ttl: packet.ttl(),
        protocol: packet.protocol(),
        source: packet.source(),
        destination: packet.destination(),
    };
    [&header.to_bytes(payload.len())[..], &payload].concat()
}

#[test]
fn parts_follow_their_first_one_both_ways() {
    let mut director = director(ForwardMethod::Nat);
    let [first, last] = parts(&udp((CLIENT, 40001), (VIP, 53)));
    let one = from_client(&mut director, &first);
    let two = from_client(&mut director, &last);
    assert_eq!(
        (one.verdict, two.verdict),
        (Verdict::Forward(INSIDE), Verdict::Forward(INSIDE))
    );
    assert_eq!(
        read(&joined(&[one.packet, two.packet])),
        ((CLIENT, 40001), (SERVER, 5353))
    );
    let [first, last] = parts(&udp((SERVER, 5353), (CLIENT, 40001)));
    let one = from_server(&mut director, &first);
    let two = from_server(&mut director, &last);
    assert_eq!(
        (one.verdict, two.verdict),
        (Verdict::Forward(OUTSIDE), Verdict::Forward(OUTSIDE))
    );
    assert_eq!(
        read(&joined(&[one.packet, two.packet])),
        ((VIP, 53), (CLIENT, 40001))
    );
}

#[test]
fn a_part_that_comes_first_waits() {
    let mut director = director(ForwardMethod::Nat);
    let [first, last] = parts(&udp((CLIENT, 40001), (VIP, 53)));
    let early = from_client(&mut director, &last);
    assert_eq!(early.verdict, Verdict::Consumed);
    assert!(early.outbox.is_empty());
    let one = from_client(&mut director, &first);
    assert_eq!(one.verdict, Verdict::Forward(INSIDE));
    let [Outgoing::Transmit(INSIDE, late)] = &one.outbox[..] else {
        panic!("{one:?}")
    };
    assert_eq!(late[10..16], SERVER_MAC.0);
    let whole = joined(&[one.packet, late[24..].to_vec()]);
    assert_eq!(read(&whole), ((CLIENT, 40001), (SERVER, 5353)));
}

#[test]
fn parts_of_what_is_the_hosts_are_the_hosts() {
    let mut director = director(ForwardMethod::Nat);
    let [first, last] = parts(&udp((CLIENT, 40001), (VIP, 54)));
    assert_eq!(from_client(&mut director, &last).verdict, Verdict::Consumed);
    let one = from_client(&mut director, &first);
    assert_eq!(one.verdict, Verdict::Local);
    let [Outgoing::Local(frame)] = &one.outbox[..] else {
        panic!("{one:?}")
    };
    assert_eq!(frame[24..], last);
    let [first, last] = parts(&udp((CLIENT, 40001), (VIP, 54)));
    assert_eq!(from_client(&mut director, &first).verdict, Verdict::Local);
    assert_eq!(from_client(&mut director, &last).verdict, Verdict::Local);
}

#[test]
fn a_first_part_without_a_whole_header_is_dropped() {
    let mut director = director(ForwardMethod::Nat);
    let header = ipv4::Header {
        tos: 0,
        identification: 1,
        fragment: ipv4::MF,
        ttl: 64,
        protocol: 6,
        source: CLIENT,
        destination: VIP,
    };
    let tiny = [&header.to_bytes(8)[..], &[0x9c, 0x41, 0, 80, 0, 0, 0, 0]].concat();
    let out = from_client(&mut director, &tiny);
    assert_eq!(out.verdict, Verdict::Drop(Reason::MalformedTransport));
}

#[test]
fn what_follows_a_first_part_without_a_whole_header_is_dropped_too() {
    let mut director = director(ForwardMethod::Nat);
    let header = |offset: u16, more, length: usize| {
        let header = ipv4::Header {
            tos: 0,
            identification: 1,
            fragment: (offset / 8) | more,
            ttl: 64,
            protocol: 6,
            source: CLIENT,
            destination: VIP,
        };
        [&header.to_bytes(length)[..], &vec![0; length]].concat()
    };
    let late = header(24, 0, 16);
    assert_eq!(from_client(&mut director, &late).verdict, Verdict::Consumed);
    let dropped = Verdict::Drop(Reason::MalformedTransport);
    let tiny = from_client(&mut director, &header(0, ipv4::MF, 8));
    assert_eq!((tiny.verdict, tiny.outbox.len()), (dropped, 0));
    assert_eq!(director.drops().of(Reason::MalformedTransport), 2);
    assert_eq!(from_client(&mut director, &late).verdict, dropped);
}

#[test]
fn nothing_writes_over_the_header_of_a_first_part() {
    let mut director = director(ForwardMethod::Nat);
    for offset in [1, 2] {
        let header = ipv4::Header {
            tos: 0,
            identification: 1,
            fragment: offset,
            ttl: 64,
            protocol: 6,
            source: CLIENT,
            destination: VIP,
        };
        let over = [&header.to_bytes(8)[..], &[0; 8]].concat();
        let out = from_client(&mut director, &over);
        assert_eq!(out.verdict, Verdict::Drop(Reason::MalformedFragment));
    }
}

#[test]
fn a_part_of_a_connection_that_has_ended_does_not_show_the_server() {
    let mut director = director(ForwardMethod::Nat);
    from_client(&mut director, &udp((CLIENT, 40001), (VIP, 53)).packet());
    let [first, last] = parts(&udp((SERVER, 5353), (CLIENT, 40001)));
    let out = from_server(&mut director, &first);
    assert_eq!(out.verdict, Verdict::Forward(OUTSIDE));
    let later = NOW + std::time::Duration::from_secs(1000);
    while director.balancer.poll_at().is_some_and(|at| at <= later) {
        director.balancer.expire(later);
    }
    let out = from_server(&mut director, &last);
    assert_eq!(out.verdict, Verdict::Drop(Reason::FragmentOrphan));
}

#[test]
fn an_identification_is_free_again_when_its_datagram_has_passed() {
    let mut director = director(ForwardMethod::Nat);
    let [first, last] = parts(&udp((CLIENT, 40001), (VIP, 53)));
    from_client(&mut director, &first);
    from_client(&mut director, &last);
    // The next one's parts come in another order, and it is another flow.
    let [first, last] = parts(&udp((CLIENT, 40002), (VIP, 54)));
    assert_eq!(from_client(&mut director, &last).verdict, Verdict::Consumed);
    let out = from_client(&mut director, &first);
    assert_eq!((out.verdict, out.outbox.len()), (Verdict::Local, 1));
}

#[test]
fn what_is_too_big_and_may_be_cut_is_cut() {
    for partial in [false, true] {
        let mut director = director(ForwardMethod::Nat);
        set_mtu(&mut director, 0, OUTSIDE_MAC, 9000);
        let payload: Vec<u8> = (0..4000).map(|n| (n / 8) as u8).collect();
        let sketch = Sketch {
            payload,
            ..udp((CLIENT, 40001), (VIP, 53))
        };
        let (vnet, packet) = if partial {
            sketch.partial(0)
        } else {
            (Default::default(), sketch.packet())
        };
        let out = send(
            &mut director,
            OUTSIDE,
            CLIENT_MAC,
            OUTSIDE_MAC,
            vnet,
            &packet,
        );
        assert_eq!(out.verdict, Verdict::Consumed);
        let pieces: Vec<Vec<u8>> = out
            .outbox
            .iter()
            .map(|sent| {
                let Outgoing::Transmit(INSIDE, frame) = sent else {
                    panic!("{sent:?}")
                };
                assert!(frame.len() - 24 <= 1500);
                assert_eq!(frame[10..16], SERVER_MAC.0);
                frame[24..].to_vec()
            })
            .collect();
        assert_eq!(pieces.len(), 3);
        assert_eq!(read(&joined(&pieces)), ((CLIENT, 40001), (SERVER, 5353)));
    }
}
