//! Frames of many segments, cut into them: where nobody behind the director can
//! (`tcp_gso_segment`, `__udp_gso_segment`, `inet_gso_segment`).

use shared::addr::{Addr, Family, Protocol};
use shared::wire::vnet::{NEEDS_CSUM, VnetHeader};
use shared::wire::{checksum, ethernet, ipv6, transport};

use super::Headers;
use crate::core::frame::Frame;
use crate::core::ip::{self, Ip, family_of};

/// A packet that is to be cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segments<'a> {
    protocol: Protocol,
    ends: (Addr, Addr),
    ip: &'a [u8],
    transport: &'a [u8],
    payload: &'a [u8],
    /// Payload bytes of each segment but the last.
    size: usize,
    /// Of the transport checksum, in its header.
    checksum_at: usize,
}

impl<'a> Segments<'a> {
    /// Of a packet whose virtio header speaks of its own TCP or UDP segments; none of another.
    pub(super) fn of(
        packet: &'a [u8],
        vnet: VnetHeader,
        headers: &Headers,
    ) -> Option<Segments<'a>> {
        let (ip, segment) = packet.split_at_checked(headers.ip_header)?;
        let (header, checksum_at) = match (headers.flow.protocol, vnet.gso_type & !ECN) {
            (Protocol::TCP, TCP_V4 | TCP_V6) => {
                let words = usize::from(*segment.get(DATA_OFFSET)? >> 4);
                (words * 4, transport::TCP_CHECKSUM)
            }
            (Protocol::UDP, UDP_L4) => (transport::UDP_HEADER, transport::UDP_CHECKSUM),
            _ => return None,
        };
        let start = ethernet::LENGTH + headers.ip_header;
        let own =
            (usize::from(vnet.csum_start), usize::from(vnet.csum_offset)) == (start, checksum_at);
        (own && vnet.is_partial() && vnet.gso_size != 0).then_some(())?;
        let (transport, payload) = segment.split_at_checked(header)?;
        let segments = Segments {
            protocol: headers.flow.protocol,
            ends: (headers.flow.source, headers.flow.destination),
            ip,
            transport,
            payload,
            size: usize::from(vnet.gso_size),
            checksum_at,
        };
        (segments.count() <= MOST_SEGMENTS).then_some(segments)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.payload.len().div_ceil(self.size).max(1)
    }

    /// Bytes of the largest, an IP packet.
    pub(super) fn largest(&self) -> usize {
        self.ip.len() + self.transport.len() + self.size.min(self.payload.len())
    }

    /// What is still to be done to each of them: the transport checksum, whose field holds the pseudo
    /// header's sum.
    pub(super) fn vnet(&self) -> VnetHeader {
        VnetHeader {
            flags: NEEDS_CSUM,
            csum_start: (ethernet::LENGTH + self.ip.len()) as u16,
            csum_offset: self.checksum_at as u16,
            ..VnetHeader::default()
        }
    }

    /// Appends a segment, an IP packet, by its number.
    pub(super) fn append(&self, number: usize, into: &mut Vec<u8>) {
        let (first, last) = (number == 0, number + 1 == self.count());
        let from = (number * self.size).min(self.payload.len());
        let to = (from + self.size).min(self.payload.len());
        let payload = &self.payload[from..to];
        let behind_ip = self.transport.len() + payload.len();
        let at = into.len();
        into.extend_from_slice(self.ip);
        into.extend_from_slice(self.transport);
        into.extend_from_slice(payload);
        let (ip, segment) = into[at..].split_at_mut(self.ip.len());
        set_length(ip, behind_ip, number as u16);
        if self.protocol == Protocol::TCP {
            let sequence =
                transport::field(segment, SEQUENCE).zip(transport::field(segment, SEQUENCE + 2));
            let (high, low) = sequence.unwrap_or((0, 0));
            let sequence = (u32::from(high) << 16 | u32::from(low)).wrapping_add(from as u32);
            transport::set_field(segment, SEQUENCE, (sequence >> 16) as u16);
            transport::set_field(segment, SEQUENCE + 2, sequence as u16);
            if !first {
                segment[FLAGS] &= !CWR;
            }
            if !last {
                segment[FLAGS] &= !(FIN | PSH);
            }
        } else {
            transport::set_field(segment, UDP_LENGTH, behind_ip as u16);
        }
        let (source, destination) = self.ends;
        let pseudo = ip::pseudo(source, destination, self.protocol, behind_ip as u16);
        transport::set_field(segment, self.checksum_at, checksum::fold(pseudo));
    }
}

/// How a segment of TCP over IPv6, or a frame of several, is to be cut so that none has more than `space` bytes: as
/// a virtio header. None if there is no need, or it cannot be.
pub(super) fn shortened(headers: &Headers, frame: &Frame<'_>, space: usize) -> Option<VnetHeader> {
    let vnet = frame.vnet();
    let is_tcp = headers.tcp_flags().is_some();
    if !is_tcp || headers.largest(vnet, frame) <= space {
        return None;
    }
    let packet = frame.packet();
    let segment = packet.get(headers.ip_header..)?;
    let (source, destination) = (headers.flow.source, headers.flow.destination);
    let pseudo = ip::pseudo(source, destination, Protocol::TCP, segment.len() as u16);
    // Its segments get sums of their own, which would be right whatever has happened to it.
    if !vnet.is_partial() && checksum::fold(checksum::sum(segment, pseudo)) != 0xffff
        || Ip::read(packet)?.piece.is_some()
    {
        return None;
    }
    let words = usize::from(*segment.get(DATA_OFFSET)? >> 4);
    let header = headers.ip_header + words * 4;
    let size = space.checked_sub(header).filter(|&size| size > 0)?;
    Some(VnetHeader {
        flags: NEEDS_CSUM,
        gso_type: TCP_V6 | vnet.gso_type & ECN,
        hdr_len: (ethernet::LENGTH + header) as u16,
        gso_size: size as u16,
        csum_start: (ethernet::LENGTH + headers.ip_header) as u16,
        csum_offset: transport::TCP_CHECKSUM as u16,
    })
}

/// Makes the header of a packet that of one of its segments, in front of so many bytes.
fn set_length(ip: &mut [u8], behind: usize, number: u16) {
    if family_of(ip) == Some(Family::V6) {
        let length = ip.len() - ipv6::HEADER + behind;
        return transport::set_field(ip, PAYLOAD_LENGTH, length as u16);
    }
    let identification = transport::field(ip, IDENTIFICATION).unwrap_or(0);
    transport::set_field(ip, TOTAL_LENGTH, (ip.len() + behind) as u16);
    transport::set_field(ip, IDENTIFICATION, identification.wrapping_add(number));
    transport::set_field(ip, HEADER_CHECKSUM, 0);
    let sum = checksum::checksum(ip);
    transport::set_field(ip, HEADER_CHECKSUM, sum);
}

/// Whether a frame's segments are those of TCP over IPv4.
pub(super) fn are_of_tcp_v4(vnet: VnetHeader) -> bool {
    vnet.gso_type & !ECN == TCP_V4
}

// virtio 1.2 section 5.1.6.2
const TCP_V4: u8 = 1;
const TCP_V6: u8 = 4;
const UDP_L4: u8 = 5;
const ECN: u8 = 0x80;

/// A frame of 64 KiB with the smallest segments that Linux sends (48 bytes) has less.
const MOST_SEGMENTS: usize = 2048;

const TOTAL_LENGTH: usize = 2;
const IDENTIFICATION: usize = 4;
const HEADER_CHECKSUM: usize = 10;
/// In a header of IPv6.
const PAYLOAD_LENGTH: usize = 4;

const SEQUENCE: usize = 4;
const DATA_OFFSET: usize = 12;
const FLAGS: usize = 13;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;
const UDP_LENGTH: usize = 4;

#[cfg(test)]
mod tests;
