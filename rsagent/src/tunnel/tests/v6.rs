//! The same for IPv6, inside and outside.

use std::net::{Ipv4Addr, Ipv6Addr};

use shared::wire::checksum::{fold, pseudo_v6};

use super::*;

const OWN6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x11);
const DIRECTOR6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 7);

const TYPE6: [u8; 2] = [0x86, 0xdd];

fn program_of_both() -> Program {
    let code = crate::tunnel::decapsulate::program(PORT, Ipip::Program).unwrap();
    let own: [IpAddr; 2] = [OWN.into(), OWN6.into()];
    let vips: [IpAddr; 2] = [VIP.into(), VIP6.into()];
    Program::load("test", &code, &[map(&own).as_fd(), map(&vips).as_fd()]).unwrap()
}

fn ip6(next: u8, (source, destination): (Ipv6Addr, Ipv6Addr), payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0x12, 0x34];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 63]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

fn request6() -> Vec<u8> {
    let mut tcp = vec![0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 1, 0];
    tcp.extend([0; 4]);
    tcp.extend(b"GET / HTTP/1.0\r\n\r\n!");
    ip6(6, (CLIENT6, VIP6), &tcp)
}

/// A frame of the packet's own family.
fn framed(packet: &[u8]) -> Vec<u8> {
    let mut bytes = frame(packet);
    if packet[0] >> 4 == 6 {
        bytes[12..14].copy_from_slice(&TYPE6);
    }
    bytes
}

#[track_caller]
fn becomes(program: &Program, packet: &[u8], expected: &[u8]) {
    let (verdict, left) = program.test_frame(&framed(packet)).unwrap();
    assert_eq!((verdict, left), (TCX_NEXT, framed(expected)));
}

/// In each kind of tunnel, between addresses of either family.
fn tunnelled(inner: &[u8]) -> Vec<Vec<u8>> {
    let (number, ethertype) = match inner[0] >> 4 {
        6 => (41, TYPE6),
        _ => (4, [8, 0]),
    };
    let payloads = [
        (number, inner.to_vec()),
        (17, udp(PORT, &[&[0, number, 0, 0], inner].concat())),
        (47, [&[0, 0, ethertype[0], ethertype[1]], inner].concat()),
        (
            47,
            [&[0x80, 0, ethertype[0], ethertype[1], 1, 2, 0, 0], inner].concat(),
        ),
    ];
    let all = payloads.iter().flat_map(|(protocol, payload)| {
        let six = ip6(*protocol, (DIRECTOR6, OWN6), payload);
        [outer(*protocol, payload), six]
    });
    all.collect()
}

#[test]
fn each_family_comes_out_of_either() {
    let program = program_of_both();
    for inner in [request(), request6()] {
        for packet in tunnelled(&inner) {
            becomes(&program, &packet, &inner);
        }
    }
}

#[test]
fn what_a_tunnel_may_carry() {
    let program = program_of_both();
    let ends = (CLIENT6, VIP6);
    let part = |next: u8| {
        ip6(
            44,
            ends,
            &[&[next, 0, 0, 8, 0, 0, 0, 1], &[3; 64][..]].concat(),
        )
    };
    let accepted = [
        ip6(17, ends, &udp(53, b"question")),
        ip6(132, ends, &[1; 40]),
        ip6(50, ends, &[1; 40]),
        ip6(51, ends, &[1; 40]),
        part(6),
        part(17),
        ip6(58, ends, &[2, 0, 0, 0, 0, 0, 5, 0]),
        ip6(58, ends, &[3, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for inner in accepted {
        for packet in tunnelled(&inner) {
            becomes(&program, &packet, &inner);
        }
    }
    let mut lies = request6();
    lies[5] += 1;
    let mut of_version_4 = request6();
    of_version_4[0] = 0x45;
    let left = [
        ip6(58, ends, &[128, 0, 0, 0, 0, 0, 0, 0]),
        ip6(58, ends, &[135, 0, 0, 0, 0, 0, 0, 0]),
        ip6(58, ends, &[]),
        part(41),
        ip6(41, ends, &request6()),
        ip6(47, ends, &[0; 40]),
        ip6(60, ends, &[6, 0, 0, 0, 0, 0, 0, 0]),
        ip6(6, (CLIENT6, OWN6), &[0; 20]),
        ip6(6, (CLIENT6, CLIENT6), &[0; 20]),
        lies,
    ];
    for inner in left {
        for packet in tunnelled(&inner) {
            becomes(&program, &packet, &packet);
        }
    }
    // What is announced is not what is there.
    let packet = ip6(41, (DIRECTOR6, OWN6), &of_version_4);
    becomes(&program, &packet, &packet);
    let packet = ip6(4, (DIRECTOR6, OWN6), &request6());
    becomes(&program, &packet, &packet);
}

#[test]
fn what_is_not_a_tunnel_of_ours_passes_as_it_came() {
    let program = program_of_both();
    let inner = request6();
    let whole = ip6(41, (DIRECTOR6, OWN6), &inner);
    let fragment = [&[41, 0, 0, 1, 0, 0, 0, 9], &inner[..]].concat();
    let packets = [
        inner.clone(),
        ip6(41, (DIRECTOR6, VIP6), &inner),
        ip6(44, (DIRECTOR6, OWN6), &fragment),
        ip6(
            17,
            (DIRECTOR6, OWN6),
            &udp(PORT + 1, &[&[0, 41, 0, 0], &inner[..]].concat()),
        ),
    ];
    for packet in packets {
        becomes(&program, &packet, &packet);
    }
    for length in 40..whole.len() {
        becomes(&program, &whole[..length], &whole[..length]);
    }
    let padded = [&whole[..], &[0; 6]].concat();
    becomes(&program, &padded, &[&inner[..], &[0; 6]].concat());
}

#[test]
fn congestion_is_carried_over() {
    let program = program_of_both();
    let marked = |mut packet: Vec<u8>, ecn: u8| {
        if packet[0] >> 4 == 6 {
            packet[1] |= ecn << 4;
        } else {
            packet[1] = ecn;
            finish(&mut packet);
        }
        packet
    };
    for inner in [request(), request6()] {
        for (inside, expected) in [(1, Some(3)), (2, Some(3)), (3, Some(3)), (0, None)] {
            for packet in tunnelled(&marked(inner.clone(), inside)) {
                let packet = marked(packet, 3);
                match expected {
                    Some(ecn) => becomes(&program, &packet, &marked(inner.clone(), ecn)),
                    None => assert_eq!(program.test_frame(&framed(&packet)).unwrap().0, DROP),
                }
            }
        }
    }
}

#[test]
fn the_segment_size_is_lowered_and_the_checksum_right() {
    let code = crate::tunnel::clamp::program(Segments { v4: 1428, v6: 1388 }).unwrap();
    let vips: [IpAddr; 2] = [Ipv4Addr::from(VIP).into(), VIP6.into()];
    let program = Program::load("test", &code, &[map(&vips).as_fd()]).unwrap();
    let answer6 = |from: Ipv6Addr, size: u16| {
        let mut tcp = vec![0, 80, 0x9c, 0x40, 0, 0, 0, 9, 0, 0, 0, 2];
        tcp.extend([0x60, SYN_ACK, 1, 0, 0, 0, 0, 0, 2, 4]);
        tcp.extend(size.to_be_bytes());
        let pseudo = pseudo_v6(from.octets(), CLIENT6.octets(), 6, tcp.len() as u32);
        let sum = !fold(sum(&tcp, pseudo));
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        ip6(6, (from, CLIENT6), &tcp)
    };
    becomes(&program, &answer6(VIP6, 1440), &answer6(VIP6, 1388));
    becomes(&program, &answer6(VIP6, 1388), &answer6(VIP6, 1388));
    becomes(&program, &answer6(OWN6, 1440), &answer6(OWN6, 1440));
    let size = |size: u16| [&[2, 4], &size.to_be_bytes()[..]].concat();
    let (before, after) = (answer(SYN_ACK, &size(1460)), answer(SYN_ACK, &size(1428)));
    becomes(&program, &before, &after);
}
