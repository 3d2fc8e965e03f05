//! What the capture takes from the wire: the keys that the kernel's map and the pure
//! [`takes`](CaptureSet::contains) share.

use std::collections::BTreeMap;

use shared::addr::{Addr, Protocol};

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
    /// Later fragments to a VIP: they carry no ports.
    ServiceFragments {
        /// VIP.
        address: Addr,
    },
    /// Later fragments from a real server behind NAT.
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
