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
pub enum Segment {
    /// The flags of a TCP segment.
    Tcp(TcpFlags),
    /// A UDP datagram, of which there is nothing to know.
    Udp,
    /// The chunks of an SCTP packet.
    Sctp(Chunks),
}

impl Segment {
    /// The flags of a TCP segment.
    #[inline]
    pub const fn tcp(self) -> Option<TcpFlags> {
        match self {
            Segment::Tcp(flags) => Some(flags),
            Segment::Udp | Segment::Sctp(_) => None,
        }
    }

    /// Whether it opens a connection: any TCP segment with SYN, whatever else is set, and SCTP's INIT.
    #[inline]
    pub fn opens(self) -> bool {
        match self {
            Segment::Tcp(flags) => flags.contains(TcpFlags::SYN),
            Segment::Sctp(chunks) => chunks.opens(),
            Segment::Udp => false,
        }
    }

    /// Whether it ends a connection without an answer: RST and ABORT.
    pub fn aborts(self) -> bool {
        match self {
            Segment::Tcp(flags) => flags.contains(TcpFlags::RST),
            Segment::Sctp(chunks) => chunks.aborts(),
            Segment::Udp => false,
        }
    }

    /// Whether it may be scheduled when it belongs to no connection (`tcp_conn_schedule`,
    /// `sctp_conn_schedule`). A SYN+ACK may: it opens the data connection of active FTP.
    pub fn may_be_scheduled(self, sloppy: Sloppy) -> bool {
        let in_the_middle = match self {
            Segment::Tcp(_) => sloppy.tcp,
            Segment::Sctp(_) => sloppy.sctp,
            Segment::Udp => true,
        };
        !self.aborts() && (in_the_middle || self.opens())
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

    /// The state after a packet, of which the director sees what `seen` says, and how many seconds the
    /// connection may be idle in it. `secure`: with the tables of `secure_tcp`.
    #[inline(always)]
    pub fn after(
        self,
        segment: Segment,
        seen: Seen,
        secure: bool,
        timeouts: &Timeouts,
    ) -> (State, u32) {
        match (self, segment) {
            (State::Tcp(state), Segment::Tcp(flags)) => {
                let state = state.after(flags, seen, secure);
                (State::Tcp(state), timeouts.tcp.secs(state))
            }
            (State::Sctp(state), Segment::Sctp(chunks)) => {
                let state = state.after(chunks, seen);
                (State::Sctp(state), state.timeout_secs())
            }
            // A packet is of its connection's protocol.
            _ => (self, timeouts.secs(self)),
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
    #[inline]
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
