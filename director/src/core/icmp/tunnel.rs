//! ICMP errors about the director's own packets: those that carry clients' packets through tunnels to real
//! servers (the first half of `ip_vs_in_icmp`).

use shared::addr::Family;
use shared::time::Time;
use shared::wire::icmpv4::{self, Error};
use shared::wire::icmpv6;

use super::{HEADER, quoted_flow, verifies};
use crate::core::balancer::Direction;
use crate::core::capture::CaptureKey;
use crate::core::director::Director;
use crate::core::forward::encapsulation;
use crate::core::frame::Frame;
use crate::core::ip::Ip;
use crate::core::operation::ForwardMethod;
use crate::core::reason::Reason;
use crate::core::verdict::{Outbox, Verdict};

impl Director {
    /// Tells the client of an error about a packet of its that was in a tunnel. None if the message in
    /// `frame` is none of these.
    pub(super) fn icmp_about_tunnel(
        &mut self,
        now: Time,
        frame: &Frame<'_>,
        outbox: &mut Outbox,
    ) -> Option<Verdict> {
        let ip = Ip::read(frame.packet())?;
        let message = ip.payload(frame.packet());
        let outer_bytes = message.get(HEADER..)?;
        let outer = Ip::read(outer_bytes)?;
        let (protocol, server) = (outer.protocol, outer.destination);
        let behind = outer_bytes.get(outer.header..)?;
        let (port, behind_ip) = encapsulation(protocol, behind)?;
        let key = CaptureKey::Tunnel {
            protocol,
            address: server,
            port,
        };
        if outer.is_later_fragment()
            || !self.balancer.captures().contains(key)
            || !self.network.is_local(outer.source)
            || !self.network.is_local(ip.destination)
        {
            return None;
        }
        let quoted = behind.get(behind_ip..)?;
        let flow = quoted_flow(quoted)?;
        let (id, direction) = self.balancer.find(&flow)?;
        let connection = self.balancer.connection(id);
        if direction != Direction::Request
            || connection.forward() != ForwardMethod::Tunnel
            || connection.destination().address != server
        {
            return None;
        }
        if !verifies(&ip, message) {
            return Some(Verdict::Drop(Reason::IcmpChecksum));
        }
        self.balancer
            .count_related(id, Direction::Reply, quoted.len() as u32);
        let error = match next_mtu(ip.family(), message) {
            Some(told) => {
                self.tunnels.learn(now, server, told);
                let asks = Ip::read(quoted).is_some_and(|inner| inner.dont_fragment);
                let Some(mtu) = self.room_in_tunnel(now, id).filter(|_| asks) else {
                    return Some(Verdict::Consumed);
                };
                let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
                Error::FragmentationNeeded { mtu }
            }
            None => relayed(ip.family(), message, flow.source.family()),
        };
        let speaker = Some(flow.destination);
        let bytes = self.complain_about(now, None, error, speaker, quoted, outbox);
        if bytes != 0 {
            self.balancer.count_related(id, Direction::Reply, bytes);
        }
        Some(Verdict::Consumed)
    }
}

/// The MTU that an error tells.
fn next_mtu(family: Family, message: &[u8]) -> Option<u32> {
    match family {
        Family::V4 => icmpv4::next_mtu(message).map(u32::from),
        Family::V6 => icmpv6::next_mtu(message),
    }
}

/// Another error of a router on the tunnel's way, for a client of this family. What one family says is told
/// the other as what it comes to.
fn relayed(from: Family, message: &[u8], to: Family) -> Error {
    if from == to {
        return Error::Relayed {
            kind: message[0],
            code: message[1],
            rest: u32::from_be_bytes([message[4], message[5], message[6], message[7]]),
        };
    }
    let timed_out = match from {
        Family::V4 => icmpv4::TIME_EXCEEDED,
        Family::V6 => icmpv6::TIME_EXCEEDED,
    };
    if message[0] == timed_out {
        return Error::TimeExceeded;
    }
    let (kind, code) = match to {
        Family::V4 => (icmpv4::UNREACHABLE, icmpv4::HOST_UNREACHABLE),
        Family::V6 => (icmpv6::UNREACHABLE, icmpv6::ADDRESS_UNREACHABLE),
    };
    Error::Relayed {
        kind,
        code,
        rest: 0,
    }
}
