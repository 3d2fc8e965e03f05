//! Goes through the table, a piece at a time, after a change that not every connection survives: a real
//! server was removed, or a source is denied now.

use shared::time::Time;

use super::side_table::SideTable;
use super::{Balancer, Class, ConnectionId, FlowKey, Segment};
use crate::core::connection::Endpoint;
use crate::core::forward::sequence::Shift;
use crate::core::ftp::Moved;
use crate::core::operation::{ForwardMethod, ServerGone};
use crate::core::protocol::State;
use crate::core::protocol::tcp::TcpState;
use crate::core::reason::Reason;
use crate::core::server::{Ending, ServerId};

/// A connection whose ends are to be told that it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reset {
    /// Who it is.
    pub client: Endpoint,
    /// As whom the server knows the client.
    pub known_client: Endpoint,
    /// Whom the client believes to talk to.
    pub virtual_end: Endpoint,
    /// Whom it talks to.
    pub destination: Endpoint,
    /// The server's number.
    pub server: ServerId,
    /// How its packets get there.
    pub forward: ForwardMethod,
    /// What is changed in its numbers on the way.
    pub shift: Shift,
    /// How far what its ends say has moved, if it is a control connection of FTP.
    pub moved: Moved,
    /// Where the two ends are, in the numbers of the client.
    pub position: Position,
}

/// The sequence numbers that the ends of a TCP connection expect next, as far as packets have told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Of the next byte of the client.
    pub client_next: u32,
    /// Of the next byte of the real server.
    pub server_next: u32,
}

impl Position {
    /// Whether anything has been seen of the connection since it is followed.
    pub fn is_known(self) -> bool {
        self != Position::default()
    }
}

/// What a TCP segment says about the [`Position`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Behind its last byte.
    pub next: u32,
    /// What it acknowledges.
    pub acknowledged: Option<u32>,
}

/// What the sweep does with a connection.
enum Fate {
    End,
    Reset,
    /// From now on its position is followed: it may have to be reset.
    Follow,
    Stay,
}

impl Balancer {
    /// A client's packet of a connection whose server was removed.
    #[cold]
    pub(super) fn bereaved(
        &mut self,
        now: Time,
        id: ConnectionId,
        flow: &FlowKey,
        segment: Segment,
        mark: u32,
    ) -> Class {
        match self.way_of(id) {
            Some(ServerGone::Keep) => Class::Request(id),
            // Who asks for a new connection does not ask for the old one's end.
            Some(ServerGone::Reset) if segment.opens() => {
                self.replace(id, |balancer| balancer.schedule(now, flow, segment, mark))
            }
            Some(ServerGone::Reset) => Class::Over(id),
            Some(ServerGone::Reschedule) => {
                self.replace(id, |balancer| balancer.schedule_whatever(now, flow, mark))
            }
            None if self.settings.sysctl.expire_nodest_conn != 0 => {
                self.replace(id, |balancer| balancer.schedule(now, flow, segment, mark))
            }
            None => Class::Drop(Reason::ServerRemoved),
        }
    }

    /// What becomes of a connection whose server was removed, or drained to its end; none is IPVS' way.
    fn way_of(&self, id: ConnectionId) -> Option<ServerGone> {
        let connection = self.connection(id);
        let server = &self.servers[connection.server()];
        if server.is_sorry() {
            // Who was told sorry may be told so to the end.
            return Some(ServerGone::Keep);
        }
        if server.ending() == Ending::Drained && !server.is_removed() {
            return ServerGone::parse("auto", connection.protocol());
        }
        let service = server.service;
        self.services[service].spec.beyond.server_gone
    }

    /// The next piece of the table, if there is a sweep.
    pub(super) fn sweep(&mut self, now: Time) {
        let Some(cursor) = self.sweep_at else {
            return;
        };
        let (connections, rest) = self.connections.piece(cursor, BUDGET);
        let ids: Vec<ConnectionId> = connections.map(|(id, _)| id).collect();
        self.sweep_at = rest;
        for id in ids {
            // A template goes with the last of its connections, which may have been now.
            if self.connections.get(id).is_none() {
                continue;
            }
            match self.fate(id) {
                Fate::Stay => {}
                Fate::Reset => self.reset(now, id),
                Fate::Follow => {
                    self.connection_mut(id).follow();
                    self.positions.begin(id);
                }
                Fate::End => {
                    let template = self.connection(id).controller();
                    self.end(id);
                    if let Some(template) = template
                        && self.connection(template).controlled() == 0
                    {
                        self.end(template);
                    }
                }
            }
        }
    }

    fn fate(&self, id: ConnectionId) -> Fate {
        let connection = self.connection(id);
        if connection.controlled() > 0 {
            return Fate::Stay;
        }
        let server = &self.servers[connection.server()];
        let service = &self.services[server.service].spec;
        if self.deny.denies(connection.client().address, &service.key) {
            return Fate::End;
        }
        let closed = connection.state() == State::Tcp(TcpState::Close);
        let is_tcp = matches!(connection.state(), State::Tcp(_));
        match service.beyond.server_gone {
            _ if server.is_sorry() => Fate::Stay,
            _ if server.ending() == Ending::Drained && is_tcp && !connection.is_template() => {
                if closed {
                    Fate::Stay
                } else {
                    Fate::Reset
                }
            }
            _ if server.ending() == Ending::Drained => Fate::End,
            _ if server.may_be_cut()
                && is_tcp
                && !connection.is_template()
                && !connection.is_followed() =>
            {
                Fate::Follow
            }
            _ if !server.is_removed() && server.ending() == Ending::None => Fate::Stay,
            None if self.settings.sysctl.expire_nodest_conn != 0 => Fate::End,
            Some(ServerGone::Reset) if !connection.is_template() && !closed => Fate::Reset,
            _ => Fate::Stay,
        }
    }

    /// Both ends will be told; what they still send is answered for a little while.
    fn reset(&mut self, now: Time, id: ConnectionId) {
        match self.connection(id).state() {
            // Nobody has come yet who could be told.
            State::Tcp(TcpState::Listen) => self.end(id),
            State::Tcp(_) => {
                self.resets.push(self.reset_of(id));
                self.close(now, id);
            }
            State::Sctp(_) | State::Udp => {}
        }
    }

    /// What its ends need to be told that a connection is over.
    pub fn reset_of(&self, id: ConnectionId) -> Reset {
        let connection = self.connection(id);
        let full_nat = connection.forward() == ForwardMethod::FullNat;
        Reset {
            shift: if full_nat {
                self.shifts.of(id)
            } else {
                Shift::default()
            },
            client: connection.client(),
            moved: self.words_moved(id),
            known_client: self.known_client(connection),
            virtual_end: connection.virtual_endpoint(),
            destination: connection.destination(),
            server: connection.server(),
            forward: connection.forward(),
            position: if connection.is_followed() {
                self.positions.of(id)
            } else {
                Position::default()
            },
        }
    }

    /// The connections that ended since the last call and whose ends are to be told.
    pub fn take_resets(&mut self) -> Vec<Reset> {
        std::mem::take(&mut self.resets)
    }

    /// A packet of a connection [whose position is followed](crate::core::connection::Connection::is_followed).
    pub fn follow(&mut self, id: ConnectionId, from_client: bool, progress: Progress) {
        self.positions.follow(id, from_client, progress);
    }
}

/// The [`Position`]s of connections whose service asks for them.
#[derive(Debug, Default)]
pub(super) struct Positions(SideTable<Position>);

impl Positions {
    fn of(&self, id: ConnectionId) -> Position {
        self.0.of(id)
    }

    /// A new connection, of which nothing is known.
    pub(super) fn begin(&mut self, id: ConnectionId) {
        self.0.begin(id);
    }

    fn follow(&mut self, id: ConnectionId, from_client: bool, progress: Progress) {
        let Some(Position {
            client_next,
            server_next,
        }) = self.0.of_mut(id)
        else {
            return;
        };
        let (own, other) = if from_client {
            (client_next, server_next)
        } else {
            (server_next, client_next)
        };
        advance(own, progress.next);
        if let Some(acknowledged) = progress.acknowledged {
            advance(other, acknowledged);
        }
    }
}

/// The later one of two sequence numbers; 0 is none yet.
fn advance(known: &mut u32, seen: u32) {
    if *known == 0 || (seen.wrapping_sub(*known) as i32) > 0 {
        *known = seen;
    }
}

/// Slots of the table looked at in one call of [`Balancer::expire`].
const BUDGET: usize = 1024;
