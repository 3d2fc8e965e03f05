//! Where the body of an answer ends (RFC 9112, section 6).

use httparse::{Header, InvalidChunkSize, Status, parse_chunk_size};

use super::failure::Failure;

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    Close,
}

impl Framing {
    /// As the head of an answer says.
    pub(super) fn of(status: u16, headers: &[Header<'_>]) -> Result<Framing, Failure> {
        if matches!(status, 204 | 304) {
            return Ok(Framing::Length(0));
        }
        let named = |name: &str| {
            let mut all = headers.iter();
            let found = all.find(|header| header.name.eq_ignore_ascii_case(name))?;
            Some(found.value)
        };
        if let Some(coding) = named("transfer-encoding") {
            let last = coding.rsplit(|byte| *byte == b',').next();
            let chunked = last.map(<[u8]>::trim_ascii);
            if chunked.is_some_and(|last| last.eq_ignore_ascii_case(b"chunked")) {
                return Ok(Framing::Chunked);
            }
            return Ok(Framing::Close);
        }
        let Some(length) = named("content-length") else {
            return Ok(Framing::Close);
        };
        let length = std::str::from_utf8(length).ok();
        let length = length.and_then(|text| text.trim().parse().ok());
        let fault = || Failure::NoHttp("its Content-Length is no number".to_owned());
        length.map(Framing::Length).ok_or_else(fault)
    }
}

/// A body while it comes.
#[derive(Debug)]
pub(super) struct Body {
    state: State,
    /// The line of a chunk, as far as it has come.
    line: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Bytes(u64),
    UntilClosed,
    /// The line before a chunk.
    ChunkSize,
    ChunkBytes(u64),
    /// The end of the line after a chunk.
    ChunkEnd,
    /// Lines after the last chunk.
    Trailer,
    Over,
}

impl Body {
    pub(super) fn new(framing: Framing) -> Body {
        let state = match framing {
            Framing::Length(length) => State::Bytes(length),
            Framing::Chunked => State::ChunkSize,
            Framing::Close => State::UntilClosed,
        };
        Body {
            state,
            line: Vec::new(),
        }
    }

    /// Takes bytes, and hands on what is body of them. Whether that was the end.
    pub(super) fn take(
        &mut self,
        mut bytes: &[u8],
        mut hand: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        loop {
            if matches!(self.state, State::Bytes(0) | State::Over) {
                self.state = State::Over;
                return Ok(true);
            }
            if bytes.is_empty() {
                return Ok(false);
            }
            match self.state {
                State::UntilClosed => {
                    hand(bytes)?;
                    bytes = &[];
                }
                State::Bytes(left) | State::ChunkBytes(left) => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX);
                    let (piece, rest) = bytes.split_at(length.min(bytes.len()));
                    hand(piece)?;
                    bytes = rest;
                    let left = left - piece.len() as u64;
                    self.state = match self.state {
                        State::Bytes(_) => State::Bytes(left),
                        _ if left == 0 => State::ChunkEnd,
                        _ => State::ChunkBytes(left),
                    };
                }
                State::ChunkSize | State::ChunkEnd | State::Trailer | State::Over => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let (piece, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
                    self.line.extend_from_slice(piece);
                    bytes = rest;
                    if self.line.len() > MOST_LINE {
                        return Err(Failure::NoHttp(
                            "a line of its chunks is too long".to_owned(),
                        ));
                    }
                    if end.is_some() {
                        self.end_line()?;
                    }
                }
            }
        }
    }

    fn end_line(&mut self) -> Result<(), Failure> {
        let line = std::mem::take(&mut self.line);
        let blank = line.trim_ascii().is_empty();
        self.state = match self.state {
            State::ChunkSize => match parse_chunk_size(&line) {
                Ok(Status::Complete((_, 0))) => State::Trailer,
                Ok(Status::Complete((_, size))) => State::ChunkBytes(size),
                Ok(Status::Partial) | Err(InvalidChunkSize) => {
                    return Err(Failure::NoHttp(
                        "the size of a chunk is no number".to_owned(),
                    ));
                }
            },
            State::ChunkEnd if blank => State::ChunkSize,
            State::ChunkEnd => {
                return Err(Failure::NoHttp("a chunk is longer than it says".to_owned()));
            }
            State::Trailer if blank => State::Over,
            other => other,
        };
        Ok(())
    }

    /// Whether the connection may end here.
    pub(super) fn may_end(&self) -> bool {
        matches!(
            self.state,
            State::UntilClosed | State::Over | State::Bytes(0)
        )
    }
}

/// What stands between chunks, bytes.
const MOST_LINE: usize = 1024;
