//! The way out: next hop, time to live, size, rewriting, Ethernet header (`ip_vs_xmit.c`).

mod across;
mod cut;
mod front;
mod ftp;
mod full_nat;
mod kernel;
mod nat;
mod options;
mod outer;
mod paths;
mod proxy_protocol;
mod reset;
mod sctp;
mod segment_size;
mod segments;
pub mod sequence;
mod tunnel;

pub(super) use front::Front;
use full_nat::Rewritten;
pub(super) use outer::{encapsulation, outer_protocol};
pub(super) use paths::Tunnels;
pub(super) use sctp::finish;

use shared::addr::{Addr, Protocol};
use shared::wire::icmpv4::Error;
use shared::wire::transport::Port;

use super::balancer::{ConnectionId, Direction};
use super::connection::Endpoint;
use super::director::{Arrival, Director, Headers, MIN_MTU};
use super::frame::{self, Frame};
use super::ip::{self, Ends, Passed, family_of, min_mtu};
use super::net::{CachedHop, Hop, Mac, Route};
use super::operation::ForwardMethod;
use super::protocol::tcp::TcpFlags;
use super::reason::Reason;
use super::server::ServerId;
use super::service::FTP;
use super::verdict::{Outbox, Outgoing, Verdict};

/// The way of a packet of a connection, as far as the connection says it.
#[derive(Clone, Copy)]
struct Leg {
    going: (ConnectionId, Direction),
    method: ForwardMethod,
    virtual_end: Endpoint,
    destination: Endpoint,
    /// Its numbers are noted on the way.
    followed: bool,
}

impl Director {
    /// Sends a packet of a connection on its way.
    pub(super) fn forward(
        &mut self,
        arrival: Arrival,
        id: ConnectionId,
        direction: Direction,
        headers: &Headers,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let connection = self.balancer.connection(id);
        let (method, server) = (connection.forward(), connection.server());
        let followed = connection.is_followed();
        let (virtual_end, destination) = (connection.virtual_endpoint(), connection.destination());
        let client = connection.client();
        if direction == Direction::Request {
            // Where the client of such a connection is, now that its own frame is at hand: the
            // replies have no such frame.
            if method.is_nat() && !self.network.is_current(&connection.client_hop) {
                self.learn_client(arrival, id);
            }
            self.count(arrival, id, direction, headers);
        }
        let hop = match direction {
            Direction::Request if method == ForwardMethod::Bypass => {
                self.hop_around(id, virtual_end.address)
            }
            Direction::Request if method == ForwardMethod::Local => return Verdict::Local,
            Direction::Request => self.hop_to_server(server, destination.address),
            Direction::Reply => self.hop_to_client(id, client.address),
        };
        let hop = match hop {
            Ok(hop) => hop,
            Err(Reason::LocalServer) if method.is_nat() => {
                return self.deliver(arrival, id, direction, headers, frame, outbox);
            }
            Err(reason) => return nowhere(method, reason),
        };
        let leg = Leg {
            going: (id, direction),
            method,
            virtual_end,
            destination,
            followed,
        };
        if virtual_end.port == FTP && method.is_nat() && headers.flow.protocol == Protocol::TCP {
            return self.forward_words(arrival, leg, hop, headers, frame, outbox);
        }
        self.pass_on(arrival, leg, hop, headers, frame, outbox)
    }

    /// Rewrites a packet that has a way out, and sends it there.
    #[inline(always)]
    fn pass_on(
        &mut self,
        arrival: Arrival,
        leg: Leg,
        hop: Hop,
        headers: &Headers,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let Leg {
            going,
            method,
            virtual_end,
            destination,
            followed,
        } = leg;
        let (id, direction) = going;
        if method.may_change_family() {
            if method == ForwardMethod::Tunnel {
                return self.forward_by_tunnel(arrival, id, hop, headers, frame, outbox);
            }
            if self.crosses(id) {
                return self.forward_across(arrival, leg, hop, headers, frame, outbox);
            }
        }
        if headers.ttl <= 1 {
            self.complain_on_the_way(arrival, going, Error::TimeExceeded, frame, outbox);
            return Verdict::Drop(Reason::TtlExceeded);
        }
        let vnet = frame.vnet();
        let largest = headers.largest(vnet, frame);
        let least = min_mtu(headers.family);
        let too_big = largest > hop.mtu as usize && largest > least as usize;
        if too_big && (headers.dont_fragment || vnet.is_gso()) {
            // A request passes the host's IP layer before its size is looked at, so an error quotes it
            // with one router less; a reply does not (`ip_forward`).
            if direction == Direction::Request {
                decrement_ttl(frame);
            }
            let mtu = u16::try_from(hop.mtu.max(least)).unwrap_or(u16::MAX);
            let error = Error::FragmentationNeeded { mtu };
            self.complain_on_the_way(arrival, going, error, frame, outbox);
            return Verdict::Drop(Reason::TooBig);
        }
        if direction == Direction::Reply {
            self.count(arrival, id, direction, headers);
        }
        // In the numbers of the client.
        if followed && direction == Direction::Request {
            self.follow_position(id, direction, headers, frame);
        }
        if method.is_nat() && is_syn(headers) {
            self.lower_segment_size(going, headers, &hop, frame);
        }
        match (method, direction) {
            (ForwardMethod::Nat, Direction::Request) => {
                nat::rewrite(frame, vnet, headers, Port::Destination, destination);
            }
            (ForwardMethod::Nat, Direction::Reply) => {
                nat::rewrite(frame, vnet, headers, Port::Source, virtual_end);
            }
            (ForwardMethod::Direct | ForwardMethod::Bypass, Direction::Request) => {
                decrement_ttl(frame);
            }
            (ForwardMethod::FullNat, _) => {
                let now = arrival.now;
                let outcome = self.full_nat(now, going, headers, Some(&hop), frame, outbox);
                if outcome == Rewritten::Replaced {
                    return Verdict::Consumed;
                }
            }
            _ => return Verdict::Drop(Reason::NoMethod),
        }
        if followed && direction == Direction::Reply {
            self.follow_position(id, direction, headers, frame);
        }
        if too_big {
            return self.send_in_pieces(&hop, frame, outbox);
        }
        self.send(&hop, frame)
    }

    /// Rewrites a packet whose receiver is on the director itself: the real server of a NAT service, or a client.
    /// The host routes here what it sends in turn.
    #[cold]
    fn deliver(
        &mut self,
        arrival: Arrival,
        id: ConnectionId,
        direction: Direction,
        headers: &Headers,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let connection = self.balancer.connection(id);
        let (method, followed) = (connection.forward(), connection.is_followed());
        let (virtual_end, destination) = (connection.virtual_endpoint(), connection.destination());
        let receiver = match direction {
            Direction::Request => destination.address,
            Direction::Reply => connection.client().address,
        };
        // The host routes here what it sends from addresses of its interfaces, and nothing else.
        let routed = self.network.is_local(receiver) && !receiver.ip().is_loopback();
        // An answer in the other family would have to be another packet.
        if !routed || self.crosses(id) {
            return Verdict::Drop(Reason::LocalServer);
        }
        let vnet = frame.vnet();
        match (method, direction) {
            (ForwardMethod::Nat, Direction::Request) => {
                if followed {
                    self.follow_position(id, direction, headers, frame);
                }
                nat::rewrite(frame, vnet, headers, Port::Destination, destination);
            }
            (_, Direction::Reply) => {
                self.count(arrival, id, direction, headers);
                if method == ForwardMethod::Nat {
                    nat::rewrite(frame, vnet, headers, Port::Source, virtual_end);
                } else {
                    self.full_nat(arrival.now, (id, direction), headers, None, frame, outbox);
                }
                if followed {
                    self.follow_position(id, direction, headers, frame);
                }
            }
            // Its answers would go to a local address, which is the host's as well.
            _ => return Verdict::Drop(Reason::LocalServer),
        }
        Verdict::Local
    }

    #[inline(always)]
    fn count(
        &mut self,
        arrival: Arrival,
        id: ConnectionId,
        direction: Direction,
        headers: &Headers,
    ) {
        let bytes = u32::from(headers.total);
        match headers.segment {
            Some(segment) => self
                .balancer
                .advance(arrival.now, id, direction, segment, bytes),
            None => self.balancer.count_related(id, direction, bytes),
        }
    }

    fn learn_client(&mut self, arrival: Arrival, id: ConnectionId) {
        let connection = self.balancer.connection_mut(id);
        let client = connection.client().address;
        self.network
            .resolve(&mut connection.client_hop, client, arrival.seen);
    }

    /// The next hop of a packet of a connection, or of an ICMP error about one, which need not be
    /// for the client itself: `receiver` says for whom a reply is.
    pub(super) fn hop(
        &mut self,
        id: ConnectionId,
        direction: Direction,
        receiver: Addr,
    ) -> Result<Hop, Reason> {
        match direction {
            Direction::Request => {
                let connection = self.balancer.connection(id);
                if connection.forward() == ForwardMethod::Bypass {
                    let address = connection.virtual_endpoint().address;
                    return self.hop_around(id, address);
                }
                let (server, address) = (connection.server(), connection.destination().address);
                self.hop_to_server(server, address)
            }
            Direction::Reply => self.hop_to_client(id, receiver),
        }
    }

    #[inline(always)]
    fn hop_to_server(&mut self, server: ServerId, address: Addr) -> Result<Hop, Reason> {
        let cached = self.balancer.server_hop_mut(server);
        taken(self.network.resolve(cached, address, None))
    }

    /// The next hop of a connection that goes around all servers, to where its packets go themselves.
    #[cold]
    fn hop_around(&mut self, id: ConnectionId, to: Addr) -> Result<Hop, Reason> {
        // Nothing comes back here, so the place of the way to the client is free.
        let connection = self.balancer.connection_mut(id);
        taken(self.network.resolve(&mut connection.client_hop, to, None))
    }

    #[inline(always)]
    fn hop_to_client(&mut self, id: ConnectionId, receiver: Addr) -> Result<Hop, Reason> {
        let connection = self.balancer.connection_mut(id);
        let mut elsewhere = CachedHop::default();
        let cached = if receiver == connection.client().address {
            &mut connection.client_hop
        } else {
            &mut elsewhere
        };
        taken(self.network.resolve(cached, receiver, None))
    }

    /// Sends a packet that is ready but for its Ethernet addresses.
    #[inline(always)]
    pub(super) fn send(&mut self, hop: &Hop, frame: &mut Frame<'_>) -> Verdict {
        let Some(destination) = hop.destination else {
            self.network.hold(hop.id, frame.wire_bytes().to_vec());
            return Verdict::Consumed;
        };
        frame.set_addresses(destination, hop.source);
        Verdict::Forward(hop.port)
    }

    /// The next hop of a packet of our own; none if there is no way.
    pub(super) fn own_hop(
        &mut self,
        to: Addr,
        seen: Option<(super::net::PortId, Mac)>,
    ) -> Option<Hop> {
        taken(self.network.resolve(&mut CachedHop::default(), to, seen)).ok()
    }

    /// Sends a packet of our own: an IP header and what is behind it.
    pub(super) fn send_own(&mut self, hop: &Hop, packet: &[&[u8]], outbox: &mut Outbox) {
        let destination = hop.destination.unwrap_or_default();
        let bytes = frame::compose(destination, hop.source, Default::default(), packet);
        self.post(hop, bytes, outbox);
    }

    /// Sends a packet that is too big for the link and ready but for that.
    pub(super) fn send_in_pieces(
        &mut self,
        hop: &Hop,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        cut::complete(frame);
        let pieces = cut::pieces(frame.packet(), hop.mtu.max(MIN_MTU) as usize);
        let destination = hop.destination.unwrap_or_default();
        for piece in pieces {
            let packet: [&[u8]; 1] = [&piece];
            let bytes = frame::compose(destination, hop.source, Default::default(), &packet);
            self.post(hop, bytes, outbox);
        }
        Verdict::Consumed
    }

    pub(super) fn post(&mut self, hop: &Hop, bytes: Vec<u8>, outbox: &mut Outbox) {
        match hop.destination {
            Some(_) => outbox.push(Outgoing::Transmit(hop.port, bytes)),
            None => self.network.hold(hop.id, bytes),
        }
    }
}

/// One router less to go.
#[inline]
pub(super) fn decrement_ttl(frame: &mut Frame<'_>) {
    if let Some(family) = family_of(frame.packet()) {
        ip::edit(frame.packet_mut(), family, Ends::default(), Passed::On);
    }
}

/// A real server that is the director itself gets the packet as it is (LOCALNODE), unless it would have to
/// be rewritten: the answers would not come by here.
#[cold]
pub(super) fn nowhere(method: ForwardMethod, reason: Reason) -> Verdict {
    match (method, reason) {
        (
            ForwardMethod::Direct | ForwardMethod::Tunnel | ForwardMethod::Local,
            Reason::LocalServer,
        ) => Verdict::Local,
        _ => Verdict::Drop(reason),
    }
}

#[inline(always)]
fn is_syn(headers: &Headers) -> bool {
    let flags = headers.tcp_flags();
    flags.is_some_and(|flags| flags.contains(TcpFlags::SYN))
}

#[inline]
fn taken(route: Route<'_>) -> Result<Hop, Reason> {
    match route {
        Route::Via(hop) => Ok(*hop),
        Route::Local => Err(Reason::LocalServer),
        Route::Unreachable => Err(Reason::NoRoute),
    }
}
