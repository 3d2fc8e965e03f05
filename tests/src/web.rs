//! A small HTTP server that answers with its name, for the demo.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::host::Host;

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Web {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    /// Listens on a port of a host.
    ///
    /// # Panics
    /// If the port is taken.
    pub fn start(host: &Host, port: u16) -> Web {
        let listener = host.run(|| TcpListener::bind(("0.0.0.0", port)).expect("a free port"));
        listener.set_nonblocking(true).expect("a socket");
        let stop = Arc::new(AtomicBool::new(false));
        let (name, stopped) = (host.name().to_owned(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => drop(answer(stream, &name)),
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Web {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A GET request to a host's port: the body of the answer.
///
/// # Errors
/// Nobody answers.
pub fn get(from: &Host, to: (std::net::Ipv4Addr, u16)) -> std::io::Result<String> {
    let (_, body) = page(from, to.into(), "/")?;
    Ok(body.trim().to_owned())
}

/// The same for any page: the head of the answer, and its body as it is.
///
/// # Errors
/// Nobody answers.
pub fn page(from: &Host, to: SocketAddr, path: &str) -> std::io::Result<(String, String)> {
    from.run(|| {
        let patience = Duration::from_secs(3);
        let mut stream = TcpStream::connect_timeout(&to, patience)?;
        stream.set_read_timeout(Some(patience))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", to.ip())?;
        let mut text = std::io::read_to_string(stream)?;
        let end = text.find(BLANK).unwrap_or(text.len());
        let body = text.split_off((end + BLANK.len()).min(text.len()));
        text.truncate(end);
        Ok((text, body))
    })
}

/// Between head and body.
const BLANK: &str = "\r\n\r\n";

fn answer(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while lines
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    let body = format!("{name}\n");
    let length = body.len();
    write!(
        stream,
        "HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}
