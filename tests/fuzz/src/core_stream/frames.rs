//! The next frame of a story.

use std::net::IpAddr;

use director::core::director::Director;
use director::core::frame;
use director::core::net::{Mac, PortId};
use director::core::view::ConnectionView;
use shared::addr::Protocol;
use shared::time::Time;
use shared::wire::icmpv4::Error;
use shared::wire::ipv4;
use shared::wire::vnet::VnetHeader;

use super::Script;
use super::packet::{End, Sketch, Sum, fix_header_checksum};
use super::world::{self, CLIENT_PORTS, CLIENTS, SERVERS, VIPS};

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
    let ends = script.byte();
    let pick = |shift: u8| usize::from(ends >> shift & 3);
    let (protocol, port) = match ends >> 6 {
        0 => (Protocol::TCP, 80),
        1 => (Protocol::UDP, 53),
        2 => (Protocol::TCP, 443),
        _ => (Protocol::SCTP, 443),
    };
    let vips = [VIPS[0], VIPS[1], VIPS[2], SERVERS[0]];
    sketch(
        protocol,
        (CLIENTS[pick(0)], CLIENT_PORTS[pick(2)]),
        (vips[pick(4)], port),
    )
}

fn sketch(protocol: Protocol, source: End, destination: End) -> Sketch {
    Sketch {
        protocol,
        source,
        destination,
        tcp_flags: SYN,
        ttl: 64,
        identification: 77,
        fragment: ipv4::DF,
        option_words: 0,
        payload: 5,
        sum: Sum::Complete,
    }
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
    let Ends {
        client,
        vip,
        server,
    } = ends(connection);
    let protocol = connection.protocol;
    let (request, reply) = (
        sketch(protocol, client, vip),
        sketch(protocol, server, client),
    );
    match choice & 3 {
        0 => shape(script, request, Side::Outside),
        1 => shape(script, reply, Side::Inside),
        // Each side complains about what it got.
        2 => error(script, sketch(protocol, vip, client), Side::Outside),
        _ => error(script, sketch(protocol, client, server), Side::Inside),
    }
}

struct Ends {
    client: End,
    vip: End,
    server: End,
}

fn ends(view: &ConnectionView) -> Ends {
    let v4 = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => [0; 4],
    };
    Ends {
        client: (v4(view.client), view.client_port),
        vip: (v4(view.virtual_address), view.virtual_port),
        server: (v4(view.destination), view.destination_port),
    }
}

fn error(script: &mut Script<'_>, quoted: Sketch, side: Side) -> (Side, VnetHeader, Vec<u8>) {
    let choice = script.byte();
    let message = match choice % 3 {
        0 => Error::PortUnreachable,
        1 => Error::TimeExceeded,
        _ => Error::FragmentationNeeded { mtu: 1400 },
    };
    let bytes = [28, 576, 20, 40][usize::from(choice >> 2 & 3)];
    let speaker = match choice >> 4 & 3 {
        0 | 1 => quoted.destination.0,
        2 => [172, 16, 0, 1],
        _ => CLIENTS[2],
    };
    let quoted = Sketch {
        option_words: choice >> 6,
        payload: 500,
        ..quoted
    };
    let packet = quoted.error(speaker, message, bytes);
    (side, VnetHeader::default(), packet)
}

/// Flags, size, fragments, checksum, options.
fn shape(script: &mut Script<'_>, mut sketch: Sketch, side: Side) -> (Side, VnetHeader, Vec<u8>) {
    let shape = script.byte();
    sketch.tcp_flags = script.one_of(&[SYN, ACK, SYN | ACK, FIN | ACK, RST, PSH | ACK, 0, 0xff]);
    sketch.payload = [5, 0, 100, 1400, 1480, 3000, 40_000, 8][usize::from(shape & 7)];
    match shape >> 3 & 7 {
        0..3 => {}
        3 => sketch.sum = Sum::Partial(0),
        4 => sketch.sum = Sum::Partial(script.one_of(&[1000, 1448, 8, 0xffff])),
        5 => sketch.sum = Sum::Absent,
        6 => sketch.sum = Sum::Wrong,
        _ => sketch.option_words = script.byte() % 11,
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
            sketch.payload = [4, 12, 8, 44, 1404][usize::from(part >> 5) % 5];
            if offset != 0 {
                sketch.payload &= !7;
                return (side, VnetHeader::default(), sketch.later_part());
            }
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
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
