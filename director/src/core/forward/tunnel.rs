//! Forwarding by tunnel: the packet travels inside another one to a real server that holds the VIP itself
//! (`ip_vs_tunnel_xmit`). What is remembered of the way there is in [`Tunnels`](super::Tunnels).

use shared::addr::{Addr, Family, FlowKey};
use shared::time::Time;
use shared::wire::icmpv4::Error;
use shared::wire::ipv4::Packet;
use shared::wire::vnet::{self, VnetHeader};

use super::outer::{self, Label, Outer};
use super::segments::{self, Segments};
use super::{cut, decrement_ttl};
use crate::core::balancer::{ConnectionId, Direction};
use crate::core::director::{Arrival, Director, Headers};
use crate::core::frame::{self, Frame};
use crate::core::ip::min_mtu;
use crate::core::net::{Hop, Mac};
use crate::core::reason::Reason;
use crate::core::server::ServerId;
use crate::core::verdict::{Outbox, Verdict};

/// A tunnel with everything that its next packet needs.
pub(super) struct Way {
    pub(super) hop: Hop,
    pub(super) outer: Outer,
    /// Bytes of the largest outer packet.
    mtu: u32,
}

impl Director {
    /// Sends a client's packet of a tunnelled connection on its way; it has been counted.
    #[inline(never)]
    pub(super) fn forward_by_tunnel(
        &mut self,
        arrival: Arrival,
        id: ConnectionId,
        hop: Hop,
        headers: &Headers,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let going = (id, Direction::Request);
        if headers.ttl <= 1 {
            self.complain_on_the_way(arrival, going, Error::TimeExceeded, frame, outbox);
            return Verdict::Drop(Reason::TtlExceeded);
        }
        let connection = self.balancer.connection(id);
        let (server, to) = (connection.server(), connection.destination().address);
        let followed = connection.is_followed();
        let Some(way) = self.way(arrival.now, server, to, hop, &headers.flow) else {
            return Verdict::Drop(Reason::NoRoute);
        };
        let vnet = frame.vnet();
        let Some(room) = way.room(vnet, headers.family) else {
            return Verdict::Drop(Reason::TooBig);
        };
        // Of IPv6 what is too big is never cut here.
        let discovers = headers.family == Family::V6 || self.balancer.sysctl().pmtu_disc != 0;
        if discovers && headers.dont_fragment && headers.largest(vnet, frame) > room as usize {
            decrement_ttl(frame);
            let mtu = u16::try_from(room).unwrap_or(u16::MAX);
            let error = Error::FragmentationNeeded { mtu };
            self.complain_on_the_way(arrival, going, error, frame, outbox);
            return Verdict::Drop(Reason::TooBig);
        }
        if followed {
            self.follow_position(id, Direction::Request, headers, frame);
        }
        decrement_ttl(frame);
        if headers.family == Family::V6
            && let Some(shorter) = segments::shortened(headers, frame, way.space())
        {
            frame.set_vnet(shorter);
        }
        if frame.vnet().is_gso() {
            let whole = discovers && headers.dont_fragment;
            if whole && let Some(label) = self.kernel_label(&way, server, frame) {
                return match self.send(&way.hop, frame) {
                    Verdict::Forward(port) => Verdict::Encapsulate(port, label),
                    other => other,
                };
            }
            return self.encapsulate_segments(&way, headers, frame, outbox);
        }
        self.encapsulate(&way, frame, outbox)
    }

    /// Sends an ICMP error about a tunnelled connection, which a client or a router on its side has sent,
    /// to the real server.
    pub(in crate::core) fn error_by_tunnel(
        &mut self,
        now: Time,
        id: ConnectionId,
        hop: Hop,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let connection = self.balancer.connection(id);
        let (server, to) = (connection.server(), connection.destination().address);
        let flow = connection.request();
        let Some(way) = self.way(now, server, to, hop, &flow) else {
            return Verdict::Drop(Reason::NoRoute);
        };
        decrement_ttl(frame);
        self.encapsulate(&way, frame, outbox)
    }

    /// Sends a packet of the director's own, one of a client's flow, through the tunnel to a real server.
    pub(super) fn send_own_by_tunnel(
        &mut self,
        now: Time,
        server: ServerId,
        to: Addr,
        flow: &FlowKey,
        packet: &[u8],
        outbox: &mut Outbox,
    ) {
        let way = match self.hop_to_server(server, to) {
            Ok(hop) => self.way(now, server, to, hop, flow),
            Err(_) => None,
        };
        if let Some(way) = way {
            self.encapsulate_copy(&way, packet, VnetHeader::default(), outbox);
        }
    }

    /// Bytes of the largest packet that fits through the tunnel of a connection, for whom it is to be told.
    pub(in crate::core) fn room_in_tunnel(&mut self, now: Time, id: ConnectionId) -> Option<u32> {
        let connection = self.balancer.connection(id);
        let (server, to) = (connection.server(), connection.destination().address);
        let flow = connection.request();
        let hop = self.hop_to_server(server, to).ok()?;
        let way = self.way(now, server, to, hop, &flow)?;
        way.room(VnetHeader::default(), flow.source.family())
    }

    fn way(
        &mut self,
        now: Time,
        server: ServerId,
        to: Addr,
        hop: Hop,
        flow: &FlowKey,
    ) -> Option<Way> {
        let path = self.tunnels.path(&self.network, &hop, server, to)?;
        let outer = Outer {
            tunnel: self.balancer.tunnel_of(server),
            source: path.source,
            destination: to,
            flow_port: outer::flow_port(flow),
        };
        let mtu = path.mtu(now, &hop);
        Some(Way { hop, outer, mtu })
    }

    /// Puts a packet of one segment into a tunnel. It is ready but for that.
    fn encapsulate(&mut self, way: &Way, frame: &mut Frame<'_>, outbox: &mut Outbox) -> Verdict {
        let vnet = frame.vnet();
        let overhead = way.outer.overhead(vnet.is_partial());
        if frame.packet().len() + overhead > way.most_bytes() {
            cut::complete(frame);
            return self.encapsulate_in_pieces(way, frame.packet(), outbox);
        }
        if !frame.prepend(overhead) {
            return self.encapsulate_copy(way, frame.packet(), vnet, outbox);
        }
        let label = self.label(frame.packet().get(overhead..));
        let left = way.outer.write(frame.packet_mut(), vnet, label);
        frame.set_family(way.outer.family());
        frame.set_vnet(left);
        self.send(&way.hop, frame)
    }

    /// The same where there is no room in front of the packet: it is one that waited, or the director's own.
    #[cold]
    fn encapsulate_copy(
        &mut self,
        way: &Way,
        inner: &[u8],
        vnet: VnetHeader,
        outbox: &mut Outbox,
    ) -> Verdict {
        let mut packet = vec![0; way.outer.overhead(vnet.is_partial())];
        packet.extend(inner);
        let label = self.label(Some(inner));
        let left = way.outer.write(&mut packet, vnet, label);
        let destination = way.hop.destination.unwrap_or_default();
        let bytes = frame::compose(destination, way.hop.source, left, &[&packet]);
        self.post(&way.hop, bytes, outbox);
        Verdict::Consumed
    }

    /// Puts a packet that is too big into a tunnel; nothing of its checksum is left to be done. It is cut
    /// first, so that each piece has a tunnel of its own, which the real server can end anywhere. The kernel
    /// cuts the outer packet, which somebody has to put together before it can be looked into; here only
    /// what must not be cut, and is to be sent all the same (`pmtu_disc` is 0), leaves so.
    #[cold]
    fn encapsulate_in_pieces(&mut self, way: &Way, inner: &[u8], outbox: &mut Outbox) -> Verdict {
        let whole = VnetHeader::default();
        if Packet::new_lenient(inner).is_ok_and(|inner| !inner.dont_fragment()) {
            let room = way.room(whole, Family::V4).unwrap_or_default();
            for piece in cut::pieces(inner, room as usize) {
                self.encapsulate_copy(way, &piece, whole, outbox);
            }
            return Verdict::Consumed;
        }
        let mut packet = vec![0; way.outer.overhead(false)];
        if packet.len() + inner.len() > usize::from(u16::MAX) {
            return Verdict::Drop(Reason::TooBig);
        }
        packet.extend(inner);
        let label = self.label(Some(inner));
        way.outer.write(&mut packet, whole, label);
        let destination = way.hop.destination.unwrap_or_default();
        let pieces = match way.outer.family() {
            Family::V4 => cut::pieces(&packet, way.most_bytes()),
            Family::V6 => {
                let identification = u32::from(self.identification);
                cut::pieces_v6(&packet, way.most_bytes(), identification)
            }
        };
        for piece in pieces {
            let bytes = frame::compose(destination, way.hop.source, whole, &[&piece]);
            self.post(&way.hop, bytes, outbox);
        }
        Verdict::Consumed
    }

    /// Cuts a frame of many segments and puts each of them into the tunnel.
    fn encapsulate_segments(
        &mut self,
        way: &Way,
        headers: &Headers,
        frame: &Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let vnet = frame.vnet();
        let Some(segments) = Segments::of(frame.packet(), vnet, headers) else {
            return Verdict::Drop(Reason::Unsegmentable);
        };
        let segment_vnet = segments.vnet();
        let overhead = way.outer.overhead(true);
        let fits = segments.largest() + overhead <= way.most_bytes();
        let Some(destination) = way.hop.destination.filter(|_| fits) else {
            return self.encapsulate_one_by_one(way, &segments, outbox);
        };
        let (family, nothing) = (way.outer.family(), VnetHeader::default());
        let ethernet = frame::headers(destination, way.hop.source, family, nothing);
        for number in 0..segments.count() {
            let label = self.label(Some(frame.packet()));
            outbox.train_mut().push(way.hop.port, |bytes| {
                let at = bytes.len();
                bytes.extend_from_slice(&ethernet);
                bytes.resize(bytes.len() + overhead, 0);
                segments.append(number, bytes);
                let packet = at + frame::HEADERS;
                let left = way.outer.write(&mut bytes[packet..], segment_vnet, label);
                bytes[at..at + vnet::LENGTH].copy_from_slice(&left.to_bytes());
            });
        }
        Verdict::Consumed
    }

    /// Segments that wait for a neighbour, or that are too big and leave in pieces.
    #[cold]
    fn encapsulate_one_by_one(
        &mut self,
        way: &Way,
        segments: &Segments<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let mut packet = Vec::new();
        for number in 0..segments.count() {
            packet.clear();
            segments.append(number, &mut packet);
            let (nobody, vnet) = (Mac::default(), segments.vnet());
            let mut bytes = frame::compose(nobody, nobody, vnet, &[&packet]);
            let end = bytes.len();
            let Some(mut frame) = Frame::new(&mut bytes, 0, end) else {
                continue;
            };
            cut::complete(&mut frame);
            self.encapsulate_in_pieces(way, frame.packet(), outbox);
        }
        Verdict::Consumed
    }

    /// What the outer header says of its own: a packet that is not to be fragmented needs no
    /// identification (RFC 6864), and the kernel gives it none.
    fn label(&mut self, inner: Option<&[u8]>) -> Label {
        let asks = inner.is_some_and(|inner| {
            Packet::new_lenient(inner).is_ok_and(|inner| inner.dont_fragment())
        });
        let dont_fragment = asks && self.balancer.sysctl().pmtu_disc != 0;
        if dont_fragment {
            return Label {
                identification: 0,
                dont_fragment,
            };
        }
        self.identification = self.identification.wrapping_add(1);
        Label {
            identification: self.identification,
            dont_fragment,
        }
    }
}

impl Way {
    /// Bytes of the largest outer packet.
    fn most_bytes(&self) -> usize {
        self.mtu.max(min_mtu(self.outer.family())) as usize
    }

    /// Bytes of the largest packet that fits inside, whatever is left to be done to it.
    fn space(&self) -> usize {
        self.most_bytes() - self.outer.overhead(true)
    }

    /// Bytes of the largest packet of a family that may be sent inside. None if the link takes nothing that is worth
    /// a tunnel.
    ///
    /// Whoever speaks IPv6 may send packets of 1 280 bytes, whatever is on their way: those that do not fit
    /// travel in shorter segments if they are of TCP, else in pieces of the outer packet (RFC 2473 section
    /// 7.1). The kernel drops them.
    fn room(&self, vnet: VnetHeader, inside: Family) -> Option<u32> {
        let overhead = self.outer.overhead(vnet.is_partial());
        let room = self.mtu.saturating_sub(overhead as u32);
        match inside {
            Family::V4 => (room >= min_mtu(Family::V4)).then_some(room),
            Family::V6 => Some(room.max(min_mtu(Family::V6))),
        }
    }
}
