//! Why a check has failed, in words for the log.

use std::fmt::Display;
use std::time::Duration;

/// What came of a check.
pub type Outcome = Result<Pass, Failure>;

/// A check that went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// That is all.
    Well,
    /// And the server is to have this weight (`dynamic`).
    Weight(u16),
}

/// Why a check has failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nobody listens there.
    #[error("refused")]
    Refused,
    /// The system says something else.
    #[error("{0}")]
    System(String),
    /// The time was up.
    #[error("timed out after {} ms, {doing}", .after.as_millis())]
    TimedOut {
        /// How long that was.
        after: Duration,
        /// What it was at.
        doing: &'static str,
    },
    /// The server closed the connection too early.
    #[error("closed before {0}")]
    Closed(&'static str),
    /// Another status.
    #[error("status {got}, expected {expected}")]
    Status {
        /// What came.
        got: u16,
        /// What will do.
        expected: String,
    },
    /// It does not speak HTTP.
    #[error("the answer is no HTTP: {0}")]
    NoHttp(String),
    /// The body is another one.
    #[error("{sum} of the body is {got}, expected {expected}")]
    Digest {
        /// Which sum.
        sum: &'static str,
        /// What came.
        got: String,
        /// What was wanted.
        expected: String,
    },
    /// The body has not what it should have.
    #[error("the body does not match {0:?}")]
    NoMatch(String),
    /// It has what it should not have.
    #[error("the body matches {0:?}, which it must not")]
    Match(String),
    /// There is no end to it.
    #[error("the body has more than {most} bytes, {why}")]
    TooLong {
        /// What would be too many.
        most: usize,
        /// What that is for.
        why: &'static str,
    },
    /// The certificate is none that we trust.
    #[error("certificate: {0}")]
    Certificate(String),
    /// There is no TLS.
    #[error("TLS: {0}")]
    Tls(String),
    /// The mail server said something else.
    #[error("the answer to {to} is {line:?}, expected {expected}")]
    Smtp {
        /// What it answers to.
        to: &'static str,
        /// What it says, at most so much of it as is worth to be told.
        line: String,
        /// The code that was wanted.
        expected: u16,
    },
    /// The name server cannot or does not want to.
    #[error("the name server answers {0}")]
    Dns(String),
    /// A datagram that is not what was asked for.
    #[error("the reply {0}")]
    Reply(String),
    /// The program ended otherwise.
    #[error("ended with {status}{said}")]
    Ended {
        /// How it ended.
        status: String,
        /// What it said, after a colon.
        said: String,
    },
    /// It could not be started.
    #[error("cannot run {program}: {reason}")]
    Run {
        /// Which.
        program: String,
        /// Why not.
        reason: String,
    },
}

/// A list as people write it: `200, 204`.
pub(super) fn listed(all: &[impl Display]) -> String {
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    all.join(", ")
}

/// What somebody else said, fit for the log: its beginning, printable.
pub fn quoted(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next();
    let text = String::from_utf8_lossy(line.unwrap_or_default());
    let printable = text
        .chars()
        .map(|letter| if letter.is_control() { '?' } else { letter });
    printable.take(MOST_LETTERS).collect()
}

/// Of what somebody else said.
const MOST_LETTERS: usize = 120;
