//! What a packet's headers say, read once.

use shared::addr::{Addr, FlowKey, Protocol};
use shared::wire::ipv4::Packet;
use shared::wire::vnet::VnetHeader;
use shared::wire::{ethernet, transport};

use crate::core::balancer::Segment;
use crate::core::frame::Frame;
use crate::core::protocol::tcp::TcpFlags;

/// The headers of a packet, read once.
#[derive(Debug, Clone, Copy)]
pub(in crate::core) struct Headers {
    pub(in crate::core) flow: FlowKey,
    /// None of a later fragment: the first one has moved the connection's state already.
    pub(in crate::core) segment: Option<Segment>,
    /// Bytes of the IP header.
    pub(in crate::core) ip_header: usize,
    /// Bytes of the IP packet.
    pub(in crate::core) total: u16,
    pub(in crate::core) ttl: u8,
    pub(in crate::core) dont_fragment: bool,
}

impl Headers {
    /// Of a whole packet or a first fragment, already checked as an IPv4 packet. None if the
    /// transport header is not whole.
    #[inline(always)]
    pub(super) fn read(packet: &Packet<&[u8]>) -> Option<Headers> {
        let payload = packet.payload();
        let segment = match Protocol(packet.protocol()) {
            Protocol::TCP => {
                Segment::tcp(TcpFlags::from_bits_retain(transport::tcp_flags(payload)?))
            }
            _ if packet.is_fragment() => {
                payload.get(..transport::UDP_HEADER)?;
                Segment::UDP
            }
            _ => transport::udp_is_whole(payload).then_some(Segment::UDP)?,
        };
        let flow = Headers::flow(packet)?;
        Some(Headers {
            segment: Some(segment),
            ..Headers::of_fragment(packet, flow)
        })
    }

    /// The flow of a whole packet or a first fragment, as far as can be told without a check.
    pub(super) fn peek(ethernet: &[u8]) -> Option<FlowKey> {
        let packet = Packet::new_lenient(ethernet.get(ethernet::LENGTH..)?).ok()?;
        Headers::flow(&packet)
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
    pub(super) fn of_fragment(packet: &Packet<&[u8]>, flow: FlowKey) -> Headers {
        Headers {
            flow,
            segment: None,
            ip_header: packet.header_length(),
            total: packet.total_length(),
            ttl: packet.ttl(),
            dont_fragment: packet.dont_fragment(),
        }
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
