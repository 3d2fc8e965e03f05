//! Frames out: an AF_PACKET socket that sends from wherever the frames are.
//!
//! A frame is `[virtio_net_hdr 10][Ethernet][IP ...]`: the kernel completes checksums and cuts
//! large frames into segments as the header says, in software where the device cannot. Frames pass
//! the queueing discipline and the egress hooks; with `PACKET_QDISC_BYPASS` frames of many segments
//! would be lost on devices that cannot segment them.

use std::mem::zeroed;
use std::os::fd::{AsRawFd, OwnedFd};
use std::{fmt, io, ptr};

use shared::sys::{SyscallError, check};

use super::socket::{self, option};

/// The socket, and what sendmmsg(2) needs for one call.
pub struct PacketSocket {
    fd: OwnedFd,
    addresses: Box<[libc::sockaddr_ll]>,
    parts: Box<[libc::iovec]>,
    messages: Box<[libc::mmsghdr]>,
}

impl PacketSocket {
    /// Opens the socket. It receives nothing.
    ///
    /// # Errors
    /// EPERM without `CAP_NET_RAW` and `CAP_NET_ADMIN`.
    pub fn open() -> Result<PacketSocket, SyscallError> {
        let fd = socket::open()?;
        socket::set(&fd, option!(SOL_PACKET, PACKET_VNET_HDR), 1_i32)?;
        socket::set(&fd, option!(SOL_SOCKET, SO_SNDBUFFORCE), SEND_BUFFER)?;
        let no_part = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        // SAFETY: mmsghdr is plain data, for which zeros are valid.
        let no_message: libc::mmsghdr = unsafe { zeroed() };
        Ok(PacketSocket {
            fd,
            addresses: vec![socket::interface(0, 0); BATCH].into(),
            parts: vec![no_part; BATCH].into(),
            messages: vec![no_message; BATCH].into(),
        })
    }

    /// Sends frames, each out of its interface, in order, with one system call for each 256 of
    /// them. Never waits. Returns how many were sent; each of the others is reported to `lost`
    /// with its number in `frames`, and does not hold up those behind it:
    ///
    /// * ENXIO, ENETDOWN: the interface is gone, or down.
    /// * EMSGSIZE: a frame of one segment is larger than the MTU.
    /// * EINVAL: the vnet header does not fit the frame.
    /// * ENOBUFS, EAGAIN: the device's queue, or the send buffer, is full.
    pub fn send_batch<'a>(
        &mut self,
        frames: impl IntoIterator<Item = (u32, &'a [u8])>,
        mut lost: impl FnMut(usize, io::Error),
    ) -> usize {
        let mut frames = frames.into_iter();
        let (mut sent, mut before) = (0, 0);
        loop {
            let count = self.fill(&mut frames);
            sent += self.send(count, |number, error| lost(before + number, error));
            before += count;
            if count < BATCH {
                return sent;
            }
        }
    }

    /// Prepares up to a batch of messages; how many.
    fn fill<'a>(&mut self, frames: &mut impl Iterator<Item = (u32, &'a [u8])>) -> usize {
        let places = self.addresses.iter_mut().zip(&mut self.parts);
        // The places come first: a frame is taken out of the iterator only if there is one.
        let mut count = 0;
        for ((address, part), (ifindex, frame)) in places.zip(frames) {
            address.sll_ifindex = ifindex as i32;
            part.iov_base = frame.as_ptr().cast_mut().cast();
            part.iov_len = frame.len();
            count += 1;
        }
        let (addresses, parts) = (self.addresses.as_mut_ptr(), self.parts.as_mut_ptr());
        for (at, message) in self.messages[..count].iter_mut().enumerate() {
            let header = &mut message.msg_hdr;
            header.msg_name = addresses.wrapping_add(at).cast();
            header.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            header.msg_iov = parts.wrapping_add(at);
            header.msg_iovlen = 1;
        }
        count
    }

    /// Sends the first `count` prepared messages, whose frames must still be borrowed.
    fn send(&mut self, count: usize, mut lost: impl FnMut(usize, io::Error)) -> usize {
        let (mut next, mut sent) = (0, 0);
        while next < count {
            let rest = &mut self.messages[next..count];
            let (first, number) = (rest.as_mut_ptr(), rest.len() as u32);
            // SAFETY: the kernel reads `number` headers at `first`, and what `fill` made them
            // point to: addresses and parts of `self`, and frames that the caller of `send_batch`
            // lends until it returns. It writes only `msg_len` of the headers.
            let returned = unsafe {
                libc::sendmmsg(self.fd.as_raw_fd(), first, number, libc::MSG_DONTWAIT as _)
            };
            match check("sendmmsg", returned) {
                Ok(done) => {
                    sent += done as usize;
                    next += done as usize;
                }
                Err(error) if error.errno() == Some(libc::EINTR) => {}
                // An error is about the first message that was not sent.
                Err(error) => {
                    lost(next, error.source);
                    next += 1;
                }
            }
        }
        sent
    }
}

impl fmt::Debug for PacketSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketSocket")
            .field("fd", &self.fd)
            .finish_non_exhaustive()
    }
}

/// Frames of one system call.
const BATCH: usize = 256;
/// Bytes of frames that devices have not sent yet. The default holds about three large ones.
const SEND_BUFFER: i32 = 8 << 20;
