//! ICMP errors, of the director and of others.

use shared::wire::icmpv4;

use super::*;
use crate::core::reason::Reason;

/// The one ICMP error that was sent: its packet's ends, its message, and the packet it is about.
fn error_sent(outcome: &Outcome) -> (Addr, Addr, Vec<u8>, Vec<u8>) {
    let [Outgoing::Transmit(_, frame)] = &outcome.outbox[..] else {
        panic!("{outcome:?}")
    };
    error(&frame[24..])
}

fn error(packet: &[u8]) -> (Addr, Addr, Vec<u8>, Vec<u8>) {
    let ip = Ip::read(packet).unwrap();
    let message = ip.payload(packet);
    match ip.family() {
        Family::V4 => assert!(checksum::verifies(message)),
        Family::V6 => assert!(icmpv6::verifies(
            message,
            ip.source.to_bytes(),
            ip.destination.to_bytes()
        )),
    }
    (
        ip.source,
        ip.destination,
        message.to_vec(),
        message[8..].to_vec(),
    )
}

/// The MTU that an error tells.
fn mtu_of(to: Addr, message: &[u8]) -> Option<u32> {
    match to.family() {
        Family::V4 => icmpv4::next_mtu(message).map(u32::from),
        Family::V6 => icmpv6::next_mtu(message),
    }
}

#[test]
fn senders_are_told_what_fits_in_their_own_family() {
    for (side, behind, fits) in [
        (six(), 1400, 1400),
        (four(), 1400, 1420),
        (four(), 900, 1280),
    ] {
        let (mut director, _) = shaken(side, Beyond::default());
        set_mtu(&mut director, 1, INSIDE_MAC, behind);
        let size = |bytes: usize| segment(there(80), ACK, (1006, 7002), &[], &vec![7; bytes - 60]);
        let out = from_client(&mut director, &size(1440));
        assert_eq!(out.verdict, Verdict::Drop(Reason::TooBig));
        let (from, to, message, about) = error_sent(&out);
        assert_eq!((from, to), (vip(), client()));
        assert_eq!(mtu_of(to, &message), Some(fits as u32));
        assert_eq!(about[8..40], size(1440)[8..40]);
        let out = from_client(&mut director, &size(fits));
        assert!(!matches!(out.verdict, Verdict::Drop(_)), "{out:?}");
        let mut old = size(100);
        old[7] = 1;
        let out = from_client(&mut director, &old);
        assert_eq!(out.verdict, Verdict::Drop(Reason::TtlExceeded));
        assert_eq!(error_sent(&out).2[0], icmpv6::TIME_EXCEEDED);
    }
    for (side, fits) in [(six(), 1300_usize), (four(), 1280)] {
        let (mut director, shift) = shaken(side, Beyond::default());
        set_mtu(&mut director, 0, OUTSIDE_MAC, 1300);
        // By this it is known where the client is now.
        from_client(
            &mut director,
            &segment(there(80), ACK, (1001, 7001), &[], b""),
        );
        let acknowledged = shift.wrapping_add(1006);
        let size = |bytes: usize| {
            let data = vec![7; bytes - side.header() - 20];
            segment(back(side, 8080), ACK, (7001, acknowledged), &[], &data)
        };
        let out = from_server(&mut director, &size(fits + 1));
        assert_eq!(out.verdict, Verdict::Drop(Reason::TooBig));
        let (_, to, message, _) = error_sent(&out);
        assert_eq!(to, side.server);
        assert_eq!(mtu_of(to, &message), Some(fits as u32));
        let out = from_server(&mut director, &size(fits));
        assert_eq!(out.verdict, Verdict::Forward(OUTSIDE));
    }
}

#[test]
fn errors_of_others_reach_both_ends_about_what_they_know() {
    for side in [six(), four()] {
        let growth = 40 - side.header() as u32;
        let too_big = Error::FragmentationNeeded { mtu: 1400 };
        for (said, mtu) in [(too_big, Some(1400)), (Error::PortUnreachable, None)] {
            let (mut director, shift) = shaken(side, Beyond::default());
            let asked = segment(there(80), ACK, (1006, 7002), &[], b"data");
            let request = out(&from_client(&mut director, &asked));
            // As much of it as a stingy router quotes.
            let quoted = &request[..side.header() + 8];
            let told = from_server(&mut director, &error_about(said, side.local, quoted));
            let packets = all(&told);
            let (from, to, message, about) = error(&packets[0]);
            assert_eq!((from, to), (vip(), client()));
            assert_eq!(mtu_of(to, &message), mtu.map(|mtu| mtu + growth));
            let ip = Ip::read(&about).unwrap();
            assert_eq!((ip.source, ip.destination), (client(), vip()));
            assert_eq!(ip.total, asked.len());
            assert_eq!(transport::ports(&about[40..]), Some((40001, 80)));
            assert_eq!(number(&about, 44), 1006);

            let acknowledged = shift.wrapping_add(1006);
            let said_back = segment(back(side, 8080), ACK, (7002, acknowledged), &[], b"data");
            let reply = out(&from_server(&mut director, &said_back));
            let told = from_client(&mut director, &error_about(said, vip(), &reply));
            let packets = all(&told);
            let (from, to, message, about) = error(&packets[0]);
            assert_eq!((from, to), (side.local, side.server));
            assert_eq!(mtu_of(to, &message), mtu.map(|mtu| mtu - growth));
            let ip = Ip::read(&about).unwrap();
            assert_eq!((ip.source, ip.destination), (side.server, side.local));
            assert_eq!(ip.total, said_back.len());
            let segment = &about[side.header()..];
            assert_eq!(transport::ports(segment), Some((8080, PORT)));
            assert_eq!(number(segment, 4), 7002);
        }
    }
    // One that is broken, and one that IPv6 has no word for.
    let mut director = four().lab();
    let request = from_client(&mut director, &datagram(there(53), b"hello")).packet;
    let mut broken = error_about(Error::PortUnreachable, four().local, &request);
    *broken.last_mut().unwrap() ^= 1;
    let told = from_server(&mut director, &broken);
    assert_eq!(told.verdict, Verdict::Drop(Reason::IcmpChecksum));
    let quench = Error::Relayed {
        kind: icmpv4::SOURCE_QUENCH,
        code: 0,
        rest: 0,
    };
    let told = from_server(&mut director, &error_about(quench, four().local, &request));
    assert_eq!(told.verdict, Verdict::Drop(Reason::Untranslatable));
}
