//! Every input that is kept of fuzzing (`tests/fuzz`): the seeds, and those that once found something.

use std::fs;
use std::path::Path;

use fuzz::{lines, lockstep, reference};

// What libFuzzer runs, which is a crate of its own outside of this workspace.
#[path = "../../tests/fuzz/src/lib.rs"]
mod fuzz;

/// Runs a target with all its inputs; the panic of one that fails names it.
fn replay(target: &str, run: fn(&[u8])) {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz");
    let mut inputs = Vec::new();
    for folder in ["seeds", "found"] {
        let folder = kept.join(folder).join(target);
        // Not every target has found something.
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        inputs.extend(entries.map(|entry| entry.expect("a readable folder").path()));
    }
    assert!(!inputs.is_empty(), "no input of {target} is kept");
    for path in inputs {
        let input = fs::read(&path).expect("a readable input");
        let outcome = std::panic::catch_unwind(|| run(&input));
        assert!(outcome.is_ok(), "{target} fails with {}", path.display());
    }
}

#[test]
fn packet_views() {
    replay("packet_views", fuzz::packet_views::run);
}

#[test]
fn core_stream() {
    replay("core_stream", fuzz::core_stream::run);
}

#[test]
fn command_line() {
    replay("command_line", fuzz::command_line::run);
}

#[test]
fn control_protocol() {
    replay("control_protocol", fuzz::control_protocol::run);
}

#[test]
fn configuration() {
    replay("configuration", fuzz::configuration::run);
}
