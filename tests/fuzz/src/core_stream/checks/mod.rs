//! What must hold after every step.

mod forwarded;
mod seen;
mod tables;
mod tunnels;

pub(super) use tables::{nothing_is_overdue, strangers, tables};

use director::core::director::Director;
use director::core::frame;
use director::core::ip::{Ip, min_mtu};
use director::core::net::PortId;
use director::core::verdict::{Outgoing, Verdict};
use shared::addr::Protocol;
use shared::wire::vnet::{self, VnetHeader};
use shared::wire::{ethernet, sctp};

use super::frames::Arriving;
use seen::Seen;

/// What was known before a frame was decided about.
#[derive(Debug)]
pub(super) struct Before {
    wire: Vec<u8>,
    taken: bool,
    drops: u64,
}

/// Whether all frames so far had right checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Past {
    /// Then so has all that leaves.
    Sound,
    Unsound,
}

impl Before {
    pub(super) fn of(director: &mut Director, arriving: &Arriving) -> Before {
        let ethernet = arriving.wire.get(vnet::LENGTH..).unwrap_or_default();
        Before {
            wire: arriving.wire.clone(),
            taken: director.takes(arriving.port, ethernet),
            drops: drops(director),
        }
    }

    /// Whether nobody can say that its checksum is wrong.
    pub(super) fn is_sound(&self) -> bool {
        Seen::of(&self.wire).is_some_and(|seen| seen.is_sound() != Some(false))
    }
}

fn drops(director: &Director) -> u64 {
    director.drops().iter().map(|(_, packets)| packets).sum()
}

/// The decision about a frame, which is now `wire`.
pub(super) fn verdict(director: &Director, before: &Before, verdict: Verdict, wire: &[u8]) {
    match verdict {
        Verdict::Forward(port) => {
            // The capture would never have handed it over, so that nobody could tell that it works.
            assert!(before.taken, "forwarded, and the capture does not take it");
            forwarded::forwarded(director, &before.wire, wire);
            let link = director.network.port(port).expect("a port that is there");
            assert!(link.up, "a port that is up");
            leaves_by(director, port, wire, link.mtu);
        }
        Verdict::Encapsulate(..) => panic!("nobody said that the kernel could"),
        Verdict::Local => assert!(
            as_it_was(&before.wire).starts_with(&as_it_was(wire))
                || is_for_the_host(director, wire),
            "the host gets it changed"
        ),
        Verdict::Drop(_) => assert!(drops(director) > before.drops, "dropped and not counted"),
        Verdict::Consumed => {}
    }
}

/// A frame but for what the director works out of every one, forwarded or not: SCTP's checksum.
fn as_it_was(wire: &[u8]) -> Vec<u8> {
    let mut wire = wire.to_vec();
    let vnet = wire.first_chunk().map(|vnet| VnetHeader::from_bytes(*vnet));
    let ip = wire.get(frame::HEADERS..).and_then(Ip::read);
    if let (Some(vnet), Some(ip)) = (vnet, ip)
        && ip.protocol == Protocol::SCTP
    {
        let start = ethernet::LENGTH + ip.header;
        let own = (start as u16, sctp::CHECKSUM as u16);
        if !vnet.is_partial() || (vnet.csum_start, vnet.csum_offset) == own {
            let at = frame::HEADERS + ip.header + sctp::CHECKSUM;
            wire[..vnet::LENGTH].fill(0);
            if let Some(field) = wire.get_mut(at..at + 4) {
                field.fill(0);
            }
        }
    }
    wire
}

/// It was rewritten for a real server or a client on the director itself.
fn is_for_the_host(director: &Director, wire: &[u8]) -> bool {
    let ip = wire.get(frame::HEADERS..).and_then(Ip::read);
    ip.is_some_and(|ip| director.network.is_local(ip.destination))
}

/// A frame that leaves besides the one in hand. It may have waited while its link became narrower or
/// went down, as frames do in the kernel's queues; whoever sends it then counts that it could not.
/// So it may be as large as its link takes now, or as `widest`, the largest MTU that any link had.
pub(super) fn outgoing(director: &Director, frame: &Outgoing, widest: u32) {
    match frame {
        Outgoing::Transmit(port, wire) => {
            let now = director.network.port(*port).map_or(0, |port| port.mtu);
            leaves_by(director, *port, wire, widest.max(now));
        }
        Outgoing::Local(wire) => assert!(wire.len() >= frame::HEADERS),
    }
}

/// A frame that leaves after such a past has right checksums, inside of a tunnel as well.
pub(super) fn soundness(director: &Director, past: Past, wire: &[u8]) {
    if past == Past::Unsound {
        return;
    }
    let inside = tunnels::inside(director, wire);
    for (at, wire) in [Some(wire), inside.as_deref()]
        .into_iter()
        .flatten()
        .enumerate()
    {
        let seen = Seen::of(wire).expect("a whole packet");
        // Over IPv6 too a tunnel may have none (`--tun-nocsum`, RFC 6935).
        let bare = at == 0 && inside.is_some() && seen.has_no_checksum();
        assert!(bare || seen.is_sound() != Some(false), "{seen:?}");
    }
}

/// Whether a frame is an ICMP error of the director's own.
pub(super) fn is_error(frame: &Outgoing) -> bool {
    let Outgoing::Transmit(_, wire) = frame else {
        return false;
    };
    Seen::of(wire).is_some_and(|seen| seen.is_error() && !seen.is_fragment())
}

/// Well-formed, and sound for a link of this MTU.
fn leaves_by(director: &Director, port: PortId, wire: &[u8], mtu: u32) {
    let seen = Seen::of(wire).unwrap_or_else(|| panic!("no whole packet: {wire:?}"));
    let own = director.network.port(port).map(|port| port.mac.0);
    let own = own.unwrap_or_else(|| panic!("no interface {port:?} is there: {seen:?}"));
    let header = ethernet::Header::parse(&wire[vnet::LENGTH..]).expect("a whole frame");
    assert_eq!(header.source, own, "our own address on that link");
    assert_ne!(header.destination, [0; 6], "the neighbour is known");
    let end = wire.len() - frame::HEADERS;
    assert_eq!(seen.ip.total, end, "nothing behind");
    let family = seen.ip.family();
    let expected = match family {
        shared::addr::Family::V4 => ethernet::IPV4,
        shared::addr::Family::V6 => ethernet::IPV6,
    };
    assert_eq!(header.ethertype, expected);
    assert!(seen.ip.ttl > 0, "no router is left to pass it on");
    if !seen.vnet.is_gso() {
        let mtu = mtu.max(min_mtu(family)) as usize;
        assert!(
            end <= mtu,
            "{end} bytes, and the link takes {mtu}: {seen:?}"
        );
    }
}
