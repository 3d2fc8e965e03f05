//! TCP: other numbers, and how the server learns who its client is.

use super::*;
use crate::core::operation::{SegmentSize, ServerGone, ServerKey};
use crate::core::verdict::Outbox;

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
fn both_ends_are_reset_in_their_own_family() {
    for side in [six(), four()] {
        let beyond = Beyond {
            server_gone: Some(ServerGone::Reset),
            ..Beyond::default()
        };
        let (mut director, shift) = shaken(side, beyond);
        from_client(
            &mut director,
            &segment(there(80), ACK, (1001, 7001), &[], b""),
        );
        let server = ServerKey {
            address: side.server.ip(),
            port: 8080,
        };
        let key = ServiceKey::new(Protocol::TCP, VIP6, 80);
        director
            .apply(NOW, &Operation::DeleteServer(key, server))
            .unwrap();
        let mut outbox = Outbox::default();
        director.handle_timeout(NOW, &mut outbox);
        let told: Vec<_> = outbox
            .drain()
            .map(|sent| match sent {
                Outgoing::Transmit(_, frame) => read(&frame[24..]),
                other => panic!("{other:?}"),
            })
            .map(|(ends, segment)| (ends, segment[13], number(&segment, 4)))
            .collect();
        let expected = [
            (reversed(there(80)), 0x14, 7001),
            (reversed(back(side, 8080)), 0x14, shift.wrapping_add(1001)),
        ];
        assert_eq!(told, expected);
    }
}
