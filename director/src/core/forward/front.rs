//! The header that a packet of one family gets in the other (RFC 7915).

use shared::addr::{Addr, Family};
use shared::wire::{ipv4, ipv6};

use crate::core::ip::Ip;

/// The header that a packet gets in the other family.
pub(in crate::core) struct Front {
    bytes: [u8; WITH_FRAGMENT_HEADER],
    length: usize,
}

impl Front {
    /// Of a packet with other addresses. The identification is for one of IPv4 that is no fragment.
    pub(in crate::core) fn of(
        ip: &Ip,
        (source, destination): (Addr, Addr),
        identification: u16,
        dont_fragment: bool,
    ) -> Front {
        let mut bytes = [0; WITH_FRAGMENT_HEADER];
        let payload = ip.total.saturating_sub(ip.header);
        let length = front_bytes(ip);
        match ip.family() {
            Family::V6 => {
                let (identification, fragment) = match ip.piece {
                    Some(piece) if piece.more => {
                        (piece.identification as u16, (piece.offset / 8) | ipv4::MF)
                    }
                    Some(piece) => (piece.identification as u16, piece.offset / 8),
                    None if dont_fragment => (0, ipv4::DF),
                    None => (identification, 0),
                };
                let header = ipv4::Header {
                    tos: ip.tos,
                    identification,
                    fragment,
                    ttl: ip.ttl,
                    protocol: ip.protocol.0,
                    source: source.to_v4_bytes(),
                    destination: destination.to_v4_bytes(),
                };
                bytes[..length].copy_from_slice(&header.to_bytes(payload));
            }
            Family::V4 => {
                let header = ipv6::Header {
                    traffic_class: ip.tos,
                    next_header: match ip.piece {
                        Some(_) => ipv6::FRAGMENT,
                        None => ip.protocol.0,
                    },
                    hop_limit: ip.ttl,
                    source: source.to_bytes(),
                    destination: destination.to_bytes(),
                };
                let payload = payload + length - ipv6::HEADER;
                bytes[..ipv6::HEADER].copy_from_slice(&header.to_bytes(payload));
                if let Some(piece) = ip.piece {
                    let fragment = &mut bytes[ipv6::HEADER..];
                    let more = if piece.more { ipv6::MORE } else { 0 };
                    fragment[0] = ip.protocol.0;
                    fragment[2..4].copy_from_slice(&(piece.offset | more).to_be_bytes());
                    fragment[4..].copy_from_slice(&piece.identification.to_be_bytes());
                }
            }
        }
        Front { bytes, length }
    }

    /// Its bytes.
    pub(in crate::core) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Bytes of the header that a packet gets in the other family. Options and extensions are left out (RFC 7915
/// sections 4.1 and 5.1).
pub(super) fn front_bytes(ip: &Ip) -> usize {
    match ip.family() {
        Family::V6 => ipv4::MIN_HEADER,
        Family::V4 if ip.piece.is_some() => WITH_FRAGMENT_HEADER,
        Family::V4 => ipv6::HEADER,
    }
}

/// Bytes of the longest header: of a fragment over IPv6.
pub(super) const WITH_FRAGMENT_HEADER: usize = ipv6::HEADER + 8;
