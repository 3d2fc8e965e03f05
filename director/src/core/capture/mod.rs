//! What the capture takes from the wire.
//!
//! One description, two readers: [`takes()`] answers for a frame in hand (for `explain`, and for
//! tests), [`program()`] is the same as a BPF program that the kernel runs for each frame, before
//! its own stack sees it. Both ask the questions of `questions`, in order, of one set of
//! [`CaptureKey`]s; a test runs both over random frames.

mod layout;
mod program;
mod questions;
mod takes;

pub use program::{Life, PULSE_KEY, PULSE_NANOS, TAKEN_QUEUE, Taken, program, pulse_value};
pub use takes::takes;

use std::collections::BTreeMap;
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

    /// The address, which every class has.
    pub const fn address(self) -> Addr {
        match self {
            CaptureKey::Service { address, .. }
            | CaptureKey::Reply { address, .. }
            | CaptureKey::ServiceFragments { address }
            | CaptureKey::ReplyFragments { address }
            | CaptureKey::Local { address } => address,
        }
    }

    const fn transport(self) -> Option<(Protocol, u16)> {
        match self {
            CaptureKey::Service { protocol, port, .. }
            | CaptureKey::Reply { protocol, port, .. } => Some((protocol, port)),
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
}

/// Length of a key in the kernel's map.
pub const KEY_BYTES: usize = 20;

/// A change that the kernel's map has not seen yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureChange {
    /// The first user of the key came.
    Insert(CaptureKey),
    /// The last user of the key went.
    Remove(CaptureKey),
}

/// The keys in force, each with the number of its users, and the changes since they were last
/// taken. A key stays as long as a service or a connection uses it.
#[derive(Debug, Default)]
pub struct CaptureSet {
    users: BTreeMap<CaptureKey, u32>,
    changes: Vec<CaptureChange>,
}

impl CaptureSet {
    /// One more user of `key`, and of the fragments' key that goes with it.
    pub fn acquire(&mut self, key: CaptureKey) {
        for key in [Some(key), companion(key)].into_iter().flatten() {
            let users = self.users.entry(key).or_insert(0);
            *users += 1;
            if *users == 1 {
                self.changes.push(CaptureChange::Insert(key));
            }
        }
    }

    /// One user of `key` less, and of the fragments' key that goes with it.
    pub fn release(&mut self, key: CaptureKey) {
        for key in [Some(key), companion(key)].into_iter().flatten() {
            let Some(users) = self.users.get_mut(&key) else {
                continue;
            };
            *users -= 1;
            if *users == 0 {
                self.users.remove(&key);
                self.changes.push(CaptureChange::Remove(key));
            }
        }
    }

    /// Whether `key` has a user.
    pub fn contains(&self, key: CaptureKey) -> bool {
        self.users.contains_key(&key)
    }

    /// Every key in force.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = CaptureKey> {
        self.users.keys().copied()
    }

    /// The changes since the last call, in order.
    pub fn take_changes(&mut self) -> Vec<CaptureChange> {
        std::mem::take(&mut self.changes)
    }
}

/// The fragments of a flow carry the ports only in the first one.
fn companion(key: CaptureKey) -> Option<CaptureKey> {
    match key {
        CaptureKey::Service { address, .. } => Some(CaptureKey::ServiceFragments { address }),
        CaptureKey::Reply { address, .. } => Some(CaptureKey::ReplyFragments { address }),
        _ => None,
    }
}

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

    #[test]
    fn a_key_stays_until_its_last_user_goes() {
        let address = Addr::from_v4_bytes([192, 0, 2, 1]);
        let key = |port| CaptureKey::Service {
            protocol: Protocol::TCP,
            address,
            port,
        };
        let fragments = CaptureKey::ServiceFragments { address };
        let mut set = CaptureSet::default();
        set.acquire(key(80));
        set.acquire(key(80));
        set.acquire(key(81));
        assert_eq!(
            set.take_changes(),
            [key(80), fragments, key(81)]
                .map(CaptureChange::Insert)
                .to_vec()
        );
        set.release(key(80));
        assert!(set.take_changes().is_empty());
        set.release(key(80));
        assert_eq!(set.take_changes(), vec![CaptureChange::Remove(key(80))]);
        set.release(key(81));
        assert!(!set.contains(fragments));
        assert_eq!(
            set.take_changes(),
            [key(81), fragments].map(CaptureChange::Remove).to_vec()
        );
        set.release(key(81));
        assert!(set.take_changes().is_empty());
    }
}
