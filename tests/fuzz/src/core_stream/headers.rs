//! What is in front of a transport header: IP headers of both families, with options and extension headers, sound
//! ones and others.

use shared::addr::{Family, Protocol};
use shared::wire::ipv6::{DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING};
use shared::wire::{checksum, ipv4, ipv6, transport};

use super::packet::Sketch;

impl Sketch {
    /// The headers of a packet that carries so many bytes of a protocol.
    pub(super) fn ip_header(&self, protocol: Protocol, payload: usize) -> Vec<u8> {
        match self.family() {
            Family::V4 => self.header_v4(protocol, payload),
            Family::V6 => self.header_v6(protocol, payload),
        }
    }

    fn header_v4(&self, protocol: Protocol, payload: usize) -> Vec<u8> {
        let words = self.options % 11;
        let options = usize::from(words) * 4;
        let header = ipv4::Header {
            tos: 0,
            identification: self.identification,
            fragment: self.fragment,
            ttl: self.ttl,
            protocol: protocol.0,
            source: self.source.0.to_v4_bytes(),
            destination: self.destination.0.to_v4_bytes(),
        };
        let mut bytes = header.to_bytes(payload + options).to_vec();
        // No-operations, and one option that every fragment has to carry.
        bytes.resize(bytes.len() + options, 1);
        if let Some(first) = bytes.get_mut(ipv4::MIN_HEADER..ipv4::MIN_HEADER + 4) {
            first.copy_from_slice(&[0x94, 4, 0, 0]);
        }
        bytes[0] = 0x45 + words;
        fix_header_checksum(&mut bytes);
        bytes
    }

    fn header_v6(&self, protocol: Protocol, payload: usize) -> Vec<u8> {
        let mut chain = extensions(self.options);
        let offset = self.fragment & ipv4::OFFSET;
        let more = self.fragment & ipv4::MF != 0;
        if offset != 0 || more {
            let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
            let [a, b] = self.identification.to_be_bytes();
            chain.push((FRAGMENT, vec![0, 0, high, low, 0, 0, a, b]));
        }
        let mut extensions = Vec::new();
        let mut kinds = chain.iter().map(|(kind, _)| *kind);
        let first = kinds.next().unwrap_or(protocol.0);
        let following = kinds.chain([protocol.0]);
        for ((_, bytes), next) in chain.iter().zip(following) {
            extensions.push(next);
            extensions.extend(&bytes[1..]);
        }
        let header = ipv6::Header {
            traffic_class: 0,
            next_header: first,
            hop_limit: self.ttl,
            source: self.source.0.to_bytes(),
            destination: self.destination.0.to_bytes(),
        };
        // One that says it is a jumbogram has no length here (RFC 2675).
        let length = match self.options % KINDS {
            JUMBO => 0,
            _ => extensions.len() + payload,
        };
        [&header.to_bytes(length)[..], &extensions].concat()
    }
}

/// Extension headers with their kinds; the first byte of each, what follows, is not written yet.
fn extensions(kind: u8) -> Vec<(u8, Vec<u8>)> {
    let options = |words: u8| {
        let mut bytes = vec![0, words, 1, 4];
        bytes.resize(8 * (usize::from(words) + 1), 0);
        bytes
    };
    match kind % KINDS {
        0 => vec![],
        1 => vec![(HOP_BY_HOP, options(0))],
        2 => vec![(DESTINATION_OPTIONS, options(2))],
        // All its hosts have been visited.
        3 => vec![(ROUTING, vec![0; 8])],
        // It leads on.
        4 => vec![(ROUTING, vec![0, 0, 0, 1, 0, 0, 0, 0])],
        // A fragment that is all of its packet (RFC 6946).
        5 => vec![(FRAGMENT, vec![0, 0, 0, 0, 0, 0, 0, 9])],
        6 => vec![
            (HOP_BY_HOP, options(1)),
            (DESTINATION_OPTIONS, options(0)),
            (ROUTING, vec![0; 8]),
        ],
        // In a wrong order.
        7 => vec![(DESTINATION_OPTIONS, options(0)), (HOP_BY_HOP, options(0))],
        // More than are followed.
        8 => vec![(DESTINATION_OPTIONS, options(0)); 6],
        // Longer than the packet.
        9 => vec![(DESTINATION_OPTIONS, vec![0, 255, 1, 4, 0, 0, 0, 0])],
        _ => vec![(HOP_BY_HOP, vec![0, 0, 0xc2, 4, 0, 1, 0, 0])],
    }
}

/// Makes an IPv4 header's checksum right, as far as there is a header.
pub(super) fn fix_header_checksum(packet: &mut [u8]) {
    let first = packet.first().copied().unwrap_or_default();
    let length = usize::from(first & 0xf) * 4;
    if first >> 4 == 4
        && let Some(header) = packet.get_mut(..length)
    {
        transport::set_field(header, 10, 0);
        let sum = checksum::checksum(header);
        transport::set_field(header, 10, sum);
    }
}

const KINDS: u8 = 11;
const JUMBO: u8 = 10;
