//! SCTP as IPVS sees it (`ip_vs_proto_sctp.c`): a state machine of its own, driven by the first chunk of
//! each packet, with a table for what is seen of the association.

use shared::wire::sctp::{ChunkTypes, chunk};

use super::tcp::Seen;

/// The state of an SCTP association. The order is the kernel's; the numbers travel in sync messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SctpState {
    /// No packet yet.
    None,
    /// INIT1: the client has sent an INIT.
    Init1,
    /// INIT: it has sent another.
    Init,
    /// C-SENT: the server has sent its cookie.
    CookieSent,
    /// C-REPLIED: the client has sent it back.
    CookieReplied,
    /// C-WAIT: the server has opened, and waits for a cookie.
    CookieWait,
    /// COOKIE: the client has sent one.
    Cookie,
    /// C-ECHOED: the server has sent it back.
    CookieEchoed,
    /// ESTABLISHED
    Established,
    /// S-SENT: the server shuts down.
    ShutdownSent,
    /// S-RECEIVED: the client shuts down.
    ShutdownReceived,
    /// S-ACK-SENT: the server has acknowledged that.
    ShutdownAckSent,
    /// REJECTED
    Rejected,
    /// CLOSED
    Closed,
}

impl SctpState {
    /// The state after a packet with these chunks.
    #[inline(never)]
    pub fn after(self, chunks: Chunks, seen: Seen) -> SctpState {
        let table = match seen {
            Seen::Input => &INPUT,
            Seen::Output => &OUTPUT,
            Seen::InputOnly => &INPUT_ONLY,
        };
        table[self as usize][Event::of(chunks) as usize]
    }

    /// Whether the handshake is not yet complete, as far as the director can see.
    pub const fn is_half_open(self) -> bool {
        (self as u8) < SctpState::Established as u8
    }

    /// Seconds a connection in this state may be idle. Nothing changes them.
    pub const fn timeout_secs(self) -> u32 {
        match self {
            SctpState::None => 2,
            SctpState::Init1 | SctpState::Rejected => 4,
            SctpState::Established => 900,
            // A minute, and a second for what is on its way.
            _ => 61,
        }
    }

    /// As ipvsadm prints it.
    pub const fn name(self) -> &'static str {
        match self {
            SctpState::None => "NONE",
            SctpState::Init1 => "INIT1",
            SctpState::Init => "INIT",
            SctpState::CookieSent => "C-SENT",
            SctpState::CookieReplied => "C-REPLIED",
            SctpState::CookieWait => "C-WAIT",
            SctpState::Cookie => "COOKIE",
            SctpState::CookieEchoed => "C-ECHOED",
            SctpState::Established => "ESTABLISHED",
            SctpState::ShutdownSent => "S-SENT",
            SctpState::ShutdownReceived => "S-RECEIVED",
            SctpState::ShutdownAckSent => "S-ACK-SENT",
            SctpState::Rejected => "REJECTED",
            SctpState::Closed => "CLOSED",
        }
    }
}

/// What counts of the chunks of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    /// The type of the first one.
    first: u8,
    /// The second one is an ABORT.
    then_abort: bool,
}

impl Chunks {
    /// Of an SCTP packet; none unless the headers of it and of a chunk are there.
    #[inline]
    pub fn of(packet: &[u8]) -> Option<Chunks> {
        let mut types = ChunkTypes::of(packet)?;
        Some(Chunks {
            first: types.next()?,
            then_abort: types.next() == Some(chunk::ABORT),
        })
    }

    /// Whether it asks for an association: an INIT comes alone.
    pub const fn opens(self) -> bool {
        self.first == chunk::INIT
    }

    /// Whether it does nothing but end one.
    pub const fn aborts(self) -> bool {
        self.first == chunk::ABORT
    }
}

/// What moves the state machine: the columns of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// And all that is not told apart from data.
    Data,
    Init,
    InitAck,
    CookieEcho,
    CookieAck,
    Shutdown,
    ShutdownAck,
    ShutdownComplete,
    Error,
    Abort,
}

impl Event {
    /// The first chunk decides, unless it is of a cookie and an ABORT follows: whoever does not like what
    /// came with the cookie sends that behind it.
    fn of(chunks: Chunks) -> Event {
        match chunks.first {
            chunk::COOKIE_ECHO | chunk::COOKIE_ACK if chunks.then_abort => Event::Abort,
            chunk::INIT => Event::Init,
            chunk::INIT_ACK => Event::InitAck,
            chunk::COOKIE_ECHO => Event::CookieEcho,
            chunk::COOKIE_ACK => Event::CookieAck,
            chunk::SHUTDOWN => Event::Shutdown,
            chunk::SHUTDOWN_ACK => Event::ShutdownAck,
            chunk::SHUTDOWN_COMPLETE => Event::ShutdownComplete,
            chunk::ERROR => Event::Error,
            chunk::ABORT => Event::Abort,
            _ => Event::Data,
        }
    }
}

/// The next state by present state (row) and [`Event`].
type Table = [[SctpState; 10]; STATES];

const STATES: usize = SctpState::Closed as usize + 1;

const I1: SctpState = SctpState::Init1;
const IN: SctpState = SctpState::Init;
const CS: SctpState = SctpState::CookieSent;
const CR: SctpState = SctpState::CookieReplied;
const CW: SctpState = SctpState::CookieWait;
const CO: SctpState = SctpState::Cookie;
const CE: SctpState = SctpState::CookieEchoed;
const ES: SctpState = SctpState::Established;
const SS: SctpState = SctpState::ShutdownSent;
const SR: SctpState = SctpState::ShutdownReceived;
const SA: SctpState = SctpState::ShutdownAckSent;
const RJ: SctpState = SctpState::Rejected;
const CL: SctpState = SctpState::Closed;

#[rustfmt::skip]
const INPUT: Table = [
    //        data init iack echo cack shut sack done err  abort
    /* NO */ [ES, I1, CW, CR, ES, SR, CL, CL, CL, CL],
    /* I1 */ [I1, IN, CW, IN, I1, I1, IN, CL, I1, CL],
    /* IN */ [IN, IN, CW, IN, IN, IN, IN, CL, IN, CL],
    /* CS */ [CS, CS, CS, CR, CS, CS, CS, CS, CS, CL],
    /* CR */ [CR, CR, CR, CR, CR, CR, CR, CR, CR, CL],
    /* CW */ [CW, CW, CO, CW, CW, CW, CW, CW, CW, RJ],
    /* CO */ [CO, CO, CO, CO, CO, CO, CO, CO, CO, CL],
    /* CE */ [CE, CE, CE, CE, ES, CE, CE, CE, CL, CL],
    /* ES */ [ES, ES, ES, ES, ES, SR, ES, ES, ES, CL],
    /* SS */ [SS, SS, SS, SS, SS, SS, CL, SS, SS, CL],
    /* SR */ [SR, SR, SR, SR, SR, SR, SR, SR, SR, CL],
    /* SA */ [SA, SA, SA, SA, SA, SA, CL, CL, SA, CL],
    /* RJ */ [RJ, IN, RJ, RJ, RJ, RJ, RJ, RJ, RJ, CL],
    /* CL */ [CL, IN, CL, CL, CL, CL, CL, CL, CL, CL],
];

#[rustfmt::skip]
const OUTPUT: Table = [
    //        data init iack echo cack shut sack done err  abort
    /* NO */ [ES, CW, CS, CE, ES, SS, SA, CL, CL, CL],
    /* I1 */ [I1, CW, CS, CE, ES, SS, SA, I1, CL, RJ],
    /* IN */ [IN, CW, CS, CE, ES, SS, SA, IN, CL, CL],
    /* CS */ [CS, CW, CS, CE, ES, SS, SA, CS, CL, CL],
    /* CR */ [CR, CW, CR, CE, ES, SS, SA, CR, CL, CL],
    /* CW */ [CW, CW, CW, CE, ES, SS, CW, CW, CW, CL],
    /* CO */ [CO, CW, CO, CE, ES, SS, CO, CO, CO, CL],
    /* CE */ [CE, CW, CE, CE, ES, SS, CE, CE, CE, CL],
    /* ES */ [ES, ES, ES, ES, ES, SS, ES, ES, ES, CL],
    /* SS */ [SS, CW, SS, SS, SS, SS, SA, SS, SS, CL],
    /* SR */ [SR, CW, SR, SR, SR, SR, SA, SR, SR, CL],
    /* SA */ [SA, CW, SA, SA, SA, SA, SA, SA, SA, CL],
    /* RJ */ [RJ, CW, RJ, RJ, RJ, RJ, RJ, RJ, RJ, CL],
    /* CL */ [CL, CW, CL, CL, CL, CL, CL, CL, CL, CL],
];

#[rustfmt::skip]
const INPUT_ONLY: Table = [
    //        data init iack echo cack shut sack done err  abort
    /* NO */ [ES, I1, CE, ES, ES, SR, CL, CL, CL, CL],
    /* I1 */ [I1, IN, CE, ES, I1, I1, IN, CL, I1, CL],
    /* IN */ [IN, IN, CE, ES, IN, IN, IN, CL, IN, CL],
    /* CS */ [CS, IN, CE, ES, ES, CS, CS, CL, CS, CL],
    /* CR */ [CR, IN, CE, ES, ES, CR, CR, CL, CR, CL],
    /* CW */ [ES, IN, CE, ES, CW, CW, CW, CW, CW, RJ],
    /* CO */ [CO, CO, CO, CO, ES, CO, CO, CO, CO, CL],
    /* CE */ [CE, CE, CE, CE, ES, CE, CE, CE, CE, CL],
    /* ES */ [ES, ES, ES, ES, ES, SR, CL, ES, ES, CL],
    /* SS */ [SS, SS, SS, SS, SS, SS, CL, SS, SS, CL],
    /* SR */ [SR, SR, SR, SR, SR, SR, SR, CL, SR, CL],
    /* SA */ [SA, SA, SA, SA, SA, SA, CL, CL, SA, CL],
    /* RJ */ [RJ, IN, RJ, RJ, RJ, RJ, RJ, RJ, RJ, CL],
    /* CL */ [CL, IN, CL, CL, CL, CL, CL, CL, CL, CL],
];
#[cfg(test)]
mod tests {
    use super::*;

    /// Of a packet of chunks that are no longer than their header.
    fn event(types: &[u8]) -> Event {
        let chunks = types.iter().flat_map(|&kind| [kind, 0, 0, 4]);
        let packet: Vec<u8> = std::iter::repeat_n(0, 12).chain(chunks).collect();
        Event::of(Chunks::of(&packet).unwrap())
    }

    #[test]
    fn the_first_chunk_decides_unless_a_cookie_is_refused() {
        let expected = [
            (chunk::DATA, Event::Data),
            (chunk::INIT, Event::Init),
            (chunk::INIT_ACK, Event::InitAck),
            (chunk::SACK, Event::Data),
            (chunk::HEARTBEAT, Event::Data),
            (chunk::HEARTBEAT_ACK, Event::Data),
            (chunk::ABORT, Event::Abort),
            (chunk::SHUTDOWN, Event::Shutdown),
            (chunk::SHUTDOWN_ACK, Event::ShutdownAck),
            (chunk::ERROR, Event::Error),
            (chunk::COOKIE_ECHO, Event::CookieEcho),
            (chunk::COOKIE_ACK, Event::CookieAck),
            (12, Event::Data),
            (13, Event::Data),
            (chunk::SHUTDOWN_COMPLETE, Event::ShutdownComplete),
            (15, Event::Data),
            (0xc0, Event::Data),
        ];
        for (first, alone) in expected {
            assert_eq!(event(&[first]), alone);
            assert_eq!(event(&[first, chunk::DATA, chunk::ABORT]), alone);
            let cookie = matches!(first, chunk::COOKIE_ECHO | chunk::COOKIE_ACK);
            let refused = if cookie { Event::Abort } else { alone };
            assert_eq!(event(&[first, chunk::ABORT]), refused, "{first}");
        }
    }

    /// An association as the director sees it both ways, and one whose answers do not pass.
    #[test]
    fn associations_open_and_close() {
        use Seen::{Input, InputOnly, Output};
        let walk = |steps: &[(u8, Seen, &str)]| {
            let mut state = SctpState::None;
            for &(first, seen, expected) in steps {
                let then_abort = false;
                state = state.after(Chunks { first, then_abort }, seen);
                assert_eq!(state.name(), expected, "{first} {seen:?}");
                let half_open = ["INIT1", "C-SENT", "C-REPLIED"].contains(&expected);
                assert_eq!(state.is_half_open(), half_open);
            }
        };
        walk(&[
            (chunk::INIT, Input, "INIT1"),
            (chunk::INIT_ACK, Output, "C-SENT"),
            (chunk::COOKIE_ECHO, Input, "C-REPLIED"),
            (chunk::COOKIE_ACK, Output, "ESTABLISHED"),
            (chunk::DATA, Input, "ESTABLISHED"),
            (chunk::SHUTDOWN, Input, "S-RECEIVED"),
            (chunk::SHUTDOWN_ACK, Output, "S-ACK-SENT"),
            (chunk::SHUTDOWN_COMPLETE, Input, "CLOSED"),
        ]);
        walk(&[
            (chunk::INIT, InputOnly, "INIT1"),
            (chunk::COOKIE_ECHO, InputOnly, "ESTABLISHED"),
            (chunk::SHUTDOWN, InputOnly, "S-RECEIVED"),
            (chunk::SHUTDOWN_COMPLETE, InputOnly, "CLOSED"),
        ]);
    }
}
