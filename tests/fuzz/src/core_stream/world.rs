//! Who there is: two links, a few clients, VIPs and real servers; and what an administrator and a
//! kernel may tell a director.

use director::core::director::Director;
use director::core::net::{Mac, NetworkEvent, Port, Prefix, RouteInfo, RouteKind};
use director::core::operation::{
    ForwardMethod, Netmask, Operation, Persistence, SchedulerFlags, ServerKey, ServerSpec,
    ServiceKey, ServiceSpec, TimeoutChange, Tunnel, TunnelChecksum,
};
use director::core::verdict::Outbox;
use shared::addr::{Addr, Protocol};
use shared::time::Time;

use super::Script;

/// Two on the link, two behind the gateway.
pub(super) const CLIENTS: [[u8; 4]; 4] = [
    [10, 0, 0, 10],
    [192, 0, 2, 7],
    [10, 0, 0, 11],
    [198, 51, 100, 9],
];
pub(super) const CLIENT_PORTS: [u16; 4] = [40001, 40002, 80, 20];
pub(super) const VIPS: [[u8; 4]; 3] = [[10, 0, 0, 100], [10, 0, 0, 101], [10, 0, 0, 1]];
/// The last two are the director's own and one behind the gateway.
pub(super) const SERVERS: [[u8; 4]; 5] = [
    [10, 1, 0, 11],
    [10, 1, 0, 12],
    [10, 1, 0, 13],
    [10, 1, 0, 1],
    [203, 0, 113, 5],
];
const VIP_PORTS: [u16; 4] = [80, 53, 443, 0];
const SERVER_PORTS: [u16; 5] = [8080, 80, 5353, 53, 0];
const GATEWAY: [u8; 4] = [10, 0, 0, 254];

/// The host's network with a service for TCP and one for UDP, unless `choice` wants none.
pub(super) fn begin(director: &mut Director, choice: u8, now: Time) {
    let mut outbox = Outbox::default();
    let neighbour = |ifindex, address, last| NetworkEvent::Neighbour {
        ifindex,
        address: Addr::from_v4_bytes(address),
        mac: mac(last),
    };
    for event in [
        NetworkEvent::Link(link(0, 1500, true, 1)),
        NetworkEvent::Link(link(1, 1500, true, 2)),
        address(0, [10, 0, 0, 1], 24),
        address(0, VIPS[0], 32),
        address(0, VIPS[1], 32),
        address(1, SERVERS[3], 24),
        NetworkEvent::Route(route([10, 0, 0, 0], 24, 0, None)),
        NetworkEvent::Route(route([10, 1, 0, 0], 24, 1, None)),
        NetworkEvent::Route(route([0; 4], 0, 0, Some(GATEWAY))),
        neighbour(0, GATEWAY, 254),
        neighbour(1, SERVERS[0], 11),
        neighbour(1, SERVERS[1], 12),
    ] {
        director.network_changed(event, &mut outbox);
    }
    let method = match choice & 3 {
        0 | 1 => ForwardMethod::Nat,
        2 => ForwardMethod::Direct,
        _ => return,
    };
    for (protocol, port, inner) in [
        (Protocol::TCP, 80, 8080),
        (Protocol::UDP, 53, 5353),
        (Protocol::SCTP, 443, 3868),
    ] {
        let key = ServiceKey::new(protocol, VIPS[0], port);
        let inner = if method == ForwardMethod::Nat {
            inner
        } else {
            port
        };
        let mut operations = vec![Operation::AddService(ServiceSpec::new(key, "wlc"))];
        for server in &SERVERS[..3] {
            let spec = ServerSpec::new(*server, inner, method, 1);
            operations.push(Operation::AddServer(key, spec));
        }
        for operation in operations {
            director.apply(now, &operation).expect("a plain world");
        }
    }
}

/// Something that an administrator may want.
pub(super) fn operation(script: &mut Script<'_>) -> Operation {
    match script.byte() % 9 {
        0 => Operation::AddServer(service_key(script), server_spec(script)),
        1 => Operation::EditServer(service_key(script), server_spec(script)),
        2 => Operation::DeleteServer(service_key(script), server_key(script)),
        3 => Operation::AddService(service_spec(script)),
        4 => Operation::EditService(service_spec(script)),
        5 => Operation::DeleteService(service_key(script)),
        6 => Operation::SetTimeouts(TimeoutChange {
            tcp: seconds(script),
            tcp_fin: seconds(script),
            udp: seconds(script),
        }),
        7 => Operation::Zero((script.byte() & 1 == 1).then(|| service_key(script))),
        _ => Operation::Flush,
    }
}

fn service_key(script: &mut Script<'_>) -> ServiceKey {
    let protocol = script.one_of(&[Protocol::TCP, Protocol::UDP, Protocol::TCP, Protocol::SCTP]);
    ServiceKey::new(protocol, script.one_of(&VIPS), script.one_of(&VIP_PORTS))
}

fn service_spec(script: &mut Script<'_>) -> ServiceSpec {
    let key = service_key(script);
    let schedulers = [
        "rr", "wrr", "wlc", "sh", "none", "mh", "lblc", "lblcr", "dh", "twos", "ovf",
    ];
    let mut spec = ServiceSpec::new(key, script.one_of(&schedulers));
    let more = script.byte();
    spec.flags = SchedulerFlags(more & 3);
    // Not for all ports: then a connection would not tell by its ends which service it has.
    let all_ports = matches!(key, ServiceKey::Address { port: 0, .. });
    spec.persistence = (more & 0x0c == 0x0c && !all_ports).then_some(Persistence {
        timeout_secs: 1 + u32::from(more >> 4),
        netmask: Netmask::V4(if more & 0x10 == 0 {
            u32::MAX
        } else {
            0xffff_ff00
        }),
    });
    spec
}

fn server_key(script: &mut Script<'_>) -> ServerKey {
    ServerKey {
        address: script.one_of(&SERVERS).into(),
        port: match script.one_of(&SERVER_PORTS) {
            0 if !script.any_port => 443,
            port => port,
        },
    }
}

fn server_spec(script: &mut Script<'_>) -> ServerSpec {
    let key = server_key(script);
    let forward = script.one_of(&[
        ForwardMethod::Nat,
        ForwardMethod::Direct,
        ForwardMethod::Nat,
        ForwardMethod::Tunnel,
        ForwardMethod::Local,
        ForwardMethod::FullNat,
    ]);
    let weight = script.one_of(&[1, 0, 2, 7, i32::MAX, -1, 65535, 4]);
    let mut spec = ServerSpec::new(key.address, key.port, forward, weight);
    let thresholds = script.byte();
    spec.upper_threshold = u32::from(thresholds & 7);
    spec.lower_threshold = u32::from(thresholds >> 3 & 7);
    if thresholds & 0x80 != 0 {
        let checksum = TunnelChecksum::Full;
        spec.tunnel = Tunnel::Gue { port: 0, checksum };
    }
    spec
}

fn seconds(script: &mut Script<'_>) -> u32 {
    match script.byte() {
        byte @ 0..250 => u32::from(byte),
        byte => [8_589_934, 8_589_935, 1_000_000, 3600, 86_400, u32::MAX][usize::from(byte - 250)],
    }
}

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
        3 => {
            let (address, length) = (some_address(script), script.one_of(&[32, 24, 0, 16]));
            self::address(ifindex, address, length)
        }
        4 => NetworkEvent::AddressGone {
            ifindex,
            prefix: Prefix::new(
                Addr::from_v4_bytes(some_address(script)),
                script.one_of(&[32, 24, 0, 16]),
            ),
        },
        5 => {
            let count = script.byte() % 4;
            let some = |script: &mut Script<'_>| Addr::from_v4_bytes(some_address(script));
            let all = (0..count).map(|_| (ifindex, Prefix::new(some(script), 32)));
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
            address: Addr::from_v4_bytes(some_address(script)),
            mac: mac(script.byte()),
        },
        10 => NetworkEvent::NeighbourFailed {
            ifindex,
            address: Addr::from_v4_bytes(some_address(script)),
        },
        _ => NetworkEvent::NeighbourGone {
            ifindex,
            address: Addr::from_v4_bytes(some_address(script)),
        },
    }
}

pub(super) fn some_address(script: &mut Script<'_>) -> [u8; 4] {
    let kind = script.byte();
    match kind % 5 {
        0 => script.one_of(&SERVERS),
        1 => script.one_of(&CLIENTS),
        2 => script.one_of(&VIPS),
        3 => GATEWAY,
        _ => [10, kind >> 7, 0, script.byte()],
    }
}

fn some_link(script: &mut Script<'_>, ifindex: u32) -> Port {
    let mtu = script.one_of(&[1500, 576, 1280, 9000, 68, 0, 65_535, 100]);
    let up = script.byte() % 4 != 3;
    let mac = script.one_of(&[ifindex as u8 + 1, 7]);
    link(ifindex, mtu, up, mac)
}

fn some_route(script: &mut Script<'_>, ifindex: u32) -> RouteInfo {
    let length = script.one_of(&[24, 0, 32, 16, 8]);
    let gateway = (script.byte() & 1 == 1).then_some(GATEWAY);
    let mut info = route(some_address(script), length, ifindex, gateway);
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

fn link(ifindex: u32, mtu: u32, up: bool, last: u8) -> Port {
    Port {
        ifindex,
        name: format!("eth{ifindex}"),
        mac: mac(last),
        mtu,
        up,
    }
}

pub(super) fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

fn address(ifindex: u32, address: [u8; 4], length: u8) -> NetworkEvent {
    let prefix = Prefix::new(Addr::from_v4_bytes(address), length);
    NetworkEvent::Address { ifindex, prefix }
}

fn route(destination: [u8; 4], length: u8, ifindex: u32, gateway: Option<[u8; 4]>) -> RouteInfo {
    RouteInfo {
        destination: Prefix::new(Addr::from_v4_bytes(destination), length),
        table: 254,
        metric: 0,
        kind: RouteKind::Unicast {
            ifindex,
            gateway: gateway.map(Addr::from_v4_bytes),
        },
        mtu: None,
        source: None,
    }
}
