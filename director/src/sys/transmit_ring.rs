//! Small frames out: an AF_PACKET transmit ring (TPACKET_V2) on one interface.
//!
//! A message of `sendmmsg` costs the kernel three copies of headers before it looks at the frame. In a
//! ring it finds the frame where it is. Usually it sends the pages of the ring themselves, which a
//! receiver on the same host then copies at a great price; but what a virtio header calls the frame's
//! headers it copies into the packet at once. Here that is the whole frame.
//!
//! The kernel takes the slots in order, and stops at a frame that it cannot send: then its slot is
//! still ours, and the frames behind it move up.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use shared::sys::{SyscallError, check};

use super::socket::{self, option};

/// The ring of one interface.
#[derive(Debug)]
pub(super) struct TransmitRing {
    fd: OwnedFd,
    start: NonNull<u8>,
    /// The slot that the kernel looks at next.
    head: usize,
    /// The caller's numbers of the frames from there on.
    numbers: Vec<usize>,
}

/// What may go into the ring: a frame of one segment, small enough for any MTU, which the kernel does
/// not look at here.
pub(super) fn takes(frame: &[u8]) -> bool {
    let one_segment = frame.get(GSO_TYPE) == Some(&0);
    one_segment && (VNET_BYTES + ETHERNET_BYTES..=MOST_BYTES).contains(&frame.len())
}

impl TransmitRing {
    /// Opens the ring of an interface.
    ///
    /// # Errors
    /// EPERM without `CAP_NET_RAW`; ENODEV when there is no such interface.
    pub(super) fn open(ifindex: u32, send_buffer: i32) -> Result<TransmitRing, SyscallError> {
        let fd = socket::open()?;
        let version = libc::tpacket_versions::TPACKET_V2 as u32;
        socket::set(&fd, option!(SOL_PACKET, PACKET_VERSION), version)?;
        socket::set(&fd, option!(SOL_PACKET, PACKET_VNET_HDR), 1_i32)?;
        socket::set(&fd, option!(SOL_SOCKET, SO_SNDBUFFORCE), send_buffer)?;
        let request = libc::tpacket_req {
            tp_block_size: BLOCK_BYTES as u32,
            tp_block_nr: (SLOTS * SLOT_BYTES / BLOCK_BYTES) as u32,
            tp_frame_size: SLOT_BYTES as u32,
            tp_frame_nr: SLOTS as u32,
        };
        socket::set(&fd, option!(SOL_PACKET, PACKET_TX_RING), request)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let raw = fd.as_raw_fd();
        // SAFETY: a new mapping at an address of the kernel's choice; no memory of ours is touched.
        let start = unsafe { libc::mmap(ptr::null_mut(), BYTES, access, libc::MAP_SHARED, raw, 0) };
        let start = NonNull::new(start).filter(|start| start.as_ptr() != libc::MAP_FAILED);
        let start = start.ok_or_else(|| SyscallError::last("mmap(AF_PACKET)"))?;
        let ring = TransmitRing {
            fd,
            start: start.cast(),
            head: 0,
            numbers: Vec::with_capacity(SLOTS),
        };
        // Without a protocol nothing is received.
        socket::bind(&ring.fd, ifindex, 0)?;
        Ok(ring)
    }

    /// How many frames wait to be sent.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Forgets frames that wait.
    pub(super) fn clear(&mut self) {
        (0..self.numbers.len()).for_each(|at| self.give(at, libc::TP_STATUS_AVAILABLE));
        self.numbers.clear();
    }

    /// Copies a frame that it [`takes`] into the next slot. False: the kernel has them all.
    pub(super) fn put(&mut self, number: usize, frame: &[u8]) -> bool {
        let at = self.numbers.len();
        if at == SLOTS || self.status(at).load(Ordering::Acquire) != libc::TP_STATUS_AVAILABLE {
            return false;
        }
        debug_assert!(takes(frame));
        let length = frame.len().min(MOST_BYTES);
        let headers = (length - VNET_BYTES) as u16;
        let slot = self.slot(at);
        let data = slot.wrapping_add(DATA);
        // SAFETY: the slot is ours by its status; it has room for MOST_BYTES behind DATA, and `frame`
        // is no part of the ring.
        unsafe { ptr::copy_nonoverlapping(frame.as_ptr(), data, length) };
        let hdr_len = data.wrapping_add(HDR_LEN).cast::<[u8; 2]>();
        // SAFETY: these are two bytes of the virtio header that was just written.
        unsafe { hdr_len.write(headers.to_ne_bytes()) };
        let tp_len = slot.wrapping_add(TP_LEN).cast::<u32>();
        // SAFETY: `tp_len` of the slot's head, aligned since slots are.
        unsafe { tp_len.write(length as u32) };
        self.give(at, libc::TP_STATUS_SEND_REQUEST);
        self.numbers.push(number);
        true
    }

    /// Sends what waits; as [`PacketSocket::send_batch`](super::packet_socket::PacketSocket). Whether
    /// the interface has vanished is for the caller to tell from the errors.
    pub(super) fn flush(&mut self, lost: &mut dyn FnMut(usize, io::Error)) -> usize {
        let mut sent = 0;
        while !self.numbers.is_empty() {
            // SAFETY: send(2) without data takes plain numbers; what it sends are the slots.
            let returned =
                unsafe { libc::send(self.fd.as_raw_fd(), ptr::null(), 0, libc::MSG_DONTWAIT) };
            let outcome = check("send(AF_PACKET)", returned);
            let taken = self.taken();
            sent += taken;
            self.head = (self.head + taken) % SLOTS;
            self.numbers.drain(..taken);
            match outcome {
                Err(error) if error.errno() == Some(libc::EINTR) => {}
                Err(error) if !self.numbers.is_empty() => {
                    lost(self.numbers[0], error.source);
                    self.skip();
                }
                // Nothing was taken and nothing was refused: rather lost than for ever.
                Ok(_) if taken == 0 => {
                    let stuck = || io::Error::from_raw_os_error(libc::EAGAIN);
                    self.numbers
                        .iter()
                        .for_each(|&number| lost(number, stuck()));
                    self.clear();
                }
                _ => {}
            }
        }
        sent
    }

    /// How many of the frames the kernel has taken.
    fn taken(&self) -> usize {
        let waits = |at: &usize| {
            let status = self.status(*at).load(Ordering::Acquire);
            status & (libc::TP_STATUS_SEND_REQUEST | libc::TP_STATUS_WRONG_FORMAT) != 0
        };
        let count = self.numbers.len();
        (0..count).find(waits).unwrap_or(count)
    }

    /// Takes the first frame out, and moves the others up.
    fn skip(&mut self) {
        let last = self.numbers.len() - 1;
        for at in 0..last {
            let (from, to) = (self.slot(at + 1), self.slot(at));
            // SAFETY: both slots are ours by their status, and different; everything behind the
            // status of one goes into the other.
            unsafe {
                ptr::copy_nonoverlapping(
                    from.wrapping_add(TP_LEN),
                    to.wrapping_add(TP_LEN),
                    SLOT_BYTES - TP_LEN,
                );
            }
            self.give(at, libc::TP_STATUS_SEND_REQUEST);
        }
        self.give(last, libc::TP_STATUS_AVAILABLE);
        self.numbers.remove(0);
    }

    fn give(&self, at: usize, status: u32) {
        // Release: what was written to the slot comes before the kernel sees it as its own.
        self.status(at).store(status, Ordering::Release);
    }

    fn status(&self, at: usize) -> &AtomicU32 {
        let status = self.slot(at).cast::<u32>();
        // SAFETY: a slot begins with tp_status, aligned since slots are; it lives as long as the
        // mapping, which `self` borrows, and both sides access it atomically.
        unsafe { AtomicU32::from_ptr(status) }
    }

    /// The slot `at` places behind the kernel's next one.
    fn slot(&self, at: usize) -> *mut u8 {
        let number = (self.head + at) % SLOTS;
        self.start.as_ptr().wrapping_add(number * SLOT_BYTES)
    }
}

impl Drop for TransmitRing {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `open`, of this length; nothing borrows it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), BYTES) };
    }
}

/// Twice a batch: some may still be in a queue of the device's.
const SLOTS: usize = 128;
/// An odd number of cache lines, as in the receive ring and for the same reason.
const SLOT_BYTES: usize = 9 * 64;
const BYTES: usize = SLOTS * SLOT_BYTES;
/// The kernel allocates a ring in blocks of whole pages.
const BLOCK_BYTES: usize = 64 * SLOT_BYTES;
/// Where a slot's frame begins: `TPACKET2_HDRLEN` less an address, which frames out have not.
const DATA: usize = 32;
/// Of `struct tpacket2_hdr`.
const TP_LEN: usize = 4;
/// Of `struct virtio_net_hdr`.
const GSO_TYPE: usize = 1;
const HDR_LEN: usize = 2;
const VNET_BYTES: usize = 10;
const ETHERNET_BYTES: usize = 14;
/// With its virtio header: less than the smallest MTU in use, 576.
const MOST_BYTES: usize = 512;
