//! What a connection's protocol makes of its packets: state, timeout, whether it counts as active.

pub mod ipsec;
pub mod sctp;
pub mod tcp;
pub mod udp;

use shared::addr::Protocol;

use self::sctp::{Chunks, SctpState};
use self::tcp::{Seen, TcpFlags, TcpState, TcpTimeouts};
use super::connection::Direction;
use super::operation::TimeoutChange;

/// What the state machines need to know of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The flags of a TCP segment; none of another protocol.
    pub tcp: Option<TcpFlags>,
    /// The chunks of an SCTP packet; none of another protocol.
    pub sctp: Option<Chunks>,
}

impl Segment {
    /// A TCP segment.
    pub const fn tcp(flags: TcpFlags) -> Segment {
        Segment {
            tcp: Some(flags),
            sctp: None,
        }
    }

    /// An SCTP packet.
    pub const fn sctp(chunks: Chunks) -> Segment {
        Segment {
            tcp: None,
            sctp: Some(chunks),
        }
    }

    /// A UDP datagram.
    pub const UDP: Segment = Segment {
        tcp: None,
        sctp: None,
    };

    /// Whether it opens a connection: any TCP segment with SYN, whatever else is set, and SCTP's INIT.
    pub fn opens(self) -> bool {
        match self {
            Segment {
                tcp: Some(flags), ..
            } => flags.contains(TcpFlags::SYN),
            Segment {
                sctp: Some(chunks), ..
            } => chunks.opens(),
            _ => false,
        }
    }

    /// Whether it ends a connection without an answer: RST and ABORT.
    pub fn aborts(self) -> bool {
        self.tcp.is_some_and(|flags| flags.contains(TcpFlags::RST))
            || self.sctp.is_some_and(Chunks::aborts)
    }

    /// Whether it may be scheduled when it belongs to no connection (`tcp_conn_schedule`,
    /// `sctp_conn_schedule`). A SYN+ACK may: it opens the data connection of active FTP.
    pub fn may_be_scheduled(self, sloppy: Sloppy) -> bool {
        match self {
            _ if self.aborts() => false,
            Segment { tcp: Some(_), .. } => sloppy.tcp || self.opens(),
            Segment { sctp: Some(_), .. } => sloppy.sctp || self.opens(),
            _ => true,
        }
    }
}

/// Of which protocols packets from the middle of a connection begin one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sloppy {
    /// `sloppy_tcp`
    pub tcp: bool,
    /// `sloppy_sctp`
    pub sctp: bool,
}

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// TCP.
    Tcp(TcpState),
    /// UDP has but one.
    Udp,
    /// SCTP.
    Sctp(SctpState),
}

impl State {
    /// The state of a connection that has seen no packet yet.
    pub const fn new(protocol: Protocol) -> State {
        match protocol {
            Protocol::TCP => State::Tcp(TcpState::None),
            Protocol::SCTP => State::Sctp(SctpState::None),
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
            State::Sctp(state) => match segment.sctp {
                Some(chunks) => State::Sctp(state.after(chunks, seen)),
                None => self,
            },
        }
    }

    /// Whether a packet of this direction that led from `before` to this state shows that both ends mean
    /// it: then the template of the connection is assured.
    pub fn assures(self, before: State, direction: Direction) -> bool {
        match self {
            State::Tcp(TcpState::Established) | State::Sctp(SctpState::Established) => {
                before != self
            }
            State::Tcp(_) | State::Sctp(_) => false,
            State::Udp => direction == Direction::Reply,
        }
    }

    /// Whether the connection counts as active (`ActiveConn`), else as inactive (`InActConn`).
    pub const fn is_active(self) -> bool {
        match self {
            State::Tcp(state) => state.is_active(),
            State::Udp => false,
            State::Sctp(state) => matches!(state, SctpState::Established),
        }
    }

    /// As ipvsadm prints it.
    pub const fn name(self) -> &'static str {
        match self {
            State::Tcp(state) => state.name(),
            State::Udp => udp::STATE_NAME,
            State::Sctp(state) => state.name(),
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
            State::Sctp(state) => state.timeout_secs(),
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
