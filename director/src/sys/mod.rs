//! System calls that need `unsafe`, one kernel concept per file.
//!
//! | module | what is in it |
//! |---|---|
//! | [`answer_tap`] | answers of ARP and of neighbour discovery in, of all interfaces |
//! | [`packet_ring`] | frames in: the AF_PACKET receive ring of one interface |
//! | [`packet_socket`] | frames out: an AF_PACKET socket for each interface |
//! | [`pidfd`] | a process as a descriptor, which says when it has ended |
//! | `ring_memory` | the ring's shared memory, and whose each slot is |
//! | `transmit_ring` | small frames out: a ring that the kernel copies from |
//! | `socket` | options and addresses that these sockets need |
#![allow(unsafe_code)]

pub mod answer_tap;
pub mod mark_tap;
pub mod packet_ring;
pub mod packet_socket;
pub mod pidfd;
mod ring_memory;
mod socket;
mod transmit_ring;
