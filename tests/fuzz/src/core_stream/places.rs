//! The addresses and ports of a story. Those of both families stand in the same places.

use std::net::Ipv6Addr;

use shared::addr::{Addr, Family};

use super::script::Script;

/// Two on the link, two behind the gateway.
pub(super) fn client(family: Family, which: usize) -> Addr {
    match family {
        Family::V4 => Addr::from_v4_bytes(CLIENTS[which % CLIENTS.len()]),
        Family::V6 => v6(CLIENTS_V6[which % CLIENTS_V6.len()]),
    }
}

/// The last one is the director's own.
pub(super) fn vip(family: Family, which: usize) -> Addr {
    match family {
        Family::V4 => Addr::from_v4_bytes(VIPS[which % VIPS.len()]),
        Family::V6 => v6(VIPS_V6[which % VIPS_V6.len()]),
    }
}

/// The last two are the director's own and one behind the gateway.
pub(super) fn server(family: Family, which: usize) -> Addr {
    match family {
        Family::V4 => Addr::from_v4_bytes(SERVERS[which % SERVERS.len()]),
        Family::V6 => v6(SERVERS_V6[which % SERVERS_V6.len()]),
    }
}

pub(super) fn gateway(family: Family) -> Addr {
    match family {
        Family::V4 => Addr::from_v4_bytes([10, 0, 0, 254]),
        Family::V6 => v6([0xfe80, 0, 0, 0, 0, 0, 0, 0xfe]),
    }
}

/// A local address of FULLNAT.
pub(super) fn local(family: Family) -> Addr {
    match family {
        Family::V4 => Addr::from_v4_bytes([10, 1, 0, 200]),
        Family::V6 => v6([0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x200]),
    }
}

/// Somebody that no service knows, who may complain.
pub(super) fn stranger(family: Family) -> Addr {
    match family {
        Family::V4 => Addr::from_v4_bytes([172, 16, 0, 1]),
        Family::V6 => v6([0x2001, 0xdb8, 0x172, 0, 0, 0, 0, 1]),
    }
}

/// The network of a link, or of everybody.
pub(super) fn network(family: Family, which: usize) -> Addr {
    match (family, which) {
        (Family::V4, 0) => Addr::from_v4_bytes([10, 0, 0, 0]),
        (Family::V4, 1) => Addr::from_v4_bytes([10, 1, 0, 0]),
        (Family::V4, _) => Addr::UNSPECIFIED_V4,
        (Family::V6, 0) => v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0]),
        (Family::V6, 1) => v6([0x2001, 0xdb8, 1, 0, 0, 0, 0, 0]),
        (Family::V6, _) => v6([0; 8]),
    }
}

/// The length of a prefix of IPv6 that is used as this one of IPv4.
pub(super) fn length(family: Family, of_v4: u8) -> u8 {
    match (family, of_v4) {
        (Family::V4, length) => length,
        (Family::V6, 32) => 128,
        (Family::V6, 24) => 64,
        (Family::V6, length) => length * 2,
    }
}

pub(super) fn some_vip(script: &mut Script<'_>) -> Addr {
    let family = some_family(script);
    vip(family, usize::from(script.byte()))
}

/// Of the other family as well, where there are both.
pub(super) fn some_server(script: &mut Script<'_>) -> Addr {
    let family = some_family(script);
    server(family, usize::from(script.byte()))
}

pub(super) fn some_address(script: &mut Script<'_>) -> Addr {
    let family = some_family(script);
    let kind = script.byte();
    match kind % 5 {
        0 => server(family, usize::from(script.byte())),
        1 => client(family, usize::from(script.byte())),
        2 => vip(family, usize::from(script.byte())),
        3 => gateway(family),
        _ => match family {
            Family::V4 => Addr::from_v4_bytes([10, kind >> 7, 0, script.byte()]),
            Family::V6 => {
                let last = u16::from(script.byte());
                v6([0x2001, 0xdb8, u16::from(kind >> 7), 0, 0, 0, 0, last])
            }
        },
    }
}

pub(super) fn some_family(script: &mut Script<'_>) -> Family {
    if script.is_v6() {
        Family::V6
    } else {
        Family::V4
    }
}

fn v6(words: [u16; 8]) -> Addr {
    let [a, b, c, d, e, f, g, h] = words;
    Addr::from(std::net::IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)))
}

pub(super) const CLIENT_PORTS: [u16; 4] = [40001, 40002, 80, 20];
pub(super) const VIP_PORTS: [u16; 4] = [80, 53, 443, 0];
pub(super) const SERVER_PORTS: [u16; 5] = [8080, 80, 5353, 53, 0];
/// Of services whose packets are looked into.
pub(super) const FTP: u16 = 21;
pub(super) const SIP: u16 = 5060;
pub(super) const KEYS: u16 = 500;
/// Of tunnels by GUE.
pub(super) const GUE: u16 = 6080;

const CLIENTS: [[u8; 4]; 4] = [
    [10, 0, 0, 10],
    [192, 0, 2, 7],
    [10, 0, 0, 11],
    [198, 51, 100, 9],
];
const VIPS: [[u8; 4]; 3] = [[10, 0, 0, 100], [10, 0, 0, 101], [10, 0, 0, 1]];
const SERVERS: [[u8; 4]; 5] = [
    [10, 1, 0, 11],
    [10, 1, 0, 12],
    [10, 1, 0, 13],
    [10, 1, 0, 1],
    [203, 0, 113, 5],
];
const CLIENTS_V6: [[u16; 8]; 4] = [
    [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10],
    [0x2001, 0xdb8, 0x192, 0, 0, 0, 0, 7],
    [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x11],
    [0x2001, 0xdb8, 0x198, 0, 0, 0, 0, 9],
];
const VIPS_V6: [[u16; 8]; 3] = [
    [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100],
    [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x101],
    [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1],
];
const SERVERS_V6: [[u16; 8]; 5] = [
    [0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x11],
    [0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x12],
    [0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x13],
    [0x2001, 0xdb8, 1, 0, 0, 0, 0, 1],
    [0x2001, 0xdb8, 0x203, 0, 0, 0, 0, 5],
];
