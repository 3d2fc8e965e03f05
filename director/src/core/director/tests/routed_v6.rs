//! Packets of IPv6 that the host's routing brings: those of others with their marks, and its own.

use std::net::Ipv6Addr;

use shared::addr::{Addr, Family, Protocol};
use shared::wire::icmpv6;
use shared::wire::ipv6::{FRAGMENT, HEADER};

use super::ipv6::*;
use super::laboratory::*;
use super::own_packets::own;
use crate::core::capture::{CaptureKey, RouteChange, RouteKey};
use crate::core::director::Director;
use crate::core::frame;
use crate::core::ip::Ip;
use crate::core::net::{NetworkEvent, Prefix};
use crate::core::operation::{
    ForwardMethod, MarkRule, Netmask, Operation, Persistence, ServerSpec, ServiceKey, ServiceSpec,
};
use crate::core::reason::Reason;
use crate::core::verdict::{Outbox, Outgoing, Verdict};

const MARK: u32 = 7;
/// Of no host here.
const ELSEWHERE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1);
/// Of the host, towards clients.
const OWN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

const fn key() -> ServiceKey {
    ServiceKey::Mark {
        mark: MARK,
        family: Family::V6,
    }
}

/// Also with a service by mark, whose clients return.
fn marked(method: ForwardMethod) -> Director {
    let mut director = director6(ForwardMethod::Nat);
    let service = ServiceSpec {
        persistence: Some(Persistence {
            timeout_secs: 300,
            netmask: Netmask::V6(64),
        }),
        ..ServiceSpec::new(key(), "rr")
    };
    for operation in [
        Operation::AddService(service),
        Operation::AddServer(key(), ServerSpec::new(SERVER6, 0, method, 1)),
    ] {
        director.apply(NOW, &operation).unwrap();
    }
    director
}

fn drops(director: &Director) -> u64 {
    director.drops().iter().map(|(_, packets)| packets).sum()
}

#[test]
fn a_mark_comes_before_the_address() {
    let mut director = marked(ForwardMethod::Nat);
    let sent = routed(&mut director, MARK, &syn());
    assert_eq!(sent.verdict, Verdict::Forward(INSIDE));
    assert_eq!(sent.ethernet, (SERVER_MAC, INSIDE_MAC));
    assert_eq!(read6(&sent.packet), ((CLIENT6, 40001), (SERVER6, 80)));
    let ttl = Ip::read(&sent.packet).unwrap().ttl;
    assert_eq!(ttl, 63, "one router less, not two");
    let answer = packet(Kind::Tcp(SYN_ACK), (SERVER6, 80), (CLIENT6, 40001));
    let answer = from_server(&mut director, &answer);
    assert_eq!(read6(&answer.packet), ((VIP6, 80), (CLIENT6, 40001)));
    // Its template is named as the kernel names it, which was recorded: the mark is the first word.
    let (connections, _) = director.balancer.connections(NOW, 0, usize::MAX);
    let template = connections
        .iter()
        .find(|connection| connection.protocol == Protocol(0))
        .unwrap();
    assert_eq!(template.virtual_address.to_string(), "0:7::");
    assert_eq!(template.client.to_string(), "2001:db8::");

    // Without a mark, or with another one, the service by address; nobody's goes back as it came.
    for (mark, port) in [(0, 40002), (8, 40003)] {
        let request = packet(Kind::Tcp(SYN), (CLIENT6, port), (VIP6, 80));
        let sent = routed(&mut director, mark, &request);
        assert_eq!(read6(&sent.packet), ((CLIENT6, port), (SERVER6, 8080)));
    }
    let request = packet(Kind::Tcp(SYN), (CLIENT6, 40004), (VIP6, 81));
    let back = routed(&mut director, 0, &request);
    assert_eq!((back.verdict, back.packet), (Verdict::Local, request));
    // What the kernel says on the device of its own: reports of groups, questions for routers.
    for source in [Ipv6Addr::UNSPECIFIED, "fe80::1".parse().unwrap()] {
        let group = carried(58, source, "ff02::2".parse().unwrap(), &[133, 0, 0, 0]);
        assert_eq!(routed(&mut director, 0, &group).verdict, Verdict::Consumed);
    }
    assert_eq!(drops(&director), 0);
}

/// A mark of one family says nothing of the other.
#[test]
fn the_same_mark_of_ipv4_is_another_service() {
    let mut director = marked(ForwardMethod::Nat);
    let request = tcp((CLIENT, 40001), (VIP, 80), SYN).packet();
    let sent = routed(&mut director, MARK, &request);
    assert_eq!(read(&sent.packet), ((CLIENT, 40001), (SERVER, 8080)));
    let four = ServiceKey::Mark {
        mark: MARK,
        family: Family::V4,
    };
    let service = Operation::AddService(ServiceSpec::new(four, "rr"));
    director.apply(NOW, &service).unwrap();
    let request = tcp((CLIENT, 40002), (VIP, 80), SYN).packet();
    let refused = routed(&mut director, MARK, &request);
    assert_eq!(refused.verdict, Verdict::Drop(Reason::NoServer));
}

#[test]
fn other_peoples_addresses_are_balanced_too() {
    let mut director = marked(ForwardMethod::Direct);
    let request = packet(Kind::Tcp(SYN), (CLIENT6, 40001), (ELSEWHERE6, 80));
    let sent = routed(&mut director, MARK, &request);
    assert_eq!(sent.verdict, Verdict::Forward(INSIDE));
    assert_eq!(sent.ethernet, (SERVER_MAC, INSIDE_MAC));
    assert_eq!(read6(&sent.packet), ((CLIENT6, 40001), (ELSEWHERE6, 80)));
}

/// Two parts of a datagram to a port.
fn parts(port: u16) -> [Vec<u8>; 2] {
    let (_, datagram) = segment(Kind::Udp, (CLIENT6, 40001), (VIP6, port), &[5; 2000]);
    let part = |from: usize, to: usize, more: u16| {
        let field = (from as u16 | more).to_be_bytes();
        let header = [17, 0, field[0], field[1], 0, 0, 0, 77];
        let payload = [&header, &datagram[from..to]].concat();
        carried(FRAGMENT, CLIENT6, VIP6, &payload)
    };
    [part(0, 1400, 1), part(1400, 2008, 0)]
}

/// Only the first fragment is marked. The host keeps the others too, so they are never given back.
#[test]
fn copies_of_later_fragments_follow_the_marked_first_one() {
    for late in [false, true] {
        let mut director = marked(ForwardMethod::Nat);
        let [first, last] = parts(90);
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
        let datagram = [&one[HEADER + 8..], &two[HEADER + 8..]].concat();
        let whole = carried(17, CLIENT6, SERVER6, &datagram);
        assert_eq!(read6(&whole), ((CLIENT6, 40001), (SERVER6, 90)));

        // Of a datagram that is the host's.
        let [first, last] = parts(91);
        assert_eq!(copy(&mut director, &first).verdict, Verdict::Consumed);
        assert_eq!(routed(&mut director, 0, &first).verdict, Verdict::Local);
        let rest = copy(&mut director, &last);
        assert_eq!((rest.verdict, rest.outbox.len()), (Verdict::Consumed, 0));
    }
}

/// For hosts without netfilter: nothing is asked of the host.
#[test]
fn the_director_marks_packets_by_its_own_rules() {
    let mut director = marked(ForwardMethod::Nat);
    director.balancer.captures().take_routes();
    let rule = MarkRule {
        mark: MARK,
        protocol: None,
        address: VIP6.into(),
        ports: vec![(80, 80)],
        source: Some((FAR_CLIENT6.into(), 64)),
    };
    let rules = Operation::SetMarks(vec![rule]);
    director.apply(NOW, &rules).unwrap();
    let mark = RouteKey::Mark {
        mark: MARK,
        family: Family::V6,
    };
    let routes = director.balancer.captures().take_routes();
    assert!(routes.contains(&RouteChange::Remove(mark)), "{routes:?}");
    for (client, port) in [(FAR_CLIENT6, 80), (CLIENT6, 8080)] {
        let asked = packet(Kind::Tcp(SYN), (client, 40001), (VIP6, 80));
        let sent = from_client(&mut director, &asked);
        assert_eq!(read6(&sent.packet), ((client, 40001), (SERVER6, port)));
    }
}

fn address(director: &mut Director, address: Ipv6Addr) {
    let prefix = Prefix::new(Addr::from(std::net::IpAddr::V6(address)), 128);
    let event = NetworkEvent::Address { ifindex: 1, prefix };
    director.network_changed(event, &mut Outbox::default());
}

#[test]
fn the_host_is_the_real_server() {
    let mut director = director6(ForwardMethod::Nat);
    director.balancer.captures().take_routes();
    address(&mut director, SERVER6);
    let routes = director.balancer.captures().take_routes();
    let answer = RouteKey::Answer {
        protocol: Protocol::TCP,
        address: Addr::from(std::net::IpAddr::V6(SERVER6)),
        port: 8080,
    };
    assert!(routes.contains(&RouteChange::Insert(answer)), "{routes:?}");
    let out = from_client(&mut director, &syn());
    assert_eq!(out.verdict, Verdict::Local);
    assert_eq!(read6(&out.packet), ((CLIENT6, 40001), (SERVER6, 8080)));

    let answer = packet(Kind::Tcp(SYN_ACK), (SERVER6, 8080), (CLIENT6, 40001));
    let (verdict, sent, _) = own(&mut director, &answer);
    assert_eq!(verdict, Verdict::Forward(OUTSIDE));
    assert_eq!(read6(&sent), ((VIP6, 80), (CLIENT6, 40001)));
    // What it answers others goes where it was going, as it is.
    let other = packet(Kind::Tcp(SYN_ACK), (SERVER6, 8080), (CLIENT6, 40002));
    let (verdict, sent, _) = own(&mut director, &other);
    assert_eq!((verdict, sent), (Verdict::Forward(OUTSIDE), other));
    let itself = packet(Kind::Tcp(SYN_ACK), (SERVER6, 8080), (INNER6, 40002));
    assert_eq!(own(&mut director, &itself).0, Verdict::Local);
}

/// The host's way to the director takes 1500 bytes; the one behind it need not. Nobody cuts IPv6 on its way.
#[test]
fn what_is_too_big_for_the_way_on_is_told_to_the_host() {
    let mut director = director6(ForwardMethod::Nat);
    address(&mut director, SERVER6);
    set_mtu(&mut director, 0, OUTSIDE_MAC, 1300);
    let client = NetworkEvent::Neighbour {
        ifindex: 0,
        address: Addr::from(std::net::IpAddr::V6(CLIENT6)),
        mac: CLIENT_MAC,
    };
    director.network_changed(client, &mut Outbox::default());
    let (from, to) = ((SERVER6, 8080), (CLIENT6, 40002));
    let (_, large) = segment(Kind::Tcp(ACK), from, to, &[7; 1300]);
    let (verdict, _, outbox) = own(&mut director, &carried(6, SERVER6, CLIENT6, &large));
    assert_eq!(verdict, Verdict::Drop(Reason::TooBig));
    let [Outgoing::Local(error)] = &outbox[..] else {
        panic!("{outbox:?}")
    };
    let ip = Ip::read(&error[24..]).unwrap();
    let message = ip.payload(&error[24..]);
    let (source, destination) = (ip.source.to_bytes(), ip.destination.to_bytes());
    assert!(icmpv6::verifies(message, source, destination));
    assert_eq!(destination, SERVER6.octets());
    assert_eq!(
        (message[0], &message[4..8]),
        (2, &1300_u32.to_be_bytes()[..])
    );
}

#[test]
fn the_host_is_the_client() {
    for method in [ForwardMethod::Nat, ForwardMethod::FullNat] {
        let mut director = director6(method);
        address(&mut director, OWN6);
        let on = Operation::SetLocalClients(true);
        director.apply(NOW, &on).unwrap();
        let question = packet(Kind::Tcp(SYN), (OWN6, 40001), (VIP6, 80));
        let (verdict, sent, _) = own(&mut director, &question);
        assert_eq!(verdict, Verdict::Forward(INSIDE), "{method:?}");
        let (seen, server) = read6(&sent);
        assert_eq!(server, (SERVER6, 8080));
        assert_eq!(seen.0 == OWN6, method == ForwardMethod::Nat);
        // By NAT the answer is to the host itself, and is taken all the same.
        let client = CaptureKey::Client {
            protocol: Protocol::TCP,
            address: Addr::from(std::net::IpAddr::V6(OWN6)),
            port: 40001,
        };
        let expected = method == ForwardMethod::Nat;
        assert_eq!(director.balancer.captures().contains(client), expected);
        let answer = packet(Kind::Tcp(SYN_ACK), (SERVER6, 8080), seen);
        let taken = frame::compose(INSIDE_MAC, SERVER_MAC, Default::default(), &[&answer]);
        assert!(director.takes(INSIDE, &taken[10..]));
        let out = from_server(&mut director, &answer);
        assert_eq!(out.verdict, Verdict::Local);
        assert_eq!(read6(&out.packet), ((VIP6, 80), (OWN6, 40001)));
    }
}

/// Its packet would have to become one of the other family.
#[test]
fn a_client_on_the_host_gets_nothing_from_a_server_of_the_other_family() {
    let mut director = serving(
        ForwardMethod::FullNat,
        std::net::Ipv4Addr::from(SERVER).into(),
    );
    let local = Operation::AddLocalAddress {
        address: std::net::Ipv4Addr::from(LOCAL).into(),
        interface: None,
    };
    director.apply(NOW, &local).unwrap();
    address(&mut director, OWN6);
    let on = Operation::SetLocalClients(true);
    director.apply(NOW, &on).unwrap();
    let question = packet(Kind::Tcp(SYN), (OWN6, 40001), (VIP6, 80));
    let (verdict, sent, _) = own(&mut director, &question);
    assert_eq!(verdict, Verdict::Forward(INSIDE));
    let (seen, _) = read(&sent);
    let answer = tcp((SERVER, 8080), seen, SYN_ACK).packet();
    let out = from_server(&mut director, &answer);
    assert_eq!(out.verdict, Verdict::Drop(Reason::LocalServer));
}
