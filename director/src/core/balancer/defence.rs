//! What keeps the director going when it gets too much (`update_defense_level`,
//! `ip_vs_random_dropentry`): connections that have hardly been used go, packets that would make new ones
//! are dropped, and the state of TCP believes clients less.

use std::time::Duration;

use shared::time::Time;

use super::{Balancer, ConnectionId, Sysctl};
use crate::core::connection::Connection;
use crate::core::protocol::State;
use crate::core::protocol::sctp::SctpState;
use crate::core::protocol::tcp::TcpState;
use crate::core::sysctl::Mode;

/// What the defences are doing.
#[derive(Debug)]
pub(super) struct Defence {
    /// When the level is looked at next; none when all are off.
    look_at: Option<Time>,
    /// Pages of free memory, as last heard.
    free_pages: u64,
    drops_entries: bool,
    /// One packet of so many is dropped; 0 is none.
    drop_rate: i32,
    drop_counter: i32,
    /// Counts down to the next connection to go, by packets that it has had.
    countdown: [u8; MOST_PACKETS + 1],
    /// The slot where the search for connections to end goes on.
    rover: usize,
    /// Slots that are still to be searched now.
    left: usize,
}

impl Default for Defence {
    fn default() -> Defence {
        Defence {
            look_at: None,
            free_pages: u64::MAX,
            drops_entries: false,
            drop_rate: 0,
            drop_counter: 0,
            countdown: [0; MOST_PACKETS + 1],
            rover: 0,
            left: 0,
        }
    }
}

impl Balancer {
    /// Whether [`notice_memory`](Self::notice_memory) should be told every second.
    pub fn watches_memory(&self) -> bool {
        let Sysctl {
            drop_entry,
            drop_packet,
            secure_tcp,
            ..
        } = self.settings.sysctl;
        [drop_entry, drop_packet, secure_tcp]
            .into_iter()
            .any(|value| Mode::of(value) == Mode::Automatic)
    }

    /// How much memory of the host is free or holds buffers, in pages of 4 KiB.
    pub fn notice_memory(&mut self, free_pages: u64) {
        self.defence.free_pages = free_pages;
    }

    /// When [`defend`](Self::defend) is to be called next.
    pub(super) fn defence_at(&self) -> Option<Time> {
        match self.defence.left {
            0 => self.defence.look_at,
            _ => Some(Time::ZERO),
        }
    }

    /// A switch was changed: the level is looked at now.
    pub(super) fn switch_defence(&mut self, now: Time) {
        self.defence.left = 0;
        self.judge(now);
    }

    /// Once a second: looks how things stand, and ends connections if need be.
    pub(super) fn defend(&mut self, now: Time) {
        if self.defence.look_at.is_some_and(|at| at <= now) {
            self.judge(now);
            let part = self.connections.slots() / PARTS + 1;
            self.defence.left = if self.defence.drops_entries { part } else { 0 };
        }
        if self.defence.left > 0 {
            self.drop_entries(now);
        }
    }

    /// Whether the next packet that a service would take is dropped.
    pub(super) fn drops_packet(&mut self) -> bool {
        let defence = &mut self.defence;
        if defence.drop_rate == 0 {
            return false;
        }
        defence.drop_counter = defence.drop_counter.saturating_sub(1);
        if defence.drop_counter > 0 {
            return false;
        }
        defence.drop_counter = defence.drop_rate;
        true
    }

    fn judge(&mut self, now: Time) {
        let sysctl = &mut self.settings.sysctl;
        let threshold = u64::try_from(sysctl.amemthresh).unwrap_or(0);
        let free = self.defence.free_pages;
        let short = free < threshold;
        // The kernel writes back whether it is on: 2, or not: 1.
        let is_on = |value: &mut i32| match Mode::of(*value) {
            Mode::Off => false,
            Mode::On => true,
            Mode::Automatic => {
                *value = if short { 2 } else { 1 };
                short
            }
        };
        self.defence.drops_entries = is_on(&mut sysctl.drop_entry);
        self.secure = is_on(&mut sysctl.secure_tcp);
        self.defence.drop_rate = match (is_on(&mut sysctl.drop_packet), sysctl.drop_packet) {
            (false, _) => 0,
            (true, 3) => sysctl.am_droprate,
            (true, _) => {
                let rate = i32::try_from(threshold / (threshold - free)).unwrap_or(i32::MAX);
                // As the kernel: each look begins to count anew.
                self.defence.drop_counter = rate;
                rate
            }
        };
        let off = [sysctl.drop_entry, sysctl.drop_packet, sysctl.secure_tcp] == [0; 3];
        self.defence.look_at = (!off).then_some(now + PERIOD);
    }

    /// A few slots of the table are searched for connections that are worth little.
    fn drop_entries(&mut self, now: Time) {
        let many = self.defence.left.min(SEARCH_BUDGET);
        self.defence.left -= many;
        let (connections, rest) = self.connections.piece(self.defence.rover, many);
        let ids: Vec<ConnectionId> = connections.map(|(id, _)| id).collect();
        self.defence.rover = rest.unwrap_or(0);
        for id in ids {
            let worthless = self
                .connections
                .get(id)
                .is_some_and(|connection| self.is_worthless(now, connection));
            if worthless && self.may_go(id) {
                self.end_with_template(id);
            }
        }
    }

    /// Whether a connection may go, if those with as few packets have had their turn.
    fn is_worthless(&self, now: Time, connection: &Connection) -> bool {
        if connection.controlled() > 0 {
            return false;
        }
        if connection.is_template() {
            let service = self.servers[connection.server()].service;
            let one_packet = self.services[service].spec.one_packet;
            // Of a one-packet service they go like connections, by packets, of which they have none.
            return !connection.is_assured() && !one_packet;
        }
        match connection.state() {
            state if goes_at_once(state) => true,
            State::Tcp(TcpState::Established)
            | State::Sctp(SctpState::Established)
            | State::Udp => is_idle(now, connection),
            State::Tcp(_) | State::Sctp(_) => false,
        }
    }

    /// Half-open connections go at once. Of the others every n-th that has had n packets does.
    fn may_go(&mut self, id: ConnectionId) -> bool {
        let connection = self.connection(id);
        if goes_at_once(connection.state()) || connection.is_template() {
            return true;
        }
        let packets = connection.packets as usize;
        let Some(countdown) = self
            .defence
            .countdown
            .get_mut(packets)
            .filter(|_| packets > 0)
        else {
            return false;
        };
        *countdown = countdown.saturating_sub(1);
        let goes = *countdown == 0;
        if goes {
            *countdown = packets as u8;
        }
        goes
    }

    /// Ends a connection, and its template too if that was its last one and none was ever established.
    pub(super) fn end_with_template(&mut self, id: ConnectionId) {
        let template = self.connection(id).controller();
        self.end(id);
        if let Some(template) = template {
            let connection = self.connection(template);
            if connection.controlled() == 0 && !connection.is_assured() {
                self.end(template);
            }
        }
    }
}

/// Whether a connection in this state goes first: its client has asked for it, and no more.
const fn goes_at_once(state: State) -> bool {
    matches!(
        state,
        State::Tcp(TcpState::SynReceived | TcpState::SynAck)
            | State::Sctp(SctpState::Init1 | SctpState::Init)
    )
}

fn is_idle(now: Time, connection: &Connection) -> bool {
    now.since(connection.last_seen) >= IDLE
}

const PERIOD: Duration = Duration::from_secs(1);
/// So many looks go through the whole table.
const PARTS: usize = 32;
/// Slots searched in one call.
const SEARCH_BUDGET: usize = 4096;
/// A connection with more packets than this is in use.
const MOST_PACKETS: usize = 8;
/// Of a connection that may go.
const IDLE: Duration = Duration::from_secs(60);
