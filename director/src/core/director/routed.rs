//! Packets that do not come off the wire: the host routes them here, marked ones and its own, or keeps them and
//! gives a copy.

use shared::addr::{Addr, Family};
use shared::time::Time;
use shared::wire::icmpv4::Error;
use shared::wire::{ipv4, ipv6};

use super::{Arrival, Director, Headers, Way, malformed};
use crate::core::balancer::UNMARKED;
use crate::core::frame::Frame;
use crate::core::ip::{self, Ends, Ip, Passed, family_of, min_mtu};
use crate::core::net::{Mac, PortId};
use crate::core::reason::Reason;
use crate::core::verdict::{Outbox, Verdict};

impl Director {
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
        let verdict = match ends(frame.packet()) {
            // What it says of its own on the device, to groups and to IPv6 routers.
            Ok((_, to)) if !to.is_unicast() => Verdict::Consumed,
            Ok((from, to)) if self.network.is_local(from) => {
                let way = Way::Own;
                self.own(Arrival { way, ..arrival }, to, frame, outbox)
            }
            Ok((from, _)) => {
                // The host has taken one off already, and will again of what is given back.
                let (packet, family) = (frame.packet_mut(), from.family());
                ip::edit(packet, family, Ends::default(), Passed::Back);
                self.sort(arrival, frame, outbox)
            }
            Err(reason) => Verdict::Drop(reason),
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
        match self.sort(arrival, frame, outbox) {
            Verdict::Local if !self.network.is_local(to) => {
                self.send_on(arrival, to, frame, outbox)
            }
            verdict => verdict,
        }
    }

    /// Sends a packet of the host's own on. The host believes that its way has the MTU of the route that led
    /// here, and is told where that is not so.
    fn send_on(
        &mut self,
        arrival: Arrival,
        to: Addr,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let Some(hop) = self.own_hop(to, None) else {
            return Verdict::Drop(Reason::NoRoute);
        };
        let Some(ip) = Ip::read(frame.packet()) else {
            return Verdict::Drop(Reason::MalformedIp);
        };
        let (vnet, mtu) = (frame.vnet(), hop.mtu.max(min_mtu(ip.family())));
        let largest = Headers::of(&ip, frame.packet())
            .map_or(ip.total, |headers| headers.largest(vnet, frame));
        if largest <= mtu as usize {
            return self.send(&hop, frame);
        }
        if ip.dont_fragment || vnet.is_gso() {
            let speaker = self.network.source_towards(hop.port, to);
            let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
            let error = Error::FragmentationNeeded { mtu };
            self.complain(arrival, error, speaker, frame, outbox);
            return Verdict::Drop(Reason::TooBig);
        }
        self.send_in_pieces(&hop, frame, outbox)
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
        let sound = ends(frame.packet()).is_ok();
        let later = Ip::read(frame.packet()).filter(|ip| sound && ip.is_later_fragment());
        let Some(ip) = later else {
            return Verdict::Consumed;
        };
        frame.trim(ip.total);
        let verdict = self.fragment(arrival, &ip, frame, outbox);
        self.settle(verdict, outbox)
    }
}

/// Source and destination of a packet with a sound header.
fn ends(packet: &[u8]) -> Result<(Addr, Addr), Reason> {
    if family_of(packet) == Some(Family::V6) {
        let packet = ipv6::Packet::new_checked(packet).map_err(|_| Reason::MalformedIp)?;
        let (source, destination) = (packet.source(), packet.destination());
        return Ok((Addr::from_bytes(source), Addr::from_bytes(destination)));
    }
    let packet = ipv4::Packet::new_checked(packet).map_err(malformed)?;
    let (source, destination) = (packet.source(), packet.destination());
    Ok((
        Addr::from_v4_bytes(source),
        Addr::from_v4_bytes(destination),
    ))
}
