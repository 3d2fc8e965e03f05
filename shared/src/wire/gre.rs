//! Generic Routing Encapsulation (RFC 2784; key and sequence number: RFC 2890).

/// Bytes of the header without options.
pub const HEADER: usize = 4;
/// Bytes that a checksum adds.
pub const CHECKSUM: usize = 4;
/// Where the checksum is, if there is one.
pub const CHECKSUM_AT: usize = 4;

/// The header in front of a packet of an Ethernet type, without a checksum.
pub const fn header(ethertype: u16) -> [u8; HEADER] {
    let [a, b] = ethertype.to_be_bytes();
    [0, 0, a, b]
}

/// The header with a checksum, which is still zero.
pub const fn header_with_checksum(ethertype: u16) -> [u8; HEADER + CHECKSUM] {
    let [a, b] = ethertype.to_be_bytes();
    [CHECKSUM_PRESENT, 0, a, b, 0, 0, 0, 0]
}

/// The Ethernet type of what is carried, and the bytes of the header with options; none of a header with
/// routing, of another version, and of bytes cut short.
pub fn parse(bytes: &[u8]) -> Option<(u16, usize)> {
    let &[flags, version, a, b] = bytes.first_chunk::<HEADER>()?;
    (flags & ROUTING_PRESENT == 0 && version & VERSION == 0).then_some(())?;
    let options = flags & (CHECKSUM_PRESENT | KEY_PRESENT | SEQUENCE_PRESENT);
    let length = HEADER + options.count_ones() as usize * 4;
    Some((u16::from_be_bytes([a, b]), length))
}

const CHECKSUM_PRESENT: u8 = 0x80;
const ROUTING_PRESENT: u8 = 0x40;
const KEY_PRESENT: u8 = 0x20;
const SEQUENCE_PRESENT: u8 = 0x10;
const VERSION: u8 = 0x07;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_read() {
        assert_eq!(parse(&header(0x0800)), Some((0x0800, 4)));
        assert_eq!(parse(&header_with_checksum(0x0800)), Some((0x0800, 8)));
        assert_eq!(parse(&[0xb0, 0, 8, 0]), Some((0x0800, 16)));
        for other in [[0x40, 0, 8, 0], [0, 1, 8, 0]] {
            assert_eq!(parse(&other), None);
        }
        assert_eq!(parse(&[0, 0, 8]), None);
    }
}
