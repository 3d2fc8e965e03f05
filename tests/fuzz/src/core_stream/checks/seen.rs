//! A frame as whoever receives it reads it.

use director::core::frame;
use director::core::ip::{self, Ip};
use shared::addr::{Family, FlowKey, Protocol};
use shared::wire::vnet::VnetHeader;
use shared::wire::{checksum, ethernet, icmpv4, icmpv6, ipv4, ipv6, sctp, transport};

/// The packet of a frame, without what a card puts behind it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) vnet: VnetHeader,
    pub(super) ip: Ip,
    pub(super) packet: Vec<u8>,
}

impl Seen {
    /// None if a receiver would not take it for a whole packet, or would not find what it carries.
    pub(super) fn of(wire: &[u8]) -> Option<Seen> {
        let vnet = VnetHeader::from_bytes(*wire.first_chunk()?);
        let packet = wire.get(frame::HEADERS..)?;
        let total = match ip::family_of(packet)? {
            Family::V4 => usize::from(ipv4::Packet::new_checked(packet).ok()?.total_length()),
            Family::V6 => ipv6::Packet::new_checked(packet).ok()?.total_length(),
        };
        let packet = packet.get(..total)?.to_vec();
        let ip = Ip::read(&packet)?;
        (ip.header <= total).then_some(Seen { vnet, ip, packet })
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.packet[self.ip.header..]
    }

    pub(super) fn is_fragment(&self) -> bool {
        self.ip.piece.is_some()
    }

    pub(super) fn is_icmp(&self) -> bool {
        matches!(self.ip.protocol, Protocol::ICMP | Protocol::ICMPV6)
    }

    pub(super) fn tcp_flags(&self) -> Option<u8> {
        let of_tcp = self.ip.protocol == Protocol::TCP;
        of_tcp.then(|| transport::tcp_flags(self.payload()))?
    }

    /// None of a later fragment, and of what has no ports.
    pub(super) fn flow(&self) -> Option<FlowKey> {
        let begins = !self.ip.is_later_fragment() && self.ip.protocol.has_ports();
        begins.then(|| self.ip.flow(self.payload()))?
    }

    /// The IP headers without what a forwarder changes: addresses, hop limit, lengths, checksum.
    pub(super) fn kept_header(&self) -> Vec<u8> {
        let mut header = self.packet[..self.ip.header].to_vec();
        let changed: &[std::ops::Range<usize>] = match self.ip.family() {
            Family::V4 => &[2..4, 8..9, 10..20],
            Family::V6 => &[4..6, 7..40],
        };
        for range in changed {
            header[range.clone()].fill(0);
        }
        header
    }

    /// Whether the checksum that is still to be completed is that of the packet itself.
    pub(super) fn is_own_partial(&self) -> bool {
        let at = match self.ip.protocol {
            Protocol::TCP => transport::TCP_CHECKSUM,
            Protocol::SCTP => sctp::CHECKSUM,
            _ => transport::UDP_CHECKSUM,
        };
        let start = ethernet::LENGTH + self.ip.header;
        let own = (start as u16, at as u16);
        self.vnet.is_partial() && (self.vnet.csum_start, self.vnet.csum_offset) == own
    }

    /// Whether its receiver takes what is in it, after a card has completed what is left to it. None of a
    /// fragment, and of what has no checksum, for nobody can tell.
    pub(super) fn is_sound(&self) -> Option<bool> {
        if self.is_fragment() {
            return None;
        }
        let (source, destination) = (self.ip.source, self.ip.destination);
        match self.ip.protocol {
            Protocol::ICMP => Some(checksum::verifies(self.payload())),
            Protocol::ICMPV6 => {
                let ends = (source.to_bytes(), destination.to_bytes());
                Some(icmpv6::verifies(self.payload(), ends.0, ends.1))
            }
            Protocol::SCTP => Some(sctp::verifies(self.payload()) || self.is_own_partial()),
            Protocol::TCP | Protocol::UDP => Some(self.is_summed()),
            _ => None,
        }
    }

    /// Whether it is a datagram that says that it has none.
    pub(super) fn has_no_checksum(&self) -> bool {
        let sum = transport::field(self.payload(), transport::UDP_CHECKSUM);
        self.ip.protocol == Protocol::UDP && sum == Some(0)
    }

    fn is_summed(&self) -> bool {
        let of_udp = self.ip.protocol == Protocol::UDP;
        let at = match of_udp {
            true => transport::UDP_CHECKSUM,
            false => transport::TCP_CHECKSUM,
        };
        let mut packet = self.packet.clone();
        if !self.vnet.is_gso() {
            complete(self.vnet, &mut packet);
        }
        let segment = &packet[self.ip.header..];
        let covered = match transport::field(segment, 4) {
            Some(length) if of_udp => usize::from(length),
            _ => segment.len(),
        };
        let (Some(segment), Ok(length)) = (segment.get(..covered), u16::try_from(covered)) else {
            return false;
        };
        let ends = (self.ip.source, self.ip.destination);
        let pseudo = ip::pseudo(ends.0, ends.1, self.ip.protocol, length);
        match transport::field(segment, at) {
            Some(field) if self.vnet.is_gso() => {
                self.is_own_partial() && field % 0xffff == checksum::fold(pseudo) % 0xffff
            }
            Some(0) if of_udp => self.ip.family() == Family::V4,
            Some(_) => checksum::fold(checksum::sum(segment, pseudo)) == 0xffff,
            None => false,
        }
    }

    /// What is summed up of its transport, as it stands there: it stays the same, whatever is rewritten, also of a
    /// fragment, and of what is not sound. None where nothing is summed up, or not yet.
    pub(super) fn total_sum(&self) -> Option<u16> {
        let summed = match self.ip.protocol {
            Protocol::TCP => true,
            Protocol::UDP => transport::field(self.payload(), transport::UDP_CHECKSUM) != Some(0),
            _ => false,
        };
        if !summed || self.vnet.is_partial() {
            return None;
        }
        let ends = (self.ip.source, self.ip.destination);
        let length = self.payload().len() as u16;
        let pseudo = ip::pseudo(ends.0, ends.1, self.ip.protocol, length);
        Some(checksum::fold(checksum::sum(self.payload(), pseudo)) % 0xffff)
    }

    /// Whether it begins an ICMP error that a router sends.
    pub(super) fn is_error(&self) -> bool {
        let message = self.payload();
        match self.ip.protocol {
            Protocol::ICMP => matches!(
                message.first(),
                Some(&(icmpv4::UNREACHABLE | icmpv4::TIME_EXCEEDED))
            ),
            Protocol::ICMPV6 => icmpv6::is_error(message),
            _ => false,
        }
    }
}

/// As a card does.
fn complete(vnet: VnetHeader, packet: &mut [u8]) {
    let start = usize::from(vnet.csum_start).checked_sub(ethernet::LENGTH);
    let Some(start) = start.filter(|_| vnet.is_partial()) else {
        return;
    };
    let at = start + usize::from(vnet.csum_offset);
    let Some(covered) = packet.get(start..) else {
        return;
    };
    let sum = match checksum::checksum(covered) {
        0 => 0xffff,
        sum => sum,
    };
    transport::set_field(packet, at, sum);
}
