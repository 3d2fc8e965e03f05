//! The header of the PROXY protocol, version 2, in front of a client's data (haproxy's `proxy-protocol.txt`,
//! section 2.2), for real servers that cannot read the TOA option.
//!
//! It is a segment of its own, so that no segment grows. It takes the place of the one that completes the
//! handshake: should that get lost the server asks for it again by its SYN-ACK, also where it is the server
//! that speaks first. Until the server has acknowledged it, it goes before every segment with the client's
//! first byte, in the same numbers and with the same bytes; so whoever loses it gets it again with that byte.
//! Data in a SYN would come before it and are left out: the client sends them again.

use shared::addr::Family;
use shared::wire::checksum::{self, Change};
use shared::wire::ipv4;
use shared::wire::transport;
use shared::wire::vnet::VnetHeader;

use super::{Director, Frame, Headers, full_nat, options};
use crate::core::connection::Endpoint;
use crate::core::frame;
use crate::core::ip::{self, Ip, Own};
use crate::core::net::Hop;
use crate::core::protocol::tcp::TcpFlags;
use crate::core::verdict::Outbox;

/// The header: whom the server talks to, and whom the client believes to talk to; both are of one family,
/// whatever that of the server is.
fn header(client: Endpoint, virtual_end: Endpoint) -> Vec<u8> {
    let family = client.address.family();
    let mut header = SIGNATURE.to_vec();
    header.extend([VERSION_2_PROXY, over(family)]);
    header.extend(((bytes(family) - FIXED_BYTES) as u16).to_be_bytes());
    for end in [client, virtual_end] {
        match family {
            Family::V4 => header.extend(end.address.to_v4_bytes()),
            Family::V6 => header.extend(end.address.to_bytes()),
        }
    }
    header.extend(client.port.to_be_bytes());
    header.extend(virtual_end.port.to_be_bytes());
    header
}

impl Director {
    /// Sends the header in front of a client's segment, which is ready but for its Ethernet addresses. Whether
    /// that segment is to be sent too: one without anything of its own has been replaced.
    pub(super) fn introduce(
        &mut self,
        (client, virtual_end): (Endpoint, Endpoint),
        headers: &Headers,
        hop: &Hop,
        frame: &Frame<'_>,
        outbox: &mut Outbox,
    ) -> bool {
        self.identification = self.identification.wrapping_add(1);
        let bytes = header(client, virtual_end);
        if let Some(packet) = segment(headers, frame, self.identification, &bytes) {
            self.send_in_order(hop, VnetHeader::default(), &packet, outbox);
        }
        brings_something(headers, frame)
    }

    /// Sends a packet behind all that were looked at before, and before all that come after.
    pub(super) fn send_in_order(
        &mut self,
        hop: &Hop,
        vnet: VnetHeader,
        packet: &[u8],
        outbox: &mut Outbox,
    ) {
        match hop.destination {
            Some(destination) => outbox.train_mut().push(hop.port, |bytes| {
                let family = ip::family_of(packet).unwrap_or(Family::V4);
                bytes.extend_from_slice(&frame::headers(destination, hop.source, family, vnet));
                bytes.extend_from_slice(packet);
            }),
            None => self.post(
                hop,
                frame::compose(Default::default(), hop.source, vnet, &[packet]),
                outbox,
            ),
        }
    }
}

/// Whether a segment has more than an acknowledgment.
fn brings_something(headers: &Headers, frame: &Frame<'_>) -> bool {
    let flags = headers.tcp_flags();
    data(headers, frame).is_some_and(|data| !data.is_empty())
        || flags.is_some_and(|flags| flags.contains(TcpFlags::FIN))
}

fn data<'f>(headers: &Headers, frame: &'f Frame<'_>) -> Option<&'f [u8]> {
    let segment = frame.packet().get(headers.ip_header..)?;
    segment.get(options::header_length(segment)..)
}

/// Cuts off the data of a SYN. What changed of the pseudo header and of what the checksum covers.
pub(super) fn without_data(headers: &Headers, frame: &mut Frame<'_>) -> (Change, Change) {
    let Some(data) = data(headers, frame).filter(|data| !data.is_empty()) else {
        return Default::default();
    };
    let change = Change::word(checksum::fold(checksum::sum(data, 0)), 0);
    let before = frame.packet().len() as u16;
    let after = before - data.len() as u16;
    frame.trim(usize::from(after));
    full_nat::set_length(frame.packet_mut(), before, after);
    (Change::word(before, after), change)
}

/// The packet with the header that goes before that of a frame.
fn segment(
    headers: &Headers,
    frame: &Frame<'_>,
    identification: u16,
    header: &[u8],
) -> Option<Vec<u8>> {
    let ip = Ip::read(frame.packet())?;
    let of_client = frame.packet().get(headers.ip_header..)?;
    let mut segment = of_client.get(..transport::TCP_HEADER)?.to_vec();
    // The number of the client's is the one behind the header.
    options::add(&mut segment, SEQUENCE, (header.len() as u32).wrapping_neg());
    segment[12] = (transport::TCP_HEADER as u8 / 4) << 4;
    segment[13] = (TcpFlags::ACK | TcpFlags::PSH).bits();
    segment[16..20].fill(0);
    segment.extend(header);
    let length = segment.len() as u16;
    let pseudo = ip::pseudo(ip.source, ip.destination, ip.protocol, length);
    let sum = !checksum::fold(checksum::sum(&segment, pseudo));
    transport::set_field(&mut segment, transport::TCP_CHECKSUM, sum);
    let own = Own {
        source: ip.source,
        destination: ip.destination,
        protocol: ip.protocol,
        // It is no answer to a mark of congestion.
        tos: ip.tos & !ECN,
        ttl: ip.ttl,
        identification,
        fragment: if headers.dont_fragment { ipv4::DF } else { 0 },
    };
    Some([&own.to_bytes(segment.len())[..], &segment].concat())
}

/// In a TCP header.
const SEQUENCE: usize = 4;
/// Of the type of service (RFC 3168).
const ECN: u8 = 3;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_2_PROXY: u8 = 0x21;
/// In front of the addresses.
const FIXED_BYTES: usize = 16;

/// TCP over a family.
const fn over(family: Family) -> u8 {
    match family {
        Family::V4 => 0x11,
        Family::V6 => 0x21,
    }
}

/// Bytes of the header for a client.
pub(super) const fn bytes(family: Family) -> usize {
    match family {
        Family::V4 => FIXED_BYTES + 12,
        Family::V6 => FIXED_BYTES + 36,
    }
}
