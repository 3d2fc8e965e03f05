//! Packets that the director's own host sends: as a real server, and as a client.

use shared::addr::{Addr, Protocol};
use shared::wire::ipv4::Packet;

use super::laboratory::*;
use crate::core::capture::{CaptureKey, RouteChange, RouteKey};
use crate::core::director::Director;
use crate::core::frame::{self, Frame};
use crate::core::net::NetworkEvent;
use crate::core::operation::{ForwardMethod, Operation, ServiceKey};
use crate::core::reason::Reason;
use crate::core::verdict::{Outbox, Outgoing, Verdict};

/// An address of the host's own.
const OWN: [u8; 4] = [10, 0, 0, 1];

fn address(director: &mut Director, address: [u8; 4]) {
    let prefix = crate::core::net::Prefix::new(Addr::from_v4_bytes(address), 32);
    let event = NetworkEvent::Address { ifindex: 1, prefix };
    director.network_changed(event, &mut Outbox::default());
}

/// The host routes here what it sends itself: one router less than it says is none.
pub(super) fn own(director: &mut Director, packet: &[u8]) -> (Verdict, Vec<u8>, Vec<Outgoing>) {
    let mut bytes = vec![0; 64];
    let nobody = Default::default();
    bytes.extend(frame::compose(
        nobody,
        nobody,
        Default::default(),
        &[packet],
    ));
    let end = bytes.len();
    let mut outbox = Outbox::default();
    let mut frame = Frame::new(&mut bytes, 64, end).unwrap();
    let verdict = director.handle_routed(NOW, 0, &mut frame, &mut outbox);
    (verdict, frame.packet().to_vec(), outbox.drain().collect())
}

fn ends(packet: &[u8]) -> (([u8; 4], u16), ([u8; 4], u16)) {
    read(packet);
    let ip = Packet::new_checked(packet).unwrap();
    let (source, destination) = shared::wire::transport::ports(ip.payload()).unwrap();
    ((ip.source(), source), (ip.destination(), destination))
}

#[test]
fn the_host_is_the_real_server() {
    let mut director = director(ForwardMethod::Nat);
    director.balancer.captures().take_routes();
    address(&mut director, SERVER);
    let answer = |protocol, port| {
        let address = Addr::from_v4_bytes(SERVER);
        RouteChange::Insert(RouteKey::Answer {
            protocol,
            address,
            port,
        })
    };
    let routes = director.balancer.captures().take_routes();
    assert_eq!(
        routes,
        [answer(Protocol::TCP, 8080), answer(Protocol::UDP, 5353)]
    );
    let syn = tcp((CLIENT, 40001), (VIP, 80), SYN).packet();
    let out = from_client(&mut director, &syn);
    assert_eq!(out.verdict, Verdict::Local);
    assert_eq!(ends(&out.packet), ((CLIENT, 40001), (SERVER, 8080)));

    let answer = tcp((SERVER, 8080), (CLIENT, 40001), SYN_ACK).packet();
    let (verdict, packet, _) = own(&mut director, &answer);
    assert_eq!(verdict, Verdict::Forward(OUTSIDE));
    assert_eq!(ends(&packet), ((VIP, 80), (CLIENT, 40001)));

    // What it answers others goes where it was going, as it is.
    let other = tcp((SERVER, 8080), (CLIENT, 40002), SYN_ACK).packet();
    let (verdict, packet, _) = own(&mut director, &other);
    assert_eq!((verdict, packet), (Verdict::Forward(OUTSIDE), other));
    let itself = tcp((SERVER, 8080), (INNER, 40002), SYN_ACK).packet();
    assert_eq!(own(&mut director, &itself).0, Verdict::Local);
    let group = udp((SERVER, 5353), ([224, 0, 0, 251], 5353)).packet();
    assert_eq!(own(&mut director, &group).0, Verdict::Consumed);
}

/// The host's way to the director takes 1500 bytes; the one behind it need not.
#[test]
fn what_is_too_big_for_the_way_on_is_told_to_the_host_or_cut() {
    let mut director = director(ForwardMethod::Nat);
    address(&mut director, SERVER);
    set_mtu(&mut director, 0, OUTSIDE_MAC, 1000);
    let client = NetworkEvent::Neighbour {
        ifindex: 0,
        address: Addr::from_v4_bytes(CLIENT),
        mac: CLIENT_MAC,
    };
    director.network_changed(client, &mut Outbox::default());
    let fragile = Sketch {
        payload: vec![7; 1200],
        ..tcp((SERVER, 8080), (CLIENT, 40002), ACK)
    };
    let (verdict, _, outbox) = own(&mut director, &fragile.packet());
    assert_eq!(verdict, Verdict::Drop(Reason::TooBig));
    let [Outgoing::Local(error)] = &outbox[..] else {
        panic!("{outbox:?}")
    };
    let error = Packet::new_checked(&error[24..]).unwrap();
    assert_eq!((error.protocol(), error.destination()), (1, SERVER));
    assert_eq!(error.payload()[..2], [3, 4]);
    assert_eq!(error.payload()[6..8], 1000_u16.to_be_bytes());
    let whole = Sketch {
        fragment: 0,
        ..fragile
    };
    let (verdict, _, outbox) = own(&mut director, &whole.packet());
    assert_eq!((verdict, outbox.len()), (Verdict::Consumed, 2));
}

/// All its fragments have the same sender.
#[test]
fn later_fragments_to_the_host_are_rewritten_too() {
    let mut director = director(ForwardMethod::Nat);
    address(&mut director, SERVER);
    let whole = Sketch {
        payload: vec![5; 800],
        ..udp((CLIENT, 40001), (VIP, 53))
    };
    let mut first = whole.packet();
    first.truncate(20 + 400);
    let header = |fragment, length| {
        let header = shared::wire::ipv4::Header {
            tos: 0,
            identification: 77,
            fragment,
            ttl: 64,
            protocol: 17,
            source: CLIENT,
            destination: VIP,
        };
        header.to_bytes(length)
    };
    first[..20].copy_from_slice(&header(shared::wire::ipv4::MF, 400));
    let later = [&header(50, 408)[..], &whole.packet()[420..]].concat();
    for packet in [first, later] {
        let out = from_client(&mut director, &packet);
        assert_eq!(out.verdict, Verdict::Local);
        let packet = Packet::new_checked(&out.packet[..]).unwrap();
        assert_eq!(packet.destination(), SERVER);
    }
}

#[test]
fn the_host_is_the_client() {
    for method in [ForwardMethod::Nat, ForwardMethod::FullNat] {
        let mut director = director(method);
        let on = Operation::SetLocalClients(true);
        director.apply(NOW, &on).unwrap();
        director.balancer.captures().take_changes();
        let question = tcp((OWN, 40001), (VIP, 80), SYN);
        let (verdict, packet, _) = own(&mut director, &question.packet());
        assert_eq!(verdict, Verdict::Forward(INSIDE), "{method:?}");
        let (seen, server) = ends(&packet);
        assert_eq!(server, (SERVER, 8080));
        assert_eq!(
            seen.0,
            if method == ForwardMethod::Nat {
                OWN
            } else {
                LOCAL
            }
        );
        // By NAT the answer is to the host itself, and is taken all the same.
        let client = CaptureKey::Client {
            protocol: Protocol::TCP,
            address: Addr::from_v4_bytes(OWN),
            port: 40001,
        };
        let expected = method == ForwardMethod::Nat;
        assert_eq!(director.balancer.captures().contains(client), expected);
        let answer = tcp((SERVER, 8080), seen, SYN_ACK).packet();
        let taken = frame::compose(INSIDE_MAC, SERVER_MAC, Default::default(), &[&answer]);
        assert!(director.takes(INSIDE, &taken[10..]));
        let check = tcp((SERVER, 8080), (OWN, 40009), SYN_ACK).packet();
        let check = frame::compose(INSIDE_MAC, SERVER_MAC, Default::default(), &[&check]);
        assert!(
            !director.takes(INSIDE, &check[10..]),
            "the host's own check"
        );
        let out = from_server(&mut director, &answer);
        assert_eq!(out.verdict, Verdict::Local);
        assert_eq!(ends(&out.packet), ((VIP, 80), (OWN, 40001)));
        // Until the connection ends.
        director.handle_timeout(
            NOW + std::time::Duration::from_secs(3600),
            &mut Outbox::default(),
        );
        assert!(!director.balancer.captures().contains(client));
    }
}

#[test]
fn a_client_on_the_host_is_refused_there() {
    let mut director = director(ForwardMethod::Nat);
    director
        .apply(NOW, &Operation::SetLocalClients(true))
        .unwrap();
    let key = ServiceKey::new(Protocol::UDP, std::net::Ipv4Addr::from(VIP), 53);
    let server = crate::core::operation::ServerKey {
        address: std::net::Ipv4Addr::from(SERVER).into(),
        port: 5353,
    };
    director
        .apply(NOW, &Operation::DeleteServer(key, server))
        .unwrap();
    let question = udp((OWN, 40001), (VIP, 53)).packet();
    let (verdict, _, outbox) = own(&mut director, &question);
    assert_eq!(verdict, Verdict::Drop(Reason::NoServer));
    let [Outgoing::Local(error)] = &outbox[..] else {
        panic!("{outbox:?}")
    };
    let error = Packet::new_checked(&error[24..]).unwrap();
    assert_eq!((error.protocol(), error.destination()), (1, OWN));
}
