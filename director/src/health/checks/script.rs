//! `script`: what the end of a program means.

use std::time::Duration;

use super::failure::{Failure, Outcome, Pass, quoted};
use super::model::Script;

/// How a program has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this code.
    Exit(u8),
    /// By this signal.
    Signal(i32),
    /// It had to be ended.
    Late(Duration),
    /// It could not be started.
    NotStarted(String),
}

/// What the end of a script says of its server; `output` is what it printed.
pub fn judge(script: &Script, ending: &Ending, output: &[u8]) -> Outcome {
    let said = match quoted(output.trim_ascii()) {
        text if text.is_empty() => text,
        text => format!(": {text}"),
    };
    let status = match ending {
        Ending::Exit(0) => return Ok(Pass::Well),
        Ending::Exit(code @ 2..) if script.dynamic => {
            return Ok(Pass::Weight(u16::from(*code) - 2));
        }
        Ending::Exit(code) => format!("exit code {code}"),
        Ending::Signal(signal) => format!("signal {signal}"),
        Ending::Late(after) => {
            let doing = "running";
            let after = *after;
            return Err(Failure::TimedOut { after, doing });
        }
        Ending::NotStarted(reason) => {
            return Err(Failure::Run {
                program: script.command.first().cloned().unwrap_or_default(),
                reason: reason.clone(),
            });
        }
    };
    Err(Failure::Ended { status, said })
}
