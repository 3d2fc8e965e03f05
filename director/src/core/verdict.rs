//! What becomes of a frame, and what comes besides.

use super::net::PortId;
use super::reason::Reason;

/// What becomes of the frame itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is ready: send it out of this port as it is.
    Forward(PortId),
    /// It is the host's.
    Local,
    /// What there is to send of it is in the [`Outbox`], or waits for a neighbour or for the rest
    /// of its datagram.
    Consumed,
    /// It is dropped, and counted.
    Drop(Reason),
}

/// Frames that leave besides the one in hand: ICMP, fragments, and those that waited.
#[derive(Debug, Default)]
pub struct Outbox {
    frames: Vec<Outgoing>,
}

/// A frame of our own, with virtio and Ethernet header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// Out of a port.
    Transmit(PortId, Vec<u8>),
    /// To the host.
    Local(Vec<u8>),
}

impl Outbox {
    /// Adds a frame.
    pub fn push(&mut self, frame: Outgoing) {
        self.frames.push(frame);
    }

    /// The frames, in the order they came in.
    pub fn drain(&mut self) -> impl Iterator<Item = Outgoing> + '_ {
        self.frames.drain(..)
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}
