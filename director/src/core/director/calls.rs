//! What a datagram says of its call, asked only when it has no connection and a service wants to know.

use shared::addr::Protocol;
use shared::wire::transport;

use super::{Arrival, Director, Headers};
use crate::core::balancer::Class;
use crate::core::frame::Frame;
use crate::core::sip;

impl Director {
    /// The class of a packet when that is known too. Of a fragmented datagram its first fragment speaks.
    #[cold]
    pub(super) fn ask_for_call(
        &mut self,
        arrival: Arrival,
        class: Class,
        headers: &Headers,
        frame: &Frame<'_>,
    ) -> Class {
        let (flow, now) = (&headers.flow, arrival.now);
        let call = || {
            let begin = headers.ip_header + transport::UDP_HEADER;
            let message = frame.packet().get(begin..);
            let message = message.filter(|_| flow.protocol == Protocol::UDP);
            message.and_then(sip::call_id)
        };
        match class {
            Class::Call(service) => self.balancer.schedule_call(now, flow, service, call()),
            Class::CallOut => {
                let mark = arrival.mark;
                self.balancer.schedule_call_out(now, flow, mark, call())
            }
            class => class,
        }
    }
}
