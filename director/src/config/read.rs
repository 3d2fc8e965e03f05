//! From the text of a configuration file to its values.

mod beyond;
mod check;
mod deny;
mod guard;
mod mark;
mod metrics;
mod service;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use shared::addr::{Addr, Family, Protocol};
use shared::config::{Faults, Notes, Placed, Section, Seen};

use self::check::agents;
use self::deny::deny;
use self::mark::mark;
use self::metrics::metrics;
use self::service::service;
use super::{Config, Connections, Service, Vip, words};
use crate::core::local_ports::MOST_ADDRESSES;
use crate::core::net::host_length;
use crate::core::operation::{ForwardMethod, ServerSpec};
use crate::core::sysctl::Sysctl;
use crate::core::view::TimeoutsView;

/// The values of a text, or all its faults.
pub(super) fn parse(text: &str, file: &str) -> Result<Config, Faults> {
    shared::config::read(text, file, &words::FILE, config)
}

fn config(notes: &mut Notes<'_>, root: Section<'_, '_>) -> Config {
    let mut config = Config::default();
    if let Some(section) = root.table(notes, "director", &words::DIRECTOR) {
        config.interfaces = interfaces(notes, section);
        config.rules = rules(notes, section);
        config.local_clients = section.flag(notes, "local_clients").unwrap_or(false);
    }
    if let Some(section) = root.table(notes, "sysctl", &words::SYSCTL) {
        config.sysctl = sysctl(notes, section);
    }
    if let Some(section) = root.table(notes, "timeouts", &words::TIMEOUTS) {
        config.timeouts = timeouts(notes, section, config.timeouts);
    }
    if let Some(section) = root.table(notes, "connections", &words::CONNECTIONS) {
        config.connections = connections(notes, section, config.connections);
    }
    if let Some(section) = root.table(notes, "metrics", &words::METRICS) {
        config.metrics = metrics(notes, section);
    }
    let mut seen = Seen::default();
    for section in root.tables(notes, "vip", &words::VIP) {
        if let Some((at, vip)) = vip(notes, section)
            && seen.first(notes, at, format_args!("VIP {}", vip.address), vip.address)
        {
            config.vips.push(vip);
        }
    }
    let mut seen = Seen::default();
    for section in root.tables(notes, "deny", &words::DENY) {
        if let Some((at, rule)) = deny(notes, section)
            && seen.first(
                notes,
                at,
                format_args!("source {}/{}", rule.source, rule.length),
                rule,
            )
        {
            config.deny.push(rule);
        }
    }
    for section in root.tables(notes, "mark", &words::MARK) {
        config.marks.extend(mark(notes, section));
    }
    if let Some(section) = root.table(notes, "fullnat", &words::FULLNAT) {
        config.local_addresses = local_addresses(notes, section, &config.vips);
    }
    if let Some(section) = root.table(notes, "agents", &words::AGENTS) {
        config.agents = Some(agents(notes, section));
    }
    let mut seen = Seen::default();
    for section in root.tables(notes, "service", &words::SERVICE) {
        if let Some((at, service)) = service(notes, section) {
            let key = service.spec.key;
            if config.agents.is_none() && service.checks.all().any(|judges| judges.agent.is_some())
            {
                let fault = format!(
                    "real servers of service {key} are judged by their agents, and nobody listens to these; \
                     write [agents]"
                );
                notes.fault(at, fault);
            }
            check_full_nat(notes, at, &service, &config.local_addresses);
            if seen.first(notes, at, format_args!("service {key}"), key) {
                config.services.push(service);
            }
        }
    }
    config
}

fn interfaces(notes: &mut Notes<'_>, section: Section<'_, '_>) -> Vec<String> {
    let mut seen = Seen::default();
    let mut interfaces = Vec::new();
    for name in section.texts(notes, "interfaces") {
        if is_interface(notes, name)
            && seen.first(
                notes,
                name.at,
                format_args!("interface {:?}", name.value),
                name.value,
            )
        {
            interfaces.push(name.value.to_owned());
        }
    }
    interfaces
}

/// `local_addresses = ["10.0.0.9", "2001:db8::9"]`
fn local_addresses(notes: &mut Notes<'_>, section: Section<'_, '_>, vips: &[Vip]) -> Vec<IpAddr> {
    let mut seen = Seen::default();
    let mut addresses = Vec::new();
    for text in section.texts(notes, "local_addresses") {
        let Some(address) = ip_address(notes, text, text.value, "\"10.0.0.9\"") else {
            continue;
        };
        if vips.iter().any(|vip| vip.address == address) {
            let fault = format!(
                "local address {address} is a [[vip]] as well; write one that nobody uses, since the director \
                 takes all TCP, UDP and SCTP to it"
            );
            notes.fault(text.at, fault);
        } else if addresses.len() == MOST_ADDRESSES {
            let fault =
                format!("there can be {MOST_ADDRESSES} local addresses; leave out the others");
            notes.fault(text.at, fault);
            break;
        } else if seen.first(
            notes,
            text.at,
            format_args!("local address {address}"),
            address,
        ) {
            addresses.push(address);
        }
    }
    addresses
}

/// FULLNAT needs addresses that are not those of services, of the families of the real servers.
fn check_full_nat(notes: &mut Notes<'_>, at: usize, service: &Service, locals: &[IpAddr]) {
    let lacks_one = |server: &&ServerSpec| {
        let is_of_family = |local: &IpAddr| local.is_ipv6() == server.key.address.is_ipv6();
        server.forward == ForwardMethod::FullNat && !locals.iter().any(is_of_family)
    };
    let Some(server) = service.servers.iter().find(lacks_one) else {
        return;
    };
    let example = if server.key.address.is_ipv6() {
        "2001:db8::9"
    } else {
        "10.0.0.9"
    };
    let fault = format!(
        "real server {} of service {} is forwarded to by FULLNAT, which needs a local address of its family; \
         write [fullnat] with local_addresses = [\"{example}\"]",
        server.key, service.spec.key
    );
    notes.fault(at, fault);
}

fn rules(notes: &mut Notes<'_>, section: Section<'_, '_>) -> Option<PathBuf> {
    let path = section.text(notes, "rules")?;
    if path.value.starts_with('/') {
        return Some(PathBuf::from(path.value));
    }
    notes.fault(
        path.at,
        format!(
            "`rules' is {:?}, which depends on where the director is started; write a path from the \
             root, such as \"/etc/lvs/rules\"",
            path.value
        ),
    );
    None
}

fn sysctl(notes: &mut Notes<'_>, section: Section<'_, '_>) -> Sysctl {
    let mut sysctl = Sysctl::default();
    for name in words::SYSCTL.known {
        let Some(number) = section.number(notes, name, 0..=i32::MAX as u32) else {
            continue;
        };
        if let Err(error) = sysctl.set(name, number.value as i32) {
            notes.fault(number.at, error.to_string());
        }
    }
    sysctl
}

fn timeouts(
    notes: &mut Notes<'_>,
    section: Section<'_, '_>,
    default: TimeoutsView,
) -> TimeoutsView {
    let mut seconds = |key, default| {
        section
            .number(notes, key, 1..=MOST_TIMEOUT_SECS)
            .map_or(default, |number| number.value)
    };
    TimeoutsView {
        tcp: seconds("tcp", default.tcp),
        tcp_fin: seconds("tcp_fin", default.tcp_fin),
        udp: seconds("udp", default.udp),
    }
}

fn connections(
    notes: &mut Notes<'_>,
    section: Section<'_, '_>,
    default: Connections,
) -> Connections {
    let max = section
        .number(notes, "max", 1..=MOST_CONNECTIONS)
        .map_or(default.max, |max| max.value);
    let half_open = section.number(notes, "half_open", 1..=max);
    Connections {
        half_open: half_open.map_or((max / 4).max(1), |number| number.value),
        max,
        table_bits: section
            .number(notes, "table_bits", 8..=27)
            .map_or(default.table_bits, |bits| bits.value as u8),
    }
}

fn protocol(word: &str) -> Protocol {
    match word {
        "udp" => Protocol::UDP,
        "sctp" => Protocol::SCTP,
        _ => Protocol::TCP,
    }
}

fn vip(notes: &mut Notes<'_>, section: Section<'_, '_>) -> Option<(usize, Vip)> {
    let text = section.required_text(notes, "address", "\"192.168.100.240/32\"");
    let interface = section
        .required_text(notes, "interface", "\"eth0\"")
        .filter(|&name| is_interface(notes, name));
    let label = section.text(notes, "label");
    if let (Some(label), Some(interface)) = (label, interface) {
        check_label(notes, label, interface.value);
    }
    let text = text?;
    let (address, prefix) = vip_address(notes, text)?;
    let vip = Vip {
        address,
        prefix,
        interface: interface?.value.to_owned(),
        label: label.map(|label| label.value.to_owned()),
    };
    Some((text.at, vip))
}

/// `192.168.100.240/32`, or without a prefix length, which then is that of one address.
fn vip_address(notes: &mut Notes<'_>, text: Placed<&str>) -> Option<(IpAddr, u8)> {
    let (address, prefix) = match text.value.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text.value, None),
    };
    let example = "\"192.168.100.240/32\"";
    let address = ip_address(notes, text, address, example)?;
    let whole = host_length(Family::of(address));
    let Some(prefix) = prefix else {
        return Some((address, whole));
    };
    if let Some(prefix) = decimal(prefix)
        && (1..=u32::from(whole)).contains(&prefix)
    {
        return Some((address, prefix as u8));
    }
    notes.fault(
        text.at,
        format!(
            "prefix length `{prefix}' of {address} is not from 1 to {whole}; write \"{address}/{whole}\""
        ),
    );
    None
}

/// The kernel takes any label, but `ifconfig` and `ip` expect one that begins with the interface.
fn check_label(notes: &mut Notes<'_>, label: Placed<&str>, interface: &str) {
    let rest = label.value.strip_prefix(interface);
    if rest.is_none_or(|rest| !rest.starts_with(':') || rest.len() == 1) {
        notes.fault(
            label.at,
            format!(
                "label {:?} does not begin with its interface; write \"{interface}:0\"",
                label.value
            ),
        );
    } else if label.value.len() > MOST_NAME_BYTES || label.value.contains(char::is_whitespace) {
        notes.fault(
            label.at,
            format!(
                "label {:?} is not a word of at most {MOST_NAME_BYTES} bytes; write \
                 \"{interface}:0\"",
                label.value
            ),
        );
    }
}

/// `192.168.100.240:80`, or without a port.
fn endpoint(notes: &mut Notes<'_>, text: Placed<&str>) -> Option<(IpAddr, Option<u16>)> {
    let (address, port) = match text.value.rsplit_once(':') {
        // The last part of an IPv6 address without brackets is not a port.
        Some((address, port)) if !address.contains(':') || address.ends_with(']') => {
            (address, Some(port))
        }
        _ => (text.value, None),
    };
    let address = ip_address(notes, text, address, "\"192.168.100.240:80\"")?;
    let Some(port) = port else {
        return Some((address, None));
    };
    let fault = match decimal(port) {
        Some(port) if port <= u32::from(u16::MAX) => return Some((address, Some(port as u16))),
        _ => format!(
            "port `{port}' of {address} is not a number from 0 to 65535; write \"{}\"",
            SocketAddr::new(address, 80)
        ),
    };
    notes.fault(text.at, fault);
    None
}

/// Such as `usual`, whose port is that of an address without one.
fn socket_address(
    notes: &mut Notes<'_>,
    text: Placed<&str>,
    usual: SocketAddr,
) -> Option<SocketAddr> {
    let whole = text.value.parse::<SocketAddr>().ok();
    let inside = text.value.strip_prefix('[');
    let inside = inside.and_then(|rest| rest.strip_suffix(']'));
    let bare = inside.unwrap_or(text.value).parse::<IpAddr>().ok();
    let address = whole.or_else(|| Some(SocketAddr::new(bare?, usual.port())));
    let address = address.filter(|address| address.port() != 0);
    if address.is_none() {
        let fault = format!(
            "{:?} is not an address to listen at; write one, as in \"{usual}\"",
            text.value
        );
        notes.fault(text.at, fault);
    }
    address
}

/// A unicast address; `text` is where it stands, and `example` what such a value looks like.
fn ip_address(
    notes: &mut Notes<'_>,
    text: Placed<&str>,
    address: &str,
    example: &str,
) -> Option<IpAddr> {
    let inside = address.strip_prefix('[');
    let inside = inside.and_then(|rest| rest.strip_suffix(']'));
    let ip = match inside {
        Some(v6) => v6.parse::<Ipv6Addr>().map(IpAddr::V6),
        None => address.parse::<IpAddr>(),
    };
    let Ok(ip) = ip else {
        notes.fault(
            text.at,
            format!(
                "{:?} is not an IP address; write one, as in {example} (names are not looked up)",
                text.value
            ),
        );
        return None;
    };
    if !Addr::from(ip).is_unicast() {
        notes.fault(
            text.at,
            format!("{ip} is not the address of one host; write one that is, as in {example}"),
        );
        return None;
    }
    Some(ip)
}

/// Whether a server can be one of a service of this family.
fn is_of_family(
    notes: &mut Notes<'_>,
    text: Placed<&str>,
    (service, address): (Option<Family>, IpAddr),
    forward: ForwardMethod,
) -> bool {
    let fault = match service {
        // From one family to the other lead tunnels, and FULLNAT from IPv6 to IPv4.
        Some(service)
            if service != Family::of(address)
                && forward != ForwardMethod::Tunnel
                && !(service == Family::V6 && forward == ForwardMethod::FullNat) =>
        {
            "is not of the address family of its service; write one that is, or forward = \"tun\""
        }
        _ => return true,
    };
    notes.fault(text.at, format!("real server {address} {fault}"));
    false
}

/// A number in decimal digits and nothing else: the standard parser takes a sign.
fn decimal(digits: &str) -> Option<u32> {
    if digits.starts_with('+') {
        return None;
    }
    digits.parse().ok()
}

/// The kernel's rule for names, `dev_valid_name`.
fn is_interface(notes: &mut Notes<'_>, name: Placed<&str>) -> bool {
    let Placed { value, at } = name;
    let wrong = value.is_empty()
        || value.len() > MOST_NAME_BYTES
        || value == "."
        || value == ".."
        || value.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
    if wrong {
        notes.fault(
            at,
            format!("{value:?} is not the name of an interface; write one, such as \"eth0\""),
        );
    }
    !wrong
}

/// What `ipvsadm --set` takes: 31 days.
const MOST_TIMEOUT_SECS: u32 = 31 * 24 * 3600;

/// A connection takes well over a hundred bytes: nobody has the memory for more.
const MOST_CONNECTIONS: u32 = 1 << 30;

/// `IFNAMSIZ` without its terminator; labels have the same.
const MOST_NAME_BYTES: usize = 15;
