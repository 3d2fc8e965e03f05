//! ICMP errors about FULLNAT connections from IPv6 to IPv4: they are told in the words of the other family
//! (RFC 7915 sections 4.2 and 5.2), about the packet that the receiver knows.

use shared::addr::{Family, Protocol};
use shared::wire::icmpv4::{self, Error};
use shared::wire::transport::{self, Port};
use shared::wire::{icmpv6, ipv4, ipv6};

use super::{HEADER, MOST_BYTES, MOST_BYTES_V6};
use crate::core::balancer::{ConnectionId, Direction};
use crate::core::director::Director;
use crate::core::forward::{Front, sequence};
use crate::core::frame::Frame;
use crate::core::ip::{Ip, OWN_TTL, Own, header_bytes};
use crate::core::net::Hop;
use crate::core::reason::Reason;
use crate::core::verdict::{Outbox, Verdict};

impl Director {
    /// Sends the error in `frame` to whoever has sent what it is about, who is of the other family.
    pub(super) fn error_across(
        &mut self,
        (id, direction): (ConnectionId, Direction),
        hop: &Hop,
        frame: &Frame<'_>,
        outbox: &mut Outbox,
    ) -> Verdict {
        let Some(ip) = Ip::read(frame.packet()) else {
            return Verdict::Drop(Reason::MalformedIp);
        };
        let message = ip.payload(frame.packet());
        let error = match ip.family() {
            Family::V4 => to_v6(message),
            Family::V6 => to_v4(message),
        };
        let quoted = message.get(HEADER..).unwrap_or_default();
        let (Some(error), Some(quoted_ip)) = (error, Ip::read(quoted)) else {
            return Verdict::Drop(Reason::Untranslatable);
        };
        let (source, destination) = self.ends_there(id, direction);
        // The quoted packet went the other way.
        let front = Front::of(&quoted_ip, (destination.address, source.address), 0, true);
        let mut about = front.bytes().to_vec();
        about.extend(quoted.get(quoted_ip.header..).unwrap_or_default());
        if let Some(segment) = about.get_mut(front.bytes().len()..) {
            transport::set_port(segment, Port::Source, destination.port);
            transport::set_port(segment, Port::Destination, source.port);
            if direction == Direction::Reply {
                sequence::unshift(segment, self.balancer.shift(id));
            }
        }
        let (protocol, most) = match source.address.family() {
            Family::V4 => (Protocol::ICMP, MOST_BYTES),
            Family::V6 => (Protocol::ICMPV6, MOST_BYTES_V6),
        };
        about.truncate(most - header_bytes(source.address.family()) - HEADER);
        let message = match source.address.family() {
            Family::V4 => error.message(&about),
            Family::V6 => {
                let ends = (source.address.to_bytes(), destination.address.to_bytes());
                icmpv6::message(error, ends.0, ends.1, &about)
            }
        };
        self.identification = self.identification.wrapping_add(1);
        let header = Own {
            source: source.address,
            destination: destination.address,
            protocol,
            tos: ip.tos,
            ttl: OWN_TTL,
            identification: self.identification,
            fragment: 0,
        };
        let header = header.to_bytes(message.len());
        self.send_own(hop, &[&header, &message], outbox);
        Verdict::Consumed
    }
}

/// What an error of ICMP says in ICMPv6.
fn to_v6(message: &[u8]) -> Option<Error> {
    if let Some(mtu) = icmpv4::next_mtu(message) {
        // One that does not tell is older than any link of IPv6 that is narrow.
        let mtu = mtu.saturating_add(GROWTH).max(ipv6::MIN_MTU as u16);
        return Some(Error::FragmentationNeeded { mtu });
    }
    let (kind, code, rest) = match *message {
        [icmpv4::UNREACHABLE, icmpv4::PORT_UNREACHABLE, ..] => {
            return Some(Error::PortUnreachable);
        }
        [icmpv4::UNREACHABLE, PROTOCOL_UNREACHABLE, ..] => {
            (PARAMETER_PROBLEM_V6, UNKNOWN_NEXT_HEADER, NEXT_HEADER_AT)
        }
        [icmpv4::UNREACHABLE, 0 | 1 | 5..=8 | 11 | 12, ..] => (icmpv6::UNREACHABLE, NO_ROUTE, 0),
        [icmpv4::UNREACHABLE, 9 | 10 | 13 | 15, ..] => (icmpv6::UNREACHABLE, PROHIBITED, 0),
        [icmpv4::TIME_EXCEEDED, code, ..] => (icmpv6::TIME_EXCEEDED, code, 0),
        _ => return None,
    };
    Some(Error::Relayed { kind, code, rest })
}

/// What an error of ICMPv6 says in ICMP.
fn to_v4(message: &[u8]) -> Option<Error> {
    if let Some(mtu) = icmpv6::next_mtu(message) {
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
        let mtu = mtu.saturating_sub(GROWTH).max(LEAST_MTU);
        return Some(Error::FragmentationNeeded { mtu });
    }
    let (kind, code) = match *message {
        [icmpv6::UNREACHABLE, icmpv6::PORT_UNREACHABLE, ..] => return Some(Error::PortUnreachable),
        [icmpv6::UNREACHABLE, PROHIBITED, ..] => (icmpv4::UNREACHABLE, HOST_PROHIBITED),
        [icmpv6::UNREACHABLE, 0 | 2 | 3, ..] => (icmpv4::UNREACHABLE, HOST_UNREACHABLE),
        [icmpv6::TIME_EXCEEDED, code, ..] => (icmpv4::TIME_EXCEEDED, code),
        [PARAMETER_PROBLEM_V6, UNKNOWN_NEXT_HEADER, ..] => {
            (icmpv4::UNREACHABLE, PROTOCOL_UNREACHABLE)
        }
        _ => return None,
    };
    Some(Error::Relayed {
        kind,
        code,
        rest: 0,
    })
}

/// How much longer a packet is with IPv6.
const GROWTH: u16 = (ipv6::HEADER - ipv4::MIN_HEADER) as u16;
/// Of IPv4 (RFC 791 section 3.2).
const LEAST_MTU: u16 = 68;

/// Codes of [`icmpv4::UNREACHABLE`].
const HOST_UNREACHABLE: u8 = 1;
const PROTOCOL_UNREACHABLE: u8 = 2;
const HOST_PROHIBITED: u8 = 10;
/// Codes of [`icmpv6::UNREACHABLE`].
const NO_ROUTE: u8 = 0;
const PROHIBITED: u8 = 1;
/// A type of ICMPv6, a code of it, and where in the fixed header the next header's number is.
const PARAMETER_PROBLEM_V6: u8 = 4;
const UNKNOWN_NEXT_HEADER: u8 = 1;
const NEXT_HEADER_AT: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    /// As the tables of RFC 7915 have it.
    #[test]
    fn errors_have_their_like_or_none() {
        let v6 = |kind, code| to_v6(&[kind, code, 0, 0, 0, 0, 0, 0]);
        let relayed = |kind, code, rest| Some(Error::Relayed { kind, code, rest });
        for code in [0, 1, 5, 6, 7, 8, 11, 12] {
            assert_eq!(v6(3, code), relayed(1, 0, 0), "{code}");
        }
        for code in [9, 10, 13, 15] {
            assert_eq!(v6(3, code), relayed(1, 1, 0), "{code}");
        }
        assert_eq!(v6(3, 2), relayed(4, 1, 6));
        assert_eq!(v6(3, 3), Some(Error::PortUnreachable));
        assert_eq!(v6(11, 1), relayed(3, 1, 0));
        for (kind, code) in [(3, 14), (3, 99), (4, 0), (12, 0)] {
            assert_eq!(v6(kind, code), None);
        }
        let v4 = |kind, code| to_v4(&[kind, code, 0, 0, 0, 0, 0, 0]);
        for code in [0, 2, 3] {
            assert_eq!(v4(1, code), relayed(3, 1, 0), "{code}");
        }
        assert_eq!(v4(1, 1), relayed(3, 10, 0));
        assert_eq!(v4(1, 4), Some(Error::PortUnreachable));
        assert_eq!(v4(3, 0), relayed(11, 0, 0));
        assert_eq!(v4(4, 1), relayed(3, 2, 0));
        for (kind, code) in [(1, 5), (4, 0), (4, 2), (100, 0)] {
            assert_eq!(v4(kind, code), None);
        }
    }

    #[test]
    fn sizes_count_the_longer_header() {
        let needed = |mtu| Some(Error::FragmentationNeeded { mtu });
        let v4 = |mtu: u16| to_v6(&Error::FragmentationNeeded { mtu }.message(&[]));
        assert_eq!(v4(1400), needed(1420));
        // Nobody sends less with IPv6.
        assert_eq!(v4(576), needed(1280));
        assert_eq!(v4(0), needed(1280));
        let v6 = |mtu| {
            to_v4(&icmpv6::message(
                Error::FragmentationNeeded { mtu },
                [0; 16],
                [0; 16],
                &[],
            ))
        };
        assert_eq!(v6(1400), needed(1380));
        assert_eq!(v6(60), needed(68));
        assert_eq!(to_v4(&[2, 0, 0, 0, 0, 1, 0, 0]), needed(u16::MAX - 20));
    }
}
