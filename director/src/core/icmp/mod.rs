//! ICMP: errors about connections, and errors of our own (`ip_vs_in_icmp`, `ip_vs_out_icmp`,
//! `icmp_send`).

mod across;
mod limit;
mod tunnel;

pub use limit::{Limiter, Limits};

use std::net::IpAddr;

use shared::addr::{Addr, Family, FlowKey, Protocol};
use shared::time::Time;
use shared::wire::icmpv4::{self, Error};
use shared::wire::transport::{self, Port};
use shared::wire::{checksum, icmpv6, ipv6};

use super::balancer::{ConnectionId, Direction};
use super::connection::Endpoint;
use super::director::{Arrival, Director};
use super::forward::sequence::{self, Shift};
use super::forward::{decrement_ttl, nowhere};
use super::frame::{self, Frame};
use super::ip::{self, Ends, Ip, OWN_TTL, Own, Passed, header_bytes, min_mtu};
use super::net::{Mac, PortId};
use super::operation::ForwardMethod;
use super::protocol::ipsec::key_exchange;
use super::reason::Reason;
use super::verdict::{Outbox, Outgoing, Verdict};

impl Director {
    /// An ICMP message. Errors about packets of connections go where those came from; all others
    /// are the host's.
    pub(super) fn icmp(
        &mut self,
        now: Time,
        ip: &Ip,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let message = ip.payload(frame.packet());
        let receiver = ip.destination;
        if !is_error(ip.family(), message) {
            return Verdict::Local;
        }
        if let Some(verdict) = self.icmp_about_tunnel(now, frame, outbox) {
            return verdict;
        }
        let quoted = message.get(HEADER..).and_then(quoted_flow);
        let Some(quoted) = quoted.filter(|flow| flow.source.family() == ip.family()) else {
            return Verdict::Local;
        };
        // The quoted packet went the other way.
        let flow = quoted.reversed();
        let known = self.balancer.find(&flow);
        let Some((id, direction)) = known.or_else(|| {
            let id = self.balancer.schedule_icmp(now, &flow)?;
            Some((id, Direction::Request))
        }) else {
            return Verdict::Local;
        };
        let connection = self.balancer.connection(id);
        let method = connection.forward();
        // So is what it is about: nothing of IPsec goes by FULLNAT.
        if method == ForwardMethod::FullNat && is_about_ipsec(message) {
            return Verdict::Local;
        }
        let end = match direction {
            Direction::Request => connection.destination(),
            Direction::Reply => connection.virtual_endpoint(),
        };
        // With FULLNAT the other end has another name as well.
        let other = (method == ForwardMethod::FullNat).then(|| match direction {
            Direction::Request => (self.balancer.local_end(connection), Shift::default()),
            Direction::Reply => (connection.client(), self.balancer.shift(id)),
        });
        let receiver = match (direction, other) {
            (Direction::Reply, Some((client, _))) => client.address,
            _ => receiver,
        };
        if method.is_nat() && !verifies(ip, message) {
            return Verdict::Drop(Reason::IcmpChecksum);
        }
        // Counted where packets are, see `forward`. Nobody is told of a failure: it is an error
        // itself.
        let bytes = ip.total as u32;
        if direction == Direction::Request {
            self.balancer.count_related(id, direction, bytes);
        }
        if ip.ttl <= 1 {
            return Verdict::Drop(Reason::TtlExceeded);
        }
        let hop = match self.hop(id, direction, receiver) {
            Ok(hop) => hop,
            Err(reason) => return nowhere(method, reason),
        };
        if method == ForwardMethod::Tunnel {
            return self.error_by_tunnel(now, id, hop, frame, outbox);
        }
        if method == ForwardMethod::FullNat && self.crosses(id) {
            if direction == Direction::Reply {
                self.balancer.count_related(id, direction, bytes);
            }
            return self.error_across((id, direction), &hop, frame, outbox);
        }
        let too_big = bytes > hop.mtu.max(min_mtu(ip.family()));
        if too_big && ip.dont_fragment {
            return Verdict::Drop(Reason::TooBig);
        }
        if direction == Direction::Reply {
            self.balancer.count_related(id, direction, bytes);
        }
        if method.is_nat() {
            translate(frame, direction, end, other);
        }
        decrement_ttl(frame);
        if too_big {
            return self.send_in_pieces(&hop, frame, outbox);
        }
        self.send(&hop, frame)
    }

    /// Tells a sender that nobody serves the port. To clients the VIP says so, to real servers the
    /// director.
    #[cold]
    pub(super) fn refuse(
        &mut self,
        arrival: Arrival,
        speaker: Option<Addr>,
        frame: &Frame<'_>,
        outbox: &mut Outbox,
    ) {
        self.complain(arrival, Error::PortUnreachable, speaker, frame, outbox);
    }

    /// Sends an error about the packet in hand to whoever sent it, as often as the kernel would. Returns the
    /// bytes of the packet that was sent, or 0.
    pub(super) fn complain(
        &mut self,
        arrival: Arrival,
        error: Error,
        speaker: Option<Addr>,
        frame: &Frame<'_>,
        outbox: &mut Outbox,
    ) -> u32 {
        let (now, seen) = (arrival.now, arrival.seen);
        self.complain_about(now, seen, error, speaker, frame.packet(), outbox)
    }

    /// The same about any packet, or the beginning of one. `seen` is the way to its sender, should it be
    /// on the link.
    pub(super) fn complain_about(
        &mut self,
        now: Time,
        seen: Option<(PortId, Mac)>,
        error: Error,
        speaker: Option<Addr>,
        quoted: &[u8],
        outbox: &mut Outbox,
    ) -> u32 {
        let Some(ip) = Ip::read(quoted) else {
            return 0;
        };
        let (family, to) = (ip.family(), ip.source);
        let (Some(speaker), false) = (speaker, is_nobody(to)) else {
            return 0;
        };
        if ip.is_later_fragment() || !self.limiter.allows(now, to, error) {
            return 0;
        }
        let hop = self.own_hop(to, seen);
        let own = seen.is_none() && self.network.is_local(to);
        if hop.is_none() && !own {
            return 0;
        }
        let (protocol, tos, most_bytes) = match family {
            Family::V4 => (
                Protocol::ICMP,
                ip.tos & TOS_BITS | INTERNETWORK_CONTROL,
                MOST_BYTES,
            ),
            Family::V6 => (Protocol::ICMPV6, 0, MOST_BYTES_V6),
        };
        let mtu = hop.map_or(most_bytes, |hop| hop.mtu.max(min_mtu(family)) as usize);
        let most = most_bytes.min(mtu) - header_bytes(family) - HEADER;
        let quoted = &quoted[..quoted.len().min(most)];
        let message = match family {
            Family::V4 => error.message(quoted),
            Family::V6 => icmpv6::message(error, speaker.to_bytes(), to.to_bytes(), quoted),
        };
        self.identification = self.identification.wrapping_add(1);
        let header = Own {
            source: speaker,
            destination: to,
            protocol,
            tos,
            ttl: OWN_TTL,
            identification: self.identification,
            fragment: 0,
        };
        let header = header.to_bytes(message.len());
        match hop {
            Some(hop) => self.send_own(&hop, &[&header, &message], outbox),
            // It is the host that asked.
            None => {
                let packet: [&[u8]; 2] = [&header, &message];
                let nobody = Mac::default();
                let bytes = frame::compose(nobody, nobody, Default::default(), &packet);
                outbox.push(Outgoing::Local(bytes));
            }
        }
        (header.len() + message.len()) as u32
    }

    /// The same about a packet of a connection that cannot go on. Whom its sender believes to talk to says
    /// so: the VIP to clients, the director's own address on that link to real servers.
    #[cold]
    pub(super) fn complain_on_the_way(
        &mut self,
        arrival: Arrival,
        (id, direction): (ConnectionId, Direction),
        error: Error,
        frame: &Frame<'_>,
        outbox: &mut Outbox,
    ) {
        let connection = self.balancer.connection(id);
        let replies_pass = connection.forward().is_nat();
        let speaker = match direction {
            Direction::Request => Some(connection.virtual_endpoint().address),
            Direction::Reply => {
                let server = connection.destination().address;
                self.network.source_for(arrival.port(), server)
            }
        };
        let bytes = self.complain(arrival, error, speaker, frame, outbox);
        // Where replies do not pass the director, that the error leaves counts as if one did
        // (`ip_vs_out_icmp` finds the connection by it).
        if !replies_pass && bytes != 0 {
            self.balancer.count_related(id, Direction::Reply, bytes);
        }
    }
}

/// Whether a message is one of the errors that are followed.
fn is_error(family: Family, message: &[u8]) -> bool {
    match family {
        Family::V4 => icmpv4::is_error(message),
        Family::V6 => icmpv6::is_error(message),
    }
}

/// Whether a message, which a packet with this header carries, is as it was sent.
fn verifies(ip: &Ip, message: &[u8]) -> bool {
    match ip.family() {
        Family::V4 => checksum::verifies(message),
        Family::V6 => {
            let (source, destination) = (ip.source.to_bytes(), ip.destination.to_bytes());
            icmpv6::verifies(message, source, destination)
        }
    }
}

/// The flow of a packet that an ICMP error quotes; none if it cannot be told.
fn quoted_flow(bytes: &[u8]) -> Option<FlowKey> {
    let ip = Ip::read(bytes)?;
    if ip.protocol.is_ipsec() {
        // The capture looks where others have ports: what is cut shorter it leaves to the host.
        transport::ports(bytes.get(ip.header..)?)?;
        return Some(key_exchange((ip.source, ip.destination)));
    }
    if ip.is_later_fragment() || !ip.protocol.has_ports() {
        return None;
    }
    // Whatever the length says: some senders leave it in another byte order.
    ip.flow(bytes.get(ip.header..)?)
}

fn is_about_ipsec(message: &[u8]) -> bool {
    let quoted = message.get(HEADER..).and_then(Ip::read);
    quoted.is_some_and(|quoted| quoted.protocol.is_ipsec())
}

/// To the server: the receiver and the quoted sender become the server. To the client: the sender
/// and the quoted receiver become the VIP. With FULLNAT the other two become `other`,
/// and its number is taken off the quoted sequence number. The quoted transport
/// checksum stays as it is.
fn translate(
    frame: &mut Frame<'_>,
    direction: Direction,
    end: Endpoint,
    other: Option<(Endpoint, Shift)>,
) {
    let Some(ip) = Ip::read(frame.packet()) else {
        return;
    };
    let family = ip.family();
    let (address, other_address) = (Some(end.address), other.map(|(other, _)| other.address));
    let (outer, inner) = match direction {
        Direction::Request => (ends(other_address, address), ends(address, other_address)),
        Direction::Reply => (ends(address, other_address), ends(other_address, address)),
    };
    let packet = frame.packet_mut();
    ip::edit(packet, family, outer, Passed::Not);
    let end_of_packet = packet.len().min(ip.total);
    let Some(message) = packet.get_mut(ip.header..end_of_packet) else {
        return;
    };
    if let Some(quoted) = message.get_mut(HEADER..)
        && let Some(quoted_ip) = Ip::read(quoted)
    {
        ip::edit(quoted, family, inner, Passed::Not);
        let rest = quoted.get_mut(quoted_ip.header..).unwrap_or_default();
        let (near, far) = match direction {
            Direction::Request => (Port::Source, Port::Destination),
            Direction::Reply => (Port::Destination, Port::Source),
        };
        if quoted_ip.protocol.has_ports() {
            transport::set_port(rest, near, end.port);
        }
        if let Some((other, shift)) = other {
            transport::set_port(rest, far, other.port);
            // The client knows its segment by the number that it gave it.
            sequence::unshift(rest, shift);
        }
    }
    match family {
        Family::V4 => icmpv4::recompute(message),
        Family::V6 => {
            let source = outer.source.unwrap_or(ip.source).to_bytes();
            let destination = outer.destination.unwrap_or(ip.destination).to_bytes();
            icmpv6::recompute(message, source, destination);
        }
    }
}

const fn ends(source: Option<Addr>, destination: Option<Addr>) -> Ends {
    Ends {
        source,
        destination,
    }
}

/// Addresses that an error is never sent to: nobody would be told, or everybody.
fn is_nobody(address: Addr) -> bool {
    match address.ip() {
        IpAddr::V4(v4) => matches!(v4.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(_) => !address.is_unicast() || address.ip().is_loopback(),
    }
}

/// Of an error's header, behind which the packet is quoted, with both families.
const HEADER: usize = icmpv4::HEADER;
const _: () = assert!(HEADER == icmpv6::HEADER);
/// Of an error (RFC 1812 section 4.3.2.3), on a link that takes so much.
const MOST_BYTES: usize = 576;
/// Of an error of IPv6 (RFC 4443 section 2.4).
const MOST_BYTES_V6: usize = ipv6::MIN_MTU as usize;
/// Precedence of errors (RFC 1812 section 4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 0xc0;
/// What an error takes over of the type of service.
const TOS_BITS: u8 = 0x1e;
