//! The sequence numbers of a TCP connection by FULLNAT, and how its real server learns who the client is.
//!
//! Many clients share the ports of a few local addresses. A real server that still remembers the last
//! connection of a port (TIME_WAIT) takes a new one only if its numbers and timestamps are later. So the
//! client's sequence numbers are moved to where the director's own would be, and no timestamps are agreed on,
//! as DPVS does. The real server learns of the client by the TOA option (kind 254), in the segments that
//! complete the handshake, until it has acknowledged one with data; or by a
//! [header](super::proxy_protocol) of the PROXY protocol in front of the client's data, which moves the
//! numbers of the data once more.

use shared::addr::Family;
use shared::wire::checksum::Change;

use super::options::{self, MOST_HEADER, add, number, options};
use super::proxy_protocol;
use crate::core::connection::Endpoint;
use crate::core::operation::Introduction;
use crate::core::protocol::tcp::TcpFlags;

/// What is changed in the numbers of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shift {
    /// What is added to the client's, in front of its data.
    by: u32,
    /// First sequence number of the client, as it sends it.
    client_first: u32,
    /// First sequence number of the server.
    server_first: u32,
    handshake: Handshake,
    introduction: Introduction,
    /// The server has probably what stands in front of the client's data.
    header_sent: bool,
    /// Of what names the client: an option, or what stands in front of its data.
    name_bytes: u8,
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
    /// The server has acknowledged what names the client.
    Over,
}

/// A new connection: where its numbers begin for the server, and how that learns of the client, whose address
/// is of this family.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opening {
    pub(super) first: u32,
    pub(super) introduction: Introduction,
    pub(super) family: Family,
}

/// What names the client with a segment of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    Nothing,
    /// The TOA option in it.
    Option,
    /// The header of the PROXY protocol in front of its data.
    Header,
}

impl Shift {
    /// The server's number for what the client gave this one.
    pub(in crate::core) fn to_server(self, number: u32) -> u32 {
        let number_there = number.wrapping_add(self.by);
        let data = self.behind_first(number);
        if self.is_far() || data > 0 || data == 0 && self.header_sent {
            return number_there.wrapping_add(self.room());
        }
        number_there
    }

    /// The client's number for what the server has this one for. What stands in front of the client's data is
    /// nothing to the client.
    pub(in crate::core) fn to_client(self, number: u32) -> u32 {
        let number = number.wrapping_sub(self.by);
        if self.is_far() {
            return number.wrapping_sub(self.room());
        }
        match u32::try_from(self.behind_first(number)) {
            Ok(behind) => number.wrapping_sub(behind.min(self.room())),
            Err(_) => number,
        }
    }

    /// Whether there is something in front of the client's data.
    pub(super) fn has_header(self) -> bool {
        self.room() > 0
    }

    /// Bytes in front of the client's data.
    fn room(self) -> u32 {
        match self.introduction {
            Introduction::ProxyProtocol => u32::from(self.name_bytes),
            Introduction::Toa | Introduction::None => 0,
        }
    }

    /// Whether the server has all that stands in front of the data: a number says so only near the first one, and
    /// comes round again after 4 GiB.
    fn is_far(self) -> bool {
        self.handshake == Handshake::Over
    }

    /// How far a number is behind that of the client's first byte.
    fn behind_first(self, number: u32) -> i32 {
        number.wrapping_sub(self.client_first.wrapping_add(1)) as i32
    }

    /// What names the client with one of its segments, whose number is as it gave it.
    fn names(self, flags: TcpFlags, sequence: u32, acknowledged: u32) -> Names {
        let passes = self.handshake == Handshake::Answered
            && flags.contains(TcpFlags::ACK)
            && !flags.intersects(TcpFlags::SYN | TcpFlags::RST);
        match self.introduction {
            Introduction::Toa if passes && acknowledged == self.server_first.wrapping_add(1) => {
                Names::Option
            }
            Introduction::ProxyProtocol if passes && self.behind_first(sequence) == 0 => {
                Names::Header
            }
            _ => Names::Nothing,
        }
    }
}

/// Numbers of a client's segment; a SYN that asks for a connection comes with an `opening`, which counts for the first
/// one. What changed of the bytes that a checksum covers, pseudo header aside, and what names the client with it.
pub(super) fn request(
    segment: &mut [u8],
    shift: &mut Shift,
    flags: TcpFlags,
    opening: Option<Opening>,
) -> (Change, Names) {
    let (Some(sequence), Some(acknowledged)) =
        (number(segment, SEQUENCE), number(segment, ACKNOWLEDGED))
    else {
        return (Change::default(), Names::Nothing);
    };
    let mut change = Change::default();
    if let Some(opening) = opening {
        if shift.handshake == Handshake::Unseen {
            shift.by = opening.first.wrapping_sub(sequence);
            shift.introduction = opening.introduction;
            shift.name_bytes = match opening.introduction {
                Introduction::Toa => toa_bytes(opening.family),
                Introduction::ProxyProtocol => proxy_protocol::bytes(opening.family),
                Introduction::None => 0,
            } as u8;
            shift.handshake = Handshake::Begun;
        }
        shift.client_first = sequence;
        change = change.and(options::without(segment, |kind| kind == TIMESTAMPS));
        if shift.introduction == Introduction::ProxyProtocol {
            change = change.and(options::without(segment, is_fast_open));
        }
    }
    let names = shift.names(flags, sequence, acknowledged);
    shift.header_sent |= names == Names::Header;
    let moved = shift.to_server(sequence).wrapping_sub(sequence);
    (change.and(add(segment, SEQUENCE, moved)), names)
}

/// Numbers of a server's segment. What changed of the bytes that a checksum covers, pseudo header aside.
pub(super) fn reply(segment: &mut [u8], shift: &mut Shift, flags: TcpFlags) -> Change {
    let Some(acknowledged) = number(segment, ACKNOWLEDGED) else {
        return Change::default();
    };
    if !flags.contains(TcpFlags::ACK) {
        return Change::default();
    }
    let change = acknowledge(segment, |number| shift.to_client(number));
    let got = shift.behind_first(acknowledged.wrapping_sub(shift.by));
    if shift.handshake != Handshake::Over && got <= 0 {
        shift.header_sent = false;
    }
    if flags.contains(TcpFlags::SYN) {
        shift.server_first = number(segment, SEQUENCE).unwrap_or_default();
        if shift.handshake == Handshake::Begun {
            shift.handshake = Handshake::Answered;
        }
        return change.and(make_room(segment, *shift));
    }
    let least = match shift.introduction {
        Introduction::ProxyProtocol => i32::from(shift.name_bytes),
        Introduction::Toa | Introduction::None => 1,
    };
    if shift.handshake == Handshake::Answered && got >= least {
        shift.handshake = Handshake::Over;
        shift.header_sent = true;
    }
    change
}

/// What a segment acknowledges, as the other side has numbered it. What changed of the bytes that a checksum
/// covers.
pub(super) fn acknowledge(segment: &mut [u8], other: impl Fn(u32) -> u32) -> Change {
    let mut change = options::renumber(segment, ACKNOWLEDGED, &other);
    for (kind, at, length) in options(segment) {
        if kind == SACK {
            let edges = (at + 2..at + length).step_by(4);
            for edge in edges.filter(|edge| edge + 4 <= at + length) {
                change = change.and(options::renumber(segment, edge, &other));
            }
        }
    }
    change
}

/// The sequence number of a segment of which only the beginning is there, as its client knows it.
pub(in crate::core) fn unshift(segment: &mut [u8], shift: Shift) {
    options::renumber(segment, SEQUENCE, |number| shift.to_client(number));
}

/// The TOA option: port and address of the client, as DPVS writes it.
pub(super) fn toa(client: Endpoint) -> Vec<u8> {
    let family = client.address.family();
    let mut option = vec![TOA, toa_bytes(family) as u8];
    option.extend(client.port.to_be_bytes());
    match family {
        Family::V4 => option.extend(client.address.to_v4_bytes()),
        Family::V6 => option.extend(client.address.to_bytes()),
    }
    option
}

/// Whether an option of so many bytes more fits into a TCP header.
pub(super) fn has_room(segment: &[u8], bytes: usize) -> bool {
    options::header_length(segment) + bytes <= MOST_HEADER
}

/// The numbers that the first segment of a new connection may have without being taken for one of an older
/// connection: they grow with time, as those of a host (RFC 9293 section 3.4.1).
pub(super) const fn first_sequence(hash: u32, nanos: u64) -> u32 {
    hash.wrapping_add((nanos >> 6) as u32)
}

/// TCP Fast Open, by its number (RFC 7413) or that of experiments: data in the SYN would come before the
/// header.
fn is_fast_open(kind: u8) -> bool {
    kind == FAST_OPEN || kind == EXPERIMENT
}

/// The client leaves room for what is added to its segments, and to what it may have on the way.
fn make_room(segment: &mut [u8], shift: Shift) -> Change {
    match shift.introduction {
        Introduction::Toa => {
            options::change_mss(segment, |size| size.saturating_sub(shift.name_bytes.into()))
        }
        Introduction::ProxyProtocol => options::change_word(segment, WINDOW, |window| {
            let left = window.saturating_sub(shift.name_bytes.into());
            if left == 0 { window } else { left }
        }),
        Introduction::None => Change::default(),
    }
}

pub(super) const SEQUENCE: usize = 4;
const ACKNOWLEDGED: usize = 8;
const WINDOW: usize = 14;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;
const FAST_OPEN: u8 = 34;
const TOA: u8 = 254;
/// The same number, which experiments share (RFC 4727).
const EXPERIMENT: u8 = TOA;

/// Bytes of the TOA option of a client.
pub(super) const fn toa_bytes(family: Family) -> usize {
    match family {
        Family::V4 => 8,
        Family::V6 => 20,
    }
}

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

    #[test]
    fn what_stands_in_front_of_the_data_is_nothing_to_the_client() {
        for client_first in [7, u32::MAX - 1, u32::MAX] {
            let shift = Shift {
                by: 1000,
                client_first,
                introduction: Introduction::ProxyProtocol,
                name_bytes: 28,
                header_sent: true,
                ..Shift::default()
            };
            let there = client_first.wrapping_add(1000);
            let data = client_first.wrapping_add(1);
            assert_eq!(shift.to_server(client_first), there);
            assert_eq!(shift.to_client(there), client_first);
            for bytes in 0..=28 {
                assert_eq!(shift.to_client(there.wrapping_add(1 + bytes)), data);
            }
            for bytes in [0, 1, 1_000_000, i32::MAX as u32 - 28] {
                let here = data.wrapping_add(bytes);
                let number = shift.to_server(here);
                assert_eq!(number, there.wrapping_add(29 + bytes));
                assert_eq!(shift.to_client(number), here);
            }
            let later = Shift {
                handshake: Handshake::Over,
                ..shift
            };
            for bytes in [0, 1_000_000, i32::MAX as u32 + 1, u32::MAX - 1, u32::MAX] {
                let here = data.wrapping_add(bytes);
                let number = later.to_server(here);
                assert_eq!(number, there.wrapping_add(29).wrapping_add(bytes));
                assert_eq!(later.to_client(number), here);
            }
        }
    }
}
