//! The transfers of FTP: data connections that are expected, and those that there are.

use std::collections::BTreeMap;

use shared::addr::Addr;

use super::Moved;
use crate::core::connection::{Connection, ConnectionId};

/// Whom a client is told to ask for data: its own address, the virtual one, and the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::core) struct Invitation {
    pub(in crate::core) client: Addr,
    pub(in crate::core) vip: Addr,
    pub(in crate::core) port: u16,
}

impl Invitation {
    /// To a data connection.
    pub(in crate::core) fn to(data: &Connection) -> Invitation {
        let (client, virtual_end) = (data.client(), data.virtual_endpoint());
        Invitation {
            client: client.address,
            vip: virtual_end.address,
            port: virtual_end.port,
        }
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(in crate::core) struct Transfers {
    /// Data connections whose client's port is not known yet.
    expected: BTreeMap<Invitation, ConnectionId>,
    /// The control connection, by the data connection.
    data: BTreeMap<ConnectionId, ConnectionId>,
    /// How many each control connection has.
    controls: BTreeMap<ConnectionId, u32>,
    /// By the control connection, if words of it were rewritten.
    moved: BTreeMap<ConnectionId, Moved>,
}

impl Transfers {
    /// Whether there is nothing of FTP, as nearly everywhere.
    #[inline]
    pub(in crate::core) fn is_empty(&self) -> bool {
        self.controls.is_empty() && self.moved.is_empty()
    }

    /// Whether a control connection may have one more.
    pub(in crate::core) fn has_room(&self, control: ConnectionId) -> bool {
        let own = self.controls.get(&control).copied();
        own.unwrap_or(0) < MOST_OF_ONE && self.expected.len() < MOST_EXPECTED
    }

    /// Whether a control connection has to stay for its data connections.
    pub(in crate::core) fn goes_on(&self, control: ConnectionId) -> bool {
        self.controls.contains_key(&control)
    }

    pub(in crate::core) fn expected(&self, invitation: &Invitation) -> Option<ConnectionId> {
        self.expected.get(invitation).copied()
    }

    /// A client will come to a data connection that has begun.
    pub(in crate::core) fn expect(&mut self, invitation: Invitation, data: ConnectionId) {
        self.expected.insert(invitation, data);
    }

    /// It comes.
    pub(in crate::core) fn take(&mut self, invitation: &Invitation) -> Option<ConnectionId> {
        self.expected.remove(invitation)
    }

    /// The data connections of a control connection that nobody has come to.
    pub(in crate::core) fn expected_by(&self, control: ConnectionId) -> Vec<ConnectionId> {
        let all = self.expected.values().copied();
        all.filter(|data| self.data.get(data) == Some(&control))
            .collect()
    }

    /// A data connection has begun.
    pub(in crate::core) fn begin(&mut self, data: ConnectionId, control: ConnectionId) {
        self.data.insert(data, control);
        *self.controls.entry(control).or_insert(0) += 1;
    }

    /// Whether a connection is one of data.
    pub(in crate::core) fn is_data(&self, id: ConnectionId) -> bool {
        self.data.contains_key(&id)
    }

    /// A connection has ended. Whether it was one of data.
    pub(in crate::core) fn end(&mut self, id: ConnectionId, connection: &Connection) -> bool {
        self.moved.remove(&id);
        let Some(control) = self.data.remove(&id) else {
            return false;
        };
        self.let_go(control);
        // The same port may be one that is expected anew.
        let invitation = Invitation::to(connection);
        if self.expected(&invitation) == Some(id) {
            self.expected.remove(&invitation);
        }
        true
    }

    pub(in crate::core) fn moved(&self, control: ConnectionId) -> Moved {
        self.moved.get(&control).copied().unwrap_or_default()
    }

    pub(in crate::core) fn set_moved(&mut self, control: ConnectionId, moved: Moved) {
        self.moved.insert(control, moved);
    }

    fn let_go(&mut self, control: ConnectionId) {
        if let Some(many) = self.controls.get_mut(&control) {
            *many -= 1;
            if *many == 0 {
                self.controls.remove(&control);
            }
        }
    }
}

/// Data connections of a control connection at a time: one would do, if all came to an end at once.
const MOST_OF_ONE: u32 = 16;
/// Of all that are expected.
const MOST_EXPECTED: usize = 4096;
