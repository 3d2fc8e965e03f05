//! AH and ESP go where the conversation about their keys goes.

use shared::addr::{Addr, Protocol};
use shared::wire::icmpv4::Error;
use shared::wire::ipv4::{self, Packet};

use super::errors::about;
use super::ipv6::{CLIENT6, SERVER6, VIP6, carried, packet};
use super::laboratory::*;
use crate::core::capture::CaptureKey;
use crate::core::director::Director;
use crate::core::operation::{ForwardMethod, Operation, ServerSpec, ServiceKey, ServiceSpec};
use crate::core::reason::Reason;
use crate::core::verdict::Verdict;

fn key() -> ServiceKey {
    ServiceKey::new(Protocol::UDP, std::net::Ipv4Addr::from(VIP), 500)
}

fn lab(method: ForwardMethod) -> Director {
    let mut director = director(method);
    let server = ServerSpec::new(std::net::Ipv4Addr::from(SERVER), 500, method, 1);
    for operation in [
        Operation::AddService(ServiceSpec::new(key(), "rr")),
        Operation::AddServer(key(), server),
    ] {
        director.apply(NOW, &operation).unwrap();
    }
    director
}

fn speak_of_keys(director: &mut Director) {
    let out = from_client(director, &udp((CLIENT, 500), (VIP, 500)).packet());
    assert_eq!(out.verdict, Verdict::Forward(INSIDE));
}

fn sealed(protocol: Protocol, from: [u8; 4], to: [u8; 4], fragment: u16) -> Vec<u8> {
    let header = ipv4::Header {
        tos: 0,
        identification: 5,
        fragment,
        ttl: 64,
        protocol: protocol.0,
        source: from,
        destination: to,
    };
    [&header.to_bytes(64)[..], &[0x5a; 64]].concat()
}

#[test]
fn by_nat_the_addresses_change_and_nothing_else() {
    for protocol in [Protocol::ESP, Protocol::AH] {
        let mut director = lab(ForwardMethod::Nat);
        let first = sealed(protocol, CLIENT, VIP, ipv4::DF);
        assert_eq!(from_client(&mut director, &first).verdict, Verdict::Local);
        speak_of_keys(&mut director);
        // Each part of one is as good as a whole.
        for fragment in [ipv4::DF, ipv4::MF, 8] {
            let out = from_client(&mut director, &sealed(protocol, CLIENT, VIP, fragment));
            assert_eq!(out.verdict, Verdict::Forward(INSIDE));
            let packet = Packet::new_checked(&out.packet[..]).unwrap();
            assert_eq!((packet.source(), packet.destination()), (CLIENT, SERVER));
            assert_eq!(packet.payload(), [0x5a; 64]);
        }
        let back = from_server(&mut director, &sealed(protocol, SERVER, CLIENT, 0));
        assert_eq!(back.verdict, Verdict::Forward(OUTSIDE));
        let packet = Packet::new_checked(&back.packet[..]).unwrap();
        assert_eq!((packet.source(), packet.destination()), (VIP, CLIENT));
        assert_eq!(packet.payload(), [0x5a; 64]);
        // Of another client nothing is known.
        let other = sealed(protocol, FAR_CLIENT, VIP, ipv4::DF);
        assert_eq!(from_client(&mut director, &other).verdict, Verdict::Local);
        let services = director.balancer.services();
        let ours = services.iter().find(|s| s.spec.key == key()).unwrap();
        assert_eq!((ours.stats.connections, ours.stats.in_packets), (1, 4));
    }
}

/// Of IPv6 by NAT, where the two have not spoken yet.
fn silent6() -> Director {
    let mut director = super::ipv6::director6(ForwardMethod::Nat);
    let key = ServiceKey::new(Protocol::UDP, VIP6, 500);
    let server = ServerSpec::new(SERVER6, 500, ForwardMethod::Nat, 1);
    for operation in [
        Operation::AddService(ServiceSpec::new(key, "rr")),
        Operation::AddServer(key, server),
    ] {
        director.apply(NOW, &operation).unwrap();
    }
    director
}

fn speak_of_keys6(director: &mut Director) {
    let keys = packet(Kind::Udp, (CLIENT6, 500), (VIP6, 500));
    let out = from_client(director, &keys);
    assert_eq!(out.verdict, Verdict::Forward(INSIDE));
}

/// Over IPv6 as well, whole or in parts.
#[test]
fn of_ipv6_too() {
    let mut director = silent6();
    let sealed = carried(Protocol::ESP.0, CLIENT6, VIP6, &[0x5a; 64]);
    assert_eq!(from_client(&mut director, &sealed).verdict, Verdict::Local);
    speak_of_keys6(&mut director);
    let part = |offset: u8| {
        let fragment = [&[Protocol::AH.0, 0, 0, offset, 0, 0, 0, 7], &[0x5a; 64][..]].concat();
        carried(44, CLIENT6, VIP6, &fragment)
    };
    for asked in [sealed, part(1), part(8)] {
        let out = from_client(&mut director, &asked);
        assert_eq!(out.verdict, Verdict::Forward(INSIDE));
        assert_eq!(out.packet[8..24], CLIENT6.octets());
        assert_eq!(out.packet[24..40], SERVER6.octets());
        assert_eq!(out.packet[40..], asked[40..]);
    }
    let answer = carried(Protocol::ESP.0, SERVER6, CLIENT6, &[0x5a; 64]);
    let back = from_server(&mut director, &answer);
    assert_eq!(back.verdict, Verdict::Forward(OUTSIDE));
    assert_eq!(back.packet[8..24], VIP6.octets());
    assert_eq!(back.packet[24..], answer[24..]);
}

/// The capture asks for as many bytes as ports have, behind extension headers that end in the packet.
#[test]
fn what_is_cut_too_short_is_the_hosts() {
    let mut director = silent6();
    speak_of_keys6(&mut director);
    for (options, bytes, verdict) in [
        (0, 4, Verdict::Forward(INSIDE)),
        (0, 3, Verdict::Local),
        (255, 64, Verdict::Local),
    ] {
        let mut rest = vec![Protocol::AH.0, options, 1, 4, 0, 0, 0, 0];
        rest.extend(vec![0x5a; bytes]);
        let packet = carried(60, CLIENT6, VIP6, &rest);
        let out = from_client(&mut director, &packet);
        assert_eq!(out.verdict, verdict, "{options}, {bytes} bytes");
    }
}

#[test]
fn by_direct_routing_and_tunnel() {
    let esp = sealed(Protocol::ESP, CLIENT, VIP, 0);
    let mut direct = lab(ForwardMethod::Direct);
    speak_of_keys(&mut direct);
    let out = from_client(&mut direct, &esp);
    assert_eq!(out.verdict, Verdict::Forward(INSIDE));
    assert_eq!(out.packet[20..], esp[20..]);
    assert_eq!(out.packet[12..20], esp[12..20]);
    let mut tunnel = lab(ForwardMethod::Tunnel);
    speak_of_keys(&mut tunnel);
    let out = from_client(&mut tunnel, &esp);
    assert_eq!(out.verdict, Verdict::Forward(INSIDE));
    assert_eq!(out.packet[20 + 12..], esp[12..]);
}

#[test]
fn by_full_nat_it_is_the_hosts() {
    let mut director = lab(ForwardMethod::FullNat);
    speak_of_keys(&mut director);
    let esp = sealed(Protocol::ESP, CLIENT, VIP, 0);
    assert_eq!(from_client(&mut director, &esp).verdict, Verdict::Local);
}

#[test]
fn its_server_is_gone() {
    let mut director = lab(ForwardMethod::Nat);
    speak_of_keys(&mut director);
    let server = ServerSpec::new(std::net::Ipv4Addr::from(SERVER), 500, ForwardMethod::Nat, 1);
    let operation = Operation::DeleteServer(key(), server.key);
    director.apply(NOW, &operation).unwrap();
    let out = from_client(&mut director, &sealed(Protocol::ESP, CLIENT, VIP, 0));
    assert_eq!(out.verdict, Verdict::Drop(Reason::ServerRemoved));
}

#[test]
fn errors_about_it_keep_what_stands_where_others_have_ports() {
    let mut director = lab(ForwardMethod::Nat);
    speak_of_keys(&mut director);
    let out = from_client(&mut director, &sealed(Protocol::ESP, CLIENT, VIP, ipv4::DF));
    let error = Error::FragmentationNeeded { mtu: 1400 };
    let out = from_server(
        &mut director,
        &about(&out.packet, error, [10, 1, 0, 9], CLIENT),
    );
    assert_eq!(out.verdict, Verdict::Forward(OUTSIDE));
    let quoted = Packet::new_lenient(&out.packet[28..]).unwrap();
    assert_eq!((quoted.source(), quoted.destination()), (CLIENT, VIP));
    assert_eq!(quoted.rest(), [0x5a; 64]);
}

/// The capture asks for as many bytes as ports have.
#[test]
fn errors_that_quote_too_little_of_it_are_the_hosts() {
    let mut director = lab(ForwardMethod::Nat);
    speak_of_keys(&mut director);
    let out = from_client(&mut director, &sealed(Protocol::ESP, CLIENT, VIP, ipv4::DF));
    for (quoted, verdict) in [(23, Verdict::Local), (24, Verdict::Forward(OUTSIDE))] {
        let error = Error::TimeExceeded;
        let error = about(&out.packet[..quoted], error, [10, 1, 0, 9], CLIENT);
        let out = from_server(&mut director, &error);
        assert_eq!(out.verdict, verdict, "{quoted} bytes");
    }
}

/// None of it has gone that way.
#[test]
fn errors_about_it_are_the_hosts_by_full_nat() {
    let mut director = lab(ForwardMethod::FullNat);
    speak_of_keys(&mut director);
    let esp = sealed(Protocol::ESP, VIP, CLIENT, ipv4::DF);
    let error = about(&esp, Error::PortUnreachable, CLIENT, VIP);
    assert_eq!(from_client(&mut director, &error).verdict, Verdict::Local);
}

#[test]
fn it_is_taken_while_there_is_somebody_to_speak_of_keys_with() {
    let mut director = director(ForwardMethod::Nat);
    let keys = [Protocol::ESP, Protocol::AH].map(|protocol| {
        [
            CaptureKey::Service {
                protocol,
                address: Addr::from_v4_bytes(VIP),
                port: 0,
            },
            CaptureKey::Reply {
                protocol,
                address: Addr::from_v4_bytes(SERVER),
                port: 0,
            },
        ]
    });
    let held = |director: &mut Director| {
        let captures = director.balancer.captures();
        keys.as_flattened()
            .iter()
            .map(|key| captures.contains(*key))
            .collect::<Vec<_>>()
    };
    let before = director.capture_keys();
    assert_eq!(held(&mut director), [false; 4]);
    let server = ServerSpec::new(std::net::Ipv4Addr::from(SERVER), 500, ForwardMethod::Nat, 1);
    for operation in [
        Operation::AddService(ServiceSpec::new(key(), "rr")),
        Operation::AddServer(key(), server),
    ] {
        director.apply(NOW, &operation).unwrap();
    }
    assert_eq!(held(&mut director), [true; 4]);
    director
        .apply(NOW, &Operation::DeleteService(key()))
        .unwrap();
    assert_eq!(director.capture_keys(), before);
}
