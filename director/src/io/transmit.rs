//! Frames out: batches from the rings, frames of our own, and frames that go back to the host.

use std::io;
use std::ops::Range;

use shared::host::netlink::Netlink;
use shared::sys::SyscallError;
use tracing::debug;

use super::egress::Egress;
use super::give_back::GiveBack;
use super::intake::Intake;
use crate::core::director::Director;
use crate::core::frame::{self, Frame};
use crate::core::net::PortId;
use crate::core::reason::Reason;
use crate::core::verdict::{Outbox, Outgoing, Verdict};
use crate::sys::mark_tap::MarkTap;
use crate::sys::packet_ring::PacketRing;
use crate::sys::packet_socket::{PacketSocket, Parcel};
use shared::time::Time;

/// The transmit socket, and buffers that are used again.
#[derive(Debug)]
pub(super) struct Transmit {
    socket: PacketSocket,
    host: GiveBack,
    egress: Egress,
    batch: Vec<Ready>,
    own: Vec<(u32, Vec<u8>)>,
    scratch: Vec<u8>,
    given_back: u64,
    /// By port.
    sent: Vec<u64>,
}

/// A frame of the batch that is to be sent.
#[derive(Debug)]
struct Ready {
    ifindex: u32,
    /// What it is sent with, or 0.
    mark: u32,
    /// Its number in the ring's batch.
    number: usize,
    /// Where it is in its buffer.
    range: Range<usize>,
}

/// Whether a ring may have more frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drained {
    /// No: the next one will be told of.
    Yes,
    /// The budget is used up.
    No,
}

impl Transmit {
    pub(super) fn new(host: GiveBack, egress: Egress) -> Transmit {
        Transmit {
            socket: PacketSocket::new(),
            host,
            egress,
            batch: Vec::with_capacity(BATCH),
            own: Vec::new(),
            scratch: Vec::new(),
            given_back: 0,
            sent: Vec::new(),
        }
    }

    /// The device that frames go back to the host through.
    pub(super) fn host(&self) -> &GiveBack {
        &self.host
    }

    /// Frames are taken from this interface.
    pub(super) fn interface(&mut self, ifindex: u32, netlink: &mut Netlink) {
        self.egress.clean(ifindex, netlink);
    }

    /// An interface has vanished.
    pub(super) fn link_gone(&mut self, ifindex: u32) {
        self.egress.link_gone(ifindex);
        self.socket.forget(ifindex);
    }

    /// Lets the kernel write the outer headers that the core asks it to.
    pub(super) fn write_headers(&mut self, director: &mut Director, netlink: &mut Netlink) {
        for request in director.take_tunnel_requests() {
            let Some(there) = director.network.port(request.port) else {
                continue;
            };
            let (interface, socket) = ((there.ifindex, &there.name[..]), &mut self.socket);
            if self.egress.prepare(&request, interface, socket, netlink) {
                director.tunnel_ready(&request);
            }
        }
    }

    /// Frames given back so far.
    pub(super) fn given_back(&self) -> u64 {
        self.given_back
    }

    /// Frames handed to the kernel for a port so far.
    pub(super) fn sent(&self, port: PortId) -> u64 {
        self.sent.get(usize::from(port.0)).copied().unwrap_or(0)
    }

    /// Takes frames from a ring and sends them on, batch by batch, until there are no more or the
    /// budget is used up.
    pub(super) fn drain(
        &mut self,
        now: Time,
        port: PortId,
        ring: &mut PacketRing,
        director: &mut Director,
        outbox: &mut Outbox,
    ) -> Drained {
        for _ in 0..BATCHES_PER_TURN {
            let taken = self.take_batch(now, port, ring, director, outbox);
            if taken == 0 {
                return Drained::Yes;
            }
            self.send_batch(|number| ring.buffer(number), director);
            ring.release();
            if director.balancer.captures().has_changes() {
                // What the outbox has may bring packets that are not taken before these are told.
                return Drained::No;
            }
            if !outbox.is_empty() {
                self.flush(director, outbox);
            }
        }
        Drained::No
    }

    /// Sends the frames of the batch, which are in these buffers.
    fn send_batch<'b>(&mut self, buffer: impl Fn(usize) -> &'b [u8], director: &mut Director) {
        let frames = self.batch.iter().map(|ready| Parcel {
            ifindex: ready.ifindex,
            mark: ready.mark,
            frame: buffer(ready.number)
                .get(ready.range.clone())
                .unwrap_or_default(),
        });
        self.socket
            .send_parcels(frames, |_, error| count_lost(director, &error));
        self.batch.clear();
    }

    /// Sends the segments of the frame that was looked at last.
    #[cold]
    fn send_train(&mut self, director: &mut Director, outbox: &mut Outbox) {
        let train = outbox.train_mut();
        let out = train.port();
        match director.network.port(out).map(|there| there.ifindex) {
            Some(ifindex) => {
                let frames = train.frames();
                count(&mut self.sent, out, frames.len());
                self.socket
                    .send_batch(frames.map(|frame| (ifindex, frame)), |_, error| {
                        count_lost(director, &error);
                    });
            }
            None => train
                .frames()
                .for_each(|_| director.count_drop(Reason::LinkDown)),
        }
        train.clear();
    }

    /// Sends what the core made besides.
    pub(super) fn flush(&mut self, director: &mut Director, outbox: &mut Outbox) {
        if !outbox.train().is_empty() {
            self.send_train(director, outbox);
        }
        self.own.clear();
        for outgoing in outbox.drain() {
            match outgoing {
                Outgoing::Transmit(port, frame) => match director.network.port(port) {
                    Some(there) => {
                        count(&mut self.sent, port, 1);
                        self.own.push((there.ifindex, frame));
                    }
                    None => director.count_drop(Reason::LinkDown),
                },
                Outgoing::Local(frame) => {
                    frame::without_ethernet(&frame, &mut self.scratch);
                    match self.host.write(&self.scratch) {
                        Ok(()) => self.given_back += 1,
                        Err(error) => count_refused(director, &error),
                    }
                }
            }
        }
        let frames = self
            .own
            .iter()
            .map(|(ifindex, frame)| (*ifindex, &frame[..]));
        self.socket
            .send_batch(frames, |_, error| count_lost(director, &error));
    }

    /// Decides about the next frames of a ring. How many there were; those to be sent are in the
    /// batch.
    fn take_batch(
        &mut self,
        now: Time,
        port: PortId,
        ring: &mut PacketRing,
        director: &mut Director,
        outbox: &mut Outbox,
    ) -> usize {
        self.batch.clear();
        let gathered = ring.gather(BATCH);
        director.look_ahead((0..gathered).map(|number| ring.ethernet(number)));
        for number in 0..gathered {
            let Some(received) = ring.received(number) else {
                break;
            };
            let frame = Frame::new(received.buffer, received.vnet_at, received.end);
            let Some(mut frame) = frame.filter(|_| !received.tagged) else {
                director.count_drop(Reason::OtherHost);
                continue;
            };
            let verdict = if received.copied {
                director.handle_copy(now, port, &mut frame, outbox)
            } else {
                director.handle_frame(now, port, &mut frame, outbox)
            };
            self.carry_out(verdict, number, &frame, director);
            if !outbox.train().is_empty() {
                // Behind all frames before it.
                self.send_batch(|number| ring.buffer(number), director);
                self.send_train(director, outbox);
            }
        }
        gathered
    }

    /// Sends packets on that the host has routed here, batch by batch, until there are no more or the budget
    /// is used up.
    pub(super) fn drain_routed(
        &mut self,
        now: Time,
        tap: &mut MarkTap,
        intake: &Intake,
        director: &mut Director,
        outbox: &mut Outbox,
    ) -> Drained {
        for _ in 0..BATCHES_PER_TURN {
            self.batch.clear();
            let received = match tap.receive() {
                Ok(0) => return Drained::Yes,
                Ok(received) => received,
                Err(error) => {
                    debug!("routed packets: {error}");
                    return Drained::No;
                }
            };
            for number in 0..received {
                let Some(routed) = tap.packet(number) else {
                    director.count_drop(Reason::TooBig);
                    continue;
                };
                let mark = routed.mark;
                let frame = Frame::around_packet(routed.buffer, routed.vnet_at, routed.end);
                let Some(mut frame) = frame else {
                    continue;
                };
                let verdict = director.handle_routed(now, mark, &mut frame, outbox);
                if director.balancer.captures().has_changes() {
                    // A client on this host: the answer must not come before it is expected.
                    intake.update(&director.balancer.captures().take_changes());
                }
                self.carry_out(verdict, number, &frame, director);
                if !outbox.train().is_empty() {
                    self.send_batch(|number| tap.buffer(number), director);
                    self.send_train(director, outbox);
                }
            }
            self.send_batch(|number| tap.buffer(number), director);
            if !outbox.is_empty() {
                self.flush(director, outbox);
            }
        }
        Drained::No
    }

    fn carry_out(
        &mut self,
        verdict: Verdict,
        number: usize,
        frame: &Frame<'_>,
        director: &mut Director,
    ) {
        match verdict {
            Verdict::Forward(out) => self.ready(out, 0, number, frame, director),
            Verdict::Encapsulate(out, label) => {
                self.ready(out, label.mark(), number, frame, director);
            }
            Verdict::Local => {
                frame::without_ethernet(frame.wire_bytes(), &mut self.scratch);
                match self.host.write(&self.scratch) {
                    Ok(()) => self.given_back += 1,
                    Err(error) => count_refused(director, &error),
                }
            }
            Verdict::Consumed | Verdict::Drop(_) => {}
        }
    }

    #[inline]
    fn ready(
        &mut self,
        out: PortId,
        mark: u32,
        number: usize,
        frame: &Frame<'_>,
        director: &mut Director,
    ) {
        match director.network.port(out) {
            Some(there) => {
                count(&mut self.sent, out, 1);
                self.batch.push(Ready {
                    ifindex: there.ifindex,
                    mark,
                    number,
                    range: frame.wire_range(),
                });
            }
            None => director.count_drop(Reason::LinkDown),
        }
    }
}

fn count(sent: &mut Vec<u64>, port: PortId, frames: usize) {
    let at = usize::from(port.0);
    if sent.len() <= at {
        sent.resize(at + 1, 0);
    }
    sent[at] += frames as u64;
}

fn count_lost(director: &mut Director, error: &io::Error) {
    debug!("a frame was not sent: {error}");
    director.count_drop(reason_of(error));
}

/// What the kernel's refusal of a frame is called.
fn reason_of(error: &io::Error) -> Reason {
    match error.raw_os_error() {
        Some(libc::ENXIO | libc::ENODEV | libc::ENETDOWN) => Reason::LinkDown,
        Some(libc::ENOBUFS | libc::EAGAIN | libc::ENOMEM) => Reason::QueueFull,
        Some(libc::EMSGSIZE) => Reason::TooBig,
        _ => Reason::SendRefused,
    }
}

fn count_refused(director: &mut Director, error: &SyscallError) {
    debug!("a frame was not given back: {error}");
    director.count_drop(Reason::GiveBackRefused);
}

/// Frames of one system call.
const BATCH: usize = 64;
/// After so many batches the loop looks at everything else.
const BATCHES_PER_TURN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_reason() {
        for (errno, reason) in [
            (libc::ENXIO, Reason::LinkDown),
            (libc::ENODEV, Reason::LinkDown),
            (libc::ENETDOWN, Reason::LinkDown),
            (libc::ENOBUFS, Reason::QueueFull),
            (libc::EAGAIN, Reason::QueueFull),
            (libc::ENOMEM, Reason::QueueFull),
            (libc::EMSGSIZE, Reason::TooBig),
            (libc::EINVAL, Reason::SendRefused),
            (libc::EPERM, Reason::SendRefused),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(reason_of(&error), reason, "{error}");
        }
    }
}
