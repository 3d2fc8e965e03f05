//! Control connections of FTP by NAT and FULLNAT: who is told where data goes is told the right place, and the way
//! there is open before.
//!
//! Words are put in those of the other side before anything else of a packet is changed, so that all that is done to
//! a packet by NAT and FULLNAT, also on its way to the other family, is done to these packets as well.

use std::ops::Range;

use shared::addr::{Family, Protocol};
use shared::time::Time;
use shared::wire::checksum::{self, Change};
use shared::wire::transport;
use shared::wire::{ipv4, ipv6};

use super::across::SPARE_BYTES;
use super::full_nat::set_length;
use super::options::{header_length, number, renumber};
use super::sequence::{self, SEQUENCE};
use super::{Director, Frame, Headers, Leg, nat};
use crate::core::balancer::{ConnectionId, Direction};
use crate::core::connection::Endpoint;
use crate::core::director::Arrival;
use crate::core::frame;
use crate::core::ftp::{self, Announcement};
use crate::core::ip::{self, Ip, min_mtu};
use crate::core::net::Hop;
use crate::core::reason::Reason;
use crate::core::verdict::{Outbox, Outgoing, Verdict};

/// What is said of where data goes.
struct Told {
    /// Where in the packet that stands.
    at: Range<usize>,
    /// For the other side.
    text: Vec<u8>,
}

impl Director {
    /// Sends a packet of a control connection on its way, in the words and numbers of the other side.
    #[cold]
    pub(super) fn forward_words(
        &mut self,
        arrival: Arrival,
        leg: Leg,
        hop: Hop,
        headers: &Headers,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let (id, direction) = leg.going;
        let segment = frame.packet().get(headers.ip_header..);
        // A later fragment has none.
        let first = segment.filter(|_| headers.segment.is_some());
        let Some(first) = first.and_then(|segment| number(segment, SEQUENCE)) else {
            return self.pass_words_on(arrival, leg, hop, headers, frame, outbox);
        };
        let followed = leg.followed && direction == Direction::Reply;
        if leg.followed && !followed {
            // In the numbers of the client.
            self.follow_position(id, direction, headers, frame);
        }
        let leg = Leg { followed, ..leg };
        self.renumber_words(leg.going, headers, frame);
        let Some(told) = self.told(arrival.now, leg.going, headers, frame) else {
            return self.pass_words_on(arrival, leg, hop, headers, frame, outbox);
        };
        let room = self.room_for_words(id, headers, &hop);
        let Some(mut bytes) = with_words(headers, frame, &told, room) else {
            return self.pass_words_on(arrival, leg, hop, headers, frame, outbox);
        };
        let grown = told.text.len() as i32 - told.at.len() as i32;
        if grown != 0 {
            let moved = self.balancer.words_moved(id);
            let moved = moved.grown(direction, first, grown);
            self.balancer.set_words_moved(id, moved);
        }
        let end = bytes.len();
        let Some(mut frame) = Frame::new(&mut bytes, SPARE_BYTES, end) else {
            return Verdict::Drop(Reason::MalformedIp);
        };
        let headers = Headers {
            total: frame.packet().len() as u16,
            ..*headers
        };
        match self.pass_words_on(arrival, leg, hop, &headers, &mut frame, outbox) {
            // What is in the outbox leaves when the capture takes what it has been told to take.
            Verdict::Forward(port) => {
                outbox.push(Outgoing::Transmit(port, frame.wire_bytes().to_vec()));
                Verdict::Consumed
            }
            other => other,
        }
    }

    /// [`pass_on`](Self::pass_on), which is made for the line of a hit, once for all that this is not.
    #[cold]
    fn pass_words_on(
        &mut self,
        arrival: Arrival,
        leg: Leg,
        hop: Hop,
        headers: &Headers,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        self.pass_on(arrival, leg, hop, headers, frame, outbox)
    }

    /// Puts the numbers of the other side into a segment, as far as words make them differ.
    fn renumber_words(
        &self,
        (id, direction): (ConnectionId, Direction),
        headers: &Headers,
        frame: &mut Frame<'_>,
    ) {
        let moved = self.balancer.words_moved(id);
        if let Some(said) = moved.said(direction) {
            renumbered(headers, frame, |segment| {
                renumber(segment, SEQUENCE, |number| said.to_hearer(number))
            });
        }
        let Some(heard) = moved.heard(direction) else {
            return;
        };
        let shift = self.balancer.shift(id);
        renumbered(headers, frame, |segment| {
            sequence::acknowledge(segment, |number| match direction {
                Direction::Request => heard.to_speaker(number),
                // FULLNAT has its own share in the numbers of a client that a server knows, and takes it off later.
                Direction::Reply => shift.to_server(heard.to_speaker(shift.to_client(number))),
            })
        });
    }

    /// What a packet says of where data goes. The way there is open from now on.
    fn told(
        &mut self,
        now: Time,
        (id, direction): (ConnectionId, Direction),
        headers: &Headers,
        frame: &Frame<'_>,
    ) -> Option<Told> {
        let data = words(headers, frame)?;
        let text = frame.packet().get(data.clone())?;
        let (said, end) = match direction {
            Direction::Request => {
                let said = ftp::of_client(text)?;
                let end = self.told_by_client(now, id, &said)?;
                (said, end)
            }
            Direction::Reply => {
                let said = ftp::of_server(text)?;
                let end = self.told_by_server(now, id, &said)?;
                (said, Some(end))
            }
        };
        // By NAT servers ask the client itself, whatever form it has given its address.
        let written = match end {
            Some(end) => said.written(end.address.ip(), end.port)?.into_bytes(),
            None => text.get(said.at.clone())?.to_vec(),
        };
        Some(Told {
            at: data.start + said.at.start..data.start + said.at.end,
            text: written,
        })
    }

    /// Whom the server is to ask for data instead of the client; the latter itself by NAT.
    fn told_by_client(
        &mut self,
        now: Time,
        id: ConnectionId,
        said: &Announcement,
    ) -> Option<Option<Endpoint>> {
        let client = Endpoint {
            port: said.port,
            ..self.balancer.connection(id).client()
        };
        let own = said.address.is_none_or(|it| it == client.address.ip());
        let end = own.then(|| self.balancer.open_data(now, id, said.port))??;
        Some(Some(end).filter(|&end| end != client))
    }

    /// Whom the client is to ask for data instead of the server.
    fn told_by_server(
        &mut self,
        now: Time,
        id: ConnectionId,
        said: &Announcement,
    ) -> Option<Endpoint> {
        let connection = self.balancer.connection(id);
        let virtual_end = connection.virtual_endpoint();
        // Some are told by their configuration what clients know them by.
        let own = [connection.destination(), virtual_end].map(|end| end.address.ip());
        let helped = said.address.is_none_or(|address| own.contains(&address))
            && said.has_room_for(virtual_end.address.family());
        helped.then(|| self.balancer.expect_data(now, id, said.port))?
    }

    /// Bytes of the largest packet of a control connection that the way out takes, as it comes in.
    fn room_for_words(&self, id: ConnectionId, headers: &Headers, hop: &Hop) -> usize {
        let mtu = hop.mtu.max(min_mtu(headers.family)) as usize;
        let grows = headers.family == Family::V4 && self.crosses(id);
        mtu - if grows {
            ipv6::HEADER - ipv4::MIN_HEADER
        } else {
            0
        }
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

/// The frame with what the other side is told, behind [`SPARE_BYTES`]; none if there is no room for that.
fn with_words(headers: &Headers, frame: &Frame<'_>, told: &Told, room: usize) -> Option<Vec<u8>> {
    let packet = frame.packet();
    let ip = Ip::read(packet)?;
    let total = packet.len() - told.at.len() + told.text.len();
    if total > room {
        return None;
    }
    let front = frame.wire_bytes().get(..frame::HEADERS + told.at.start)?;
    let behind = packet.get(told.at.end..)?;
    let mut bytes = [&[0; SPARE_BYTES][..], front, &told.text, behind].concat();
    let packet = bytes.get_mut(SPARE_BYTES + frame::HEADERS..)?;
    set_length(packet, headers.total, total as u16);
    let segment = packet.get_mut(headers.ip_header..)?;
    if nat::is_partial(headers, frame.vnet()) {
        let length = |total: u16| total - headers.ip_header as u16;
        let pseudo = Change::word(length(headers.total), length(total as u16));
        nat::amend(segment, headers, frame.vnet(), pseudo, Change::default());
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
