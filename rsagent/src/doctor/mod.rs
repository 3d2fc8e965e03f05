//! What else can be wrong with a real server, and what mends it: besides what [`compare`](crate::compare)
//! compares and `start` sets right. Pure.

pub(crate) mod examine;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use shared::host::netlink::Listener;
use shared::host::sysctl::Sysctl;

use crate::config::{Config, Mode};
use crate::finding::{About, Findings};
use crate::plan::{ArpSetting, Facts, carriers, gateways, is_default, name_of};

/// What the host is like.
pub(crate) struct Host<'a> {
    /// Interfaces, addresses, routes.
    pub(crate) facts: &'a Facts,
    /// The value of a setting, if there is such a setting.
    pub(crate) setting: &'a dyn Fn(&Sysctl) -> Option<String>,
    /// Listening TCP sockets.
    pub(crate) listeners: &'a [Listener],
    /// Whether an interface fills in the checksums of what is sent by it.
    pub(crate) fills_in_checksums: &'a dyn Fn(&str) -> bool,
}

/// Everything that can be told from these.
pub(crate) fn examine(
    config: &Config,
    vips: &BTreeSet<IpAddr>,
    ports: &[u16],
    host: &Host<'_>,
    findings: &mut Findings,
) {
    if config.mode == Mode::Nat {
        gateway(config, vips, host.facts, findings);
    } else {
        for interface in interfaces(config, vips, host.facts) {
            reverse_path(&interface, host, findings);
            local_sources(&interface, host, findings);
        }
        mtu(config, vips, host.facts, findings);
    }
    checksums(config, vips, host, findings);
    for service in services(config, vips, ports) {
        listening(service, host.listeners, findings);
    }
}

/// The interfaces that clients' packets may come in by.
fn interfaces(config: &Config, vips: &BTreeSet<IpAddr>, facts: &Facts) -> Vec<String> {
    if !config.interfaces.is_empty() {
        return config.interfaces.clone();
    }
    let lo = facts.links.iter().find(|link| link.loopback);
    let carriers = carriers(vips, lo.map_or(0, |lo| lo.index), facts);
    carriers.into_iter().map(|(name, _)| name).collect()
}

/// Strict reverse path filtering drops what comes in by another interface than that which leads back to
/// the client (RFC 3704).
fn reverse_path(interface: &str, host: &Host<'_>, findings: &mut Findings) {
    let Some(in_force) = in_force(interface, "rp_filter", host) else {
        return;
    };
    let mut defaults = host.facts.routes.iter().filter(|route| is_default(route));
    let leads_back = defaults.clone().any(|route| {
        route
            .link
            .is_some_and(|link| name_of(link, host.facts) == interface)
    });
    let what = format!("rp_filter in force on {interface}");
    if in_force == "1" && !leads_back && defaults.next().is_some() {
        let should_be = "2, since the way back to clients is another interface";
        findings.line(About::Host, (&what, &in_force), Err(should_be), || {
            let setting = Sysctl::ipv4_conf(interface, "rp_filter");
            format!("sysctl -w {}=2", setting.path())
        });
    } else {
        findings.line(About::Host, (&what, &in_force), Ok(()), String::new);
    }
}

/// What the director's own host asks of a VIP comes from the VIP, which is an address of this host too.
fn local_sources(interface: &str, host: &Host<'_>, findings: &mut Findings) {
    let what = format!("accept_local in force on {interface}");
    match in_force(interface, "accept_local", host) {
        Some(value) if value == "0" => {
            let setting = Sysctl::ipv4_conf(interface, "accept_local");
            findings.note(format_args!(
                "{what}: 0; clients on the director's own host are served only with: sysctl -w {}=1",
                setting.path()
            ));
        }
        Some(value) => findings.line(About::Host, (&what, &value), Ok(()), String::new),
        None => {}
    }
}

/// Frames that are longer than the interface takes are lost without a word.
fn mtu(config: &Config, vips: &BTreeSet<IpAddr>, facts: &Facts, findings: &mut Findings) {
    let names = interfaces(config, vips, facts);
    let least = match vips.iter().any(IpAddr::is_ipv6) {
        true => LEAST_V6,
        false => LEAST_V4,
    };
    for link in facts.links.iter().filter(|link| names.contains(&link.name)) {
        let (name, mtu) = (&link.name, link.mtu);
        let what = format!("MTU of {name}");
        if mtu < least {
            findings.line(
                About::Host,
                (&what, &mtu.to_string()),
                Err(&format!("{least} or more")),
                || format!("ip link set dev {name} mtu {USUAL}"),
            );
        } else if mtu < USUAL {
            findings.note(format_args!(
                "{what}: {mtu}; larger frames of the director are lost if its MTU is {USUAL}: ip link \
                 set dev {name} mtu {USUAL}"
            ));
        } else {
            findings.line(About::Host, (&what, &mtu.to_string()), Ok(()), String::new);
        }
    }
}

/// A virtual interface that "fills in" checksums hands frames on without: the kernel at its other end knows, but not
/// everything behind that does.
fn checksums(config: &Config, vips: &BTreeSet<IpAddr>, host: &Host<'_>, findings: &mut Findings) {
    let names = interfaces(config, vips, host.facts);
    let links = host.facts.links.iter();
    for link in links.filter(|link| names.contains(&link.name)) {
        let (name, kind) = (&link.name, link.kind.as_deref().unwrap_or_default());
        if kind == "veth" && (host.fills_in_checksums)(name) {
            findings.note(format_args!(
                "transmit checksums of {name}: not filled in, since its other end ({kind}) is on this machine; where \
                 replies get lost behind that: ethtool -K {name} tx off"
            ));
        }
    }
}

/// With NAT replies must go back through the director.
fn gateway(config: &Config, vips: &BTreeSet<IpAddr>, facts: &Facts, findings: &mut Findings) {
    let vips: Vec<IpAddr> = vips.iter().copied().collect();
    let directors: Vec<IpAddr> = config.directors.iter().map(SocketAddr::ip).collect();
    for (gateway, _) in gateways(&vips, facts).unwrap_or_default() {
        let same_family: Vec<&IpAddr> = directors
            .iter()
            .filter(|address| address.is_ipv4() == gateway.is_ipv4())
            .collect();
        if let [first, ..] = same_family[..]
            && !directors.contains(&gateway)
        {
            findings.note(format_args!(
                "default gateway {gateway} is none of the directors' addresses that get reports; if it is \
                 no director: ip route replace default via {first}"
            ));
        }
    }
}

/// Where services should listen: at the addresses of the checks, and at each VIP's ports.
fn services(config: &Config, vips: &BTreeSet<IpAddr>, ports: &[u16]) -> BTreeSet<SocketAddr> {
    let checks = config
        .checks
        .iter()
        .filter_map(crate::config::Check::address);
    let asked = vips
        .iter()
        .flat_map(|vip| ports.iter().map(|port| SocketAddr::new(*vip, *port)));
    checks.chain(asked).collect()
}

/// A socket that listens at `::` takes IPv4 too, unless it was told not to, which is not seen here.
fn listening(service: SocketAddr, listeners: &[Listener], findings: &mut Findings) {
    let mut there = listeners
        .iter()
        .map(|listener| listener.address)
        .filter(|address| {
            let ip = address.ip();
            let everywhere = ip.is_unspecified() && (ip.is_ipv6() || service.is_ipv4());
            address.port() == service.port() && (ip == service.ip() || everywhere)
        });
    match there.next() {
        Some(address) => {
            let is = format!("listens at {address}");
            findings.line(About::Host, (&service.to_string(), &is), Ok(()), String::new);
        }
        None => findings.wrong(
            About::Host,
            format_args!(
                "{service}: nothing listens there: start the service, or have it listen at that address \
                 or at all"
            ),
        ),
    }
}

/// The value of an interface's setting as the kernel applies it: the greater one of its own and that of
/// `all`.
fn in_force(interface: &str, name: &str, host: &Host<'_>) -> Option<String> {
    let all = (host.setting)(&Sysctl::ipv4_conf("all", name))?;
    let own = (host.setting)(&Sysctl::ipv4_conf(interface, name))?;
    Some(ArpSetting::in_force(&all, &own).to_owned())
}

/// Of Ethernet.
const USUAL: u32 = 1500;
/// RFC 791, section 3.2, and RFC 8200, section 5.
const LEAST_V4: u32 = 576;
const LEAST_V6: u32 = 1280;

#[cfg(test)]
mod tests;
