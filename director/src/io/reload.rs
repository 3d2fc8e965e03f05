//! The configuration and the rules file, carried to the director.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use shared::time::Time;
use tracing::warn;

use super::announce::{self, Source};
use crate::config::{Config, plan};
use crate::core::director::Director;
use crate::core::operation::Operation;

/// Why the rules file cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// It cannot be read.
    #[error("cannot read the rules {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line of it is no command.
    #[error("{}:{line}: {what}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What ipvsadm would say.
        what: String,
    },
}

/// Everything that the configuration says, and then the rules.
pub(super) fn start(config: &Config, director: &mut Director, now: Time) -> Result<(), RulesError> {
    let mut operations = config.operations();
    if let Some(file) = &config.rules {
        operations.extend(rules(file)?);
    }
    carry_out(&operations, director, now);
    Ok(())
}

/// What changed from `old` to `new`.
pub(super) fn reload(old: &Config, new: &Config, director: &mut Director, now: Time) {
    if old.connections != new.connections || old.rules != new.rules {
        warn!("[connections] and rules count from the next start on");
    }
    let running = director.balancer.services();
    carry_out(&plan::plan(old, new, &running), director, now);
}

fn carry_out(operations: &[Operation], director: &mut Director, now: Time) {
    for operation in operations {
        match director.apply(now, operation) {
            Ok(()) => announce::done(operation, Source::File),
            Err(error) => announce::refused(operation, &error),
        }
    }
}
