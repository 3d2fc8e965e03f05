//! A client of the metrics port: one request, one answer, and the end.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use mio::net::TcpStream;
use shared::time::Time;

use crate::metrics::http::{self, Asked, MOST_BYTES, Method, Page, Status};

/// The text of a scrape, in the pieces that it lies in; clients share it.
pub(super) type Text = Rc<Vec<Vec<u8>>>;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: TcpStream,
    pub(super) stage: Stage,
    /// When it must be further.
    pub(super) deadline: Time,
    /// Whether its connection may have something, or room for something.
    pub(super) ready: bool,
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Stage {
    /// This came so far.
    Reading(Vec<u8>),
    /// For the next scrape.
    Waiting,
    /// For the scrape that is being made.
    Scraping,
    Writing(Answer),
    /// So many bytes came that nobody asked for. Closing at once would reset the connection, and the client
    /// could lose the answer.
    Leaving(usize),
}

/// What is to be written.
#[derive(Debug)]
pub(super) struct Answer {
    head: Vec<u8>,
    text: Option<Text>,
    /// Bytes that are written.
    written: usize,
}

/// Whether the client is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stay {
    Yes,
    No,
}

impl Client {
    pub(super) fn new(now: Time, stream: TcpStream) -> Client {
        Client {
            stream,
            stage: Stage::Reading(Vec::new()),
            deadline: now + TO_ASK,
            // What it asks for may be here already.
            ready: true,
        }
    }

    /// The fewer, the sooner it makes room for another one: those that have their answer, those that have
    /// asked for nothing yet; among equals who came first.
    pub(super) fn rank(&self) -> (u8, Time) {
        let rank = match self.stage {
            Stage::Leaving(_) => 0,
            Stage::Reading(_) => 1,
            Stage::Waiting | Stage::Scraping | Stage::Writing(_) => 2,
        };
        (rank, self.deadline)
    }

    /// Whether it is being written this text.
    pub(super) fn has(&self, text: &Text) -> bool {
        match &self.stage {
            Stage::Writing(answer) => answer
                .text
                .as_ref()
                .is_some_and(|own| Rc::ptr_eq(own, text)),
            _ => false,
        }
    }

    /// The scrape that it waited for is complete.
    pub(super) fn give(&mut self, text: &Text) {
        let length = text.iter().map(Vec::len).sum();
        let head = http::head(Status::Ok, Some(Page::Metrics), Some(length));
        self.stage = Stage::Writing(Answer {
            head: head.into_bytes(),
            text: Some(Rc::clone(text)),
            written: 0,
        });
        self.ready = true;
    }

    /// Goes on until its connection has nothing, or no room, or `budget` bytes are written. `forwards` is what
    /// `/readyz` says.
    pub(super) fn go_on(
        &mut self,
        now: Time,
        forwards: Result<(), &str>,
        budget: &mut usize,
    ) -> io::Result<Stay> {
        loop {
            match &mut self.stage {
                Stage::Reading(bytes) => match read(&mut self.stream, bytes)? {
                    Came::Nothing => {
                        self.ready = false;
                        return Ok(Stay::Yes);
                    }
                    Came::End => return Ok(Stay::No),
                    Came::Something => {
                        if let Some(stage) = asked(bytes, forwards) {
                            self.stage = stage;
                            self.deadline = now + TO_TAKE;
                        }
                    }
                },
                Stage::Waiting | Stage::Scraping => {
                    self.ready = false;
                    return Ok(Stay::Yes);
                }
                Stage::Writing(answer) => match answer.write(&mut self.stream, budget)? {
                    Wrote::Everything => {
                        self.stream.shutdown(Shutdown::Write)?;
                        self.stage = Stage::Leaving(0);
                        self.deadline = now + TO_LEAVE;
                    }
                    Wrote::Budget => return Ok(Stay::Yes),
                    Wrote::Blocked => {
                        self.ready = false;
                        return Ok(Stay::Yes);
                    }
                },
                Stage::Leaving(bytes) => {
                    let mut rest = [0; 4096];
                    match self.stream.read(&mut rest) {
                        Ok(0) => return Ok(Stay::No),
                        Ok(count) if *bytes + count > MOST_REST => return Ok(Stay::No),
                        Ok(count) => *bytes += count,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            self.ready = false;
                            return Ok(Stay::Yes);
                        }
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }
}

/// What follows from what a client said, if that is all.
fn asked(bytes: &[u8], forwards: Result<(), &str>) -> Option<Stage> {
    let (status, page, method, body) = match http::asked(bytes) {
        Asked::More => return None,
        Asked::Refused(status) => (status, None, Method::Get, http::refusal(status)),
        Asked::Page(Page::Metrics, Method::Get) => return Some(Stage::Waiting),
        Asked::Page(page, method) => {
            let (status, body) = match (page, forwards) {
                (Page::Index, _) => (Status::Ok, http::INDEX.to_owned()),
                (Page::Readiness, Err(reason)) => (Status::Unavailable, format!("{reason}\n")),
                (Page::Metrics | Page::Health | Page::Readiness, _) => {
                    (Status::Ok, "ok\n".to_owned())
                }
            };
            (status, Some(page), method, body)
        }
    };
    // How long the metrics are is only known when they are made.
    let length = (page != Some(Page::Metrics)).then_some(body.len());
    let mut head = http::head(status, page, length).into_bytes();
    if method == Method::Get {
        head.extend_from_slice(body.as_bytes());
    }
    Some(Stage::Writing(Answer {
        head,
        text: None,
        written: 0,
    }))
}

enum Came {
    Something,
    Nothing,
    End,
}

/// Takes what has come, up to what a request may have.
fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<Came> {
    let mut room = [0; MOST_BYTES];
    let most = MOST_BYTES - bytes.len();
    loop {
        match stream.read(&mut room[..most]) {
            Ok(0) => return Ok(Came::End),
            Ok(count) => {
                bytes.extend_from_slice(&room[..count]);
                return Ok(Came::Something);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Came::Nothing),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

enum Wrote {
    Everything,
    Budget,
    Blocked,
}

impl Answer {
    fn write(&mut self, stream: &mut TcpStream, budget: &mut usize) -> io::Result<Wrote> {
        loop {
            let slices = self.rest(*budget);
            if slices.is_empty() {
                return Ok(match *budget {
                    0 => Wrote::Budget,
                    _ => Wrote::Everything,
                });
            }
            match stream.write_vectored(&slices) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.written += count;
                    *budget -= count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Wrote::Blocked),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What is to be written next, at most so many bytes.
    fn rest(&self, most: usize) -> Vec<IoSlice<'_>> {
        let text = self.text.iter().flat_map(|text| text.iter());
        let (mut skip, mut room) = (self.written, most);
        let pieces = [&self.head].into_iter().chain(text);
        let pieces = pieces.filter_map(|piece| {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            let piece = &piece[skipped..];
            let piece = &piece[..piece.len().min(room)];
            room -= piece.len();
            (!piece.is_empty()).then_some(IoSlice::new(piece))
        });
        pieces.take(MOST_SLICES).collect()
    }
}

/// To say what it wants.
const TO_ASK: Duration = Duration::from_secs(5);
/// To get it: Prometheus gives up after ten seconds unless told otherwise.
const TO_TAKE: Duration = Duration::from_secs(30);
/// To hang up after that.
const TO_LEAVE: Duration = Duration::from_secs(2);
/// Bytes behind a request that are thrown away.
const MOST_REST: usize = 64 * 1024;
/// The kernel takes 1024.
const MOST_SLICES: usize = 64;
