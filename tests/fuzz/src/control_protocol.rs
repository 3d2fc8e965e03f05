//! The control socket. The director's side: the answers depend on the bytes and not on how they are
//! parted, each can be read back, and what waits stays bounded. lvsadm's side: it prints whatever a
//! director answers.
//!
//! The first byte says how the others are parted; a byte 255 and the one behind it stand for so many
//! times 512 blanks, since the protocol has limits that only long lines reach.

use std::collections::VecDeque;

use director::control::client::{Client, Transport, Unreachable};
use director::control::protocol::{
    MAX_REQUEST_BYTES, decode_answer, decode_request, encode_answer, encode_request,
};
use director::control::run::{Terminal, run as lvsadm};
use director::control::session::{Backend, Progress, Session};
use director::core::balancer::{Balancer, Segment, Settings};
use director::core::operation::{Operation, OperationError, ServiceKey};
use director::core::view::{
    ConnectionView, InfoView, ServiceView, StatsView, StatusView, SysctlView, TimeoutsView,
};
use shared::addr::FlowKey;
use shared::time::Time;

use crate::reference::RecordedHost;

/// Both sides get the same bytes.
pub fn run(data: &[u8]) {
    let Some((&parting, bytes)) = data.split_first() else {
        return;
    };
    let bytes = with_blanks(bytes);
    lines_survive(&bytes);
    let whole = answers(&[&bytes]);
    let parted: Vec<&[u8]> = bytes.chunks(usize::from(parting) * 7 + 1).collect();
    assert_eq!(answers(&parted), whole, "parted every {parting} * 7 + 1");
    print_answers(&String::from_utf8_lossy(&bytes));
}

fn with_blanks(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        match byte {
            255 => {
                let blanks = usize::from(rest.next().copied().unwrap_or(0)) * 512;
                out.resize(out.len().max(MOST_BYTES.min(out.len() + blanks)), b' ');
            }
            _ => out.push(byte),
        }
    }
    out
}

/// What is understood is understood in the same way after it was written again.
fn lines_survive(bytes: &[u8]) {
    for line in bytes.split(|&byte| byte == b'\n') {
        if let Ok(request) = decode_request(line) {
            let again = decode_request(encode_request(&request).as_bytes());
            assert_eq!(again, Ok(request));
        }
        if let Ok(answer) = decode_answer(&String::from_utf8_lossy(line)) {
            let again = decode_answer(&encode_answer(&answer));
            assert_eq!(again, Ok(answer));
        }
    }
}

/// What a director says to a client that sends these pieces and reads all answers.
fn answers(pieces: &[&[u8]]) -> String {
    let mut director = Director(Balancer::new(Settings::default(), [1, 2]));
    let mut session = Session::new();
    let mut out = Vec::new();
    for piece in pieces {
        session.receive(piece);
        loop {
            let progress = session.step(&mut director);
            let output = session.output();
            assert!(output.len() < MOST_OUTPUT, "{} bytes wait", output.len());
            if progress == Progress::Waiting && output.is_empty() {
                break;
            }
            // A client that reads slowly at first.
            let length = output.len().div_ceil(2);
            out.extend_from_slice(&output[..length]);
            session.consume_output(length);
        }
        assert!(
            session.wants_input(),
            "a session that has nothing to do wants more"
        );
    }
    let text = String::from_utf8(out).expect("answers are text");
    for line in text.lines() {
        let answer = decode_answer(line).expect("an answer can be read");
        assert_eq!(encode_answer(&answer).trim_end(), line);
    }
    text
}

/// lvsadm gets these lines for answers, whatever it asked.
fn print_answers(text: &str) {
    for line in COMMANDS {
        let mut screen = Screen;
        let mut client = Client::new(Script(text.lines().collect()));
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let names = RecordedHost::with(&[]);
        lvsadm("lvsadm", &args, &mut screen, &mut client, &names);
    }
}

/// A table with a connection to every service that can have one.
struct Director(Balancer);

impl Backend for Director {
    fn apply(&mut self, operation: &Operation) -> Result<(), OperationError> {
        self.0.apply(NOW, operation)?;
        if let Operation::AddServer(
            ServiceKey::Address {
                protocol,
                address,
                port,
            },
            _,
        ) = *operation
        {
            let flow = FlowKey {
                protocol,
                source: std::net::Ipv4Addr::new(192, 0, 2, 7).into(),
                source_port: 40001,
                destination: address.into(),
                destination_port: port,
            };
            self.0.classify(NOW, &flow, Segment::Udp, 0);
        }
        Ok(())
    }

    fn services(&self) -> Vec<ServiceView> {
        self.0.services()
    }

    fn service(&self, key: &ServiceKey) -> Option<ServiceView> {
        self.0.service(key)
    }

    fn connections(&self, cursor: usize, most: usize) -> (Vec<ConnectionView>, Option<usize>) {
        self.0.connections(NOW, cursor, most)
    }

    fn timeouts(&self) -> TimeoutsView {
        self.0.timeouts()
    }

    fn totals(&self) -> StatsView {
        self.0.totals()
    }

    fn sysctls(&self) -> Vec<SysctlView> {
        self.0.sysctls()
    }

    fn info(&self) -> InfoView {
        InfoView {
            version: "0.1.0".to_owned(),
            table_size: 4096,
        }
    }

    fn status(&self) -> StatusView {
        let StatsView { connections, .. } = self.0.totals();
        StatusView {
            version: "0.1.0".to_owned(),
            uptime_secs: 5,
            interfaces: Vec::new(),
            connections,
            half_open: 0,
            pushed_out: 0,
            unnamed_clients: 0,
            reports: None,
            rivals: Vec::new(),
            local_addresses: Vec::new(),
            capture_keys: 0,
            given_back: 0,
            drops: Vec::new(),
        }
    }
}

/// A director that has its answers ready.
struct Script<'a>(VecDeque<&'a str>);

impl Transport for Script<'_> {
    fn send(&mut self, _: &str) -> Result<(), Unreachable> {
        Ok(())
    }

    fn receive(&mut self) -> Result<String, Unreachable> {
        let line = self.0.pop_front().map(str::to_owned);
        line.ok_or_else(|| Unreachable {
            reason: "the director closed the connection".to_owned(),
            advice: String::new(),
        })
    }
}

/// Nobody looks.
struct Screen;

impl Terminal for Screen {
    fn out(&mut self, _: &str) {}

    fn err(&mut self, _: &str) {}

    fn has_line(&self) -> bool {
        false
    }

    fn line(&mut self) -> Option<String> {
        None
    }
}

const COMMANDS: [&str; 16] = [
    "",
    "-L -n",
    "-L --stats",
    "-L -n --stats --exact",
    "-L -n --rate",
    "-L --rate --exact --nosort",
    "-L -n --thresholds",
    "-L --persistent-conn",
    "-L --tun-info",
    "-L -n -t 192.0.2.1:80",
    "-L -c",
    "-L -c -n --persistent-conn",
    "-L --timeout",
    "-S",
    "-S -n",
    "status",
];
/// Enough for a line that is too long and one that is not.
const MOST_BYTES: usize = MAX_REQUEST_BYTES * 2 + 16 * 1024;
const NOW: Time = Time::from_secs(1000);
/// Twice what may wait before a session makes a pause, since one answer may go beyond that.
const MOST_OUTPUT: usize = 2 * MAX_REQUEST_BYTES + 64 * 1024;
