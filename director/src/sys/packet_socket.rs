//! Frames out: AF_PACKET sockets that send from wherever the frames are.
//!
//! A frame is `[virtio_net_hdr 10][Ethernet][IP ...]`: the kernel completes checksums and cuts
//! large frames into segments as the header says, in software where the device cannot. Frames pass
//! the queueing discipline and the egress hooks; with `PACKET_QDISC_BYPASS` frames of many segments
//! would be lost on devices that cannot segment them.
//!
//! Each interface has a socket that is bound to it: a message then needs no address, which the
//! kernel would copy, check and look up for every frame.

use std::mem::zeroed;
use std::os::fd::{AsRawFd, OwnedFd};
use std::{fmt, io, ptr};

use shared::sys::{SyscallError, check};

use super::socket::{self, option};
use super::transmit_ring::{self, TransmitRing};

/// A frame to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Parcel<'a> {
    /// The kernel's number of the interface that it leaves by.
    pub ifindex: u32,
    /// Its mark (`SO_MARK`); 0 is none.
    pub mark: u32,
    /// With its virtio header.
    pub frame: &'a [u8],
}

/// A socket for each interface that something was sent to.
#[derive(Debug, Default)]
pub struct PacketSocket {
    outlets: Vec<Outlet>,
}

impl PacketSocket {
    /// No socket yet.
    pub fn new() -> PacketSocket {
        PacketSocket::default()
    }

    /// Sends frames, each out of its interface, in order, with one system call for each 64 of
    /// them and each interface. Never waits. Returns how many were sent; each of the others is
    /// reported to `lost` with its number in `frames`, and does not hold up those behind it:
    ///
    /// * ENODEV, ENXIO, ENETDOWN: the interface is not there, has vanished, or is down.
    /// * EMSGSIZE: a frame of one segment is larger than the MTU.
    /// * EINVAL: the vnet header does not fit the frame.
    /// * ENOBUFS, EAGAIN: the device's queue, or the send buffer, is full.
    /// * EPERM: no `CAP_NET_RAW` (or `CAP_NET_ADMIN`, for the buffer).
    pub fn send_batch<'a>(
        &mut self,
        frames: impl IntoIterator<Item = (u32, &'a [u8])>,
        lost: impl FnMut(usize, io::Error),
    ) -> usize {
        let parcels = frames.into_iter().map(|(ifindex, frame)| Parcel {
            ifindex,
            mark: 0,
            frame,
        });
        self.send_parcels(parcels, lost)
    }

    /// As [`send_batch`](Self::send_batch), with what else there is to say about each frame.
    pub fn send_parcels<'a>(
        &mut self,
        parcels: impl IntoIterator<Item = Parcel<'a>>,
        mut lost: impl FnMut(usize, io::Error),
    ) -> usize {
        // A panic may have left frames of a call before, which are long gone.
        self.outlets.iter_mut().for_each(Outlet::clear);
        let mut sent = 0;
        for (number, parcel) in parcels.into_iter().enumerate() {
            match self.outlet(parcel.ifindex) {
                Ok(outlet) => sent += outlet.push(number, parcel, &mut lost),
                Err(error) => lost(number, error.source),
            }
        }
        for outlet in &mut self.outlets {
            sent += outlet.flush(&mut lost);
        }
        self.outlets.retain(|outlet| !outlet.dead);
        sent
    }

    /// The kernel's number of the socket that marked frames leave an interface by: a program at the egress
    /// knows them by it.
    ///
    /// # Errors
    /// ENODEV: there is no such interface; EPERM.
    pub fn cookie(&mut self, ifindex: u32) -> Result<u64, SyscallError> {
        socket::cookie(&self.outlet(ifindex)?.fd)
    }

    /// Closes the socket of an interface that has vanished.
    pub fn forget(&mut self, ifindex: u32) {
        self.outlets.retain(|outlet| outlet.ifindex != ifindex);
    }

    fn outlet(&mut self, ifindex: u32) -> Result<&mut Outlet, SyscallError> {
        let known = |outlet: &Outlet| outlet.ifindex == ifindex;
        let at = match self.outlets.iter().position(known) {
            Some(at) => at,
            None => {
                self.outlets.push(Outlet::open(ifindex)?);
                self.outlets.len() - 1
            }
        };
        Ok(&mut self.outlets[at])
    }
}

/// The sockets of one interface: a ring for small frames, and what sendmmsg(2) needs for one call with
/// others. Frames wait in one of them at a time, so that they leave in their order.
struct Outlet {
    ifindex: u32,
    ring: TransmitRing,
    fd: OwnedFd,
    parts: Box<[libc::iovec]>,
    marks: Box<[MarkMessage]>,
    /// Each for the part and the mark of the same place.
    messages: Box<[libc::mmsghdr]>,
    /// Of the frames in the caller's order.
    numbers: [usize; BATCH],
    count: usize,
    /// Its interface has vanished; should another get the number, it needs another socket.
    dead: bool,
}

impl Outlet {
    fn open(ifindex: u32) -> Result<Outlet, SyscallError> {
        let ring = TransmitRing::open(ifindex, SEND_BUFFER)?;
        let fd = socket::open()?;
        socket::set(&fd, option!(SOL_PACKET, PACKET_VNET_HDR), 1_i32)?;
        socket::set(&fd, option!(SOL_SOCKET, SO_SNDBUFFORCE), SEND_BUFFER)?;
        // Without a protocol nothing is received.
        socket::bind(&fd, ifindex, 0)?;
        let no_part = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        let mut parts: Box<[libc::iovec]> = vec![no_part; BATCH].into();
        // SAFETY: mmsghdr is plain data, for which zeros are valid.
        let no_message: libc::mmsghdr = unsafe { zeroed() };
        let mut messages: Box<[libc::mmsghdr]> = vec![no_message; BATCH].into();
        let mut marks: Box<[MarkMessage]> = vec![MarkMessage::new(); BATCH].into();
        for ((message, part), mark) in messages.iter_mut().zip(&mut parts).zip(&mut marks) {
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = ptr::from_mut(mark).cast();
        }
        Ok(Outlet {
            ifindex,
            ring,
            fd,
            parts,
            marks,
            messages,
            numbers: [0; BATCH],
            count: 0,
            dead: false,
        })
    }

    fn clear(&mut self) {
        self.count = 0;
        self.ring.clear();
    }

    /// Takes a frame, and sends what must leave before it or what makes a batch. How many were sent.
    fn push(&mut self, number: usize, parcel: Parcel<'_>, lost: Lost<'_>) -> usize {
        let Parcel { mark, frame, .. } = parcel;
        let mut sent = 0;
        if mark == 0 && transmit_ring::takes(frame) {
            sent += self.flush_messages(lost);
            if self.ring.put(number, frame) {
                if self.ring.len() == BATCH {
                    sent += self.flush_ring(lost);
                }
                return sent;
            }
        }
        sent += self.flush_ring(lost);
        let part = &mut self.parts[self.count];
        part.iov_base = frame.as_ptr().cast_mut().cast();
        part.iov_len = frame.len();
        self.marks[self.count].mark = mark;
        self.messages[self.count].msg_hdr.msg_controllen = if mark == 0 {
            0
        } else {
            size_of::<MarkMessage>()
        };
        self.numbers[self.count] = number;
        self.count += 1;
        if self.count == BATCH {
            sent += self.flush_messages(lost);
        }
        sent
    }

    /// Sends what was pushed; its frames must still be borrowed.
    fn flush(&mut self, lost: Lost<'_>) -> usize {
        self.flush_ring(lost) + self.flush_messages(lost)
    }

    fn flush_ring(&mut self, lost: Lost<'_>) -> usize {
        let dead = &mut self.dead;
        self.ring.flush(&mut |number, error: io::Error| {
            *dead |= has_vanished(&error);
            lost(number, error);
        })
    }

    fn flush_messages(&mut self, lost: Lost<'_>) -> usize {
        let count = std::mem::take(&mut self.count);
        let (mut next, mut sent) = (0, 0);
        while next < count {
            let rest = &mut self.messages[next..count];
            let (first, number) = (rest.as_mut_ptr(), rest.len() as u32);
            // SAFETY: the kernel reads `number` headers at `first`, and what they point to: parts and
            // marks of `self`, whose heap memory does not move, and frames that the caller of
            // `send_batch` lends until it returns. It writes only `msg_len` of the headers.
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
                    self.dead |= has_vanished(&error.source);
                    lost(self.numbers[next], error.source);
                    next += 1;
                }
            }
        }
        sent
    }
}

/// The control message with a frame's mark, as cmsg(3) lays it out.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct MarkMessage {
    header: libc::cmsghdr,
    mark: u32,
    padding: u32,
}

impl MarkMessage {
    fn new() -> MarkMessage {
        // SAFETY: a control message's header is plain data, for which zeros are valid.
        let mut header: libc::cmsghdr = unsafe { zeroed() };
        header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<u32>()) as _;
        header.cmsg_level = libc::SOL_SOCKET;
        header.cmsg_type = libc::SO_MARK;
        MarkMessage {
            header,
            mark: 0,
            padding: 0,
        }
    }
}

/// Is told the number of a frame that was not sent, and why.
type Lost<'a> = &'a mut dyn FnMut(usize, io::Error);

fn has_vanished(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENODEV))
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet")
            .field("ifindex", &self.ifindex)
            .field("fd", &self.fd)
            .finish_non_exhaustive()
    }
}

/// Frames of one system call.
const BATCH: usize = 64;
/// Bytes of frames that a device has not sent yet. The default holds about three large ones.
const SEND_BUFFER: i32 = 8 << 20;
