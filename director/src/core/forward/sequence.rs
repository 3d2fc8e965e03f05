//! The sequence numbers of a TCP connection by FULLNAT, and the client's address for its real server.
//!
//! Many clients share the ports of a few local addresses. A real server that still remembers the last
//! connection of a port (TIME_WAIT) takes a new one only if its numbers and timestamps are later. So the
//! client's sequence numbers are moved to where the director's own would be, and no timestamps are agreed on,
//! as DPVS does. The real server learns of the client by the TOA option (kind 254), in the segments that
//! complete the handshake, until it has acknowledged one with data.

use shared::wire::checksum::Change;
use shared::wire::transport;

use crate::core::connection::Endpoint;
use crate::core::protocol::tcp::TcpFlags;

/// What is changed in the numbers of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shift {
    /// What is added to the client's.
    pub by: u32,
    /// First sequence number of the client, as it sends it.
    client_first: u32,
    /// First sequence number of the server.
    server_first: u32,
    handshake: Handshake,
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Handshake {
    /// Its SYN was not seen: numbers stay as they are, and nobody is told anything.
    #[default]
    Unseen,
    /// The SYN has passed.
    Begun,
    /// The answer to it has passed.
    Answered,
    /// The server has acknowledged data, and with it the segments that name the client.
    Over,
}

/// Numbers of a client's segment; `first` is where those of a new connection begin. What changed of the bytes
/// that a checksum covers, pseudo header aside.
pub(super) fn request(
    segment: &mut [u8],
    shift: &mut Shift,
    flags: TcpFlags,
    first: u32,
) -> Change {
    let Some(sequence) = number(segment, SEQUENCE) else {
        return Change::default();
    };
    let mut change = Change::default();
    if flags.contains(TcpFlags::SYN) {
        if shift.handshake == Handshake::Unseen {
            shift.by = first.wrapping_sub(sequence);
            shift.handshake = Handshake::Begun;
        }
        shift.client_first = sequence;
        change = change.and(without_timestamps(segment));
    }
    change.and(add(segment, SEQUENCE, shift.by))
}

/// Numbers of a server's segment. What changed of the bytes that a checksum covers, pseudo header aside.
pub(super) fn reply(segment: &mut [u8], shift: &mut Shift, flags: TcpFlags) -> Change {
    if !flags.contains(TcpFlags::ACK) {
        return Change::default();
    }
    let mut change = add(segment, ACKNOWLEDGED, shift.by.wrapping_neg());
    for (kind, at, length) in options(segment) {
        if kind == SACK {
            let edges = (at + 2..at + length).step_by(4);
            for edge in edges.filter(|edge| edge + 4 <= at + length) {
                change = change.and(add(segment, edge, shift.by.wrapping_neg()));
            }
        }
    }
    if flags.contains(TcpFlags::SYN) {
        shift.server_first = number(segment, SEQUENCE).unwrap_or_default();
        if shift.handshake == Handshake::Begun {
            shift.handshake = Handshake::Answered;
        }
        return change.and(smaller_segments(segment));
    }
    let acknowledged = number(segment, ACKNOWLEDGED).unwrap_or_default();
    let data = acknowledged.wrapping_sub(shift.client_first.wrapping_add(1)) as i32;
    if shift.handshake == Handshake::Answered && data > 0 {
        shift.handshake = Handshake::Over;
    }
    change
}

/// The sequence number of a segment of which only the beginning is there, as its client knows it. `shift` 0
/// leaves everything as it is.
pub(in crate::core) fn unshift(segment: &mut [u8], shift: u32) {
    if shift != 0 {
        add(segment, SEQUENCE, shift.wrapping_neg());
    }
}

/// Whether a client's segment is to tell the server who the client is.
pub(super) fn names_client(segment: &[u8], shift: &Shift, flags: TcpFlags) -> bool {
    shift.handshake == Handshake::Answered
        && flags.contains(TcpFlags::ACK)
        && !flags.intersects(TcpFlags::SYN | TcpFlags::RST)
        && number(segment, ACKNOWLEDGED) == Some(shift.server_first.wrapping_add(1))
}

/// The TOA option.
pub(super) fn toa(client: Endpoint) -> [u8; TOA_BYTES] {
    let [a, b, c, d] = client.address.to_v4_bytes();
    let [high, low] = client.port.to_be_bytes();
    [TOA, TOA_BYTES as u8, high, low, a, b, c, d]
}

/// Whether an option more fits into a TCP header.
pub(super) fn has_room(segment: &[u8]) -> bool {
    header_length(segment) + TOA_BYTES <= MOST_HEADER
}

/// The numbers that the first segment of a new connection may have without being taken for one of an older
/// connection: they grow with time, as those of a host (RFC 9293 section 3.4.1).
pub(super) const fn first_sequence(hash: u32, nanos: u64) -> u32 {
    hash.wrapping_add((nanos >> 6) as u32)
}

/// An option of two bytes and its data becomes nothing.
fn without_timestamps(segment: &mut [u8]) -> Change {
    let mut change = Change::default();
    for (kind, at, length) in options(segment) {
        if kind == TIMESTAMPS {
            change = change.and(overwrite(segment, at, length, |bytes| {
                bytes.fill(NO_OPERATION);
            }));
        }
    }
    change
}

/// The client leaves room for the option that its segments get.
fn smaller_segments(segment: &mut [u8]) -> Change {
    let mut change = Change::default();
    for (kind, at, length) in options(segment) {
        if kind == MSS && length == 4 {
            change = change.and(overwrite(segment, at, length, |bytes| {
                let size = u16::from_be_bytes([bytes[2], bytes[3]]);
                let size = size.saturating_sub(TOA_BYTES as u16);
                bytes[2..].copy_from_slice(&size.to_be_bytes());
            }));
        }
    }
    change
}

/// Adds to a number, wherever it stands.
fn add(segment: &mut [u8], at: usize, what: u32) -> Change {
    let Some(sum) = number(segment, at).map(|number| number.wrapping_add(what)) else {
        return Change::default();
    };
    overwrite(segment, at, 4, |bytes| {
        bytes.copy_from_slice(&sum.to_be_bytes());
    })
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
fn options(segment: &[u8]) -> impl Iterator<Item = (u8, usize, usize)> + use<> {
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

fn header_length(segment: &[u8]) -> usize {
    segment.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4)
}

fn number(segment: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*segment.get(at..)?.first_chunk()?))
}

const SEQUENCE: usize = 4;
const ACKNOWLEDGED: usize = 8;
/// A TCP header with all the options that it can have.
const MOST_HEADER: usize = 60;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;
const TOA: u8 = 254;
/// Bytes of the TOA option of an IPv4 client.
pub(super) const TOA_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_later_connections_are_later() {
        let first = |secs: u64| first_sequence(77, secs * 1_000_000_000);
        for secs in 0..100 {
            assert!((first(secs + 60).wrapping_sub(first(secs)) as i32) > 0);
        }
    }
}
