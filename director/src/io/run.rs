//! Start, and the orderly end.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use mio::Poll;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use shared::host::netlink::NetlinkError;
use shared::sys::SyscallError;
use tracing::{info, warn};

use super::agents::{AgentsDesk, AgentsError};
use super::capture::{Capture, CaptureError};
use super::checks::ChecksDesk;
use super::clock::Clock;
use super::control::{Control, ControlError};
use super::egress::Egress;
use super::event_loop::EventLoop;
use super::give_back::{GiveBack, GiveBackError};
use super::host_network::HostNetwork;
use super::intake::Intake;
use super::launch::Launch;
use super::local_addresses::LocalAddresses;
use super::reload::{self, Hands, RulesError};
use super::routing::{Routing, RoutingError};
use super::transmit::Transmit;
use super::vips::Vips;
use crate::core::balancer::Settings;
use crate::core::director::{Director, Entropy};

/// Why the director could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The host's network cannot be asked.
    #[error("the host's network: {0}")]
    Netlink(#[from] NetlinkError),
    /// Frames cannot be taken.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// Frames cannot be sent.
    #[error("the transmit socket: {0}; CAP_NET_RAW and CAP_NET_ADMIN are needed")]
    Transmit(#[from] SyscallError),
    /// Frames cannot be given back to the host.
    #[error(transparent)]
    GiveBack(#[from] GiveBackError),
    /// What a director before this one left in the host's routing cannot be undone.
    #[error(transparent)]
    Routing(#[from] RoutingError),
    /// Nobody could give commands.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Nobody could hear agents.
    #[error(transparent)]
    Agents(#[from] AgentsError),
    /// The rules file cannot be loaded.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The process id cannot be written.
    #[error("cannot write the process id to {}: {source}", path.display())]
    PidFile {
        /// Where to.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The loop itself failed.
    #[error("the event loop: {0}")]
    Loop(#[from] io::Error),
}

/// Runs the director until it is told to stop.
///
/// # Errors
/// What kept it from starting, or what made going on impossible.
pub fn run(launch: &Launch) -> Result<(), RunError> {
    raise_descriptors();
    let poll = Poll::new()?;
    let clock = Clock::start();
    // Before anything is changed: another director at the same place ends this one.
    Control::check(&launch.control)?;
    let mut network = HostNetwork::open()?;
    let capture = Capture::load(launch.capture)?;
    let host = GiveBack::open(network.netlink())?;
    let registry = poll.registry().try_clone()?;
    let routing = Routing::new(host.device(), registry, network.netlink())?;
    let transmit = Transmit::new(host, Egress::new(launch.capture));
    let mut director = Director::new(settings(launch), entropy()?);

    let wanted = match &launch.interfaces[..] {
        [] => launch.config.interfaces.clone(),
        given => given.to_vec(),
    };
    let mut vips = Vips::default();
    vips.set(&launch.config.vips, network.netlink());
    let mut locals = LocalAddresses::new(wanted.clone());
    let mut hands = Hands {
        director: &mut director,
        locals: &mut locals,
        netlink: network.netlink(),
    };
    reload::start(&launch.config, &mut hands, clock.now())?;
    locals.remove_leftovers(transmit.host().device().0, network.netlink());

    let registry = poll.registry().try_clone()?;
    let agents = AgentsDesk::open(
        launch.config.agents.as_ref(),
        launch.agent_key.clone(),
        registry,
    )?;
    let registry = poll.registry().try_clone()?;
    let checks = ChecksDesk::new(
        u64::from_ne_bytes(random()?),
        launch.trust.clone(),
        registry,
    )?;
    let intake = Intake::new(capture, wanted, poll.registry().try_clone()?);
    let mut event_loop = EventLoop::new(
        poll, clock, director, network, intake, transmit, vips, locals, routing, agents, checks,
        launch,
    )?;
    event_loop.look_around()?;
    // From here on frames are taken: whoever finds the socket finds a director that forwards.
    event_loop.open_control(&launch.control)?;
    let _pid_file = launch.pid_file.as_deref().map(PidFile::write).transpose()?;
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        warn!("systemd was not told of the start: {error}");
    }
    info!(
        "the director is ready, lvsadm speaks to it at {}",
        launch.control.display()
    );

    let outcome = event_loop.run();
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    event_loop.close();
    info!("the director has stopped");
    outcome.map_err(RunError::Loop)
}

/// Each check that is being made has a descriptor, and 1024 of them, as shells and systemd give, are soon
/// gone when many servers hang.
fn raise_descriptors() {
    let limit = getrlimit(Resource::RLIMIT_NOFILE);
    let raised = limit.and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        warn!("the number of open files stays limited: {error}");
    }
}

fn settings(launch: &Launch) -> Settings {
    Settings {
        most_connections: launch.config.connections.max,
        most_half_open: launch.config.connections.half_open,
        ..Settings::default()
    }
}

fn random<const BYTES: usize>() -> io::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn entropy() -> io::Result<Entropy> {
    let bytes = random::<18>()?;
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r] = bytes;
    Ok(Entropy {
        hash_key: [
            u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
        ],
        identification: u16::from_ne_bytes([q, r]),
    })
}

/// The file with the process id; removed at the end.
#[derive(Debug)]
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &Path) -> Result<PidFile, RunError> {
        fs::write(path, format!("{}\n", std::process::id())).map_err(|source| {
            RunError::PidFile {
                path: path.to_owned(),
                source,
            }
        })?;
        Ok(PidFile(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
