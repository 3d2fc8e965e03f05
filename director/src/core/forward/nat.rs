//! NAT: the packet gets another destination on its way to the server, and another source on its
//! way back (`ip_vs_nat_xmit`, `tcp_dnat_handler` and their like).

use shared::addr::Protocol;
use shared::wire::checksum::{self, Change};
use shared::wire::ethernet;
use shared::wire::ipv4::{Edit, Packet};
use shared::wire::transport::{self, Port};
use shared::wire::vnet::VnetHeader;

use super::{Frame, Headers};
use crate::core::connection::Endpoint;

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
    #[inline]
    fn of(vnet: VnetHeader, headers: &Headers) -> Sum {
        if !vnet.is_partial() {
            return Sum::Complete;
        }
        let at = match headers.flow.protocol {
            Protocol::TCP => transport::TCP_CHECKSUM,
            _ => transport::UDP_CHECKSUM,
        };
        let start = ethernet::LENGTH + headers.ip_header;
        if (usize::from(vnet.csum_start), usize::from(vnet.csum_offset)) == (start, at) {
            Sum::Partial
        } else {
            Sum::Outer
        }
    }
}

/// One end of the packet becomes `new`: on its way to the server the VIP and its port (the destination)
/// become the server's, on its way back the server's (the source) become the VIP's. And there is one
/// router less to go.
#[inline(always)]
pub(super) fn rewrite(
    frame: &mut Frame<'_>,
    vnet: VnetHeader,
    headers: &Headers,
    which: Port,
    new: Endpoint,
) {
    let sum = Sum::of(vnet, headers);
    let Some((header, segment)) = frame.packet_mut().split_at_mut_checked(headers.ip_header) else {
        return;
    };
    let Some(mut edit) = Edit::new(header) else {
        return;
    };
    let address = new.address.to_v4_bytes();
    let change = match which {
        Port::Source => edit.set_source(address),
        Port::Destination => edit.set_destination(address),
    };
    edit.decrement_ttl();
    edit.finish();
    // A later fragment has no ports, and its checksum is in the first one.
    if headers.segment.is_none() {
        return;
    }
    let port = transport::set_port(segment, which, new.port);
    correct(header, segment, headers, vnet, sum, (change, port));
}

/// Both ends of the packet become new ones (FULLNAT), and there is one router less to go.
pub(super) fn rewrite_both(
    frame: &mut Frame<'_>,
    vnet: VnetHeader,
    headers: &Headers,
    source: Endpoint,
    destination: Endpoint,
) {
    let sum = Sum::of(vnet, headers);
    let Some((header, segment)) = frame.packet_mut().split_at_mut_checked(headers.ip_header) else {
        return;
    };
    let Some(mut edit) = Edit::new(header) else {
        return;
    };
    let addresses = edit
        .set_source(source.address.to_v4_bytes())
        .and(edit.set_destination(destination.address.to_v4_bytes()));
    edit.decrement_ttl();
    edit.finish();
    if headers.segment.is_none() {
        return;
    }
    let ports = transport::set_port(segment, Port::Source, source.port).and(transport::set_port(
        segment,
        Port::Destination,
        destination.port,
    ));
    correct(header, segment, headers, vnet, sum, (addresses, ports));
}

/// The checksum of a TCP segment after a change of its pseudo header and of itself.
pub(super) fn amend(
    segment: &mut [u8],
    headers: &Headers,
    vnet: VnetHeader,
    pseudo: Change,
    change: Change,
) {
    let partial = Sum::of(vnet, headers) == Sum::Partial;
    update(segment, transport::TCP_CHECKSUM, partial, pseudo, change);
}

/// The transport checksum after a change of addresses and ports.
#[inline(always)]
fn correct(
    header: &[u8],
    segment: &mut [u8],
    headers: &Headers,
    vnet: VnetHeader,
    sum: Sum,
    (change, port): (Change, Change),
) {
    let partial = sum == Sum::Partial;
    match headers.flow.protocol {
        Protocol::TCP => update(segment, transport::TCP_CHECKSUM, partial, change, port),
        _ if transport::field(segment, transport::UDP_CHECKSUM) != Some(0) || partial => {
            update(segment, transport::UDP_CHECKSUM, partial, change, port);
            if !partial {
                zero_is_ones(segment);
            }
        }
        // There is no sum to take of what is not all there: it stays without.
        _ if sum == Sum::Complete && !vnet.is_gso() => sum_up(header, segment),
        _ => {}
    }
}

/// A datagram without a checksum gets one, as from the kernel's IPVS.
#[cold]
fn sum_up(header: &[u8], segment: &mut [u8]) {
    let Ok(packet) = Packet::new_lenient(header) else {
        return;
    };
    let length = transport::field(segment, UDP_LENGTH).unwrap_or(0);
    let Some(datagram) = segment
        .get_mut(..usize::from(length))
        .filter(|_| !packet.is_fragment())
    else {
        return;
    };
    let (source, destination) = (packet.source(), packet.destination());
    let pseudo = checksum::pseudo_v4(source, destination, Protocol::UDP.0, length);
    let sum = !checksum::fold(checksum::sum(datagram, pseudo));
    transport::set_field(datagram, transport::UDP_CHECKSUM, sum);
    zero_is_ones(datagram);
}

/// A partial checksum covers the addresses only; whoever completes it sums the ports himself.
#[inline(always)]
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
#[inline]
fn zero_is_ones(datagram: &mut [u8]) {
    if transport::field(datagram, transport::UDP_CHECKSUM) == Some(0) {
        transport::set_field(datagram, transport::UDP_CHECKSUM, 0xffff);
    }
}

const UDP_LENGTH: usize = 4;
