//! Packets that are well-formed until somebody damages them: what is behind the IP header.

use director::core::ip;
use shared::addr::{Addr, Family, Protocol};
use shared::wire::icmpv4::Error;
use shared::wire::sctp::{self, chunk};
use shared::wire::transport;
use shared::wire::vnet::{NEEDS_CSUM, VnetHeader};
use shared::wire::{checksum, ethernet, icmpv6};

/// An address and a port.
pub(super) type End = (Addr, u16);

/// A packet to be built. Both its ends are of one family.
#[derive(Debug, Clone)]
pub(super) struct Sketch {
    pub(super) protocol: Protocol,
    pub(super) source: End,
    pub(super) destination: End,
    pub(super) tcp_flags: u8,
    pub(super) ttl: u8,
    pub(super) identification: u16,
    /// Flags and offset as they stand in a header of IPv4.
    pub(super) fragment: u16,
    /// Of IPv4 words of options, of IPv6 which extension headers (see [`headers`](super::headers)).
    pub(super) options: u8,
    pub(super) payload: Vec<u8>,
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
    /// One that asks for a connection.
    pub(super) fn new(protocol: Protocol, source: End, destination: End) -> Sketch {
        Sketch {
            protocol,
            source,
            destination,
            tcp_flags: SYN,
            ttl: 64,
            identification: 77,
            fragment: shared::wire::ipv4::DF,
            options: 0,
            payload: counted(5),
            sum: Sum::Complete,
        }
    }

    pub(super) fn family(&self) -> Family {
        self.source.0.family()
    }

    /// The packet, and what is still to be done to it.
    pub(super) fn build(&self) -> (VnetHeader, Vec<u8>) {
        match self.protocol {
            Protocol::SCTP => self.build_sctp(),
            Protocol::TCP | Protocol::UDP => self.build_summed(),
            _ => (VnetHeader::default(), self.build_sealed()),
        }
    }

    fn build_summed(&self) -> (VnetHeader, Vec<u8>) {
        let mut segment = self.transport_header();
        let header_bytes = segment.len();
        segment.extend(&self.payload);
        let at = self.checksum_at();
        let length = segment.len() as u16;
        let pseudo = ip::pseudo(self.source.0, self.destination.0, self.protocol, length);
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
                vnet.csum_start = (ethernet::LENGTH + ip.len()) as u16;
                vnet.csum_offset = at as u16;
                if gso_size != 0 {
                    vnet.gso_type = match (self.protocol, self.family()) {
                        (Protocol::TCP, Family::V4) => 1,
                        (Protocol::TCP, Family::V6) => 4,
                        _ => 5,
                    };
                    vnet.gso_size = gso_size;
                    vnet.hdr_len = (ethernet::LENGTH + ip.len() + header_bytes) as u16;
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
        segment.extend((4 + self.payload.len() as u16).to_be_bytes());
        segment.extend(&self.payload);
        let ip = self.ip_header(self.protocol, segment.len());
        let mut vnet = VnetHeader::default();
        match self.sum {
            Sum::Complete => sctp::sum_up(&mut segment),
            Sum::Absent => {}
            Sum::Wrong => segment[sctp::CHECKSUM] ^= 1,
            Sum::Partial(gso_size) => {
                vnet.flags = NEEDS_CSUM;
                vnet.csum_start = (ethernet::LENGTH + ip.len()) as u16;
                vnet.csum_offset = sctp::CHECKSUM as u16;
                vnet.gso_size = gso_size;
                vnet.gso_type = u8::from(gso_size != 0);
            }
        }
        (vnet, [ip, segment].concat())
    }

    /// Of AH and ESP: nothing that anybody on the way could read.
    fn build_sealed(&self) -> Vec<u8> {
        let front = match self.protocol {
            // ESP, three words more, an index and a number.
            Protocol::AH => [50, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 7],
            _ => [0, 0, 1, 0, 0, 0, 0, 7, 1, 2, 3, 4],
        };
        let ip = self.ip_header(self.protocol, front.len() + self.payload.len());
        [&ip, &front[..], &self.payload].concat()
    }

    /// A part of the datagram's bytes behind the IP header, without a transport header of its own.
    pub(super) fn later_part(&self) -> Vec<u8> {
        let ip = self.ip_header(self.protocol, self.payload.len());
        [&ip[..], &self.payload].concat()
    }

    /// An ICMP error about this packet, of which so many bytes are quoted.
    pub(super) fn error(&self, speaker: Addr, error: Error, quoted: usize) -> Vec<u8> {
        let (_, packet) = self.build();
        let quoted = &packet[..packet.len().min(quoted)];
        let to = self.source.0;
        let (protocol, message) = match self.family() {
            Family::V4 => (Protocol::ICMP, error.message(quoted)),
            Family::V6 => {
                let (from, to) = (speaker.to_bytes(), to.to_bytes());
                (Protocol::ICMPV6, icmpv6::message(error, from, to, quoted))
            }
        };
        let about = Sketch {
            fragment: 0,
            ..Sketch::new(protocol, (speaker, 0), self.source)
        };
        let ip = about.ip_header(protocol, message.len());
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
            let length = transport::UDP_HEADER + self.payload.len();
            header.extend((length as u16).to_be_bytes());
            header.extend([0, 0]);
        }
        header
    }
}

/// So many bytes, of which each is another than the one before.
pub(super) fn counted(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| at as u8).collect()
}

/// The TCP flag that asks for a connection.
pub(super) const SYN: u8 = 2;
