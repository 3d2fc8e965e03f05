//! Fragments: the others follow the first one of their datagram, which alone has the ports.

use shared::addr::Protocol;

use super::{Arrival, Director, Headers, Way};
use crate::core::balancer::Class;
use crate::core::fragments::{Fate, Fragments, Part};
use crate::core::frame::Frame;
use crate::core::ip::Ip;
use crate::core::net::Mac;
use crate::core::operation::ForwardMethod;
use crate::core::reason::Reason;
use crate::core::verdict::{Outbox, Outgoing, Verdict};

impl Director {
    /// A part of a datagram: the first one has the ports, the others follow it.
    pub(super) fn fragment(
        &mut self,
        arrival: Arrival,
        ip: &Ip,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let Some(part) = Part::of(ip, frame.packet()) else {
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
        let (verdict, way) = match Headers::of(ip, frame.packet()) {
            // Of IPv6 the fragments of all protocols come here.
            _ if !ip.protocol.has_ports() => (Verdict::Local, Fate::Host),
            Some(headers) => {
                let class = self.classify(arrival, &headers);
                let class = self.ask_for_call(arrival, class, &headers, frame);
                let way = match class {
                    Class::Once(id, direction) => {
                        Fate::Alone(headers.flow, self.balancer.sending(id, direction))
                    }
                    _ => Fate::Follow(headers.flow),
                };
                let verdict = if self.would_spoil(class, headers.flow.protocol) {
                    Verdict::Drop(Reason::SctpFragment)
                } else {
                    self.carry_out(arrival, class, &headers, frame, outbox)
                };
                (verdict, way)
            }
            None => (Verdict::Drop(Reason::MalformedTransport), Fate::Host),
        };
        // One for the host may be of a connection all the same, whose other end is there.
        let rewritten = Ip::read(frame.packet())
            .is_some_and(|now| (now.source, now.destination) != (ip.source, ip.destination));
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
            let verdict = self.follow(
                Arrival {
                    seen: port.map(|port| (port, sender)),
                    ..arrival
                },
                fate,
                &mut late,
                outbox,
            );
            let now = late.wire_range();
            match verdict {
                Verdict::Forward(out) => {
                    // With a shorter header it begins further behind.
                    bytes.drain(..now.start);
                    outbox.push(Outgoing::Transmit(out, bytes));
                }
                Verdict::Local => outbox.push(Outgoing::Local(bytes)),
                Verdict::Drop(reason) => self.drops.count(reason, 1),
                // A fragment is no frame of many segments.
                Verdict::Encapsulate(..) => self.drops.count(Reason::Unsegmentable, 1),
                Verdict::Consumed => {}
            }
        }
        verdict
    }

    /// Whether a fragment's way changes what a checksum covers that no part of the packet can be corrected
    /// by: SCTP's is one of the whole, with the ports and without addresses.
    fn would_spoil(&self, class: Class, protocol: Protocol) -> bool {
        let (Class::Request(id) | Class::Reply(id), Protocol::SCTP) = (class, protocol) else {
            return false;
        };
        let connection = self.balancer.connection(id);
        match connection.forward() {
            ForwardMethod::Nat => {
                connection.virtual_endpoint().port != connection.destination().port
            }
            ForwardMethod::FullNat => true,
            _ => false,
        }
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
        let Some(ip) = Ip::read(frame.packet()) else {
            return Verdict::Drop(Reason::MalformedIp);
        };
        let headers = Headers::of_fragment(&ip, flow);
        if let Some(sending) = sending {
            return match self.balancer.send_again(arrival.now, &flow, sending) {
                Some(going) => self.forward_once(arrival, going, &headers, frame, outbox),
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
