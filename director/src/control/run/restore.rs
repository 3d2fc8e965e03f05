//! `-R` and `ipvsadm-restore`: every line of stdin is a command.
//!
//! Errors of the kernel, and those that popt finds, are told and the next line is read; all others end the
//! run. The exit status is the last line's. Changes that stand one after the other go to the director
//! together, so that not each of them waits for its answer.

use super::{Ended, Failure, Run, applied};
use crate::control::command::{Command, Scope, UsageError, parse};
use crate::core::operation::Operation;

impl Run<'_> {
    /// `-R`
    pub(super) fn restore(&mut self) -> u8 {
        let mut restore = Restore::default();
        while let Some(line) = self.terminal.line() {
            let waits = !self.terminal.has_line();
            if self.take(&mut restore, &line) == Scope::Run
                || waits && self.settle(&mut restore) == Scope::Run
            {
                return restore.exit;
            }
        }
        self.settle(&mut restore);
        restore.exit
    }

    /// The script `ipvsadm-restore`: clears the table, then `-R` without the lines that begin with
    /// `#`. It looks at no argument.
    pub(super) fn restore_script(&mut self) -> u8 {
        let mut lines = Vec::new();
        while let Some(line) = self.terminal.line() {
            if !line.starts_with('#') {
                lines.push(line);
            }
        }
        let cleared = self.execute(Command::Apply(Operation::Flush));
        if cleared.scope == Scope::Run {
            return cleared.exit;
        }
        let mut restore = Restore::default();
        for line in lines {
            if self.take(&mut restore, &line) == Scope::Run {
                return restore.exit;
            }
        }
        self.settle(&mut restore);
        restore.exit
    }

    /// Words are split at blanks, and the word `ipvsadm` is dropped wherever it stands.
    fn take(&mut self, restore: &mut Restore, line: &str) -> Scope {
        let args: Vec<String> = line
            .split([' ', '\t', '\r', '\n'])
            .filter(|word| !word.is_empty() && *word != "ipvsadm")
            .map(str::to_owned)
            .collect();
        if args.is_empty() {
            return Scope::Line;
        }
        let command = parse(self.program, &args, self.names);
        if let Ok(Command::Apply(operation)) = command {
            restore.changes.push(operation);
            return if restore.changes.len() < TOGETHER {
                Scope::Line
            } else {
                self.settle(restore)
            };
        }
        if self.settle(restore) == Scope::Run {
            return Scope::Run;
        }
        let ended = match command {
            Ok(Command::Restore) => {
                self.report(Err(Failure::Usage(UsageError::try_help(self.program))))
            }
            Ok(command) => self.execute(command),
            Err(error) => self.report(Err(Failure::Usage(error))),
        };
        restore.note(&ended)
    }

    /// Makes the changes that have been read.
    fn settle(&mut self, restore: &mut Restore) -> Scope {
        if restore.changes.is_empty() {
            return Scope::Line;
        }
        let changes = std::mem::take(&mut restore.changes);
        let outcomes = self.api.apply_all(&changes);
        for (operation, done) in changes.iter().zip(outcomes) {
            let ended = self.report(applied(operation, done));
            if restore.note(&ended) == Scope::Run {
                return Scope::Run;
            }
        }
        Scope::Line
    }
}

/// A restore on its way.
#[derive(Default)]
struct Restore {
    /// What has been read and not yet been done.
    changes: Vec<Operation>,
    exit: u8,
}

impl Restore {
    fn note(&mut self, ended: &Ended) -> Scope {
        self.exit = ended.exit;
        ended.scope
    }
}

/// Their requests and answers fit into the buffers of a socket.
const TOGETHER: usize = 64;
