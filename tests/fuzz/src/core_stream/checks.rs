//! What must hold after every step.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use director::core::balancer::Direction;
use director::core::director::Director;
use director::core::frame;
use director::core::net::PortId;
use director::core::operation::{ForwardMethod, ServerKey, ServiceKey};
use director::core::verdict::{Outgoing, Verdict};
use director::core::view::ConnectionView;
use shared::addr::{Addr, FlowKey, Protocol};
use shared::time::Time;
use shared::wire::ipv4::Packet;
use shared::wire::vnet::VnetHeader;
use shared::wire::{checksum, ethernet, icmpv4, sctp, transport, vnet};

use super::frames::Arriving;

/// What was known before a frame was decided about.
#[derive(Debug)]
pub(super) struct Before {
    wire: Vec<u8>,
    taken: bool,
    drops: u64,
}

impl Before {
    pub(super) fn of(director: &mut Director, arriving: &Arriving) -> Before {
        let ethernet = arriving.wire.get(vnet::LENGTH..).unwrap_or_default();
        Before {
            wire: arriving.wire.clone(),
            taken: director.takes(arriving.port, ethernet),
            drops: drops(director),
        }
    }
}

fn drops(director: &Director) -> u64 {
    director.drops().iter().map(|(_, packets)| packets).sum()
}

/// The decision about a frame, which is now `wire`.
pub(super) fn verdict(director: &Director, before: &Before, verdict: Verdict, wire: &[u8]) {
    let inside = out_of_tunnel(director, before, wire);
    let bare = inside.as_deref().unwrap_or(wire);
    assert!(bare.len() <= before.wire.len(), "longer than before");
    match verdict {
        Verdict::Forward(port) => forwarded(director, before, port, wire),
        Verdict::Encapsulate(..) => panic!("nobody said that the kernel could"),
        Verdict::Local => assert!(
            as_it_was(&before.wire).starts_with(&as_it_was(wire))
                || is_for_the_host(director, wire),
            "the host gets it changed"
        ),
        Verdict::Drop(_) => assert!(drops(director) > before.drops, "dropped and not counted"),
        Verdict::Consumed => {}
    }
}

/// A frame but for what the director works out of every one, forwarded or not: SCTP's checksum.
fn as_it_was(wire: &[u8]) -> Vec<u8> {
    let mut wire = wire.to_vec();
    let vnet = wire.first_chunk().map(|vnet| VnetHeader::from_bytes(*vnet));
    let packet = wire.get(frame::HEADERS..).map(Packet::new_lenient);
    if let (Some(vnet), Some(Ok(packet))) = (vnet, packet)
        && packet.protocol() == Protocol::SCTP.0
        && (!vnet.is_partial() || is_own(vnet, &packet))
    {
        let at = frame::HEADERS + packet.header_length() + sctp::CHECKSUM;
        wire[..vnet::LENGTH].fill(0);
        if let Some(field) = wire.get_mut(at..at + 4) {
            field.fill(0);
        }
    }
    wire
}

/// It was rewritten for a real server or a client on the director itself.
fn is_for_the_host(director: &Director, wire: &[u8]) -> bool {
    let packet = wire.get(frame::HEADERS..).map(Packet::new_lenient);
    packet.is_some_and(|packet| {
        packet.is_ok_and(|packet| {
            let to = Addr::from_v4_bytes(packet.destination());
            director.network.is_local(to)
        })
    })
}

/// The frame as it would be without the outer header that the director has put in front of its packet; none
/// if it has put none there. All tunnels here are IP in IP.
fn out_of_tunnel(director: &Director, before: &Before, wire: &[u8]) -> Option<Vec<u8>> {
    let outer = Packet::new_lenient(wire.get(frame::HEADERS..)?).ok()?;
    let own = director
        .network
        .is_local(Addr::from_v4_bytes(outer.source()));
    let arrived = Packet::new_lenient(before.wire.get(frame::HEADERS..)?).ok()?;
    if outer.protocol() != IPIP || !own || arrived.protocol() == IPIP {
        return None;
    }
    let vnet = VnetHeader::from_bytes(*wire.first_chunk()?);
    let old = VnetHeader::from_bytes(*before.wire.first_chunk()?);
    let mut expected = VnetHeader::default();
    let old = left_after(old, &arrived);
    if old.is_partial() {
        expected.flags = vnet::NEEDS_CSUM;
        expected.csum_start = old.csum_start.wrapping_add(20);
        expected.csum_offset = old.csum_offset;
    }
    assert_eq!(vnet, expected, "the checksum has moved with the packet");
    let (headers, inner) = (&before.wire[..vnet::LENGTH], &wire[frame::HEADERS + 20..]);
    Some([headers, &wire[vnet::LENGTH..frame::HEADERS], inner].concat())
}

fn forwarded(director: &Director, before: &Before, port: PortId, wire: &[u8]) {
    // The capture would never have handed it over, so that nobody could tell that it works.
    assert!(before.taken, "forwarded, and the capture does not take it");
    let (old_vnet, old) = packet(&before.wire);
    let inside = out_of_tunnel(director, before, wire);
    let (new_vnet, new) = packet(inside.as_deref().unwrap_or(wire));
    assert_eq!(new_vnet, left_after(old_vnet, &old));
    let link = director.network.port(port).expect("a port that is there");
    assert!(link.up, "a port that is up");
    leaves_by(director, port, wire, link.mtu);
    assert_eq!(new.total_length(), old.total_length());
    assert_eq!(new.header_length(), old.header_length());
    assert_eq!(new.ttl(), old.ttl() - 1);
    assert_eq!(
        (new.protocol(), new.identification(), new.tos()),
        (old.protocol(), old.identification(), old.tos())
    );
    if sound_transport(old_vnet, &old) {
        assert!(
            sound_transport(new_vnet, &new),
            "sound before, and not after"
        );
    }
    if old.protocol() == Protocol::ICMP.0 {
        return;
    }
    if old.fragment_offset() != 0 {
        assert_eq!(new.payload(), old.payload(), "data of a later fragment");
        return;
    }
    let at = checksum_at(old.protocol());
    let data = |packet: &Packet<&[u8]>| -> Vec<u8> {
        let mut segment = packet.payload().to_vec();
        transport::set_field(&mut segment, at, 0);
        if packet.protocol() == Protocol::SCTP.0 {
            transport::set_field(&mut segment, at + 2, 0);
        }
        segment.split_off(4)
    };
    assert_eq!(data(&new), data(&old), "data");
    goes_where_its_connection_goes(director, &old, &new);
}

fn goes_where_its_connection_goes(director: &Director, old: &Packet<&[u8]>, new: &Packet<&[u8]>) {
    let flow = flow(old);
    let found = director.balancer.find(&flow);
    let (id, direction) = found.expect("what is forwarded has a connection");
    let connection = director.balancer.connection(id);
    let seen = self::flow(new);
    let mut expected = flow;
    match (connection.forward(), direction) {
        (ForwardMethod::Nat, Direction::Request) => {
            let server = connection.destination();
            (expected.destination, expected.destination_port) = (server.address, server.port);
        }
        (ForwardMethod::Nat, Direction::Reply) => {
            let vip = connection.virtual_endpoint();
            (expected.source, expected.source_port) = (vip.address, vip.port);
        }
        // Its checksum may have been worked out.
        _ if old.protocol() == Protocol::SCTP.0 => {}
        _ => assert_eq!(new.payload(), old.payload(), "nothing is rewritten"),
    }
    assert_eq!(seen, expected);
}

/// A frame that leaves besides the one in hand. It may have waited while its link became narrower or
/// went down, as frames do in the kernel's queues; whoever sends it then counts that it could not.
/// So it may be as large as its link takes now, or as `widest`, the largest MTU that any link had.
pub(super) fn outgoing(director: &Director, frame: &Outgoing, widest: u32) {
    match frame {
        Outgoing::Transmit(port, wire) => {
            let now = director.network.port(*port).map_or(0, |port| port.mtu);
            leaves_by(director, *port, wire, widest.max(now));
        }
        Outgoing::Local(wire) => assert!(wire.len() >= frame::HEADERS),
    }
}

/// Whether a frame is an ICMP error of the director's own: it begins a message of type 3 or 11.
pub(super) fn is_error(frame: &Outgoing) -> bool {
    let Outgoing::Transmit(_, wire) = frame else {
        return false;
    };
    let (_, packet) = packet(wire);
    let error = matches!(packet.payload().first(), Some(3 | 11));
    error && Protocol(packet.protocol()) == Protocol::ICMP && !packet.is_fragment()
}

/// Sound for a link of this MTU.
fn leaves_by(director: &Director, port: PortId, wire: &[u8], mtu: u32) {
    let (vnet, packet) = packet(wire);
    let Some(own) = own_address(director, port) else {
        panic!("no interface {port:?} is there: {packet:?}");
    };
    let header = ethernet::Header::parse(&wire[vnet::LENGTH..]).expect("a whole frame");
    assert_eq!(header.source, own, "our own address on that link");
    assert_ne!(header.destination, [0; 6], "the neighbour is known");
    let end = wire.len() - frame::HEADERS;
    assert_eq!(usize::from(packet.total_length()), end, "nothing behind");
    if !vnet.is_gso() {
        let mtu = mtu.max(MIN_MTU) as usize;
        assert!(
            end <= mtu,
            "{end} bytes, and the link takes {mtu}: {packet:?}"
        );
    }
}

fn own_address(director: &Director, port: PortId) -> Option<[u8; 6]> {
    director.network.port(port).map(|port| port.mac.0)
}

fn packet(wire: &[u8]) -> (VnetHeader, Packet<&[u8]>) {
    let vnet = wire.first_chunk().expect("a virtio header");
    let packet = Packet::new_checked(&wire[frame::HEADERS..]).expect("a sound IP header");
    (VnetHeader::from_bytes(*vnet), packet)
}

fn flow(packet: &Packet<&[u8]>) -> FlowKey {
    let (source_port, destination_port) =
        transport::ports(packet.payload()).expect("a transport header");
    FlowKey {
        protocol: Protocol(packet.protocol()),
        source: Addr::from_v4_bytes(packet.source()),
        source_port,
        destination: Addr::from_v4_bytes(packet.destination()),
        destination_port,
    }
}

fn checksum_at(protocol: u8) -> usize {
    match Protocol(protocol) {
        Protocol::TCP => transport::TCP_CHECKSUM,
        Protocol::SCTP => sctp::CHECKSUM,
        _ => transport::UDP_CHECKSUM,
    }
}

/// What is still to be done to a packet when the director has seen it: SCTP's checksum is worked out.
fn left_after(vnet: VnetHeader, packet: &Packet<&[u8]>) -> VnetHeader {
    if packet.protocol() == Protocol::SCTP.0 && !packet.is_fragment() && is_own(vnet, packet) {
        VnetHeader::default()
    } else {
        vnet
    }
}

/// Whether the checksum that is still to be completed is that of the packet itself.
fn is_own(vnet: VnetHeader, packet: &Packet<&[u8]>) -> bool {
    let start = ethernet::LENGTH + packet.header_length();
    let at = checksum_at(packet.protocol());
    vnet.is_partial() && (vnet.csum_start, vnet.csum_offset) == (start as u16, at as u16)
}

/// Whether a receiver takes what is in it, after a card has completed what is left to it. Of a
/// fragment nobody can tell.
fn sound_transport(vnet: VnetHeader, packet: &Packet<&[u8]>) -> bool {
    let segment = packet.payload();
    if packet.is_fragment() {
        return false;
    }
    let protocol = Protocol(packet.protocol());
    if protocol == Protocol::ICMP {
        return icmpv4::is_error(segment) && checksum::verifies(segment);
    }
    if protocol == Protocol::SCTP {
        return sctp::verifies(segment) || is_own(vnet, packet);
    }
    let covered = match (protocol, transport::field(segment, 4)) {
        (Protocol::UDP, Some(length)) => usize::from(length),
        _ => segment.len(),
    };
    let Some(segment) = segment.get(..covered) else {
        return false;
    };
    let at = checksum_at(protocol.0);
    let pseudo = checksum::pseudo_v4(
        packet.source(),
        packet.destination(),
        protocol.0,
        covered as u16,
    );
    match transport::field(segment, at) {
        Some(field) if is_own(vnet, packet) => field % 0xffff == checksum::fold(pseudo) % 0xffff,
        Some(0) if protocol == Protocol::UDP => true,
        Some(_) => checksum::fold(checksum::sum(segment, pseudo)) == 0xffff,
        None => false,
    }
}

/// Which counts can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    /// A connection tells by its ends which server it has.
    OfServers,
    /// It does not.
    OfConnections,
}

/// Lists and counts agree with each other.
pub(super) fn tables(director: &Director, now: Time, counts: Counts) {
    let balancer = &director.balancer;
    let (connections, rest) = balancer.connections(now, 0, usize::MAX);
    assert_eq!(rest, None);
    assert_eq!(connections.len(), balancer.connection_count());
    let mut counted = BTreeMap::<_, (u32, u32)>::new();
    // No packet belongs to a template.
    let is_template = |view: &&ConnectionView| TEMPLATE.contains(&view.state.as_str());
    for view in connections.iter().filter(|view| !is_template(view)) {
        is_found(director, now, view);
        let service = (view.protocol.0, view.virtual_address, view.virtual_port);
        let counts = counted
            .entry((service, view.destination, view.destination_port))
            .or_default();
        if ACTIVE.contains(&view.state.as_str()) {
            counts.0 += 1;
        } else {
            counts.1 += 1;
        }
    }
    if counts == Counts::OfConnections {
        return;
    }
    for service in balancer.services() {
        let ServiceKey::Address {
            protocol,
            address,
            port,
        } = service.spec.key
        else {
            continue;
        };
        for server in &service.servers {
            let ServerKey {
                address: at,
                port: to,
            } = server.spec.key;
            let key = ((protocol.0, address, port), at, to);
            let counted = counted.get(&key).copied().unwrap_or_default();
            let shown = (server.active, server.inactive);
            assert_eq!(shown, counted, "active and inactive of {}", server.spec.key);
        }
    }
}

/// A connection that is listed is found by the packets of both its ends.
fn is_found(director: &Director, now: Time, view: &ConnectionView) {
    let request = key(
        view.protocol,
        (view.client, view.client_port),
        (view.virtual_address, view.virtual_port),
    );
    let found = director.balancer.find(&request);
    let (id, direction) = found.expect("a connection is found by its client's packets");
    assert_eq!(direction, Direction::Request);
    assert_eq!(director.balancer.connection_view(now, id), *view);
    if director.balancer.connection(id).forward() != ForwardMethod::Nat {
        return;
    }
    let reply = key(
        view.protocol,
        (view.destination, view.destination_port),
        (view.client, view.client_port),
    );
    // Perhaps another one between the same ends, for another VIP: nobody can tell them apart.
    let found = director.balancer.find(&reply);
    assert!(found.is_some(), "nor by its server's: {view:?}");
}

fn key(protocol: Protocol, source: (IpAddr, u16), destination: (IpAddr, u16)) -> FlowKey {
    FlowKey {
        protocol,
        source: source.0.into(),
        source_port: source.1,
        destination: destination.0.into(),
        destination_port: destination.1,
    }
}

/// After time has passed: what was due is done.
pub(super) fn nothing_is_overdue(director: &Director, now: Time) {
    let (connections, _) = director.balancer.connections(now - SLACK, 0, usize::MAX);
    for view in &connections {
        assert!(view.expires_ms > 0, "overdue: {view:?}");
    }
    let waits = director.poll_at().is_some();
    assert!(waits || connections.is_empty(), "nobody will look");
}

/// Smaller than this no link is (RFC 791).
const MIN_MTU: u32 = 68;
/// What a tick of the timer wheel may be late.
const SLACK: Duration = Duration::from_secs(1);
const TEMPLATE: [&str; 2] = ["NONE", "ASSURED"];
const ACTIVE: [&str; 4] = ["ESTABLISHED", "SYN_SENT", "SYN_RECV", "SYNACK"];

const IPIP: u8 = 4;
