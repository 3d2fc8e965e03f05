//! NAT: the packet gets another destination on its way to the server, and another source on its
//! way back (`ip_vs_nat_xmit`, `tcp_dnat_handler` and their like).

use shared::addr::Protocol;
use shared::wire::checksum::{self, Change};
use shared::wire::ethernet;
use shared::wire::sctp;
use shared::wire::transport::{self, Port};
use shared::wire::vnet::VnetHeader;

use super::{Frame, Headers};
use crate::core::connection::Endpoint;
use crate::core::ip::{self, Ends, Ip, Passed};

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
    let ends = match which {
        Port::Source => Ends {
            source: Some(new.address),
            ..Ends::default()
        },
        Port::Destination => Ends {
            destination: Some(new.address),
            ..Ends::default()
        },
    };
    let Some(change) = ip::edit(header, headers.family, ends, Passed::On) else {
        return;
    };
    // A later fragment has no ports, and its checksum is in the first one.
    if headers.segment.is_none() {
        return;
    }
    match headers.flow.protocol {
        Protocol::TCP | Protocol::UDP => {
            let port = transport::set_port(segment, which, new.port);
            correct(header, segment, headers, vnet, sum, (change, port));
        }
        Protocol::SCTP => {
            let (source, destination) = match which {
                Port::Source => (Some(new.port), None),
                Port::Destination => (None, Some(new.port)),
            };
            sctp::set_ports(segment, source, destination);
        }
        // IPsec has neither ports nor a checksum of its own.
        _ => {}
    }
}

/// Both ends of the packet become new ones (FULLNAT), and there is one router less to go.
#[inline(always)]
pub(super) fn rewrite_both(
    frame: &mut Frame<'_>,
    vnet: VnetHeader,
    headers: &Headers,
    source: Endpoint,
    destination: Endpoint,
) {
    let Some((header, segment)) = frame.packet_mut().split_at_mut_checked(headers.ip_header) else {
        return;
    };
    let ends = Ends {
        source: Some(source.address),
        destination: Some(destination.address),
    };
    let Some(addresses) = ip::edit(header, headers.family, ends, Passed::On) else {
        return;
    };
    let ports = (source.port, destination.port);
    rewrite_ports(header, segment, headers, vnet, ports, addresses);
}

/// Both ports become new ones, and the transport checksum what it is with them and with a change of addresses,
/// which the packet's `header` may have or not. A later fragment stays as it is.
#[inline(always)]
pub(super) fn rewrite_ports(
    header: &[u8],
    segment: &mut [u8],
    headers: &Headers,
    vnet: VnetHeader,
    (source, destination): (u16, u16),
    addresses: Change,
) {
    let sum = Sum::of(vnet, headers);
    if headers.segment.is_none() {
        return;
    }
    if headers.flow.protocol == Protocol::SCTP {
        return sctp::set_ports(segment, Some(source), Some(destination));
    }
    let port = transport::set_port(segment, Port::Source, source);
    let other = transport::set_port(segment, Port::Destination, destination);
    correct(
        header,
        segment,
        headers,
        vnet,
        sum,
        (addresses, port.and(other)),
    );
}

/// The checksum of a TCP segment after a change of its pseudo header and of itself.
pub(super) fn amend(
    segment: &mut [u8],
    headers: &Headers,
    vnet: VnetHeader,
    pseudo: Change,
    change: Change,
) {
    let partial = is_partial(headers, vnet);
    update(segment, transport::TCP_CHECKSUM, partial, pseudo, change);
}

/// Whether the transport checksum is still to be completed.
pub(super) fn is_partial(headers: &Headers, vnet: VnetHeader) -> bool {
    Sum::of(vnet, headers) == Sum::Partial
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
pub(super) fn sum_up(header: &[u8], segment: &mut [u8]) {
    let Some(ip) = Ip::read(header) else {
        return;
    };
    let length = transport::field(segment, UDP_LENGTH).unwrap_or(0);
    let Some(datagram) = segment
        .get_mut(..usize::from(length))
        .filter(|_| ip.piece.is_none())
    else {
        return;
    };
    let pseudo = ip::pseudo(ip.source, ip.destination, Protocol::UDP, length);
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
