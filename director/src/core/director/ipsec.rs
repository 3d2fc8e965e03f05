//! AH and ESP (RFC 4302, RFC 4303): they have no ports, make no connection, and follow the conversation in
//! which the same two hosts have agreed on their keys (`ip_vs_proto_ah_esp.c`).

use shared::addr::FlowKey;
use shared::wire::transport;

use super::{Arrival, Director, Headers, Way};
use crate::core::balancer::Segment;
use crate::core::frame::Frame;
use crate::core::ip::Ip;
use crate::core::operation::ForwardMethod;
use crate::core::protocol::ipsec::key_exchange;
use crate::core::verdict::{Outbox, Verdict};

impl Director {
    /// A packet of IPsec, or a part of one. Without such a conversation it is the host's. So it is with
    /// FULLNAT, where several clients have one address.
    #[cold]
    pub(super) fn follow_keys(
        &mut self,
        arrival: Arrival,
        ip: &Ip,
        frame: &mut Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        // Of a copy the host has the original.
        if arrival.way == Way::Routed && arrival.seen.is_some() {
            return Verdict::Consumed;
        }
        // The capture looks where others have ports: what is cut shorter it leaves to the host.
        let payload = ip.payload(frame.packet());
        if ip.piece.is_none() && transport::ports(payload).is_none() {
            return Verdict::Local;
        }
        let keys = key_exchange((ip.source, ip.destination));
        let found = self.balancer.find(&keys);
        let followed = found.map(|(id, _)| self.balancer.connection(id).forward());
        if followed.is_none_or(|method| method == ForwardMethod::FullNat) {
            return Verdict::Local;
        }
        let flow = FlowKey {
            protocol: ip.protocol,
            ..keys
        };
        let headers = Headers {
            // Counts as one of the conversation, which lives on by it.
            segment: Some(Segment::Udp),
            ..Headers::of_fragment(ip, flow)
        };
        let (now, mark) = (arrival.now, arrival.mark);
        let class = self.balancer.classify(now, &keys, Segment::Udp, mark);
        self.carry_out(arrival, class, &headers, frame, outbox)
    }
}
