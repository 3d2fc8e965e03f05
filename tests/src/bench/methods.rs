//! TCP in bulk by every way that a packet can come and go, beside plain NAT.

use super::lane::{Lane, Middle};
use super::report::Row;
use super::streams::{server, turns};

/// All rows of this kind, so many repetitions.
pub fn measure(repeat: usize) -> Vec<Row> {
    let lanes = [Middle::Nat, Middle::Marked].map(Lane::line);
    let _servers = lanes.each_ref().map(server);
    let goal = (Middle::Marked, Middle::Nat, 0.5, 0.8);
    turns(&lanes, "TCP by firewall mark, 1 stream", &[], goal, repeat).into()
}
