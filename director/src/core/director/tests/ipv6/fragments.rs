//! Fragments of IPv6.

use super::*;

/// A datagram in three pieces.
fn fragments(payload: &[u8]) -> [Vec<u8>; 3] {
    let (_, datagram) = segment(Kind::Udp, (CLIENT6, 40001), (VIP6, 53), payload);
    let third = datagram.len() / 3 / 8 * 8;
    [
        (0, third, 1),
        (third, 2 * third, 1),
        (2 * third, datagram.len(), 0),
    ]
    .map(|(from, to, more)| {
        let packet = carried(Protocol::UDP.0, CLIENT6, VIP6, &datagram[from..to]);
        let [high, low] = (from as u16 | more).to_be_bytes();
        extended(packet, &[&[ipv6::FRAGMENT, 0, high, low, 1, 2, 3, 4]])
    })
}

#[test]
fn fragments_follow_their_first_one_in_any_order() {
    let pieces = fragments(&[5; 100]);
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [2, 1, 0]] {
        let mut director = director6(ForwardMethod::Nat);
        let mut arrived = [const { Vec::new() }; 3];
        for at in order {
            let out = from_client(&mut director, &pieces[at]);
            let mut all = out.outbox.iter().map(|outgoing| match outgoing {
                Outgoing::Transmit(INSIDE, frame) => frame[24..].to_vec(),
                other => panic!("{other:?}"),
            });
            let late: Vec<Vec<u8>> = all.by_ref().collect();
            let now = (out.verdict == Verdict::Forward(INSIDE)).then_some(out.packet);
            for packet in now.into_iter().chain(late) {
                let ip = Ip::read(&packet).unwrap();
                let piece = ip.piece.unwrap();
                let number = usize::from(piece.offset) / 32;
                arrived[number] = ip.payload(&packet).to_vec();
                assert_eq!((ip.destination, ip.ttl), (addr(SERVER6), 63));
                assert_eq!(piece.identification, 0x0102_0304);
            }
        }
        let whole = carried(Protocol::UDP.0, CLIENT6, SERVER6, &arrived.concat());
        assert_eq!(
            read6(&whole),
            ((CLIENT6, 40001), (SERVER6, 5353)),
            "{order:?}"
        );
    }
}

#[test]
fn fragments_of_nobody_make_nothing() {
    let mut director = director6(ForwardMethod::Nat);
    let [_, second, _] = fragments(&[5; 100]);
    for _ in 0..100 {
        from_client(&mut director, &second);
    }
    assert_eq!(director.balancer.connection_count(), 0);
    // An overlap of the first one's TCP header.
    let (_, data) = segment(Kind::Tcp(SYN), (CLIENT6, 1), (VIP6, 80), &[0; 12]);
    let over = carried(Protocol::TCP.0, CLIENT6, VIP6, &data);
    let over = extended(over, &[&[ipv6::FRAGMENT, 0, 0, 8, 0, 0, 0, 1]]);
    let out = from_client(&mut director, &over);
    assert_eq!(out.verdict, Verdict::Drop(Reason::MalformedFragment));
}
