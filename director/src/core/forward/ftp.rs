//! Control connections of FTP by NAT: who is told where data goes is told the right place, and the way there is
//! open before.

use std::ops::Range;

use shared::addr::{Family, Protocol};
use shared::time::Time;
use shared::wire::checksum::{self, Change};
use shared::wire::ipv6;
use shared::wire::transport;

use super::full_nat::{Rewritten, set_length};
use super::options::{header_length, number, renumber};
use super::sequence::{self, SEQUENCE};
use super::{Director, Frame, Headers, nat};
use crate::core::balancer::{ConnectionId, Direction};
use crate::core::frame;
use crate::core::ftp::{self, Numbers};
use crate::core::ip::{self, Ip, min_mtu};
use crate::core::net::Hop;
use crate::core::verdict::Outbox;

impl Director {
    /// A packet that has been rewritten but for its numbers and for what it says.
    #[cold]
    pub(super) fn control_of_ftp(
        &mut self,
        now: Time,
        (id, direction): (ConnectionId, Direction),
        headers: &Headers,
        hop: &Hop,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Rewritten {
        // A later fragment has none.
        if headers.segment.is_none() {
            return Rewritten::InPlace;
        }
        match direction {
            Direction::Request => self.client_of_ftp(now, id, headers, hop, frame, outbox),
            Direction::Reply => self.server_of_ftp(now, id, headers, hop, frame, outbox),
        }
    }

    fn client_of_ftp(
        &mut self,
        now: Time,
        id: ConnectionId,
        headers: &Headers,
        hop: &Hop,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Rewritten {
        if let Some(numbers) = self.balancer.numbers(id) {
            renumbered(headers, frame, |segment| {
                sequence::acknowledge(segment, |number| numbers.to_server(number))
            });
        }
        let said = words(headers, frame).and_then(|at| ftp::of_client(&frame.packet()[at]));
        let client = self.balancer.connection(id).client().address.ip();
        let own = said.filter(|said| said.address.is_none_or(|address| address == client));
        if own.is_none_or(|own| !self.balancer.open_data(now, id, own.port)) {
            return Rewritten::InPlace;
        }
        self.post_behind_keys(hop, frame, outbox);
        Rewritten::Replaced
    }

    fn server_of_ftp(
        &mut self,
        now: Time,
        id: ConnectionId,
        headers: &Headers,
        hop: &Hop,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Rewritten {
        let segment = frame.packet().get(headers.ip_header..);
        let Some(first) = segment.and_then(|segment| number(segment, SEQUENCE)) else {
            return Rewritten::InPlace;
        };
        let former = self.balancer.numbers(id);
        if let Some(numbers) = former {
            renumbered(headers, frame, |segment| {
                renumber(segment, SEQUENCE, |number| numbers.to_client(number))
            });
        }
        let Some(data) = words(headers, frame) else {
            return Rewritten::InPlace;
        };
        let Some(said) = ftp::of_server(&frame.packet()[data.clone()]) else {
            return Rewritten::InPlace;
        };
        let connection = self.balancer.connection(id);
        // Some are told by their configuration what clients know them by.
        let own = [connection.destination(), connection.virtual_endpoint()];
        let own = own.map(|end| end.address.ip());
        if said.address.is_some_and(|address| !own.contains(&address)) {
            return Rewritten::InPlace;
        }
        let Some(end) = self.balancer.expect_data(now, id, said.port) else {
            return Rewritten::InPlace;
        };
        let at = data.start + said.at.start..data.start + said.at.end;
        let written = said.written(end.address.ip(), end.port);
        let Some(text) = written.filter(|text| text.as_bytes() != &frame.packet()[at.clone()])
        else {
            self.post_behind_keys(hop, frame, outbox);
            return Rewritten::Replaced;
        };
        let grown = text.len() as i32 - at.len() as i32;
        let Some(longer) = with_words(headers, frame, at, text.as_bytes(), hop) else {
            return Rewritten::InPlace;
        };
        if grown != 0 || former.is_some() {
            let numbers = Numbers::grown(former, first, grown);
            self.balancer.set_numbers(id, numbers);
        }
        self.post(hop, longer, outbox);
        Rewritten::Replaced
    }

    /// What is in the outbox leaves when the capture takes what it has been told to take.
    fn post_behind_keys(&mut self, hop: &Hop, frame: &mut Frame<'_>, outbox: &mut Outbox) {
        frame.set_addresses(hop.destination.unwrap_or_default(), hop.source);
        self.post(hop, frame.wire_bytes().to_vec(), outbox);
    }
}

/// Changes numbers of a segment, and its checksum with them.
fn renumbered(headers: &Headers, frame: &mut Frame<'_>, change: impl Fn(&mut [u8]) -> Change) {
    let vnet = frame.vnet();
    if let Some(segment) = frame.packet_mut().get_mut(headers.ip_header..) {
        let change = change(segment);
        nat::amend(segment, headers, vnet, Change::default(), change);
    }
}

/// Where the data of a segment is in the packet, if it is one that may say something: whole, not one of a bulk,
/// and undamaged, for what is rewritten gets a new checksum.
fn words(headers: &Headers, frame: &Frame<'_>) -> Option<Range<usize>> {
    let ip = Ip::read(frame.packet())?;
    let segment = frame.packet().get(headers.ip_header..)?;
    let begin = headers.ip_header + header_length(segment);
    if ip.piece.is_some() || frame.vnet().is_gso() || begin >= frame.packet().len() {
        return None;
    }
    let intact = nat::is_partial(headers, frame.vnet()) || {
        let pseudo = pseudo(&ip, segment.len());
        checksum::fold(checksum::sum(segment, pseudo)) == 0xffff
    };
    intact.then_some(begin..frame.packet().len())
}

/// The frame with another text in the place of one.
fn with_words(
    headers: &Headers,
    frame: &Frame<'_>,
    at: Range<usize>,
    text: &[u8],
    hop: &Hop,
) -> Option<Vec<u8>> {
    let (vnet, packet) = (frame.vnet(), frame.packet());
    let ip = Ip::read(packet)?;
    let total = packet.len() - at.len() + text.len();
    if total > hop.mtu.max(min_mtu(headers.family)) as usize {
        return None;
    }
    let pieces = [packet.get(..at.start)?, text, packet.get(at.end..)?];
    let destination = hop.destination.unwrap_or_default();
    let mut bytes = frame::compose(destination, hop.source, vnet, &pieces);
    let bytes_of_ip = bytes.get_mut(frame::HEADERS..)?;
    let (header, segment) = bytes_of_ip.split_at_mut_checked(headers.ip_header)?;
    match headers.family {
        Family::V4 => set_length(header, headers.total, total as u16),
        Family::V6 => transport::set_field(header, V6_LENGTH, (total - ipv6::HEADER) as u16),
    }
    if nat::is_partial(headers, vnet) {
        let length = |total: u16| total - headers.ip_header as u16;
        let pseudo = Change::word(length(headers.total), length(total as u16));
        nat::amend(segment, headers, vnet, pseudo, Change::default());
    } else {
        let pseudo = pseudo(&ip, segment.len());
        transport::set_field(segment, transport::TCP_CHECKSUM, 0);
        let sum = !checksum::fold(checksum::sum(segment, pseudo));
        transport::set_field(segment, transport::TCP_CHECKSUM, sum);
    }
    Some(bytes)
}

fn pseudo(ip: &Ip, segment_bytes: usize) -> u32 {
    ip::pseudo(
        ip.source,
        ip.destination,
        Protocol::TCP,
        segment_bytes as u16,
    )
}

/// Of the payload length in an IPv6 header.
const V6_LENGTH: usize = 4;
