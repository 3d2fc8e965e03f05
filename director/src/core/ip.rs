//! What IPv4 and IPv6 headers have in common, as values; and the edits that a forwarder makes to either.
//!
//! What nearly every packet of IPv4 passes reads its header by a view of its own; this is for the rest.

use shared::addr::{Addr, Family, FlowKey, Protocol};
use shared::wire::checksum::{self, Change};
use shared::wire::ipv6::Piece;
use shared::wire::{ipv4, ipv6, transport};

/// The headers of a packet up to what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ip {
    /// Source address.
    pub source: Addr,
    /// Destination address.
    pub destination: Addr,
    /// What it carries. Of a later fragment of IPv6, what follows the fragment header.
    pub protocol: Protocol,
    /// Bytes in front of what it carries: of IPv6 with the extension headers.
    pub header: usize,
    /// Bytes of the whole packet, as it says.
    pub total: usize,
    /// How many more routers may pass it on.
    pub ttl: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// Whether a router must not cut it; none may with IPv6.
    pub dont_fragment: bool,
    /// Of a fragment.
    pub piece: Option<Piece>,
}

impl Ip {
    /// Of the beginning of a packet. None if its headers are not whole, or lead nowhere that is balanced.
    pub fn read(packet: &[u8]) -> Option<Ip> {
        match family_of(packet)? {
            Family::V4 => Ip::of_v4(&ipv4::Packet::new_lenient(packet).ok()?),
            Family::V6 => Ip::of_v6(&ipv6::Packet::new_lenient(packet).ok()?),
        }
    }

    fn of_v4(packet: &ipv4::Packet<&[u8]>) -> Option<Ip> {
        let piece = Piece {
            offset: packet.fragment_offset(),
            more: packet.more_fragments(),
            identification: u32::from(packet.identification()),
        };
        Some(Ip {
            source: Addr::from_v4_bytes(packet.source()),
            destination: Addr::from_v4_bytes(packet.destination()),
            protocol: Protocol(packet.protocol()),
            header: packet.header_length(),
            total: usize::from(packet.total_length()),
            ttl: packet.ttl(),
            tos: packet.tos(),
            dont_fragment: packet.dont_fragment(),
            piece: packet.is_fragment().then_some(piece),
        })
    }

    fn of_v6(packet: &ipv6::Packet<&[u8]>) -> Option<Ip> {
        let chain = packet.chain().ok()?;
        let (source, destination) = (
            Addr::from_bytes(packet.source()),
            Addr::from_bytes(packet.destination()),
        );
        // IPv4 addresses in their mapped form are none of the wire (RFC 4291 section 2.5.5.2), and would be
        // taken for those of IPv4 here.
        let mapped = [source, destination]
            .iter()
            .any(|address| address.family() == Family::V4);
        (!mapped).then_some(Ip {
            source,
            destination,
            protocol: Protocol(chain.protocol),
            header: chain.at,
            total: packet.total_length(),
            ttl: packet.hop_limit(),
            tos: packet.traffic_class(),
            dont_fragment: true,
            piece: chain.piece,
        })
    }

    /// Which family it is of.
    pub fn family(&self) -> Family {
        self.source.family()
    }

    /// What the packet carries, as far as there are bytes.
    pub fn payload<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        let end = packet.len().min(self.total);
        packet.get(self.header..end).unwrap_or_default()
    }

    /// The flow of a packet that carries this, which begins with ports. None if those are not there.
    #[inline(never)]
    pub fn flow(&self, payload: &[u8]) -> Option<FlowKey> {
        let (source_port, destination_port) = transport::ports(payload)?;
        Some(FlowKey {
            protocol: self.protocol,
            source: self.source,
            source_port,
            destination: self.destination,
            destination_port,
        })
    }

    /// Whether it is a fragment that has no ports.
    pub fn is_later_fragment(&self) -> bool {
        self.piece.is_some_and(|piece| piece.offset != 0)
    }
}

/// By the version in the first byte.
#[inline]
pub fn family_of(packet: &[u8]) -> Option<Family> {
    match packet.first()? >> 4 {
        4 => Some(Family::V4),
        6 => Some(Family::V6),
        _ => None,
    }
}

/// New ends of a packet; none stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// Source address.
    pub source: Option<Addr>,
    /// Destination address.
    pub destination: Option<Addr>,
}

/// Whether a router passes the packet on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// One router less to go.
    On,
    /// It did before, and is not to count: one router more.
    Back,
    /// Not here.
    Not,
}

/// Writes addresses into the header that `packet` begins with, which was read before. What changed is for the
/// transport checksum.
#[inline(always)]
pub fn edit(packet: &mut [u8], family: Family, ends: Ends, passed: Passed) -> Option<Change> {
    match family {
        Family::V4 => {
            let mut edit = ipv4::Edit::new(packet)?;
            let mut change = Change::default();
            if let Some(address) = ends.source {
                change = change.and(edit.set_source(address.to_v4_bytes()));
            }
            if let Some(address) = ends.destination {
                change = change.and(edit.set_destination(address.to_v4_bytes()));
            }
            match passed {
                Passed::On => edit.decrement_ttl(),
                Passed::Back => edit.increment_ttl(),
                Passed::Not => {}
            }
            edit.finish();
            Some(change)
        }
        Family::V6 => {
            let mut edit = ipv6::Edit::new(packet)?;
            let mut change = Change::default();
            if let Some(address) = ends.source {
                change = change.and(edit.set_source(address.to_bytes()));
            }
            if let Some(address) = ends.destination {
                change = change.and(edit.set_destination(address.to_bytes()));
            }
            match passed {
                Passed::On => edit.decrement_hop_limit(),
                Passed::Back => edit.increment_hop_limit(),
                Passed::Not => {}
            }
            Some(change)
        }
    }
}

/// The smallest MTU that a family knows, bytes (RFC 791 section 3.2, RFC 8200 section 5).
#[inline]
pub const fn min_mtu(family: Family) -> u32 {
    match family {
        Family::V4 => ipv4::MIN_HEADER as u32 + 48,
        Family::V6 => ipv6::MIN_MTU,
    }
}

/// The sum of the pseudo header of a transport protocol over either family.
pub fn pseudo(source: Addr, destination: Addr, protocol: Protocol, length: u16) -> u32 {
    match source.family() {
        Family::V4 => {
            let (source, destination) = (source.to_v4_bytes(), destination.to_v4_bytes());
            checksum::pseudo_v4(source, destination, protocol.0, length)
        }
        Family::V6 => {
            let (source, destination) = (source.to_bytes(), destination.to_bytes());
            checksum::pseudo_v6(source, destination, protocol.0, u32::from(length))
        }
    }
}

/// A header without options or extensions of a packet of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// Source address.
    pub source: Addr,
    /// Destination address, of the same family.
    pub destination: Addr,
    /// What the packet carries.
    pub protocol: Protocol,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// How many routers may pass it on.
    pub ttl: u8,
    /// Tells fragments apart; IPv4 only.
    pub identification: u16,
    /// Flags as they stand in the header; IPv4 only.
    pub fragment: u16,
}

impl Own {
    /// Its bytes in front of so many.
    pub fn to_bytes(self, payload: usize) -> Vec<u8> {
        let mut bytes = vec![0; header_bytes(self.source.family())];
        self.write(&mut bytes, payload);
        bytes
    }

    /// The same into bytes that are as many as [`header_bytes`] says.
    #[inline]
    pub fn write(self, into: &mut [u8], payload: usize) {
        match self.source.family() {
            Family::V4 => {
                let header = ipv4::Header {
                    tos: self.tos,
                    identification: self.identification,
                    fragment: self.fragment,
                    ttl: self.ttl,
                    protocol: self.protocol.0,
                    source: self.source.to_v4_bytes(),
                    destination: self.destination.to_v4_bytes(),
                };
                into.copy_from_slice(&header.to_bytes(payload));
            }
            Family::V6 => {
                let header = ipv6::Header {
                    traffic_class: self.tos,
                    next_header: self.protocol.0,
                    hop_limit: self.ttl,
                    source: self.source.to_bytes(),
                    destination: self.destination.to_bytes(),
                };
                into.copy_from_slice(&header.to_bytes(payload));
            }
        }
    }
}

/// The time to live of a packet that begins here.
pub const OWN_TTL: u8 = 64;

/// Bytes of a header without options or extensions.
pub const fn header_bytes(family: Family) -> usize {
    match family {
        Family::V4 => ipv4::MIN_HEADER,
        Family::V6 => ipv6::HEADER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v6(next_header: u8, source: Addr, rest: &[u8]) -> Vec<u8> {
        let header = ipv6::Header {
            traffic_class: 0x12,
            next_header,
            hop_limit: 9,
            source: source.to_bytes(),
            destination: [7; 16],
        };
        [&header.to_bytes(rest.len())[..], rest].concat()
    }

    #[test]
    fn both_families_are_read_alike() {
        let header = ipv4::Header {
            tos: 0x12,
            identification: 5,
            fragment: ipv4::MF | 1,
            ttl: 9,
            protocol: 17,
            source: [10, 0, 0, 1],
            destination: [10, 0, 0, 2],
        };
        let four = Ip::read(&header.to_bytes(8)).unwrap();
        let packet = v6(
            44,
            Addr::from_bytes([6; 16]),
            &[17, 0, 0, 9, 0, 0, 0, 5, 1, 2],
        );
        let six = Ip::read(&packet).unwrap();
        assert_eq!(four.family(), Family::V4);
        assert_eq!(six.family(), Family::V6);
        let common = |ip: Ip| (ip.protocol, ip.ttl, ip.tos, ip.piece);
        assert_eq!(common(four), common(six));
        assert!(four.is_later_fragment() && !four.dont_fragment && six.dont_fragment);
        assert_eq!((four.header, four.total), (20, 28));
        assert_eq!((six.header, six.total), (48, 50));
        assert_eq!(six.payload(&packet), [1, 2]);
        assert_eq!(Ip::read(&packet[..47]), None);
        assert_eq!(Ip::read(&[0x55; 64]), None);
    }

    #[test]
    fn mapped_addresses_are_none_of_ipv6() {
        let mapped = Addr::from_v4_bytes([10, 0, 0, 1]);
        assert_eq!(Ip::read(&v6(17, mapped, &[0; 8])), None);
    }
}
