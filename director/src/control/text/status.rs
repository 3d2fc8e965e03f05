//! `lvsadm status`: what the director says of itself, in words.

use std::fmt::{self, Write};

use crate::core::view::StatusView;

/// The whole report.
pub fn report(view: &StatusView) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_report(&mut text, view);
    text
}

fn write_report(text: &mut String, view: &StatusView) -> fmt::Result {
    writeln!(
        text,
        "director {}, up {}",
        view.version,
        uptime(view.uptime_secs)
    )?;
    writeln!(text, "connections         {}", view.connections)?;
    writeln!(
        text,
        "half-open           {}, pushed out {}",
        view.half_open, view.pushed_out
    )?;
    writeln!(text, "capture keys        {}", view.capture_keys)?;
    writeln!(text, "given back to host  {} packets", view.given_back)?;
    writeln!(text, "lost by the rings   {} packets", view.ring_losses())?;

    if !view.local_addresses.is_empty() {
        writeln!(text, "no room for TOA     {} packets", view.unnamed_clients)?;
        writeln!(text, "local addresses")?;
    }
    for local in &view.local_addresses {
        let going = if local.listed { "" } else { ", no new ones" };
        writeln!(
            text,
            "  {:<15} {} connections{going}, at least {} ports left for each real server",
            local.address, local.connections, local.fewest_left
        )?;
    }

    writeln!(text, "interfaces")?;
    if view.interfaces.is_empty() {
        writeln!(text, "  none")?;
    }
    for interface in &view.interfaces {
        writeln!(
            text,
            "  {:<15} {} packets taken, {} sent, {} lost by the ring",
            interface.name, interface.received, interface.sent, interface.ring_losses
        )?;
    }

    if !view.rivals.is_empty() {
        writeln!(text, "others that answer for VIPs")?;
    }
    for rival in &view.rivals {
        let (vip, interface, mac) = (rival.vip, &rival.interface, &rival.mac);
        match rival.server {
            Some(server) => writeln!(
                text,
                "  {vip:<15} real server {server} on {interface} ({mac})"
            )?,
            None => writeln!(text, "  {vip:<15} an unknown host on {interface} ({mac})")?,
        }
    }

    writeln!(text, "dropped packets")?;
    if view.drops.is_empty() {
        writeln!(text, "  none")?;
    }
    for drop in &view.drops {
        writeln!(text, "  {:<32} {}", drop.reason, drop.packets)?;
    }
    Ok(())
}

fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::view::{DropView, InterfaceView, LocalAddressView, RivalView};

    #[test]
    fn a_report_has_everything_in_words() {
        let view = StatusView {
            version: "0.1.0".to_owned(),
            uptime_secs: 93_784,
            interfaces: vec![InterfaceView {
                name: "eth0".to_owned(),
                received: 10,
                sent: 9,
                ring_losses: 2,
            }],
            connections: 7,
            half_open: 2,
            pushed_out: 5,
            unnamed_clients: 8,
            reports: None,
            local_addresses: vec![LocalAddressView {
                address: [10, 9, 0, 1].into(),
                listed: true,
                connections: 6,
                fewest_left: 64_507,
                conflicts: 0,
            }],
            rivals: vec![
                RivalView {
                    vip: [10, 2, 0, 100].into(),
                    interface: "eth0".to_owned(),
                    mac: "02:00:00:00:00:0b".to_owned(),
                    server: Some([10, 2, 0, 11].into()),
                },
                RivalView {
                    vip: [10, 2, 0, 100].into(),
                    interface: "eth0".to_owned(),
                    mac: "02:00:00:00:00:99".to_owned(),
                    server: None,
                },
            ],
            capture_keys: 3,
            given_back: 4,
            drops: vec![DropView {
                reason: "ttl exceeded".to_owned(),
                packets: 1,
            }],
        };
        let expected = "\
director 0.1.0, up 1 d 2 h
connections         7
half-open           2, pushed out 5
capture keys        3
given back to host  4 packets
lost by the rings   2 packets
no room for TOA     8 packets
local addresses
  10.9.0.1        6 connections, at least 64507 ports left for each real server
interfaces
  eth0            10 packets taken, 9 sent, 2 lost by the ring
others that answer for VIPs
  10.2.0.100      real server 10.2.0.11 on eth0 (02:00:00:00:00:0b)
  10.2.0.100      an unknown host on eth0 (02:00:00:00:00:99)
dropped packets
  ttl exceeded                     1
";
        assert_eq!(report(&view), expected);
    }
}
