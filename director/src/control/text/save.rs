//! `-S`: the rules as commands that make them again.
//!
//! As with ipvsadm, thresholds, timeouts and statistics are not saved.

use std::fmt::{self, Write};

use super::listing::partial_mask;
use super::name::{Namer, protocol_of};
use super::order;
use crate::control::command::{Addresses, Dialect, flags};
use crate::control::names::Names;
use crate::core::operation::{
    Beyond, ForwardMethod, Introduction, SegmentSize, ServerSpec, ServiceSpec, TimeoutChange,
    Tunnel, TunnelChecksum,
};
use crate::core::view::ServiceView;

/// The rules, one command a line, in the order of a listing.
pub fn rules(
    views: &[ServiceView],
    dialect: Dialect,
    addresses: Addresses,
    names: &dyn Names,
) -> String {
    let namer = Namer { addresses, names };
    let mut text = String::new();
    for view in order::services(views) {
        // Writing to a string cannot fail.
        let _ = service(&mut text, view, dialect, namer);
    }
    text
}

/// What the grammar has no words for and the rules therefore leave out.
pub fn left_out(views: &[ServiceView], dialect: Dialect) -> Vec<String> {
    let mut faults = Vec::new();
    for view in views {
        if dialect == Dialect::Ipvsadm && view.spec.beyond != Beyond::default() {
            faults.push(format!(
                "service {} is saved without what ipvsadm has no options for; lvsadm -S saves it",
                view.spec.key
            ));
        }
        for server in view.servers.iter().filter(|server| !server.sorry) {
            if method(server.spec.forward, dialect).is_none() {
                faults.push(format!(
                    "real server {} of {} is not saved: ipvsadm has no option for FULLNAT; lvsadm -S saves it",
                    server.spec.key, view.spec.key
                ));
            }
        }
    }
    faults
}

fn service(
    text: &mut String,
    view: &ServiceView,
    dialect: Dialect,
    namer: Namer<'_>,
) -> fmt::Result {
    let name = namer.rule(&view.spec.key);
    write!(text, "-A {name}")?;
    properties(text, &view.spec)?;
    if dialect == Dialect::Lvsadm {
        beyond(text, &view.spec.beyond)?;
    }
    text.push('\n');
    let protocol = protocol_of(&view.spec.key);
    // A sorry server is no server of the administrator's, who may have another one by the time this is read.
    for server in order::servers(&view.servers)
        .into_iter()
        .filter(|server| !server.sorry)
    {
        let spec = &server.spec;
        let Some(method) = method(spec.forward, dialect) else {
            continue;
        };
        let endpoint = namer.endpoint(spec.key.address, spec.key.port, protocol);
        write!(text, "-a {name} -r {endpoint} {method} -w {}", spec.weight)?;
        tunnel(text, spec)?;
        text.push('\n');
    }
    Ok(())
}

fn properties(text: &mut String, spec: &ServiceSpec) -> fmt::Result {
    write!(text, " -s {}", spec.scheduler)?;
    if let Some(persistence) = spec.persistence {
        write!(text, " -p {}", persistence.timeout_secs)?;
        if let Some(mask) = partial_mask(persistence.netmask) {
            write!(text, " -M {mask}")?;
        }
    }
    if let Some(engine) = &spec.persistence_engine {
        write!(text, " --pe {engine}")?;
    }
    if spec.one_packet {
        text.push_str(" -o");
    }
    let flags = flags::names(spec.flags, &spec.scheduler);
    if !flags.is_empty() {
        write!(text, " -b {flags}")?;
    }
    Ok(())
}

/// What IPVS has not.
fn beyond(text: &mut String, beyond: &Beyond) -> fmt::Result {
    if let Some(way) = beyond.server_gone {
        write!(text, " --server-gone {}", way.name())?;
    }
    if beyond.slow_start_secs > 0 {
        write!(text, " --slow-start {}", beyond.slow_start_secs)?;
    }
    let TimeoutChange { tcp, tcp_fin, udp } = beyond.timeouts;
    if beyond.timeouts != TimeoutChange::default() {
        write!(text, " --timeouts {tcp},{tcp_fin},{udp}")?;
    }
    text.push_str(match beyond.introduction {
        Introduction::Toa => "",
        Introduction::ProxyProtocol => " --proxy-protocol",
        Introduction::None => " --no-toa",
    });
    match beyond.segment_size {
        SegmentSize::AsTold => {}
        SegmentSize::AtMost(most) => write!(text, " --set-mss {most}")?,
        SegmentSize::PathMtu => text.push_str(" --clamp-mss-to-pmtu"),
    }
    Ok(())
}

/// The option for a forwarding method. Packets for the director itself are found out when they are
/// forwarded, so it has none of its own.
fn method(forward: ForwardMethod, dialect: Dialect) -> Option<&'static str> {
    match forward {
        ForwardMethod::Nat => Some("-m"),
        ForwardMethod::Direct | ForwardMethod::Local => Some("-g"),
        ForwardMethod::Tunnel => Some("-i"),
        ForwardMethod::FullNat if dialect == Dialect::Lvsadm => Some("-b"),
        ForwardMethod::FullNat | ForwardMethod::Bypass => None,
    }
}

fn tunnel(text: &mut String, spec: &ServerSpec) -> fmt::Result {
    if spec.forward != ForwardMethod::Tunnel {
        return Ok(());
    }
    let option = |checksum| match checksum {
        TunnelChecksum::None => "--tun-nocsum",
        TunnelChecksum::Full => "--tun-csum",
        TunnelChecksum::Remote => "--tun-remcsum",
    };
    match spec.tunnel {
        Tunnel::Ipip => write!(text, " --tun-type ipip"),
        Tunnel::Gue { port, checksum } => write!(
            text,
            " --tun-type gue --tun-port {port} {}",
            option(checksum)
        ),
        Tunnel::Gre { checksum } => write!(text, " --tun-type gre {}", option(checksum)),
    }
}
