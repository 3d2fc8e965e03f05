use pnet_packet::gre::GrePacket;
use pnet_packet::udp::UdpPacket;
use shared::addr::Addr;
use shared::wire::ipv4::Packet;
use shared::wire::vnet::NEEDS_CSUM;

use super::*;

const FROM: [u8; 4] = [10, 2, 0, 1];
const TO: [u8; 4] = [10, 2, 0, 11];

fn outer(tunnel: Tunnel) -> Outer {
    Outer {
        tunnel,
        source: Addr::from_v4_bytes(FROM),
        destination: Addr::from_v4_bytes(TO),
        flow_port: 40000,
    }
}

fn gue(checksum: TunnelChecksum) -> Tunnel {
    Tunnel::Gue {
        port: 6080,
        checksum,
    }
}

/// A segment with a payload of an odd length; its checksum complete or partial.
fn inner(tos: u8, partial: bool) -> (Vec<u8>, VnetHeader) {
    let (client, vip) = ([192, 0, 2, 7], [10, 2, 0, 100]);
    let mut tcp = vec![0x9c, 0x41, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2];
    tcp.extend([0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    tcp.extend(b"seven..");
    let pseudo = checksum::pseudo_v4(client, vip, 6, tcp.len() as u16);
    let sum = if partial {
        checksum::fold(pseudo)
    } else {
        !checksum::fold(checksum::sum(&tcp, pseudo))
    };
    transport::set_field(&mut tcp, transport::TCP_CHECKSUM, sum);
    let ip = ipv4::Header {
        tos,
        identification: 77,
        fragment: ipv4::DF,
        ttl: 63,
        protocol: 6,
        source: client,
        destination: vip,
    };
    let vnet = VnetHeader {
        flags: NEEDS_CSUM,
        csum_start: 34,
        csum_offset: 16,
        ..VnetHeader::default()
    };
    let vnet = if partial { vnet } else { VnetHeader::default() };
    ([&ip.to_bytes(tcp.len())[..], &tcp].concat(), vnet)
}

/// Encapsulated, and what is left to be done has been done as a network card would.
fn written(tunnel: Tunnel, inner: &[u8], vnet: VnetHeader) -> Vec<u8> {
    let outer = outer(tunnel);
    let mut packet = vec![0xaa; outer.overhead(vnet.is_partial())];
    packet.extend(inner);
    let label = Label {
        identification: 9,
        dont_fragment: true,
    };
    let left = outer.write(&mut packet, vnet, label);
    if left.is_partial() {
        let start = usize::from(left.csum_start) - 14;
        let sum = !checksum::fold(checksum::sum(&packet[start..], 0));
        transport::set_field(&mut packet[start..], usize::from(left.csum_offset), sum);
    }
    packet
}

#[test]
fn congestion_stays_inside() {
    for (tos, outside) in [
        (0, 0),
        (0x10, 0x10),
        (0xb9, 0xb9),
        (0xba, 0xba),
        (0xbb, 0xba),
        (3, 2),
    ] {
        let (inner, vnet) = inner(tos, false);
        let packet = written(Tunnel::Ipip, &inner, vnet);
        assert_eq!((packet[1], packet[21]), (outside, tos));
    }
}

#[test]
fn checksums_are_right_whoever_completes_them() {
    let (complete, _) = inner(0, false);
    for partial in [false, true] {
        let (inner, vnet) = inner(0, partial);
        for tunnel in [
            Tunnel::Ipip,
            gue(TunnelChecksum::None),
            gue(TunnelChecksum::Full),
            Tunnel::Gre {
                checksum: TunnelChecksum::None,
            },
            Tunnel::Gre {
                checksum: TunnelChecksum::Full,
            },
        ] {
            let packet = written(tunnel, &inner, vnet);
            let behind = Packet::new_checked(&packet[..]).unwrap().payload().to_vec();
            assert!(packet.ends_with(&complete), "{tunnel:?} {partial}");
            match tunnel {
                Tunnel::Gue { checksum, .. } => {
                    let udp = UdpPacket::new(&behind).unwrap();
                    assert_eq!((udp.get_source(), udp.get_destination()), (40000, 6080));
                    assert_eq!(usize::from(udp.get_length()), behind.len());
                    let expected = match checksum {
                        TunnelChecksum::None => 0,
                        _ => pnet_packet::udp::ipv4_checksum(&udp, &FROM.into(), &TO.into()),
                    };
                    assert_eq!(udp.get_checksum(), expected, "{partial}");
                    assert_eq!(behind[8..12], [0, 4, 0, 0]);
                }
                Tunnel::Gre { checksum } => {
                    let gre = GrePacket::new(&behind).unwrap();
                    assert_eq!(gre.get_protocol_type(), 0x0800);
                    let summed = checksum != TunnelChecksum::None;
                    assert_eq!(gre.get_checksum_present(), u8::from(summed));
                    assert!(!summed || checksum::verifies(&behind), "{partial}");
                }
                Tunnel::Ipip => assert_eq!(behind, complete),
            }
        }
    }
}

#[test]
fn a_remote_checksum_is_left_to_the_receiver() {
    let (inner, vnet) = inner(0, true);
    let packet = written(gue(TunnelChecksum::Remote), &inner, vnet);
    let behind = Packet::new_checked(&packet[..]).unwrap().payload().to_vec();
    assert_eq!(behind[8..20], [2, 4, 0, 1, 0x80, 0, 0, 0, 0, 20, 0, 36]);
    assert_eq!(behind[20..], inner);
    let udp = UdpPacket::new(&behind).unwrap();
    let expected = pnet_packet::udp::ipv4_checksum(&udp, &FROM.into(), &TO.into());
    assert_eq!(udp.get_checksum(), expected);
    // A complete one needs no help.
    let (complete, vnet) = self::inner(0, false);
    let packet = written(gue(TunnelChecksum::Remote), &complete, vnet);
    assert_eq!(packet[28..32], [0, 4, 0, 0]);
    assert_ne!(packet[26..28], [0, 0]);
}

#[test]
fn flows_spread_over_the_ports_that_the_kernel_uses() {
    let port = |client_port| {
        flow_port(&FlowKey {
            protocol: Protocol::TCP,
            source: Addr::from_v4_bytes([192, 0, 2, 7]),
            source_port: client_port,
            destination: Addr::from_v4_bytes([10, 2, 0, 100]),
            destination_port: 80,
        })
    };
    let ports: std::collections::BTreeSet<u16> = (1024..2024).map(port).collect();
    assert!(ports.len() > 900, "{}", ports.len());
    assert!(ports.iter().all(|port| (32768..61000).contains(port)));
    assert_eq!(port(5000), port(5000));
}

#[test]
fn what_is_written_is_recognised_in_an_error() {
    let (inner, vnet) = inner(0, true);
    for tunnel in [
        Tunnel::Ipip,
        gue(TunnelChecksum::None),
        gue(TunnelChecksum::Remote),
        Tunnel::Gre {
            checksum: TunnelChecksum::Full,
        },
    ] {
        let packet = written(tunnel, &inner, vnet);
        let outer = Packet::new_lenient(&packet[..]).unwrap();
        let protocol = Protocol(outer.protocol());
        let (port, length) = encapsulation(protocol, outer.rest()).unwrap();
        assert_eq!((protocol, port), outer_protocol(tunnel, Family::V4));
        assert_eq!(outer.rest()[length..].len(), inner.len());
    }
    assert_eq!(encapsulation(Protocol::TCP, &[0; 40]), None);
    assert_eq!(encapsulation(Protocol::UDP, &[0; 11]), None);
    assert_eq!(encapsulation(GRE, &[0, 0, 0x86, 0xdd]), Some((0, 4)));
    assert_eq!(encapsulation(GRE, &[0, 0, 0x65, 0x58]), None);
}
