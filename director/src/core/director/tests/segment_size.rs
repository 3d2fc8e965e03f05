//! The largest segment that SYNs tell.

use shared::wire::vnet::{NEEDS_CSUM, VnetHeader};

use super::fullnat::{THERE, number, out, segment};
use super::laboratory::*;
use crate::core::director::Director;
use crate::core::operation::{
    Beyond, ForwardMethod, Introduction, Operation, OperationError, SegmentSize, ServiceKey,
    ServiceSpec,
};

fn spec(protocol: shared::addr::Protocol, port: u16, beyond: Beyond) -> ServiceSpec {
    let key = ServiceKey::new(protocol, std::net::Ipv4Addr::from(VIP), port);
    ServiceSpec {
        beyond,
        ..ServiceSpec::new(key, "rr")
    }
}

fn lab(method: ForwardMethod, beyond: Beyond) -> Director {
    let mut director = director(method);
    let spec = spec(shared::addr::Protocol::TCP, 80, beyond);
    director.apply(NOW, &Operation::EditService(spec)).unwrap();
    director
}

/// What arrives of what both ends tell.
fn told(director: &mut Director, client: u16, server: u16) -> (u16, u16) {
    // At an odd offset, where the checksum's words are split.
    let options = |[high, low]: [u8; 2]| [1, 2, 4, high, low, 1, 1, 0];
    let read_back = |packet: &[u8]| u16::from_be_bytes([packet[43], packet[44]]);
    let syn = segment(THERE, SYN, (1000, 0), &options(client.to_be_bytes()), b"");
    let there = out(&from_client(director, &syn));
    let ends = read(&there);
    let acknowledged = number(&there, 4).wrapping_add(1);
    let options = options(server.to_be_bytes());
    let answer = segment(
        (ends.1, ends.0),
        SYN_ACK,
        (7000, acknowledged),
        &options,
        b"",
    );
    let back = out(&from_server(director, &answer));
    assert_eq!(read(&back), (THERE.1, THERE.0));
    (read_back(&there), read_back(&back))
}

#[test]
fn it_is_lowered_where_asked_and_never_raised() {
    let at_most = |segment_size| Beyond {
        segment_size,
        ..Beyond::default()
    };
    for (size, sent, (client, server)) in [
        (SegmentSize::AsTold, (1460, 8960), (1460, 8960)),
        (SegmentSize::AtMost(1360), (1460, 8960), (1360, 1360)),
        (SegmentSize::AtMost(1360), (536, 1400), (536, 1360)),
        (SegmentSize::PathMtu, (8960, 8960), (1360, 1360)),
        (SegmentSize::PathMtu, (536, 1300), (536, 1300)),
    ] {
        let mut director = lab(ForwardMethod::Nat, at_most(size));
        set_mtu(&mut director, 1, INSIDE_MAC, 1400);
        assert_eq!(
            told(&mut director, sent.0, sent.1),
            (client, server),
            "{size:?}"
        );
        // Of FULLNAT the server's leaves room for the TOA option besides.
        let mut director = lab(ForwardMethod::FullNat, at_most(size));
        set_mtu(&mut director, 1, INSIDE_MAC, 1400);
        assert_eq!(
            told(&mut director, sent.0, sent.1),
            (client, server - 8),
            "{size:?}"
        );
    }
    let mut director = lab(
        ForwardMethod::FullNat,
        Beyond {
            introduction: Introduction::ProxyProtocol,
            ..at_most(SegmentSize::PathMtu)
        },
    );
    assert_eq!(told(&mut director, 8960, 8960), (1460, 1460));
}

#[test]
fn a_partial_checksum_covers_the_addresses_only() {
    let size = SegmentSize::AtMost(1000);
    let mut director = lab(
        ForwardMethod::Nat,
        Beyond {
            segment_size: size,
            ..Beyond::default()
        },
    );
    let mut syn = segment(THERE, SYN, (1000, 0), &[2, 4, 5, 180], b"");
    let pseudo = shared::wire::checksum::pseudo_v4(CLIENT, VIP, 6, 24);
    syn[36..38].copy_from_slice(&shared::wire::checksum::fold(pseudo).to_be_bytes());
    let vnet = VnetHeader {
        flags: NEEDS_CSUM,
        csum_start: 34,
        csum_offset: 16,
        ..VnetHeader::default()
    };
    let there = send(&mut director, OUTSIDE, CLIENT_MAC, OUTSIDE_MAC, vnet, &syn);
    let there = completed(vnet, &out(&there));
    read(&there);
    assert_eq!(there[40..44], [2, 4, 3, 232]);
}

#[test]
fn only_tcp_has_one() {
    let mut director = director(ForwardMethod::Nat);
    for (port, protocol, size, fault) in [
        (
            53,
            shared::addr::Protocol::UDP,
            SegmentSize::PathMtu,
            "is not TCP",
        ),
        (
            80,
            shared::addr::Protocol::TCP,
            SegmentSize::AtMost(7),
            "not from 88",
        ),
    ] {
        let beyond = Beyond {
            segment_size: size,
            ..Beyond::default()
        };
        let refused = director.apply(NOW, &Operation::EditService(spec(protocol, port, beyond)));
        let Err(OperationError::Unfit(reason)) = refused else {
            panic!("{refused:?}");
        };
        assert!(reason.contains(fault), "{reason}");
    }
}
