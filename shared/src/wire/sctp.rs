//! What a forwarder needs of SCTP (RFC 9260): the ports, the first chunks, and the CRC32c, which covers
//! the whole packet but no address.

use super::transport::{self, Port};

/// The types of the chunks that a packet consists of, in order; none unless a common header and a chunk's
/// header are there. It ends at the first chunk of a length that cannot be, or that goes beyond the end: the
/// header of each must be there, what it announces need not.
#[derive(Debug, Clone)]
pub struct ChunkTypes<'a>(&'a [u8]);

impl<'a> ChunkTypes<'a> {
    /// Of a whole packet, or the beginning of one.
    #[inline]
    pub fn of(packet: &'a [u8]) -> Option<ChunkTypes<'a>> {
        let chunks = packet.get(HEADER..)?;
        (chunks.len() >= CHUNK_HEADER).then_some(ChunkTypes(chunks))
    }
}

impl Iterator for ChunkTypes<'_> {
    type Item = u8;

    #[inline]
    fn next(&mut self) -> Option<u8> {
        let &[kind, _, high, low] = self.0.first_chunk::<CHUNK_HEADER>()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        // Each step goes on by a header at least, so that there is an end.
        self.0 = match length {
            0..CHUNK_HEADER => &[],
            _ => self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]),
        };
        Some(kind)
    }
}

/// The verification tag, by which the receiver knows the sender's association.
pub fn verification_tag(packet: &[u8]) -> Option<[u8; 4]> {
    packet.get(TAG..)?.first_chunk().copied()
}

/// Whether the checksum of a whole packet is right.
pub fn verifies(packet: &[u8]) -> bool {
    let field = packet.get(CHECKSUM..).and_then(|rest| rest.first_chunk());
    field.is_some_and(|field| u32::from_le_bytes(*field) == sum(packet))
}

/// Writes the checksum of a whole packet.
pub fn sum_up(packet: &mut [u8]) {
    let sum = sum(packet);
    set_checksum(packet, sum);
}

/// Writes ports into a whole packet. Its checksum stays right if it was, and wrong if it was wrong: the CRCs
/// of two packets of one length differ by what that of their difference is.
pub fn set_ports(packet: &mut [u8], source: Option<u16>, destination: Option<u16>) {
    let new = [(Port::Source, source), (Port::Destination, destination)];
    let Some((old_source, old_destination)) = transport::ports(packet) else {
        return;
    };
    let is_new = |old, new: Option<u16>| new.is_some_and(|new| new != old);
    if !is_new(old_source, source) && !is_new(old_destination, destination) {
        return;
    }
    let field = packet.get(CHECKSUM..).and_then(|rest| rest.first_chunk());
    let Some(field) = field.map(|field| u32::from_le_bytes(*field)) else {
        return;
    };
    let before = sum(packet);
    for (which, port) in new {
        if let Some(port) = port {
            transport::set_port(packet, which, port);
        }
    }
    let after = sum(packet);
    set_checksum(packet, field ^ before ^ after);
}

/// A packet that says that there is no such association (RFC 9260 section 8.4): an ABORT with the tag of the
/// packet that it answers, which its T bit says.
pub fn abort(source: u16, destination: u16, reflected_tag: [u8; 4]) -> [u8; ABORT_PACKET] {
    let mut packet = [0; ABORT_PACKET];
    transport::set_port(&mut packet, Port::Source, source);
    transport::set_port(&mut packet, Port::Destination, destination);
    packet[TAG..CHECKSUM].copy_from_slice(&reflected_tag);
    packet[HEADER..].copy_from_slice(&[chunk::ABORT, T_BIT, 0, CHUNK_HEADER as u8]);
    sum_up(&mut packet);
    packet
}

/// The CRC32c with zeros in its own place (RFC 9260 section 6.8 and appendix A).
fn sum(packet: &[u8]) -> u32 {
    let (ahead, behind) = packet.split_at(packet.len().min(CHECKSUM));
    let behind = behind.get(4..).unwrap_or_default();
    let sum = crc32c::crc32c(ahead);
    crc32c::crc32c_append(crc32c::crc32c_append(sum, &[0; 4]), behind)
}

/// Its bytes stand in the order in which the CRC is worked out, the lowest first.
fn set_checksum(packet: &mut [u8], sum: u32) {
    if let Some(field) = packet.get_mut(CHECKSUM..HEADER) {
        field.copy_from_slice(&sum.to_le_bytes());
    }
}

/// Types of chunks (RFC 9260 section 3.2).
#[allow(missing_docs, reason = "the names say it")]
pub mod chunk {
    pub const DATA: u8 = 0;
    pub const INIT: u8 = 1;
    pub const INIT_ACK: u8 = 2;
    pub const SACK: u8 = 3;
    pub const HEARTBEAT: u8 = 4;
    pub const HEARTBEAT_ACK: u8 = 5;
    pub const ABORT: u8 = 6;
    pub const SHUTDOWN: u8 = 7;
    pub const SHUTDOWN_ACK: u8 = 8;
    pub const ERROR: u8 = 9;
    pub const COOKIE_ECHO: u8 = 10;
    pub const COOKIE_ACK: u8 = 11;
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// Bytes of the common header.
pub const HEADER: usize = 12;
/// Where the checksum is.
pub const CHECKSUM: usize = 8;
/// Bytes of an [`abort`].
pub const ABORT_PACKET: usize = HEADER + CHUNK_HEADER;

const TAG: usize = 4;
const CHUNK_HEADER: usize = 4;
/// The tag is that of the sender.
const T_BIT: u8 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(chunks: &[&[u8]]) -> Vec<u8> {
        let mut packet = vec![0x9c, 0x41, 0x03, 0xe7, 1, 2, 3, 4, 0, 0, 0, 0];
        packet.extend(chunks.concat());
        sum_up(&mut packet);
        packet
    }

    fn types(packet: &[u8]) -> Option<Vec<u8>> {
        ChunkTypes::of(packet).map(Iterator::collect)
    }

    #[test]
    fn the_checksum_is_that_of_other_implementations() {
        // The check value of CRC-32C: the CRC of "123456789" is 0xe3069283.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        // RFC 3720 appendix B.4, 32 bytes of zeros: aa 36 91 8a as they are sent.
        let mut zeros = [0; 32];
        sum_up(&mut zeros);
        assert_eq!(zeros[CHECKSUM..HEADER], [0xaa, 0x36, 0x91, 0x8a]);
        assert!(verifies(&zeros));
        zeros[31] = 1;
        assert!(!verifies(&zeros));
        assert!(!verifies(&zeros[..11]));
    }

    #[test]
    fn chunks_one_after_the_other() {
        let bundle = packet(&[&[10, 0, 0, 6, 9, 9, 0, 0], &[6, 0, 0, 4]]);
        assert_eq!(types(&bundle), Some(vec![10, 6]));
        // A length that holds not even its header, and one beyond the end.
        assert_eq!(types(&packet(&[&[1, 0, 0, 3, 6, 0, 0, 4]])), Some(vec![1]));
        assert_eq!(types(&packet(&[&[1, 0, 0, 0, 6, 0, 0, 4]])), Some(vec![1]));
        assert_eq!(
            types(&packet(&[&[1, 0, 255, 255, 6, 0, 0, 4]])),
            Some(vec![1])
        );
        // What is announced need not be there, a header must.
        assert_eq!(
            types(&packet(&[&[0, 0, 0, 4], &[6, 0, 9, 9]])),
            Some(vec![0, 6])
        );
        assert_eq!(types(&packet(&[&[0, 0, 0, 4], &[6, 0, 0]])), Some(vec![0]));
        assert_eq!(types(&packet(&[&[1, 0, 0]])), None);
        assert_eq!(types(&[]), None);
    }

    #[test]
    fn an_abort_reflects_the_tag() {
        let answer = abort(999, 40001, [7, 8, 9, 10]);
        assert!(verifies(&answer));
        assert_eq!(types(&answer), Some(vec![chunk::ABORT]));
        assert_eq!(verification_tag(&answer), Some([7, 8, 9, 10]));
        assert_eq!(transport::ports(&answer), Some((999, 40001)));
        assert_eq!(answer[HEADER + 1], 1);
    }

    #[test]
    fn a_port_that_stays_changes_nothing() {
        let mut short = vec![0x9c, 0x41, 0, 80, 0, 0, 0, 0];
        set_ports(&mut short, Some(0x9c41), None);
        set_ports(&mut short, Some(1), None);
        assert_eq!(short, [0x9c, 0x41, 0, 80, 0, 0, 0, 0], "no room for a sum");
    }

    proptest! {
        #[test]
        fn a_rewritten_packet_is_as_sound_as_it_was(
            mut bytes in prop::collection::vec(any::<u8>(), 12..1500),
            source in any::<Option<u16>>(),
            destination in any::<Option<u16>>(),
            damage in any::<u32>(),
        ) {
            sum_up(&mut bytes);
            let mut broken = bytes.clone();
            let field = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
            set_checksum(&mut broken, field ^ damage);
            set_ports(&mut bytes, source, destination);
            prop_assert!(verifies(&bytes));
            let (is_source, is_destination) = transport::ports(&bytes).unwrap();
            prop_assert!(source.is_none_or(|port| port == is_source));
            prop_assert!(destination.is_none_or(|port| port == is_destination));
            set_ports(&mut broken, source, destination);
            prop_assert_eq!(verifies(&broken), damage == 0);
        }

        #[test]
        fn any_bytes_have_bounded_chunks(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            let most = bytes.len().saturating_sub(HEADER) / CHUNK_HEADER;
            let found = ChunkTypes::of(&bytes).map_or(0, Iterator::count);
            prop_assert!(found <= most);
            prop_assert_eq!(found > 0, most > 0);
        }
    }
}
