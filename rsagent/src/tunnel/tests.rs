//! The programs, run by the kernel on made-up frames: what comes out, byte for byte.

use std::net::IpAddr;
use std::os::fd::AsFd;

use shared::sys::bpf::skb::DROP;
use shared::sys::bpf::tcx::TCX_NEXT;
use shared::sys::bpf::{HashMap, Program};
use shared::wire::checksum::{checksum, pseudo_v4, sum};

use super::Ipip;
use super::clamp::Segments;

mod v6;

const OWN: [u8; 4] = [10, 1, 0, 11];
const DIRECTOR: [u8; 4] = [10, 1, 0, 1];
const VIP: [u8; 4] = [192, 0, 2, 100];
const CLIENT: [u8; 4] = [198, 51, 100, 7];

/// To 00:00:00:00:00:00, which is this host's in a test run.
const ETHERNET: [u8; 14] = [0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 8, 0];
const PORT: u16 = 6080;

fn map<A: Into<IpAddr> + Copy>(addresses: &[A]) -> HashMap<16, 1> {
    let addresses = addresses.iter().map(|&address| address.into()).collect();
    super::address::map("test", &addresses).unwrap()
}

fn decapsulator(ipip: Ipip) -> Program {
    let code = super::decapsulate::program(PORT, ipip).unwrap();
    let (own, vips) = (map(&[OWN]), map(&[VIP, [192, 0, 2, 101]]));
    Program::load("test", &code, &[own.as_fd(), vips.as_fd()]).unwrap()
}

fn clamp(v4: u16) -> Program {
    let code = super::clamp::program(Segments { v4, v6: 1388 }).unwrap();
    Program::load("test", &code, &[map(&[VIP]).as_fd()]).unwrap()
}

/// An IPv4 packet with `options` in its header.
fn ip_with(
    options: &[u8],
    protocol: u8,
    (source, destination): ([u8; 4], [u8; 4]),
    payload: &[u8],
) -> Vec<u8> {
    let length = (20 + options.len() + payload.len()) as u16;
    let mut packet = vec![0x45 + (options.len() / 4) as u8, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0x12, 0x34, 0, 0, 63, protocol, 0, 0]);
    packet.extend([source, destination].concat());
    packet.extend(options);
    packet.extend(payload);
    finish(&mut packet);
    packet
}

fn ip(protocol: u8, ends: ([u8; 4], [u8; 4]), payload: &[u8]) -> Vec<u8> {
    ip_with(&[], protocol, ends, payload)
}

/// Makes the header's checksum right.
fn finish(packet: &mut [u8]) {
    let header = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let right = checksum(&packet[..header]).to_be_bytes();
    packet[10..12].copy_from_slice(&right);
}

fn outer(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ip(protocol, (DIRECTOR, OWN), payload)
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let fields = [40_000, port, length, 0].map(u16::to_be_bytes);
    [&fields.concat(), payload].concat()
}

fn gue(header: &[u8], inner: &[u8]) -> Vec<u8> {
    outer(17, &udp(PORT, &[header, inner].concat()))
}

fn gre(header: &[u8], inner: &[u8]) -> Vec<u8> {
    outer(47, &[header, inner].concat())
}

fn frame(packet: &[u8]) -> Vec<u8> {
    [&ETHERNET, packet].concat()
}

/// A TCP segment of the client, odd in length.
fn request() -> Vec<u8> {
    let mut tcp = vec![0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 1, 0];
    tcp.extend([0; 4]);
    tcp.extend(b"GET / HTTP/1.0\r\n\r\n!");
    ip(6, (CLIENT, VIP), &tcp)
}

#[track_caller]
fn taken_off(program: &Program, packet: &[u8], expected: &[u8]) {
    let (verdict, left) = program.test_frame(&frame(packet)).unwrap();
    assert_eq!(verdict, TCX_NEXT);
    assert_eq!(left, frame(expected));
}

#[track_caller]
fn untouched(program: &Program, packet: &[u8]) {
    taken_off(program, packet, packet);
}

#[test]
fn the_inner_packet_is_what_is_left() {
    let program = decapsulator(Ipip::Program);
    let inner = request();
    taken_off(&program, &outer(4, &inner), &inner);
    taken_off(&program, &gue(&[0, 4, 0, 0], &inner), &inner);
    taken_off(&program, &gre(&[0, 0, 8, 0], &inner), &inner);
    let with_checksum = [0x80, 0, 8, 0, 0x12, 0x34, 0, 0];
    taken_off(&program, &gre(&with_checksum, &inner), &inner);
    // The longest there can be: options outside, and 124 bytes behind GUE's header.
    let long = [&[0x1f, 4, 0, 0][..], &[7; 124]].concat();
    let long = udp(PORT, &[&long[..], &inner].concat());
    let long = ip_with(&[1; 40], 17, (DIRECTOR, OWN), &long);
    taken_off(&program, &long, &inner);
}

#[test]
fn what_a_tunnel_may_carry() {
    let program = decapsulator(Ipip::Program);
    let ends = (CLIENT, VIP);
    let fragment = |offset: u16, protocol: u8| {
        let mut packet = ip(protocol, ends, &[3; 64]);
        packet[6..8].copy_from_slice(&offset.to_be_bytes());
        finish(&mut packet);
        packet
    };
    let accepted = [
        request(),
        ip(17, ends, &udp(53, b"question")),
        ip_with(&[1; 8], 6, ends, &[0; 20]),
        fragment(0x2000, 17),
        fragment(0x00b9, 17),
        fragment(0x00b9, 6),
        ip(132, ends, &[1; 40]),
        ip(50, ends, &[1; 40]),
        ip(51, ends, &[1; 40]),
        ip(1, ends, &[3, 4, 0, 0, 0, 0, 5, 0x14]),
        ip(1, ends, &[11, 0, 0, 0, 0, 0, 0, 0]),
        ip_with(&[1; 4], 1, ends, &[12, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for inner in accepted {
        taken_off(&program, &outer(4, &inner), &inner);
    }
    let mut of_version_6 = request();
    of_version_6[0] = 0x65;
    let left = [
        ip(1, ends, &[8, 0, 0, 0, 0, 0, 0, 0]),
        ip(1, ends, &[]),
        fragment(0x00b9, 1),
        ip(6, (CLIENT, [192, 0, 2, 102]), &[0; 20]),
        ip(6, (CLIENT, OWN), &[0; 20]),
        ip(4, ends, &request()),
        ip(47, ends, &[&[0, 0, 8, 0], &request()[..]].concat()),
        ip(103, ends, &[0; 20]),
        of_version_6,
    ];
    for inner in left {
        untouched(&program, &outer(4, &inner));
    }
}

#[test]
fn what_is_not_a_tunnel_of_ours_passes_as_it_came() {
    let program = decapsulator(Ipip::Program);
    let inner = request();
    let mut first_fragment = outer(4, &inner);
    first_fragment[6] = 0x20;
    let mut last_fragment = outer(4, &inner);
    last_fragment[7] = 1;
    let packets = [
        inner.clone(),
        ip(4, (DIRECTOR, VIP), &inner),
        ip(4, (DIRECTOR, [10, 1, 0, 12]), &inner),
        first_fragment,
        last_fragment,
        outer(17, &udp(PORT + 1, &[&[0, 4, 0, 0], &inner[..]].concat())),
        // Control message, version 1, not IPv6 inside, remcsum, a flag.
        gue(&[0x20, 4, 0, 0], &inner),
        gue(&[0x40, 4, 0, 0], &inner),
        gue(&[0, 41, 0, 0], &inner),
        gue(&[2, 4, 0, 1, 0x80, 0, 0, 0, 0, 20, 0, 36], &inner),
        gue(&[1, 4, 0x80, 0, 0, 0, 0, 0], &inner),
        // Not IPv6 inside, key, version 1.
        gre(&[0, 0, 0x86, 0xdd], &inner),
        gre(&[0x20, 0, 8, 0, 0, 0, 0, 1], &inner),
        gre(&[0, 1, 8, 0], &inner),
    ];
    for packet in packets {
        untouched(&program, &packet);
    }
    let others_frame = [&[2; 6], &frame(&outer(4, &inner))[6..]].concat();
    let (verdict, left) = program.test_frame(&others_frame).unwrap();
    assert_eq!((verdict, left), (TCX_NEXT, others_frame));

    let with_device = decapsulator(Ipip::Kernel);
    untouched(&with_device, &outer(4, &inner));
    taken_off(&with_device, &gre(&[0, 0, 8, 0], &inner), &inner);
}

#[test]
fn lengths_that_lie_and_frames_that_end_too_early() {
    let program = decapsulator(Ipip::Program);
    let inner = request();
    let whole = [
        outer(4, &inner),
        gue(&[0, 4, 0, 0], &inner),
        gre(&[0x80, 0, 8, 0, 0, 0, 0, 0], &inner),
    ];
    for packet in &whole {
        // The kernel runs no program on a frame without an IP header.
        for length in 20..packet.len() {
            untouched(&program, &packet[..length]);
        }
        // Bytes behind a packet belong to nothing: they stay where they are.
        let padded = [&packet[..], &[0; 6]].concat();
        taken_off(&program, &padded, &[&inner[..], &[0; 6]].concat());
    }
    let wrong = |packet: &[u8], at: usize, value: u16| {
        let mut packet = packet.to_vec();
        packet[at..at + 2].copy_from_slice(&value.to_be_bytes());
        untouched(&program, &packet);
    };
    let [ipip, gue, _] = &whole;
    let right = ipip.len() as u16;
    for total in [0, 19, 39, right - 1, right + 1, u16::MAX] {
        wrong(ipip, 2, total);
    }
    let right = inner.len() as u16;
    for total in [0, 19, right + 1, u16::MAX] {
        wrong(ipip, 22, total);
    }
    let right = gue.len() as u16 - 20;
    for length in [0, 8, right - 1, right + 1] {
        wrong(gue, 24, length);
    }
    // Headers of 16 and of 60 bytes, and a GUE header that is all of the packet.
    for (at, first) in [(0, 0x44), (20, 0x44), (0, 0x4f)] {
        let mut packet = ipip.clone();
        packet[at] = first;
        untouched(&program, &packet);
    }
    let mut packet = gue.clone();
    packet[28] = 0x1f;
    untouched(&program, &packet);
    // An inner packet shorter than the outer's rest is as it says.
    let loose = outer(4, &[&inner[..], &[9; 5]].concat());
    taken_off(&program, &loose, &[&inner[..], &[9; 5]].concat());
}

#[test]
fn congestion_is_carried_over() {
    let program = decapsulator(Ipip::Program);
    let with_tos = |mut packet: Vec<u8>, tos: u8| {
        packet[1] = tos;
        finish(&mut packet);
        packet
    };
    let tunnel = |outer_tos: u8, inner_tos: u8| {
        let inner = with_tos(request(), inner_tos);
        with_tos(outer(4, &inner), outer_tos)
    };
    for (outside, inside, expected) in [
        (0xb8, 0x28, 0x28),
        (0xb9, 0x2a, 0x2a),
        (0xba, 0x2b, 0x2b),
        (0x03, 0x29, 0x2b),
        (0x03, 0x2a, 0x2b),
        (0x03, 0x03, 0x03),
    ] {
        let expected = with_tos(request(), expected);
        taken_off(&program, &tunnel(outside, inside), &expected);
    }
    let (verdict, _) = program.test_frame(&frame(&tunnel(3, 0x28))).unwrap();
    assert_eq!(verdict, DROP);
}

/// What the VIP answers, with these options, and a right checksum.
fn answer(flags: u8, options: &[u8]) -> Vec<u8> {
    let mut tcp = vec![0, 80, 0x9c, 0x40, 0, 0, 0, 9, 0, 0, 0, 2];
    tcp.extend([((20 + options.len()) as u8) << 2, flags, 1, 0, 0, 0, 0, 0]);
    tcp.extend(options);
    let pseudo = pseudo_v4(VIP, CLIENT, 6, tcp.len() as u16);
    let folded = (1..3).fold(sum(&tcp, pseudo), |sum, _| (sum >> 16) + (sum & 0xffff));
    tcp[16..18].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    ip(6, (VIP, CLIENT), &tcp)
}

const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;

#[test]
fn the_segment_size_is_lowered_and_the_checksum_right() {
    let program = clamp(1428);
    let becomes = |flags: u8, options: &[u8], expected: &[u8]| {
        taken_off(&program, &answer(flags, options), &answer(flags, expected));
    };
    let size = |size: u16| [&[2, 4], &size.to_be_bytes()[..]].concat();
    becomes(SYN_ACK, &size(1460), &size(1428));
    becomes(SYN, &size(65_495), &size(1428));
    becomes(SYN_ACK, &size(1429), &size(1428));
    becomes(SYN_ACK, &size(1428), &size(1428));
    becomes(SYN_ACK, &size(536), &size(536));
    // As Linux sends it; behind an option of odd length; at the very end.
    let with = |head: &[u8], value: u16, tail: &[u8]| [head, &size(value), tail].concat();
    let usual = [4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
    becomes(SYN_ACK, &with(&[], 1460, &usual), &with(&[], 1428, &usual));
    for head in [
        &[3, 3, 7][..],
        &[1][..],
        &[1; 36][..],
        &[8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1][..],
    ] {
        let tail = vec![0; (4 - head.len() % 4) % 4];
        let (before, after) = (with(head, 1460, &tail), with(head, 1428, &tail));
        becomes(SYN_ACK, &before, &after);
    }
    let options = [1; 4];
    let mut behind_ip_options = answer(SYN_ACK, &size(1460));
    behind_ip_options.splice(20..20, options);
    behind_ip_options[0] = 0x46;
    behind_ip_options[3] += 4;
    finish(&mut behind_ip_options);
    let (_, left) = program.test_frame(&frame(&behind_ip_options)).unwrap();
    assert_eq!(left[14 + 24 + 16..], answer(SYN_ACK, &size(1428))[36..]);
}

#[test]
fn other_packets_leave_as_they_are() {
    let program = clamp(1428);
    let size = [2, 4, 5, 0xb4];
    let mut of_another = answer(SYN_ACK, &size);
    of_another[12..16].copy_from_slice(&OWN);
    let mut fragment = answer(SYN_ACK, &size);
    fragment[6] = 0x20;
    let mut datagram = answer(SYN_ACK, &size);
    datagram[9] = 17;
    let mut short_header = answer(SYN_ACK, &size);
    short_header[32] = 0x40;
    let packets = [
        of_another,
        fragment,
        datagram,
        short_header,
        answer(0x10, &size),
        answer(SYN_ACK, &[]),
        // Behind the end; lengths of none, of too much, of another size.
        answer(SYN_ACK, &[0, 2, 4, 5, 0xb4, 0, 0, 0]),
        answer(SYN_ACK, &[3, 0, 2, 4, 5, 0xb4, 0, 0]),
        answer(SYN_ACK, &[3, 255, 2, 4, 5, 0xb4, 0, 0]),
        answer(SYN_ACK, &[2, 3, 5, 0xb4]),
        answer(SYN_ACK, &[1, 2, 4, 5]),
        answer(SYN_ACK, &[1; 40]),
        answer(SYN_ACK, &[1, 1, 1, 2]),
    ];
    for packet in packets {
        untouched(&program, &packet);
    }
    let whole = answer(SYN_ACK, &size);
    for length in 20..whole.len() {
        untouched(&program, &whole[..length]);
    }
}

#[test]
fn the_segment_leaves_room_for_the_largest_tunnel() {
    let both = |v4, v6| Some(Segments { v4, v6 });
    assert_eq!(Segments::on(1500), both(1428, 1388));
    assert_eq!(Segments::on(9000), both(8928, 8888));
    assert_eq!(Segments::on(608), both(536, 496));
    assert_eq!(Segments::on(607), None);
    assert_eq!(Segments::on(60), None);
    assert_eq!(Segments::on(u32::MAX), None);
}

#[test]
fn the_programs_assemble_for_every_number() {
    for number in [0, 1, 0x8000, u16::MAX] {
        let segments = Segments {
            v4: number,
            v6: number,
        };
        assert!(super::clamp::program(segments).is_ok());
        for ipip in [Ipip::Kernel, Ipip::Program] {
            assert!(super::decapsulate::program(number, ipip).is_ok());
        }
    }
}
