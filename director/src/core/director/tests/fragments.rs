//! Parts of datagrams, in any order, and packets that must be cut.

use std::net::Ipv4Addr;
use std::time::Duration;

use shared::addr::{Addr, Protocol};
use shared::wire::checksum;
use shared::wire::ipv4::{self, Packet};

use super::laboratory::*;
use crate::core::director::Director;
use crate::core::net::{Mac, NetworkEvent};
use crate::core::operation::{ForwardMethod, Operation, ServerKey, ServerSpec, ServiceKey};
use crate::core::reason::Reason;
use crate::core::verdict::{Outbox, Outgoing, Verdict};

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
    let later = NOW + Duration::from_secs(1000);
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
        let out = offered(&mut director, vnet, &packet);
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

/// A director whose UDP service schedules each datagram anew, between two servers.
fn one_packet(method: ForwardMethod) -> Director {
    let mut director = director(method);
    let key = ServiceKey::new(Protocol::UDP, Ipv4Addr::from(VIP), 53);
    let mut spec = director.balancer.service(&key).unwrap().spec.clone();
    spec.one_packet = true;
    let port = if method.is_nat() { 5353 } else { 53 };
    let second = ServerSpec::new(Ipv4Addr::from(SECOND), port, method, 1);
    for operation in [
        Operation::EditService(spec),
        Operation::AddServer(key, second),
    ] {
        director.apply(NOW, &operation).unwrap();
    }
    let neighbour = NetworkEvent::Neighbour {
        ifindex: 1,
        address: Addr::from_v4_bytes(SECOND),
        mac: SECOND_MAC,
    };
    director.network_changed(neighbour, &mut Outbox::default());
    // Room for tunnels.
    set_mtu(&mut director, 1, INSIDE_MAC, 9000);
    director
}

const SECOND: [u8; 4] = [10, 1, 0, 12];
const SECOND_MAC: Mac = Mac([2, 0, 0, 0, 0, 12]);

/// Where the two parts of a datagram went, in this order of arrival.
fn sent_to(director: &mut Director, later_first: bool) -> [Mac; 2] {
    let [first, last] = parts(&udp((CLIENT, 40001), (VIP, 53)));
    if later_first {
        assert_eq!(from_client(director, &last).verdict, Verdict::Consumed);
        let one = from_client(director, &first);
        let [Outgoing::Transmit(INSIDE, late)] = &one.outbox[..] else {
            panic!("{one:?}")
        };
        return [one.ethernet.0, Mac(*late[10..].first_chunk().unwrap())];
    }
    [first, last].map(|part| {
        let out = from_client(director, &part);
        assert_eq!(out.verdict, Verdict::Forward(INSIDE));
        out.ethernet.0
    })
}

#[test]
fn parts_of_a_datagram_that_is_a_connection_of_its_own_go_to_one_server() {
    for method in [
        ForwardMethod::Nat,
        ForwardMethod::Direct,
        ForwardMethod::Tunnel,
    ] {
        let mut director = one_packet(method);
        for round in 0..4_u64 {
            // In turn, the newest server first.
            let server = [SECOND_MAC, SERVER_MAC][round as usize % 2];
            let went = sent_to(&mut director, round >= 2);
            assert_eq!(went, [server; 2], "{method:?}, round {round}");
            let totals = director.balancer.totals();
            // A connection each, and no trace of it.
            assert_eq!(
                (totals.connections, totals.in_packets),
                (round + 1, 2 * round + 2)
            );
            assert_eq!(director.balancer.connection_count(), 0);
        }
    }
}

#[test]
fn a_part_of_a_datagram_whose_server_is_gone_is_dropped() {
    let mut director = one_packet(ForwardMethod::Nat);
    let [first, last] = parts(&udp((CLIENT, 40001), (VIP, 53)));
    assert_eq!(from_client(&mut director, &first).ethernet.0, SECOND_MAC);
    let key = ServiceKey::new(Protocol::UDP, Ipv4Addr::from(VIP), 53);
    let server = ServerKey {
        address: Ipv4Addr::from(SECOND).into(),
        port: 5353,
    };
    let removed = Operation::DeleteServer(key, server);
    director.apply(NOW, &removed).unwrap();
    // First it is seen to be idle, and then that it has been for long.
    for seconds in [100, 300, 1000] {
        director.balancer.expire(NOW + Duration::from_secs(seconds));
    }
    // The number of the server that is gone is given to another one.
    let third = ServerSpec::new(Ipv4Addr::new(10, 1, 0, 13), 5353, ForwardMethod::Nat, 1);
    director
        .apply(NOW, &Operation::AddServer(key, third))
        .unwrap();
    let out = from_client(&mut director, &last);
    assert_eq!(out.verdict, Verdict::Drop(Reason::FragmentOrphan));
}

/// Parts that no first one comes for, of one datagram over and over and of thousands: so many wait, the others
/// are dropped at once, those that waited after 30 s, each counted, and no connection is made.
#[test]
fn a_flood_of_parts_waits_within_bounds() {
    let mut director = director(ForwardMethod::Nat);
    let part = |identification: u16| {
        let header = ipv4::Header {
            tos: 0,
            identification,
            fragment: (1480 / 8) | ipv4::MF,
            ttl: 64,
            protocol: 17,
            source: CLIENT,
            destination: VIP,
        };
        [&header.to_bytes(64)[..], &[7; 64]].concat()
    };
    // The same bytes again and again overlap wholly.
    for _ in 0..100 {
        from_client(&mut director, &part(0));
    }
    assert_eq!(director.drops().of(Reason::FragmentsFull), 100 - 64);
    for identification in 1..5000 {
        from_client(&mut director, &part(identification));
    }
    assert_eq!(director.drops().of(Reason::FragmentsFull), 5099 - 1024);
    assert_eq!(director.balancer.connection_count(), 0);
    director.handle_timeout(NOW + Duration::from_secs(30), &mut Outbox::default());
    assert_eq!(director.drops().of(Reason::FragmentTimeout), 1024);
    // There is room again.
    assert_eq!(
        from_client(&mut director, &part(1)).verdict,
        Verdict::Consumed
    );
}

/// Parts that lie over one another go on as they came, as one connection's: who puts them together judges.
#[test]
fn parts_that_overlap_follow_the_first_one_and_make_nothing_new() {
    let mut director = director(ForwardMethod::Nat);
    let [first, last] = parts(&udp((CLIENT, 40001), (VIP, 53)));
    from_client(&mut director, &first);
    let mut over = last.clone();
    // 64 bytes into the first one, and another part is still to come.
    over[6..8].copy_from_slice(&((64 / 8) | ipv4::MF).to_be_bytes());
    over[10..12].fill(0);
    let sum = checksum::checksum(&over[..20]).to_be_bytes();
    over[10..12].copy_from_slice(&sum);
    let out = from_client(&mut director, &over);
    assert_eq!(out.verdict, Verdict::Forward(INSIDE));
    assert_eq!(director.balancer.connection_count(), 1);
}

/// Nobody is asked to take a client's own tunnel off, whatever is inside.
#[test]
fn tunnels_to_the_vip_are_the_hosts() {
    let mut director = director(ForwardMethod::Nat);
    let inner = udp((CLIENT, 40001), (VIP, 53)).packet();
    for protocol in [4, 41, 47] {
        for depth in 1..4 {
            let header = |length| {
                let header = ipv4::Header {
                    tos: 0,
                    identification: 1,
                    fragment: 0,
                    ttl: 64,
                    protocol,
                    source: CLIENT,
                    destination: VIP,
                };
                header.to_bytes(length)
            };
            let mut packet = inner.clone();
            for _ in 0..depth {
                packet = [&header(packet.len())[..], &packet].concat();
            }
            let out = from_client(&mut director, &packet);
            assert_eq!(out.verdict, Verdict::Local, "{protocol}, {depth}");
            assert_eq!(director.balancer.connection_count(), 0);
        }
    }
}
