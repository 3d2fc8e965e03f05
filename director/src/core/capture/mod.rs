//! What the capture takes from the wire.
//!
//! One description, two readers: [`takes()`] answers for a frame in hand (for `explain`, and for
//! tests), [`program()`] is the same as a BPF program that the kernel runs for each frame, before
//! its own stack sees it. Both ask the questions of `questions`, in order, of one set of
//! [`CaptureKey`]s; a test runs both over random frames.

mod layout;
mod program;
mod questions;
mod set;
mod takes;

pub use program::{
    COPIED_QUEUE, Life, PULSE_KEY, PULSE_NANOS, TAKEN_QUEUE, Taken, program, pulse_value,
};
pub use set::{CaptureChange, CaptureSet, RouteChange, RouteKey};
pub use takes::{Treatment, takes, treat};

use std::fmt;

use shared::addr::{Addr, Family, Protocol};

/// One entry of the capture map. A frame is ours when one of its keys is in the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CaptureKey {
    /// Packets to a service, and ICMP errors about packets from it. Port 0 is every port.
    Service {
        /// Transport protocol.
        protocol: Protocol,
        /// VIP.
        address: Addr,
        /// Host order.
        port: u16,
    },
    /// Packets from a real server behind NAT, and ICMP errors about packets to it; never those
    /// that are addressed to one of the host's own addresses.
    Reply {
        /// Transport protocol.
        protocol: Protocol,
        /// RIP.
        address: Addr,
        /// Host order.
        port: u16,
    },
    /// Fragments to a VIP: only the first one carries ports.
    ServiceFragments {
        /// VIP.
        address: Addr,
    },
    /// Fragments from a real server behind NAT.
    ReplyFragments {
        /// RIP.
        address: Addr,
    },
    /// An address of the host itself.
    Local {
        /// The host's address.
        address: Addr,
    },
    /// Fragments to a VIP that the host routes to the director.
    RoutedFragments {
        /// VIP.
        address: Addr,
    },
    /// Fragments to one of the host's own addresses, while it routes marked packets to the director.
    LocalFragments {
        /// The host's address.
        address: Addr,
    },
    /// The host routes marked packets to the director: whatever address they have.
    Marks {
        /// Those of this family.
        family: Family,
    },
    /// Packets to a client on the host itself, for as long as a connection of its is balanced by NAT.
    Client {
        /// Transport protocol.
        protocol: Protocol,
        /// The host's address.
        address: Addr,
        /// Host order.
        port: u16,
    },
    /// ICMP errors about packets that the host itself has sent through a tunnel to a real server.
    Tunnel {
        /// Protocol of the outer packet.
        protocol: Protocol,
        /// RIP.
        address: Addr,
        /// Host order; 0 of a protocol without ports.
        port: u16,
    },
}

impl CaptureKey {
    /// The key in the kernel's map: class, protocol, port in network order, address (IPv4 in its
    /// mapped form). What a class has not is zero.
    pub fn to_bytes(self) -> [u8; KEY_BYTES] {
        let mut bytes = [0; KEY_BYTES];
        let (protocol, port) = self.transport().unwrap_or((Protocol(0), 0));
        bytes[layout::key::CLASS] = self.class() as u8;
        bytes[layout::key::PROTOCOL] = protocol.0;
        bytes[layout::key::PORT..][..2].copy_from_slice(&port.to_be_bytes());
        bytes[layout::key::ADDRESS..][..16].copy_from_slice(&self.address().to_bytes());
        bytes
    }

    /// The address, which nearly every class has.
    pub const fn address(self) -> Addr {
        match self {
            CaptureKey::Service { address, .. }
            | CaptureKey::Reply { address, .. }
            | CaptureKey::ServiceFragments { address }
            | CaptureKey::ReplyFragments { address }
            | CaptureKey::Local { address }
            | CaptureKey::RoutedFragments { address }
            | CaptureKey::LocalFragments { address }
            | CaptureKey::Client { address, .. }
            | CaptureKey::Tunnel { address, .. } => address,
            CaptureKey::Marks { family } => Addr::unspecified(family),
        }
    }

    const fn transport(self) -> Option<(Protocol, u16)> {
        match self {
            CaptureKey::Service { protocol, port, .. }
            | CaptureKey::Reply { protocol, port, .. }
            | CaptureKey::Client { protocol, port, .. }
            | CaptureKey::Tunnel { protocol, port, .. } => Some((protocol, port)),
            _ => None,
        }
    }

    const fn class(self) -> Class {
        match self {
            CaptureKey::Service { .. } => Class::Service,
            CaptureKey::Reply { .. } => Class::Reply,
            CaptureKey::ServiceFragments { .. } => Class::ServiceFragments,
            CaptureKey::ReplyFragments { .. } => Class::ReplyFragments,
            CaptureKey::Local { .. } => Class::Local,
            CaptureKey::RoutedFragments { .. } => Class::RoutedFragments,
            CaptureKey::LocalFragments { .. } => Class::LocalFragments,
            CaptureKey::Marks { .. } => Class::Marks,
            CaptureKey::Tunnel { .. } => Class::Tunnel,
            CaptureKey::Client { .. } => Class::Client,
        }
    }
}

/// `service TCP 192.0.2.1:80`, `local 192.0.2.1`: for messages.
impl fmt::Display for CaptureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address();
        let name = match self.class() {
            Class::Service => "service",
            Class::Reply => "reply",
            Class::ServiceFragments => "service fragments",
            Class::ReplyFragments => "reply fragments",
            Class::Local => "local",
            Class::RoutedFragments => "routed fragments",
            Class::LocalFragments => "local fragments",
            Class::Marks => "marks",
            Class::Tunnel => "tunnel",
            Class::Client => "client",
        };
        match self.transport() {
            Some((protocol, port)) if address.family() == Family::V4 => {
                write!(f, "{name} {protocol} {address}:{port}")
            }
            Some((protocol, port)) => write!(f, "{name} {protocol} [{address}]:{port}"),
            None => write!(f, "{name} {address}"),
        }
    }
}

/// First byte of a key in the kernel's map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Class {
    Service = 1,
    Reply = 2,
    ServiceFragments = 3,
    ReplyFragments = 4,
    Local = 5,
    RoutedFragments = 6,
    LocalFragments = 7,
    Marks = 8,
    Tunnel = 9,
    Client = 10,
}

/// Length of a key in the kernel's map.
pub const KEY_BYTES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_a_place_for_both_families() {
        let service = CaptureKey::Service {
            protocol: Protocol::TCP,
            address: Addr::from_v4_bytes([192, 0, 2, 1]),
            port: 0x1234,
        };
        assert_eq!(
            service.to_bytes(),
            [
                1, 6, 0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1
            ]
        );
        assert_eq!(service.to_string(), "service TCP 192.0.2.1:4660");
        let address = std::net::IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9]).into();
        let local = CaptureKey::Local { address };
        assert_eq!(
            local.to_bytes(),
            [
                5, 0, 0, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9
            ]
        );
        assert_eq!(local.to_string(), "local 2001:db8::9");
    }
}
