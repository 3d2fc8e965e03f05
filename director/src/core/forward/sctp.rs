//! SCTP: its checksum, which no virtio header can ask for, and the answer to what belongs to nobody
//! (RFC 9260 section 8.4).

use shared::wire::ethernet;
use shared::wire::ipv4;
use shared::wire::sctp::{self, ChunkTypes, chunk};

use super::Frame;
use crate::core::director::{Arrival, Director, Headers};
use crate::core::ip::{Ip, OWN_TTL, Own};
use crate::core::verdict::Outbox;

/// Completes the checksum that the sender has left to its network card. The kernel knows by a mark on its
/// packet that this one is a CRC; AF_PACKET does not bring the mark, and what is sent without it gets
/// TCP's kind of sum. False of a frame of many segments, which AF_PACKET has no word for.
pub(in crate::core) fn finish(frame: &mut Frame<'_>) -> bool {
    let vnet = frame.vnet();
    if vnet.is_partial() {
        complete(frame);
    }
    !vnet.is_gso()
}

#[cold]
fn complete(frame: &mut Frame<'_>) {
    let vnet = frame.vnet();
    let Some(Ip { header, .. }) = Ip::read(frame.packet()) else {
        return;
    };
    let own = (ethernet::LENGTH + header, sctp::CHECKSUM);
    if (usize::from(vnet.csum_start), usize::from(vnet.csum_offset)) != own {
        return;
    }
    if let Some(segment) = frame.packet_mut().get_mut(header..) {
        sctp::sum_up(segment);
    }
    frame.set_vnet(Default::default());
}

impl Director {
    /// Answers an SCTP packet to a local address where no connection has its port with an ABORT, unless it
    /// is one itself, or the end of a conversation.
    #[cold]
    pub(super) fn abort_sender(
        &mut self,
        arrival: Arrival,
        headers: &Headers,
        frame: &Frame<'_>,
        outbox: &mut Outbox,
    ) {
        let packet = frame.packet().get(headers.ip_header..);
        let Some((tag, mut types)) = packet.and_then(|packet| {
            let types = ChunkTypes::of(packet)?;
            Some((sctp::verification_tag(packet)?, types))
        }) else {
            return;
        };
        if types.any(|kind| SILENT.contains(&kind)) {
            return;
        }
        let flow = &headers.flow;
        let answer = sctp::abort(flow.destination_port, flow.source_port, tag);
        self.identification = self.identification.wrapping_add(1);
        let header = Own {
            source: flow.destination,
            destination: flow.source,
            protocol: flow.protocol,
            tos: 0,
            ttl: OWN_TTL,
            identification: self.identification,
            fragment: ipv4::DF,
        };
        if let Some(hop) = self.own_hop(flow.source, arrival.seen) {
            self.send_own(&hop, &[&header.to_bytes(answer.len()), &answer], outbox);
        }
    }
}

/// What nobody answers with an ABORT. An INIT, which has no tag yet, would want one made of its own; a
/// SHUTDOWN ACK asks for another end.
const SILENT: [u8; 6] = [
    chunk::ABORT,
    chunk::SHUTDOWN_COMPLETE,
    chunk::COOKIE_ACK,
    chunk::ERROR,
    chunk::INIT,
    chunk::SHUTDOWN_ACK,
];
