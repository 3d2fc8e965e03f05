//! `smtp`: a mail server greets, and is greeted (RFC 5321, section 4.3.2).

use super::failure::{Failure, Outcome, Pass, quoted};
use super::talk::{Talk, Turn};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct SmtpTalk {
    helo: String,
    step: Step,
    /// The line that comes.
    line: Vec<u8>,
}

/// What the next answer is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Connection,
    Helo,
    Quit,
}

impl SmtpTalk {
    pub(super) fn new(helo: &str) -> SmtpTalk {
        SmtpTalk {
            helo: helo.to_owned(),
            step: Step::Connection,
            line: Vec::new(),
        }
    }

    /// A line is whole.
    fn answer(&mut self, line: &[u8]) -> Turn {
        let (to, expected) = match self.step {
            Step::Connection => ("the connection", 220),
            Step::Helo => ("HELO", 250),
            // It has served us: what it says now is no matter.
            Step::Quit => return Turn::end(Ok(Pass::Well)),
        };
        let code = line.get(..3).and_then(|code| str::from_utf8(code).ok());
        if code.and_then(|code| code.parse().ok()) != Some(expected) {
            let line = quoted(line);
            return Turn::end(Err(Failure::Smtp { to, line, expected }));
        }
        if line.get(3) == Some(&b'-') {
            // More lines of the same answer are to come.
            return Turn::wait();
        }
        let (step, say) = match self.step {
            Step::Connection => (Step::Helo, format!("HELO {}\r\n", self.helo)),
            _ => (Step::Quit, "QUIT\r\n".to_owned()),
        };
        self.step = step;
        Turn::say(say.into_bytes())
    }
}

impl Talk for SmtpTalk {
    fn open(&mut self) -> Turn {
        Turn::wait()
    }

    fn receive(&mut self, bytes: &[u8]) -> Turn {
        let mut whole = Turn::wait();
        for byte in bytes {
            self.line.push(*byte);
            if *byte != b'\n' && self.line.len() < MOST_LINE {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let turn = self.answer(&line);
            whole.send.extend(turn.send);
            if turn.outcome.is_some() {
                whole.outcome = turn.outcome;
                break;
            }
        }
        whole
    }

    fn close(&mut self) -> Outcome {
        match self.step {
            Step::Connection => Err(Failure::Closed("its greeting")),
            Step::Helo => Err(Failure::Closed("its answer to HELO")),
            Step::Quit => Ok(Pass::Well),
        }
    }
}

/// A line is no longer (RFC 5321, section 4.5.3.1.5), or what there is of it is one.
const MOST_LINE: usize = 512;
