//! What a packet's headers say, read once.

use shared::addr::{Addr, Family, FlowKey, Protocol};
use shared::wire::ipv4::Packet;
use shared::wire::vnet::VnetHeader;
use shared::wire::{ethernet, transport};

use crate::core::balancer::Segment;
use crate::core::frame::Frame;
use crate::core::ip::Ip;
use crate::core::protocol::sctp::Chunks;
use crate::core::protocol::tcp::TcpFlags;

/// The headers of a packet, read once.
#[derive(Debug, Clone, Copy)]
pub(in crate::core) struct Headers {
    pub(in crate::core) flow: FlowKey,
    /// None of a later fragment: the first one has moved the connection's state already.
    pub(in crate::core) segment: Option<Segment>,
    /// Bytes in front of the transport header: the IP header, of IPv6 with its extensions.
    pub(in crate::core) ip_header: usize,
    /// Bytes of the IP packet.
    pub(in crate::core) total: u16,
    pub(in crate::core) ttl: u8,
    pub(in crate::core) dont_fragment: bool,
    pub(in crate::core) family: Family,
}

impl Headers {
    /// Of a whole packet or a first fragment, already checked as an IPv4 packet. None if the
    /// transport header is not whole.
    #[inline(always)]
    pub(super) fn read(packet: &Packet<&[u8]>) -> Option<Headers> {
        let (protocol, payload) = (Protocol(packet.protocol()), packet.payload());
        let segment = segment(protocol, payload, packet.is_fragment())?;
        let flow = Headers::flow(packet)?;
        Some(Headers {
            flow,
            segment: Some(segment),
            ip_header: packet.header_length(),
            total: packet.total_length(),
            ttl: packet.ttl(),
            dont_fragment: packet.dont_fragment(),
            family: Family::V4,
        })
    }

    /// The same of either family, of a packet whose IP headers were read.
    pub(super) fn of(ip: &Ip, packet: &[u8]) -> Option<Headers> {
        let payload = ip.payload(packet);
        let segment = segment(ip.protocol, payload, ip.piece.is_some())?;
        let flow = ip.flow(payload)?;
        Some(Headers {
            segment: Some(segment),
            ..Headers::of_fragment(ip, flow)
        })
    }

    /// The flow of a whole packet or a first fragment, as far as can be told without a check.
    #[inline(always)]
    pub(super) fn peek(ethernet: &[u8]) -> Option<FlowKey> {
        let bytes = ethernet.get(ethernet::LENGTH..)?;
        match Packet::new_lenient(bytes) {
            Ok(packet) => Headers::flow(&packet),
            Err(_) => {
                let ip = Ip::read(bytes)?;
                ip.flow(ip.payload(bytes))
            }
        }
    }

    #[inline(always)]
    fn flow(packet: &Packet<&[u8]>) -> Option<FlowKey> {
        let (source_port, destination_port) = transport::ports(packet.payload())?;
        Some(FlowKey {
            protocol: Protocol(packet.protocol()),
            source: Addr::from_v4_bytes(packet.source()),
            source_port,
            destination: Addr::from_v4_bytes(packet.destination()),
            destination_port,
        })
    }

    /// Of a packet whose ports are known from elsewhere.
    #[inline]
    pub(super) fn of_fragment(ip: &Ip, flow: FlowKey) -> Headers {
        Headers {
            flow,
            segment: None,
            ip_header: ip.header,
            total: u16::try_from(ip.total).unwrap_or(u16::MAX),
            ttl: ip.ttl,
            dont_fragment: ip.dont_fragment,
            family: ip.family(),
        }
    }

    /// Of a TCP segment.
    #[inline]
    pub(in crate::core) fn tcp_flags(&self) -> Option<TcpFlags> {
        self.segment.and_then(Segment::tcp)
    }

    /// Bytes of the largest packet that the frame is or will be cut into.
    #[inline]
    pub(in crate::core) fn largest(&self, vnet: VnetHeader, frame: &Frame<'_>) -> usize {
        if !vnet.is_gso() {
            return usize::from(self.total);
        }
        let transport = match self.flow.protocol {
            Protocol::TCP => {
                let offset = frame.packet().get(self.ip_header + 12);
                offset.map_or(transport::TCP_HEADER, |byte| usize::from(byte >> 4) * 4)
            }
            _ => transport::UDP_HEADER,
        };
        usize::from(self.total).min(self.ip_header + transport + usize::from(vnet.gso_size))
    }
}

/// What a packet's payload does to its connection. None if the transport header is not whole.
#[inline(always)]
fn segment(protocol: Protocol, payload: &[u8], is_fragment: bool) -> Option<Segment> {
    match protocol {
        Protocol::TCP => {
            let flags = transport::tcp_flags(payload)?;
            Some(Segment::Tcp(TcpFlags::from_bits_retain(flags)))
        }
        Protocol::SCTP => Some(Segment::Sctp(Chunks::of(payload)?)),
        _ if is_fragment => {
            payload.get(..transport::UDP_HEADER)?;
            Some(Segment::Udp)
        }
        _ => transport::udp_is_whole(payload).then_some(Segment::Udp),
    }
}
