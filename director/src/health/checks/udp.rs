//! `udp`: a datagram is sent; what comes back is held against what is required, and if nothing is, only a
//! refusal is a failure. It comes as an ICMP error, or from the neighbour that does not answer, so without a
//! required reply the timeout must be longer than the host takes to find that out (some 3 s).

use std::time::Duration;

use super::failure::{Failure, Outcome, Pass};
use super::model::{Reply, Udp};
use super::talk::{Talk, Turn};
use crate::core::random::Random;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct UdpTalk {
    payload: Vec<u8>,
    reply: Option<Reply>,
}

impl UdpTalk {
    pub(super) fn new(udp: &Udp, entropy: u64) -> UdpTalk {
        let mut random = Random::new(entropy);
        let anything = (0..RANDOM_WORDS).flat_map(move |_| random.word().to_ne_bytes());
        let payload = udp.payload.clone();
        UdpTalk {
            payload: payload.unwrap_or_else(|| anything.collect()),
            reply: udp.reply.clone(),
        }
    }

    fn judge(&self, bytes: &[u8]) -> Outcome {
        let reply = self.reply.as_ref();
        reply.map_or(Ok(Pass::Well), |reply| compare(reply, bytes))
    }
}

impl Talk for UdpTalk {
    fn open(&mut self) -> Turn {
        Turn::say(std::mem::take(&mut self.payload))
    }

    fn receive(&mut self, bytes: &[u8]) -> Turn {
        Turn::end(self.judge(bytes))
    }

    /// A datagram without contents looks like an end.
    fn close(&mut self) -> Outcome {
        self.judge(&[])
    }

    fn expire(&mut self, after: Duration) -> Outcome {
        match self.reply {
            None => Ok(Pass::Well),
            Some(_) => Err(Failure::TimedOut {
                after,
                doing: "waiting for the reply",
            }),
        }
    }
}

/// Up to the end of the shorter of both, as keepalived does.
fn compare(reply: &Reply, bytes: &[u8]) -> Outcome {
    let length = bytes.len() as u64;
    if length < reply.least.into() || length > reply.most.into() {
        let (least, most) = (reply.least, reply.most);
        let fault = format!("has {length} bytes, expected {least} to {most}");
        return Err(Failure::Reply(fault));
    }
    let mut pairs = reply.pattern.iter().zip(bytes);
    match pairs.position(|(nibbles, byte)| byte & nibbles.mask != nibbles.value) {
        None => Ok(Pass::Well),
        Some(at) => Err(Failure::Reply(format!(
            "is another one than expected, from byte {} on",
            at + 1
        ))),
    }
}

/// Of 8 bytes each.
const RANDOM_WORDS: usize = 2;
