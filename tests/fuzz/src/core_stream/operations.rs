//! What an administrator may want.

use director::core::operation::{
    ForwardMethod, Introduction, Netmask, Operation, Persistence, SchedulerFlags, ServerKey,
    ServerSpec, ServiceKey, ServiceSpec, TimeoutChange, Tunnel, TunnelChecksum,
};
use shared::addr::{Family, Protocol};

use super::places::{self, FTP, KEYS, SERVER_PORTS, SIP, VIP_PORTS};
use super::script::{Families, Script};
use super::world;

/// Something that an administrator may want.
pub(super) fn operation(script: &mut Script<'_>) -> Operation {
    // What IPVS has not comes where it may be used.
    let kinds = match script.scene.families {
        Families::V4 => 9,
        _ => 12,
    };
    match script.byte() % kinds {
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
        8 => Operation::Flush,
        9 => world::local_address(places::some_family(script)),
        10 => {
            let family = places::some_family(script);
            Operation::DeleteLocalAddress(places::local(family).ip())
        }
        _ => Operation::AddService(service_spec(script)),
    }
}

fn service_key(script: &mut Script<'_>) -> ServiceKey {
    let protocol = script.one_of(&[Protocol::TCP, Protocol::UDP, Protocol::TCP, Protocol::SCTP]);
    let vip = places::some_vip(script);
    let port = if script.scene.applications {
        script.one_of(&[80, 53, 443, 0, FTP, SIP, KEYS])
    } else {
        script.one_of(&VIP_PORTS)
    };
    ServiceKey::new(protocol, vip, port)
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
    let wanted = more & 0x0c == 0x0c && !all_ports;
    let seconds = 1 + u32::from(more >> 4);
    spec.persistence = wanted.then_some(persistence(key.family(), seconds, more & 0x10 == 0));
    let of_udp = matches!(key, ServiceKey::Address { protocol, .. } if protocol == Protocol::UDP);
    if script.scene.applications && of_udp {
        spec.one_packet = more & 0x20 != 0;
        let engine = wanted && more & 0x40 != 0;
        spec.persistence_engine = engine.then(|| "sip".to_owned());
    }
    if script.scene.families != Families::V4 {
        let ways = [
            Introduction::Toa,
            Introduction::ProxyProtocol,
            Introduction::None,
        ];
        spec.beyond.introduction = script.one_of(&ways);
    }
    spec
}

/// Of one client each, or of a network.
pub(super) fn persistence(family: Family, timeout_secs: u32, of_one: bool) -> Persistence {
    let netmask = match (family, of_one) {
        (Family::V4, true) => Netmask::V4(u32::MAX),
        (Family::V4, false) => Netmask::V4(0xffff_ff00),
        (Family::V6, true) => Netmask::V6(128),
        (Family::V6, false) => Netmask::V6(64),
    };
    Persistence {
        timeout_secs,
        netmask,
    }
}

fn server_key(script: &mut Script<'_>) -> ServerKey {
    ServerKey {
        address: places::some_server(script).ip(),
        port: match script.one_of(&SERVER_PORTS) {
            0 if !script.scene.any_port => 443,
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
    if script.scene.families != Families::V4 {
        spec.tunnel = world::TUNNELS[usize::from(thresholds >> 5) % world::TUNNELS.len()];
    } else if thresholds & 0x80 != 0 {
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
