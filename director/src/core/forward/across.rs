//! FULLNAT from clients of IPv6 to real servers of IPv4: the packet gets a header of the other family
//! (RFC 7915), and what FULLNAT does to ports and numbers is done as ever.
//!
//! IPv4 packets with more than 1 260 bytes are not to be fragmented, as those of IPv6 never are. Smaller ones
//! may be: who sends them with IPv6 need not make them smaller, however narrow the way behind is.

use shared::addr::{Addr, Family, FlowKey, Protocol};
use shared::wire::checksum::Change;
use shared::wire::icmpv4::Error;
use shared::wire::transport;
use shared::wire::vnet::VnetHeader;
use shared::wire::{ipv4, ipv6};

use super::front::{Front, WITH_FRAGMENT_HEADER, front_bytes};
use super::full_nat::Rewritten;
use super::segments::Segments;
use super::{Director, Frame, Headers, Leg, cut, decrement_ttl, is_syn, nat};
use crate::core::balancer::{ConnectionId, Direction};
use crate::core::director::Arrival;
use crate::core::frame;
use crate::core::ip::{Ip, min_mtu};
use crate::core::net::Hop;
use crate::core::reason::Reason;
use crate::core::verdict::{Outbox, Outgoing, Verdict};

/// A packet on its way to the other family.
struct Crossing<'a> {
    /// What its headers say, with one router less to go.
    ip: Ip,
    ends: (Addr, Addr),
    /// Bytes of the largest packet that leaves.
    largest: usize,
    hop: &'a Hop,
    /// Identification of a packet that may be fragmented.
    identification: u16,
}

impl Director {
    /// Whether the ends of a FULLNAT connection are of two families.
    #[inline(never)]
    pub(in crate::core) fn crosses(&self, id: ConnectionId) -> bool {
        let connection = self.balancer.connection(id);
        connection.client().address.family() != connection.destination().address.family()
    }

    /// Sends a packet of a FULLNAT connection whose ends are of two families on its way.
    #[inline(never)]
    pub(super) fn forward_across(
        &mut self,
        arrival: Arrival,
        leg: Leg,
        hop: Hop,
        headers: &Headers,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let hop = &hop;
        let Leg {
            going, followed, ..
        } = leg;
        let (id, direction) = going;
        if headers.ttl <= 1 {
            self.complain_on_the_way(arrival, going, Error::TimeExceeded, frame, outbox);
            return Verdict::Drop(Reason::TtlExceeded);
        }
        let Some(ip) = Ip::read(frame.packet()) else {
            return Verdict::Drop(Reason::MalformedIp);
        };
        let vnet = frame.vnet();
        let (source, destination) = self.ends_there(id, direction);
        self.identification = self.identification.wrapping_add(1);
        let crossing = Crossing {
            ip: Ip {
                ttl: ip.ttl.wrapping_sub(1),
                ..ip
            },
            ends: (source.address, destination.address),
            largest: front_bytes(&ip)
                + headers
                    .largest(vnet, frame)
                    .saturating_sub(headers.ip_header),
            hop,
            identification: self.identification,
        };
        // What comes from IPv4 and need not stay whole is not segmented besides.
        let whole = crossing.dont_fragment() || vnet.is_gso() && ip.family() == Family::V4;
        if crossing.is_too_big() && whole {
            let mtu = crossing.mtu_here();
            if direction == Direction::Request {
                decrement_ttl(frame);
            }
            let error = Error::FragmentationNeeded { mtu };
            self.complain_on_the_way(arrival, going, error, frame, outbox);
            return Verdict::Drop(Reason::TooBig);
        }
        if !has_checksum(headers, &ip, frame) {
            return Verdict::Drop(Reason::NoChecksum);
        }
        if direction == Direction::Reply {
            self.count(arrival, id, direction, headers);
        }
        if followed && direction == Direction::Request {
            self.follow_position(id, direction, headers, frame);
        }
        if is_syn(headers) {
            self.lower_segment_size(going, headers, hop, frame);
        }
        // All that is behind the IP header, as long as the old one is there.
        let addresses =
            changed(ip.source, source.address).and(changed(ip.destination, destination.address));
        if let Some((header, segment)) = frame.packet_mut().split_at_mut_checked(headers.ip_header)
        {
            let ports = (source.port, destination.port);
            nat::rewrite_ports(header, segment, headers, vnet, ports, addresses);
        }
        let names = self.renumber(arrival.now, going, headers, frame);
        if followed && direction == Direction::Reply {
            self.follow_position(id, direction, headers, frame);
        }
        let total = Ip::read(frame.packet()).map_or(ip.total, |now| now.total);
        let crossing = Crossing {
            ip: Ip {
                total,
                ..crossing.ip
            },
            ..crossing
        };
        if ip.family() == Family::V4 && crossing.is_too_big() {
            return self.cross_in_pieces(&crossing, frame, outbox);
        }
        if !crossing.replace_header(frame) {
            let mut bytes = [&[0; SPARE_BYTES][..], frame.wire_bytes()].concat();
            let end = bytes.len();
            let Some(mut roomy) = Frame::new(&mut bytes, SPARE_BYTES, end) else {
                return Verdict::Drop(Reason::MalformedIp);
            };
            crossing.replace_header(&mut roomy);
            return match self.send(hop, &mut roomy) {
                Verdict::Forward(port) => {
                    outbox.push(Outgoing::Transmit(port, roomy.wire_bytes().to_vec()));
                    Verdict::Consumed
                }
                other => other,
            };
        }
        if direction == Direction::Request {
            let front = front_bytes(&ip);
            let flow = FlowKey {
                protocol: headers.flow.protocol,
                source: source.address,
                source_port: source.port,
                destination: destination.address,
                destination_port: destination.port,
            };
            let there = Headers {
                flow,
                ip_header: front,
                total: (total.saturating_sub(ip.header) + front) as u16,
                dont_fragment: crossing.dont_fragment(),
                family: Family::V4,
                ..*headers
            };
            if self.name(id, names, &there, hop, frame, outbox) == Rewritten::Replaced {
                return Verdict::Consumed;
            }
            if crossing.is_too_big() {
                return self.send_segments_in_pieces(hop, &there, frame, outbox);
            }
        }
        self.send(hop, frame)
    }

    /// Sends an IPv4 packet, or one of many segments, of which each is too big for the link.
    #[cold]
    fn send_segments_in_pieces(
        &mut self,
        hop: &Hop,
        headers: &Headers,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let vnet = frame.vnet();
        if !vnet.is_gso() {
            return self.send_in_pieces(hop, frame, outbox);
        }
        let Some(segments) = Segments::of(frame.packet(), vnet, headers) else {
            return Verdict::Drop(Reason::Unsegmentable);
        };
        for number in 0..segments.count() {
            let mut bytes = vec![0; frame::HEADERS];
            segments.append(number, &mut bytes);
            let end = bytes.len();
            if let Some(mut one) = Frame::new(&mut bytes, 0, end) {
                one.set_vnet(segments.vnet());
                self.send_in_pieces(hop, &mut one, outbox);
            }
        }
        Verdict::Consumed
    }

    /// Sends an IPv4 packet that is too big for the way of IPv6 and may be fragmented; nothing but its IP header
    /// is left to be changed.
    fn cross_in_pieces(
        &mut self,
        crossing: &Crossing<'_>,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        cut::complete(frame);
        let hop = crossing.hop;
        let room = crossing.mtu() - (WITH_FRAGMENT_HEADER - ipv4::MIN_HEADER);
        for piece in cut::pieces(frame.packet(), room) {
            let Some(ip) = Ip::read(&piece) else {
                continue;
            };
            let ip = Ip {
                ttl: crossing.ip.ttl,
                ..ip
            };
            let front = Front::of(&ip, crossing.ends, 0, false);
            let packet = [front.bytes(), ip.payload(&piece)];
            let destination = hop.destination.unwrap_or_default();
            let bytes = frame::compose(destination, hop.source, VnetHeader::default(), &packet);
            self.post(hop, bytes, outbox);
        }
        Verdict::Consumed
    }
}

impl Crossing<'_> {
    /// Bytes of the largest packet that the way out takes.
    fn mtu(&self) -> usize {
        self.hop.mtu.max(min_mtu(other(self.ip.family()))) as usize
    }

    fn is_too_big(&self) -> bool {
        self.largest > self.mtu()
    }

    /// Whether nobody may cut it, here or behind.
    fn dont_fragment(&self) -> bool {
        match self.ip.family() {
            Family::V4 => self.ip.dont_fragment,
            Family::V6 => self.ip.piece.is_none() && self.largest > MOST_SMALL,
        }
    }

    /// What fits into the way out, for its sender.
    fn mtu_here(&self) -> u16 {
        let mtu = (self.mtu() + self.ip.header).saturating_sub(front_bytes(&self.ip));
        let mtu = mtu.max(min_mtu(self.ip.family()) as usize);
        u16::try_from(mtu).unwrap_or(u16::MAX)
    }

    /// Puts the header of the other family in the place of the one there is. False if there is no room in front
    /// of the packet, as of one that has waited for its first fragment.
    fn replace_header(&self, frame: &mut Frame<'_>) -> bool {
        let to = other(self.ip.family());
        let own = (self.identification, self.dont_fragment());
        let front = Front::of(&self.ip, self.ends, own.0, own.1);
        if !frame.replace_front(self.ip.header, front.bytes().len()) {
            return false;
        }
        frame.set_family(to);
        let grown = front.bytes().len() as i16 - self.ip.header as i16;
        let vnet = frame.vnet().shifted(grown);
        let gso_type = match (to, vnet.gso_type & !ECN) {
            (Family::V4, TCP_V6) => TCP_V4 | vnet.gso_type & ECN,
            (Family::V6, TCP_V4) => TCP_V6 | vnet.gso_type & ECN,
            _ => vnet.gso_type,
        };
        frame.set_vnet(VnetHeader { gso_type, ..vnet });
        if let Some(header) = frame.packet_mut().get_mut(..front.bytes().len()) {
            header.copy_from_slice(front.bytes());
        }
        true
    }
}

const fn other(family: Family) -> Family {
    match family {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    }
}

/// Makes sure that a datagram of UDP has a checksum: with IPv6 it must have one. False if none can be made.
fn has_checksum(headers: &Headers, ip: &Ip, frame: &mut Frame<'_>) -> bool {
    let vnet = frame.vnet();
    if headers.flow.protocol != Protocol::UDP || headers.segment.is_none() {
        return true;
    }
    let Some((header, segment)) = frame.packet_mut().split_at_mut_checked(headers.ip_header) else {
        return false;
    };
    let has = || transport::field(segment, transport::UDP_CHECKSUM) != Some(0);
    if nat::is_partial(headers, vnet) || has() {
        return true;
    }
    if ip.piece.is_some() || vnet.is_partial() || vnet.is_gso() {
        return false;
    }
    nat::sum_up(header, segment);
    true
}

/// What changes in a pseudo header with an address: all else in it counts alike in both families.
fn changed(old: Addr, new: Addr) -> Change {
    Change::address(summed(old), summed(new))
}

/// What counts of an address.
fn summed(address: Addr) -> [u8; 16] {
    match address.family() {
        Family::V6 => address.to_bytes(),
        Family::V4 => {
            let mut bytes = [0; 16];
            bytes[12..].copy_from_slice(&address.to_v4_bytes());
            bytes
        }
    }
}

/// Bytes of the largest IPv4 packet that may be fragmented: one of the least MTU of IPv6 (RFC 7915
/// section 5.1).
const MOST_SMALL: usize = ipv6::MIN_MTU as usize - ipv6::HEADER + ipv4::MIN_HEADER;
/// More than a packet grows in front.
pub(super) const SPARE_BYTES: usize = 64;

// virtio 1.2 section 5.1.6.2
const TCP_V4: u8 = 1;
const TCP_V6: u8 = 4;
const ECN: u8 = 0x80;
