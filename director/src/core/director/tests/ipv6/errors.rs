//! ICMPv6: errors of the director's own, and those about connections.

use super::*;

#[test]
fn no_server_is_port_unreachable_from_the_vip() {
    let mut director = director6(ForwardMethod::Nat);
    let key = ServiceKey::new(Protocol::TCP, VIP6, 80);
    let server = ServerKey {
        address: SERVER6.into(),
        port: 8080,
    };
    director
        .apply(NOW, &Operation::DeleteServer(key, server))
        .unwrap();
    let out = from_client(&mut director, &syn());
    assert_eq!(out.verdict, Verdict::Drop(Reason::NoServer));
    let (from, to, message) = error_sent(&out);
    assert_eq!((from, to), (VIP6, CLIENT6));
    let code = icmpv6::PORT_UNREACHABLE;
    assert_eq!(message[..2], [icmpv6::UNREACHABLE, code]);
    assert_eq!(message[8..], syn());
    let more = (0..20)
        .filter(|_| !from_client(&mut director, &syn()).outbox.is_empty())
        .count();
    assert_eq!(more, 5, "as often as with IPv4");
}

#[test]
fn what_is_too_big_or_has_come_too_far_is_told() {
    for method in [ForwardMethod::Nat, ForwardMethod::Direct] {
        let mut director = director6(method);
        set_mtu(&mut director, 1, INSIDE_MAC, 1280);
        from_client(&mut director, &syn());
        let (protocol, data) = segment(Kind::Tcp(ACK), (CLIENT6, 40001), (VIP6, 80), &[7; 1300]);
        let mut large = carried(protocol.0, CLIENT6, VIP6, &data);
        let out = from_client(&mut director, &large);
        assert_eq!(out.verdict, Verdict::Drop(Reason::TooBig));
        let (from, to, message) = error_sent(&out);
        assert_eq!((from, to), (VIP6, CLIENT6));
        assert_eq!(icmpv6::next_mtu(&message), Some(1280));
        // No error is larger than any link takes.
        assert_eq!(message.len() + ipv6::HEADER, 1280);

        large[7] = 1;
        let out = from_client(&mut director, &large);
        assert_eq!(out.verdict, Verdict::Drop(Reason::TtlExceeded));
        assert_eq!(error_sent(&out).2[0], icmpv6::TIME_EXCEEDED);
    }
}

/// From a router on the way: its packet with an error about `quoted`.
fn error_about(error: Error, to: Ipv6Addr, quoted: &[u8]) -> Vec<u8> {
    let message = icmpv6::message(error, FAR_CLIENT6.octets(), to.octets(), quoted);
    carried(Protocol::ICMPV6.0, FAR_CLIENT6, to, &message)
}

#[test]
fn errors_about_connections_go_where_their_packets_came_from() {
    let too_big = Error::FragmentationNeeded { mtu: 1300 };
    for method in [ForwardMethod::Nat, ForwardMethod::Direct] {
        let mut director = director6(method);
        from_client(&mut director, &syn());
        let reply = packet(Kind::Tcp(ACK), (VIP6, 80), (CLIENT6, 40001));
        // As much of it as a stingy router quotes.
        let out = from_client(&mut director, &error_about(too_big, VIP6, &reply[..52]));
        assert_eq!(out.verdict, Verdict::Forward(INSIDE), "{method:?}");
        let ip = Ip::read(&out.packet).unwrap();
        let message = ip.payload(&out.packet);
        let (source, destination) = (ip.source.to_bytes(), ip.destination.to_bytes());
        assert!(icmpv6::verifies(message, source, destination));
        assert_eq!(icmpv6::next_mtu(message), Some(1300));
        let quoted = Ip::read(&message[8..]).unwrap();
        let ports = transport::ports(&message[48..]).unwrap();
        let known = if method.is_nat() {
            (SERVER6, 8080)
        } else {
            (VIP6, 80)
        };
        assert_eq!(ip.destination, addr(known.0));
        assert_eq!((quoted.source, ports.0), (addr(known.0), known.1));
    }
}

#[test]
fn errors_about_requests_reach_the_client_from_the_vip() {
    let mut director = director6(ForwardMethod::Nat);
    let request = from_client(&mut director, &syn()).packet;
    let broken = {
        let mut error = error_about(Error::PortUnreachable, CLIENT6, &request);
        error[43] ^= 1;
        error
    };
    let out = from_server(&mut director, &broken);
    assert_eq!(out.verdict, Verdict::Drop(Reason::IcmpChecksum));
    let error = error_about(Error::PortUnreachable, CLIENT6, &request);
    let out = from_server(&mut director, &error);
    assert_eq!(out.verdict, Verdict::Forward(OUTSIDE));
    let ip = Ip::read(&out.packet).unwrap();
    assert_eq!((ip.source, ip.destination), (addr(VIP6), addr(CLIENT6)));
    let message = ip.payload(&out.packet);
    assert!(icmpv6::verifies(message, VIP6.octets(), CLIENT6.octets()));
    let quoted = Ip::read(&message[8..]).unwrap();
    assert_eq!(quoted.destination, addr(VIP6));
    assert_eq!(transport::ports(&message[48..]), Some((40001, 80)));
}

#[test]
fn other_messages_are_the_hosts() {
    let mut director = director6(ForwardMethod::Nat);
    let echo = carried(58, CLIENT6, VIP6, &[128, 0, 0, 0, 0, 1, 0, 1]);
    assert_eq!(from_client(&mut director, &echo).verdict, Verdict::Local);
    let unknown = packet(Kind::Tcp(ACK), (VIP6, 80), (CLIENT6, 40002));
    let error = error_about(Error::TimeExceeded, VIP6, &unknown);
    assert_eq!(from_client(&mut director, &error).verdict, Verdict::Local);
}
