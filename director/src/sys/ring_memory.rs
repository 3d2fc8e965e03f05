//! The memory that a TPACKET_V2 receive ring shares with the kernel, and whose each slot is.
//!
//! A slot is the kernel's while its `tp_status` has not `TP_STATUS_USER`; then it is ours until we
//! store `TP_STATUS_KERNEL` (Documentation/networking/packet_mmap.rst). The kernel fills slots in
//! order and so do we take them: what we hold is one run of slots, given back all at once.
//! Nothing but what we hold can be read or written through this type.

use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use shared::sys::SyscallError;
use shared::sys::prefetch::prefetch;

/// The mapped ring.
#[derive(Debug)]
pub(super) struct RingMemory {
    start: NonNull<u8>,
    slot_bytes: usize,
    /// A power of two.
    slots: usize,
    /// The oldest slot that we hold; when we hold none, the next one that the kernel fills.
    first: usize,
    /// How many we hold.
    held: usize,
}

/// What the kernel wrote about a frame (`struct tpacket2_hdr`).
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotHeader {
    pub(super) status: u32,
    /// Length of the frame on the wire.
    pub(super) length: usize,
    /// How much of it is in the slot.
    pub(super) captured: usize,
    /// Where it begins in [`RingMemory::bytes`].
    pub(super) at: usize,
    /// The host has the frame too: it is not `PACKET_OTHERHOST`.
    pub(super) copied: bool,
}

/// The head of a slot, which is not part of [`RingMemory::bytes`]: `tpacket2_hdr` and
/// `sockaddr_ll`, each aligned to 16 but for the end.
pub(super) const SLOT_HEAD: usize = 32 + size_of::<libc::sockaddr_ll>();

/// Where in it the kernel says for whom the frame was.
const PACKET_TYPE: usize = 32 + std::mem::offset_of!(libc::sockaddr_ll, sll_pkttype);

const CACHE_LINE: usize = 64;

impl RingMemory {
    /// Maps the ring of `fd`, which has just been set up with this geometry.
    ///
    /// # Errors
    /// What mmap(2) says.
    pub(super) fn map(
        fd: &OwnedFd,
        slot_bytes: usize,
        slots: usize,
    ) -> Result<RingMemory, SyscallError> {
        assert!(slots.is_power_of_two() && slot_bytes >= libc::TPACKET2_HDRLEN);
        let (bytes, access) = (slot_bytes * slots, libc::PROT_READ | libc::PROT_WRITE);
        // The kernel maps each page here and now, and these pages are its own and never swapped:
        // there is nothing to lock or to populate.
        // SAFETY: a new mapping at an address of the kernel's choice; no memory of ours is
        // touched.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                access,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(start) {
            Some(start) if start.as_ptr() != libc::MAP_FAILED => Ok(RingMemory {
                start: start.cast(),
                slot_bytes,
                slots,
                first: 0,
                held: 0,
            }),
            _ => Err(SyscallError::last("mmap(AF_PACKET)")),
        }
    }

    /// How many slots we hold.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes the next slot, if the kernel has filled it: its number among those that we hold,
    /// and what is in it.
    pub(super) fn take(&mut self) -> Option<(usize, SlotHeader)> {
        if self.held == self.slots {
            return None;
        }
        let slot = self.slot(self.held);
        // Acquire: what the kernel wrote before it set the status is seen after it.
        let status = self.status(slot).load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        let header = self.slot_start(slot).cast::<libc::tpacket2_hdr>();
        // SAFETY: the slot is ours by its status, the kernel does not write to it any more, and it
        // begins with this header of plain integers, aligned since slots are.
        let header = unsafe { header.read() };
        let kind = self.slot_start(slot).wrapping_add(PACKET_TYPE);
        // SAFETY: as above; behind the header the kernel has written a whole `sockaddr_ll`.
        let kind = unsafe { kind.read() };
        let number = self.held;
        self.held += 1;
        let header = SlotHeader {
            status,
            length: header.tp_len as usize,
            captured: header.tp_snaplen as usize,
            at: usize::from(header.tp_mac).saturating_sub(SLOT_HEAD),
            copied: kind != libc::PACKET_OTHERHOST,
        };
        Some((number, header))
    }

    /// A slot that we hold, without its head.
    pub(super) fn bytes(&self, number: usize) -> Option<&[u8]> {
        let (start, length) = self.held_bytes(number)?;
        // SAFETY: these are bytes of the mapping, in a slot that is ours until `release`, which
        // takes `self` exclusively.
        Some(unsafe { std::slice::from_raw_parts(start, length) })
    }

    /// A slot that we hold, without its head.
    pub(super) fn bytes_mut(&mut self, number: usize) -> Option<&mut [u8]> {
        let (start, length) = self.held_bytes(number)?;
        // SAFETY: as in `bytes`; `self` is borrowed exclusively as long as the slice lives.
        Some(unsafe { std::slice::from_raw_parts_mut(start, length) })
    }

    /// Asks for the first two cache lines of what is in a slot that we hold, from `at` on: they were
    /// written by another CPU.
    pub(super) fn prefetch(&self, number: usize, at: usize) {
        if let Some((start, _)) = self.held_bytes(number) {
            prefetch(start.wrapping_add(at));
            prefetch(start.wrapping_add(at + CACHE_LINE));
        }
    }

    /// Gives everything that we hold back to the kernel.
    pub(super) fn release(&mut self) {
        for number in 0..self.held {
            // Release: our last access to the slot comes before the kernel sees it as its own.
            self.status(self.slot(number))
                .store(libc::TP_STATUS_KERNEL, Ordering::Release);
        }
        self.first = self.slot(self.held);
        self.held = 0;
    }

    fn held_bytes(&self, number: usize) -> Option<(*mut u8, usize)> {
        let start = self.slot_start(self.slot(number));
        let bytes = start.wrapping_add(SLOT_HEAD);
        (number < self.held).then_some((bytes, self.slot_bytes - SLOT_HEAD))
    }

    fn status(&self, slot: usize) -> &AtomicU32 {
        let status = self.slot_start(slot).cast::<u32>();
        // SAFETY: a slot begins with tp_status, aligned since slots are; it lives as long as the
        // mapping, which `self` borrows, and both sides access it atomically.
        unsafe { AtomicU32::from_ptr(status) }
    }

    /// The index in the ring of the slot `number` places after the oldest that we hold.
    fn slot(&self, number: usize) -> usize {
        (self.first + number) & (self.slots - 1)
    }

    fn slot_start(&self, slot: usize) -> *mut u8 {
        self.start.as_ptr().wrapping_add(slot * self.slot_bytes)
    }
}

// SAFETY: the mapping belongs to this value alone and to no thread; the kernel cares for the
// descriptor only.
unsafe impl Send for RingMemory {}

impl Drop for RingMemory {
    fn drop(&mut self) {
        let bytes = self.slot_bytes * self.slots;
        // SAFETY: the mapping made in `map`, of this length; every slice of it borrowed `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), bytes) };
    }
}
