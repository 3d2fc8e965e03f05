//! Tunnels whose outer header the kernel writes: a program at an interface's egress puts it on whole frames
//! of many segments, which no virtio header can describe with a second IP header, and the kernel or the
//! network card cuts them.
//!
//! A frame says by its [`Label`] which header it wants; what that is stands in a map ([`Header`]), which is
//! filled before the first frame with that label is sent.

mod program;

pub use program::{Senders, program};

use std::num::NonZeroU32;

use shared::wire::{gue, ipv4, transport};

use super::net::PortId;
use super::operation::{Tunnel, TunnelChecksum};

/// The mark (`SO_MARK`) that a frame is sent with: the number of a header, and GUE's source port. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(NonZeroU32);

impl Label {
    /// None for a number that has no room: then somebody else must write the header.
    pub fn new(number: u32, flow_port: u16) -> Option<Label> {
        let number = u16::try_from(number).ok()?.checked_add(1)?;
        let label = u32::from(number) << PORT_BITS | u32::from(flow_port);
        NonZeroU32::new(label).map(Label)
    }

    /// As a mark.
    pub fn mark(self) -> u32 {
        self.0.get()
    }

    /// The key of its header in the map.
    pub fn key(self) -> [u8; 4] {
        (self.mark() >> PORT_BITS).to_ne_bytes()
    }
}

impl Request {
    /// The key of the header in the map. None for a number that has none.
    pub fn key(&self) -> Option<[u8; 4]> {
        Label::new(self.number, 0).map(Label::key)
    }
}

/// What the program writes in front of packets, but for what it takes from each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header(Vec<u8>);

impl Header {
    /// A header as it was written in front of some packet. None of a tunnel whose header has a sum of what
    /// it carries, which the kernel would not bring up to date as it cuts.
    pub fn new(tunnel: Tunnel, written: &[u8]) -> Option<Header> {
        let summed = match tunnel {
            Tunnel::Ipip => false,
            Tunnel::Gue { checksum, .. } | Tunnel::Gre { checksum } => {
                checksum != TunnelChecksum::None
            }
        };
        (!summed && written.len() <= MOST_BYTES).then(|| Header(written.to_vec()))
    }

    /// As it stands in the map.
    pub fn to_value(&self) -> [u8; VALUE_BYTES] {
        let mut value = [0; VALUE_BYTES];
        value[..self.0.len()].copy_from_slice(&self.0);
        let kind = match self.0.len() {
            ipv4::MIN_HEADER => program::ENCAPSULATES_IP,
            GUE_BYTES => program::ENCAPSULATES_IP | program::ENCAPSULATES_UDP,
            _ => program::ENCAPSULATES_IP | program::ENCAPSULATES_GRE,
        };
        let flags = kind | program::KEEP_SEGMENT_SIZE;
        value[FLAGS_AT..LENGTH_AT].copy_from_slice(&flags.to_ne_bytes());
        value[LENGTH_AT] = self.0.len() as u8;
        value
    }
}

/// A header that the map should hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Of the real server.
    pub number: u32,
    /// The tunnel to it.
    pub tunnel: Tunnel,
    /// Where its frames leave.
    pub port: PortId,
    /// What they get.
    pub header: Header,
}

/// Bytes of an entry of the map: the longest header, flags of `bpf_skb_adjust_room`, the header's length.
pub const VALUE_BYTES: usize = MOST_BYTES + 8;

/// The mark's lower bits are GUE's source port.
const PORT_BITS: u32 = 16;
/// IPv4, UDP, GUE.
const GUE_BYTES: usize = ipv4::MIN_HEADER + transport::UDP_HEADER + gue::HEADER;
const MOST_BYTES: usize = GUE_BYTES;
const FLAGS_AT: usize = MOST_BYTES;
const LENGTH_AT: usize = FLAGS_AT + 4;
