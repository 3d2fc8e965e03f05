//! The Internet checksum (RFC 1071), its incremental update (RFC 1624), and the partial form that
//! a network card or the kernel completes later (`CHECKSUM_PARTIAL`).
//!
//! A *complete* checksum field holds the complement of the sum of everything it covers. A *partial*
//! one holds the plain, folded sum of the pseudo header: whoever sends the packet adds the rest. So
//! an address change updates both, in opposite senses, and a change of a port or of data updates
//! only a complete one.

/// A change of covered bytes: what was there and what is there now, in the ones' complement sum.
/// Changes add up; the order does not matter.
///
/// The sum is that of 32-bit words and not folded before it is used, since ones' complement sums may be
/// taken in wider words (RFC 1071 2.C): there is room for four thousand million changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change(u64);

impl Change {
    /// 16 bits at an even offset.
    #[inline]
    pub const fn word(old: u16, new: u16) -> Change {
        Change((!old as u64 & 0xffff) + new as u64)
    }

    /// An IPv4 address, or any other four bytes at an even offset.
    #[inline]
    pub const fn quad(old: [u8; 4], new: [u8; 4]) -> Change {
        Change(!u32::from_be_bytes(old) as u64 + u32::from_be_bytes(new) as u64)
    }

    /// An IPv6 address.
    #[inline]
    pub fn address(old: [u8; 16], new: [u8; 16]) -> Change {
        let (old, _) = old.as_chunks::<4>();
        let (new, _) = new.as_chunks::<4>();
        let words = old.iter().zip(new);
        words.fold(Change::default(), |sum, (old, new)| {
            sum.and(Change::quad(*old, *new))
        })
    }

    /// Both changes.
    #[inline]
    pub const fn and(self, other: Change) -> Change {
        Change(self.0 + other.0)
    }

    /// The new value of a complete checksum field (RFC 1624 equation 3).
    #[inline]
    pub const fn complete(self, field: u16) -> u16 {
        !fold_wide(self.0 + (!field as u64 & 0xffff))
    }

    /// The new value of a partial checksum field.
    #[inline]
    pub const fn partial(self, field: u16) -> u16 {
        fold_wide(self.0 + field as u64)
    }
}

/// The ones' complement sum of bytes, not folded; an odd last byte counts as if a zero followed.
/// `start` lets sums of even-sized pieces be added up. The bytes are at most 64 KiB a piece.
pub fn sum(bytes: &[u8], start: u32) -> u32 {
    // Eight bytes at a time: ones' complement sums may be taken in wider words (RFC 1071 2.C).
    let mut chunks = bytes.chunks_exact(8);
    let mut wide: u64 = u64::from(start);
    for chunk in &mut chunks {
        let word = u64::from_be_bytes(chunk.try_into().expect("chunks of eight"));
        wide += (word >> 32) + (word & 0xffff_ffff);
    }
    let mut rest = chunks.remainder();
    if let Some((word, behind)) = rest.split_first_chunk::<4>() {
        wide += u64::from(u32::from_be_bytes(*word));
        rest = behind;
    }
    let mut word = [0_u8; 4];
    for (to, from) in word.iter_mut().zip(rest) {
        *to = *from;
    }
    wide += u64::from(u32::from_be_bytes(word));
    u32::from(fold_wide(wide))
}

/// Carries added back in.
#[inline]
const fn fold_wide(sum: u64) -> u16 {
    // 33 bits are left, then at most 32.
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    fold(sum as u32)
}

/// Carries added back in.
#[inline]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

/// The checksum field for these bytes, the field itself being zero in them.
pub fn checksum(bytes: &[u8]) -> u16 {
    !fold(sum(bytes, 0))
}

/// Whether bytes that include their complete checksum are as they were sent.
pub fn verifies(bytes: &[u8]) -> bool {
    fold(sum(bytes, 0)) == 0xffff
}

/// [`verifies`] for what nearly every IPv4 header is: one without options.
#[inline]
pub fn header_verifies(header: &[u8; 20]) -> bool {
    let (words, _) = header.as_chunks::<4>();
    let sum = words
        .iter()
        .map(|word| u64::from(u32::from_be_bytes(*word)));
    fold_wide(sum.sum()) == 0xffff
}

/// The sum of the pseudo header of TCP and UDP over IPv4 (RFC 9293 3.1, RFC 768).
pub fn pseudo_v4(source: [u8; 4], destination: [u8; 4], protocol: u8, length: u16) -> u32 {
    sum(
        &destination,
        sum(&source, u32::from(protocol) + u32::from(length)),
    )
}

/// The sum of the pseudo header of a transport protocol over IPv6 (RFC 8200 section 8.1).
pub fn pseudo_v6(source: [u8; 16], destination: [u8; 16], protocol: u8, length: u32) -> u32 {
    let length = sum(&length.to_be_bytes(), u32::from(protocol));
    sum(&destination, sum(&source, length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(bytes: &[u8]) -> u16 {
        let mut sum = 0_u64;
        for pair in bytes.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        sum as u16
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes, 0)), 0xddf2);
        assert_eq!(checksum(&bytes), !0xddf2);
    }

    #[test]
    fn the_example_of_rfc_1624() {
        // Equation 3 gives 0x0000 where equation 2 of RFC 1141 gave 0xffff.
        assert_eq!(Change::word(0x5555, 0x3285).complete(0xdd2f), 0x0000);
    }

    proptest! {
        #[test]
        fn wide_sums_are_the_plain_sum(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(fold(sum(&bytes, 0)) % 0xffff, plain(&bytes) % 0xffff);
        }

        #[test]
        fn an_update_is_as_good_as_a_new_sum(
            mut bytes in prop::collection::vec(any::<u8>(), 20..60),
            new in any::<[u8; 4]>(),
            port in any::<u16>(),
        ) {
            bytes[2..4].fill(0);
            bytes[0] |= 1; // never all zero
            let field = checksum(&bytes);
            let old: [u8; 4] = bytes[4..8].try_into().unwrap();
            let old_port = u16::from_be_bytes([bytes[8], bytes[9]]);
            bytes[4..8].copy_from_slice(&new);
            bytes[8..10].copy_from_slice(&port.to_be_bytes());
            let change = Change::quad(old, new).and(Change::word(old_port, port));
            bytes[2..4].copy_from_slice(&change.complete(field).to_be_bytes());
            prop_assert!(verifies(&bytes));
        }

        #[test]
        fn a_partial_update_moves_the_pseudo_header(
            old in any::<[u8; 4]>(), new in any::<[u8; 4]>(), other in any::<[u8; 4]>(),
        ) {
            let before = fold(pseudo_v4(old, other, 6, 20));
            let after = fold(pseudo_v4(new, other, 6, 20));
            let updated = Change::quad(old, new).partial(before);
            prop_assert_eq!(updated % 0xffff, after % 0xffff);
        }

        #[test]
        fn so_it_does_with_long_addresses(
            old in any::<[u8; 16]>(), new in any::<[u8; 16]>(), other in any::<[u8; 16]>(),
        ) {
            let before = fold(pseudo_v6(old, other, 17, 70_000));
            let after = fold(pseudo_v6(new, other, 17, 70_000));
            let updated = Change::address(old, new).partial(before);
            prop_assert_eq!(updated % 0xffff, after % 0xffff);
        }
    }
}
