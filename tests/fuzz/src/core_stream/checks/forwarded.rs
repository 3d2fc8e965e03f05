//! What a packet was, and what it is when it is sent on.

use director::core::balancer::Direction;
use director::core::connection::{Connection, Endpoint};
use director::core::director::Director;
use director::core::operation::ForwardMethod;
use director::core::protocol::ipsec::key_exchange;
use shared::addr::{FlowKey, Protocol};
use shared::wire::vnet::{self, VnetHeader};
use shared::wire::{ethernet, sctp, transport};

use super::super::packet::SYN;
use super::super::places::FTP;
use super::seen::Seen;
use super::tunnels;

pub(super) fn forwarded(director: &Director, before: &[u8], wire: &[u8]) {
    let old = Seen::of(before).expect("what is forwarded was a whole packet");
    let inside = tunnels::inside(director, wire);
    let new = inside.as_deref().unwrap_or(wire);
    let new = Seen::of(new).expect("what is forwarded is a whole packet");
    assert_eq!(new.ip.ttl, old.ip.ttl - 1, "one router less to go");
    assert_eq!(new.ip.tos, old.ip.tos);
    assert_eq!(
        new.ip.protocol == Protocol::SCTP,
        old.ip.protocol == Protocol::SCTP
    );
    if old.ip.family() == new.ip.family() {
        assert_eq!(new.kept_header(), old.kept_header());
        let expected = match inside {
            Some(_) => in_tunnel(left_after(&old)),
            None => left_after(&old),
        };
        assert_eq!(new.vnet, expected, "what is left to be done");
    } else {
        let piece = |seen: &Seen| seen.ip.piece.map(|piece| (piece.offset, piece.more));
        assert_eq!(piece(&new), piece(&old));
        let left = left_after(&old);
        assert_eq!(from_transport(&new, new.vnet), from_transport(&old, left));
    }
    if old.is_sound() == Some(true) {
        assert_ne!(new.is_sound(), Some(false), "sound before, and not after");
    }
    if old.is_icmp() {
        return;
    }
    let flow = match old.flow() {
        Some(flow) => flow,
        None if old.ip.protocol.is_ipsec() => key_exchange((old.ip.source, old.ip.destination)),
        None => {
            assert_eq!(new.payload(), old.payload(), "data of a later fragment");
            return;
        }
    };
    let Some((id, direction)) = director.balancer.find(&flow) else {
        // One-packet scheduling leaves none.
        assert_eq!(
            flow.protocol,
            Protocol::UDP,
            "forwarded without a connection"
        );
        return;
    };
    let connection = director.balancer.connection(id);
    if !is_reworded(connection, &old) {
        assert_eq!(data(connection, &new), data(connection, &old), "data");
        if let (Some(before), Some(after)) = (old.total_sum(), new.total_sum()) {
            assert_eq!(after, before, "what was wrong stays wrong by as much");
        }
    }
    if old.ip.protocol.has_ports() {
        let seen = new.flow().expect("ports");
        assert_eq!(seen, beyond(director, connection, direction, flow));
    }
}

/// The flow of a packet behind the director.
fn beyond(
    director: &Director,
    connection: &Connection,
    direction: Direction,
    flow: FlowKey,
) -> FlowKey {
    let (client, vip) = (connection.client(), connection.virtual_endpoint());
    let server = connection.destination();
    let (source, destination) = match (connection.forward(), direction) {
        (ForwardMethod::Nat, Direction::Request) => (client, server),
        (ForwardMethod::FullNat, Direction::Request) => {
            (director.balancer.local_end(connection), server)
        }
        (ForwardMethod::Nat | ForwardMethod::FullNat, Direction::Reply) => (vip, client),
        _ => return flow,
    };
    between(flow.protocol, source, destination)
}

fn between(protocol: Protocol, source: Endpoint, destination: Endpoint) -> FlowKey {
    FlowKey {
        protocol,
        source: source.address,
        source_port: source.port,
        destination: destination.address,
        destination_port: destination.port,
    }
}

/// Whether its data may become others: places in FTP, data of a SYN that a header of the PROXY protocol goes before.
fn is_reworded(connection: &Connection, old: &Seen) -> bool {
    let flags = old.tcp_flags();
    let of_ftp = connection.virtual_endpoint().port == FTP;
    let opens = flags.is_some_and(|flags| flags & SYN != 0);
    flags.is_some() && of_ftp || opens && connection.forward() == ForwardMethod::FullNat
}

/// All behind the IP header that stays as it is.
fn data(connection: &Connection, seen: &Seen) -> Vec<u8> {
    let mut segment = seen.payload().to_vec();
    let protocol = seen.ip.protocol;
    match protocol {
        Protocol::TCP => transport::set_field(&mut segment, transport::TCP_CHECKSUM, 0),
        Protocol::UDP => transport::set_field(&mut segment, transport::UDP_CHECKSUM, 0),
        Protocol::SCTP => {
            transport::set_field(&mut segment, sctp::CHECKSUM, 0);
            transport::set_field(&mut segment, sctp::CHECKSUM + 2, 0);
        }
        _ => return segment,
    }
    // By FULLNAT the numbers are others, also those in options.
    let from = match connection.forward() {
        ForwardMethod::FullNat if protocol == Protocol::TCP => {
            segment.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4)
        }
        _ => 4,
    };
    segment.split_off(from.clamp(4, segment.len().max(4)).min(segment.len()))
}

/// What is still to be done to a packet when the director has seen it: SCTP's checksum is worked out.
fn left_after(old: &Seen) -> VnetHeader {
    let of_sctp = old.ip.protocol == Protocol::SCTP && !old.is_fragment();
    match of_sctp && old.is_own_partial() {
        true => VnetHeader::default(),
        false => old.vnet,
    }
}

/// What an outer header leaves of that.
fn in_tunnel(left: VnetHeader) -> VnetHeader {
    match left.is_partial() {
        true => VnetHeader {
            flags: vnet::NEEDS_CSUM,
            csum_start: left.csum_start,
            csum_offset: left.csum_offset,
            ..VnetHeader::default()
        },
        false => VnetHeader::default(),
    }
}

/// The same with offsets from the transport header on, and without the names of segments in each family.
fn from_transport(seen: &Seen, vnet: VnetHeader) -> VnetHeader {
    let header = (ethernet::LENGTH + seen.ip.header) as u16;
    let offset = |at: u16| match vnet.is_partial() {
        true => at.wrapping_sub(header),
        false => 0,
    };
    VnetHeader {
        gso_type: u8::from(vnet.is_gso()),
        csum_start: offset(vnet.csum_start),
        hdr_len: match vnet.is_gso() {
            true => vnet.hdr_len.wrapping_sub(header),
            false => 0,
        },
        ..vnet
    }
}
