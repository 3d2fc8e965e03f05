//! Packets that are well-formed until somebody damages them.

use shared::addr::Protocol;
use shared::wire::checksum;
use shared::wire::icmpv4;
use shared::wire::ipv4;
use shared::wire::sctp::{self, chunk};
use shared::wire::transport;
use shared::wire::vnet::{NEEDS_CSUM, VnetHeader};

/// An address and a port.
pub(super) type End = ([u8; 4], u16);

/// A TCP, UDP or SCTP packet to be built.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sketch {
    pub(super) protocol: Protocol,
    pub(super) source: End,
    pub(super) destination: End,
    pub(super) tcp_flags: u8,
    pub(super) ttl: u8,
    pub(super) identification: u16,
    /// Flags and offset as they stand in the header.
    pub(super) fragment: u16,
    /// Words of options behind the IP header.
    pub(super) option_words: u8,
    pub(super) payload: usize,
    pub(super) sum: Sum,
}

/// What a packet's transport checksum is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sum {
    Complete,
    /// To be completed by whoever sends it on, in segments of so many bytes or (0) whole.
    Partial(u16),
    Absent,
    Wrong,
}

impl Sketch {
    /// The packet, and what is still to be done to it.
    pub(super) fn build(&self) -> (VnetHeader, Vec<u8>) {
        if self.protocol == Protocol::SCTP {
            return self.build_sctp();
        }
        let mut segment = self.transport_header();
        let header_bytes = segment.len();
        segment.extend((0..self.payload).map(|at| at as u8));
        let at = self.checksum_at();
        let pseudo = checksum::pseudo_v4(
            self.source.0,
            self.destination.0,
            self.protocol.0,
            segment.len() as u16,
        );
        let complete = !checksum::fold(checksum::sum(&segment, pseudo));
        let ip = self.ip_header(self.protocol, segment.len());
        let mut vnet = VnetHeader::default();
        let field = match self.sum {
            Sum::Complete if complete == 0 => 0xffff,
            Sum::Complete => complete,
            Sum::Absent => 0,
            Sum::Wrong => complete ^ 0x0100,
            Sum::Partial(gso_size) => {
                vnet.flags = NEEDS_CSUM;
                vnet.csum_start = (ETHERNET + ip.len()) as u16;
                vnet.csum_offset = at as u16;
                if gso_size != 0 {
                    vnet.gso_type = if self.protocol == Protocol::TCP { 1 } else { 5 };
                    vnet.gso_size = gso_size;
                    vnet.hdr_len = (ETHERNET + ip.len() + header_bytes) as u16;
                }
                checksum::fold(pseudo)
            }
        };
        transport::set_field(&mut segment, at, field);
        (vnet, [ip, segment].concat())
    }

    /// One chunk, whose type the TCP flags say.
    fn build_sctp(&self) -> (VnetHeader, Vec<u8>) {
        let kind = match self.tcp_flags {
            SYN => chunk::INIT,
            flags => flags & 0x0f,
        };
        let mut segment = self.source.1.to_be_bytes().to_vec();
        segment.extend(self.destination.1.to_be_bytes());
        segment.extend([1, 2, 3, 4, 0, 0, 0, 0, kind, 0]);
        segment.extend((4 + self.payload as u16).to_be_bytes());
        segment.extend((0..self.payload).map(|at| at as u8));
        let ip = self.ip_header(self.protocol, segment.len());
        let mut vnet = VnetHeader::default();
        match self.sum {
            Sum::Complete => sctp::sum_up(&mut segment),
            Sum::Absent => {}
            Sum::Wrong => segment[sctp::CHECKSUM] ^= 1,
            Sum::Partial(gso_size) => {
                vnet.flags = NEEDS_CSUM;
                vnet.csum_start = (ETHERNET + ip.len()) as u16;
                vnet.csum_offset = sctp::CHECKSUM as u16;
                vnet.gso_size = gso_size;
                vnet.gso_type = u8::from(gso_size != 0);
            }
        }
        (vnet, [ip, segment].concat())
    }

    /// A part of the datagram's bytes behind the IP header, without a transport header of its own.
    pub(super) fn later_part(&self) -> Vec<u8> {
        let ip = self.ip_header(self.protocol, self.payload);
        [ip, (0..self.payload).map(|at| at as u8).collect()].concat()
    }

    /// An ICMP error about this packet, of which so many bytes are quoted.
    pub(super) fn error(&self, speaker: [u8; 4], message: icmpv4::Error, quoted: usize) -> Vec<u8> {
        let (_, packet) = self.build();
        let message = message.message(&packet[..packet.len().min(quoted)]);
        let about = Sketch {
            source: (speaker, 0),
            destination: self.source,
            fragment: 0,
            ttl: 64,
            ..*self
        };
        let ip = about.ip_header(Protocol::ICMP, message.len());
        [ip, message].concat()
    }

    fn checksum_at(&self) -> usize {
        match self.protocol {
            Protocol::TCP => transport::TCP_CHECKSUM,
            _ => transport::UDP_CHECKSUM,
        }
    }

    fn transport_header(&self) -> Vec<u8> {
        let mut header = Vec::new();
        header.extend(self.source.1.to_be_bytes());
        header.extend(self.destination.1.to_be_bytes());
        if self.protocol == Protocol::TCP {
            let flags = self.tcp_flags;
            header.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        } else {
            header.extend((transport::UDP_HEADER as u16 + self.payload as u16).to_be_bytes());
            header.extend([0, 0]);
        }
        header
    }

    fn ip_header(&self, protocol: Protocol, payload: usize) -> Vec<u8> {
        let options = usize::from(self.option_words) * 4;
        let header = ipv4::Header {
            tos: 0,
            identification: self.identification,
            fragment: self.fragment,
            ttl: self.ttl,
            protocol: protocol.0,
            source: self.source.0,
            destination: self.destination.0,
        };
        let mut bytes = header.to_bytes(payload + options).to_vec();
        // No-operations, and one option that every fragment has to carry.
        bytes.resize(bytes.len() + options, 1);
        if let Some(first) = bytes.get_mut(ipv4::MIN_HEADER..ipv4::MIN_HEADER + 4) {
            first.copy_from_slice(&[0x94, 4, 0, 0]);
        }
        bytes[0] = 0x45 + self.option_words;
        fix_header_checksum(&mut bytes);
        bytes
    }
}

/// Makes an IP header's checksum right, as far as there is a header.
pub(super) fn fix_header_checksum(packet: &mut [u8]) {
    let length = usize::from(packet.first().map_or(0, |byte| byte & 0xf)) * 4;
    if let Some(header) = packet.get_mut(..length) {
        transport::set_field(header, 10, 0);
        let sum = checksum::checksum(header);
        transport::set_field(header, 10, sum);
    }
}

/// The TCP flag that asks for a connection.
const SYN: u8 = 2;

const ETHERNET: usize = shared::wire::ethernet::LENGTH;
