//! `-G`, and what `-S` saves of it: the local addresses of FULLNAT, which are the director's and not a
//! service's.

use std::fmt::Write;

use crate::core::view::StatusView;

/// How they are used, one a line, in the words of DPVS where it has them.
pub fn list(view: &StatusView) -> String {
    let mut text = format!(
        "{:<20} {:>9} {:>9} {:>10}\n",
        "LocalAddress", "Conflicts", "Conns", "PortsLeft"
    );
    for local in &view.local_addresses {
        // One that gives no ports any more is still there for its connections.
        let left = if local.listed {
            local.fewest_left.to_string()
        } else {
            "-".to_owned()
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<20} {:>9} {:>9} {:>10}",
            local.address.to_string(),
            local.conflicts,
            local.connections,
            left
        );
    }
    text
}

/// The commands that make them again.
pub fn rules(view: &StatusView) -> String {
    let listed = view.local_addresses.iter().filter(|local| local.listed);
    let lines = listed.map(|local| format!("-P -z {}\n", local.address));
    lines.collect()
}
