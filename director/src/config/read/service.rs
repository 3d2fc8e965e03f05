//! `[[service]]` with its `[[service.server]]`.

use std::net::{Ipv4Addr, SocketAddr};

use shared::addr::{Family, Protocol};

use super::beyond::{beyond, check_introduction};
use super::check::{check_ports, judges};
use super::guard::{self, check_sorry_server, guarding};
use super::{MOST_TIMEOUT_SECS, decimal, endpoint, is_of_family};
use crate::config::{Checks, Guarding, Service, words};
use crate::core::operation::{
    ForwardMethod, Netmask, Persistence, SchedulerFlags, ServerSpec, ServiceKey, ServiceSpec,
    Tunnel, TunnelChecksum,
};
use shared::config::{Notes, Section, Seen, word};

/// The service of a section, and where it stands.
pub(super) fn service(notes: &mut Notes<'_>, section: Section<'_, '_>) -> Option<(usize, Service)> {
    let named = name(notes, section);
    let scheduler = section
        .text(notes, "scheduler")
        .map_or(Some("wlc"), |given| {
            word(notes, "scheduler", given, &words::SCHEDULERS)
        });
    let (flags, one_packet) = flags(notes, section, scheduler.unwrap_or_default());
    let family = named.as_ref().map_or(Family::V4, |(_, key)| key.family());
    let persistence = persistence(notes, section, family);
    let port = named.as_ref().and_then(|(_, key)| match *key {
        ServiceKey::Address { port, .. } => Some(port),
        ServiceKey::Mark { .. } => None,
    });
    let mut checks = Checks {
        service: judges(notes, section, &words::SERVICE_CHECK, None).unwrap_or_default(),
        ..Checks::default()
    };
    let name_of = named.as_ref().map(|(_, key)| *key);
    let mut guarding = guarding(notes, section, name_of, &checks);
    let servers = servers(notes, section, name_of, &mut checks, &mut guarding);
    check_sorry_server(notes, section, &guarding.guard, &servers);
    let (at, key) = named?;
    let protocol = match key {
        ServiceKey::Address { protocol, .. } => Some(protocol),
        ServiceKey::Mark { .. } => None,
    };
    let beyond = beyond(notes, section, protocol, scheduler.unwrap_or_default());
    let engine = engine(notes, section, protocol, persistence);
    if one_packet && protocol.is_some_and(|protocol| protocol != Protocol::UDP) {
        let fault = "flag \"ops\" schedules datagrams one by one; write protocol = \"udp\"";
        notes.fault(at, fault);
    }
    if port == Some(0) && persistence.is_none() {
        let fault = "a service on port 0, which is all ports, needs to know clients again; write \
                     persistence = 300";
        notes.fault(at, fault);
    }
    let spec = ServiceSpec {
        flags,
        persistence,
        persistence_engine: engine,
        one_packet,
        beyond,
        ..ServiceSpec::new(key, scheduler?)
    };
    check_introduction(notes, at, &spec, &servers);
    Some((
        at,
        Service {
            spec,
            servers,
            checks,
            guarding,
        },
    ))
}

/// What names the service, and where that stands: an address with a protocol, or a mark.
fn name(notes: &mut Notes<'_>, section: Section<'_, '_>) -> Option<(usize, ServiceKey)> {
    if let Some(mark) = section.number(notes, "fwmark", 1..=u32::MAX) {
        for key in ["address", "protocol"] {
            if let Some(given) = section.text(notes, key) {
                let fault = format!(
                    "a service by mark takes whatever carries the mark; leave `{key}' out, or `fwmark'"
                );
                notes.fault(given.at, fault);
            }
        }
        let family = match section.text(notes, "family") {
            None => Family::V4,
            Some(given) => match word(notes, "family", given, &words::FAMILIES)? {
                "ipv6" => Family::V6,
                _ => Family::V4,
            },
        };
        let mark_of = |mark| ServiceKey::Mark { mark, family };
        return Some((mark.at, mark_of(mark.value)));
    }
    if !section.lacks("fwmark") {
        return None;
    }
    if let Some(given) = section.text(notes, "family") {
        let fault = "`family' is for a service by mark, which has no address to tell; leave it out";
        notes.fault(given.at, fault);
    }
    let text = section.required_text(notes, "address", "\"192.168.100.240:80\"");
    let protocol = section
        .required_text(notes, "protocol", "\"tcp\", \"udp\" or \"sctp\"")
        .and_then(|given| word(notes, "protocol", given, &words::PROTOCOLS));
    let text = text?;
    let (address, port) = endpoint(notes, text)?;
    if port.is_none() {
        let example = SocketAddr::new(address, 80);
        let fault = format!("service address {address} has no port; write \"{example}\"");
        notes.fault(text.at, fault);
    }
    let key = ServiceKey::new(super::protocol(protocol?), address, port?);
    Some((text.at, key))
}

/// `sh-port` and its like, and whether `ops` is among them.
fn flags(
    notes: &mut Notes<'_>,
    section: Section<'_, '_>,
    scheduler: &str,
) -> (SchedulerFlags, bool) {
    let (mut flags, mut one_packet) = (SchedulerFlags::default(), false);
    for given in section.texts(notes, "flags") {
        let Some(flag) = word(notes, "flag", given, &words::FLAGS) else {
            continue;
        };
        let (owner, what) = flag.split_once('-').unwrap_or((flag, ""));
        match what {
            "fallback" | "1" => flags.0 |= SchedulerFlags::FLAG_1,
            "port" | "2" => flags.0 |= SchedulerFlags::FLAG_2,
            "3" => flags.0 |= SchedulerFlags::FLAG_3,
            _ => one_packet = true,
        }
        if ["sh", "mh"].contains(&owner) && owner != scheduler {
            notes.fault(
                given.at,
                format!(
                    "flag \"{flag}\" is of scheduler \"{owner}\", and this one is \"{scheduler}\""
                ),
            );
        }
    }
    (flags, one_packet)
}

/// `persistence = 300`, perhaps with `netmask = "255.255.255.0"`.
fn persistence(
    notes: &mut Notes<'_>,
    section: Section<'_, '_>,
    family: Family,
) -> Option<Persistence> {
    let timeout = section.number(notes, "persistence", 1..=MOST_TIMEOUT_SECS);
    let netmask = section.text(notes, "netmask");
    let all = match family {
        Family::V4 => Netmask::V4(u32::MAX),
        Family::V6 => Netmask::V6(128),
    };
    let mask = netmask.map_or(Some(all), |netmask| {
        let (mask, what) = match family {
            Family::V4 => {
                let mask = netmask.value.parse::<Ipv4Addr>().ok().map(u32::from);
                let mask = mask.filter(|&mask| mask != 0).map(Netmask::V4);
                (mask, "an IPv4 mask; write one, as in \"255.255.255.0\"")
            }
            Family::V6 => {
                let length = decimal(netmask.value).filter(|length| (1..=128).contains(length));
                let mask = length.map(|length| Netmask::V6(length as u8));
                (
                    mask,
                    "a prefix length from 1 to 128; write one, as in \"64\"",
                )
            }
        };
        if mask.is_none() {
            let fault = format!("netmask {:?} is not {what}", netmask.value);
            notes.fault(netmask.at, fault);
        }
        mask
    });
    if let (None, Some(netmask)) = (timeout, netmask) {
        let fault =
            "a netmask says how many clients are one, for persistence; write persistence = 300";
        notes.fault(netmask.at, fault);
    }
    Some(Persistence {
        timeout_secs: timeout?.value,
        netmask: mask?,
    })
}

/// `persistence_engine = "sip"`; `protocol` is none of a service by mark.
fn engine(
    notes: &mut Notes<'_>,
    section: Section<'_, '_>,
    protocol: Option<Protocol>,
    persistence: Option<Persistence>,
) -> Option<String> {
    let given = section.text(notes, "persistence_engine")?;
    let engine = word(notes, "persistence_engine", given, &words::ENGINES)?;
    if protocol.is_some_and(|protocol| protocol != Protocol::UDP) {
        let fault = "persistence_engine \"sip\" reads datagrams; write protocol = \"udp\"";
        notes.fault(given.at, fault);
    }
    if persistence.is_none() {
        let fault = "a persistence_engine says which clients are one, for persistence; write \
                     persistence = 300";
        notes.fault(given.at, fault);
    }
    Some(engine.to_owned())
}

/// The servers of a service, whose name is none if it could not be read.
fn servers(
    notes: &mut Notes<'_>,
    service: Section<'_, '_>,
    name: Option<ServiceKey>,
    checks: &mut Checks,
    guarding: &mut Guarding,
) -> Vec<ServerSpec> {
    let mut seen = Seen::default();
    let mut servers = Vec::new();
    for section in service.tables(notes, "server", &words::SERVER) {
        let own = judges(notes, section, &words::SERVER_CHECK, Some(service));
        if let Some((at, server)) = server(notes, section, name)
            && seen.first(
                notes,
                at,
                format_args!("real server {}", server.key),
                server.key,
            )
        {
            check_ports(
                notes,
                at,
                &server.key,
                own.as_ref().unwrap_or(&checks.service),
            );
            checks.servers.extend(own.map(|own| (server.key, own)));
            guard::of_server(notes, section, service, server.key, guarding);
            servers.push(server);
        }
    }
    servers
}

fn server(
    notes: &mut Notes<'_>,
    section: Section<'_, '_>,
    service: Option<ServiceKey>,
) -> Option<(usize, ServerSpec)> {
    let service_port = service.map(|key| match key {
        ServiceKey::Address { port, .. } => port,
        // As they are asked for.
        ServiceKey::Mark { .. } => 0,
    });
    let text = section.required_text(notes, "address", "\"192.168.100.8:80\"");
    let forward = section.text(notes, "forward").map_or(Some("dr"), |given| {
        word(notes, "forward", given, &words::FORWARDS)
    });
    let weight = section
        .number(notes, "weight", 0..=MOST_WEIGHT)
        .map_or(1, |weight| weight.value as i32);
    let upper = section.number(notes, "upper_threshold", 0..=MOST_THRESHOLD);
    let lower = section.number(notes, "lower_threshold", 0..=MOST_THRESHOLD);
    let upper_threshold = upper.map_or(0, |upper| upper.value);
    if let Some(lower) = lower
        && lower.value > upper_threshold
    {
        notes.fault(
            lower.at,
            format!(
                "lower_threshold {} is above upper_threshold {upper_threshold}; write a number up \
                 to the upper one, or 0 for three quarters of it",
                lower.value
            ),
        );
    }
    let text = text?;
    let (address, port) = endpoint(notes, text)?;
    let port = port.or(service_port)?;
    let forward = match forward? {
        "nat" => ForwardMethod::Nat,
        "local" => ForwardMethod::Local,
        "tun" => ForwardMethod::Tunnel,
        "fullnat" => ForwardMethod::FullNat,
        _ => ForwardMethod::Direct,
    };
    let families = (service.map(|key| key.family()), address);
    is_of_family(notes, text, families, forward).then_some(())?;
    let tunnel = tunnel(notes, section, forward);
    if matches!(forward, ForwardMethod::Direct | ForwardMethod::Tunnel)
        && let Some(service_port) = service_port
        && port != service_port
    {
        notes.fault(
            text.at,
            format!(
                "real server {} has not the port of its service, and \"{}\" does not change ports; \
                 write \"{}\", or forward = \"nat\"",
                SocketAddr::new(address, port),
                if forward == ForwardMethod::Tunnel {
                    "tun"
                } else {
                    "dr"
                },
                SocketAddr::new(address, service_port)
            ),
        );
    }
    let server = ServerSpec {
        upper_threshold,
        lower_threshold: lower.map_or(0, |lower| lower.value),
        tunnel,
        ..ServerSpec::new(address, port, forward, weight)
    };
    Some((text.at, server))
}

/// The encapsulation, as ipvsadm's `--tun-*` say it.
fn tunnel(notes: &mut Notes<'_>, section: Section<'_, '_>, forward: ForwardMethod) -> Tunnel {
    let given = section.text(notes, "tunnel");
    let port = section.number(notes, "tunnel_port", 1..=65535);
    let checksum = section.text(notes, "tunnel_checksum");
    let places = [
        given.map(|given| ("tunnel", given.at)),
        port.map(|port| ("tunnel_port", port.at)),
        checksum.map(|checksum| ("tunnel_checksum", checksum.at)),
    ];
    if forward != ForwardMethod::Tunnel {
        for (key, at) in places.into_iter().flatten() {
            notes.fault(
                at,
                format!("`{key}' is for tunnels; write forward = \"tun\""),
            );
        }
        return Tunnel::default();
    }
    let kind = given.map_or(Some("ipip"), |given| {
        word(notes, "tunnel", given, &words::TUNNELS)
    });
    let sum =
        checksum.and_then(|given| word(notes, "tunnel_checksum", given, &words::TUNNEL_CHECKSUMS));
    let sum = match sum {
        Some("full") => TunnelChecksum::Full,
        Some("remote") => TunnelChecksum::Remote,
        _ => TunnelChecksum::None,
    };
    if let (Some(port), Some("ipip" | "gre")) = (port, kind) {
        notes.fault(
            port.at,
            "only a GUE tunnel has a port; leave it out".to_owned(),
        );
    }
    if let (Some(checksum), Some("ipip")) = (checksum, kind) {
        let fault = "an IPIP tunnel has no checksum; leave it out, or write tunnel = \"gre\"";
        notes.fault(checksum.at, fault);
    }
    match kind {
        Some("gue") => {
            if port.is_none() {
                let at = given.map_or(section.at, |given| given.at);
                notes.fault(
                    at,
                    "a GUE tunnel needs its UDP port; write tunnel_port = 6080",
                );
            }
            Tunnel::Gue {
                port: port.map_or(0, |port| port.value as u16),
                checksum: sum,
            }
        }
        Some("gre") => {
            if let (Some(checksum), TunnelChecksum::Remote) = (checksum, sum) {
                let fault = "remote checksum offload is for GUE; write \"full\" or \"none\"";
                notes.fault(checksum.at, fault);
            }
            Tunnel::Gre { checksum: sum }
        }
        _ => Tunnel::Ipip,
    }
}

/// What `ipvsadm -w` and keepalived take.
const MOST_WEIGHT: u32 = 65_535;

/// The kernel's limit.
const MOST_THRESHOLD: u32 = i32::MAX as u32;
