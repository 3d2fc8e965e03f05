//! Packets that do not come off the wire: the host routes them here, marked ones and its own, or keeps them and
//! gives a copy.

use shared::addr::Addr;
use shared::time::Time;
use shared::wire::ipv4::{Edit, Packet};

use super::{Arrival, Director, Way, malformed};
use crate::core::balancer::UNMARKED;
use crate::core::frame::Frame;
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
}
