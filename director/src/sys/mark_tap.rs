//! Packets that the host routes into a TUN device, with their firewall marks.
//!
//! An AF_PACKET socket on the device sees what leaves by it, before the device itself does: the packet as
//! the host would hand it over, with its `virtio_net_hdr` and, in a control message, its mark
//! (`SO_RCVMARK`). A ring would not tell the mark, and reading the device neither.

use std::mem::zeroed;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::{fmt, ptr};

use shared::sys::{SyscallError, check};

use super::socket::{self, option};

/// The socket, and room for a batch.
pub struct MarkTap {
    fd: OwnedFd,
    /// Each has room for headers of ours, a virtio header, an Ethernet header and a packet.
    buffers: Vec<Box<[u8]>>,
    /// Bytes of the packets of the batch, and their marks.
    batch: Vec<(usize, u32)>,
    statistics: Statistics,
}

/// What came and what was lost, since the socket was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Packets, lost ones included.
    pub packets: u64,
    /// Lost because the receive buffer was full.
    pub lost: u64,
}

/// A packet of the batch.
#[derive(Debug)]
pub struct Routed<'a> {
    /// `[headroom][vnet 10][14 bytes for an Ethernet header][IP ...]`
    pub buffer: &'a mut [u8],
    /// Where the virtio header begins. What it says counts from the IP header.
    pub vnet_at: usize,
    /// Where the packet ends.
    pub end: usize,
    /// The firewall mark; 0 is none.
    pub mark: u32,
}

impl MarkTap {
    /// Opens the socket on a device.
    ///
    /// # Errors
    /// EPERM without `CAP_NET_RAW`; ENOPROTOOPT before Linux 5.19, which cannot tell marks; ENODEV when
    /// there is no such device.
    pub fn open(ifindex: u32) -> Result<MarkTap, SyscallError> {
        let fd = socket::open()?;
        socket::set(&fd, option!(SOL_PACKET, PACKET_VNET_HDR), 1_i32)?;
        socket::set(&fd, option!(SOL_SOCKET, SO_RCVBUFFORCE), RECEIVE_BUFFER)?;
        let marks = socket::Name {
            call: "setsockopt(SO_RCVMARK)",
            level: libc::SOL_SOCKET,
            option: SO_RCVMARK,
        };
        socket::set(&fd, &marks, 1_i32)?;
        socket::only_outgoing(&fd)?;
        // Only sockets for all protocols see what leaves.
        socket::bind(&fd, ifindex, libc::ETH_P_ALL as u16)?;
        Ok(MarkTap {
            fd,
            buffers: (0..BATCH).map(|_| vec![0; BUFFER_BYTES].into()).collect(),
            batch: Vec::with_capacity(BATCH),
            statistics: Statistics::default(),
        })
    }

    /// Receives what has come, as a new batch. How many packets that are; none: nothing more has come.
    ///
    /// # Errors
    /// ENETDOWN once when the device has gone down.
    pub fn receive(&mut self) -> Result<usize, SyscallError> {
        self.batch.clear();
        // SAFETY: iovec and mmsghdr are plain data, for which zeros are valid.
        let mut parts: [[libc::iovec; 2]; BATCH] = unsafe { zeroed() };
        // SAFETY: as above.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        let mut controls = [[0_u64; CONTROL_WORDS]; BATCH];
        for (((buffer, parts), message), control) in self
            .buffers
            .iter_mut()
            .zip(&mut parts)
            .zip(&mut messages)
            .zip(&mut controls)
        {
            let (head, packet) = buffer.split_at_mut(PACKET_AT);
            let vnet = &mut head[VNET_AT..VNET_AT + VNET_BYTES];
            *parts = [part(vnet), part(packet)];
            let header = &mut message.msg_hdr;
            header.msg_iov = parts.as_mut_ptr();
            header.msg_iovlen = parts.len();
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = size_of_val(control);
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: the kernel writes to the buffers, control messages and headers named here, at most as
        // many bytes as each says it has; all of them live until after the call.
        let received = unsafe {
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH as u32,
                flags,
                ptr::null_mut(),
            )
        };
        let received = match check("recvmmsg(AF_PACKET)", received) {
            Ok(received) => received.unsigned_abs() as usize,
            Err(error) if error.errno() == Some(libc::EAGAIN) => 0,
            Err(error) => return Err(error),
        };
        for message in &messages[..received] {
            let length = (message.msg_len as usize).saturating_sub(VNET_BYTES);
            self.batch.push((length, mark(&message.msg_hdr)));
        }
        Ok(received)
    }

    /// A packet of the batch. None if there is no such one, or if it is larger than any can be.
    pub fn packet(&mut self, number: usize) -> Option<Routed<'_>> {
        let &(length, mark) = self.batch.get(number)?;
        let buffer = self.buffers.get_mut(number)?;
        let end = PACKET_AT + length;
        (end <= buffer.len()).then_some(Routed {
            buffer,
            vnet_at: VNET_AT,
            end,
            mark,
        })
    }

    /// What came and what was lost so far.
    ///
    /// # Errors
    /// None that getsockopt(2) is known to give here.
    pub fn statistics(&mut self) -> Result<Statistics, SyscallError> {
        let since_last = socket::statistics(&self.fd)?;
        self.statistics.packets += u64::from(since_last.tp_packets);
        self.statistics.lost += u64::from(since_last.tp_drops);
        Ok(self.statistics)
    }

    /// What [`packet`](Self::packet) lent, to send from. Empty when there is no such packet.
    pub fn buffer(&self, number: usize) -> &[u8] {
        self.buffers
            .get(number)
            .map(|buffer| &buffer[..])
            .unwrap_or_default()
    }
}

impl AsRawFd for MarkTap {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl fmt::Debug for MarkTap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MarkTap")
            .field("fd", &self.fd)
            .finish_non_exhaustive()
    }
}

fn part(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    }
}

/// The mark in a message's control messages.
fn mark(header: &libc::msghdr) -> u32 {
    // SAFETY: the kernel has filled in this header and the control messages that it names, which are
    // alive, and says how many bytes they are.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !control.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give null or a whole header inside of the messages.
        let head = unsafe { *control };
        if (head.cmsg_level, head.cmsg_type) == (libc::SOL_SOCKET, libc::SO_MARK) {
            // SAFETY: `control` is such a header, and its data lies behind it.
            let data = unsafe { libc::CMSG_DATA(control) };
            // SAFETY: the data of this control message is one u32, perhaps not aligned.
            return unsafe { data.cast::<u32>().read_unaligned() };
        }
        // SAFETY: `control` is a control message of `header`.
        control = unsafe { libc::CMSG_NXTHDR(header, control) };
    }
    0
}

/// Packets of one system call. Each may be 64 KiB.
const BATCH: usize = 32;

/// As in a slot of a ring: the IP header is aligned, and there is room in front.
const PACKET_AT: usize = 160;
const VNET_AT: usize = PACKET_AT - ETHERNET_BYTES - VNET_BYTES;
const VNET_BYTES: usize = 10;
const ETHERNET_BYTES: usize = 14;
/// The largest IPv4 packet has 65535 bytes.
const BUFFER_BYTES: usize = PACKET_AT + 65_536;

/// Room for one control message of four bytes, and to spare.
const CONTROL_WORDS: usize = 8;

/// Some hundred packets of 64 KiB.
const RECEIVE_BUFFER: i32 = 16 << 20;

/// include/uapi/asm-generic/socket.h
const SO_RCVMARK: libc::c_int = 75;
