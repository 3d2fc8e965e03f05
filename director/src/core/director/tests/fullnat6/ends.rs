//! Both ends of packets are others, and the checksums are right.

use proptest::prelude::*;
use shared::wire::{ethernet, ipv6, sctp};

use super::super::ipv6::{carried, extended, frame_of};
use super::*;
use crate::core::operation::{OperationError, ServerSpec};
use crate::core::reason::Reason;

#[test]
fn a_datagram_and_its_answer_have_two_other_ends() {
    for (side, kind) in [(six(), ethernet::IPV6), (four(), ethernet::IPV4)] {
        let mut director = side.lab();
        let asked = from_client(&mut director, &datagram(there(53), b"hello"));
        assert_eq!(asked.verdict, Verdict::Forward(INSIDE));
        assert_eq!(asked.ethernet, (SERVER_MAC, INSIDE_MAC));
        assert_eq!(
            (asked.ethertype, asked.packet.len()),
            (kind, side.header() + 13)
        );
        let (ends, segment) = read(&asked.packet);
        assert_eq!(ends, reversed(back(side, 5353)));
        assert_eq!(segment[8..], *b"hello");
        let ip = Ip::read(&asked.packet).unwrap();
        assert_eq!((ip.ttl, ip.tos), (63, 0xb8));

        let answer = from_server(&mut director, &datagram(back(side, 5353), b"world"));
        assert_eq!(answer.verdict, Verdict::Forward(OUTSIDE));
        assert_eq!(answer.ethernet, (CLIENT_MAC, OUTSIDE_MAC));
        assert_eq!(answer.ethertype, ethernet::IPV6);
        let (ends, segment) = read(&answer.packet);
        assert_eq!(ends, reversed(there(53)));
        assert_eq!(segment[8..], *b"world");
        let ip = Ip::read(&answer.packet).unwrap();
        assert_eq!((ip.ttl, ip.tos), (63, 0xb8));
    }
}

#[test]
fn extension_headers_do_not_reach_ipv4() {
    let mut director = four().lab();
    let options = [ipv6::DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0];
    let asked = extended(datagram(there(53), b"hello"), &[&options, &options]);
    let asked = from_client(&mut director, &asked);
    assert_eq!(asked.packet.len(), 33);
    assert_eq!(read(&asked.packet).0, reversed(back(four(), 5353)));
}

#[test]
fn frames_of_many_segments_go_through_whole() {
    let data: Vec<u8> = (0..20_000_u32).map(|n| (n / 7) as u8).collect();
    for side in [six(), four()] {
        let (mut director, shift) = shaken(side, Beyond::default());
        let acknowledged = shift.wrapping_add(1006);
        let mut other = side.lab();
        from_client(&mut other, &datagram(there(53), b"hello"));
        let packets = [
            // The server has the option by then.
            segment(there(80), ACK, (1006, 7002), &[], &data),
            segment(back(side, 8080), ACK, (7001, acknowledged), &[], &data),
            datagram(there(53), &data),
            datagram(back(side, 5353), &data),
        ];
        for packet in &packets {
            let from_inside = Ip::read(packet).unwrap().source == side.server;
            let size = if from_inside { 1400 } else { 1440 };
            let (vnet, packet) = partial(packet, size);
            let (port, mac, own) = if from_inside {
                (INSIDE, SERVER_MAC, INSIDE_MAC)
            } else {
                (OUTSIDE, CLIENT_MAC, OUTSIDE_MAC)
            };
            let director = match Ip::read(&packet).unwrap().protocol {
                Protocol::TCP => &mut director,
                _ => &mut other,
            };
            let sent = send(director, port, mac, own, vnet, &packet);
            assert!(matches!(sent.verdict, Verdict::Forward(_)), "{sent:?}");
            let (expected, _) = partial(&sent.packet, size);
            assert_eq!(sent.vnet, expected);
            let (_, segment) = read(&completed(sent.vnet, &sent.packet));
            assert_eq!(segment[segment.len() - data.len()..], data);
        }
    }
}

#[test]
fn sctp_keeps_its_checksum() {
    for side in [six(), four()] {
        let mut director = side.lab();
        let key = ServiceKey::new(Protocol::SCTP, VIP6, 36412);
        let server = ServerSpec::new(side.server.ip(), 3868, ForwardMethod::FullNat, 1);
        for operation in [
            Operation::AddService(ServiceSpec::new(key, "rr")),
            Operation::AddServer(key, server),
        ] {
            director.apply(NOW, &operation).unwrap();
        }
        let chunk = |(from, to): (End, End), kind: u8| {
            let mut body = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
            body.extend([0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0, kind, 0, 0, 4]);
            sctp::sum_up(&mut body);
            packet(Protocol::SCTP, from.0, to.0, &body)
        };
        let ends = |packet: &[u8]| {
            let ip = Ip::read(packet).unwrap();
            assert!(sctp::verifies(ip.payload(packet)), "CRC32c");
            let (from, to) = transport::ports(ip.payload(packet)).unwrap();
            ((ip.source, from), (ip.destination, to))
        };
        let init = from_client(&mut director, &chunk(there(36412), sctp::chunk::INIT));
        assert_eq!(ends(&init.packet), reversed(back(side, 3868)));
        let answer = chunk(back(side, 3868), sctp::chunk::INIT_ACK);
        let answer = from_server(&mut director, &answer);
        assert_eq!(ends(&answer.packet), reversed(there(36412)));
    }
}

#[test]
fn what_comes_to_a_local_address_is_taken_and_answered() {
    let side = six();
    let mut director = side.lab();
    let ends = ((side.server, 8080), (side.local, 2000));
    let quoted = datagram(reversed(ends), b"hello");
    for packet in [
        segment(ends, ACK, (1, 1), &[], b""),
        datagram(ends, b"hello"),
        error_about(Error::PortUnreachable, side.local, &quoted),
    ] {
        assert!(director.takes(INSIDE, &frame_of(INSIDE_MAC, &packet)));
    }
    let stray = from_server(&mut director, &segment(ends, ACK, (1, 1), &[], b""));
    assert_eq!(stray.verdict, Verdict::Drop(Reason::NoConnection));
    let (told, reset) = read(&all(&stray)[0]);
    assert_eq!((told, reset[13]), (reversed(ends), 0x04));
    let none = Operation::DeleteLocalAddress(LOCAL6.into());
    for operation in [Operation::Flush, none] {
        director.apply(NOW, &operation).unwrap();
    }
    let packet = datagram(ends, b"hello");
    assert!(!director.takes(INSIDE, &frame_of(INSIDE_MAC, &packet)));
}

#[test]
fn each_family_needs_local_addresses_of_its_own() {
    let mut director = serving(ForwardMethod::Nat, SERVER6.into());
    let key = ServiceKey::new(Protocol::TCP, VIP6, 80);
    let mut apply = |operation: &Operation| match director.apply(NOW, operation) {
        Err(OperationError::Unfit(reason) | OperationError::Invalid(reason)) => reason,
        Err(OperationError::NotYet(reason)) => reason,
        Err(other) => panic!("{other:?}"),
        Ok(()) => String::new(),
    };
    let full_nat = |server: &str| {
        let server: std::net::IpAddr = server.parse().unwrap();
        Operation::AddServer(key, ServerSpec::new(server, 80, ForwardMethod::FullNat, 1))
    };
    let add = |address: &str| Operation::AddLocalAddress {
        address: address.parse().unwrap(),
        interface: None,
    };
    let remove = |address: &str| Operation::DeleteLocalAddress(address.parse().unwrap());
    for wrong in ["::1", "fe80::1", "ff02::1", "::"] {
        let reason = apply(&add(wrong));
        assert!(reason.contains("not the address of one host"), "{reason}");
    }
    let lacks = "there is no local address of its family";
    assert_eq!(apply(&add("10.1.0.2")), "");
    assert!(apply(&full_nat("2001:db8:1::12")).contains(lacks));
    assert_eq!(apply(&full_nat("10.1.0.11")), "");
    assert_eq!(apply(&add("2001:db8:1::2")), "");
    assert_eq!(apply(&full_nat("2001:db8:1::12")), "");
    for last in ["10.1.0.2", "2001:db8:1::2"] {
        let reason = apply(&remove(last));
        assert!(reason.contains("is the last one of its family"), "{reason}");
    }
    assert_eq!(apply(&add("2001:db8:1::3")), "");
    assert_eq!(apply(&remove("2001:db8:1::2")), "");

    // The kernel's word for the other methods stays.
    let nat = ServerSpec::new(std::net::Ipv4Addr::from(SERVER), 80, ForwardMethod::Nat, 1);
    let reason = apply(&Operation::AddServer(key, nat));
    assert!(reason.contains("needs a tunnel"), "{reason}");
    let four = ServiceKey::new(Protocol::TCP, std::net::Ipv4Addr::from(VIP), 80);
    let six = ServerSpec::new(SERVER6, 80, ForwardMethod::FullNat, 1);
    let reason = apply(&Operation::AddServer(four, six));
    assert!(reason.contains("FULLNAT of an IPv4 service"), "{reason}");
}

proptest! {
    /// Whatever comes from either end: no panic, and nothing but what is of the other end's family leaves.
    #[test]
    fn garbage_is_survived(
        next in prop::sample::select(vec![0_u8, 1, 6, 17, 44, 58, 60, 132]),
        fragment in any::<u16>(),
        options in 0_usize..=10,
        length in prop::option::of(any::<u16>()),
        mut rest in prop::collection::vec(any::<u8>(), 0..200),
        to_port in any::<bool>(),
        partial in any::<bool>(),
    ) {
        let side = four();
        let mut director = side.lab();
        from_client(&mut director, &datagram(there(53), b"hello"));
        if to_port && rest.len() >= 4 {
            rest[..4].copy_from_slice(&[5353_u16.to_be_bytes(), PORT.to_be_bytes()].concat());
        }
        let header = ipv4::Header {
            tos: 0,
            identification: 1,
            fragment,
            ttl: 64,
            protocol: next,
            source: SERVER,
            destination: LOCAL,
        };
        let mut packet = [
            &header.to_bytes(rest.len() + 4 * options)[..],
            &vec![1; 4 * options],
            &rest,
        ].concat();
        packet[0] += options as u8;
        if let Some(length) = length {
            transport::set_field(&mut packet, 2, length);
        }
        packet[10..12].fill(0);
        let sum = checksum::checksum(&packet[..20 + 4 * options]);
        transport::set_field(&mut packet, 10, sum);
        let vnet = VnetHeader {
            flags: u8::from(partial),
            gso_type: if partial { 5 } else { 0 },
            hdr_len: 42,
            gso_size: 100,
            csum_start: 34,
            csum_offset: 6,
        };
        let answer = send(&mut director, INSIDE, SERVER_MAC, INSIDE_MAC, vnet, &packet);
        if answer.verdict == Verdict::Forward(OUTSIDE) {
            prop_assert_eq!(answer.packet[0] >> 4, 6);
        }
        let asked = carried(next, CLIENT6, VIP6, &rest);
        let asked = from_client(&mut director, &asked);
        if asked.verdict == Verdict::Forward(INSIDE) {
            prop_assert_eq!(asked.packet[0] >> 4, 4);
        }
    }
}
