//! ICMP: errors about connections, and errors of our own (`ip_vs_in_icmp`, `ip_vs_out_icmp`,
//! `icmp_send`).

mod limit;
mod tunnel;

pub use limit::{Limiter, Limits};

use shared::addr::{Addr, FlowKey, Protocol};
use shared::time::Time;
use shared::wire::checksum;
use shared::wire::icmpv4::{self, Error};
use shared::wire::ipv4::{self, Packet};
use shared::wire::transport::{self, Port};

use super::balancer::{ConnectionId, Direction};
use super::connection::Endpoint;
use super::director::{Arrival, Director, MIN_MTU};
use super::forward::sequence::{self, Shift};
use super::forward::{decrement_ttl, nowhere};
use super::frame::{self, Frame};
use super::net::{Mac, PortId};
use super::operation::ForwardMethod;
use super::reason::Reason;
use super::verdict::{Outbox, Outgoing, Verdict};

impl Director {
    /// An ICMP message. Errors about packets of connections go where those came from; all others
    /// are the host's.
    pub(super) fn icmp(
        &mut self,
        now: Time,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let Ok(packet) = Packet::new_lenient(frame.packet()) else {
            return Verdict::Drop(Reason::MalformedIp);
        };
        let message = packet.payload();
        let (ttl, total, dont_fragment) =
            (packet.ttl(), packet.total_length(), packet.dont_fragment());
        let receiver = Addr::from_v4_bytes(packet.destination());
        if !icmpv4::is_error(message) {
            return Verdict::Local;
        }
        if let Some(verdict) = self.icmp_about_tunnel(now, frame, outbox) {
            return verdict;
        }
        let Some(quoted) = message.get(icmpv4::HEADER..).and_then(quoted_flow) else {
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
        if method.is_nat() && !checksum::verifies(message) {
            return Verdict::Drop(Reason::IcmpChecksum);
        }
        // Counted where packets are, see `forward`. Nobody is told of a failure: it is an error
        // itself.
        let bytes = u32::from(total);
        if direction == Direction::Request {
            self.balancer.count_related(id, direction, bytes);
        }
        if ttl <= 1 {
            return Verdict::Drop(Reason::TtlExceeded);
        }
        let hop = match self.hop(id, direction, receiver) {
            Ok(hop) => hop,
            Err(reason) => return nowhere(method, reason),
        };
        if method == ForwardMethod::Tunnel {
            return self.error_by_tunnel(now, id, hop, frame, outbox);
        }
        let too_big = bytes > hop.mtu.max(MIN_MTU);
        if too_big && dont_fragment {
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
        let Ok(packet) = Packet::new_lenient(quoted) else {
            return 0;
        };
        let to = Addr::from_v4_bytes(packet.source());
        let (Some(speaker), false) = (speaker, is_nobody(packet.source())) else {
            return 0;
        };
        if packet.fragment_offset() != 0 || !self.limiter.allows(now, to, error) {
            return 0;
        }
        let hop = self.own_hop(to, seen);
        let own = seen.is_none() && self.network.is_local(to);
        if hop.is_none() && !own {
            return 0;
        }
        let mtu = hop.map_or(MOST_BYTES, |hop| hop.mtu.max(MIN_MTU) as usize);
        let most = MOST_BYTES.min(mtu) - HEADERS;
        let message = error.message(&quoted[..quoted.len().min(most)]);
        self.identification = self.identification.wrapping_add(1);
        let header = ipv4::Header {
            tos: packet.tos() & TOS_BITS | INTERNETWORK_CONTROL,
            identification: self.identification,
            fragment: 0,
            ttl: OWN_TTL,
            protocol: Protocol::ICMP.0,
            source: speaker.to_v4_bytes(),
            destination: packet.source(),
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

/// The flow of a packet that an ICMP error quotes; none if it cannot be told.
fn quoted_flow(bytes: &[u8]) -> Option<FlowKey> {
    let packet = Packet::new_lenient(bytes).ok()?;
    let protocol = Protocol(packet.protocol());
    if packet.fragment_offset() != 0 || !matches!(protocol, Protocol::TCP | Protocol::UDP) {
        return None;
    }
    let (source_port, destination_port) = transport::ports(packet.rest())?;
    Some(FlowKey {
        protocol,
        source: Addr::from_v4_bytes(packet.source()),
        source_port,
        destination: Addr::from_v4_bytes(packet.destination()),
        destination_port,
    })
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
    let address = end.address.to_v4_bytes();
    let Ok(mut packet) = Packet::new_lenient(frame.packet_mut()) else {
        return;
    };
    match direction {
        Direction::Request => packet.set_destination(address),
        Direction::Reply => packet.set_source(address),
    }
    if let Some((other, _)) = other {
        let address = other.address.to_v4_bytes();
        match direction {
            Direction::Request => packet.set_source(address),
            Direction::Reply => packet.set_destination(address),
        }
    }
    let message = packet.payload_mut();
    if let Some(quoted) = message.get_mut(icmpv4::HEADER..)
        && let Ok(mut quoted) = Packet::new_lenient(quoted)
    {
        let port = match direction {
            Direction::Request => {
                quoted.set_source(address);
                Port::Source
            }
            Direction::Reply => {
                quoted.set_destination(address);
                Port::Destination
            }
        };
        transport::set_port(quoted.rest_mut(), port, end.port);
        if let Some((other, shift)) = other {
            let address = other.address.to_v4_bytes();
            let port = match port {
                Port::Source => {
                    quoted.set_destination(address);
                    Port::Destination
                }
                Port::Destination => {
                    quoted.set_source(address);
                    Port::Source
                }
            };
            transport::set_port(quoted.rest_mut(), port, other.port);
            // The client knows its segment by the number that it gave it.
            sequence::unshift(quoted.rest_mut(), shift);
        }
    }
    icmpv4::recompute(message);
}

/// Addresses that an error is never sent to: nobody would be told, or everybody.
fn is_nobody(address: [u8; 4]) -> bool {
    address[0] == 0 || address[0] == 127 || address[0] >= 224
}

/// Of an error (RFC 1812 section 4.3.2.3), on a link that takes so much.
const MOST_BYTES: usize = 576;
/// Of an error, in front of what it quotes.
const HEADERS: usize = ipv4::MIN_HEADER + icmpv4::HEADER;
/// Precedence of errors (RFC 1812 section 4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 0xc0;
/// What an error takes over of the type of service.
const TOS_BITS: u8 = 0x1e;
const OWN_TTL: u8 = 64;
