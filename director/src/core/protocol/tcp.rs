//! TCP as IPVS sees it (`ip_vs_proto_tcp.c`): a state machine of its own, driven by the flags alone,
//! with a table for what is seen of the connection.

use bitflags::bitflags;

bitflags! {
    /// The flags of a TCP header (RFC 9293 section 3.1), as they stand in its byte 13.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct TcpFlags: u8 {
        /// No more data.
        const FIN = 0x01;
        /// Synchronize sequence numbers.
        const SYN = 0x02;
        /// Reset.
        const RST = 0x04;
        /// Push.
        const PSH = 0x08;
        /// The acknowledgment field counts.
        const ACK = 0x10;
        /// The urgent pointer counts.
        const URG = 0x20;
        /// ECN echo (RFC 3168).
        const ECE = 0x40;
        /// Congestion window reduced (RFC 3168).
        const CWR = 0x80;
    }
}

/// The state of a TCP connection. The order is the kernel's; the numbers travel in sync messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TcpState {
    /// No packet yet.
    None,
    /// ESTABLISHED
    Established,
    /// SYN_SENT
    SynSent,
    /// SYN_RECV
    SynReceived,
    /// FIN_WAIT
    FinWait,
    /// TIME_WAIT
    TimeWait,
    /// CLOSE
    Close,
    /// CLOSE_WAIT
    CloseWait,
    /// LAST_ACK
    LastAck,
    /// LISTEN
    Listen,
    /// SYNACK
    SynAck,
}

impl TcpState {
    /// The state after a segment with these flags. `secure`: with the tables of `secure_tcp`.
    pub fn after(self, flags: TcpFlags, seen: Seen, secure: bool) -> TcpState {
        let Some(event) = Event::of(flags) else {
            return TcpState::Close;
        };
        let table = match (seen, secure) {
            (Seen::Input, false) => &INPUT,
            (Seen::Output, false) => &OUTPUT,
            (Seen::InputOnly, false) => &INPUT_ONLY,
            (Seen::Input, true) => &SECURE_INPUT,
            (Seen::Output, true) => &SECURE_OUTPUT,
            (Seen::InputOnly, true) => &SECURE_INPUT_ONLY,
        };
        table[self as usize][event as usize]
    }

    /// ESTABLISHED, SYN_SENT, SYN_RECV and SYNACK are active, all else is inactive.
    pub const fn is_active(self) -> bool {
        matches!(
            self,
            TcpState::Established | TcpState::SynSent | TcpState::SynReceived | TcpState::SynAck
        )
    }

    /// Whether the handshake is not yet complete, as far as the director can see.
    pub const fn is_half_open(self) -> bool {
        matches!(
            self,
            TcpState::None | TcpState::SynSent | TcpState::SynReceived | TcpState::SynAck
        )
    }

    /// As ipvsadm prints it.
    pub const fn name(self) -> &'static str {
        match self {
            TcpState::None => "NONE",
            TcpState::Established => "ESTABLISHED",
            TcpState::SynSent => "SYN_SENT",
            TcpState::SynReceived => "SYN_RECV",
            TcpState::FinWait => "FIN_WAIT",
            TcpState::TimeWait => "TIME_WAIT",
            TcpState::Close => "CLOSE",
            TcpState::CloseWait => "CLOSE_WAIT",
            TcpState::LastAck => "LAST_ACK",
            TcpState::Listen => "LISTEN",
            TcpState::SynAck => "SYNACK",
        }
    }
}

/// What the director sees of a connection, and whose packet this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// A packet from the client; the answers pass too.
    Input,
    /// An answer of the real server.
    Output,
    /// A packet from the client; the answers go another way (direct routing, tunnelling), so the
    /// server's half is guessed.
    InputOnly,
}

/// Seconds a connection may be idle, by state. `--set` changes those of ESTABLISHED and FIN_WAIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpTimeouts([u32; STATES]);

impl TcpTimeouts {
    /// Seconds in this state.
    pub fn secs(&self, state: TcpState) -> u32 {
        self.0[state as usize]
    }

    /// Changes the seconds in this state.
    pub fn set(&mut self, state: TcpState, secs: u32) {
        self.0[state as usize] = secs;
    }
}

impl Default for TcpTimeouts {
    fn default() -> TcpTimeouts {
        // NO ES SS SR FW TW CL CW LA LI SA
        TcpTimeouts([2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120])
    }
}

/// What moves the state machine: the columns of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Syn,
    Fin,
    Ack,
    Rst,
}

impl Event {
    /// The first flag that is set decides, in this order.
    fn of(flags: TcpFlags) -> Option<Event> {
        [
            (TcpFlags::RST, Event::Rst),
            (TcpFlags::SYN, Event::Syn),
            (TcpFlags::FIN, Event::Fin),
            (TcpFlags::ACK, Event::Ack),
        ]
        .into_iter()
        .find_map(|(flag, event)| flags.contains(flag).then_some(event))
    }
}

/// The next state by present state (row) and event (SYN, FIN, ACK, RST).
type Table = [[TcpState; 4]; STATES];

const STATES: usize = TcpState::SynAck as usize + 1;

const ES: TcpState = TcpState::Established;
const SS: TcpState = TcpState::SynSent;
const SR: TcpState = TcpState::SynReceived;
const FW: TcpState = TcpState::FinWait;
const TW: TcpState = TcpState::TimeWait;
const CL: TcpState = TcpState::Close;
const CW: TcpState = TcpState::CloseWait;
const LA: TcpState = TcpState::LastAck;
const LI: TcpState = TcpState::Listen;
const SA: TcpState = TcpState::SynAck;

#[rustfmt::skip]
const INPUT: Table = [
    /* NO */ [SR, CL, ES, CL],
    /* ES */ [ES, CW, ES, CL],
    /* SS */ [ES, SS, SS, CL],
    /* SR */ [SR, TW, ES, SR],
    /* FW */ [SR, TW, FW, CL],
    /* TW */ [SR, TW, TW, CL],
    /* CL */ [SR, CL, CL, CL],
    /* CW */ [SR, CW, CW, CL],
    /* LA */ [SR, LA, CL, LA],
    /* LI */ [SR, LI, LI, LI],
    /* SA */ [SR, TW, ES, SR],
];

#[rustfmt::skip]
const OUTPUT: Table = [
    /* NO */ [SS, TW, ES, CL],
    /* ES */ [ES, FW, ES, CL],
    /* SS */ [SS, SS, SS, SS],
    /* SR */ [SR, TW, ES, CL],
    /* FW */ [SS, FW, FW, CL],
    /* TW */ [SS, TW, TW, TW],
    /* CL */ [SS, CL, CL, CL],
    /* CW */ [SS, TW, CW, CL],
    /* LA */ [SS, LA, LA, CL],
    /* LI */ [LI, LI, ES, CL],
    /* SA */ [SR, TW, ES, CL],
];

#[rustfmt::skip]
const INPUT_ONLY: Table = [
    /* NO */ [SR, CL, ES, CL],
    /* ES */ [ES, FW, ES, CL],
    /* SS */ [ES, SS, SS, CL],
    /* SR */ [SR, TW, ES, SR],
    /* FW */ [SR, FW, FW, CL],
    /* TW */ [SR, TW, TW, CL],
    /* CL */ [SR, CL, CL, CL],
    /* CW */ [SR, CW, CW, CL],
    /* LA */ [SR, LA, CL, LA],
    /* LI */ [SR, LI, LI, LI],
    /* SA */ [SR, TW, ES, CL],
];

// With `secure_tcp` an ACK of a client does not establish a connection before the server has answered, and
// where the answers do not pass an opening goes through SYNACK.

#[rustfmt::skip]
const SECURE_INPUT: Table = [
    /* NO */ [SR, CL, ES, CL],
    /* ES */ [ES, CW, ES, CL],
    /* SS */ [ES, SS, SS, CL],
    /* SR */ [SR, TW, SR, SR],
    /* FW */ [SR, TW, FW, CL],
    /* TW */ [SR, TW, TW, CL],
    /* CL */ [SR, CL, CL, CL],
    /* CW */ [SR, CW, CW, CL],
    /* LA */ [SR, LA, CL, LA],
    /* LI */ [SR, LI, LI, LI],
    /* SA */ [SA, SA, SA, CL],
];

#[rustfmt::skip]
const SECURE_OUTPUT: Table = [
    /* NO */ [SS, TW, ES, CL],
    /* ES */ [ES, FW, ES, CL],
    /* SS */ [SS, SS, SS, SS],
    /* SR */ [SA, TW, ES, CL],
    /* FW */ [SS, FW, FW, CL],
    /* TW */ [SS, TW, TW, TW],
    /* CL */ [SS, CL, CL, CL],
    /* CW */ [SS, TW, CW, CL],
    /* LA */ [SS, LA, LA, CL],
    /* LI */ [LI, LI, ES, CL],
    /* SA */ [SA, TW, ES, CL],
];

#[rustfmt::skip]
const SECURE_INPUT_ONLY: Table = [
    /* NO */ [SA, CL, ES, CL],
    /* ES */ [ES, FW, ES, CL],
    /* SS */ [ES, SS, SS, CL],
    /* SR */ [SR, TW, ES, SR],
    /* FW */ [SA, FW, FW, CL],
    /* TW */ [SA, TW, TW, CL],
    /* CL */ [SA, CL, CL, CL],
    /* CW */ [SA, CW, CW, CL],
    /* LA */ [SA, LA, CL, LA],
    /* LI */ [SA, LI, LI, LI],
    /* SA */ [SA, TW, ES, CL],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_comes_before_all_and_acknowledgment_last() {
        let (f, s, r, a) = (TcpFlags::FIN, TcpFlags::SYN, TcpFlags::RST, TcpFlags::ACK);
        assert_eq!(Event::of(r | s | f | a), Some(Event::Rst));
        assert_eq!(Event::of(s | f | a), Some(Event::Syn));
        assert_eq!(Event::of(f | a), Some(Event::Fin));
        assert_eq!(Event::of(a | TcpFlags::PSH), Some(Event::Ack));
        assert_eq!(Event::of(TcpFlags::PSH | TcpFlags::URG), None);
    }

    #[test]
    fn a_segment_without_any_of_them_closes() {
        assert_eq!(ES.after(TcpFlags::PSH, Seen::Input, false), CL);
    }

    /// The walks of a NAT connection that its client, or its server, closes first, and of one whose
    /// answers do not pass.
    #[test]
    fn connections_open_and_close() {
        use Seen::{Input, InputOnly, Output};
        use TcpState::{CloseWait, Established, FinWait, SynReceived, TimeWait};
        let (syn, fin, ack) = (TcpFlags::SYN, TcpFlags::FIN, TcpFlags::ACK);
        let walk = |steps: &[(TcpFlags, Seen, TcpState)]| {
            let mut state = TcpState::None;
            for &(flags, seen, expected) in steps {
                state = state.after(flags, seen, false);
                assert_eq!(state, expected, "{flags:?} {seen:?}");
            }
        };
        let open = [
            (syn, Input, SynReceived),
            (syn | ack, Output, SynReceived),
            (ack, Input, Established),
        ];
        walk(
            &[
                &open[..],
                &[(fin, Input, CloseWait), (fin, Output, TimeWait)],
            ]
            .concat(),
        );
        walk(&[&open[..], &[(fin, Output, FinWait), (fin, Input, TimeWait)]].concat());
        walk(&[
            (syn, InputOnly, SynReceived),
            (ack, InputOnly, Established),
            (fin, InputOnly, FinWait),
            (ack, InputOnly, FinWait),
        ]);
    }
}
