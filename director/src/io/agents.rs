//! Where the reports of agents come in, and what follows from them for the balancer.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use shared::agent::{Key, KeyError, MAX_DATAGRAM};
use shared::time::Time;
use socket2::{Domain, Socket, Type};
use tracing::{error, info, warn};

use super::clock::wall_micros;
use crate::config;
use crate::core::balancer::Balancer;
use crate::core::judgement::{Health, Judge};
use crate::core::view::{AgentView, ReportsView};
use crate::health::agents::{Agents, Verdict, Watch};

/// Why nobody can listen to agents.
#[derive(Debug, thiserror::Error)]
pub enum AgentsError {
    /// The address cannot be listened at.
    #[error("the reports of agents cannot be received at {address} (UDP): {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no key.
    #[error(
        "cannot read the key of the agents, {}: {source}; make one by `openssl rand -hex 32', or write \
         insecure = true in [agents] to believe everybody", file.display()
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others could know it.
    #[error(
        "others can read the key of the agents, {} (mode {mode:03o}); write chmod 600 {}",
        file.display(), file.display()
    )]
    Exposed {
        /// The file.
        file: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is none.
    #[error("the key of the agents, {}: {source}", file.display())]
    NoKey {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
}

/// The key of the agents, if the configuration has them and does not say that everybody is believed.
///
/// # Errors
/// There is no such file, others can read it, or there is no key in it.
pub(super) fn read_key(config: &config::Config) -> Result<Option<Key>, AgentsError> {
    let agents = config.agents.as_ref();
    let Some(file) = agents.and_then(|agents| agents.key_file.as_deref()) else {
        return Ok(None);
    };
    let unreadable = |source| AgentsError::Unreadable {
        file: file.to_owned(),
        source,
    };
    let mut opened = File::open(file).map_err(unreadable)?;
    let mode = opened.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let file = file.to_owned();
        return Err(AgentsError::Exposed { file, mode });
    }
    let mut bytes = Vec::new();
    opened.read_to_end(&mut bytes).map_err(unreadable)?;
    let key = Key::from_bytes(&bytes).map_err(|source| AgentsError::NoKey {
        file: file.to_owned(),
        source,
    })?;
    Ok(Some(key))
}

/// Listens to agents, as the configuration says, or to nobody.
#[derive(Debug)]
pub(super) struct AgentsDesk {
    registry: Registry,
    listener: Option<Listener>,
    agents: Agents,
    /// Whether there may be more to receive.
    ready: bool,
}

#[derive(Debug)]
struct Listener {
    socket: UdpSocket,
    address: SocketAddr,
}

impl AgentsDesk {
    /// Listens where the configuration says.
    pub(super) fn open(
        config: Option<&config::Agents>,
        key: Option<Key>,
        registry: Registry,
    ) -> Result<AgentsDesk, AgentsError> {
        let listener = config
            .map(|config| listen(config.listen, &registry))
            .transpose()?;
        if let (Some(listener), None) = (&listener, &key) {
            warn_of_insecurity(listener.address);
        }
        Ok(AgentsDesk {
            registry,
            listener,
            agents: Agents::new(key),
            ready: false,
        })
    }

    /// The configuration may be another one. What agents said still counts.
    pub(super) fn reload(&mut self, config: Option<&config::Agents>, key: Option<Key>) {
        let address = config.map(|config| config.listen);
        if self.listener.as_ref().map(|listener| listener.address) != address {
            // First, for the two may differ in no more than the interface.
            if let Some(mut former) = self.listener.take() {
                let _ = self.registry.deregister(&mut former.socket);
            }
            match address
                .map(|address| listen(address, &self.registry))
                .transpose()
            {
                Ok(listener) => self.listener = listener,
                Err(fault) => error!("{fault}"),
            }
        }
        if let (Some(listener), None) = (&self.listener, &key) {
            warn_of_insecurity(listener.address);
        }
        self.agents.set_key(key);
    }

    /// The socket has something.
    pub(super) fn wake(&mut self) {
        self.ready = true;
    }

    /// Whether there may be more to receive at once.
    pub(super) fn is_busy(&self) -> bool {
        self.ready
    }

    /// When [`go_on`](Self::go_on) is to be called next.
    pub(super) fn poll_at(&self) -> Option<Time> {
        self.agents.poll_at()
    }

    /// Takes the reports that came, and finds who has fallen silent.
    pub(super) fn go_on(&mut self, now: Time, balancer: &mut Balancer) {
        self.receive(now, balancer);
        if self.agents.poll_at().is_none_or(|at| at > now) {
            return;
        }
        carry_out(self.agents.tick(now), now, balancer);
        for complaint in self.agents.take_complaints(now) {
            warn!("{complaint}");
        }
    }

    fn receive(&mut self, now: Time, balancer: &mut Balancer) {
        let Some(listener) = self.listener.as_ref().filter(|_| self.ready) else {
            self.ready = false;
            return;
        };
        let wall = wall_micros();
        // One byte more, by which those are known that are too long.
        let mut buffer = [0; MAX_DATAGRAM + 1];
        for _ in 0..BUDGET {
            match listener.socket.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let from = from.ip().to_canonical();
                    let verdicts = self.agents.receive(now, wall, from, &buffer[..length]);
                    carry_out(verdicts, now, balancer);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.ready = false;
                    return;
                }
                // Of a datagram that could not be received; there may be others.
                Err(_) => {}
            }
        }
    }

    /// Services, servers or checks may be others than before.
    pub(super) fn watch(&mut self, now: Time, config: &config::Config, balancer: &mut Balancer) {
        let mut watches = Vec::new();
        for service in &config.services {
            for server in balancer.servers(&service.spec.key) {
                watches.extend(service.checks.of(&server.key).agent.map(|check| Watch {
                    service: service.spec.key,
                    server: server.key,
                    forward: server.forward,
                    check,
                }));
            }
        }
        carry_out(self.agents.watch(now, watches), now, balancer);
    }

    /// How many reports came; none if nobody listens.
    pub(super) fn reports(&self) -> Option<ReportsView> {
        self.listener.as_ref().map(|_| self.agents.reports())
    }

    /// The next who has reported and judges a server, by address.
    pub(super) fn view_after(&self, now: Time, address: Option<IpAddr>) -> Option<AgentView> {
        self.agents.view_after(now, address)
    }

    /// The name of the agent at this address.
    pub(super) fn identity(&self, address: IpAddr) -> Option<&str> {
        self.agents.identity(address)
    }

    /// Who has reported.
    pub(super) fn views(&self, now: Time) -> Vec<AgentView> {
        self.agents.views(now)
    }
}

fn carry_out(verdicts: Vec<Verdict>, now: Time, balancer: &mut Balancer) {
    for verdict in verdicts {
        match (verdict.sentence(), verdict.judgement.health) {
            (Some(sentence), Health::Up) => info!("{sentence}"),
            (Some(sentence), _) => warn!("{sentence}"),
            (None, _) => {}
        }
        let (service, server) = (verdict.service, verdict.server);
        balancer.judge_server(now, &service, &server, Judge::Agent, verdict.judgement);
    }
}

fn listen(address: SocketAddr, registry: &Registry) -> Result<Listener, AgentsError> {
    let failed = |source| AgentsError::Listen { address, source };
    let mut socket = bind(address).map_err(failed)?;
    registry
        .register(&mut socket, AGENTS, Interest::READABLE)
        .map_err(failed)?;
    Ok(Listener { socket, address })
}

/// A socket for everybody hears both families, whatever `net.ipv6.bindv6only` says; IPv4 alone on a host that
/// does not know the other.
fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    if address.is_ipv4() || !address.ip().is_unspecified() {
        return UdpSocket::bind(address);
    }
    let socket = match Socket::new(Domain::IPV6, Type::DGRAM, None) {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            return UdpSocket::bind((Ipv4Addr::UNSPECIFIED, address.port()).into());
        }
        socket => socket?,
    };
    socket.set_only_v6(false)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(UdpSocket::from_std(socket.into()))
}

fn warn_of_insecurity(address: SocketAddr) {
    warn!(
        "agents are believed without a key at {address}: anybody can take real servers out of service"
    );
}

/// The token of the socket.
pub(super) const AGENTS: Token = Token(3);
/// Reports taken in one turn of the loop: about a millisecond.
const BUDGET: usize = 128;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The key of a file with this text and mode, or what is wrong with it.
    fn key(text: &[u8], mode: u32) -> Result<Option<Key>, String> {
        let name = format!("agent-key-{}-{mode:o}-{}", std::process::id(), text.len());
        let file = std::env::temp_dir().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let outcome = read_key(&config_with(Some(&file)));
        fs::remove_file(&file).unwrap();
        outcome.map_err(|error| error.to_string())
    }

    fn config_with(key_file: Option<&Path>) -> config::Config {
        config::Config {
            agents: Some(config::Agents {
                listen: SocketAddr::from(([127, 0, 0, 1], 9111)),
                key_file: key_file.map(Path::to_owned),
            }),
            ..config::Config::default()
        }
    }

    #[test]
    fn a_key_is_read_if_nobody_else_can_read_it() {
        assert!(key(b"0123456789abcdef\n", 0o600).unwrap().is_some());
        assert!(key(b"0123456789abcdef\n", 0o400).unwrap().is_some());
        for mode in [0o640, 0o604, 0o660] {
            let fault = key(b"0123456789abcdef\n", mode).unwrap_err();
            assert!(
                fault.contains(&format!("(mode {mode:03o}); write chmod 600 ")),
                "{fault}"
            );
        }
        let fault = key(b"short\n", 0o600).unwrap_err();
        assert!(
            fault.ends_with(
                "the key has 5 bytes; write at least 16, as `openssl rand -hex 32' does"
            ),
            "{fault}"
        );
    }

    #[test]
    fn without_a_key_it_has_to_be_asked_for() {
        assert!(read_key(&config_with(None)).unwrap().is_none());
        assert!(read_key(&config::Config::default()).unwrap().is_none());
        let fault = read_key(&config_with(Some(Path::new("/nowhere/agent.key"))));
        let fault = fault.unwrap_err().to_string();
        assert!(
            fault.starts_with("cannot read the key of the agents, /nowhere/agent.key: "),
            "{fault}"
        );
        assert!(fault.contains("insecure = true"), "{fault}");
    }
}
