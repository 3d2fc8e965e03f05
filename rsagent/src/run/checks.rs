//! The server's own checks: each in a thread of its own, since they may wait, and reports may not.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use mio::Waker;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::config::{Check, Kind};

/// Why a check has failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("connect to {address}: {reason}")]
    Connect { address: String, reason: String },
    #[error("{0}")]
    Talk(String),
    #[error("the answer is no HTTP")]
    NoHttp,
    #[error("status {0}")]
    Status(u16),
    #[error("cannot run {program}: {reason}")]
    Run { program: String, reason: String },
    #[error("ended with {0}")]
    Ended(String),
    #[error("took longer than {} ms", .0.as_millis())]
    Late(Duration),
}

/// What came of one look.
#[derive(Debug)]
pub(crate) struct Looked {
    /// Which check, by its place.
    pub(crate) check: usize,
    /// What came of it.
    pub(crate) outcome: Result<(), CheckError>,
}

/// Starts to look, at once and then by each check's interval. It ends when nobody listens any more.
///
/// # Errors
/// A thread cannot be started.
pub(crate) fn start(checks: &[Check], waker: &Arc<Waker>) -> io::Result<Receiver<Looked>> {
    let (sender, receiver) = channel();
    for (place, check) in checks.iter().enumerate() {
        let (check, sender, waker) = (check.clone(), sender.clone(), Arc::clone(waker));
        Builder::new()
            .stack_size(STACK)
            .spawn(move || look_on(place, &check, &sender, &waker))?;
    }
    Ok(receiver)
}

fn look_on(place: usize, check: &Check, sender: &Sender<Looked>, waker: &Waker) {
    loop {
        let begun = Instant::now();
        let looked = Looked {
            check: place,
            outcome: look(check),
        };
        if sender.send(looked).is_err() || waker.wake().is_err() {
            return;
        }
        sleep(check.interval.saturating_sub(begun.elapsed()));
    }
}

/// One look; returns when its time is up at the latest.
///
/// # Errors
/// Why it has failed.
pub(crate) fn look(check: &Check) -> Result<(), CheckError> {
    let deadline = Instant::now() + check.timeout;
    let late = || CheckError::Late(check.timeout);
    match &check.kind {
        Kind::Tcp(address) => connect(*address, check.timeout).map(drop),
        Kind::Http {
            address,
            path,
            status,
        } => {
            let mut stream = connect(*address, check.timeout)?;
            let request = format!(
                "GET {path} HTTP/1.0\r\nHost: {address}\r\nUser-Agent: rsagent\r\nConnection: close\r\n\r\n"
            );
            let answer = ask(&mut stream, request.as_bytes(), deadline);
            let answer = answer.map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => late(),
                _ => CheckError::Talk(error.to_string()),
            })?;
            match status_of(&answer) {
                Some(code) if status.contains(&code) => Ok(()),
                Some(code) => Err(CheckError::Status(code)),
                None => Err(CheckError::NoHttp),
            }
        }
        Kind::Script { program, arguments } => {
            let child = Command::new(program)
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn();
            let mut child = child.map_err(|error| CheckError::Run {
                program: program.clone(),
                reason: error.to_string(),
            })?;
            wait_for(&mut child, deadline)?.ok_or_else(late)
        }
    }
}

fn connect(address: std::net::SocketAddr, timeout: Duration) -> Result<TcpStream, CheckError> {
    TcpStream::connect_timeout(&address, timeout).map_err(|error| CheckError::Connect {
        address: address.to_string(),
        reason: error.to_string(),
    })
}

/// The first line of the answer, or what there is of it.
fn ask(stream: &mut TcpStream, request: &[u8], deadline: Instant) -> io::Result<Vec<u8>> {
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        // Zero would mean for ever.
        Some(left.max(Duration::from_millis(1)))
    };
    stream.set_write_timeout(left())?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    while answer.len() < LINE && !answer.contains(&b'\n') {
        stream.set_read_timeout(left())?;
        let mut bytes = [0; LINE];
        match stream.read(&mut bytes)? {
            0 => break,
            some => answer.extend_from_slice(&bytes[..some]),
        }
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(answer)
}

/// The code of an answer's first line (RFC 9112, section 4).
fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let code = line
        .strip_prefix("HTTP/1.")?
        .split_ascii_whitespace()
        .nth(1)?;
    (code.len() == 3).then(|| code.parse().ok())?
}

/// Whether it ended with success in time; `None` if it had to be killed, with all that it has started.
fn wait_for(child: &mut Child, deadline: Instant) -> Result<Option<()>, CheckError> {
    let talk = |error: io::Error| CheckError::Talk(error.to_string());
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait().map_err(talk)? {
            Some(status) if status.success() => return Ok(Some(())),
            Some(status) => return Err(CheckError::Ended(status.to_string())),
            None if Instant::now() >= deadline => {
                // It may have ended by itself in between.
                let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
                child.wait().map_err(talk)?;
                return Ok(None);
            }
            None => sleep(pause),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What a look needs, and some more.
const STACK: usize = 128 * 1024;

/// Longer first lines are nobody's.
const LINE: usize = 512;

/// Between two looks at a script.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread::spawn;

    use super::*;

    fn check(kind: Kind, millis: u64) -> Check {
        Check {
            name: "c".to_owned(),
            kind,
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(millis),
        }
    }

    fn script(line: &str, millis: u64) -> Result<(), CheckError> {
        let kind = Kind::Script {
            program: "/bin/sh".to_owned(),
            arguments: ["-c", line].map(str::to_owned).into(),
        };
        look(&check(kind, millis))
    }

    /// A server for one client, who gets these bytes and then waits.
    fn asked(answer: &'static [u8], status: &[u16]) -> Result<(), CheckError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let kind = Kind::Http {
            address: listener.local_addr().unwrap(),
            path: "/healthz".to_owned(),
            status: status.to_vec(),
        };
        let server = spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            client.write_all(answer).unwrap();
            let mut request = String::new();
            // The client goes when it has seen enough.
            let _ = client.read_to_string(&mut request);
            request
        });
        let outcome = look(&check(kind, 300));
        let request = server.join().unwrap();
        assert!(
            request.starts_with("GET /healthz HTTP/1.0\r\nHost: 127.0.0.1:"),
            "{request}"
        );
        outcome
    }

    #[test]
    fn a_port_is_open_or_not() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let kind = Kind::Tcp(listener.local_addr().unwrap());
        assert_eq!(look(&check(kind.clone(), 1000)), Ok(()));
        drop(listener);
        assert!(matches!(
            look(&check(kind, 1000)),
            Err(CheckError::Connect { .. })
        ));
    }

    #[test]
    fn a_page_has_the_status_that_is_asked_for() {
        assert_eq!(asked(b"HTTP/1.1 200 OK\r\n", &[200]), Ok(()));
        assert_eq!(
            asked(b"HTTP/1.1 503 No\r\n", &[200, 204]),
            Err(CheckError::Status(503))
        );
        assert_eq!(asked(b"SSH-2.0-x\r\n", &[200]), Err(CheckError::NoHttp));
        let late = Err(CheckError::Late(Duration::from_millis(300)));
        assert_eq!(asked(b"HTTP/1.1 200", &[200]), late);
        assert_eq!(asked(&[b'a'; 2000], &[200]), Err(CheckError::NoHttp));
    }

    #[test]
    fn a_script_ends_well_or_is_ended() {
        assert_eq!(script("exit 0", 5000), Ok(()));
        assert_eq!(
            script("exit 3", 5000),
            Err(CheckError::Ended("exit status: 3".to_owned()))
        );
        let begun = Instant::now();
        let late = Err(CheckError::Late(Duration::from_millis(50)));
        assert_eq!(script("sleep 100 & sleep 100", 50), late);
        assert!(begun.elapsed() < Duration::from_secs(50));
        let kind = Kind::Script {
            program: "/absent".to_owned(),
            arguments: Vec::new(),
        };
        assert!(matches!(
            look(&check(kind, 50)),
            Err(CheckError::Run { .. })
        ));
    }
}
