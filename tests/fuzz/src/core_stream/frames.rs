//! The next frame of a story.

use director::core::director::Director;
use director::core::frame;
use director::core::net::{Mac, PortId};
use director::core::operation::ForwardMethod;
use director::core::view::ConnectionView;
use shared::addr::{Addr, Family, FlowKey, Protocol};
use shared::time::Time;
use shared::wire::icmpv4::Error;
use shared::wire::ipv4;
use shared::wire::vnet::VnetHeader;

use super::headers::fix_header_checksum;
use super::packet::{End, SYN, Sketch, Sum, counted};
use super::places::{self, CLIENT_PORTS, FTP, KEYS, SIP};
use super::script::Script;
use super::{texts, world};

/// A frame as it comes from the ring.
#[derive(Debug)]
pub(super) struct Arriving {
    pub(super) port: PortId,
    pub(super) wire: Vec<u8>,
}

/// Of a new flow, of a connection that is there, or noise.
pub(super) fn next(script: &mut Script<'_>, director: &Director, now: Time) -> Arriving {
    let kind = script.byte();
    let (side, vnet, mut packet) = match kind % 16 {
        15 => noise(script),
        0..5 => {
            let sketch = new_flow(script);
            shape(script, sketch, Side::Outside)
        }
        _ => of_a_connection(script, director, now),
    };
    damage(script, kind, &mut packet);
    let port = match (side, kind & 0x80 != 0) {
        (Side::Outside, false) | (Side::Inside, true) => PortId(0),
        _ => PortId(1),
    };
    let own = director
        .network
        .port(port)
        .map_or(world::mac(9), |port| port.mac);
    let destination = if kind & 0x70 == 0x70 {
        Mac([0xff; 6])
    } else {
        own
    };
    let wire = frame::compose(destination, world::mac(10), vnet, &[&packet]);
    Arriving { port, wire }
}

/// Which link a frame comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Outside,
    Inside,
}

fn noise(script: &mut Script<'_>) -> (Side, VnetHeader, Vec<u8>) {
    let mut vnet = [0; 10];
    for byte in &mut vnet {
        *byte = script.byte();
    }
    let packet = script.bytes(200).to_vec();
    (Side::Outside, VnetHeader::from_bytes(vnet), packet)
}

fn new_flow(script: &mut Script<'_>) -> Sketch {
    let family = places::some_family(script);
    let ends = script.byte();
    let pick = |shift: u8| usize::from(ends >> shift & 3);
    let (protocol, port) = match ends >> 6 {
        0 => (Protocol::TCP, 80),
        1 => (Protocol::UDP, 53),
        2 => (Protocol::TCP, 443),
        _ => (Protocol::SCTP, 443),
    };
    let usual = (protocol, CLIENT_PORTS[pick(2)], port);
    let (protocol, from, port) = if script.scene.applications {
        script.one_of(&[
            usual,
            (Protocol::TCP, usual.1, FTP),
            (Protocol::UDP, usual.1, SIP),
            (Protocol::UDP, KEYS, KEYS),
            (Protocol::ESP, 0, 0),
            (Protocol::AH, 0, 0),
        ])
    } else {
        usual
    };
    let to = match pick(4) {
        3 => places::server(family, 0),
        which => places::vip(family, which),
    };
    Sketch::new(
        protocol,
        (places::client(family, pick(0)), from),
        (to, port),
    )
}

/// Either direction, or an error about a packet of either direction.
fn of_a_connection(
    script: &mut Script<'_>,
    director: &Director,
    now: Time,
) -> (Side, VnetHeader, Vec<u8>) {
    let (connections, _) = director.balancer.connections(now, 0, usize::MAX);
    let choice = script.byte();
    let Some(connection) = connections.get(usize::from(choice >> 2) % connections.len().max(1))
    else {
        let sketch = new_flow(script);
        return shape(script, sketch, Side::Outside);
    };
    let (mut outside, mut inside) = ends(director, connection);
    let mut protocol = connection.protocol;
    if script.scene.applications && outside.1.1 == KEYS {
        protocol = script.one_of(&[protocol, Protocol::ESP, Protocol::AH]);
        // They have no ports.
        for end in [&mut outside, &mut inside] {
            let silent = protocol != connection.protocol;
            (end.0.1, end.1.1) = if silent { (0, 0) } else { (end.0.1, end.1.1) };
        }
    }
    let sketch = |(from, to)| Sketch::new(protocol, from, to);
    let back = |(from, to)| (to, from);
    match choice & 3 {
        0 => shape(script, sketch(outside), Side::Outside),
        1 => shape(script, sketch(back(inside)), Side::Inside),
        // Each side complains about what it got.
        2 => error(script, &sketch(back(outside)), Side::Outside),
        _ => error(script, &sketch(inside), Side::Inside),
    }
}

/// Source and destination of what the client sends, and of what its real server then gets. A packet has one
/// family: with tunnels between them the server sees what was sent.
fn ends(director: &Director, view: &ConnectionView) -> ((End, End), (End, End)) {
    let client = (Addr::from(view.client), view.client_port);
    let vip = (Addr::from(view.virtual_address), view.virtual_port);
    let server = (Addr::from(view.destination), view.destination_port);
    let flow = FlowKey {
        protocol: view.protocol,
        source: client.0,
        source_port: client.1,
        destination: vip.0,
        destination_port: vip.1,
    };
    let known = director.balancer.find(&flow);
    let connection = known.map(|(id, _)| director.balancer.connection(id));
    let inside = match connection {
        Some(connection) if connection.forward() == ForwardMethod::FullNat => {
            let local = director.balancer.local_end(connection);
            ((local.address, local.port), server)
        }
        _ if client.0.family() == server.0.family() => (client, server),
        _ => (client, vip),
    };
    ((client, vip), inside)
}

fn error(script: &mut Script<'_>, about: &Sketch, side: Side) -> (Side, VnetHeader, Vec<u8>) {
    let choice = script.byte();
    let message = match choice % 3 {
        0 => Error::PortUnreachable,
        1 => Error::TimeExceeded,
        _ => Error::FragmentationNeeded { mtu: 1400 },
    };
    let bytes = match about.family() {
        Family::V4 => [28, 576, 20, 40],
        Family::V6 => [48, 1232, 40, 80],
    };
    let bytes = bytes[usize::from(choice >> 2 & 3)];
    let speaker = match choice >> 4 & 3 {
        0 | 1 => about.destination.0,
        2 => places::stranger(about.family()),
        _ => places::client(about.family(), 2),
    };
    let quoted = Sketch {
        options: choice >> 6,
        payload: counted(500),
        ..about.clone()
    };
    let packet = quoted.error(speaker, message, bytes);
    (side, VnetHeader::default(), packet)
}

/// Flags, size, fragments, checksum, options.
fn shape(script: &mut Script<'_>, mut sketch: Sketch, side: Side) -> (Side, VnetHeader, Vec<u8>) {
    let shape = script.byte();
    sketch.tcp_flags = script.one_of(&[SYN, ACK, SYN | ACK, FIN | ACK, RST, PSH | ACK, 0, 0xff]);
    sketch.payload = counted([5, 0, 100, 1400, 1480, 3000, 40_000, 8][usize::from(shape & 7)]);
    if script.scene.applications
        && let Some(text) = texts::said(script, (sketch.source.1, sketch.destination.1))
    {
        sketch.payload = text;
    }
    match shape >> 3 & 7 {
        0..3 => {}
        3 => sketch.sum = Sum::Partial(0),
        4 => sketch.sum = Sum::Partial(script.one_of(&[1000, 1448, 8, 0xffff])),
        5 => sketch.sum = Sum::Absent,
        6 => sketch.sum = Sum::Wrong,
        _ => sketch.options = script.byte() % 11,
    }
    match shape >> 6 {
        0 => {}
        1 => sketch.fragment = 0,
        2 => {
            sketch.fragment = 0;
            sketch.ttl = script.one_of(&[1, 2, 0, 255]);
        }
        _ => {
            let part = script.byte();
            let offset = [0, 0, 1, 3, 13, 185, 8000, 0x1fff][usize::from(part & 7)];
            let more = if part & 8 == 0 { ipv4::MF } else { 0 };
            let forbidden = if part & 0x10 == 0 { 0 } else { ipv4::DF };
            sketch.fragment = offset | more | forbidden;
            sketch.identification = u16::from(part >> 5);
            // What is not the last part has a multiple of eight bytes.
            let bytes = [4, 12, 8, 44, 1404][usize::from(part >> 5) % 5];
            if offset != 0 {
                sketch.payload = counted(bytes & !7);
                return (side, VnetHeader::default(), sketch.later_part());
            }
            sketch.payload = counted(bytes);
        }
    }
    let (vnet, packet) = sketch.build();
    (side, vnet, packet)
}

/// Some bytes become others, and a card's padding comes behind.
fn damage(script: &mut Script<'_>, kind: u8, packet: &mut Vec<u8>) {
    let times = match kind >> 4 & 7 {
        0..5 => return,
        5 => 1,
        _ => script.byte() % 4,
    };
    for _ in 0..times {
        let (at, value) = (usize::from(script.byte()), script.byte());
        let length = packet.len().max(1);
        if let Some(byte) = packet.get_mut(at % length) {
            *byte = value;
        }
    }
    let last = script.byte();
    if last & 1 == 0 {
        fix_header_checksum(packet);
    }
    if last & 2 != 0 {
        packet.truncate(packet.len() * usize::from(last) / 256);
    }
    if last & 4 != 0 {
        packet.resize(packet.len() + usize::from(last >> 3), 0);
    }
}

const FIN: u8 = 0x01;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
