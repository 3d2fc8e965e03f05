//! `http` and `https`: a page is asked for, and its status and body are looked at (RFC 9112).
//!
//! The body is read to its end, in pieces that are not kept: sums are formed while it comes, and only for a
//! regular expression its beginning is remembered.

use std::net::SocketAddr;

use httparse::{EMPTY_HEADER, Response, Status};
use md5::Md5;
use sha2::{Digest as _, Sha256};

use super::body::{Body, Framing};
use super::failure::{Failure, Outcome, Pass, listed};
use super::model::{Digest, Http, HttpVersion, StatusRange, Url};
use super::talk::{Talk, Turn};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct HttpTalk {
    url: Url,
    request: Vec<u8>,
    /// What has come of the head.
    head: Vec<u8>,
    /// Once the head is there.
    body: Option<Body>,
    read: Read,
}

/// What is known of the body so far.
#[derive(Debug, Default)]
struct Read {
    bytes: usize,
    md5: Option<Md5>,
    sha256: Option<Sha256>,
    /// For the regular expression.
    kept: Option<Vec<u8>>,
}

impl HttpTalk {
    /// Asks for the URL whose turn it is.
    pub(super) fn new(http: &Http, round: usize, to: SocketAddr) -> HttpTalk {
        let url = http.urls[round % http.urls.len()].clone();
        let read = Read {
            bytes: 0,
            md5: url.digest.map(|_| Md5::new()),
            sha256: url.sha256.map(|_| Sha256::new()),
            kept: url.regex.as_ref().map(|_| Vec::new()),
        };
        HttpTalk {
            request: request(http, &url, to),
            url,
            head: Vec::new(),
            body: None,
            read,
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<Option<Pass>, Failure> {
        let Some(body) = &mut self.body else {
            return self.take_head(bytes);
        };
        let read = &mut self.read;
        let over = body.take(bytes, |piece| read.take(piece))?;
        if over {
            self.judge().map(Some)
        } else {
            Ok(None)
        }
    }

    fn take_head(&mut self, bytes: &[u8]) -> Result<Option<Pass>, Failure> {
        self.head.extend_from_slice(bytes);
        loop {
            let mut headers = [EMPTY_HEADER; MOST_HEADERS];
            let mut response = Response::new(&mut headers);
            let parsed = response.parse(&self.head);
            let length = match parsed.map_err(|error| Failure::NoHttp(error.to_string()))? {
                Status::Complete(length) => length,
                Status::Partial if self.head.len() >= MOST_HEAD => {
                    let fault = format!("its head has more than {MOST_HEAD} bytes");
                    return Err(Failure::NoHttp(fault));
                }
                Status::Partial => return Ok(None),
            };
            let got = response.code.unwrap_or_default();
            if (100..200).contains(&got) && got != SWITCHING {
                // The answer itself is still to come (RFC 9110, section 15.2).
                self.head.drain(..length);
                continue;
            }
            let framing = Framing::of(got, response.headers)?;
            self.check_status(got)?;
            self.body = Some(Body::new(framing));
            let rest = self.head.split_off(length);
            return self.take(&rest);
        }
    }

    fn check_status(&self, got: u16) -> Result<(), Failure> {
        let ranges = &self.url.status;
        let will_do = |StatusRange(first, last): &StatusRange| (*first..=*last).contains(&got);
        if ranges.is_empty() || ranges.iter().any(will_do) {
            return Ok(());
        }
        let expected = listed(ranges);
        Err(Failure::Status { got, expected })
    }

    /// The body is whole.
    fn judge(&mut self) -> Result<Pass, Failure> {
        let read = std::mem::take(&mut self.read);
        if let (Some(expected), Some(md5)) = (self.url.digest, read.md5) {
            compare("MD5", Digest(md5.finalize().into()), expected)?;
        }
        if let (Some(expected), Some(sha256)) = (self.url.sha256, read.sha256) {
            compare("SHA-256", Digest(sha256.finalize().into()), expected)?;
        }
        if let (Some(regex), Some(kept)) = (&self.url.regex, read.kept) {
            match (regex.is_found(&kept), self.url.regex_no_match) {
                (false, false) => return Err(Failure::NoMatch(regex.to_string())),
                (true, true) => return Err(Failure::Match(regex.to_string())),
                _ => {}
            }
        }
        Ok(Pass::Well)
    }
}

impl Talk for HttpTalk {
    fn open(&mut self) -> Turn {
        Turn::say(std::mem::take(&mut self.request))
    }

    fn receive(&mut self, bytes: &[u8]) -> Turn {
        match self.take(bytes) {
            Ok(None) => Turn::wait(),
            Ok(Some(pass)) => Turn::end(Ok(pass)),
            Err(failure) => Turn::end(Err(failure)),
        }
    }

    fn close(&mut self) -> Outcome {
        match &self.body {
            None if self.head.is_empty() => Err(Failure::Closed("it answered")),
            None => Err(Failure::Closed("the end of the answer's head")),
            Some(body) if body.may_end() => self.judge(),
            Some(_) => Err(Failure::Closed("the end of the body")),
        }
    }
}

impl Read {
    fn take(&mut self, piece: &[u8]) -> Result<(), Failure> {
        self.bytes += piece.len();
        if self.bytes > MOST_BODY {
            let why = "the most that is read";
            let most = MOST_BODY;
            return Err(Failure::TooLong { most, why });
        }
        if let Some(md5) = &mut self.md5 {
            md5.update(piece);
        }
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(piece);
        }
        if let Some(kept) = &mut self.kept {
            if kept.len() + piece.len() > MOST_MATCHED {
                let why = "the most that a regex is matched against";
                let most = MOST_MATCHED;
                return Err(Failure::TooLong { most, why });
            }
            kept.extend_from_slice(piece);
        }
        Ok(())
    }
}

fn compare<const BYTES: usize>(
    sum: &'static str,
    got: Digest<BYTES>,
    expected: Digest<BYTES>,
) -> Result<(), Failure> {
    if got == expected {
        return Ok(());
    }
    Err(Failure::Digest {
        sum,
        got: got.to_string(),
        expected: expected.to_string(),
    })
}

/// As keepalived writes it, by whose name servers may know such requests: the port is part of `Host` if it is not the scheme's, and a configured host is
/// written as it is.
fn request(http: &Http, url: &Url, to: SocketAddr) -> Vec<u8> {
    let usual = if http.tls.is_some() { 443 } else { 80 };
    let address = match to {
        SocketAddr::V4(to) => to.ip().to_string(),
        SocketAddr::V6(to) => format!("[{}]", to.ip()),
    };
    let host = url.host.clone().unwrap_or_else(|| match to.port() {
        port if port == usual => address,
        port => format!("{address}:{port}"),
    });
    let (version, close) = match http.version {
        HttpVersion::V1_0 => ("1.0", ""),
        HttpVersion::V1_1 => ("1.1", "Connection: close\r\n"),
    };
    let path = &url.path;
    let text = format!(
        "GET {path} HTTP/{version}\r\nUser-Agent: KeepAliveClient\r\nHost: {host}\r\n{close}\r\n"
    );
    text.into_bytes()
}

/// The one status of its hundred after which no other answer comes.
const SWITCHING: u16 = 101;
/// Lines of an answer's head.
const MOST_HEADERS: usize = 100;
/// An answer's head, bytes.
const MOST_HEAD: usize = 16 * 1024;
/// An endless body would cost the loop time until the check's own is up.
const MOST_BODY: usize = 16 << 20;
/// Matching is done at once, and packets wait: linear in the text, a few milliseconds at the worst.
const MOST_MATCHED: usize = 64 * 1024;
