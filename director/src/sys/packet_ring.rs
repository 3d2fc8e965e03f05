//! Frames in: an AF_PACKET receive ring (TPACKET_V2) on one interface.
//!
//! What the capture program has taken arrives here after tcx, in order, each frame with its
//! `virtio_net_hdr` (checksum still to be completed, segmentation still to be done) in front:
//! `[headroom][vnet 10][Ethernet 14][IP ...]`, contiguous, ready for
//! [`PacketSocket`](super::packet_socket::PacketSocket).
//!
//! A slot has room for a frame of the MTU. A frame of many segments does not fit; the kernel then
//! queues the whole of it on the socket and marks its slot `TP_STATUS_COPY`: one recv(2) for each
//! such slot, in order. Not TPACKET_V3: a block of it waits at least a millisecond.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use shared::sys::{SyscallError, check};

use super::ring_memory::{RingMemory, SLOT_HEAD, SlotHeader};
use super::socket::{self, ACCEPT, REJECT, equal, load, option};

/// The receive ring of one interface.
pub struct PacketRing {
    memory: RingMemory,
    fd: OwnedFd,
    batch: Vec<Arrival>,
    copies: Vec<Box<[u8]>>,
    copies_used: usize,
    statistics: Statistics,
}

/// How to open a ring.
#[derive(Debug, Clone, Copy)]
pub struct RingOptions {
    /// Type of the Ethernet frames that it gets: a socket for all of them would get them before the capture
    /// program has seen them.
    pub ethertype: u16,
    /// Number of slots; rounded up to a power of two, and to 64.
    pub slots: usize,
    /// MTU of the interface: what a slot has room for.
    pub mtu: usize,
    /// Bytes of frames that may wait because they do not fit a slot.
    pub receive_buffer: usize,
    /// The ring gets the frames of type `PACKET_OTHERHOST` that have this queue number: the
    /// capture program sets both. The type alone would not do: the kernel sets it too, for frames
    /// to other stations, and for those of a VLAN that it has no device for.
    pub queue: u16,
    /// And those that have this one, whatever their type: they are copies, the host keeps the frame.
    pub copied_queue: u16,
}

/// A frame that was received, to be edited in place.
#[derive(Debug)]
pub struct Received<'a> {
    /// The frame with the room around it.
    pub buffer: &'a mut [u8],
    /// Where its `virtio_net_hdr` of 10 bytes begins, at least [`HEADROOM`] from the beginning of
    /// the buffer; the Ethernet header follows.
    pub vnet_at: usize,
    /// Where the frame ends.
    pub end: usize,
    /// The frame had a VLAN tag, which is no longer in it.
    pub tagged: bool,
    /// The host keeps the frame, and this is a copy.
    pub copied: bool,
}

/// What came and what was lost, since the ring was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Frames that the kernel had for the ring, lost ones included.
    pub frames: u64,
    /// Lost because every slot was full, or because `virtio_net_hdr` cannot say how the frame is
    /// segmented.
    pub ring_full: u64,
    /// Lost because the frame fits no slot and the receive buffer was full, or because it is
    /// larger than 64 KiB.
    pub too_large: u64,
}

/// Where a frame of the batch is.
#[derive(Debug, Clone, Copy)]
enum Place {
    Slot(usize),
    Copy(usize),
}

/// A frame that has arrived, before it is lent out.
struct Arrival {
    place: Place,
    vnet_at: usize,
    end: usize,
    tagged: bool,
    copied: bool,
}

impl RingOptions {
    /// The ring for an interface: as many slots as the memory for one has room for.
    pub fn new(ethertype: u16, mtu: usize, queue: u16, copied_queue: u16) -> RingOptions {
        RingOptions {
            ethertype,
            slots: MOST_SLOTS.min(1 << (RING_BYTES / slot_bytes(mtu)).ilog2()),
            mtu,
            receive_buffer: RECEIVE_BUFFER,
            queue,
            copied_queue,
        }
    }
}

impl PacketRing {
    /// Opens a ring of an interface of this network namespace.
    ///
    /// # Errors
    /// EPERM without `CAP_NET_RAW` (and `CAP_NET_ADMIN`, for the buffer); ENODEV when there is no
    /// such interface; ENOMEM when the kernel has no memory for the ring.
    pub fn open(ifindex: u32, options: &RingOptions) -> Result<PacketRing, SyscallError> {
        let fd = socket::open()?;
        // What shapes a slot comes before the ring: later it is EBUSY.
        let version = libc::tpacket_versions::TPACKET_V2 as u32;
        socket::set(&fd, option!(SOL_PACKET, PACKET_VERSION), version)?;
        socket::set(&fd, option!(SOL_PACKET, PACKET_VNET_HDR), 1_i32)?;
        socket::set(&fd, option!(SOL_PACKET, PACKET_RESERVE), RESERVE as u32)?;
        socket::set(&fd, option!(SOL_PACKET, PACKET_COPY_THRESH), 1_i32)?;
        socket::set(&fd, option!(SOL_PACKET, PACKET_IGNORE_OUTGOING), 1_i32)?;
        let buffer = options.receive_buffer as i32;
        socket::set(&fd, option!(SOL_SOCKET, SO_RCVBUFFORCE), buffer)?;
        let slot_bytes = slot_bytes(options.mtu);
        let block_bytes = slot_bytes * SLOTS_PER_BLOCK;
        let slots = options.slots.next_power_of_two().max(SLOTS_PER_BLOCK);
        let request = libc::tpacket_req {
            tp_block_size: block_bytes as u32,
            tp_block_nr: (slots / SLOTS_PER_BLOCK) as u32,
            tp_frame_size: slot_bytes as u32,
            tp_frame_nr: slots as u32,
        };
        socket::set(&fd, option!(SOL_PACKET, PACKET_RX_RING), request)?;
        let memory = RingMemory::map(&fd, slot_bytes, slots)?;
        // The filter comes before the address: no frame that it does not want ever arrives.
        attach_filter(&fd, options)?;
        socket::bind(&fd, ifindex, options.ethertype)?;
        Ok(PacketRing {
            memory,
            fd,
            batch: Vec::with_capacity(slots),
            copies: (0..COPIES).map(|_| vec![0; COPY_BYTES].into()).collect(),
            copies_used: 0,
            statistics: Statistics::default(),
        })
    }

    /// Takes what has arrived, but no more than makes a batch of `most` frames, and holds it until
    /// [`release`](Self::release). How many frames the batch has now.
    ///
    /// Fewer than `most`: nothing more has arrived, or there is no room to hold it. So the ring is
    /// drained (and an edge-triggered poll will tell of the next frame) only when the first call
    /// after a release gives none.
    pub fn gather(&mut self, most: usize) -> usize {
        while self.batch.len() < most {
            let Some(arrival) = self.arrival() else {
                break;
            };
            if let Place::Slot(number) = arrival.place {
                self.memory.prefetch(number, arrival.vnet_at);
            }
            self.batch.push(arrival);
        }
        self.batch.len()
    }

    /// A frame of the batch, counted from 0.
    pub fn received(&mut self, number: usize) -> Option<Received<'_>> {
        let arrival = self.batch.get(number)?;
        let buffer = match arrival.place {
            Place::Slot(number) => self.memory.bytes_mut(number)?,
            Place::Copy(copy) => self.copies.get_mut(copy)?,
        };
        Some(Received {
            buffer,
            vnet_at: arrival.vnet_at,
            end: arrival.end,
            tagged: arrival.tagged,
            copied: arrival.copied,
        })
    }

    /// What [`received`](Self::received) lent, to send from: the buffer of a frame of the batch.
    /// Empty when there is no such frame.
    pub fn buffer(&self, number: usize) -> &[u8] {
        let bytes = match self.batch.get(number).map(|arrival| arrival.place) {
            Some(Place::Slot(number)) => self.memory.bytes(number),
            Some(Place::Copy(copy)) => self.copies.get(copy).map(|copy| &copy[..]),
            None => None,
        };
        bytes.unwrap_or_default()
    }

    /// A frame of the batch, from its Ethernet header on. Empty when there is no such frame.
    pub fn ethernet(&self, number: usize) -> &[u8] {
        let place = self
            .batch
            .get(number)
            .map(|arrival| arrival.vnet_at + VNET_BYTES..arrival.end);
        place
            .and_then(|range| self.buffer(number).get(range))
            .unwrap_or_default()
    }

    /// Gives the slots of the batch back to the kernel and begins a new batch.
    pub fn release(&mut self) {
        self.memory.release();
        self.batch.clear();
        self.copies_used = 0;
    }

    /// How many slots the batch holds.
    pub fn held(&self) -> usize {
        self.memory.held()
    }

    /// What came and what was lost so far.
    ///
    /// # Errors
    /// None that getsockopt(2) is known to give here.
    pub fn statistics(&mut self) -> Result<Statistics, SyscallError> {
        let since_last = socket::statistics(&self.fd)?;
        // The kernel begins anew with each question.
        self.statistics.frames += u64::from(since_last.tp_packets);
        self.statistics.ring_full += u64::from(since_last.tp_drops);
        Ok(self.statistics)
    }

    /// Takes slots until one has a whole frame.
    fn arrival(&mut self) -> Option<Arrival> {
        while self.copies_used < self.copies.len() {
            let (number, header) = self.memory.take()?;
            let arrival = if header.status & libc::TP_STATUS_COPY != 0 {
                self.receive_copy(&header)
            } else {
                in_slot(number, &header)
            };
            if arrival.is_some() {
                return arrival;
            }
            self.statistics.too_large += 1;
        }
        None
    }

    /// Fetches the frame of a slot that is marked `TP_STATUS_COPY`. `None`: it is lost.
    fn receive_copy(&mut self, header: &SlotHeader) -> Option<Arrival> {
        let copy = self.copies_used;
        let room = self.copies.get_mut(copy)?.get_mut(COPY_VNET_AT..)?;
        let mut got = receive(&self.fd, room);
        if got
            .as_ref()
            .is_err_and(|error| error.errno() != Some(libc::EAGAIN))
        {
            // The socket had an error to tell (ENETDOWN: the interface went down meanwhile); the
            // frame is still in the queue, and without it the next copies would be one behind.
            got = receive(&self.fd, room);
        }
        let length = got.ok().filter(|&length| length <= room.len())?;
        self.copies_used += 1;
        Some(Arrival {
            place: Place::Copy(copy),
            vnet_at: COPY_VNET_AT,
            end: COPY_VNET_AT + length,
            tagged: tagged(header),
            copied: header.copied,
        })
    }
}

impl AsFd for PacketRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for PacketRing {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl fmt::Debug for PacketRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketRing")
            .field("memory", &self.memory)
            .field("fd", &self.fd)
            .finish_non_exhaustive()
    }
}

/// The frame in a slot; `None` when it is not all there.
fn in_slot(number: usize, header: &SlotHeader) -> Option<Arrival> {
    (header.captured == header.length).then_some(())?;
    Some(Arrival {
        place: Place::Slot(number),
        vnet_at: header.at.checked_sub(VNET_BYTES)?,
        end: header.at + header.captured,
        tagged: tagged(header),
        copied: header.copied,
    })
}

fn tagged(header: &SlotHeader) -> bool {
    header.status & libc::TP_STATUS_VLAN_VALID != 0
}

/// One frame with its vnet header; its whole length, also when that is more than `room` holds.
fn receive(fd: &OwnedFd, room: &mut [u8]) -> Result<usize, SyscallError> {
    let (to, size) = (room.as_mut_ptr().cast(), room.len());
    // SAFETY: the kernel writes at most `size` bytes to `to`, which is `room`.
    let length = unsafe { libc::recv(fd.as_raw_fd(), to, size, libc::MSG_TRUNC) };
    check("recv(AF_PACKET)", length).map(isize::unsigned_abs)
}

/// Accepts what the capture program has marked as taken or copied, and nothing else.
fn attach_filter(fd: &OwnedFd, options: &RingOptions) -> Result<(), SyscallError> {
    socket::attach_filter(
        fd,
        &[
            load(libc::SKF_AD_QUEUE),
            equal(u32::from(options.copied_queue), 3, 0),
            equal(u32::from(options.queue), 0, 3),
            load(libc::SKF_AD_PKTTYPE),
            equal(u32::from(libc::PACKET_OTHERHOST), 0, 1),
            ACCEPT,
            REJECT,
        ],
    )
}

/// Bytes of a slot for frames of this MTU: an odd number of cache lines. With a power of two the same
/// line of all slots would fall into a few sets of the processor's caches, and a ring that uses a tenth
/// of them would not stay in any.
fn slot_bytes(mtu: usize) -> usize {
    let least = SLOT_HEAD + SLOT_VNET_AT + VNET_BYTES + ETHERNET_BYTES + mtu;
    (least.div_ceil(CACHE_LINE) | 1) * CACHE_LINE
}

/// At least so many bytes are free in front of a frame: room for outer headers and tags.
pub const HEADROOM: usize = 64;

/// Room that the kernel leaves in front of a frame. With 70 the IP header begins 160 bytes into
/// the slot, aligned for whatever reads it, and 84 bytes are free before the vnet header.
const RESERVE: usize = 70;
/// Where the vnet header is in a slot, from the end of its head (`tpacket_rcv` in
/// net/packet/af_packet.c).
const SLOT_VNET_AT: usize = 160 - ETHERNET_BYTES - VNET_BYTES - SLOT_HEAD;

/// `struct virtio_net_hdr`, without what later versions added.
const VNET_BYTES: usize = 10;
const ETHERNET_BYTES: usize = 14;

/// The kernel allocates a ring in blocks of whole pages, and a slot lies in one of them: a page has so
/// many cache lines, so these fill their block whatever their size.
const SLOTS_PER_BLOCK: usize = 64;
const CACHE_LINE: usize = 64;

const RING_BYTES: usize = 8 << 20;
/// As many as the queue of a network card has. The kernel goes round the whole ring however few frames
/// wait in it, so a larger one is only farther from the processor: with 4096 a short connection costs a
/// sixth more.
const MOST_SLOTS: usize = 1024;
/// Some hundred frames of 64 KiB.
const RECEIVE_BUFFER: usize = 16 << 20;

/// How many frames larger than a slot a batch can hold.
const COPIES: usize = 64;
/// As in a slot, so that the IP header is aligned.
const COPY_VNET_AT: usize = 160 - ETHERNET_BYTES - VNET_BYTES;
/// The largest IPv4 packet has 65535 bytes.
const COPY_BYTES: usize = COPY_VNET_AT + VNET_BYTES + ETHERNET_BYTES + 65535;

const _: () = assert!(SLOT_VNET_AT >= HEADROOM && COPY_VNET_AT >= HEADROOM);
