//! The options of a TCP header, and changes of a header with what they do to its checksum.

use shared::wire::checksum::Change;
use shared::wire::transport;

/// Adds to a number, wherever it stands.
pub(super) fn add(segment: &mut [u8], at: usize, what: u32) -> Change {
    renumber(segment, at, |number| number.wrapping_add(what))
}

/// Puts another number in a number's place, wherever it stands.
pub(super) fn renumber(segment: &mut [u8], at: usize, new: impl Fn(u32) -> u32) -> Change {
    let Some(new) = number(segment, at).map(new) else {
        return Change::default();
    };
    overwrite(segment, at, 4, |bytes| {
        bytes.copy_from_slice(&new.to_be_bytes());
    })
}

/// Changes a word at an even offset.
pub(super) fn change_word(segment: &mut [u8], at: usize, new: impl Fn(u16) -> u16) -> Change {
    let Some(before) = transport::field(segment, at) else {
        return Change::default();
    };
    let after = new(before);
    transport::set_field(segment, at, after);
    Change::word(before, after)
}

/// Options of some kinds become nothing.
pub(super) fn without(segment: &mut [u8], goes: impl Fn(u8) -> bool) -> Change {
    let mut change = Change::default();
    for (kind, at, length) in options(segment) {
        if goes(kind) {
            change = change.and(overwrite(segment, at, length, |bytes| {
                bytes.fill(NO_OPERATION);
            }));
        }
    }
    change
}

/// Changes the largest segment that a SYN says its sender takes.
pub(super) fn change_mss(segment: &mut [u8], new: impl Fn(u16) -> u16) -> Change {
    let mut change = Change::default();
    for (kind, at, length) in options(segment) {
        if kind == MSS && length == 4 {
            change = change.and(overwrite(segment, at, length, |bytes| {
                let size = new(u16::from_be_bytes([bytes[2], bytes[3]]));
                bytes[2..].copy_from_slice(&size.to_be_bytes());
            }));
        }
    }
    change
}

/// Changes bytes at any offset of the header, and says what that is in words at even ones.
fn overwrite(
    segment: &mut [u8],
    at: usize,
    length: usize,
    write: impl FnOnce(&mut [u8]),
) -> Change {
    let (begin, end) = (at & !1, (at + length).next_multiple_of(2));
    let mut before = [0; MOST_HEADER];
    let Some(bytes) = segment
        .get(begin..end)
        .filter(|bytes| bytes.len() <= MOST_HEADER)
    else {
        return Change::default();
    };
    before[..bytes.len()].copy_from_slice(bytes);
    write(&mut segment[at..at + length]);
    let words = segment[begin..end]
        .chunks_exact(2)
        .zip(before.chunks_exact(2));
    words.fold(Change::default(), |change, (new, old)| {
        let word = |bytes: &[u8]| u16::from_be_bytes([bytes[0], bytes[1]]);
        change.and(Change::word(word(old), word(new)))
    })
}

/// The options of a header: kind, offset, length. Ends at the first one that cannot be.
pub(super) fn options(segment: &[u8]) -> impl Iterator<Item = (u8, usize, usize)> + use<> {
    let end = header_length(segment).min(segment.len());
    let mut header = [0; MOST_HEADER];
    header[..end].copy_from_slice(&segment[..end]);
    let mut at = transport::TCP_HEADER;
    std::iter::from_fn(move || {
        while at < end && header[at] == NO_OPERATION {
            at += 1;
        }
        let kind = *header[..end].get(at)?;
        let length = usize::from(*header[..end].get(at + 1)?);
        if kind == END_OF_OPTIONS || length < 2 || at + length > end {
            return None;
        }
        let begin = at;
        at += length;
        Some((kind, begin, length))
    })
}

/// Bytes of a header, as it says itself.
pub(super) fn header_length(segment: &[u8]) -> usize {
    segment.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4)
}

/// Four bytes at an offset.
pub(super) fn number(segment: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*segment.get(at..)?.first_chunk()?))
}

/// A TCP header with all the options that it can have.
pub(super) const MOST_HEADER: usize = 60;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;
