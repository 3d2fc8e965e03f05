//! ICMP errors about the director's own packets: those that carry clients' packets through tunnels to real
//! servers (the first half of `ip_vs_in_icmp`).

use shared::addr::{Addr, Protocol};
use shared::time::Time;
use shared::wire::checksum;
use shared::wire::icmpv4::{self, Error};
use shared::wire::ipv4::{self, Packet};

use super::quoted_flow;
use crate::core::balancer::Direction;
use crate::core::capture::CaptureKey;
use crate::core::director::Director;
use crate::core::forward::encapsulation;
use crate::core::frame::Frame;
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
        let packet = Packet::new_lenient(frame.packet()).ok()?;
        let message = packet.payload();
        let outer = Packet::new_lenient(message.get(icmpv4::HEADER..)?).ok()?;
        let (protocol, server) = (
            Protocol(outer.protocol()),
            Addr::from_v4_bytes(outer.destination()),
        );
        let (port, behind_ip) = encapsulation(protocol, outer.rest())?;
        let key = CaptureKey::Tunnel {
            protocol,
            address: server,
            port,
        };
        let own = Addr::from_v4_bytes(outer.source());
        if outer.fragment_offset() != 0
            || !self.balancer.captures().contains(key)
            || !self.network.is_local(own)
            || !self
                .network
                .is_local(Addr::from_v4_bytes(packet.destination()))
        {
            return None;
        }
        let quoted = outer.rest().get(behind_ip..)?;
        let flow = quoted_flow(quoted)?;
        let (id, direction) = self.balancer.find(&flow)?;
        let connection = self.balancer.connection(id);
        if direction != Direction::Request
            || connection.forward() != ForwardMethod::Tunnel
            || connection.destination().address != server
        {
            return None;
        }
        if !checksum::verifies(message) {
            return Some(Verdict::Drop(Reason::IcmpChecksum));
        }
        self.balancer
            .count_related(id, Direction::Reply, quoted.len() as u32);
        let error = match icmpv4::next_mtu(message) {
            Some(told) => {
                self.tunnels.learn(now, server, u32::from(told));
                let asks = Packet::new_lenient(quoted).is_ok_and(|inner| inner.dont_fragment());
                let overhead = (ipv4::MIN_HEADER + behind_ip) as u32;
                let mtu = self.room_in_tunnel(now, id, overhead).filter(|_| asks);
                let Some(mtu) = mtu else {
                    return Some(Verdict::Consumed);
                };
                let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
                Error::FragmentationNeeded { mtu }
            }
            None => Error::Relayed {
                kind: message[0],
                code: message[1],
                rest: u32::from_be_bytes([message[4], message[5], message[6], message[7]]),
            },
        };
        let speaker = Some(flow.destination);
        let bytes = self.complain_about(now, None, error, speaker, quoted, outbox);
        if bytes != 0 {
            self.balancer.count_related(id, Direction::Reply, bytes);
        }
        Some(Verdict::Consumed)
    }
}
