//! The calls of SIP that persistence knows: which template remembers the real server of a call (`ip_vs_pe.c`).
//!
//! A template is found by what it is the template of and by the Call-ID, of which only a keyed hash is
//! looked up: nobody outside can choose Call-IDs that fall together. There are never more calls than templates in
//! the table.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use shared::addr::FlowKey;
use siphasher::sip::SipHasher13;

use super::connection::ConnectionId;

/// See the [module](self).
#[derive(Debug)]
pub(in crate::core) struct Calls {
    key: SipHasher13,
    by_hash: BTreeMap<u64, ConnectionId>,
    by_template: BTreeMap<ConnectionId, Call>,
}

#[derive(Debug)]
struct Call {
    hash: u64,
    id: Box<[u8]>,
}

impl Calls {
    /// None yet. `key` is two random words.
    pub(in crate::core) fn new(key: [u64; 2]) -> Calls {
        Calls {
            key: SipHasher13::new_with_keys(key[0], key[1]),
            by_hash: BTreeMap::new(),
            by_template: BTreeMap::new(),
        }
    }

    /// The template of a call. `of` is the key that templates have without a call.
    pub(in crate::core) fn find(&self, of: &FlowKey, id: &[u8]) -> Option<ConnectionId> {
        let template = *self.by_hash.get(&self.hash(of, id))?;
        (self.id(template) == Some(id)).then_some(template)
    }

    /// A template has been made for a call that had none.
    pub(in crate::core) fn begin(&mut self, template: ConnectionId, of: &FlowKey, id: &[u8]) {
        let hash = self.hash(of, id);
        self.by_hash.insert(hash, template);
        let id = id.into();
        self.by_template.insert(template, Call { hash, id });
    }

    /// No new connection will find this template.
    pub(in crate::core) fn retire(&mut self, template: ConnectionId) {
        if let Some(call) = self.by_template.get(&template)
            && self.by_hash.get(&call.hash) == Some(&template)
        {
            self.by_hash.remove(&call.hash);
        }
    }

    /// A template has ended, of a call or not.
    pub(in crate::core) fn end(&mut self, template: ConnectionId) {
        self.retire(template);
        self.by_template.remove(&template);
    }

    /// The Call-ID of a template, if it is one of a call.
    pub(in crate::core) fn id(&self, template: ConnectionId) -> Option<&[u8]> {
        let call = self.by_template.get(&template)?;
        Some(&call.id)
    }

    fn hash(&self, of: &FlowKey, id: &[u8]) -> u64 {
        let mut hasher = self.key;
        of.hash(&mut hasher);
        hasher.write(id);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use shared::addr::{Addr, Protocol};

    use super::*;
    use crate::core::connection::template_key;

    #[test]
    fn nothing_is_left_of_calls_whose_templates_have_ended() {
        let [one, two] = [10, 11].map(|client| {
            let client = Addr::from_v4_bytes([10, 0, 0, client]);
            let vip = Addr::from_v4_bytes([10, 0, 0, 100]);
            template_key(Protocol::UDP, client, vip, 5060)
        });
        let [first, other, successor] = [0, 1, 2].map(ConnectionId);
        let mut calls = Calls::new([3, 5]);
        calls.begin(first, &one, b"a");
        calls.begin(other, &two, b"a");
        assert_eq!(calls.find(&one, b"a"), Some(first));
        assert_eq!(calls.find(&two, b"a"), Some(other));
        assert_eq!(calls.find(&one, b"b"), None);
        calls.retire(first);
        assert_eq!(calls.find(&one, b"a"), None);
        assert_eq!(calls.id(first), Some(&b"a"[..]));
        calls.begin(successor, &one, b"a");
        calls.end(first);
        assert_eq!(calls.find(&one, b"a"), Some(successor));
        calls.end(successor);
        calls.end(other);
        assert!(calls.by_hash.is_empty() && calls.by_template.is_empty());
    }
}
