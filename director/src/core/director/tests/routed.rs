//! Packets that the host's routing brings, with their marks.

use std::net::Ipv4Addr;

use shared::addr::Family;
use shared::wire::ipv4::Packet;
use shared::wire::vnet::VnetHeader;

use super::fragments::{joined, parts};
use super::laboratory::*;
use crate::core::capture::RouteChange;
use crate::core::director::Director;
use crate::core::frame;
use crate::core::operation::{
    ForwardMethod, MarkRule, Operation, ServerSpec, ServiceKey, ServiceSpec,
};
use crate::core::reason::Reason;
use crate::core::verdict::{Outgoing, Verdict};

const MARK: u32 = 7;
/// Of no host here: what is sent there is not the director's at all, unless it is marked.
const ELSEWHERE: [u8; 4] = [198, 51, 100, 1];

/// Also with a service by mark.
fn marked(method: ForwardMethod, servers: &[[u8; 4]]) -> Director {
    let mut director = director(ForwardMethod::Nat);
    let key = ServiceKey::Mark {
        mark: MARK,
        family: Family::V4,
    };
    let service = Operation::AddService(ServiceSpec::new(key, "rr"));
    director.apply(NOW, &service).unwrap();
    for &server in servers {
        let server = ServerSpec::new(Ipv4Addr::from(server), 0, method, 1);
        director
            .apply(NOW, &Operation::AddServer(key, server))
            .unwrap();
    }
    director
}

#[test]
fn a_mark_comes_before_the_address() {
    let mut director = marked(ForwardMethod::Nat, &[SERVER]);
    let request = tcp((CLIENT, 40001), (VIP, 80), SYN).packet();
    let sent = routed(&mut director, MARK, &request);
    assert_eq!(sent.verdict, Verdict::Forward(INSIDE));
    assert_eq!(sent.ethernet, (SERVER_MAC, INSIDE_MAC));
    // The server of a mark is asked for what the client asked for.
    assert_eq!(read(&sent.packet), ((CLIENT, 40001), (SERVER, 80)));
    let ttl = |packet: &[u8]| Packet::new_checked(packet).unwrap().ttl();
    assert_eq!(ttl(&sent.packet), 63, "one router less, not two");
    let answer = tcp((SERVER, 80), (CLIENT, 40001), SYN_ACK).packet();
    let answer = from_server(&mut director, &answer);
    assert_eq!(read(&answer.packet), ((VIP, 80), (CLIENT, 40001)));

    // Without a mark, or with another one, the service by address.
    for (mark, port) in [(0, 40002), (8, 40003)] {
        let request = tcp((CLIENT, port), (VIP, 80), SYN).packet();
        let sent = routed(&mut director, mark, &request);
        assert_eq!(read(&sent.packet), ((CLIENT, port), (SERVER, 8080)));
    }
    // What is nobody's goes back to the host as it was before the host routed it.
    let request = tcp((CLIENT, 40004), (VIP, 81), SYN).packet();
    let back = routed(&mut director, 0, &request);
    assert_eq!((back.verdict, back.packet), (Verdict::Local, request));
    // What the host says itself on the device is left alone.
    let own = udp(([10, 0, 0, 1], 5353), ([224, 0, 0, 251], 5353)).packet();
    assert_eq!(routed(&mut director, 0, &own).verdict, Verdict::Consumed);
    assert_eq!(
        director
            .drops()
            .iter()
            .map(|(_, packets)| packets)
            .sum::<u64>(),
        0
    );
}

/// By DR to a cache, which reads from the packet whom it was meant for.
#[test]
fn other_peoples_addresses_are_balanced_too() {
    let mut director = marked(ForwardMethod::Direct, &[SERVER]);
    let request = tcp((CLIENT, 40001), (ELSEWHERE, 80), SYN).packet();
    let sent = routed(&mut director, MARK, &request);
    assert_eq!(sent.verdict, Verdict::Forward(INSIDE));
    assert_eq!(sent.ethernet, (SERVER_MAC, INSIDE_MAC));
    assert_eq!(read(&sent.packet), ((CLIENT, 40001), (ELSEWHERE, 80)));
}

#[test]
fn without_a_cache_packets_go_where_they_go() {
    let mut director = marked(ForwardMethod::Direct, &[]);
    let request = |port| tcp((CLIENT, port), (ELSEWHERE, 80), SYN).packet();
    let refused = routed(&mut director, MARK, &request(40001));
    assert_eq!(refused.verdict, Verdict::Drop(Reason::NoServer));

    let on = Operation::SetSysctl {
        name: "cache_bypass".to_owned(),
        value: 1,
    };
    director.apply(NOW, &on).unwrap();
    let sent = routed(&mut director, MARK, &request(40002));
    assert_eq!(sent.verdict, Verdict::Forward(OUTSIDE));
    assert_eq!(sent.ethernet, (GATEWAY_MAC, OUTSIDE_MAC));
    assert_eq!(read(&sent.packet), ((CLIENT, 40002), (ELSEWHERE, 80)));
    // It is a connection, of no server, and counted nowhere.
    let (connections, _) = director.balancer.connections(NOW, 0, usize::MAX);
    let [connection] = &connections[..] else {
        panic!("{connections:?}");
    };
    assert_eq!(connection.destination, Ipv4Addr::UNSPECIFIED);
    let services = director.balancer.services();
    let service = services
        .iter()
        .find(|service| service.servers.is_empty())
        .unwrap();
    assert_eq!(
        (service.stats.connections, service.stats.in_packets),
        (0, 0)
    );
    // The rest of it follows, also when there is a server by now, and when it is switched off.
    let key = ServiceKey::Mark {
        mark: MARK,
        family: Family::V4,
    };
    let server = ServerSpec::new(Ipv4Addr::from(SERVER), 0, ForwardMethod::Direct, 1);
    director
        .apply(NOW, &Operation::AddServer(key, server))
        .unwrap();
    let next = tcp((CLIENT, 40002), (ELSEWHERE, 80), ACK).packet();
    let next = routed(&mut director, MARK, &next);
    assert_eq!(next.ethernet, (GATEWAY_MAC, OUTSIDE_MAC));
    let new = routed(&mut director, MARK, &request(40003));
    assert_eq!(new.ethernet, (SERVER_MAC, INSIDE_MAC));
    // The host's own address is nothing to go around to.
    director.apply(NOW, &Operation::Flush).unwrap();
    let service = Operation::AddService(ServiceSpec::new(key, "rr"));
    director.apply(NOW, &service).unwrap();
    let own = tcp((CLIENT, 40004), (VIP, 80), SYN).packet();
    let own = routed(&mut director, MARK, &own);
    assert_eq!(own.verdict, Verdict::Drop(Reason::LocalServer));
}

/// Only the first fragment is marked. The host keeps the others too, so they are never given back.
#[test]
fn copies_of_later_fragments_follow_the_marked_first_one() {
    for late in [false, true] {
        let mut director = marked(ForwardMethod::Nat, &[SERVER]);
        let [first, last] = parts(&udp((CLIENT, 40001), (VIP, 90)));
        let (one, two) = if late {
            let one = routed(&mut director, MARK, &first);
            (one.packet, copy(&mut director, &last).packet)
        } else {
            assert_eq!(copy(&mut director, &last).verdict, Verdict::Consumed);
            let mut one = routed(&mut director, MARK, &first);
            let Some(Outgoing::Transmit(INSIDE, waited)) = one.outbox.pop() else {
                panic!("{one:?}");
            };
            (one.packet, waited[24..].to_vec())
        };
        assert_eq!(read(&joined(&[one, two])), ((CLIENT, 40001), (SERVER, 90)));

        // Of a datagram that is the host's.
        let [first, last] = parts(&udp((CLIENT, 40002), (VIP, 91)));
        assert_eq!(copy(&mut director, &first).verdict, Verdict::Consumed);
        assert_eq!(routed(&mut director, 0, &first).verdict, Verdict::Local);
        let rest = copy(&mut director, &last);
        assert_eq!(rest.verdict, Verdict::Consumed);
        assert!(rest.outbox.is_empty());
    }
}

/// For hosts without netfilter: nothing is asked of the host.
#[test]
fn the_director_marks_packets_by_its_own_rules() {
    let mut director = marked(ForwardMethod::Nat, &[SERVER]);
    director.balancer.captures().take_routes();
    let rule = MarkRule {
        mark: MARK,
        protocol: None,
        address: Ipv4Addr::from(VIP).into(),
        ports: vec![(80, 80), (53, 53)],
        source: Some((Ipv4Addr::from(FAR_CLIENT).into(), 24)),
    };
    director
        .apply(NOW, &Operation::SetMarks(vec![rule]))
        .unwrap();
    // The host need not route marked packets here any more.
    let routes = director.balancer.captures().take_routes();
    // One for what services alone do not take may be asked for and given back at once.
    let stays = |(at, change): (usize, &RouteChange)| match change {
        RouteChange::Insert(key) => !routes[at..].contains(&RouteChange::Remove(*key)),
        RouteChange::Remove(_) => false,
    };
    assert!(!routes.iter().enumerate().any(stays), "{routes:?}");
    let far = tcp((FAR_CLIENT, 40001), (VIP, 80), SYN).packet();
    assert_eq!(
        read(&from_client(&mut director, &far).packet),
        ((FAR_CLIENT, 40001), (SERVER, 80))
    );
    let near = tcp((CLIENT, 40001), (VIP, 80), SYN).packet();
    assert_eq!(
        read(&from_client(&mut director, &near).packet),
        ((CLIENT, 40001), (SERVER, 8080))
    );
    let ethernet = |packet: &[u8]| {
        let all = frame::compose(OUTSIDE_MAC, CLIENT_MAC, VnetHeader::default(), &[packet]);
        all[10..].to_vec()
    };
    let other = tcp((FAR_CLIENT, 40002), (VIP, 53), SYN).packet();
    assert!(
        director.takes(OUTSIDE, &ethernet(&other)),
        "a port that only the rule names"
    );
    director
        .apply(NOW, &Operation::SetMarks(Vec::new()))
        .unwrap();
    assert!(!director.takes(OUTSIDE, &ethernet(&other)));
}
