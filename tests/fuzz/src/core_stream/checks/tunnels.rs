//! What is inside of the outer headers that the director has put in front of a packet.

use director::core::director::Director;
use director::core::frame;
use shared::addr::Protocol;
use shared::wire::vnet::{self, VnetHeader};
use shared::wire::{gre, gue, transport};

use super::super::places::GUE;
use super::seen::Seen;

/// The frame as it would be without them; none if there are none, or if it is a piece of such a packet.
pub(super) fn inside(director: &Director, wire: &[u8]) -> Option<Vec<u8>> {
    let outer = Seen::of(wire)?;
    if !director.network.is_local(outer.ip.source) || outer.is_fragment() {
        return None;
    }
    let encapsulation = match outer.ip.protocol {
        IPIP | IPV6 => 0,
        GRE => gre::parse(outer.payload())?.1,
        Protocol::UDP if transport::ports(outer.payload())?.1 == GUE => {
            let rest = outer.payload().get(transport::UDP_HEADER..)?;
            transport::UDP_HEADER + gue::parse(rest)?.1
        }
        _ => return None,
    };
    let overhead = outer.ip.header + encapsulation;
    let left = match outer.vnet.is_partial() {
        true => VnetHeader {
            csum_start: outer.vnet.csum_start.wrapping_sub(overhead as u16),
            ..outer.vnet
        },
        false => outer.vnet,
    };
    let ethernet = &wire[vnet::LENGTH..frame::HEADERS];
    let inner = outer.packet.get(overhead..)?;
    Some([&left.to_bytes(), ethernet, inner].concat())
}

const IPIP: Protocol = Protocol(4);
const IPV6: Protocol = Protocol(41);
const GRE: Protocol = Protocol(47);
