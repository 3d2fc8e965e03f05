use shared::addr::Addr;
use shared::wire::ipv4::{self, Packet};

use super::*;
use crate::core::balancer::Segment;

const FROM: [u8; 4] = [10, 0, 0, 10];
const TO: [u8; 4] = [10, 0, 0, 100];

fn headers(protocol: Protocol) -> Headers {
    Headers {
        flow: shared::addr::FlowKey {
            protocol,
            source: Addr::from_v4_bytes(FROM),
            source_port: 40001,
            destination: Addr::from_v4_bytes(TO),
            destination_port: 80,
        },
        segment: Some(Segment::Udp),
        ip_header: 20,
        total: 0,
        ttl: 64,
        dont_fragment: true,
        family: Family::V4,
    }
}

fn packet(protocol: Protocol, header: &[u8], payload: &[u8]) -> Vec<u8> {
    let ip = ipv4::Header {
        tos: 0,
        identification: 0xffff,
        fragment: ipv4::DF,
        ttl: 64,
        protocol: protocol.0,
        source: FROM,
        destination: TO,
    };
    let ip = ip.to_bytes(header.len() + payload.len());
    [&ip, header, payload].concat()
}

/// 20 bytes and 12 of options; sequence number 0xffff_ff00, CWR ECE ACK PSH FIN.
fn tcp() -> Vec<u8> {
    let mut header = vec![0x9c, 0x41, 0, 80, 0xff, 0xff, 0xff, 0, 0, 0, 0, 2];
    header.extend([0x80, 0xd9, 0xff, 0xff, 0, 0, 0, 0]);
    header.extend([1; 12]);
    header
}

fn vnet(gso_type: u8, gso_size: u16, csum_offset: u16) -> VnetHeader {
    VnetHeader {
        flags: NEEDS_CSUM,
        gso_type,
        hdr_len: 0,
        gso_size,
        csum_start: 34,
        csum_offset,
    }
}

/// The segments as they are on the wire, their checksums completed.
fn cut(packet: &[u8], vnet: VnetHeader, protocol: Protocol) -> Vec<Vec<u8>> {
    let segments = Segments::of(packet, vnet, &headers(protocol)).unwrap();
    let left = segments.vnet();
    let complete = |number| {
        let mut bytes = Vec::new();
        segments.append(number, &mut bytes);
        assert!(bytes.len() <= segments.largest());
        let start = usize::from(left.csum_start) - 14;
        let sum = !checksum::fold(checksum::sum(&bytes[start..], 0));
        transport::set_field(&mut bytes[start..], usize::from(left.csum_offset), sum);
        bytes
    };
    (0..segments.count()).map(complete).collect()
}

/// What is behind the IP header, after all checksums were verified.
fn verified(packet: &[u8]) -> &[u8] {
    let ip = Packet::new_checked(packet).unwrap();
    let behind = &packet[20..];
    assert_eq!(usize::from(ip.total_length()), packet.len());
    let length = behind.len() as u16;
    let pseudo = checksum::pseudo_v4(FROM, TO, ip.protocol(), length);
    assert_eq!(checksum::fold(checksum::sum(behind, pseudo)), 0xffff);
    behind
}

#[test]
fn tcp_goes_on_where_it_stopped() {
    let payload: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let whole = packet(Protocol::TCP, &tcp(), &payload);
    let segments = cut(&whole, vnet(TCP_V4 | ECN, 300, 16), Protocol::TCP);
    let mut put_together = Vec::new();
    for (number, segment) in segments.iter().enumerate() {
        let ip = Packet::new_checked(segment).unwrap();
        assert!(ip.dont_fragment());
        let identification = 0xffff_u16.wrapping_add(number as u16);
        assert_eq!(ip.identification(), identification);
        let tcp = verified(segment);
        let sequence = u32::from_be_bytes(*tcp[4..].first_chunk().unwrap());
        assert_eq!(sequence, 0xffff_ff00_u32.wrapping_add(300 * number as u32));
        // CWR in the first, PSH and FIN in the last.
        assert_eq!(tcp[13], [0xd0, 0x50, 0x50, 0x59][number]);
        assert_eq!(tcp[20..32], [1; 12]);
        put_together.extend(&tcp[32..]);
    }
    assert_eq!((segments.len(), put_together), (4, payload));
}

#[test]
fn datagrams_have_lengths_of_their_own() {
    let header = [0x9c, 0x41, 0, 53, 0, 0, 0, 0];
    let whole = packet(Protocol::UDP, &header, &[7; 250]);
    let segments = cut(&whole, vnet(UDP_L4, 100, 6), Protocol::UDP);
    let lengths: Vec<_> = segments
        .iter()
        .map(|segment| {
            let udp = verified(segment);
            assert_eq!(transport::field(udp, 4), Some(udp.len() as u16));
            udp.len()
        })
        .collect();
    assert_eq!(lengths, [108, 108, 58]);
}

#[test]
fn a_frame_of_one_segment_is_one() {
    for bytes in [0, 1, 300] {
        let whole = packet(Protocol::TCP, &tcp(), &vec![3; bytes]);
        let segments = cut(&whole, vnet(TCP_V4, 300, 16), Protocol::TCP);
        assert_eq!(segments.len(), 1);
        let flags = verified(&segments[0])[13];
        assert_eq!((segments[0].len(), flags), (whole.len(), 0xd9));
    }
}

#[test]
fn what_says_nothing_sensible_is_not_cut() {
    let whole = packet(Protocol::TCP, &tcp(), &[1; 1000]);
    let refused =
        |packet: &[u8], vnet| Segments::of(packet, vnet, &headers(Protocol::TCP)).is_none();
    let good = vnet(TCP_V4, 300, 16);
    assert!(!refused(&whole, good));
    for bad in [
        vnet(TCP_V4, 0, 16),
        vnet(UDP_L4, 300, 16),
        vnet(3, 300, 16),
        vnet(TCP_V4, 300, 6),
        VnetHeader { flags: 0, ..good },
        // Of a tunnel inside.
        VnetHeader {
            csum_start: 54,
            ..good
        },
    ] {
        assert!(refused(&whole, bad), "{bad:?}");
    }
    for length in 0..52 {
        assert!(refused(&whole[..length], good), "{length}");
    }
    let many = packet(Protocol::TCP, &tcp(), &[1; 60_000]);
    assert!(refused(&many, vnet(TCP_V4, 1, 16)));
}
