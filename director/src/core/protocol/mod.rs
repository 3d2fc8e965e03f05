//! What a connection's protocol makes of its packets: state, timeout, whether it counts as active.

pub mod tcp;
pub mod udp;

use shared::addr::Protocol;

use self::tcp::{Seen, TcpFlags, TcpState, TcpTimeouts};
use super::connection::Direction;
use super::operation::TimeoutChange;

/// What the state machines need to know of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The flags of a TCP segment; none of a UDP datagram.
    pub tcp: Option<TcpFlags>,
}

impl Segment {
    /// A TCP segment.
    pub const fn tcp(flags: TcpFlags) -> Segment {
        Segment { tcp: Some(flags) }
    }

    /// A UDP datagram.
    pub const UDP: Segment = Segment { tcp: None };

    /// Whether it opens a connection: any TCP segment with SYN, whatever else is set.
    pub fn opens(self) -> bool {
        self.tcp.is_some_and(|flags| flags.contains(TcpFlags::SYN))
    }

    /// Whether it may be scheduled when it belongs to no connection (`tcp_conn_schedule`). A SYN+ACK
    /// may: it opens the data connection of active FTP.
    pub fn may_be_scheduled(self, sloppy_tcp: bool) -> bool {
        match self.tcp {
            None => true,
            Some(flags) if flags.contains(TcpFlags::RST) => false,
            Some(flags) => sloppy_tcp || flags.contains(TcpFlags::SYN),
        }
    }
}

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// TCP.
    Tcp(TcpState),
    /// UDP has but one.
    Udp,
}

impl State {
    /// The state of a connection that has seen no packet yet.
    pub const fn new(protocol: Protocol) -> State {
        match protocol {
            Protocol::TCP => State::Tcp(TcpState::None),
            _ => State::Udp,
        }
    }

    /// The state after a packet, of which the director sees what `seen` says. `secure`: with the tables of
    /// `secure_tcp`.
    pub fn after(self, segment: Segment, seen: Seen, secure: bool) -> State {
        match self {
            State::Tcp(state) => {
                let flags = segment.tcp.unwrap_or(TcpFlags::empty());
                State::Tcp(state.after(flags, seen, secure))
            }
            State::Udp => State::Udp,
        }
    }

    /// Whether a packet of this direction that led from `before` to this state shows that both ends mean
    /// it: then the template of the connection is assured.
    pub fn assures(self, before: State, direction: Direction) -> bool {
        match self {
            State::Tcp(TcpState::Established) => before != self,
            State::Tcp(_) => false,
            State::Udp => direction == Direction::Reply,
        }
    }

    /// Whether the connection counts as active (`ActiveConn`), else as inactive (`InActConn`).
    pub const fn is_active(self) -> bool {
        match self {
            State::Tcp(state) => state.is_active(),
            State::Udp => false,
        }
    }

    /// As ipvsadm prints it.
    pub const fn name(self) -> &'static str {
        match self {
            State::Tcp(state) => state.name(),
            State::Udp => udp::STATE_NAME,
        }
    }
}

/// How long connections may be idle, by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP.
    pub tcp: TcpTimeouts,
    /// UDP, seconds.
    pub udp_secs: u32,
}

impl Timeouts {
    /// Seconds that a connection in this state may be idle.
    pub fn secs(&self, state: State) -> u32 {
        match state {
            State::Tcp(state) => self.tcp.secs(state),
            State::Udp => self.udp_secs,
        }
    }
}

impl Timeouts {
    /// `--set`: 0 keeps what is there.
    pub fn change(&mut self, change: &TimeoutChange) {
        let TimeoutChange { tcp, tcp_fin, udp } = *change;
        if tcp != 0 {
            self.tcp.set(TcpState::Established, tcp);
        }
        if tcp_fin != 0 {
            self.tcp.set(TcpState::FinWait, tcp_fin);
        }
        if udp != 0 {
            self.udp_secs = udp;
        }
    }
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            tcp: TcpTimeouts::default(),
            udp_secs: udp::TIMEOUT_SECS,
        }
    }
}
