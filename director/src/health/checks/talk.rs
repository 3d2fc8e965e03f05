//! A check's conversation with a server, without the connection: bytes in, bytes out, and an outcome.

use std::fmt::Debug;
use std::time::Duration;

use super::dns::DnsTalk;
use super::echo::EchoTalk;
use super::failure::{Failure, Outcome, Pass};
use super::http::HttpTalk;
use super::model::{Kind, Probe};
use super::smtp::SmtpTalk;
use super::udp::UdpTalk;

/// What a conversation wants next.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// To be sent.
    pub send: Vec<u8>,
    /// The end of the check, if this is it. What is to be sent goes before.
    pub outcome: Option<Outcome>,
}

impl Turn {
    /// Nothing yet.
    pub(super) fn wait() -> Turn {
        Turn::default()
    }

    /// Says something.
    pub(super) fn say(send: Vec<u8>) -> Turn {
        Turn {
            send,
            outcome: None,
        }
    }

    /// That was it.
    pub(super) fn end(outcome: Outcome) -> Turn {
        Turn {
            send: Vec::new(),
            outcome: Some(outcome),
        }
    }
}

/// One conversation. Over a stream bytes come in pieces of any size, over datagrams each by itself.
pub trait Talk: Debug {
    /// There is a connection.
    fn open(&mut self) -> Turn;

    /// Something came.
    fn receive(&mut self, bytes: &[u8]) -> Turn;

    /// Nothing more will come.
    fn close(&mut self) -> Outcome;

    /// The time is up.
    fn expire(&mut self, after: Duration) -> Outcome {
        Err(Failure::TimedOut {
            after,
            doing: "waiting for the answer",
        })
    }
}

/// The conversation of a check; none of a script, which is not spoken to. `round` says which URL, `entropy`
/// makes up what must not be guessed.
pub fn talk(probe: &Probe, round: usize, entropy: u64) -> Option<Box<dyn Talk>> {
    Some(match &*probe.check.kind {
        Kind::Tcp => Box::new(Connected),
        Kind::Http(http) => Box::new(HttpTalk::new(http, round, probe.to)),
        Kind::Smtp { helo } => Box::new(SmtpTalk::new(helo)),
        Kind::Dns(dns) => Box::new(DnsTalk::new(dns, entropy as u16)),
        Kind::Udp(udp) => Box::new(UdpTalk::new(udp, entropy)),
        Kind::Ping => Box::new(EchoTalk::new(probe.to.ip(), entropy)),
        Kind::Script(_) => return None,
    })
}

/// `tcp`: that there is a connection is all.
#[derive(Debug)]
struct Connected;

impl Talk for Connected {
    fn open(&mut self) -> Turn {
        Turn::end(Ok(Pass::Well))
    }

    fn receive(&mut self, _: &[u8]) -> Turn {
        Turn::end(Ok(Pass::Well))
    }

    fn close(&mut self) -> Outcome {
        Ok(Pass::Well)
    }
}
