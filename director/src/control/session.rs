//! The director's side of one control connection, without the connection: bytes in, bytes out.
//!
//! The loop moves bytes and calls [`Session::step`] while there is work. A step does a bounded amount
//! of it and stops while the client does not read its answers, so neither a list of 100 000
//! connections nor a client that sleeps holds anything up or fills the memory.

use std::vec;

use super::protocol::{
    Answer, MAX_REQUEST_BYTES, Piece, Request, RequestError, decode_request, encode_answer,
};
use crate::core::operation::{Operation, OperationError, ServiceKey};
use crate::core::view::{
    AgentView, CheckView, ConnectionView, InfoView, ServiceView, StatsView, StatusView, SysctlView,
    TimeoutsView,
};

/// Who does what is asked: the director.
pub trait Backend {
    /// Makes a change.
    fn apply(&mut self, operation: &Operation) -> Result<(), OperationError>;
    /// All services, in the kernel's order or any that stays.
    fn services(&self) -> Vec<ServiceView>;
    /// One service.
    fn service(&self, key: &ServiceKey) -> Option<ServiceView>;
    /// At most `most` connections from `cursor` on (0 at first), and where to go on. While entries
    /// come and go some may be missed or shown twice.
    fn connections(&self, cursor: usize, most: usize) -> (Vec<ConnectionView>, Option<usize>);
    /// The timeouts that `--set` changes.
    fn timeouts(&self) -> TimeoutsView;
    /// Counters and rates of all services together.
    fn totals(&self) -> StatsView;
    /// The switches of `net.ipv4.vs`, by name.
    fn sysctls(&self) -> Vec<SysctlView>;
    /// Version and table size.
    fn info(&self) -> InfoView;
    /// What the director says of itself.
    fn status(&self) -> StatusView;
    /// The agents of real servers that have reported.
    fn agents(&self) -> Vec<AgentView> {
        Vec::new()
    }
    /// The health checks of real servers.
    fn checks(&self) -> Vec<CheckView> {
        Vec::new()
    }
}

/// One control connection.
#[derive(Debug, Default)]
pub struct Session {
    input: Vec<u8>,
    /// How much of the input has been searched for a newline.
    searched: usize,
    /// The rest of a line that was too long is thrown away.
    skipping: bool,
    output: Vec<u8>,
    sent: usize,
    task: Option<Task>,
}

/// An answer that is given in pieces.
#[derive(Debug)]
enum Task {
    Services(vec::IntoIter<ServiceView>),
    Connections { cursor: usize },
    Agents(vec::IntoIter<AgentView>),
    Checks(vec::IntoIter<CheckView>),
}

/// Whether [`Session::step`] has to be called again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There is work that can be done at once.
    More,
    /// Nothing can be done before more bytes have come or gone.
    Waiting,
}

impl Session {
    /// A new connection.
    pub fn new() -> Session {
        Session::default()
    }

    /// Takes bytes of the client. They are kept; see [`Session::wants_input`].
    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Whether the client should be read from. A client that sends faster than it is answered is
    /// left to fill its socket.
    pub fn wants_input(&self) -> bool {
        self.input.len() <= MAX_REQUEST_BYTES
    }

    /// Does some of the work.
    pub fn step(&mut self, backend: &mut dyn Backend) -> Progress {
        for _ in 0..UNITS_PER_STEP {
            if self.output.len() - self.sent >= OUTPUT_BYTES {
                return Progress::Waiting;
            }
            let answer = match self.task.take() {
                Some(task) => self.go_on(task, backend),
                None => match self.next_request() {
                    Some(Ok(request)) => self.serve(&request, backend),
                    Some(Err(error)) => Answer::Error(error),
                    None => return Progress::Waiting,
                },
            };
            self.output
                .extend_from_slice(encode_answer(&answer).as_bytes());
        }
        Progress::More
    }

    /// What waits to be sent.
    pub fn output(&self) -> &[u8] {
        &self.output[self.sent..]
    }

    /// Notes that the first `count` bytes of [`Session::output`] have been sent.
    pub fn consume_output(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.output.len());
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
        } else if self.sent > self.output.len() / 2 {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
    }

    fn next_request(&mut self) -> Option<Result<Request, RequestError>> {
        loop {
            let newline = self.input[self.searched..]
                .iter()
                .position(|&byte| byte == b'\n')
                .map(|offset| self.searched + offset);
            let Some(end) = newline else {
                self.searched = self.input.len();
                if self.skipping || self.input.len() > MAX_REQUEST_BYTES {
                    self.input.clear();
                    self.searched = 0;
                    return (!std::mem::replace(&mut self.skipping, true))
                        .then_some(Err(RequestError::TooLong));
                }
                return None;
            };
            let line: Vec<u8> = self.input.drain(..=end).collect();
            self.searched = 0;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            return Some(if end > MAX_REQUEST_BYTES {
                Err(RequestError::TooLong)
            } else {
                decode_request(&line)
            });
        }
    }

    fn serve(&mut self, request: &Request, backend: &mut dyn Backend) -> Answer {
        match request {
            Request::Apply(operation) => match backend.apply(operation) {
                Ok(()) => Answer::Done,
                Err(error) => Answer::Refused(error),
            },
            Request::Services => {
                let services = backend.services().into_iter();
                self.go_on(Task::Services(services), backend)
            }
            Request::Service(key) => Answer::Service(backend.service(key)),
            Request::Connections => self.go_on(Task::Connections { cursor: 0 }, backend),
            Request::Timeouts => Answer::Timeouts(backend.timeouts()),
            Request::Info => Answer::Info(backend.info()),
            Request::Totals => Answer::Totals(backend.totals()),
            Request::Sysctls => Answer::Sysctls(backend.sysctls()),
            Request::Agents => {
                let agents = backend.agents().into_iter();
                self.go_on(Task::Agents(agents), backend)
            }
            Request::Checks => {
                let checks = backend.checks().into_iter();
                self.go_on(Task::Checks(checks), backend)
            }
            Request::Status => Answer::Status(backend.status()),
        }
    }

    fn go_on(&mut self, task: Task, backend: &dyn Backend) -> Answer {
        match task {
            Task::Services(mut services) => {
                let items: Vec<ServiceView> = services.next().into_iter().collect();
                let more = services.len() > 0;
                self.task = more.then_some(Task::Services(services));
                Answer::Services(Piece { items, more })
            }
            Task::Agents(mut agents) => {
                let items: Vec<AgentView> = agents.by_ref().take(VIEWS_PER_PIECE).collect();
                let more = agents.len() > 0;
                self.task = more.then_some(Task::Agents(agents));
                Answer::Agents(Piece { items, more })
            }
            Task::Checks(mut checks) => {
                let items: Vec<CheckView> = checks.by_ref().take(VIEWS_PER_PIECE).collect();
                let more = checks.len() > 0;
                self.task = more.then_some(Task::Checks(checks));
                Answer::Checks(Piece { items, more })
            }
            Task::Connections { cursor } => {
                let (items, next) = backend.connections(cursor, CONNECTIONS_PER_PIECE);
                self.task = next.map(|cursor| Task::Connections { cursor });
                Answer::Connections(Piece {
                    items,
                    more: next.is_some(),
                })
            }
        }
    }
}

/// Requests or pieces that one step serves.
const UNITS_PER_STEP: usize = 8;
/// Output that may wait; one answer may go beyond it.
const OUTPUT_BYTES: usize = 64 * 1024;
/// Some 15 KiB of text.
const CONNECTIONS_PER_PIECE: usize = 64;
/// As much.
const VIEWS_PER_PIECE: usize = 32;

#[cfg(test)]
mod tests;
