//! What a tunnel puts in front of a packet: IP in IP (RFC 2003, RFC 2473), in GUE, in GRE, each family in
//! either (`ip_vs_tunnel_xmit`, `ip_vs_tunnel_xmit_v6`). Bytes only: which tunnel and between whom is decided
//! elsewhere.

use shared::addr::{Addr, Family, FlowKey, Protocol};
use shared::wire::vnet::VnetHeader;
use shared::wire::{checksum, ethernet, gre, gue, ipv4, transport};

use crate::core::ip::{self, Ip, Own, family_of, header_bytes};
use crate::core::operation::{Tunnel, TunnelChecksum};

/// The outer headers of the packets to one real server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outer {
    pub(super) tunnel: Tunnel,
    /// The director.
    pub(super) source: Addr,
    /// The real server, of the same family.
    pub(super) destination: Addr,
    /// GUE: the UDP source port, by which receivers and links tell flows apart.
    pub(super) flow_port: u16,
}

/// What differs from packet to packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Label {
    pub(super) identification: u16,
    pub(super) dont_fragment: bool,
}

impl Outer {
    /// Bytes that come in front of a packet. `partial`: whether the packet's own checksum is still to
    /// be completed.
    pub(super) fn overhead(&self, partial: bool) -> usize {
        self.ip_header()
            + match self.tunnel {
                Tunnel::Ipip => 0,
                Tunnel::Gue { checksum, .. } if partial && checksum == TunnelChecksum::Remote => {
                    transport::UDP_HEADER + gue::HEADER + gue::REMOTE_CHECKSUM
                }
                Tunnel::Gue { .. } => transport::UDP_HEADER + gue::HEADER,
                Tunnel::Gre {
                    checksum: TunnelChecksum::None,
                } => gre::HEADER,
                Tunnel::Gre { .. } => gre::HEADER + gre::CHECKSUM,
            }
    }

    /// Of the outer header.
    pub(super) fn family(&self) -> Family {
        self.source.family()
    }

    fn ip_header(&self) -> usize {
        header_bytes(self.family())
    }

    /// Writes the outer headers at the beginning of `packet`, whose first
    /// [`overhead`](Self::overhead) bytes are free and whose others are the inner packet. `vnet` says
    /// what is still to be done to the inner packet, and offsets in it count from an Ethernet header in
    /// front of that. Returns what is still to be done to the whole.
    ///
    /// The packet is one segment. It must have been checked as an IP packet.
    pub(super) fn write(&self, packet: &mut [u8], vnet: VnetHeader, label: Label) -> VnetHeader {
        let overhead = self.overhead(vnet.is_partial());
        let Some((outer, inner)) = packet.split_at_mut_checked(overhead) else {
            return VnetHeader::default();
        };
        let Some(carried) = Ip::read(inner) else {
            return VnetHeader::default();
        };
        let (header, encapsulation) = outer.split_at_mut(self.ip_header());
        let mut left = VnetHeader::default();
        if vnet.is_partial() {
            left.flags = shared::wire::vnet::NEEDS_CSUM;
            left.csum_start = vnet.csum_start.wrapping_add(overhead as u16);
            left.csum_offset = vnet.csum_offset;
        }
        let family = carried.family();
        let protocol = match self.tunnel {
            Tunnel::Ipip => in_ip(family),
            Tunnel::Gue { port, checksum } => {
                if checksum == TunnelChecksum::Remote && vnet.is_partial() {
                    left = VnetHeader::default();
                }
                self.write_gue(encapsulation, inner, port, checksum, vnet);
                Protocol::UDP
            }
            Tunnel::Gre { checksum } => {
                write_gre(encapsulation, inner, checksum, vnet);
                GRE
            }
        };
        let outer = Own {
            source: self.source,
            destination: self.destination,
            protocol,
            tos: outer_tos(carried.tos),
            ttl: carried.ttl,
            identification: label.identification,
            fragment: if label.dont_fragment { ipv4::DF } else { 0 },
        };
        outer.write(header, encapsulation.len() + inner.len());
        left
    }

    fn write_gue(
        &self,
        encapsulation: &mut [u8],
        inner: &[u8],
        port: u16,
        checksum: TunnelChecksum,
        vnet: VnetHeader,
    ) {
        let length = (encapsulation.len() + inner.len()) as u16;
        let (udp, gue) = encapsulation.split_at_mut(transport::UDP_HEADER);
        let remote = checksum == TunnelChecksum::Remote && vnet.is_partial();
        let carried = in_ip(family_of(inner).unwrap_or(Family::V4)).0;
        if remote {
            let (start, field) = summed(vnet);
            let (start, field) = (start as u16, field as u16);
            gue.copy_from_slice(&gue::header_with_remote_checksum(carried, start, field));
        } else {
            gue.copy_from_slice(&gue::header(carried));
        }
        transport::set_field(udp, 0, self.flow_port);
        transport::set_field(udp, 2, port);
        transport::set_field(udp, UDP_LENGTH, length);
        transport::set_field(udp, transport::UDP_CHECKSUM, 0);
        if checksum == TunnelChecksum::None {
            return;
        }
        let pseudo = ip::pseudo(self.source, self.destination, Protocol::UDP, length);
        let inner_sum = if remote {
            checksum::sum(inner, 0)
        } else {
            final_sum(inner, vnet)
        };
        let sum = checksum::sum(encapsulation, pseudo) + inner_sum;
        let sum = match !checksum::fold(sum) {
            0 => 0xffff,
            sum => sum,
        };
        transport::set_field(encapsulation, transport::UDP_CHECKSUM, sum);
    }
}

fn write_gre(encapsulation: &mut [u8], inner: &[u8], checksum: TunnelChecksum, vnet: VnetHeader) {
    let carried = match family_of(inner) {
        Some(Family::V6) => ethernet::IPV6,
        _ => ethernet::IPV4,
    };
    if checksum == TunnelChecksum::None {
        encapsulation.copy_from_slice(&gre::header(carried));
        return;
    }
    encapsulation.copy_from_slice(&gre::header_with_checksum(carried));
    let sum = checksum::sum(encapsulation, 0) + final_sum(inner, vnet);
    transport::set_field(encapsulation, gre::CHECKSUM_AT, !checksum::fold(sum));
}

/// The sum of the inner packet as it will be on the wire. Where its own checksum is still to be
/// completed, it and all that it covers will add up to the complement of what stands in its field now, so
/// that nobody need look at the data (`lco_csum`).
fn final_sum(inner: &[u8], vnet: VnetHeader) -> u32 {
    if !vnet.is_partial() {
        return checksum::sum(inner, 0);
    }
    let (start, field) = summed(vnet);
    let pseudo = transport::field(inner, field).unwrap_or(0);
    let before = inner.get(..start).unwrap_or_default();
    checksum::sum(before, u32::from(!pseudo))
}

/// Where the sum of a partial checksum begins and where it goes, from the IP header on.
fn summed(vnet: VnetHeader) -> (usize, usize) {
    let start = usize::from(vnet.csum_start).saturating_sub(ethernet::LENGTH);
    (start, start + usize::from(vnet.csum_offset))
}

/// The type of service of the outer header: "congestion experienced" does not go outside (RFC 3168
/// section 9.1.1, full functionality).
fn outer_tos(inner: u8) -> u8 {
    if inner & ECN == CONGESTION_EXPERIENCED {
        inner & !ECN | ECN_CAPABLE_0
    } else {
        inner
    }
}

/// The UDP source port of a flow's packets, in the range that the kernel takes them from
/// (`udp_flow_src_port` with the default of `ip_local_port_range`).
pub(super) fn flow_port(flow: &FlowKey) -> u16 {
    let bits = u64::from(flow.source_port) << 48
        | u64::from(flow.destination_port) << 32
        | u64::from(flow.source.to_bits() as u32);
    let spread = bits.wrapping_mul(SPREAD) >> 32;
    FIRST_PORT + ((spread * u64::from(PORTS)) >> 32) as u16
}

/// What an encapsulated packet, quoted in an error, was addressed to besides the real server (the GUE
/// port, else 0), and the bytes of its encapsulation behind the outer IP header; none unless it carries IP.
pub(in crate::core) fn encapsulation(protocol: Protocol, bytes: &[u8]) -> Option<(u16, usize)> {
    match protocol {
        IPIP | IPV6 => Some((0, 0)),
        GRE => {
            let (carried, length) = gre::parse(bytes)?;
            matches!(carried, ethernet::IPV4 | ethernet::IPV6).then_some((0, length))
        }
        Protocol::UDP => {
            let (_, port) = transport::ports(bytes)?;
            let (carried, length) = gue::parse(bytes.get(transport::UDP_HEADER..)?)?;
            let is_ip = matches!(Protocol(carried), IPIP | IPV6);
            is_ip.then_some((port, transport::UDP_HEADER + length))
        }
        _ => None,
    }
}

/// The number of a family inside of an IP header.
const fn in_ip(family: Family) -> Protocol {
    match family {
        Family::V4 => IPIP,
        Family::V6 => IPV6,
    }
}

/// The protocol of a tunnel's outer header, in which packets of this family travel, and the port that tells
/// it from others; 0 where there is none.
pub(in crate::core) fn outer_protocol(tunnel: Tunnel, inside: Family) -> (Protocol, u16) {
    match tunnel {
        Tunnel::Ipip => (in_ip(inside), 0),
        Tunnel::Gre { .. } => (GRE, 0),
        Tunnel::Gue { port, .. } => (Protocol::UDP, port),
    }
}

const IPIP: Protocol = Protocol(4);
const IPV6: Protocol = Protocol(41);
const GRE: Protocol = Protocol(47);
const UDP_LENGTH: usize = 4;
const ECN: u8 = 3;
const CONGESTION_EXPERIENCED: u8 = 3;
const ECN_CAPABLE_0: u8 = 2;
const FIRST_PORT: u16 = 32768;
const PORTS: u16 = 60999 - 32768;
/// 2^64 divided by the golden ratio: neighbouring flows land far apart.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests;
