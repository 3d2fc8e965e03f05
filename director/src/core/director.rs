//! The director: what becomes of a frame.
//!
//! The order is the kernel's. A request (`ip_vs_in`): read the headers, find or make the connection,
//! count and move its state, then forward; what fails after the counting has been counted. A reply
//! (`ip_forward`, then `ip_vs_out`) counts only when it can leave.

use std::collections::BTreeSet;

use shared::addr::{Addr, FlowKey, Protocol};
use shared::time::Time;
use shared::wire::ipv4::{self, Edit, Malformed, Packet};
use shared::wire::vnet::VnetHeader;
use shared::wire::{ethernet, transport};

use super::balancer::{Balancer, Class, ConnectionId, Direction, Segment, Settings, UNMARKED};
use super::capture::{self, CaptureKey};
use super::forward::Tunnels;
use super::fragments::{Fate, Fragments, Part};
use super::frame::Frame;
use super::icmp::{Limiter, Limits};
use super::net::{Mac, Network, NetworkEvent, PortId};
use super::operation::{Operation, OperationError};
use super::protocol::tcp::TcpFlags;
use super::reason::{Drops, Reason};
use super::verdict::{Outbox, Outgoing, Verdict};

/// Random words that nobody outside may know.
#[derive(Debug, Clone, Copy)]
pub struct Entropy {
    /// For the connection table.
    pub hash_key: [u64; 2],
    /// Where the identification of packets of our own begins.
    pub identification: u16,
}

/// Tables, network and everything else that a frame's fate depends on.
#[derive(Debug)]
pub struct Director {
    /// Services, real servers, connections.
    pub balancer: Balancer,
    /// Ports, routes, neighbours.
    pub network: Network,
    pub(super) limiter: Limiter,
    pub(super) identification: u16,
    pub(super) tunnels: Tunnels,
    fragments: Fragments,
    /// Of the packets that the host's routing brings.
    routed_fragments: Fragments,
    drops: Drops,
    local: BTreeSet<Addr>,
}

/// What every step of a frame's way needs to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) now: Time,
    /// Where the frame came in, and who sent it: the way back, should that be on the link. None of a
    /// packet that the host has routed here.
    pub(super) seen: Option<(PortId, Mac)>,
    pub(super) way: Way,
    /// The firewall mark, or [`UNMARKED`].
    pub(super) mark: u32,
}

/// How packets get here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The capture takes them off the wire: the host does not see them.
    Wire,
    /// The host has routed them here, because of their mark or what they are addressed to. Their later
    /// fragments, which carry no mark, are copied off the wire, and the host sees them too.
    Routed,
    /// The host has sent them itself, and routed them here.
    Own,
}

impl Arrival {
    pub(super) fn port(self) -> Option<PortId> {
        self.seen.map(|(port, _)| port)
    }
}

/// The headers of a packet, read once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Headers {
    pub(super) flow: FlowKey,
    /// None of a later fragment: the first one has moved the connection's state already.
    pub(super) segment: Option<Segment>,
    /// Bytes of the IP header.
    pub(super) ip_header: usize,
    /// Bytes of the IP packet.
    pub(super) total: u16,
    pub(super) ttl: u8,
    pub(super) dont_fragment: bool,
}

impl Director {
    /// A director without services, on a host without a network.
    pub fn new(settings: Settings, entropy: Entropy) -> Director {
        Director {
            balancer: Balancer::new(settings, entropy.hash_key),
            network: Network::default(),
            limiter: Limiter::new(Limits::default(), u64::from(entropy.identification)),
            identification: entropy.identification,
            tunnels: Tunnels::default(),
            fragments: Fragments::default(),
            routed_fragments: Fragments::default(),
            drops: Drops::default(),
            local: BTreeSet::new(),
        }
    }

    /// Asks for the memory that these Ethernet frames will need, which come next. Changes nothing.
    pub fn look_ahead<'f>(&mut self, frames: impl Iterator<Item = &'f [u8]>) {
        self.balancer.look_ahead(frames.filter_map(Headers::peek));
    }

    /// Decides about a frame that came in at a port. With [`Verdict::Forward`] it has been
    /// rewritten.
    pub fn handle_frame(
        &mut self,
        now: Time,
        port: PortId,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let verdict = self.decide(now, port, frame, outbox);
        self.settle(verdict, outbox)
    }

    /// Decides about a packet that the host has routed here, with its firewall mark. Its Ethernet header has
    /// nothing to say.
    pub fn handle_routed(
        &mut self,
        now: Time,
        mark: u32,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let arrival = Arrival {
            now,
            seen: None,
            way: Way::Routed,
            mark,
        };
        let verdict = match Packet::new_checked(frame.packet()) {
            Ok(packet) if self.network.is_local(Addr::from_v4_bytes(packet.source())) => {
                let to = Addr::from_v4_bytes(packet.destination());
                let way = Way::Own;
                self.own(Arrival { way, ..arrival }, to, frame, outbox)
            }
            Ok(_) => {
                // The host has taken one off already, and will again of what is given back.
                if let Some(mut edit) = Edit::new(frame.packet_mut()) {
                    edit.increment_ttl();
                    edit.finish();
                }
                self.sort(arrival, frame, outbox)
            }
            Err(error) => Verdict::Drop(malformed(error)),
        };
        self.settle(verdict, outbox)
    }

    /// A packet that the host itself has sent: an answer of the real server that it is, or a question of a
    /// client there. What is neither goes where it was going.
    #[cold]
    fn own(
        &mut self,
        arrival: Arrival,
        to: Addr,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        // What it says of its own on the device, of groups and the like.
        if !to.is_unicast() {
            return Verdict::Consumed;
        }
        match self.sort(arrival, frame, outbox) {
            Verdict::Local if !self.network.is_local(to) => match self.own_hop(to, None) {
                Some(hop) => self.send(&hop, frame),
                None => Verdict::Drop(Reason::NoRoute),
            },
            verdict => verdict,
        }
    }

    /// Decides about the copy of a frame that the host keeps: only later fragments of what it routes here are
    /// looked at.
    pub fn handle_copy(
        &mut self,
        now: Time,
        port: PortId,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let arrival = Arrival {
            now,
            seen: Some((port, Mac(frame.ethernet().source))),
            way: Way::Routed,
            mark: UNMARKED,
        };
        let later = Packet::new_checked(frame.packet())
            .ok()
            .filter(|packet| packet.fragment_offset() != 0)
            .map(|packet| usize::from(packet.total_length()));
        let Some(total) = later else {
            return Verdict::Consumed;
        };
        frame.trim(total);
        let verdict = self.fragment(arrival, frame, outbox);
        self.settle(verdict, outbox)
    }

    #[inline(always)]
    fn settle(&mut self, verdict: Verdict, outbox: &mut Outbox) -> Verdict {
        if let Verdict::Drop(reason) = verdict {
            self.drops.count(reason, 1);
        }
        // The frame itself may have told the address that others waited for.
        if self.network.has_ready() {
            self.collect_held(outbox);
        }
        verdict
    }

    /// Whether the capture would hand over this Ethernet frame, received by this port.
    pub fn takes(&mut self, port: PortId, frame: &[u8]) -> bool {
        let Some(mac) = self.network.port(port).map(|port| port.mac) else {
            return false;
        };
        capture::takes(frame, mac.0, self.balancer.captures())
    }

    /// Changes services, servers or settings.
    ///
    /// # Errors
    /// Why the change was refused; then nothing of it was made.
    pub fn apply(&mut self, now: Time, operation: &Operation) -> Result<(), OperationError> {
        self.balancer.apply(now, operation)
    }

    /// Takes note of a change of the host's network. Frames that waited for it go to the outbox.
    pub fn network_changed(&mut self, event: NetworkEvent, outbox: &mut Outbox) {
        self.network.apply(event);
        let local: BTreeSet<Addr> = self.network.local_addresses().collect();
        if local != self.local {
            let captures = self.balancer.captures();
            for &address in local.difference(&self.local) {
                captures.acquire(CaptureKey::Local { address });
            }
            for &address in self.local.difference(&local) {
                captures.release(CaptureKey::Local { address });
            }
            self.local = local;
        }
        self.collect_held(outbox);
    }

    /// What time brings.
    pub fn handle_timeout(&mut self, now: Time, outbox: &mut Outbox) {
        self.balancer.expire(now);
        self.send_resets(now, outbox);
        let lost = self.fragments.expire(now);
        self.drops.count(Reason::FragmentTimeout, lost);
        // Copies: the host has its own.
        self.routed_fragments.expire(now);
        self.collect_held(outbox);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub fn poll_at(&self) -> Option<Time> {
        let fragments = [&self.fragments, &self.routed_fragments];
        let fragments = fragments.into_iter().filter_map(Fragments::poll_at);
        fragments.chain(self.balancer.poll_at()).min()
    }

    /// How many keys the capture looks frames up in.
    pub fn capture_keys(&mut self) -> usize {
        self.balancer.captures().keys().len()
    }

    /// Counts a packet that was lost on its way out.
    pub fn count_drop(&mut self, reason: Reason) {
        self.drops.count(reason, 1);
    }

    /// Why packets were dropped.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    fn collect_held(&mut self, outbox: &mut Outbox) {
        for (port, frame) in self.network.take_ready() {
            outbox.push(Outgoing::Transmit(port, frame));
        }
        self.drops
            .count(Reason::NeighbourSilent, u64::from(self.network.take_lost()));
    }

    #[inline(always)]
    fn decide(
        &mut self,
        now: Time,
        port: PortId,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let ethernet = frame.ethernet();
        let Some(own) = self.network.port(port).map(|port| port.mac) else {
            return Verdict::Drop(Reason::UnknownPort);
        };
        if ethernet.destination != own.0 {
            return Verdict::Drop(Reason::OtherHost);
        }
        if ethernet.ethertype != ethernet::IPV4 {
            return Verdict::Local;
        }
        let arrival = Arrival {
            now,
            seen: Some((port, Mac(ethernet.source))),
            way: Way::Wire,
            mark: UNMARKED,
        };
        self.sort(arrival, frame, outbox)
    }

    /// What kind of packet it is, and on with it.
    #[inline(always)]
    fn sort(&mut self, arrival: Arrival, frame: &mut Frame<'_>, outbox: &mut Outbox) -> Verdict {
        let packet = match Packet::new_checked(frame.packet()) {
            Ok(packet) => packet,
            Err(error) => return Verdict::Drop(malformed(error)),
        };
        if is_martian(packet.source()) {
            return Verdict::Drop(Reason::MartianSource);
        }
        let total = usize::from(packet.total_length());
        let headers = match Protocol(packet.protocol()) {
            Protocol::TCP | Protocol::UDP if packet.is_fragment() => {
                frame.trim(total);
                return self.fragment(arrival, frame, outbox);
            }
            Protocol::TCP | Protocol::UDP => Headers::read(&packet),
            Protocol::ICMP if !packet.is_fragment() => {
                frame.trim(total);
                return self.icmp(arrival.now, frame, outbox);
            }
            _ => {
                frame.trim(total);
                return Verdict::Local;
            }
        };
        frame.trim(total);
        match headers {
            Some(headers) => self.balance(arrival, &headers, frame, outbox),
            None => Verdict::Drop(Reason::MalformedTransport),
        }
    }

    /// Whose packet it is, and on with it. Part of the one function that a packet passes.
    #[inline(always)]
    fn balance(
        &mut self,
        arrival: Arrival,
        headers: &Headers,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let class = self.classify(arrival, headers);
        self.carry_out(arrival, class, headers, frame, outbox)
    }

    #[inline(always)]
    fn classify(&mut self, arrival: Arrival, headers: &Headers) -> Class {
        // Only a later fragment has none.
        let segment = headers.segment.unwrap_or(Segment::UDP);
        let (now, mark) = (arrival.now, arrival.mark);
        self.balancer.classify(now, &headers.flow, segment, mark)
    }

    #[inline(always)]
    fn carry_out(
        &mut self,
        arrival: Arrival,
        class: Class,
        headers: &Headers,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let flow = &headers.flow;
        let (id, direction) = match class {
            Class::Request(id) => (id, Direction::Request),
            Class::Reply(id) => (id, Direction::Reply),
            Class::Once(id) => return self.forward_once(arrival, id, headers, frame, outbox),
            Class::NotOurs => return Verdict::Local,
            Class::Drop(reason) => return Verdict::Drop(reason),
            Class::NoServer => {
                self.refuse(arrival, Some(flow.destination), frame, outbox);
                return Verdict::Drop(Reason::NoServer);
            }
            Class::NoPort => {
                self.refuse(arrival, Some(flow.destination), frame, outbox);
                return Verdict::Drop(Reason::LocalPorts);
            }
            Class::NoConnection => {
                self.answer_as_a_stranger(arrival, headers, frame, outbox);
                return Verdict::Drop(Reason::NoConnection);
            }
            Class::Over(id) => {
                self.answer_with_reset(arrival, id, headers, frame, outbox);
                return Verdict::Drop(Reason::ServerGone);
            }
            Class::Stray => {
                let own = self.network.source_for(arrival.port(), flow.source);
                self.refuse(arrival, own, frame, outbox);
                return Verdict::Drop(Reason::Stray);
            }
        };
        self.forward(arrival, id, direction, headers, frame, outbox)
    }

    /// The packet that a connection is there for, and the end of that connection.
    #[cold]
    fn forward_once(
        &mut self,
        arrival: Arrival,
        id: ConnectionId,
        headers: &Headers,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let request = Direction::Request;
        let verdict = self.forward(arrival, id, request, headers, frame, outbox);
        self.balancer.end_once(id);
        verdict
    }

    /// A part of a datagram: the first one has the ports, the others follow it.
    fn fragment(
        &mut self,
        arrival: Arrival,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let Ok(packet) = Packet::new_lenient(frame.packet()) else {
            return Verdict::Drop(Reason::MalformedIp);
        };
        let Some(part) = Part::of(&packet) else {
            return Verdict::Drop(Reason::MalformedFragment);
        };
        if !part.is_first() {
            let fragments = self.fragments_of(arrival.way);
            if let Some(fate) = fragments.fate(part) {
                return self.follow(arrival, fate, frame, outbox);
            }
            return if fragments.hold(arrival.now, part, arrival.port(), frame.wire_bytes()) {
                Verdict::Consumed
            } else {
                Verdict::Drop(Reason::FragmentsFull)
            };
        }
        let ends = (packet.source(), packet.destination());
        let (verdict, way) = match Headers::read(&packet) {
            Some(headers) => {
                let class = self.classify(arrival, &headers);
                let way = match class {
                    Class::Once(id) => Fate::Alone(headers.flow, self.balancer.sending(id)),
                    _ => Fate::Follow(headers.flow),
                };
                let verdict = self.carry_out(arrival, class, &headers, frame, outbox);
                (verdict, way)
            }
            None => (Verdict::Drop(Reason::MalformedTransport), Fate::Host),
        };
        // One for the host may be of a connection all the same, whose other end is there.
        let rewritten = Packet::new_lenient(frame.packet())
            .is_ok_and(|packet| (packet.source(), packet.destination()) != ends);
        let fate = match verdict {
            Verdict::Drop(reason) => Fate::Drop(reason),
            Verdict::Forward(_) | Verdict::Encapsulate(..) | Verdict::Consumed => way,
            Verdict::Local if rewritten => way,
            Verdict::Local => Fate::Host,
        };
        let fragments = self.fragments_of(arrival.way);
        let (waited, evicted) = fragments.decide(arrival.now, part, fate);
        if arrival.way == Way::Wire {
            self.drops.count(Reason::FragmentTimeout, evicted);
        }
        for (port, mut bytes) in waited {
            let end = bytes.len();
            let Some(mut late) = Frame::new(&mut bytes, 0, end) else {
                continue;
            };
            let sender = Mac(late.ethernet().source);
            match self.follow(
                Arrival {
                    seen: port.map(|port| (port, sender)),
                    ..arrival
                },
                fate,
                &mut late,
                outbox,
            ) {
                Verdict::Forward(out) => outbox.push(Outgoing::Transmit(out, bytes)),
                Verdict::Local => outbox.push(Outgoing::Local(bytes)),
                Verdict::Drop(reason) => self.drops.count(reason, 1),
                // A fragment is no frame of many segments.
                Verdict::Encapsulate(..) => self.drops.count(Reason::Unsegmentable, 1),
                Verdict::Consumed => {}
            }
        }
        verdict
    }

    fn fragments_of(&mut self, way: Way) -> &mut Fragments {
        match way {
            Way::Wire | Way::Own => &mut self.fragments,
            Way::Routed => &mut self.routed_fragments,
        }
    }

    /// A later fragment, whose first one has been decided about.
    fn follow(
        &mut self,
        arrival: Arrival,
        fate: Fate,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let (flow, sending) = match fate {
            // Of a copy the host has the original.
            Fate::Host if arrival.way == Way::Routed && arrival.seen.is_some() => {
                return Verdict::Consumed;
            }
            Fate::Host => return Verdict::Local,
            Fate::Drop(reason) => return Verdict::Drop(reason),
            Fate::Follow(flow) => (flow, None),
            Fate::Alone(flow, sending) => (flow, Some(sending)),
        };
        let Ok(packet) = Packet::new_lenient(frame.packet()) else {
            return Verdict::Drop(Reason::MalformedIp);
        };
        let headers = Headers::of_fragment(&packet, flow);
        if let Some(sending) = sending {
            return match self.balancer.send_again(arrival.now, &flow, sending) {
                Some(id) => self.forward_once(arrival, id, &headers, frame, outbox),
                None => Verdict::Drop(Reason::FragmentOrphan),
            };
        }
        // Never to the host, which would send a reply on as it is.
        match self.balancer.find(&flow) {
            Some((id, direction)) => self.forward(arrival, id, direction, &headers, frame, outbox),
            None => Verdict::Drop(Reason::FragmentOrphan),
        }
    }
}

impl Headers {
    /// Of a whole packet or a first fragment, already checked as an IPv4 packet. None if the
    /// transport header is not whole.
    #[inline(always)]
    fn read(packet: &Packet<&[u8]>) -> Option<Headers> {
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
    fn peek(ethernet: &[u8]) -> Option<FlowKey> {
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
    fn of_fragment(packet: &Packet<&[u8]>, flow: FlowKey) -> Headers {
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
    pub(super) fn largest(&self, vnet: VnetHeader, frame: &Frame<'_>) -> usize {
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

const fn malformed(error: Malformed) -> Reason {
    match error {
        Malformed::Checksum => Reason::IpChecksum,
        _ => Reason::MalformedIp,
    }
}

/// Whether no host can have sent from this address (`ip_route_input_slow`).
fn is_martian(source: [u8; 4]) -> bool {
    matches!(source[0], 0 | 127 | 224..=239) || source == [255; 4]
}

/// The smallest MTU that IPv4 knows, bytes (RFC 791 section 3.2).
pub(super) const MIN_MTU: u32 = ipv4::MIN_HEADER as u32 + 48;

#[cfg(test)]
pub(crate) mod tests;
