//! IPv4 headers (RFC 791): a view over untrusted bytes, and a builder.

use super::checksum::{self, Change};

/// A packet whose header and total length have been checked against the bytes there are.
#[derive(Debug, Clone, Copy)]
pub struct Packet<T>(T);

/// Why bytes are no IPv4 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Fewer bytes than a header.
    Truncated,
    /// Another version, or a header length below 20.
    NotIpv4,
    /// The total length is below the header's, or beyond the bytes there are.
    Length,
    /// The header's checksum does not fit.
    Checksum,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Checks everything that the kernel's `ip_rcv` checks before it lets a packet in.
    ///
    /// # Errors
    /// What is wrong, the first thing that is.
    #[inline]
    pub fn new_checked(bytes: T) -> Result<Packet<T>, Malformed> {
        let packet = Packet::new_lenient(bytes)?;
        let lengths = packet.header_length()..=packet.0.as_ref().len();
        if !lengths.contains(&usize::from(packet.total_length())) {
            return Err(Malformed::Length);
        }
        let verified = if packet.header_length() == MIN_HEADER {
            checksum::header_verifies(packet.fixed())
        } else {
            checksum::verifies(packet.header())
        };
        if !verified {
            return Err(Malformed::Checksum);
        }
        Ok(packet)
    }

    /// For packets that are quoted in ICMP errors: cut short, and their checksum and total length,
    /// which some senders leave in another byte order, are nobody's concern. Only the header must be
    /// whole.
    ///
    /// # Errors
    /// What is wrong, the first thing that is.
    #[inline]
    pub fn new_lenient(bytes: T) -> Result<Packet<T>, Malformed> {
        let data = bytes.as_ref();
        if data.len() < MIN_HEADER {
            return Err(Malformed::Truncated);
        }
        let header_length = usize::from(data[0] & 0xf) * 4;
        if data[0] >> 4 != 4 || header_length < MIN_HEADER {
            return Err(Malformed::NotIpv4);
        }
        if data.len() < header_length {
            return Err(Malformed::Truncated);
        }
        Ok(Packet(bytes))
    }

    /// Bytes of the header with its options.
    #[inline]
    pub fn header_length(&self) -> usize {
        usize::from(self.fixed()[0] & 0xf) * 4
    }

    /// Type of service: DSCP and ECN.
    #[inline]
    pub fn tos(&self) -> u8 {
        self.fixed()[1]
    }

    /// Bytes of header and payload.
    #[inline]
    pub fn total_length(&self) -> u16 {
        self.word(2)
    }

    /// Tells the fragments of one packet from another's.
    #[inline]
    pub fn identification(&self) -> u16 {
        self.word(4)
    }

    /// Whether it must not be fragmented (DF).
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.word(6) & DF != 0
    }

    /// Whether more fragments follow (MF).
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.word(6) & MF != 0
    }

    /// Where the payload belongs in the whole packet's, bytes.
    #[inline]
    pub fn fragment_offset(&self) -> u16 {
        (self.word(6) & OFFSET) << 3
    }

    /// Whether it is a part of a packet.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.word(6) & (MF | OFFSET) != 0
    }

    /// How many more routers may pass it on.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.fixed()[8]
    }

    /// What the payload is.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.fixed()[9]
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> [u8; 4] {
        self.quad(12)
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> [u8; 4] {
        self.quad(16)
    }

    /// The header with its options.
    #[inline]
    pub fn header(&self) -> &[u8] {
        &self.0.as_ref()[..self.header_length()]
    }

    /// What is behind the header, as far as there are bytes.
    #[inline(always)]
    pub fn payload(&self) -> &[u8] {
        let (bytes, header) = (self.0.as_ref(), self.header_length());
        &bytes[header..self.end().max(header)]
    }

    /// All bytes behind the header, whatever the total length says: those of a quoted packet.
    pub fn rest(&self) -> &[u8] {
        &self.0.as_ref()[self.header_length()..]
    }

    /// Where the packet ends, or its bytes do.
    fn end(&self) -> usize {
        self.0.as_ref().len().min(usize::from(self.total_length()))
    }

    #[inline]
    fn word(&self, at: usize) -> u16 {
        let bytes = self.fixed();
        u16::from_be_bytes([bytes[at], bytes[at + 1]])
    }

    #[inline]
    fn quad(&self, at: usize) -> [u8; 4] {
        let bytes = self.fixed();
        [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]
    }

    /// The header without options, so that one look at the length does for each field.
    #[inline]
    fn fixed(&self) -> &[u8; MIN_HEADER] {
        self.0.as_ref().first_chunk().expect(CHECKED)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the source address and updates the header's checksum.
    #[inline]
    pub fn set_source(&mut self, address: [u8; 4]) {
        self.set_address(12, address);
    }

    /// Sets the destination address and updates the header's checksum.
    #[inline]
    pub fn set_destination(&mut self, address: [u8; 4]) {
        self.set_address(16, address);
    }

    /// One router less, and the header's checksum updated.
    #[inline]
    pub fn decrement_ttl(&mut self) {
        let old = self.word(8);
        let new = old.wrapping_sub(0x0100);
        self.fixed_mut()[8..10].copy_from_slice(&new.to_be_bytes());
        self.update(Change::word(old, new));
    }

    /// What is behind the header.
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let (header, end) = (self.header_length(), self.end());
        &mut self.0.as_mut()[header..end.max(header)]
    }

    /// All bytes behind the header, whatever the total length says: those of a quoted packet.
    pub fn rest_mut(&mut self) -> &mut [u8] {
        let header = self.header_length();
        &mut self.0.as_mut()[header..]
    }

    #[inline]
    fn set_address(&mut self, at: usize, new: [u8; 4]) {
        let old = self.quad(at);
        self.fixed_mut()[at..at + 4].copy_from_slice(&new);
        self.update(Change::quad(old, new));
    }

    #[inline]
    fn update(&mut self, change: Change) {
        let field = change.complete(self.word(10));
        self.fixed_mut()[10..12].copy_from_slice(&field.to_be_bytes());
    }

    #[inline]
    fn fixed_mut(&mut self) -> &mut [u8; MIN_HEADER] {
        self.0.as_mut().first_chunk_mut().expect(CHECKED)
    }
}

/// A header that has been checked before and is now edited, for the packet path: its checksum is updated
/// once for all edits, by [`finish`](Edit::finish).
#[derive(Debug)]
#[must_use]
pub struct Edit<'a> {
    header: &'a mut [u8; MIN_HEADER],
    change: Change,
}

impl<'a> Edit<'a> {
    /// Of the header that these bytes begin with; none if there is no whole one.
    #[inline]
    pub fn new(packet: &'a mut [u8]) -> Option<Edit<'a>> {
        let header = packet.first_chunk_mut()?;
        Some(Edit {
            header,
            change: Change::default(),
        })
    }

    /// One router less.
    #[inline]
    pub fn decrement_ttl(&mut self) {
        let old = u16::from_be_bytes([self.header[8], self.header[9]]);
        let new = old.wrapping_sub(0x0100);
        self.header[8] = self.header[8].wrapping_sub(1);
        self.change = self.change.and(Change::word(old, new));
    }

    /// One router more: takes back what one has done.
    pub fn increment_ttl(&mut self) {
        let old = u16::from_be_bytes([self.header[8], self.header[9]]);
        let new = old.wrapping_add(0x0100);
        self.header[8] = self.header[8].wrapping_add(1);
        self.change = self.change.and(Change::word(old, new));
    }

    /// Sets the source address. The change is that of the transport checksum too.
    #[inline]
    pub fn set_source(&mut self, address: [u8; 4]) -> Change {
        self.set_address::<12>(address)
    }

    /// Sets the destination address. The change is that of the transport checksum too.
    #[inline]
    pub fn set_destination(&mut self, address: [u8; 4]) -> Change {
        self.set_address::<16>(address)
    }

    /// Updates the checksum.
    #[inline(always)]
    pub fn finish(self) {
        let field = u16::from_be_bytes([self.header[10], self.header[11]]);
        let field = self.change.complete(field);
        self.header[10..12].copy_from_slice(&field.to_be_bytes());
    }

    #[inline]
    fn set_address<const AT: usize>(&mut self, new: [u8; 4]) -> Change {
        let bytes = &self.header[AT..AT + 4];
        let change = Change::quad([bytes[0], bytes[1], bytes[2], bytes[3]], new);
        self.header[AT..AT + 4].copy_from_slice(&new);
        self.change = self.change.and(change);
        change
    }
}

/// A header without options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Type of service.
    pub tos: u8,
    /// Tells fragments apart.
    pub identification: u16,
    /// Flags and offset as they stand in the header; [`DF`], [`MF`].
    pub fragment: u16,
    /// How many routers may pass it on.
    pub ttl: u8,
    /// What the payload is.
    pub protocol: u8,
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
}

impl Header {
    /// Its bytes, with the checksum, for a payload of so many bytes.
    pub fn to_bytes(self, payload: usize) -> [u8; MIN_HEADER] {
        let mut bytes = [0; MIN_HEADER];
        let total = u16::try_from(MIN_HEADER + payload).unwrap_or(u16::MAX);
        bytes[0] = 0x45;
        bytes[1] = self.tos;
        bytes[2..4].copy_from_slice(&total.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.identification.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.fragment.to_be_bytes());
        bytes[8] = self.ttl;
        bytes[9] = self.protocol;
        bytes[12..16].copy_from_slice(&self.source);
        bytes[16..20].copy_from_slice(&self.destination);
        let field = checksum::checksum(&bytes);
        bytes[10..12].copy_from_slice(&field.to_be_bytes());
        bytes
    }
}

const CHECKED: &str = "who makes a packet has looked whether its header is whole";

/// Bytes of a header without options.
pub const MIN_HEADER: usize = 20;
/// Do not fragment.
pub const DF: u16 = 0x4000;
/// More fragments follow.
pub const MF: u16 = 0x2000;
/// Offset of a fragment, in units of 8 bytes.
pub const OFFSET: u16 = 0x1fff;

#[cfg(test)]
mod tests {
    use pnet_packet::ipv4::{Ipv4Packet, checksum as independent_checksum};
    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        Header {
            tos: 0x10,
            identification: 7,
            fragment: DF,
            ttl: 64,
            protocol: 17,
            source: [10, 0, 0, 1],
            destination: [10, 0, 0, 2],
        }
    }

    #[test]
    fn another_reader_agrees() {
        let mut bytes = header().to_bytes(3).to_vec();
        bytes.extend([1, 2, 3]);
        let theirs = Ipv4Packet::new(&bytes).unwrap();
        assert_eq!(theirs.get_checksum(), independent_checksum(&theirs));
        let ours = Packet::new_checked(&bytes).unwrap();
        assert_eq!(ours.total_length(), theirs.get_total_length());
        assert_eq!(ours.source(), theirs.get_source().octets());
        assert_eq!(ours.destination(), theirs.get_destination().octets());
        assert_eq!((ours.ttl(), ours.protocol(), ours.tos()), (64, 17, 0x10));
        assert!(ours.dont_fragment() && !ours.is_fragment());
        assert_eq!(ours.payload(), [1, 2, 3]);
    }

    #[test]
    fn edits_keep_the_checksum() {
        let mut bytes = header().to_bytes(0);
        let mut packet = Packet::new_checked(&mut bytes[..]).unwrap();
        packet.set_source([192, 168, 255, 254]);
        packet.set_destination([0, 0, 0, 0]);
        packet.decrement_ttl();
        let packet = Packet::new_checked(&bytes[..]).unwrap();
        assert_eq!((packet.ttl(), packet.source()), (63, [192, 168, 255, 254]));
    }

    #[test]
    fn many_edits_are_one() {
        let mut one_by_one = header().to_bytes(0);
        let mut packet = Packet::new_checked(&mut one_by_one[..]).unwrap();
        packet.set_source([192, 168, 255, 254]);
        packet.set_destination([255, 255, 0, 0]);
        packet.decrement_ttl();
        let mut together = header().to_bytes(0);
        let mut edit = Edit::new(&mut together).unwrap();
        assert_eq!(
            edit.set_source([192, 168, 255, 254]),
            Change::quad([10, 0, 0, 1], [192, 168, 255, 254])
        );
        edit.set_destination([255, 255, 0, 0]);
        edit.decrement_ttl();
        edit.finish();
        assert_eq!(together, one_by_one);
        assert!(Edit::new(&mut together[1..]).is_none());
    }

    #[test]
    fn lies_are_named() {
        let good = header().to_bytes(0);
        let lie = |at: usize, value: u8| {
            let mut bytes = good;
            bytes[at] = value;
            Packet::new_checked(bytes).unwrap_err()
        };
        assert_eq!(
            Packet::new_checked(&good[..19]).unwrap_err(),
            Malformed::Truncated
        );
        assert_eq!(lie(0, 0x65), Malformed::NotIpv4);
        assert_eq!(lie(0, 0x44), Malformed::NotIpv4);
        assert_eq!(lie(0, 0x46), Malformed::Truncated);
        assert_eq!(lie(3, 19), Malformed::Length);
        assert_eq!(lie(3, 21), Malformed::Length);
        assert_eq!(lie(8, 63), Malformed::Checksum);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(packet) = Packet::new_lenient(&bytes) {
                packet.payload();
                packet.header();
            }
            if let Ok(mut packet) = Packet::new_lenient(&mut bytes[..]) {
                packet.payload_mut();
                packet.decrement_ttl();
            }
        }
    }
}
