//! What there is when a story begins: two links of both families, neighbours, and some services.

use director::core::director::Director;
use director::core::net::{Mac, NetworkEvent, Port, Prefix, RouteInfo, RouteKind};
use director::core::operation::{
    ForwardMethod, Operation, ServerSpec, ServiceKey, ServiceSpec, Tunnel, TunnelChecksum,
};
use director::core::verdict::Outbox;
use shared::addr::{Addr, Family, Protocol};
use shared::time::Time;

use super::places::{self, FTP, GUE, KEYS, SIP};
use super::script::{Families, Method, Scene};

pub(super) fn begin(director: &mut Director, scene: Scene, now: Time) {
    let mut outbox = Outbox::default();
    let families = match scene.families {
        Families::V4 => &[Family::V4][..],
        _ => &[Family::V4, Family::V6],
    };
    for event in [
        NetworkEvent::Link(link(0, 1500, true, 1)),
        NetworkEvent::Link(link(1, 1500, true, 2)),
    ]
    .into_iter()
    .chain(families.iter().flat_map(|family| network(*family)))
    {
        director.network_changed(event, &mut outbox);
    }
    // Where there is IPv4 alone, packets to the third server wait.
    for &family in families.iter().filter(|_| families.len() > 1) {
        let event = neighbour(1, places::server(family, 2), 13);
        director.network_changed(event, &mut outbox);
    }
    let Some(method) = scene.method else {
        return;
    };
    for operation in services(scene, method) {
        director.apply(now, &operation).expect("a plain world");
    }
}

fn neighbour(ifindex: u32, address: Addr, last: u8) -> NetworkEvent {
    NetworkEvent::Neighbour {
        ifindex,
        address,
        mac: mac(last),
    }
}

fn network(family: Family) -> impl Iterator<Item = NetworkEvent> {
    let host = places::length(family, 32);
    let link = places::length(family, 24);
    let route = |which: usize, length, ifindex, gateway| {
        let prefix = Prefix::new(places::network(family, which), length);
        NetworkEvent::Route(route(prefix, ifindex, gateway))
    };
    [
        address(0, places::vip(family, 2), link),
        address(0, places::vip(family, 0), host),
        address(0, places::vip(family, 1), host),
        address(1, places::server(family, 3), link),
        route(0, link, 0, None),
        route(1, link, 1, None),
        route(2, 0, 0, Some(places::gateway(family))),
        neighbour(0, places::gateway(family), 254),
        neighbour(1, places::server(family, 0), 11),
        neighbour(1, places::server(family, 1), 12),
    ]
    .into_iter()
}

fn services(scene: Scene, method: Method) -> Vec<Operation> {
    let mut operations = Vec::new();
    if method == Method::FullNat {
        operations.extend([Family::V4, Family::V6].map(local_address));
    }
    let families = match scene.families {
        Families::V4 => &[Family::V4][..],
        Families::V6 => &[Family::V6],
        Families::Both => &[Family::V4, Family::V6],
    };
    let mut ports = vec![
        (Protocol::TCP, 80, 8080),
        (Protocol::UDP, 53, 5353),
        (Protocol::SCTP, 443, 3868),
    ];
    if scene.applications {
        ports.extend([
            (Protocol::TCP, FTP, FTP),
            (Protocol::UDP, SIP, 5070),
            (Protocol::UDP, KEYS, KEYS),
        ]);
    }
    for &family in families {
        for &(protocol, port, inner) in &ports {
            let key = ServiceKey::new(protocol, places::vip(family, 0), port);
            let mut spec = ServiceSpec::new(key, "wlc");
            if port == SIP {
                spec.persistence = Some(super::operations::persistence(family, 30, true));
                spec.persistence_engine = Some("sip".to_owned());
            }
            operations.push(Operation::AddService(spec));
            let port = if matches!(method, Method::Nat | Method::FullNat) {
                inner
            } else {
                port
            };
            for which in 0..3 {
                let server = server(family, which, port, method);
                operations.push(Operation::AddServer(key, server));
            }
        }
    }
    operations
}

/// The third one is of the other family where a client of IPv6 can have one.
fn server(family: Family, which: usize, port: u16, method: Method) -> ServerSpec {
    let other = match (method, family, which) {
        (Method::Tunnel, Family::V4, 2) => Family::V6,
        (Method::Tunnel | Method::FullNat, Family::V6, 2) => Family::V4,
        _ => family,
    };
    let forward = match method {
        Method::Nat => ForwardMethod::Nat,
        Method::Direct => ForwardMethod::Direct,
        Method::Tunnel => ForwardMethod::Tunnel,
        Method::FullNat => ForwardMethod::FullNat,
    };
    // Whose neighbour is there.
    let which = if other == family { which } else { 0 };
    let mut spec = ServerSpec::new(places::server(other, which).ip(), port, forward, 1);
    if method == Method::Tunnel {
        spec.tunnel = TUNNELS[which];
    }
    spec
}

pub(super) fn local_address(family: Family) -> Operation {
    Operation::AddLocalAddress {
        address: places::local(family).ip(),
        interface: None,
    }
}

pub(super) fn link(ifindex: u32, mtu: u32, up: bool, last: u8) -> Port {
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

pub(super) fn address(ifindex: u32, address: Addr, length: u8) -> NetworkEvent {
    let prefix = Prefix::new(address, length);
    NetworkEvent::Address { ifindex, prefix }
}

pub(super) fn route(destination: Prefix, ifindex: u32, gateway: Option<Addr>) -> RouteInfo {
    RouteInfo {
        destination,
        table: 254,
        metric: 0,
        kind: RouteKind::Unicast { ifindex, gateway },
        mtu: None,
        source: None,
    }
}

/// All that have no part of their own in the checksum of what is inside.
pub(super) const TUNNELS: [Tunnel; 5] = [
    Tunnel::Ipip,
    Tunnel::Gue {
        port: GUE,
        checksum: TunnelChecksum::Full,
    },
    Tunnel::Gre {
        checksum: TunnelChecksum::Full,
    },
    Tunnel::Gue {
        port: GUE,
        checksum: TunnelChecksum::None,
    },
    Tunnel::Gre {
        checksum: TunnelChecksum::None,
    },
];
