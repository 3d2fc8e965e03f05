//! `ping`: an ICMP echo request, and its reply (RFC 792, RFC 4443).

use std::net::IpAddr;

use shared::wire::checksum;

use super::failure::{Failure, Outcome, Pass};
use super::talk::{Talk, Turn};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct EchoTalk {
    to: IpAddr,
    /// By which the reply is known.
    identity: [u8; 8],
}

impl EchoTalk {
    pub(super) fn new(to: IpAddr, entropy: u64) -> EchoTalk {
        EchoTalk {
            to,
            identity: entropy.to_be_bytes(),
        }
    }
}

impl Talk for EchoTalk {
    /// The kernel writes the checksum of ICMPv6 itself, since it is over the addresses too.
    fn open(&mut self) -> Turn {
        let kind = if self.to.is_ipv4() {
            REQUEST
        } else {
            REQUEST_6
        };
        let mut message = vec![kind, 0, 0, 0];
        // Identifier, sequence number, and four bytes of data.
        message.extend_from_slice(&self.identity);
        if self.to.is_ipv4() {
            let sum = checksum::checksum(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        Turn::say(message)
    }

    /// A raw socket gets all messages of ICMP that the address sends, those of IPv4 with their IP header.
    fn receive(&mut self, bytes: &[u8]) -> Turn {
        let (reply, header) = match self.to {
            IpAddr::V4(_) => {
                let words = bytes.first().map_or(0, |first| usize::from(first & 0xf));
                (REPLY, words * 4)
            }
            IpAddr::V6(_) => (REPLY_6, 0),
        };
        let message = bytes.get(header..).unwrap_or_default();
        let ours = message.get(4..12) == Some(&self.identity);
        if ours && message.starts_with(&[reply, 0]) {
            return Turn::end(Ok(Pass::Well));
        }
        Turn::wait()
    }

    fn close(&mut self) -> Outcome {
        Err(Failure::Closed("it answered"))
    }
}

const REQUEST: u8 = 8;
const REPLY: u8 = 0;
const REQUEST_6: u8 = 128;
const REPLY_6: u8 = 129;
