//! A frame in the buffer that it was received into, to be rewritten in place.

use std::ops::Range;

use shared::addr::Family;
use shared::wire::ethernet::{self, Header};
use shared::wire::vnet::{self, VnetHeader};

use super::ip::family_of;
use super::net::Mac;

/// A virtio header, an Ethernet header and a packet, one behind the other.
#[derive(Debug)]
pub struct Frame<'a> {
    buffer: &'a mut [u8],
    start: usize,
    end: usize,
}

impl<'a> Frame<'a> {
    /// The frame whose virtio header begins at `start` and whose last byte is before `end`. None
    /// if there is no room for both headers.
    #[inline]
    pub fn new(buffer: &'a mut [u8], start: usize, end: usize) -> Option<Frame<'a>> {
        let whole = start.checked_add(HEADERS)? <= end && end <= buffer.len();
        whole.then_some(Frame { buffer, start, end })
    }

    /// The frame of a packet that had no Ethernet header: there is room for it between the virtio header,
    /// which counts from the packet on, and the packet.
    pub fn around_packet(buffer: &'a mut [u8], start: usize, end: usize) -> Option<Frame<'a>> {
        let mut frame = Frame::new(buffer, start, end)?;
        frame.set_vnet(frame.vnet().shifted(ethernet::LENGTH as i16));
        let header = Header {
            destination: [0; 6],
            source: [0; 6],
            ethertype: ethertype_of(family_of(frame.packet())?),
        };
        let at = start + vnet::LENGTH;
        frame.buffer[at..at + ethernet::LENGTH].copy_from_slice(&header.to_bytes());
        Some(frame)
    }

    /// What a socket with virtio headers takes.
    pub fn wire_bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Where in its buffer they are.
    pub fn wire_range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// The Ethernet frame.
    #[inline]
    pub fn ethernet_bytes(&self) -> &[u8] {
        &self.buffer[self.start + vnet::LENGTH..self.end]
    }

    /// What is behind the Ethernet header.
    #[inline]
    pub fn packet(&self) -> &[u8] {
        &self.buffer[self.start + HEADERS..self.end]
    }

    /// What is behind the Ethernet header.
    #[inline]
    pub fn packet_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start + HEADERS..self.end]
    }

    /// The Ethernet header.
    #[inline]
    pub fn ethernet(&self) -> Header {
        Header::parse(self.ethernet_bytes()).expect("a frame has room for its headers")
    }

    /// Writes the Ethernet addresses; the type stays.
    #[inline(always)]
    pub fn set_addresses(&mut self, destination: Mac, source: Mac) {
        let header = &mut self.buffer[self.start + vnet::LENGTH..];
        let addresses = header.first_chunk_mut::<12>();
        let addresses = addresses.expect("a frame has room for its headers");
        addresses[..6].copy_from_slice(&destination.0);
        addresses[6..].copy_from_slice(&source.0);
    }

    /// What is still to be done to checksum and segments. Offsets count from the Ethernet header.
    #[inline(always)]
    pub fn vnet(&self) -> VnetHeader {
        let bytes = self.buffer[self.start..].first_chunk();
        VnetHeader::from_bytes(*bytes.expect("a frame has room for its headers"))
    }

    /// Writes what is still to be done.
    pub fn set_vnet(&mut self, header: VnetHeader) {
        self.buffer[self.start..self.start + vnet::LENGTH].copy_from_slice(&header.to_bytes());
    }

    /// Makes room between the Ethernet header and the packet, which moves both headers to the front; the
    /// room holds whatever it held. False if the buffer has not so many bytes free there: then nothing
    /// changes.
    pub fn prepend(&mut self, bytes: usize) -> bool {
        self.replace_front(0, bytes)
    }

    /// The packet is of another family than the one that came.
    pub fn set_family(&mut self, family: Family) {
        let at = self.start + vnet::LENGTH + ETHERTYPE;
        self.buffer[at..at + 2].copy_from_slice(&ethertype_of(family).to_be_bytes());
    }

    /// Makes the packet begin with so many bytes in place of so many others, which moves both headers; the new
    /// ones hold whatever there was. False if the buffer has not so many bytes free, or the packet not so many
    /// to give: then nothing changes.
    pub fn replace_front(&mut self, old: usize, new: usize) -> bool {
        let at = self.start + old;
        let Some(start) = at.checked_sub(new).filter(|_| at + HEADERS <= self.end) else {
            return false;
        };
        self.buffer
            .copy_within(self.start..self.start + HEADERS, start);
        self.start = start;
        true
    }

    /// Cuts off what an Ethernet card put behind a short packet.
    #[inline]
    pub fn trim(&mut self, packet_bytes: usize) {
        self.end = self.end.min(self.start + HEADERS + packet_bytes);
    }
}

/// A frame of our own: headers and packet in one buffer. The Ethernet addresses are zero where a
/// neighbour has not answered yet.
pub fn compose(destination: Mac, source: Mac, vnet: VnetHeader, packet: &[&[u8]]) -> Vec<u8> {
    let bytes = packet.iter().map(|piece| piece.len()).sum::<usize>();
    let mut frame = Vec::with_capacity(HEADERS + bytes);
    let first = packet.iter().find(|piece| !piece.is_empty());
    let family = first.and_then(|piece| family_of(piece));
    let family = family.unwrap_or(Family::V4);
    frame.extend(headers(destination, source, family, vnet));
    for piece in packet {
        frame.extend(*piece);
    }
    frame
}

/// What is in front of a packet of this family.
pub fn headers(destination: Mac, source: Mac, family: Family, vnet: VnetHeader) -> [u8; HEADERS] {
    let header = Header {
        destination: destination.0,
        source: source.0,
        ethertype: ethertype_of(family),
    };
    let mut bytes = [0; HEADERS];
    bytes[..vnet::LENGTH].copy_from_slice(&vnet.to_bytes());
    bytes[vnet::LENGTH..].copy_from_slice(&header.to_bytes());
    bytes
}

const fn ethertype_of(family: Family) -> u16 {
    match family {
        Family::V4 => ethernet::IPV4,
        Family::V6 => ethernet::IPV6,
    }
}

/// A frame as the TUN device takes it: the virtio header counts from the packet on.
pub fn without_ethernet(wire_bytes: &[u8], into: &mut Vec<u8>) {
    into.clear();
    if let Some((header, rest)) = wire_bytes.split_first_chunk::<{ vnet::LENGTH }>()
        && let Some(packet) = rest.get(ethernet::LENGTH..)
    {
        let shifted = VnetHeader::from_bytes(*header).shifted(-(ethernet::LENGTH as i16));
        into.extend(shifted.to_bytes());
        into.extend(packet);
    }
}

/// In an Ethernet header.
const ETHERTYPE: usize = 12;

/// Bytes in front of the packet.
pub const HEADERS: usize = vnet::LENGTH + ethernet::LENGTH;
