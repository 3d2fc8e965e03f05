//! What a kernel may tell.

use director::core::net::{NetworkEvent, Port, Prefix, RouteInfo, RouteKind};
use shared::addr::Addr;

use super::places::{self, some_address};
use super::script::Script;
use super::world::{link, mac, route};

/// Something that a kernel may tell.
pub(super) fn event(script: &mut Script<'_>) -> NetworkEvent {
    let ifindex = script.one_of(&[0, 1, 2, 0, 1]);
    match script.byte() % 12 {
        0 => NetworkEvent::Link(some_link(script, ifindex)),
        1 => NetworkEvent::LinkGone { ifindex },
        2 => {
            let count = script.byte() % 4;
            let links = (0..u32::from(count)).map(|ifindex| some_link(script, ifindex));
            NetworkEvent::Links(links.collect())
        }
        3 => NetworkEvent::Address {
            ifindex,
            prefix: some_prefix(script),
        },
        4 => NetworkEvent::AddressGone {
            ifindex,
            prefix: some_prefix(script),
        },
        5 => {
            let count = script.byte() % 4;
            let all = (0..count).map(|_| (ifindex, of_length(some_address(script), 32)));
            NetworkEvent::Addresses(all.collect())
        }
        6 => NetworkEvent::Route(some_route(script, ifindex)),
        7 => NetworkEvent::RouteGone(some_route(script, ifindex)),
        8 => {
            let count = script.byte() % 4;
            NetworkEvent::Routes((0..count).map(|_| some_route(script, ifindex)).collect())
        }
        9 => NetworkEvent::Neighbour {
            ifindex,
            address: some_address(script),
            mac: mac(script.byte()),
        },
        10 => NetworkEvent::NeighbourFailed {
            ifindex,
            address: some_address(script),
        },
        _ => NetworkEvent::NeighbourGone {
            ifindex,
            address: some_address(script),
        },
    }
}

fn some_prefix(script: &mut Script<'_>) -> Prefix {
    let address = some_address(script);
    of_length(address, script.one_of(&[32, 24, 0, 16]))
}

fn of_length(address: Addr, of_v4: u8) -> Prefix {
    Prefix::new(address, places::length(address.family(), of_v4))
}

fn some_link(script: &mut Script<'_>, ifindex: u32) -> Port {
    let mtu = script.one_of(&[1500, 576, 1280, 9000, 68, 0, 65_535, 100]);
    let up = script.byte() % 4 != 3;
    let mac = script.one_of(&[ifindex as u8 + 1, 7]);
    link(ifindex, mtu, up, mac)
}

fn some_route(script: &mut Script<'_>, ifindex: u32) -> RouteInfo {
    let length = script.one_of(&[24, 0, 32, 16, 8]);
    let by_gateway = script.byte() & 1 == 1;
    let destination = of_length(some_address(script), length);
    let gateway = by_gateway.then(|| places::gateway(destination.address.family()));
    let mut info = route(destination, ifindex, gateway);
    let byte = script.byte();
    info.metric = u32::from(byte & 3);
    info.table = [254, 255, 253, 7][usize::from(byte >> 2 & 3)];
    info.mtu = (byte & 0x10 != 0).then_some(576);
    match byte >> 5 {
        6 => info.kind = RouteKind::Local,
        7 => info.kind = RouteKind::Unreachable,
        _ => {}
    }
    info
}
