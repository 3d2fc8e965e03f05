//! FULLNAT: the real server talks to a local address, and of TCP also with other numbers.

use shared::time::Time;
use shared::wire::checksum::{self, Change};
use shared::wire::ipv4;
use shared::wire::transport;

use super::{Director, Frame, Headers, nat, sequence};
use crate::core::balancer::{ConnectionId, Direction};
use crate::core::director::MIN_MTU;
use crate::core::net::Hop;
use crate::core::protocol::tcp::TcpFlags;

impl Director {
    /// Rewrites a packet of a FULLNAT connection. A segment that names its client to the real server is longer:
    /// then that frame goes in place of the one in hand.
    #[inline(never)]
    pub(super) fn full_nat(
        &mut self,
        now: Time,
        id: ConnectionId,
        direction: Direction,
        headers: &Headers,
        hop: Option<&Hop>,
        frame: &mut Frame<'_>,
    ) -> Option<Vec<u8>> {
        let vnet = frame.vnet();
        let connection = self.balancer.connection(id);
        let client = connection.client();
        let local = self.balancer.local_end(connection);
        let (source, destination) = match direction {
            Direction::Request => (local, connection.destination()),
            Direction::Reply => (connection.virtual_endpoint(), client),
        };
        nat::rewrite_both(frame, vnet, headers, source, destination);
        let flags = headers.segment.and_then(|segment| segment.tcp)?;
        let first = match direction {
            // Only the SYN asks.
            Direction::Request if flags.contains(TcpFlags::SYN) => {
                let hash = self.balancer.hash_to_server(id);
                sequence::first_sequence(hash, now.as_nanos())
            }
            _ => 0,
        };
        let shift = self.balancer.shift_mut(id)?;
        let segment = frame.packet_mut().get_mut(headers.ip_header..)?;
        let change = match direction {
            Direction::Request => sequence::request(segment, shift, flags, first),
            Direction::Reply => sequence::reply(segment, shift, flags),
        };
        let names =
            direction == Direction::Request && sequence::names_client(segment, shift, flags);
        nat::amend(segment, headers, vnet, Change::default(), change);
        let hop = hop.filter(|_| names)?;
        let grown = headers.largest(vnet, frame) + sequence::TOA_BYTES;
        let fits = grown <= hop.mtu.max(MIN_MTU) as usize
            && usize::from(headers.total) + sequence::TOA_BYTES <= usize::from(u16::MAX);
        let segment = frame.packet().get(headers.ip_header..)?;
        if !fits || !sequence::has_room(segment) || is_fragment(frame.packet()) {
            self.balancer.unnamed_clients += 1;
            return None;
        }
        with_option(headers, frame, &sequence::toa(client), hop)
    }
}

/// The frame with an option more, behind the TCP header's fixed part.
fn with_option(
    headers: &Headers,
    frame: &Frame<'_>,
    option: &[u8; sequence::TOA_BYTES],
    hop: &Hop,
) -> Option<Vec<u8>> {
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
    transport::set_field(header, TOTAL_LENGTH, headers.total + grown);
    let sum = transport::field(header, IP_CHECKSUM)?;
    let sum = Change::word(headers.total, headers.total + grown).complete(sum);
    transport::set_field(header, IP_CHECKSUM, sum);
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

fn is_fragment(packet: &[u8]) -> bool {
    ipv4::Packet::new_lenient(packet).is_ok_and(|packet| packet.is_fragment())
}

/// Of the data offset in a TCP header, with the flags behind it.
const OFFSET: usize = 12;
/// In an IPv4 header.
const TOTAL_LENGTH: usize = 2;
const IP_CHECKSUM: usize = 10;
