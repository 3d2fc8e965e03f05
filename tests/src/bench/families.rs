//! IPv6 beside IPv4: the same work through the same director, in turns.

use super::lane::{Lane, Middle};
use super::report::{Goal, Row};
use super::streams::{server, turns};
use super::{packets, requests, round_trip};

/// All rows of this kind, so many repetitions.
pub fn measure(repeat: usize) -> Vec<Row> {
    let mut rows = streams(repeat);
    rows.extend(packets::of_both_families(repeat));
    rows.extend(requests::of_both_families(repeat));
    rows.extend(round_trip::of_both_families(repeat));
    rows
}

fn streams(repeat: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    {
        let lanes = [Middle::Nat, Middle::NatV6].map(Lane::line);
        let _servers = lanes.each_ref().map(server);
        let goal = Goal::new(Middle::NatV6, Middle::Nat, 0.85, 1.0);
        for (title, options) in [
            ("TCP NAT of both families, 1 stream", &[][..]),
            ("TCP NAT of both families, 1 stream in reverse", &["-R"]),
        ] {
            rows.extend(turns(&lanes, title, options, &[goal], repeat));
        }
    }
    {
        let lanes = [Middle::FullNat, Middle::FullNatV6, Middle::FullNatAcross].map(Lane::line);
        let _servers = lanes.each_ref().map(server);
        let goals = [
            Goal::new(Middle::FullNatV6, Middle::FullNat, 0.85, 1.0),
            Goal::new(Middle::FullNatAcross, Middle::FullNat, 0.85, 1.0),
        ];
        let title = "TCP FULLNAT of both families, 1 stream";
        rows.extend(turns(&lanes, title, &[], &goals, repeat));
    }
    let lanes = [Middle::Direct, Middle::DirectV6].map(Lane::lan);
    let _servers = lanes.each_ref().map(server);
    let goal = Goal::new(Middle::DirectV6, Middle::Direct, 0.85, 1.0);
    let title = "TCP DR of both families on one LAN, 1 stream";
    rows.extend(turns(&lanes, title, &[], &[goal], repeat));
    rows
}
