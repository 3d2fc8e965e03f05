//! The transfers of FTP: data connections that are expected, and those that there are.

use std::collections::BTreeMap;

use shared::addr::Addr;
use shared::time::Time;

use super::Moved;
use crate::core::connection::{ConnectionId, Endpoint};
use crate::core::operation::ForwardMethod;
use crate::core::server::ServerId;

/// Whom a client is told to ask for data: its own address, the virtual one, and the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::core) struct Invitation {
    pub(in crate::core) client: Addr,
    pub(in crate::core) vip: Addr,
    pub(in crate::core) port: u16,
}

/// A data connection that a client is about to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::core) struct Expected {
    pub(in crate::core) control: ConnectionId,
    /// Of the control connection.
    pub(in crate::core) server: ServerId,
    /// Where that waits for it.
    pub(in crate::core) destination: Endpoint,
    /// How it will get there: as the control connection does.
    pub(in crate::core) forward: ForwardMethod,
    /// It may come until then.
    pub(in crate::core) until: Time,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(in crate::core) struct Transfers {
    expected: BTreeMap<Invitation, Expected>,
    /// When the first of them may be over.
    sweep_at: Option<Time>,
    /// The control connection, by the data connection.
    data: BTreeMap<ConnectionId, ConnectionId>,
    /// How many of both each control connection has.
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

    pub(in crate::core) fn expected(&self, invitation: &Invitation) -> Option<&Expected> {
        self.expected.get(invitation)
    }

    /// A data connection will come. Whether that is new.
    pub(in crate::core) fn expect(&mut self, invitation: Invitation, expected: Expected) -> bool {
        let until = expected.until;
        self.sweep_at = Some(self.sweep_at.map_or(until, |at| at.min(until)));
        let new = self.expected.insert(invitation, expected).is_none();
        if new {
            *self.controls.entry(expected.control).or_insert(0) += 1;
        }
        new
    }

    /// It has come, or it will not.
    pub(in crate::core) fn take(&mut self, invitation: &Invitation) -> Option<Expected> {
        let expected = self.expected.remove(invitation)?;
        self.let_go(expected.control);
        Some(expected)
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
    pub(in crate::core) fn end(&mut self, id: ConnectionId) -> bool {
        self.moved.remove(&id);
        let control = self.data.remove(&id);
        if let Some(control) = control {
            self.let_go(control);
        }
        control.is_some()
    }

    /// Those that do not come in time, or any more since their control connection has ended.
    pub(in crate::core) fn overdue(
        &self,
        now: Time,
        ended: Option<ConnectionId>,
    ) -> Vec<Invitation> {
        let all = self.expected.iter();
        let over = all.filter(|(_, expected)| {
            expected.until <= now || ended.is_some_and(|ended| expected.control == ended)
        });
        over.map(|(invitation, _)| *invitation).collect()
    }

    /// When [`overdue`](Self::overdue) is to be asked.
    pub(in crate::core) fn poll_at(&self) -> Option<Time> {
        self.sweep_at
    }

    /// The overdue are taken.
    pub(in crate::core) fn swept(&mut self) {
        self.sweep_at = self.expected.values().map(|expected| expected.until).min();
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
