//! A budget for connections that only one end has spoken for.
//!
//! A flood of SYNs with invented sources makes connections that nobody ever completes. They may be so
//! many and no more: then each new one takes the place of the oldest, and connections that are
//! established stay what they are. A client that completes its handshake before so many others have begun
//! theirs gets through.

use std::collections::VecDeque;

use super::Balancer;
use crate::core::connection::ConnectionId;
use crate::core::protocol::State;

/// The half-open connections, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct HalfOpen {
    /// How many there are.
    count: u32,
    /// Those that began last, never more than there may be. Some of them are no longer half-open.
    queue: VecDeque<Ticket>,
    /// How many had to go.
    pushed_out: u64,
}

/// Names a connection; the hash of its flow tells it from a later one in its place.
#[derive(Debug, Clone, Copy)]
struct Ticket {
    id: ConnectionId,
    hash: u32,
}

impl Balancer {
    /// How many connections are half-open.
    pub fn half_open(&self) -> u32 {
        self.half_open.count
    }

    /// How many half-open connections had to make room for newer ones.
    pub fn pushed_out(&self) -> u64 {
        self.half_open.pushed_out
    }

    /// A connection that is new, or half-open again.
    pub(super) fn enter_half_open(&mut self, id: ConnectionId) {
        let most = self.settings.most_half_open.max(1);
        self.half_open.count += 1;
        let mut left = ROTATIONS;
        while self.half_open.queue.len() >= most as usize {
            let Some(oldest) = self.half_open.queue.pop_front() else {
                break;
            };
            // One that is half-open again has a ticket of before, too.
            if oldest.id == id || !self.is_half_open(oldest) {
                break;
            }
            // With few half-open connections it is only the queue that is full of others.
            if self.half_open.count <= most && left > 0 {
                self.half_open.queue.push_back(oldest);
                left -= 1;
                continue;
            }
            self.half_open.pushed_out += 1;
            self.end_with_template(oldest.id);
        }
        let hash = self.connections.hash_of(id);
        self.half_open.queue.push_back(Ticket { id, hash });
    }

    /// A half-open connection was completed, or ended.
    pub(super) fn leave_half_open(&mut self) {
        self.half_open.count -= 1;
    }

    fn is_half_open(&self, ticket: Ticket) -> bool {
        let connection = self.connections.get(ticket.id);
        connection.is_some_and(|c| !c.is_template() && is_half_open(c.state()))
            && self.connections.hash_of(ticket.id) == ticket.hash
    }
}

/// Whether a connection in this state waits for an end to be heard of.
pub(super) fn is_half_open(state: State) -> bool {
    match state {
        State::Tcp(state) => state.is_half_open(),
        State::Udp => false,
        State::Sctp(state) => state.is_half_open(),
    }
}

/// Tickets of live connections that are put back at the end before one has to go.
const ROTATIONS: usize = 16;
