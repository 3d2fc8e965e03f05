//! Every other way that a packet can come and go: firewall marks and FULLNAT beside plain NAT, tunnels
//! beside the kernel's forwarding.

use super::lane::{Lane, Middle};
use super::report::{Goal, Row};
use super::streams::{server, turns};
use super::{packets, requests};

/// All rows of this kind, so many repetitions.
pub fn measure(repeat: usize) -> Vec<Row> {
    let mut rows = bulk_beside_nat(repeat);
    rows.extend(packets::full_nat(repeat));
    rows.extend(requests::full_nat(repeat));
    rows.extend(tunnels(repeat));
    rows
}

fn bulk_beside_nat(repeat: usize) -> Vec<Row> {
    let lanes = [Middle::Nat, Middle::Marked, Middle::FullNat].map(Lane::line);
    let _servers = lanes.each_ref().map(server);
    let goals = [
        Goal::new(Middle::Marked, Middle::Nat, 0.5, 0.8),
        Goal::new(Middle::FullNat, Middle::Nat, 0.8, 0.95),
    ];
    let title = "TCP by firewall mark and FULLNAT, 1 stream";
    turns(&lanes, title, &[], &goals, repeat).into()
}

fn tunnels(repeat: usize) -> Vec<Row> {
    let lanes = [Middle::Kernel, Middle::TunnelSoftware, Middle::Tunnel].map(Lane::line);
    let _servers = lanes.each_ref().map(server);
    let goals = [
        Goal::new(Middle::TunnelSoftware, Middle::Kernel, 0.2, 0.4),
        Goal::new(Middle::Tunnel, Middle::Kernel, 0.5, 0.8),
    ];
    turns(&lanes, "TCP TUN, 1 stream", &[], &goals, repeat).into()
}
