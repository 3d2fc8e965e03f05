//! NAT: the packet gets another destination on its way to the server, and another source on its
//! way back (`ip_vs_nat_xmit`, `tcp_dnat_handler` and their like).

use shared::addr::Protocol;
use shared::wire::checksum::{self, Change};
use shared::wire::ethernet;
use shared::wire::ipv4::Packet;
use shared::wire::transport::{self, Port};

use super::{Frame, Headers};
use crate::core::connection::Endpoint;

/// The VIP and its port become the server's.
pub(super) fn to_server(frame: &mut Frame<'_>, headers: &Headers, server: Endpoint) {
    rewrite(frame, headers, Port::Destination, server);
}

/// The server's address and port become the VIP's.
pub(super) fn to_client(frame: &mut Frame<'_>, headers: &Headers, vip: Endpoint) {
    rewrite(frame, headers, Port::Source, vip);
}

/// The state of a packet's transport checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sum {
    /// As on the wire.
    Complete,
    /// To be completed: it covers the pseudo header so far.
    Partial,
    /// As on the wire, but another one deeper in the packet is to be completed (a tunnel's), so that
    /// what this one covers is not all there yet.
    Outer,
}

impl Sum {
    fn of(frame: &Frame<'_>, headers: &Headers) -> Sum {
        let vnet = frame.vnet();
        let at = match headers.flow.protocol {
            Protocol::TCP => transport::TCP_CHECKSUM,
            _ => transport::UDP_CHECKSUM,
        };
        let start = ethernet::LENGTH + headers.ip_header;
        let own = (usize::from(vnet.csum_start), usize::from(vnet.csum_offset)) == (start, at);
        match (vnet.is_partial(), own) {
            (false, _) => Sum::Complete,
            (true, true) => Sum::Partial,
            (true, false) => Sum::Outer,
        }
    }
}

fn rewrite(frame: &mut Frame<'_>, headers: &Headers, which: Port, new: Endpoint) {
    let sum = Sum::of(frame, headers);
    let partial = sum == Sum::Partial;
    let may_sum = sum == Sum::Complete && !frame.vnet().is_gso();
    let Ok(mut packet) = Packet::new_lenient(frame.packet_mut()) else {
        return;
    };
    let address = new.address.to_v4_bytes();
    let old = match which {
        Port::Source => packet.source(),
        Port::Destination => packet.destination(),
    };
    match which {
        Port::Source => packet.set_source(address),
        Port::Destination => packet.set_destination(address),
    }
    if packet.fragment_offset() != 0 {
        return;
    }
    let fragment = packet.is_fragment();
    let (source, destination) = (packet.source(), packet.destination());
    let segment = packet.payload_mut();
    let port = transport::set_port(segment, which, new.port);
    let change = Change::quad(old, address);
    match headers.flow.protocol {
        Protocol::TCP => update(segment, transport::TCP_CHECKSUM, partial, change, port),
        _ if transport::field(segment, transport::UDP_CHECKSUM) != Some(0) || partial => {
            update(segment, transport::UDP_CHECKSUM, partial, change, port);
            if !partial {
                zero_is_ones(segment);
            }
        }
        // There is no sum to take of what is not all there: it stays without.
        _ if fragment || !may_sum => {}
        // A datagram without a checksum gets one, as from the kernel's IPVS.
        _ => {
            let length = transport::field(segment, UDP_LENGTH).unwrap_or(0);
            let Some(datagram) = segment.get_mut(..usize::from(length)) else {
                return;
            };
            let pseudo = checksum::pseudo_v4(source, destination, Protocol::UDP.0, length);
            let sum = !checksum::fold(checksum::sum(datagram, pseudo));
            transport::set_field(datagram, transport::UDP_CHECKSUM, sum);
            zero_is_ones(datagram);
        }
    }
}

/// A partial checksum covers the addresses only; whoever completes it sums the ports himself.
fn update(segment: &mut [u8], at: usize, partial: bool, addresses: Change, ports: Change) {
    let Some(field) = transport::field(segment, at) else {
        return;
    };
    let new = if partial {
        addresses.partial(field)
    } else {
        addresses.and(ports).complete(field)
    };
    transport::set_field(segment, at, new);
}

/// Zero would say that there is no checksum (RFC 768).
fn zero_is_ones(datagram: &mut [u8]) {
    if transport::field(datagram, transport::UDP_CHECKSUM) == Some(0) {
        transport::set_field(datagram, transport::UDP_CHECKSUM, 0xffff);
    }
}

const UDP_LENGTH: usize = 4;
