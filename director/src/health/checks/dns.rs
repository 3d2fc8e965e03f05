//! `dns`: a name server is asked for a name (RFC 1035, section 4).

use super::failure::{Failure, Outcome, Pass};
use super::model::Dns;
use super::talk::{Talk, Turn};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct DnsTalk {
    id: u16,
    question: Vec<u8>,
}

impl DnsTalk {
    /// A question with this number.
    pub(super) fn new(dns: &Dns, id: u16) -> DnsTalk {
        let mut question = Vec::new();
        for label in dns.name.split('.').filter(|label| !label.is_empty()) {
            question.push(label.len() as u8);
            question.extend_from_slice(label.as_bytes());
        }
        question.push(0);
        question.extend_from_slice(&dns.query.to_be_bytes());
        question.extend_from_slice(&INTERNET.to_be_bytes());
        DnsTalk { id, question }
    }
}

impl Talk for DnsTalk {
    fn open(&mut self) -> Turn {
        let words = [self.id, RECURSION_DESIRED, 1, 0, 0, 0];
        let head = words.into_iter().flat_map(u16::to_be_bytes);
        Turn::say(head.chain(self.question.iter().copied()).collect())
    }

    /// What is no answer to this question may be one to an earlier one, that came late.
    fn receive(&mut self, bytes: &[u8]) -> Turn {
        let word = |at: usize| {
            let bytes = bytes.get(at..at + 2)?;
            Some(u16::from_be_bytes([bytes[0], bytes[1]]))
        };
        let (Some(id), Some(flags), Some(_)) = (word(0), word(2), word(10)) else {
            return Turn::wait();
        };
        if id != self.id || flags & ANSWER == 0 {
            return Turn::wait();
        }
        Turn::end(match flags & CODE {
            0 => Ok(Pass::Well),
            code => Err(Failure::Dns(code_name(code))),
        })
    }

    fn close(&mut self) -> Outcome {
        Err(Failure::Closed("it answered"))
    }
}

/// RFC 1035, section 4.1.1.
fn code_name(code: u16) -> String {
    let name = match code {
        1 => "FORMERR, it cannot read the question",
        2 => "SERVFAIL, it has failed",
        3 => "NXDOMAIN, there is no such name",
        4 => "NOTIMP, it does not know such questions",
        5 => "REFUSED, it does not want to answer",
        other => return format!("code {other}"),
    };
    name.to_owned()
}

const INTERNET: u16 = 1;
const RECURSION_DESIRED: u16 = 0x0100;
const ANSWER: u16 = 0x8000;
const CODE: u16 = 0x000f;
