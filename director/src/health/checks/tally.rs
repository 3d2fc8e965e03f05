//! What the checks of each kind came to, and how long they took.

use std::collections::BTreeMap;
use std::time::Duration;

use super::failure::Outcome;
use crate::core::spans::Spans;
use crate::core::view::CheckTally;

/// By the name of the kind. A kind stays when its last check has gone: counters do not go back.
#[derive(Debug, Default)]
pub(super) struct Tallies(BTreeMap<&'static str, CheckTally>);

impl Tallies {
    /// A new check, which is up or down to begin with.
    pub(super) fn enter(&mut self, kind: &'static str, up: bool) {
        *side(self.of(kind), up) += 1;
    }

    /// It is made no longer.
    pub(super) fn leave(&mut self, kind: &'static str, up: bool) {
        *side(self.of(kind), up) -= 1;
    }

    /// It has been made.
    pub(super) fn count(&mut self, kind: &'static str, outcome: &Outcome, took: Duration) {
        let tally = self.of(kind);
        match outcome {
            Ok(_) => tally.passed += 1,
            Err(_) => tally.failed += 1,
        }
        tally.took.count(took);
    }

    /// All kinds that there are or were.
    pub(super) fn views(&self) -> Vec<CheckTally> {
        self.0.values().cloned().collect()
    }

    fn of(&mut self, kind: &'static str) -> &mut CheckTally {
        self.0.entry(kind).or_insert_with(|| CheckTally {
            kind,
            up: 0,
            down: 0,
            passed: 0,
            failed: 0,
            took: Spans::new(&BOUNDS),
        })
    }
}

fn side(tally: &mut CheckTally, up: bool) -> &mut u64 {
    if up { &mut tally.up } else { &mut tally.down }
}

/// From a server in the same rack to the usual time limit.
const BOUNDS: [Duration; 8] = [
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(10),
    Duration::from_millis(30),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(5),
];
