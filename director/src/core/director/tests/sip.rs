//! Datagrams of SIP: what they say is asked where it decides, and nowhere else.

use std::net::Ipv4Addr;

use shared::addr::{Addr, Protocol};
use shared::wire::ipv4;

use super::fragments::joined;
use super::laboratory::*;
use crate::core::director::Director;
use crate::core::net::{Mac, NetworkEvent};
use crate::core::operation::{
    ForwardMethod, Netmask, Operation, Persistence, ServerSpec, ServiceKey, ServiceSpec,
};
use crate::core::reason::Reason;
use crate::core::verdict::Verdict;

const SERVERS: [[u8; 4]; 2] = [[10, 1, 0, 12], SERVER];
/// One for each server; the scheduler begins with the newest.
const MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 12]), SERVER_MAC];

/// A service for SIP of two servers.
fn sip(method: ForwardMethod, one_packet: bool) -> Director {
    let mut director = director(ForwardMethod::Nat);
    let key = ServiceKey::new(Protocol::UDP, Ipv4Addr::from(VIP), 5060);
    let service = ServiceSpec {
        persistence: Some(Persistence {
            timeout_secs: 60,
            netmask: Netmask::V4(u32::MAX),
        }),
        persistence_engine: Some("sip".to_owned()),
        one_packet,
        ..ServiceSpec::new(key, "rr")
    };
    director
        .apply(NOW, &Operation::AddService(service))
        .unwrap();
    for (server, mac) in SERVERS.into_iter().zip(MACS).rev() {
        let neighbour = NetworkEvent::Neighbour {
            ifindex: 1,
            address: Addr::from_v4_bytes(server),
            mac,
        };
        director.network_changed(neighbour, &mut Default::default());
        let server = ServerSpec::new(Ipv4Addr::from(server), 5060, method, 1);
        let operation = Operation::AddServer(key, server);
        director.apply(NOW, &operation).unwrap();
    }
    director
}

fn message(call: &str, length: usize) -> Vec<u8> {
    let body = "x".repeat(length);
    format!("INVITE sip:a@b SIP/2.0\r\nVia: z\r\nCall-ID: {call}\r\n\r\n{body}").into_bytes()
}

fn request(port: u16, payload: &[u8]) -> Sketch {
    Sketch {
        payload: payload.to_vec(),
        ..udp((CLIENT, port), (VIP, 5060))
    }
}

fn answer(server: [u8; 4], port: u16, payload: &[u8]) -> Sketch {
    Sketch {
        payload: payload.to_vec(),
        ..udp((server, 5060), (CLIENT, port))
    }
}

/// The parts of a datagram that does not fit.
fn in_parts(sketch: &Sketch) -> [Vec<u8>; 2] {
    let whole = sketch.packet();
    let part = |range: std::ops::Range<usize>, more: u16| {
        let header = ipv4::Header {
            tos: 0,
            identification: 78,
            fragment: (range.start / 8) as u16 | more,
            ttl: 64,
            protocol: 17,
            source: sketch.source.0,
            destination: sketch.destination.0,
        };
        let payload = &whole[20 + range.start..20 + range.end];
        [&header.to_bytes(payload.len())[..], payload].concat()
    };
    [part(0..1480, ipv4::MF), part(1480..whole.len() - 20, 0)]
}

#[test]
fn calls_are_told_apart_by_what_datagrams_say() {
    for method in [ForwardMethod::Nat, ForwardMethod::Direct] {
        let mut director = sip(method, false);
        for (port, call, server) in [(1, "one", 0), (2, "two", 1), (3, "one", 0), (4, "two", 1)] {
            let sent = from_client(
                &mut director,
                &request(6000 + port, &message(call, 0)).packet(),
            );
            assert_eq!(sent.verdict, Verdict::Forward(INSIDE), "{method:?} {call}");
            assert_eq!(sent.ethernet.0, MACS[server], "{method:?} {call}");
        }
        // Those ports have connections, whatever is said.
        let sent = from_client(&mut director, &request(6001, b"").packet());
        assert_eq!(sent.ethernet.0, MACS[0]);
    }
}

#[test]
fn what_says_no_call_is_dropped_in_silence() {
    let mut director = sip(ForwardMethod::Nat, false);
    let long = "e".repeat(256);
    for payload in [&b""[..], b"hello", &message(&long, 0)] {
        let sent = from_client(&mut director, &request(6001, payload).packet());
        assert_eq!(sent.verdict, Verdict::Drop(Reason::NoCallId));
        assert!(sent.outbox.is_empty(), "{sent:?}");
    }
    assert_eq!(director.drops().of(Reason::NoCallId), 3);
    assert_eq!(director.balancer.connection_count(), 0);
    let sent = from_client(&mut director, &request(6001, &message("one", 0)).packet());
    assert_eq!(read(&sent.packet), ((CLIENT, 6001), (SERVERS[0], 5060)));
}

#[test]
fn an_answer_of_its_own_leaves_as_the_service() {
    for (one_packet, left) in [(true, 1), (false, 3)] {
        let mut director = sip(ForwardMethod::Nat, one_packet);
        let sent = from_client(&mut director, &request(6001, &message("one", 0)).packet());
        assert_eq!(read(&sent.packet), ((CLIENT, 6001), (SERVERS[0], 5060)));
        for port in [6001, 6009] {
            let answer = answer(SERVERS[0], port, &message("one", 0)).packet();
            let answer = from_server(&mut director, &answer);
            assert_eq!(answer.verdict, Verdict::Forward(OUTSIDE));
            assert_eq!(read(&answer.packet), ((VIP, 5060), (CLIENT, port)));
        }
        assert_eq!(director.balancer.connection_count(), left);
        // Without a Call-ID it is the host's, as it is.
        let stranger = answer(SERVERS[0], 6010, b"hello").packet();
        let back = from_server(&mut director, &stranger);
        assert_eq!((back.verdict, back.packet), (Verdict::Local, stranger));
    }
}

#[test]
fn parts_of_a_datagram_go_where_the_call_of_the_first_is() {
    for one_packet in [false, true] {
        let mut director = sip(ForwardMethod::Nat, one_packet);
        for (port, call, server) in [(6001, "one", 0), (6002, "two", 1), (6003, "one", 0)] {
            let parts = in_parts(&request(port, &message(call, 1600)));
            let parts = parts.map(|part| from_client(&mut director, &part));
            let [(one, two)] = [(&parts[0], &parts[1])];
            assert_eq!(one.verdict, Verdict::Forward(INSIDE));
            assert_eq!(two.verdict, Verdict::Forward(INSIDE));
            let whole = joined(&parts.map(|part| part.packet));
            assert_eq!(read(&whole), ((CLIENT, port), (SERVERS[server], 5060)));
        }
        // Of a server's own too.
        let parts = in_parts(&answer(SERVERS[1], 6009, &message("new", 1600)));
        let parts = parts.map(|part| from_server(&mut director, &part));
        for part in &parts {
            assert_eq!(part.verdict, Verdict::Forward(OUTSIDE), "{one_packet}");
        }
        let whole = joined(&parts.map(|part| part.packet));
        assert_eq!(read(&whole), ((VIP, 5060), (CLIENT, 6009)));
        let connections = director.balancer.connection_count();
        assert_eq!(connections, if one_packet { 3 } else { 3 + 4 });
    }
}

/// The kernel puts datagrams together first.
#[test]
fn a_call_that_only_a_later_part_says_is_none() {
    let mut director = sip(ForwardMethod::Nat, false);
    let filler = "x".repeat(1600);
    let late = format!("INVITE x\r\nX: {filler}\r\nCall-ID: one\r\n\r\n");
    for part in in_parts(&request(6001, late.as_bytes())) {
        let sent = from_client(&mut director, &part);
        assert_eq!(sent.verdict, Verdict::Drop(Reason::NoCallId));
    }
}
