//! IPv6 (RFC 8200): a view of the fixed header over untrusted bytes, the chain of extension headers behind
//! it, and a builder.

use std::mem;

use super::checksum::Change;

/// A packet whose fixed header and payload length have been checked against the bytes there are.
#[derive(Debug, Clone, Copy)]
pub struct Packet<T>(T);

/// Why bytes are no IPv6 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Fewer bytes than the fixed header.
    Truncated,
    /// Another version.
    NotIpv6,
    /// The payload length is beyond the bytes there are.
    Length,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Checks what the kernel's `ip6_rcv_core` checks of the fixed header.
    ///
    /// # Errors
    /// What is wrong, the first thing that is.
    #[inline]
    pub fn new_checked(bytes: T) -> Result<Packet<T>, Malformed> {
        let packet = Packet::new_lenient(bytes)?;
        if packet.total_length() > packet.0.as_ref().len() {
            return Err(Malformed::Length);
        }
        Ok(packet)
    }

    /// For packets that are quoted in ICMP errors and cut short: only the fixed header must be whole.
    ///
    /// # Errors
    /// What is wrong, the first thing that is.
    #[inline]
    pub fn new_lenient(bytes: T) -> Result<Packet<T>, Malformed> {
        let data = bytes.as_ref();
        if data.len() < HEADER {
            return Err(Malformed::Truncated);
        }
        if data[0] >> 4 != 6 {
            return Err(Malformed::NotIpv6);
        }
        Ok(Packet(bytes))
    }

    /// Bytes of the whole packet, as its header says.
    #[inline]
    pub fn total_length(&self) -> usize {
        HEADER + usize::from(self.payload_length())
    }

    /// What the extension headers lead to, as far as there are bytes.
    ///
    /// # Errors
    /// Why they lead nowhere.
    #[inline]
    pub fn chain(&self) -> Result<Chain, Broken> {
        match self.next_header() {
            HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS => self.walk(),
            protocol => Ok(Chain {
                protocol,
                at: HEADER,
                piece: None,
            }),
        }
    }

    #[cold]
    fn walk(&self) -> Result<Chain, Broken> {
        let mut chain = Chain {
            protocol: self.next_header(),
            at: HEADER,
            piece: None,
        };
        for number in 0..=MOST_EXTENSIONS {
            match chain.protocol {
                HOP_BY_HOP if number > 0 => return Err(Broken::Order),
                FRAGMENT if chain.piece.is_some() => return Err(Broken::Order),
                HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS => {}
                _ => return Ok(chain),
            }
            let header: &[u8; 8] = self
                .0
                .as_ref()
                .get(chain.at..)
                .and_then(<[u8]>::first_chunk)
                .ok_or(Broken::Truncated)?;
            if number == MOST_EXTENSIONS {
                break;
            }
            let length = match chain.protocol {
                ROUTING if header[3] != 0 => return Err(Broken::Routed),
                FRAGMENT => EXTENSION_UNIT,
                _ => (usize::from(header[1]) + 1) * EXTENSION_UNIT,
            };
            let is_fragment = chain.protocol == FRAGMENT;
            chain.protocol = header[0];
            chain.at += length;
            if is_fragment {
                let field = u16::from_be_bytes([header[2], header[3]]);
                let piece = Piece {
                    offset: field & OFFSET,
                    more: field & MORE != 0,
                    identification: u32::from_be_bytes([
                        header[4], header[5], header[6], header[7],
                    ]),
                };
                // One that is all of its packet (RFC 6946) is no fragment.
                chain.piece = (field & (OFFSET | MORE) != 0).then_some(piece);
                if piece.offset != 0 {
                    return Ok(chain);
                }
            }
        }
        Err(Broken::Long)
    }

    /// DSCP and ECN.
    pub fn traffic_class(&self) -> u8 {
        let bytes = self.0.as_ref();
        bytes[0] << 4 | bytes[1] >> 4
    }

    /// Bytes behind the fixed header.
    pub fn payload_length(&self) -> u16 {
        let bytes = self.0.as_ref();
        u16::from_be_bytes([bytes[4], bytes[5]])
    }

    /// What is behind the fixed header: an extension header or the payload's protocol.
    pub fn next_header(&self) -> u8 {
        self.0.as_ref()[6]
    }

    /// How many more routers may pass it on.
    pub fn hop_limit(&self) -> u8 {
        self.0.as_ref()[7]
    }

    /// Source address.
    pub fn source(&self) -> [u8; 16] {
        self.address(8)
    }

    /// Destination address.
    pub fn destination(&self) -> [u8; 16] {
        self.address(24)
    }

    fn address(&self, at: usize) -> [u8; 16] {
        let mut address = [0; 16];
        address.copy_from_slice(&self.0.as_ref()[at..at + 16]);
        address
    }
}

/// What a packet carries, behind all extension headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// What it is. Of a later fragment, what follows the fragment header.
    pub protocol: u8,
    /// Where it begins, bytes from the beginning of the packet.
    pub at: usize,
    /// Of a fragment.
    pub piece: Option<Piece>,
}

/// A part of a packet (RFC 8200 section 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where it belongs in what was cut, bytes.
    pub offset: u16,
    /// Whether more follow.
    pub more: bool,
    /// Tells the fragments of one packet from another's.
    pub identification: u32,
}

/// Why extension headers lead nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The bytes end in them.
    Truncated,
    /// Hop-by-hop options that are not the first, or a fragment of a fragment.
    Order,
    /// More than [`MOST_EXTENSIONS`].
    Long,
    /// A routing header that leads on to another host.
    Routed,
}

/// A fixed header that has been checked before and is now edited. Nothing in the header sums it up, but the
/// transport checksum covers its addresses.
#[derive(Debug)]
pub struct Edit<'a>(&'a mut [u8; HEADER]);

impl<'a> Edit<'a> {
    /// Of the header that these bytes begin with; none if there is no whole one.
    #[inline]
    pub fn new(packet: &'a mut [u8]) -> Option<Edit<'a>> {
        packet.first_chunk_mut().map(Edit)
    }

    /// One router less.
    #[inline]
    pub fn decrement_hop_limit(&mut self) {
        self.0[7] = self.0[7].wrapping_sub(1);
    }

    /// One router more to go.
    pub fn increment_hop_limit(&mut self) {
        self.0[7] = self.0[7].wrapping_add(1);
    }

    /// Sets the source address, and says what changed.
    #[inline]
    pub fn set_source(&mut self, address: [u8; 16]) -> Change {
        self.set_address::<8>(address)
    }

    /// Sets the destination address, and says what changed.
    #[inline]
    pub fn set_destination(&mut self, address: [u8; 16]) -> Change {
        self.set_address::<24>(address)
    }

    #[inline]
    fn set_address<const AT: usize>(&mut self, new: [u8; 16]) -> Change {
        let field = self.0[AT..].first_chunk_mut().expect("it is in the header");
        Change::address(mem::replace(field, new), new)
    }
}

/// A header without extensions, flow label 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// What the payload is.
    pub next_header: u8,
    /// How many routers may pass it on.
    pub hop_limit: u8,
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
}

impl Header {
    /// Its bytes, for a payload of so many bytes.
    pub fn to_bytes(self, payload: usize) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let length = u16::try_from(payload).unwrap_or(u16::MAX);
        bytes[0] = 0x60 | self.traffic_class >> 4;
        bytes[1] = self.traffic_class << 4;
        bytes[4..6].copy_from_slice(&length.to_be_bytes());
        bytes[6] = self.next_header;
        bytes[7] = self.hop_limit;
        bytes[8..24].copy_from_slice(&self.source);
        bytes[24..40].copy_from_slice(&self.destination);
        bytes
    }
}

/// Bytes of the fixed header.
pub const HEADER: usize = 40;

/// Hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// A routing header.
pub const ROUTING: u8 = 43;
/// A fragment header.
pub const FRAGMENT: u8 = 44;
/// Options for the receiver.
pub const DESTINATION_OPTIONS: u8 = 60;
/// Extension headers of a packet that is looked into: one of each kind, and options once more in front of
/// a routing header, is what RFC 8200 section 4.1 recommends.
pub const MOST_EXTENSIONS: usize = 5;
/// Where the offset is in the field of a fragment header, as bytes.
pub const OFFSET: u16 = 0xfff8;
/// More fragments follow.
pub const MORE: u16 = 1;
/// The least MTU of a link (RFC 8200 section 5).
pub const MIN_MTU: u32 = 1280;

const EXTENSION_UNIT: usize = 8;

#[cfg(test)]
mod tests {
    use pnet_packet::ipv6::{Ipv6Packet, MutableIpv6Packet};
    use proptest::prelude::*;

    use super::*;

    fn header(next_header: u8) -> Header {
        Header {
            traffic_class: 0xb8,
            next_header,
            hop_limit: 64,
            source: [1; 16],
            destination: [2; 16],
        }
    }

    #[test]
    fn another_writer_agrees() {
        let mut bytes = vec![0; 43];
        let mut theirs = MutableIpv6Packet::new(&mut bytes).unwrap();
        theirs.set_version(6);
        theirs.set_traffic_class(0xb8);
        theirs.set_flow_label(0x54321);
        theirs.set_payload_length(3);
        theirs.set_hop_limit(64);
        theirs.set_next_header(pnet_packet::ip::IpNextHeaderProtocols::Udp);
        theirs.set_source("2001:db8::1".parse().unwrap());
        theirs.set_destination("2001:db8::2".parse().unwrap());
        let mut edit = Edit::new(&mut bytes).unwrap();
        let mut old = [0; 16];
        old[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        old[15] = 1;
        assert_eq!(edit.set_source([9; 16]), Change::address(old, [9; 16]));
        edit.decrement_hop_limit();
        let ours = Packet::new_checked(&bytes[..]).unwrap();
        assert_eq!((ours.traffic_class(), ours.payload_length()), (0xb8, 3));
        assert_eq!((ours.next_header(), ours.hop_limit()), (17, 63));
        assert_eq!((ours.source(), ours.destination()[15]), ([9; 16], 2));
        assert_eq!(ours.total_length(), 43);
    }

    #[test]
    fn another_reader_agrees() {
        let bytes = header(6).to_bytes(7);
        let theirs = Ipv6Packet::new(&bytes).unwrap();
        assert_eq!(
            (theirs.get_version(), theirs.get_traffic_class()),
            (6, 0xb8)
        );
        assert_eq!(
            (theirs.get_payload_length(), theirs.get_flow_label()),
            (7, 0)
        );
        assert_eq!(
            (theirs.get_next_header().0, theirs.get_hop_limit()),
            (6, 64)
        );
        assert_eq!(theirs.get_source().octets(), [1; 16]);
        assert_eq!(theirs.get_destination().octets(), [2; 16]);
    }

    #[test]
    fn lies_are_named() {
        let mut bytes = [0; 42];
        bytes[0] = 0x60;
        assert!(Packet::new_checked(bytes).is_ok());
        assert_eq!(
            Packet::new_checked(&bytes[..39]).unwrap_err(),
            Malformed::Truncated
        );
        bytes[5] = 3;
        assert_eq!(Packet::new_checked(bytes).unwrap_err(), Malformed::Length);
        bytes[0] = 0x45;
        assert_eq!(Packet::new_checked(bytes).unwrap_err(), Malformed::NotIpv6);
    }

    /// Of a packet of TCP with these extension headers in front.
    fn chain(extensions: &[&[u8]]) -> Result<Chain, Broken> {
        let kinds: Vec<u8> = extensions.iter().map(|bytes| bytes[0]).collect();
        let mut bytes = header(*kinds.first().unwrap_or(&6)).to_bytes(0).to_vec();
        for (number, extension) in extensions.iter().enumerate() {
            bytes.push(*kinds.get(number + 1).unwrap_or(&6));
            bytes.extend(&extension[1..]);
        }
        Packet::new_lenient(&bytes).unwrap().chain()
    }

    fn to_tcp(at: usize, piece: Option<Piece>) -> Result<Chain, Broken> {
        let protocol = 6;
        Ok(Chain {
            protocol,
            at,
            piece,
        })
    }

    #[test]
    fn extension_headers_are_followed() {
        let hop_by_hop = [HOP_BY_HOP, 0, 1, 4, 0, 0, 0, 0];
        let mut options = [DESTINATION_OPTIONS; 24];
        options[1] = 2;
        let routed = [ROUTING, 0, 0, 0, 0, 0, 0, 0];
        let routing = [ROUTING, 0, 0, 1, 0, 0, 0, 0];
        let fragment = |field| [FRAGMENT, 0, 0, field, 0, 1, 2, 3];
        let piece = |offset, more| {
            let identification = 0x1_0203;
            Some(Piece {
                offset,
                more,
                identification,
            })
        };
        assert_eq!(chain(&[]), to_tcp(40, None));
        assert_eq!(chain(&[&hop_by_hop, &options]), to_tcp(72, None));
        assert_eq!(chain(&[&routed]), to_tcp(48, None));
        assert_eq!(chain(&[&routing]), Err(Broken::Routed));
        assert_eq!(chain(&[&options, &hop_by_hop]), Err(Broken::Order));
        assert_eq!(chain(&[&options[..16]]), to_tcp(64, None));
        assert_eq!(chain(&[&options[..7]]), Err(Broken::Truncated));
        assert_eq!(chain(&[&fragment(0), &options]), to_tcp(72, None));
        assert_eq!(chain(&[&fragment(1), &options]), to_tcp(72, piece(0, true)));
        assert_eq!(chain(&[&fragment(9)]), to_tcp(48, piece(8, true)));
        assert_eq!(chain(&[&fragment(1), &fragment(0)]), Err(Broken::Order));
        let most = [&options[..]; MOST_EXTENSIONS];
        assert_eq!(chain(&most), to_tcp(40 + 24 * MOST_EXTENSIONS, None));
        let too_many = [&options[..]; MOST_EXTENSIONS + 1];
        assert_eq!(chain(&too_many), Err(Broken::Long));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            if let Some(first) = bytes.first_mut() {
                *first = 0x60;
            }
            for next in [HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS] {
                if let Some(field) = bytes.get_mut(6) {
                    *field = next;
                }
                if let Ok(packet) = Packet::new_lenient(&bytes) {
                    let _ = packet.chain();
                }
            }
        }
    }
}
