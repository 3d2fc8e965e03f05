//! The director: what becomes of a frame.
//!
//! The order is the kernel's. A request (`ip_vs_in`): read the headers, find or make the connection,
//! count and move its state, then forward; what fails after the counting has been counted. A reply
//! (`ip_forward`, then `ip_vs_out`) counts only when it can leave.

mod calls;
mod datagrams;
mod headers;
mod ipsec;
mod routed;

pub(super) use headers::Headers;

use std::collections::BTreeSet;

use shared::addr::{Addr, Family, Protocol};
use shared::time::Time;
use shared::wire::ipv4::{Malformed, Packet};
use shared::wire::{ethernet, ipv6};

use super::balancer::{Balancer, Class, ConnectionId, Direction, Segment, Settings, UNMARKED};
use super::capture::{self, CaptureKey};
use super::forward::{self, Tunnels};
use super::fragments::Fragments;
use super::frame::Frame;
use super::icmp::{Limiter, Limits};
use super::ip::{Ip, family_of, min_mtu};
use super::net::{Mac, Network, NetworkEvent, PortId};
use super::operation::{Operation, OperationError};
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
        if !matches!(ethernet.ethertype, ethernet::IPV4 | ethernet::IPV6) {
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

    /// What kind of packet it is, and on with it. Nearly all are whole ones of TCP and UDP over IPv4, whose way
    /// is this one function; the others take theirs out of its line.
    #[inline(always)]
    fn sort(&mut self, arrival: Arrival, frame: &mut Frame<'_>, outbox: &mut Outbox) -> Verdict {
        let packet = match Packet::new_checked(frame.packet()) {
            Ok(packet) => packet,
            Err(_) if family_of(frame.packet()) == Some(Family::V6) => {
                return self.sort_v6(arrival, frame, outbox);
            }
            Err(error) => return Verdict::Drop(malformed(error)),
        };
        if is_martian(packet.source()) {
            return Verdict::Drop(Reason::MartianSource);
        }
        let total = usize::from(packet.total_length());
        let protocol = Protocol(packet.protocol());
        if packet.is_fragment() || !matches!(protocol, Protocol::TCP | Protocol::UDP) {
            frame.trim(total);
            return self.sort_others(arrival, frame, outbox);
        }
        let headers = Headers::read(&packet);
        frame.trim(total);
        match headers {
            Some(headers) => self.balance(arrival, &headers, frame, outbox),
            None => Verdict::Drop(Reason::MalformedTransport),
        }
    }

    /// The same for IPv6. What leads nowhere that is balanced is the host's: it answers as the standards
    /// want, and its routing headers are its own.
    #[inline(never)]
    fn sort_v6(&mut self, arrival: Arrival, frame: &mut Frame<'_>, outbox: &mut Outbox) -> Verdict {
        let Ok(packet) = ipv6::Packet::new_checked(frame.packet()) else {
            return Verdict::Drop(Reason::MalformedIp);
        };
        if is_martian_v6(Addr::from_bytes(packet.source())) {
            return Verdict::Drop(Reason::MartianSource);
        }
        let total = packet.total_length();
        frame.trim(total);
        if total > usize::from(u16::MAX) {
            return Verdict::Local;
        }
        self.sort_others(arrival, frame, outbox)
    }

    /// A packet of either family, of which nothing but the first header was looked at.
    #[inline(never)]
    fn sort_others(
        &mut self,
        arrival: Arrival,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let Some(ip) = Ip::read(frame.packet()) else {
            return Verdict::Local;
        };
        let (whole, family) = (ip.piece.is_none(), ip.family());
        match ip.protocol {
            protocol if protocol.is_ipsec() => self.follow_keys(arrival, &ip, frame, outbox),
            // A later one of IPv6 does not know what the first has behind the header that both have.
            protocol if !whole && (family == Family::V6 || protocol.has_ports()) => {
                self.fragment(arrival, &ip, frame, outbox)
            }
            protocol if protocol.has_ports() => {
                if protocol == Protocol::SCTP && !forward::finish(frame) {
                    return Verdict::Drop(Reason::Unsegmentable);
                }
                match Headers::of(&ip, frame.packet()) {
                    Some(headers) => self.balance(arrival, &headers, frame, outbox),
                    None => Verdict::Drop(Reason::MalformedTransport),
                }
            }
            protocol if whole && protocol == icmp_of(family) => {
                self.icmp(arrival.now, &ip, frame, outbox)
            }
            _ => Verdict::Local,
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
        match self.classify(arrival, headers) {
            Class::Request(id) => {
                self.forward(arrival, id, Direction::Request, headers, frame, outbox)
            }
            Class::Reply(id) => self.forward(arrival, id, Direction::Reply, headers, frame, outbox),
            class => self.carry_out(arrival, class, headers, frame, outbox),
        }
    }

    #[inline(always)]
    fn classify(&mut self, arrival: Arrival, headers: &Headers) -> Class {
        // Only a later fragment has none.
        let segment = headers.segment.unwrap_or(Segment::Udp);
        let (now, mark) = (arrival.now, arrival.mark);
        self.balancer.classify(now, &headers.flow, segment, mark)
    }

    #[inline(never)]
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
            Class::Once(id, direction) => {
                return self.forward_once(arrival, (id, direction), headers, frame, outbox);
            }
            Class::Call(_) | Class::CallOut => {
                let class = self.ask_for_call(arrival, class, headers, frame);
                return self.carry_out(arrival, class, headers, frame, outbox);
            }
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
        (id, direction): (ConnectionId, Direction),
        headers: &Headers,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let verdict = self.forward(arrival, id, direction, headers, frame, outbox);
        self.balancer.end_once(id);
        verdict
    }
}

const fn malformed(error: Malformed) -> Reason {
    match error {
        Malformed::Checksum => Reason::IpChecksum,
        _ => Reason::MalformedIp,
    }
}

const fn icmp_of(family: Family) -> Protocol {
    match family {
        Family::V4 => Protocol::ICMP,
        Family::V6 => Protocol::ICMPV6,
    }
}

/// Whether no host can have sent from this address (`ip_route_input_slow`).
fn is_martian(source: [u8; 4]) -> bool {
    matches!(source[0], 0 | 127 | 224..=239) || source == [255; 4]
}

/// The same for IPv6 (`ip6_rcv_core`). IPv4 in its mapped form is not of the wire.
fn is_martian_v6(source: Addr) -> bool {
    !source.is_unicast() || source.ip().is_loopback() || source.family() == Family::V4
}

/// The smallest MTU that IPv4 knows, bytes.
pub(super) const MIN_MTU: u32 = min_mtu(Family::V4);

#[cfg(test)]
pub(crate) mod tests;
