//! FULLNAT: the real server talks to a local address, and of TCP also with other numbers.

use shared::addr::Family;
use shared::time::Time;
use shared::wire::checksum::{self, Change};
use shared::wire::ipv6;
use shared::wire::transport;

use super::sequence::{Names, Opening};
use super::{Director, Frame, Headers, nat, proxy_protocol, sequence};
use crate::core::balancer::{ConnectionId, Direction};
use crate::core::connection::Endpoint;
use crate::core::ip::{Ip, family_of, min_mtu};
use crate::core::net::Hop;
use crate::core::protocol::tcp::TcpFlags;
use crate::core::verdict::Outbox;

/// What has become of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rewritten {
    /// It is ready but for its Ethernet addresses.
    InPlace,
    /// Another one goes in its place.
    Replaced,
}

impl Director {
    /// Rewrites a packet of a FULLNAT connection. A segment that names its client to the real server is longer,
    /// or has another one in front of it.
    #[inline(never)]
    pub(super) fn full_nat(
        &mut self,
        now: Time,
        (id, direction): (ConnectionId, Direction),
        headers: &Headers,
        hop: Option<&Hop>,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Rewritten {
        let (source, destination) = self.ends_there(id, direction);
        nat::rewrite_both(frame, frame.vnet(), headers, source, destination);
        let names = self.renumber(now, (id, direction), headers, frame);
        match hop {
            Some(hop) if names != Names::Nothing => {
                self.name(id, names, headers, hop, frame, outbox)
            }
            // Without one it is for a client on the host.
            _ => Rewritten::InPlace,
        }
    }

    /// Source and destination of a packet on the other side.
    #[inline(always)]
    pub(in crate::core) fn ends_there(
        &self,
        id: ConnectionId,
        direction: Direction,
    ) -> (Endpoint, Endpoint) {
        let connection = self.balancer.connection(id);
        match direction {
            Direction::Request => (
                self.balancer.local_end(connection),
                connection.destination(),
            ),
            Direction::Reply => (connection.virtual_endpoint(), connection.client()),
        }
    }

    /// Names the client to the real server, with a segment that is ready but for its Ethernet addresses.
    #[inline(never)]
    pub(super) fn name(
        &mut self,
        id: ConnectionId,
        names: Names,
        headers: &Headers,
        hop: &Hop,
        frame: &Frame<'_>,
        outbox: &mut Outbox,
    ) -> Rewritten {
        let connection = self.balancer.connection(id);
        let (client, virtual_end) = (connection.client(), connection.virtual_endpoint());
        match names {
            Names::Nothing => Rewritten::InPlace,
            Names::Option => self.name_by_option(client, headers, hop, frame, outbox),
            Names::Header => {
                let ends = (client, virtual_end);
                let mtu = hop.mtu.max(min_mtu(headers.family));
                let too_big = headers.largest(frame.vnet(), frame) > mtu as usize;
                if !self.introduce(ends, headers, hop, frame, outbox) {
                    return Rewritten::Replaced;
                }
                if too_big {
                    // It leaves in pieces, behind.
                    return Rewritten::InPlace;
                }
                self.send_in_order(hop, frame.vnet(), frame.packet(), outbox);
                Rewritten::Replaced
            }
        }
    }

    /// Puts the numbers of the other side into a TCP segment, and says what names its client.
    #[inline(always)]
    pub(super) fn renumber(
        &mut self,
        now: Time,
        (id, direction): (ConnectionId, Direction),
        headers: &Headers,
        frame: &mut Frame<'_>,
    ) -> Names {
        let Some(flags) = headers.tcp_flags() else {
            return Names::Nothing;
        };
        let vnet = frame.vnet();
        // Only the SYN asks; that of a client may be an answer, to a server that opens a data connection.
        let asks = flags & (TcpFlags::SYN | TcpFlags::ACK) == TcpFlags::SYN;
        let opens = direction == Direction::Request && asks;
        let opening = opens.then(|| Opening {
            first: sequence::first_sequence(self.balancer.hash_to_server(id), now.as_nanos()),
            introduction: self.balancer.introduction(id),
            family: self.balancer.connection(id).client().address.family(),
        });
        let Some(shift) = self.balancer.shift_mut(id) else {
            return Names::Nothing;
        };
        let Some(segment) = frame.packet_mut().get_mut(headers.ip_header..) else {
            return Names::Nothing;
        };
        let (change, names) = match direction {
            Direction::Request => sequence::request(segment, shift, flags, opening),
            Direction::Reply => (sequence::reply(segment, shift, flags), Names::Nothing),
        };
        let no_data = opens && shift.has_header() && !is_fragment(frame.packet());
        let (pseudo, cut) = if no_data {
            proxy_protocol::without_data(headers, frame)
        } else {
            Default::default()
        };
        if let Some(segment) = frame.packet_mut().get_mut(headers.ip_header..) {
            nat::amend(segment, headers, vnet, pseudo, change.and(cut));
        }
        names
    }

    /// Sends a segment with the TOA option in place of one without, if there is room for it.
    fn name_by_option(
        &mut self,
        client: Endpoint,
        headers: &Headers,
        hop: &Hop,
        frame: &Frame<'_>,
        outbox: &mut Outbox,
    ) -> Rewritten {
        let bytes = sequence::toa_bytes(client.address.family());
        let grown = headers.largest(frame.vnet(), frame) + bytes;
        let fits = grown <= hop.mtu.max(min_mtu(headers.family)) as usize
            && usize::from(headers.total) + bytes <= usize::from(u16::MAX);
        let segment = frame.packet().get(headers.ip_header..);
        let room = fits
            && segment.is_some_and(|segment| sequence::has_room(segment, bytes))
            && !is_fragment(frame.packet());
        let longer = room.then(|| with_option(headers, frame, &sequence::toa(client), hop));
        let Some(longer) = longer.flatten() else {
            self.balancer.unnamed_clients += 1;
            return Rewritten::InPlace;
        };
        self.post(hop, longer, outbox);
        Rewritten::Replaced
    }
}

/// The frame with an option more, behind the TCP header's fixed part.
fn with_option(headers: &Headers, frame: &Frame<'_>, option: &[u8], hop: &Hop) -> Option<Vec<u8>> {
    let grown = option.len() as u16;
    let vnet = frame.vnet();
    let packet = frame.packet();
    let (fixed, rest) = packet.split_at_checked(headers.ip_header + transport::TCP_HEADER)?;
    let new_vnet = shared::wire::vnet::VnetHeader {
        hdr_len: if vnet.is_gso() {
            vnet.hdr_len + grown
        } else {
            vnet.hdr_len
        },
        ..vnet
    };
    let destination = hop.destination.unwrap_or_default();
    let pieces = [fixed, option, rest];
    let mut bytes = super::frame::compose(destination, hop.source, new_vnet, &pieces);
    let ip = bytes.get_mut(super::frame::HEADERS..)?;
    let (header, segment) = ip.split_at_mut_checked(headers.ip_header)?;
    set_length(header, headers.total, headers.total + grown);
    let before = transport::field(segment, OFFSET)?;
    let after = before + ((grown / 4) << 12);
    transport::set_field(segment, OFFSET, after);
    let length = headers.total - headers.ip_header as u16;
    let pseudo = Change::word(length, length + grown);
    let added = Change::word(0, checksum::fold(checksum::sum(option, 0)));
    let change = Change::word(before, after).and(added);
    nat::amend(segment, headers, vnet, pseudo, change);
    Some(bytes)
}

/// Writes the length of a packet.
pub(super) fn set_length(header: &mut [u8], before: u16, after: u16) {
    if family_of(header) == Some(Family::V6) {
        let payload = after.saturating_sub(ipv6::HEADER as u16);
        transport::set_field(header, PAYLOAD_LENGTH, payload);
        return;
    }
    transport::set_field(header, TOTAL_LENGTH, after);
    if let Some(sum) = transport::field(header, IP_CHECKSUM) {
        let sum = Change::word(before, after).complete(sum);
        transport::set_field(header, IP_CHECKSUM, sum);
    }
}

fn is_fragment(packet: &[u8]) -> bool {
    Ip::read(packet).is_some_and(|ip| ip.piece.is_some())
}

/// Of the data offset in a TCP header, with the flags behind it.
const OFFSET: usize = 12;
/// In an IPv4 header.
const TOTAL_LENGTH: usize = 2;
const IP_CHECKSUM: usize = 10;
/// In an IPv6 header.
const PAYLOAD_LENGTH: usize = 4;
