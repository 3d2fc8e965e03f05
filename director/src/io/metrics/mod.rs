//! The metrics port: a small HTTP server in the loop.
//!
//! Nothing that clients do may hold the loop or memory. There are at most [`MOST_CLIENTS`], each with one
//! request and a time for it, and a new one takes the place of the one that is missed least. A scrape is made
//! in pieces, one in a turn of the loop, and written in pieces; of complete ones that slow clients still read
//! there are at most [`MOST_TEXTS`].

mod client;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use shared::time::Time;
use tracing::{error, info, warn};

use self::client::{Client, Stage, Stay};
use crate::config;
use crate::metrics::{Progress, Scrape, Snapshot, Source};

/// The metrics port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "metrics cannot be shown at {address} (TCP): {source}; write another `listen' in [metrics]"
)]
pub struct MetricsError {
    address: SocketAddr,
    source: io::Error,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct MetricsDesk {
    registry: Registry,
    config: config::Metrics,
    listener: Option<Listener>,
    clients: BTreeMap<usize, Client>,
    next: usize,
    scrape: Option<Scrape>,
    /// Complete scrapes that may still be read, oldest first.
    texts: Vec<Weak<Vec<Vec<u8>>>>,
    process: ProcessCollector,
    scrapes: u64,
    cut_off: u64,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl MetricsDesk {
    /// Listens where the configuration says. If it says nothing, others may have the usual port.
    ///
    /// # Errors
    /// It says where, and that cannot be had.
    pub(super) fn open(
        config: &config::Metrics,
        registry: Registry,
    ) -> Result<MetricsDesk, MetricsError> {
        let address = address(config);
        let listener = match (listen(address, &registry), config.listen) {
            (Ok(listener), _) => Some(listener),
            (Err(error), Some(_)) => return Err(error),
            (Err(error), None) => {
                warn!("{error}");
                None
            }
        };
        Ok(MetricsDesk {
            registry,
            config: config.clone(),
            listener,
            clients: BTreeMap::new(),
            next: FIRST_CLIENT,
            scrape: None,
            texts: Vec::new(),
            process: ProcessCollector::for_self(),
            scrapes: 0,
            cut_off: 0,
        })
    }

    /// The configuration may be another one. Clients that are there get what they asked for.
    pub(super) fn reload(&mut self, config: &config::Metrics) {
        let wanted = address(config);
        let former = self.listener.as_ref().map(|listener| listener.address);
        if former != Some(wanted) {
            // First, for the two may differ in no more than the interface.
            self.deafen();
            match listen(wanted, &self.registry) {
                Ok(listener) => {
                    info!("metrics are shown at {wanted}");
                    self.listener = Some(listener);
                }
                Err(fault) => {
                    error!("{fault}");
                    let again = former.map(|address| listen(address, &self.registry));
                    self.listener = again.and_then(Result::ok);
                }
            }
        }
        self.config = config.clone();
    }

    fn deafen(&mut self) {
        if let Some(mut former) = self.listener.take() {
            let _ = self.registry.deregister(&mut former.socket);
        }
    }

    /// One of its sockets is ready.
    pub(super) fn wake(&mut self, now: Time, token: Token) {
        if token == LISTENER {
            self.accept(now);
        } else if let Some(client) = self.clients.get_mut(&token.0) {
            client.ready = true;
        }
    }

    /// Whether there is something to do at once.
    pub(super) fn is_busy(&self) -> bool {
        let ready = |client: &Client| client.ready || matches!(client.stage, Stage::Waiting);
        self.scrape.is_some() || self.clients.values().any(ready)
    }

    /// When the next client has to be further.
    pub(super) fn poll_at(&self) -> Option<Time> {
        self.clients.values().map(|client| client.deadline).min()
    }

    /// Whether a scrape is to [begin](Self::begin).
    pub(super) fn wants_scrape(&self) -> bool {
        let waits = |client: &Client| matches!(client.stage, Stage::Waiting);
        self.scrape.is_none() && self.clients.values().any(waits)
    }

    /// Scrapes that were begun, and clients that were cut off.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.scrapes, self.cut_off)
    }

    /// `process_*`
    pub(super) fn process(&self) -> Vec<MetricFamily> {
        self.process.collect()
    }

    /// Begins a scrape for all who wait for one.
    pub(super) fn begin(&mut self, snapshot: &Snapshot) {
        self.make_room_for_text();
        self.scrapes += 1;
        self.scrape = Some(Scrape::new(&self.config.options, snapshot));
        for client in self.clients.values_mut() {
            if matches!(client.stage, Stage::Waiting) {
                client.stage = Stage::Scraping;
            }
        }
    }

    /// Goes on with the scrape by one piece, and with all clients. `forwards` is what `/readyz` says.
    pub(super) fn go_on(&mut self, now: Time, forwards: Result<(), &str>, source: &dyn Source) {
        let scraping = |client: &Client| matches!(client.stage, Stage::Scraping);
        // Whom it was for may be gone.
        let wanted = self.clients.values().any(scraping);
        if let Some(mut scrape) = self.scrape.take().filter(|_| wanted) {
            match scrape.step(source) {
                Progress::More => self.scrape = Some(scrape),
                Progress::Complete => self.hand_out(scrape),
            }
        }
        let mut budget = BUDGET;
        let (registry, cut_off) = (&self.registry, &mut self.cut_off);
        self.clients.retain(|_, client| {
            let stay = match client.ready {
                // Whoever went away without a word is missed by nobody.
                true => client.go_on(now, forwards, &mut budget).unwrap_or(Stay::No),
                false => Stay::Yes,
            };
            let late = stay == Stay::Yes && client.deadline <= now;
            *cut_off += u64::from(late);
            if late || stay == Stay::No {
                let _ = registry.deregister(&mut client.stream);
            }
            !late && stay == Stay::Yes
        });
    }

    fn hand_out(&mut self, scrape: Scrape) {
        let text = Rc::new(scrape.into_texts());
        for client in self.clients.values_mut() {
            if matches!(client.stage, Stage::Scraping) {
                client.give(&text);
            }
        }
        self.texts.push(Rc::downgrade(&text));
    }

    fn accept(&mut self, now: Time) {
        loop {
            let Some(listener) = &self.listener else {
                return;
            };
            match listener.socket.accept() {
                Ok((mut stream, _)) => {
                    self.make_room_for_client();
                    let token = Token(self.next);
                    let both = Interest::READABLE | Interest::WRITABLE;
                    let registered = self.registry.register(&mut stream, token, both);
                    // The last packet of an answer shall not wait for an acknowledgement.
                    if registered.is_ok() && stream.set_nodelay(true).is_ok() {
                        self.clients.insert(self.next, Client::new(now, stream));
                        self.next += 1;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Of a client that went away meanwhile.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    warn!("metrics port: {error}");
                    return;
                }
            }
        }
    }

    fn make_room_for_client(&mut self) {
        if self.clients.len() < MOST_CLIENTS {
            return;
        }
        let clients = self.clients.iter();
        let least = clients.min_by_key(|(_, client)| client.rank());
        if let Some(place) = least.map(|(&place, _)| place) {
            self.cut(|at, _| at == place);
        }
    }

    /// Whoever reads the oldest text has had the longest time for it.
    fn make_room_for_text(&mut self) {
        self.texts.retain(|text| text.strong_count() > 0);
        if self.texts.len() < MOST_TEXTS {
            return;
        }
        if let Some(text) = self.texts.remove(0).upgrade() {
            self.cut(|_, client| client.has(&text));
        }
    }

    fn cut(&mut self, whom: impl Fn(usize, &Client) -> bool) {
        let (registry, cut_off) = (&self.registry, &mut self.cut_off);
        self.clients.retain(|&place, client| {
            let goes = whom(place, client);
            if goes {
                *cut_off += u64::from(!matches!(client.stage, Stage::Leaving(_)));
                let _ = registry.deregister(&mut client.stream);
            }
            !goes
        });
    }
}

fn address(config: &config::Metrics) -> SocketAddr {
    config.listen.unwrap_or(config::Metrics::USUAL)
}

fn listen(address: SocketAddr, registry: &Registry) -> Result<Listener, MetricsError> {
    let failed = |source| MetricsError { address, source };
    let mut socket = TcpListener::bind(address).map_err(failed)?;
    registry
        .register(&mut socket, LISTENER, Interest::READABLE)
        .map_err(failed)?;
    Ok(Listener { socket, address })
}

/// Whether a token is of the metrics port.
pub(super) fn owns(token: Token) -> bool {
    token >= LISTENER
}

/// Behind those of the rings, of which there are 2^32.
const LISTENER: Token = Token(1 << 40);
const FIRST_CLIENT: usize = LISTENER.0 + 1;
const MOST_CLIENTS: usize = 32;
const MOST_TEXTS: usize = 3;
/// Bytes written in one turn of the loop, to all clients: less than a tenth of a millisecond.
const BUDGET: usize = 64 * 1024;
