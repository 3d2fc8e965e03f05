//! What becomes of a frame, and what comes besides.

use super::egress::Label;
use super::net::PortId;
use super::reason::Reason;

/// What becomes of the frame itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is ready: send it out of this port as it is.
    Forward(PortId),
    /// It is ready but for the header of its tunnel, which the program at the egress of this port writes.
    Encapsulate(PortId, Label),
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
    train: Train,
}

/// Frames in one buffer, which is used again and again: the segments of one large frame. They leave
/// before any other frame is looked at, so that those of a connection stay in order.
#[derive(Debug, Default)]
pub struct Train {
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    port: PortId,
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
        self.frames.is_empty() && self.train.is_empty()
    }

    /// The segments of the frame that was looked at last.
    #[inline]
    pub fn train(&self) -> &Train {
        &self.train
    }

    /// For the segments of a frame, and to forget them.
    pub fn train_mut(&mut self) -> &mut Train {
        &mut self.train
    }
}

impl Train {
    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Adds a frame: what `write` appends to the buffer. All leave by the port that is named last.
    pub fn push(&mut self, port: PortId, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
        self.port = port;
    }

    /// Where they leave.
    pub fn port(&self) -> PortId {
        self.port
    }

    /// The frames, in order.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let mut from = 0;
        self.ends.iter().map(move |&end| {
            let frame = &self.bytes[from..end];
            from = end;
            frame
        })
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}
