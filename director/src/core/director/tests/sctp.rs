//! SCTP: every method, its checksum, chunks of all kinds, and what belongs to nobody.

use proptest::prelude::*;
use shared::addr::{Addr, Protocol};
use shared::wire::icmpv4::Error;
use shared::wire::ipv4::{self, Packet};
use shared::wire::sctp::{self, chunk};
use shared::wire::transport;
use shared::wire::vnet::{NEEDS_CSUM, VnetHeader};

use super::errors::about;
use super::laboratory::*;
use crate::core::capture::CaptureKey;
use crate::core::director::Director;
use crate::core::operation::{ForwardMethod, Operation, ServerSpec, ServiceKey, ServiceSpec};
use crate::core::reason::Reason;
use crate::core::verdict::{Outgoing, Verdict};

type End = ([u8; 4], u16);

const OUTER: End = (VIP, 36412);
const PEER: End = (CLIENT, 40001);
const TAG: [u8; 4] = [0xde, 0xad, 0xbe, 0xef];

/// The director with an SCTP service, whose real server has another port where that can be.
fn lab(method: ForwardMethod) -> Director {
    let mut director = director(method);
    let port = if method.is_nat() { 3868 } else { OUTER.1 };
    serve(
        &mut director,
        key(),
        ServerSpec::new(server(), port, method, 1),
    );
    director
}

fn serve(director: &mut Director, key: ServiceKey, spec: ServerSpec) {
    for operation in [
        Operation::AddService(ServiceSpec::new(key, "rr")),
        Operation::AddServer(key, spec),
    ] {
        director.apply(NOW, &operation).unwrap();
    }
}

fn server() -> std::net::Ipv4Addr {
    SERVER.into()
}

fn key() -> ServiceKey {
    ServiceKey::new(Protocol::SCTP, std::net::Ipv4Addr::from(VIP), OUTER.1)
}

/// A packet whose chunks are no longer than their header, but for some data in the last one.
fn packet(from: End, to: End, kinds: &[u8]) -> Vec<u8> {
    let mut body = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    body.extend(TAG);
    body.extend([0; 4]);
    for kind in kinds {
        body.extend([*kind, 0, 0, 4]);
    }
    body.extend([7; 40]);
    sctp::sum_up(&mut body);
    let header = ipv4::Header {
        tos: 0,
        identification: 5,
        fragment: ipv4::DF,
        ttl: 64,
        protocol: Protocol::SCTP.0,
        source: from.0,
        destination: to.0,
    };
    [&header.to_bytes(body.len())[..], &body].concat()
}

/// Both ends of a packet whose sums are right.
fn ends(packet: &[u8]) -> (End, End) {
    let ip = Packet::new_checked(packet).unwrap();
    assert!(sctp::verifies(ip.payload()), "CRC32c");
    let (source, destination) = transport::ports(ip.payload()).unwrap();
    ((ip.source(), source), (ip.destination(), destination))
}

fn state(director: &Director) -> String {
    let (connections, _) = director.balancer.connections(NOW, 0, usize::MAX);
    connections
        .first()
        .map_or(String::new(), |connection| connection.state.clone())
}

fn as_left_by_the_sender(mut packet: Vec<u8>) -> (VnetHeader, Vec<u8>) {
    packet[20 + sctp::CHECKSUM..][..4].fill(0);
    let vnet = VnetHeader {
        flags: NEEDS_CSUM,
        csum_start: 34,
        csum_offset: sctp::CHECKSUM as u16,
        ..VnetHeader::default()
    };
    (vnet, packet)
}

#[test]
fn an_association_by_nat() {
    let mut director = lab(ForwardMethod::Nat);
    let inner = (SERVER, 3868);
    let steps = [
        (true, chunk::INIT, "INIT1"),
        (false, chunk::INIT_ACK, "C-SENT"),
        (true, chunk::COOKIE_ECHO, "C-REPLIED"),
        (false, chunk::COOKIE_ACK, "ESTABLISHED"),
        (true, chunk::DATA, "ESTABLISHED"),
        (false, chunk::SHUTDOWN, "S-SENT"),
        (true, chunk::SHUTDOWN_ACK, "CLOSED"),
    ];
    for (of_client, kind, expected) in steps {
        if of_client {
            let out = from_client(&mut director, &packet(PEER, OUTER, &[kind]));
            assert_eq!(out.verdict, Verdict::Forward(INSIDE));
            assert_eq!(ends(&out.packet), (PEER, inner));
        } else {
            let out = from_server(&mut director, &packet(inner, PEER, &[kind]));
            assert_eq!(out.verdict, Verdict::Forward(OUTSIDE));
            assert_eq!(ends(&out.packet), (OUTER, PEER));
        }
        assert_eq!(state(&director), expected, "{kind}");
        let services = director.balancer.services();
        let ours = services.iter().find(|s| s.spec.key == key()).unwrap();
        let active = u64::from(expected == "ESTABLISHED");
        let counted = (ours.servers[0].active, ours.servers[0].inactive);
        assert_eq!(
            (u64::from(counted.0), u64::from(counted.1)),
            (active, 1 - active)
        );
    }
}

#[test]
fn direct_routing_changes_nothing_but_the_time_to_live() {
    let mut director = lab(ForwardMethod::Direct);
    let init = packet(PEER, OUTER, &[chunk::INIT]);
    let out = from_client(&mut director, &init);
    assert_eq!(out.verdict, Verdict::Forward(INSIDE));
    assert_eq!(out.ethernet, (SERVER_MAC, INSIDE_MAC));
    assert_eq!(out.packet[20..], init[20..]);
    assert_eq!(ends(&out.packet), (PEER, OUTER));
    from_client(&mut director, &packet(PEER, OUTER, &[chunk::COOKIE_ECHO]));
    assert_eq!(
        state(&director),
        "ESTABLISHED",
        "the server's half is guessed"
    );
}

#[test]
fn a_tunnel_holds_it_as_it_was() {
    let mut director = lab(ForwardMethod::Tunnel);
    let (vnet, init) = as_left_by_the_sender(packet(PEER, OUTER, &[chunk::INIT]));
    let out = offered(&mut director, vnet, &init);
    assert_eq!(out.verdict, Verdict::Forward(INSIDE));
    assert!(!out.vnet.is_partial());
    let outer = Packet::new_checked(&out.packet[..]).unwrap();
    assert_eq!((outer.protocol(), outer.destination()), (4, SERVER));
    assert_eq!(ends(outer.payload()), (PEER, OUTER));
}

#[test]
fn full_nat_and_what_nobody_knows_there() {
    let mut director = lab(ForwardMethod::FullNat);
    let there = from_client(&mut director, &packet(PEER, OUTER, &[chunk::INIT]));
    let (local, inner) = ends(&there.packet);
    assert_eq!((local.0, inner), (LOCAL, (SERVER, 3868)));
    let back = from_server(&mut director, &packet(inner, local, &[chunk::INIT_ACK]));
    assert_eq!(ends(&back.packet), (OUTER, PEER));

    // On another port of the local address there is nobody.
    let nobody = (LOCAL, local.1 + 1);
    let stray = from_server(
        &mut director,
        &packet(inner, nobody, &[chunk::SACK, chunk::DATA]),
    );
    assert_eq!(stray.verdict, Verdict::Drop(Reason::NoConnection));
    let [Outgoing::Transmit(INSIDE, answer)] = &stray.outbox[..] else {
        panic!("{stray:?}")
    };
    assert_eq!(ends(&answer[24..]), (nobody, inner));
    assert_eq!(answer[24 + 20 + 4..][..4], TAG);
    assert_eq!(answer[24 + 20 + 12..], [chunk::ABORT, 1, 0, 4]);
    for kinds in [
        &[chunk::ABORT][..],
        &[chunk::ERROR],
        &[chunk::SACK, chunk::ABORT],
    ] {
        let end = from_server(&mut director, &packet(inner, nobody, kinds));
        assert_eq!(end.verdict, Verdict::Drop(Reason::NoConnection));
        assert!(end.outbox.is_empty(), "{kinds:?}");
    }
}

/// The virtio header has no word for a CRC, so nobody behind the director would work it out.
#[test]
fn a_sum_that_was_left_to_the_card_is_worked_out_here() {
    for method in [
        ForwardMethod::Nat,
        ForwardMethod::Direct,
        ForwardMethod::FullNat,
    ] {
        let mut director = lab(method);
        let (vnet, init) = as_left_by_the_sender(packet(PEER, OUTER, &[chunk::INIT]));
        let there = offered(&mut director, vnet, &init);
        assert_eq!(there.verdict, Verdict::Forward(INSIDE), "{method:?}");
        assert_eq!(there.vnet, VnetHeader::default());
        let (known, inner) = ends(&there.packet);
        if method == ForwardMethod::Direct {
            continue;
        }
        let (vnet, answer) = as_left_by_the_sender(packet(inner, known, &[chunk::INIT_ACK]));
        let back = send(&mut director, INSIDE, SERVER_MAC, INSIDE_MAC, vnet, &answer);
        assert_eq!(back.vnet, VnetHeader::default());
        assert_eq!(ends(&back.packet), (OUTER, PEER), "{method:?}");
    }
    // The host gets it so as well: it may send it on.
    let mut director = lab(ForwardMethod::Nat);
    let (vnet, data) = as_left_by_the_sender(packet(PEER, OUTER, &[chunk::DATA]));
    let out = offered(&mut director, vnet, &data);
    assert_eq!(
        (out.verdict, out.vnet),
        (Verdict::Local, VnetHeader::default())
    );
    assert_eq!(ends(&out.packet), (PEER, OUTER));
    // Of many segments there is no such frame.
    let vnet = VnetHeader {
        gso_type: 1,
        gso_size: 100,
        ..vnet
    };
    let out = offered(&mut director, vnet, &data);
    assert_eq!(out.verdict, Verdict::Drop(Reason::Unsegmentable));
}

#[test]
fn what_was_damaged_on_the_way_stays_so() {
    let mut director = lab(ForwardMethod::Nat);
    let mut init = packet(PEER, OUTER, &[chunk::INIT]);
    init[40] ^= 1;
    let out = from_client(&mut director, &init);
    assert_eq!(out.verdict, Verdict::Forward(INSIDE));
    let ip = Packet::new_checked(&out.packet[..]).unwrap();
    assert!(!sctp::verifies(ip.payload()));
}

#[test]
fn only_an_init_makes_a_connection() {
    for kind in 0..=255 {
        let mut director = lab(ForwardMethod::Nat);
        let expected = if kind == chunk::INIT {
            Verdict::Forward(INSIDE)
        } else {
            Verdict::Local
        };
        let out = from_client(&mut director, &packet(PEER, OUTER, &[kind]));
        assert_eq!(out.verdict, expected, "{kind}");
        let sloppy = Operation::SetSysctl {
            name: "sloppy_sctp".to_owned(),
            value: 1,
        };
        director.apply(NOW, &sloppy).unwrap();
        let out = from_client(&mut director, &packet(PEER, OUTER, &[kind]));
        let any = kind != chunk::ABORT;
        assert_eq!(out.verdict == Verdict::Forward(INSIDE), any, "{kind}");
    }
}

#[test]
fn without_a_chunk_it_is_no_packet() {
    let mut director = lab(ForwardMethod::Nat);
    let whole = packet(PEER, OUTER, &[chunk::INIT]);
    for length in 20..36 {
        let mut cut = whole[..length].to_vec();
        transport::set_field(&mut cut, 2, length as u16);
        transport::set_field(&mut cut, 10, 0);
        let sum = shared::wire::checksum::checksum(&cut[..20]);
        transport::set_field(&mut cut, 10, sum);
        let out = from_client(&mut director, &cut);
        assert_eq!(
            out.verdict,
            Verdict::Drop(Reason::MalformedTransport),
            "{length}"
        );
    }
}

#[test]
fn no_server_is_port_unreachable() {
    let mut director = lab(ForwardMethod::Nat);
    let server = ServerSpec::new(server(), 3868, ForwardMethod::Nat, 1).key;
    director
        .apply(NOW, &Operation::DeleteServer(key(), server))
        .unwrap();
    let out = from_client(&mut director, &packet(PEER, OUTER, &[chunk::INIT]));
    assert_eq!(out.verdict, Verdict::Drop(Reason::NoServer));
    let [Outgoing::Transmit(OUTSIDE, answer)] = &out.outbox[..] else {
        panic!("{out:?}")
    };
    assert_eq!(answer[24 + 20..][..2], [3, 3]);
}

#[test]
fn errors_about_it_go_where_it_came_from() {
    let mut director = lab(ForwardMethod::Nat);
    let there = from_client(&mut director, &packet(PEER, OUTER, &[chunk::INIT]));
    // A router behind the director could not deliver the INIT.
    let error = about(&there.packet, Error::TimeExceeded, [10, 1, 0, 9], CLIENT);
    let out = from_server(&mut director, &error);
    assert_eq!(out.verdict, Verdict::Forward(OUTSIDE));
    assert_eq!(out.packet[12..16], VIP);
    let quoted = Packet::new_lenient(&out.packet[28..]).unwrap();
    assert_eq!(quoted.destination(), VIP);
    assert_eq!(transport::ports(quoted.rest()), Some((PEER.1, OUTER.1)));
    // The client could not take what the VIP answered.
    let answer = packet(OUTER, PEER, &[chunk::INIT_ACK]);
    let error = about(
        &answer,
        Error::FragmentationNeeded { mtu: 1400 },
        CLIENT,
        VIP,
    );
    let out = from_client(&mut director, &error);
    assert_eq!(out.verdict, Verdict::Forward(INSIDE));
    let quoted = Packet::new_lenient(&out.packet[28..]).unwrap();
    assert_eq!(quoted.source(), SERVER);
    assert_eq!(transport::ports(quoted.rest()), Some((3868, PEER.1)));
}

#[test]
fn in_pieces_it_keeps_its_ports_or_does_not_pass() {
    let whole = packet(PEER, OUTER, &[chunk::INIT]);
    let piece = |from: usize, to: usize, more: u16| {
        let header = ipv4::Header {
            tos: 0,
            identification: 9,
            fragment: (from / 8) as u16 | more,
            ttl: 64,
            protocol: Protocol::SCTP.0,
            source: CLIENT,
            destination: VIP,
        };
        let body = &whole[20 + from..20 + to];
        [&header.to_bytes(body.len())[..], body].concat()
    };
    let (first, later) = (piece(0, 32, ipv4::MF), piece(32, whole.len() - 20, 0));
    let mut other_port = lab(ForwardMethod::Nat);
    let mut same_port = director(ForwardMethod::Nat);
    let spec = ServerSpec::new(server(), OUTER.1, ForwardMethod::Nat, 1);
    serve(&mut same_port, key(), spec);
    let drop = Verdict::Drop(Reason::SctpFragment);
    for (director, expected) in [
        (&mut other_port, drop),
        (&mut same_port, Verdict::Forward(INSIDE)),
        (&mut lab(ForwardMethod::FullNat), drop),
        (&mut lab(ForwardMethod::Direct), Verdict::Forward(INSIDE)),
    ] {
        let out = from_client(director, &first);
        assert_eq!(out.verdict, expected);
        let next = from_client(director, &later);
        assert_eq!(next.verdict, expected);
        if expected != drop {
            let body = [&out.packet[20..], &next.packet[20..]].concat();
            assert!(sctp::verifies(&body));
        }
    }
}

#[test]
fn a_service_by_mark_takes_it_too() {
    let mut director = director(ForwardMethod::Nat);
    let key = ServiceKey::Mark {
        mark: 7,
        family: shared::addr::Family::V4,
    };
    serve(
        &mut director,
        key,
        ServerSpec::new(server(), 0, ForwardMethod::Nat, 1),
    );
    let reply = CaptureKey::Reply {
        protocol: Protocol::SCTP,
        address: Addr::from_v4_bytes(SERVER),
        port: 0,
    };
    assert!(director.balancer.captures().contains(reply));
    let out = routed(&mut director, 7, &packet(PEER, OUTER, &[chunk::INIT]));
    assert_eq!(out.verdict, Verdict::Forward(INSIDE));
    let back = from_server(
        &mut director,
        &packet((SERVER, OUTER.1), PEER, &[chunk::INIT_ACK]),
    );
    assert_eq!(ends(&back.packet), (OUTER, PEER));
}

proptest! {
    /// Whatever the chunks are, the packet goes on as it was but for what is rewritten.
    #[test]
    fn any_chunks(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 4..200), 1..8),
        full_nat in any::<bool>(),
        left in any::<bool>(),
    ) {
        let method = if full_nat { ForwardMethod::FullNat } else { ForwardMethod::Nat };
        let mut director = lab(method);
        let sloppy = Operation::SetSysctl { name: "sloppy_sctp".to_owned(), value: 1 };
        director.apply(NOW, &sloppy).unwrap();
        for body in bodies {
            let mut packet = packet(PEER, OUTER, &[]);
            packet.truncate(32);
            packet.extend(&body);
            let length = packet.len() as u16;
            transport::set_field(&mut packet, 2, length);
            transport::set_field(&mut packet, 10, 0);
            let sum = shared::wire::checksum::checksum(&packet[..20]);
            transport::set_field(&mut packet, 10, sum);
            sctp::sum_up(&mut packet[20..]);
            let (vnet, packet) = if left {
                as_left_by_the_sender(packet)
            } else {
                (VnetHeader::default(), packet)
            };
            let out = offered(&mut director, vnet, &packet);
            match out.verdict {
                Verdict::Forward(_) => {
                    prop_assert_eq!(ends(&out.packet).1, (SERVER, 3868));
                    prop_assert_eq!(&out.packet[32..], &body[..]);
                }
                verdict => prop_assert_eq!((verdict, body[0]), (Verdict::Local, chunk::ABORT)),
            }
        }
    }
}
