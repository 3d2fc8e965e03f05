//! Fragmentation (RFC 791 section 3.2) of packets that are too big for the way out and may be
//! fragmented.

use shared::wire::checksum;
use shared::wire::ipv4::{self, Packet};
use shared::wire::ipv6;
use shared::wire::transport;

use super::Frame;

/// Completes a partial checksum: nobody can when the packet is in pieces.
pub(super) fn complete(frame: &mut Frame<'_>) {
    let vnet = frame.vnet();
    if !vnet.is_partial() {
        return;
    }
    let start = usize::from(vnet.csum_start).saturating_sub(shared::wire::ethernet::LENGTH);
    if let Some(segment) = frame.packet_mut().get_mut(start..) {
        let sum = match !checksum::fold(checksum::sum(segment, 0)) {
            0 => 0xffff,
            sum => sum,
        };
        transport::set_field(segment, usize::from(vnet.csum_offset), sum);
    }
    frame.set_vnet(Default::default());
}

/// The packet in pieces of at most `mtu` bytes. A piece of a fragment is a fragment of the whole.
pub(super) fn pieces(bytes: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    let Ok(packet) = Packet::new_lenient(bytes) else {
        return Vec::new();
    };
    let header = packet.header();
    // All but the last piece hold a multiple of eight bytes.
    let step = (mtu.saturating_sub(header.len()) / 8 * 8).max(8);
    let payload = packet.payload();
    let first = packet.fragment_offset() / 8;
    let count = payload.len().div_ceil(step);
    let copied = later_header(header);
    payload
        .chunks(step)
        .enumerate()
        .map(|(at, chunk)| {
            let mut piece = if at == 0 {
                header.to_vec()
            } else {
                copied.clone()
            };
            let offset = first + (at * step / 8) as u16;
            let more = at + 1 < count || packet.more_fragments();
            let field = (offset & ipv4::OFFSET) | if more { ipv4::MF } else { 0 };
            let total = (piece.len() + chunk.len()) as u16;
            transport::set_field(&mut piece, 2, total);
            transport::set_field(&mut piece, 6, field);
            transport::set_field(&mut piece, 10, 0);
            let sum = checksum::checksum(&piece);
            transport::set_field(&mut piece, 10, sum);
            piece.extend(chunk);
            piece
        })
        .collect()
}

/// The same of a packet of our own over IPv6, which has no extension headers (RFC 8200 section 4.5).
pub(super) fn pieces_v6(bytes: &[u8], mtu: usize, identification: u32) -> Vec<Vec<u8>> {
    let Some((header, payload)) = bytes.split_at_checked(ipv6::HEADER) else {
        return Vec::new();
    };
    let step = (mtu.saturating_sub(ipv6::HEADER + FRAGMENT_HEADER) / 8 * 8).max(8);
    let count = payload.len().div_ceil(step);
    let piece = |(at, chunk): (usize, &[u8])| {
        let mut piece = header.to_vec();
        let next = std::mem::replace(&mut piece[NEXT_HEADER], ipv6::FRAGMENT);
        transport::set_field(&mut piece, 4, (FRAGMENT_HEADER + chunk.len()) as u16);
        let more = if at + 1 < count { ipv6::MORE } else { 0 };
        let offset = (at * step) as u16 & ipv6::OFFSET;
        piece.extend([next, 0]);
        piece.extend((offset | more).to_be_bytes());
        piece.extend(identification.to_be_bytes());
        piece.extend(chunk);
        piece
    };
    payload.chunks(step).enumerate().map(piece).collect()
}

/// The header of all pieces but the first: options without the copied flag become no-operations
/// (as `ip_options_fragment` does).
fn later_header(header: &[u8]) -> Vec<u8> {
    let mut later = header.to_vec();
    let mut at = ipv4::MIN_HEADER;
    while at < later.len() {
        let length = match later[at] {
            END_OF_OPTIONS => break,
            NO_OPERATION => 1,
            _ => usize::from(*later.get(at + 1).unwrap_or(&0)),
        };
        if length == 0 || at + length > later.len() {
            break;
        }
        if later[at] & COPIED == 0 {
            later[at..at + length].fill(NO_OPERATION);
        }
        at += length;
    }
    later
}

const FRAGMENT_HEADER: usize = 8;
/// In a header of IPv6.
const NEXT_HEADER: usize = 6;
const COPIED: u8 = 0x80;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
