//! The largest segment (MSS) that the ends of a TCP connection tell each other in their SYNs, lowered where a
//! service asks for it: as iptables' TCPMSS does, for ways on which nobody says what is too big.

use shared::addr::Family;
use shared::wire::checksum::Change;
use shared::wire::transport;

use super::{Director, Frame, Headers, nat, options};
use crate::core::balancer::{ConnectionId, Direction};
use crate::core::ip::{header_bytes, min_mtu};
use crate::core::net::Hop;
use crate::core::operation::SegmentSize;

impl Director {
    /// Lowers what a SYN says, if its service wants it. `hop` is its way out.
    #[cold]
    pub(super) fn lower_segment_size(
        &mut self,
        (id, direction): (ConnectionId, Direction),
        headers: &Headers,
        hop: &Hop,
        frame: &mut Frame<'_>,
    ) {
        let most = match self.balancer.segment_size(id) {
            SegmentSize::AsTold => return,
            SegmentSize::AtMost(most) => most,
            SegmentSize::PathMtu => self.segment_of_path((id, direction), hop),
        };
        let vnet = frame.vnet();
        if let Some(segment) = frame.packet_mut().get_mut(headers.ip_header..) {
            let change = options::change_mss(segment, |told| told.min(most));
            nat::amend(segment, headers, vnet, Change::default(), change);
        }
    }

    /// The largest segment for which both ways, to the client and to the server, have room: who is told sends
    /// by the other one than this SYN goes.
    fn segment_of_path(&mut self, (id, direction): (ConnectionId, Direction), hop: &Hop) -> u16 {
        let connection = self.balancer.connection(id);
        let (client, server) = (connection.client(), connection.server());
        let destination = connection.destination();
        let back = match direction {
            Direction::Request => self.hop_to_client(id, client.address),
            Direction::Reply => self.hop_to_server(server, destination.address),
        };
        let (there, here) = match direction {
            Direction::Request => (destination.address, client.address),
            Direction::Reply => (client.address, destination.address),
        };
        let room = room(hop, there.family());
        back.map_or(room, |back| room.min(self::room(&back, here.family())))
    }
}

/// The largest segment that a way takes.
fn room(hop: &Hop, family: Family) -> u16 {
    let headers = (header_bytes(family) + transport::TCP_HEADER) as u32;
    u16::try_from(hop.mtu.max(min_mtu(family)) - headers).unwrap_or(u16::MAX)
}
