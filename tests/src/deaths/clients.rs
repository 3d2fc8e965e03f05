//! Clients that make requests all the time, each on a connection of its own.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::clock::Clock;
use crate::host::Host;

/// A request that has come to its end.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) begin: Duration,
    pub(super) end: Duration,
    /// The client's.
    pub(super) port: u16,
    /// Why there was no answer.
    pub(super) failure: Option<String>,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Clients {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Request>>>,
}

impl Clients {
    /// They begin.
    pub(super) fn start(host: &Host, to: Ipv4Addr, clock: Clock) -> Clients {
        let over = Arc::new(AtomicBool::new(false));
        let threads = (0..CLIENTS).map(|_| {
            let over = Arc::clone(&over);
            // It stays on the host that it is started on.
            host.run(move || {
                thread::spawn(move || {
                    let mut requests = Vec::new();
                    while !over.load(Ordering::Relaxed) {
                        requests.push(request((to, 80).into(), clock));
                        thread::sleep(PAUSE);
                    }
                    requests
                })
            })
        });
        Clients {
            threads: threads.collect(),
            over,
        }
    }

    /// They end what they have begun: all that they did, in the order of its begin.
    pub(super) fn finish(self) -> Vec<Request> {
        self.over.store(true, Ordering::Relaxed);
        let threads = self.threads.into_iter();
        let all = threads.flat_map(|thread| thread.join().expect("a client"));
        let mut all: Vec<Request> = all.collect();
        all.sort_by_key(|request| request.begin);
        all
    }
}

fn request(to: SocketAddr, clock: Clock) -> Request {
    let begin = clock.now();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    // The port is to be known also of what fails.
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    socket.bind(&any.into()).expect("a port");
    let own = socket.local_addr().ok();
    let own = own.and_then(|own| own.as_socket()).expect("a port");
    let failure = exchange(&socket, to).err();
    Request {
        begin,
        end: clock.now(),
        port: own.port(),
        failure: failure.map(|error| error.to_string()),
    }
}

fn exchange(mut socket: &Socket, to: SocketAddr) -> io::Result<()> {
    socket.connect_timeout(&to.into(), PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200 ") {
        Ok(())
    } else {
        Err(io::Error::other(format!("answered {answer:?}")))
    }
}

const CLIENTS: usize = 8;
const PAUSE: Duration = Duration::from_millis(5);
/// Longer than any server is dead.
const PATIENCE: Duration = Duration::from_secs(8);
