//! The configuration and the rules file, carried to the director.

use std::cell::OnceCell;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use shared::addr::Protocol;
use shared::host::netlink::Netlink;
use shared::time::Time;
use tracing::warn;

use super::announce::{self, Announcer, Source};
use super::local_addresses::LocalAddresses;
use crate::config::{Config, plan};
use crate::control::command::{self, Command};
use crate::control::names::{Names, Services};
use crate::core::director::Director;
use crate::core::operation::Operation;

/// Why the rules file cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// It cannot be read.
    #[error("cannot read the rules {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line of it is no command.
    #[error("{}:{line}: {what}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What ipvsadm would say.
        what: String,
    },
}

/// Who carries out what is asked for.
pub(super) struct Hands<'a> {
    pub(super) director: &'a mut Director,
    pub(super) locals: &'a mut LocalAddresses,
    pub(super) netlink: &'a mut Netlink,
}

/// Everything that the configuration says, and then the rules.
pub(super) fn start(config: &Config, hands: &mut Hands<'_>, now: Time) -> Result<(), RulesError> {
    let mut operations = config.operations();
    if let Some(file) = &config.rules {
        operations.extend(rules(file)?);
    }
    carry_out(&operations, hands, &mut Announcer::default(), now);
    Ok(())
}

/// What changed from `old` to `new`.
pub(super) fn reload(
    old: &Config,
    new: &Config,
    hands: &mut Hands<'_>,
    announcer: &mut Announcer,
    now: Time,
) {
    if old.connections != new.connections || old.rules != new.rules {
        warn!("[connections] and rules count from the next start on");
    }
    let balancer = &hands.director.balancer;
    let (running, locals) = (balancer.services(), balancer.local_addresses());
    let locals = locals.iter().filter(|local| local.listed);
    let locals: Vec<IpAddr> = locals.map(|local| local.address).collect();
    let operations = plan::plan(old, new, &running, &locals);
    carry_out(&operations, hands, announcer, now);
}

/// The changes that a file of `ipvsadm -S` lines stands for. Lines that begin with `#` are passed
/// over, as `ipvsadm-restore` does.
fn rules(file: &Path) -> Result<Vec<Operation>, RulesError> {
    let text = fs::read_to_string(file).map_err(|source| RulesError::Unreadable {
        file: file.to_owned(),
        source,
    })?;
    let names = Resolver::default();
    let mut operations = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let words: Vec<String> = line
            .split_whitespace()
            .filter(|word| *word != "ipvsadm")
            .map(str::to_owned)
            .collect();
        if words.is_empty() || line.starts_with('#') {
            continue;
        }
        let fault = |what: String| RulesError::Line {
            file: file.to_owned(),
            line: at + 1,
            what,
        };
        match command::parse("lvsadm", &words, &names) {
            Ok(Command::Apply(operation)) => operations.push(operation),
            Ok(_) => return Err(fault(format!("`{line}' changes nothing: leave it out"))),
            Err(error) => return Err(fault(error.message)),
        }
    }
    Ok(operations)
}

/// The system's names. Only asked before the loop runs: it may take its time.
#[derive(Debug, Default)]
struct Resolver(OnceCell<Services>);

impl Resolver {
    fn services(&self) -> &Services {
        self.0.get_or_init(|| {
            Services::parse(&fs::read_to_string("/etc/services").unwrap_or_default())
        })
    }
}

impl Names for Resolver {
    fn host_by_name(&self, name: &str) -> Option<Ipv4Addr> {
        (name, 0)
            .to_socket_addrs()
            .ok()?
            .find_map(|address| match address.ip() {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            })
    }

    fn host_by_address(&self, _: IpAddr) -> Option<String> {
        None
    }

    fn port_by_service(&self, name: &str, protocol: Protocol) -> Option<u16> {
        self.services().port(name, protocol)
    }

    fn service_by_port(&self, port: u16, protocol: Protocol) -> Option<String> {
        self.services().name(port, protocol).map(str::to_owned)
    }
}

fn carry_out(
    operations: &[Operation],
    hands: &mut Hands<'_>,
    announcer: &mut Announcer,
    now: Time,
) {
    for operation in operations {
        let Hands {
            director,
            locals,
            netlink,
        } = hands;
        match locals.apply(director, now, operation, netlink) {
            Ok(()) => announcer.done(operation, Source::File),
            Err(error) => announce::refused(operation, &error),
        }
    }
}
