//! `lvsadm proc`: what the kernel's files `/proc/net/ip_vs`, `ip_vs_conn` and `ip_vs_stats` would say
//! (`ip_vs_ctl.c`, `ip_vs_conn.c`).

use std::net::IpAddr;

use super::listing;
use crate::core::operation::{ForwardMethod, Netmask, ServiceKey, ServiceSpec};
use crate::core::view::{ConnectionView, InfoView, ServerView, ServiceView, StatsView};

/// `ip_vs`
pub fn services(info: &InfoView, views: &[ServiceView]) -> String {
    let mut text = listing::heading(info);
    text += "Prot LocalAddress:Port Scheduler Flags\n";
    text += "  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n";
    for view in views {
        text += &service(&view.spec);
        for server in &view.servers {
            text += &self::server(server);
        }
    }
    text
}

/// The first line of `ip_vs_conn`.
pub const CONNECTIONS: &str =
    "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n";

/// A line of `ip_vs_conn`.
pub fn connection(view: &ConnectionView) -> String {
    let protocol = match view.protocol.0 {
        // The template of a firewall mark.
        0 => "IP".to_owned(),
        _ => view.protocol.to_string(),
    };
    let engine = view.engine.as_ref();
    let engine = engine.map_or_else(String::new, |engine| {
        format!(" {} {}", engine.name, engine.data)
    });
    format!(
        "{protocol:<3} {} {:04X} {} {:04X} {} {:04X} {:<11} {:7}{engine}\n",
        address(view.client),
        view.client_port,
        address(view.virtual_address),
        view.virtual_port,
        address(view.destination),
        view.destination_port,
        view.state,
        view.expires_ms / 1000
    )
}

/// `ip_vs_stats`
pub fn totals(stats: &StatsView) -> String {
    let row = |conns: u64, packets: [u64; 2], bytes: [u64; 2]| {
        let ([packets_in, packets_out], [bytes_in, bytes_out]) = (packets, bytes);
        format!("{conns:8X} {packets_in:8X} {packets_out:8X} {bytes_in:16X} {bytes_out:16X}\n")
    };
    let counters = row(
        stats.connections,
        [stats.in_packets, stats.out_packets],
        [stats.in_bytes, stats.out_bytes],
    );
    let rates = row(
        stats.cps,
        [stats.in_pps, stats.out_pps],
        [stats.in_bps, stats.out_bps],
    );
    format!(
        "   Total Incoming Outgoing         Incoming         Outgoing
   Conns  Packets  Packets            Bytes            Bytes
{counters}
 Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s
{rates}"
    )
}

fn service(spec: &ServiceSpec) -> String {
    let scheduler = &spec.scheduler;
    let once = if spec.one_packet { "ops " } else { "" };
    let mut text = match spec.key {
        ServiceKey::Address {
            protocol,
            address: at,
            port,
        } => {
            // The kernel prints a blank more for IPv4.
            let blank = if at.is_ipv4() { " " } else { "" };
            let at = endpoint(at, port);
            format!("{protocol}  {at} {scheduler} {once}{blank}")
        }
        ServiceKey::Mark { mark, .. } => format!("FWM  {mark:08X} {scheduler} {once}"),
    };
    if let Some(persistence) = spec.persistence {
        let mask = match persistence.netmask {
            Netmask::V4(mask) => mask,
            Netmask::V6(length) => u32::from(length).swap_bytes(),
        };
        let ticks = u64::from(persistence.timeout_secs) * TICKS_PER_SECOND;
        text += &format!("persistent {ticks} {mask:08X}");
    }
    text + "\n"
}

fn server(view: &ServerView) -> String {
    let method = match view.spec.forward {
        ForwardMethod::Nat => "Masq",
        ForwardMethod::Direct => "Route",
        ForwardMethod::Tunnel => "Tunnel",
        ForwardMethod::Local => "Local",
        ForwardMethod::FullNat => "FullNat",
        ForwardMethod::Bypass => "Bypass",
    };
    format!(
        "  -> {}      {method:<7} {:<6} {:<10} {:<10}\n",
        endpoint(view.spec.key.address, view.spec.key.port),
        view.effective_weight,
        view.active,
        view.inactive
    )
}

fn endpoint(at: IpAddr, port: u16) -> String {
    match at {
        IpAddr::V4(_) => format!("{}:{port:04X}", address(at)),
        IpAddr::V6(_) => format!("[{}]:{port:04X}", address(at)),
    }
}

fn address(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("{:08X}", v4.to_bits()),
        IpAddr::V6(v6) => {
            let words = v6.segments().map(|word| format!("{word:04x}"));
            words.join(":")
        }
    }
}

/// Of the kernel that was recorded; those of distributions have 250 or 1000.
const TICKS_PER_SECOND: u64 = 100;

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use shared::addr::{Family, Protocol};

    use super::*;
    use crate::core::operation::{Persistence, ServerSpec};

    /// The recorded file, of services that `lvsadm` may have one day.
    const RECORDED: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  [2001:0db8:0000:0000:0000:0000:0000:0001]:01BB wlc persistent 6000 40000000
  -> [2001:0db8:0000:0000:0000:0000:0000:0002]:01BB      Masq    1      0          0         
UDP  0A000001:0035 rr ops  
  -> 0A010002:0035      Route   1      0          0         
TCP  0A000001:0050 wrr  persistent 12000 FFFFFFFF
  -> 0A010002:0050      Tunnel  1      0          0         
  -> 0A010001:1F90      Masq    3      0          0         
SCTP  0A000001:0063 sh  
FWM  00000102 lc 
FWM  00000009 wlc persistent 10000 FFFF0000
";

    fn persistent(timeout_secs: u32, netmask: Netmask) -> Option<Persistence> {
        Some(Persistence {
            timeout_secs,
            netmask,
        })
    }

    #[test]
    fn services_read_as_the_kernels() {
        let v4 = |protocol, port| ServiceKey::new(protocol, [10, 0, 0, 1], port);
        let v6 = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
        let mark = |mark| ServiceKey::Mark {
            mark,
            family: Family::V4,
        };
        let view = |key, scheduler, servers: Vec<ServerSpec>| ServiceView {
            guard: None,
            spec: ServiceSpec::new(key, scheduler),
            stats: StatsView::default(),
            servers: servers.into_iter().map(ServerView::new).collect(),
        };
        let server = ServerSpec::new;
        let mut views = [
            view(
                ServiceKey::new(Protocol::TCP, v6(1), 443),
                "wlc",
                vec![server(v6(2), 443, ForwardMethod::Nat, 1)],
            ),
            view(
                v4(Protocol::UDP, 53),
                "rr",
                vec![ServerSpec::new([10, 1, 0, 2], 53, ForwardMethod::Direct, 1)],
            ),
            view(
                v4(Protocol::TCP, 80),
                "wrr",
                vec![
                    ServerSpec::new([10, 1, 0, 2], 80, ForwardMethod::Tunnel, 1),
                    ServerSpec::new([10, 1, 0, 1], 8080, ForwardMethod::Nat, 3),
                ],
            ),
            view(v4(Protocol::SCTP, 99), "sh", vec![]),
            view(mark(258), "lc", vec![]),
            view(mark(9), "wlc", vec![]),
        ];
        views[0].spec.persistence = persistent(60, Netmask::V6(64));
        views[1].spec.one_packet = true;
        views[2].spec.persistence = persistent(120, Netmask::V4(u32::MAX));
        views[5].spec.persistence = persistent(100, Netmask::V4(0xffff_0000));
        let info = InfoView {
            version: String::new(),
            table_size: 4096,
        };
        assert_eq!(services(&info, &views), RECORDED);
    }
}
