//! Generic UDP Encapsulation, version 0 (draft-ietf-intarea-gue), as the kernel's `fou` module and IPVS
//! speak it: behind a UDP header one word, and for remote checksum offload two more.

/// Bytes of the header without options.
pub const HEADER: usize = 4;
/// Bytes that remote checksum offload adds: private flags, and where the checksum is.
pub const REMOTE_CHECKSUM: usize = 8;

/// The header in front of a packet of an IP protocol.
pub const fn header(protocol: u8) -> [u8; HEADER] {
    [0, protocol, 0, 0]
}

/// The header that leaves the packet's own checksum to the receiver. It sums from `start` on and
/// writes at `field`, bytes from the beginning of the packet.
pub const fn header_with_remote_checksum(
    protocol: u8,
    start: u16,
    field: u16,
) -> [u8; HEADER + REMOTE_CHECKSUM] {
    let [a, b] = start.to_be_bytes();
    let [c, d] = field.to_be_bytes();
    let words = (REMOTE_CHECKSUM / 4) as u8;
    // GUE_FLAG_PRIV, then GUE_PFLAG_REMCSUM in the private flags (include/net/gue.h).
    [words, protocol, 0, 1, 0x80, 0, 0, 0, a, b, c, d]
}

/// What a data message carries, and the bytes of its header with options; none of a control message, of
/// another version, and of bytes cut short.
pub fn parse(bytes: &[u8]) -> Option<(u8, usize)> {
    let &[first, protocol, ..] = bytes.first_chunk::<HEADER>()?;
    (first & VERSION_AND_CONTROL == 0).then_some(())?;
    Some((protocol, HEADER + usize::from(first & WORDS) * 4))
}

const VERSION_AND_CONTROL: u8 = 0xe0;
const WORDS: u8 = 0x1f;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_read() {
        assert_eq!(header(4), [0, 4, 0, 0]);
        assert_eq!(parse(&header(4)), Some((4, 4)));
        let remote = header_with_remote_checksum(4, 20, 36);
        assert_eq!(remote, [2, 4, 0, 1, 0x80, 0, 0, 0, 0, 20, 0, 36]);
        assert_eq!(parse(&remote), Some((4, 12)));
        for other in [[0x20, 4, 0, 0], [0x40, 4, 0, 0]] {
            assert_eq!(parse(&other), None);
        }
        assert_eq!(parse(&[0, 4, 0]), None);
    }
}
