//! `-L`: services with their real servers.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr};

use super::name::{Namer, cut, protocol_of};
use super::number::Counter;
use super::order;
use crate::control::command::{Columns, Format, Numbers, Order, flags};
use crate::control::names::Names;
use crate::core::operation::{
    Beyond, ForwardMethod, Introduction, Netmask, SegmentSize, ServerSpec, ServiceSpec,
    TimeoutChange, Tunnel, TunnelChecksum,
};
use crate::core::view::{InfoView, ServerView, ServiceView, StatsView, TimeoutsView};

/// The very first line, which a listing of one service has not.
pub fn heading(info: &InfoView) -> String {
    format!(
        "IP Virtual Server version {IPVS_VERSION} (size={})\n",
        info.table_size
    )
}

/// The names of the columns, and all services with their real servers.
pub fn services(views: &[ServiceView], format: Format, names: &dyn Names) -> String {
    let namer = Namer {
        addresses: format.addresses,
        names,
    };
    let views: Vec<&ServiceView> = match format.order {
        Order::Sorted => order::services(views),
        Order::Unsorted => views.iter().collect(),
    };
    let mut text = title(format.columns);
    for view in views {
        // Writing to a string cannot fail.
        let _ = service(&mut text, view, format, namer);
    }
    text
}

/// `-L --timeout`
pub fn timeouts(view: &TimeoutsView) -> String {
    format!(
        "Timeout (tcp tcpfin udp): {} {} {}\n",
        view.tcp, view.tcp_fin, view.udp
    )
}

fn title(columns: Columns) -> String {
    let first = "Prot LocalAddress:Port";
    let first = match columns {
        Columns::Stats => format!(
            "{first:<33} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"
        ),
        Columns::Rate => format!(
            "{first:<33} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"
        ),
        Columns::Thresholds => format!(
            "{first:<33} {:<10} {:<10} {:<10} {:<10}",
            "Uthreshold", "Lthreshold", "ActiveConn", "InActConn"
        ),
        Columns::PersistentConnections => format!(
            "{first:<33} {:<9} {:<11} {:<10} {:<10}",
            "Weight", "PersistConn", "ActiveConn", "InActConn"
        ),
        Columns::Tunnels | Columns::Default => format!("{first} Scheduler Flags"),
    };
    let second = match columns {
        Columns::Tunnels => "           Forward TunnelInfo    Weight ActiveConn InActConn",
        Columns::Default => "           Forward Weight ActiveConn InActConn",
        _ => "",
    };
    format!("{first}\n  -> RemoteAddress:Port{second}\n")
}

fn service(text: &mut String, view: &ServiceView, format: Format, namer: Namer<'_>) -> fmt::Result {
    let name = namer.listed(&view.spec.key);
    match format.columns {
        Columns::Stats => {
            write!(text, "{name:<33}")?;
            counters(text, &totals(&view.stats), format.numbers)?;
        }
        Columns::Rate => {
            write!(text, "{name:<33}")?;
            counters(text, &rates(&view.stats), format.numbers)?;
        }
        _ => {
            write!(text, "{name} {}", view.spec.scheduler)?;
            properties(text, &view.spec)?;
        }
    }
    text.push('\n');
    let servers: Vec<&ServerView> = match format.order {
        Order::Sorted => order::servers(&view.servers),
        Order::Unsorted => view.servers.iter().collect(),
    };
    let protocol = protocol_of(&view.spec.key);
    for server in servers {
        let key = server.spec.key;
        let name = namer.endpoint(key.address, key.port, protocol);
        let name = match key.address {
            IpAddr::V4(_) => cut(&name, SERVER_BYTES),
            IpAddr::V6(_) => &name,
        };
        server_row(text, server, name, format)?;
    }
    Ok(())
}

/// What follows the scheduler: flags, persistence, one-packet scheduling.
fn properties(text: &mut String, spec: &ServiceSpec) -> fmt::Result {
    let flags = flags::names(spec.flags, &spec.scheduler);
    if !flags.is_empty() {
        write!(text, " ({flags})")?;
    }
    if let Some(persistence) = spec.persistence {
        write!(text, " persistent {}", persistence.timeout_secs)?;
        if let Some(mask) = partial_mask(persistence.netmask) {
            write!(text, " mask {mask}")?;
        }
        if let Some(engine) = &spec.persistence_engine {
            write!(text, " pe {engine}")?;
        }
    }
    if spec.one_packet {
        text.push_str(" ops");
    }
    let Beyond {
        server_gone,
        timeouts,
        slow_start_secs,
        introduction,
        segment_size,
    } = spec.beyond;
    if let Some(way) = server_gone {
        write!(text, " server-gone {}", way.name())?;
    }
    if slow_start_secs > 0 {
        write!(text, " slow-start {slow_start_secs}")?;
    }
    if timeouts != TimeoutChange::default() {
        let TimeoutChange { tcp, tcp_fin, udp } = timeouts;
        write!(text, " timeouts {tcp},{tcp_fin},{udp}")?;
    }
    text.push_str(match introduction {
        Introduction::Toa => "",
        Introduction::ProxyProtocol => " proxy-protocol",
        Introduction::None => " no-toa",
    });
    match segment_size {
        SegmentSize::AsTold => {}
        SegmentSize::AtMost(most) => write!(text, " set-mss {most}")?,
        SegmentSize::PathMtu => text.push_str(" clamp-mss-to-pmtu"),
    }
    Ok(())
}

/// A mask as `-M` has it, unless it is the whole address.
pub(super) fn partial_mask(mask: Netmask) -> Option<String> {
    match mask {
        Netmask::V4(u32::MAX) | Netmask::V6(128) => None,
        Netmask::V4(mask) => Some(Ipv4Addr::from_bits(mask).to_string()),
        Netmask::V6(bits) => Some(bits.to_string()),
    }
}

fn server_row(text: &mut String, view: &ServerView, name: &str, format: Format) -> fmt::Result {
    let spec = &view.spec;
    let (active, inactive) = (view.active, view.inactive);
    write!(text, "  -> {name:<28}")?;
    match format.columns {
        Columns::Stats => counters(text, &totals(&view.stats), format.numbers)?,
        Columns::Rate => {
            // Of a real server only the bytes are scaled.
            let [connections, in_packets, out_packets, bytes @ ..] = rates(&view.stats);
            write!(text, " {connections:8} {in_packets:8} {out_packets:8}")?;
            counters(text, &bytes, format.numbers)?;
        }
        Columns::Thresholds => write!(
            text,
            " {:<10} {:<10} {active:<10} {inactive:<10}",
            spec.upper_threshold, spec.lower_threshold
        )?,
        Columns::PersistentConnections => write!(
            text,
            " {:<9} {:<11} {active:<10} {inactive:<10}",
            view.effective_weight, view.persistent
        )?,
        Columns::Tunnels => write!(
            text,
            " {:<7} {:<13} {:<6} {active:<10} {inactive:<10}",
            method(spec.forward),
            encapsulation(spec),
            view.effective_weight
        )?,
        Columns::Default => write!(
            text,
            " {:<7} {:<6} {active:<10} {inactive:<10}",
            method(spec.forward),
            view.effective_weight
        )?,
    }
    text.push('\n');
    Ok(())
}

fn counters(text: &mut String, values: &[u64], numbers: Numbers) -> fmt::Result {
    for &value in values {
        write!(text, "{}", Counter { value, numbers })?;
    }
    Ok(())
}

fn totals(stats: &StatsView) -> [u64; 5] {
    [
        stats.connections,
        stats.in_packets,
        stats.out_packets,
        stats.in_bytes,
        stats.out_bytes,
    ]
}

fn rates(stats: &StatsView) -> [u64; 5] {
    [
        stats.cps,
        stats.in_pps,
        stats.out_pps,
        stats.in_bps,
        stats.out_bps,
    ]
}

fn method(forward: ForwardMethod) -> &'static str {
    match forward {
        ForwardMethod::Nat => "Masq",
        ForwardMethod::Direct => "Route",
        ForwardMethod::Tunnel => "Tunnel",
        ForwardMethod::Local => "Local",
        ForwardMethod::FullNat => "FullNat",
        ForwardMethod::Bypass => "Bypass",
    }
}

fn encapsulation(spec: &ServerSpec) -> String {
    if spec.forward != ForwardMethod::Tunnel {
        return "n/a".to_owned();
    }
    let flag = |checksum| match checksum {
        TunnelChecksum::None => "-c",
        TunnelChecksum::Full => "+c",
        TunnelChecksum::Remote => "r+c",
    };
    match spec.tunnel {
        Tunnel::Ipip => "ipip".to_owned(),
        Tunnel::Gue { port, checksum } => format!("gue:{port}:{}", flag(checksum)),
        Tunnel::Gre { checksum } => format!("gre:{}", flag(checksum)),
    }
}

/// The version of the kernel's IPVS whose behaviour the director has.
const IPVS_VERSION: &str = "1.2.1";
/// Where an IPv4 real server is cut off.
const SERVER_BYTES: usize = 28;
