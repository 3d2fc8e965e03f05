//! The programs as filters of interfaces: there with their maps, found again by name, taken away.
//!
//! A filter's name ends in a digest of what its program was made from. So a look at the host tells whether
//! it is the right one, whoever put it there and whatever became of the state file.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use shared::host::netlink::{Hook, Netlink, NetlinkError};
use shared::host::sysctl::SysctlError;
use shared::sys::SyscallError;
use shared::sys::bpf::{AssembleError, Insn, LoadError, Program};

use super::plan::End;
use super::{Tunnels, address, clamp, decapsulate};
use crate::plan::PlanError;
use crate::state::StateError;

/// Why tunnels cannot end here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnelError {
    #[error("the program is wrong: {0}; this is a fault of rsagent")]
    Assemble(#[from] AssembleError),
    #[error("no BPF map: {0}; CAP_BPF and CAP_NET_ADMIN are needed")]
    Map(#[from] SyscallError),
    #[error("{0}; CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and Linux 5.14 or later are needed")]
    Load(#[from] LoadError),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

/// A filter as it should be on an interface.
#[derive(Debug)]
pub(crate) struct Wanted {
    hook: Hook,
    prefix: &'static str,
    /// `None`: there should be none.
    filter: Option<Filter>,
}

#[derive(Debug)]
struct Filter {
    name: String,
    code: Vec<Insn>,
    maps: Vec<BTreeSet<IpAddr>>,
}

/// How a filter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// As it should be.
    Right,
    /// There is none, and there should be one.
    Absent,
    /// It was made from other values.
    Other,
}

/// The two filters of an interface.
///
/// # Errors
/// [`TunnelError::Assemble`]: none, see there.
pub(crate) fn wanted(tunnels: &Tunnels, end: &End) -> Result<[Wanted; 2], TunnelError> {
    let code = decapsulate::program(tunnels.port, tunnels.ipip)?;
    let maps = vec![tunnels.own.clone(), tunnels.vips.clone()];
    let taken_off = Filter::new(DECAPSULATE, code, maps);
    let clamp = match clamp::Segments::on(end.mtu) {
        Some(segments) => Some(Filter::new(
            CLAMP,
            clamp::program(segments)?,
            vec![tunnels.vips.clone()],
        )),
        None => None,
    };
    Ok([
        Wanted {
            hook: Hook::Ingress,
            prefix: DECAPSULATE,
            filter: Some(taken_off),
        },
        Wanted {
            hook: Hook::Egress,
            prefix: CLAMP,
            filter: clamp,
        },
    ])
}

impl Wanted {
    /// What it does, for people.
    pub(crate) fn what(&self) -> &'static str {
        match self.hook {
            Hook::Ingress => "tunnels end",
            Hook::Egress => "segments leave room for a tunnel",
        }
    }

    /// How it is on an interface.
    pub(crate) fn standing(
        &self,
        link: u32,
        netlink: &mut Netlink,
    ) -> Result<Standing, NetlinkError> {
        let name = name_of_ours(link, self.hook, netlink)?;
        Ok(match (&self.filter, name) {
            (Some(filter), Some(name)) if filter.name == name => Standing::Right,
            (None, None) => Standing::Right,
            (Some(_), None) => Standing::Absent,
            _ => Standing::Other,
        })
    }

    /// Makes it so; the interface has `clsact` where there is something to add.
    pub(crate) fn make(&self, link: u32, netlink: &mut Netlink) -> Result<(), TunnelError> {
        let Some(filter) = &self.filter else {
            remove(link, self.hook, netlink)?;
            return Ok(());
        };
        let program = filter.load(self.prefix)?;
        netlink.set_program(link, self.hook, PLACE, &filter.name, program.as_fd())?;
        Ok(())
    }
}

/// Whether any of ours is on an interface.
pub(crate) fn any(link: u32, netlink: &mut Netlink) -> Result<bool, NetlinkError> {
    for hook in HOOKS {
        if name_of_ours(link, hook, netlink)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes ours away from an interface; whether there were any.
pub(crate) fn remove_all(link: u32, netlink: &mut Netlink) -> Result<bool, NetlinkError> {
    let mut removed = false;
    for hook in HOOKS {
        removed |= remove(link, hook, netlink)?;
    }
    Ok(removed)
}

/// Takes `clsact` away from an interface, unless somebody has filters there.
pub(crate) fn remove_clsact(link: u32, netlink: &mut Netlink) -> Result<(), NetlinkError> {
    for hook in HOOKS {
        if !netlink.filters(link, hook)?.is_empty() {
            return Ok(());
        }
    }
    unless_missing(netlink.delete_clsact(link).map(drop))
}

impl Filter {
    fn new(prefix: &str, code: Vec<Insn>, maps: Vec<BTreeSet<IpAddr>>) -> Filter {
        let mut hasher = DefaultHasher::new();
        (&code, &maps).hash(&mut hasher);
        Filter {
            name: format!("{prefix}-{:016x}", hasher.finish()),
            code,
            maps,
        }
    }

    fn load(&self, name: &str) -> Result<Program, TunnelError> {
        let mut maps = Vec::new();
        for addresses in &self.maps {
            maps.push(address::map(name, addresses)?);
        }
        let maps: Vec<BorrowedFd<'_>> = maps.iter().map(AsFd::as_fd).collect();
        Ok(Program::load(name, &self.code, &maps)?)
    }
}

fn name_of_ours(
    link: u32,
    hook: Hook,
    netlink: &mut Netlink,
) -> Result<Option<String>, NetlinkError> {
    let filters = netlink.filters(link, hook)?;
    let ours = filters
        .into_iter()
        .filter(|filter| (filter.priority, filter.handle) == PLACE)
        .filter_map(|filter| filter.name);
    let mut ours = ours.filter(|name| {
        [DECAPSULATE, CLAMP]
            .iter()
            .any(|ours| name.starts_with(ours))
    });
    Ok(ours.next())
}

fn remove(link: u32, hook: Hook, netlink: &mut Netlink) -> Result<bool, NetlinkError> {
    if name_of_ours(link, hook, netlink)?.is_none() {
        return Ok(false);
    }
    unless_missing(netlink.delete_filter(link, hook, PLACE))?;
    Ok(true)
}

fn unless_missing(outcome: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match outcome {
        Err(error) if !error.is_missing() => Err(error),
        _ => Ok(()),
    }
}

const HOOKS: [Hook; 2] = [Hook::Ingress, Hook::Egress];

/// Names of programs, maps and, with a digest, filters.
const DECAPSULATE: &str = "lvs_decap";
const CLAMP: &str = "lvs_clamp";

/// Priority and handle. Behind the filters that tc(8) adds without a word about their priority, which
/// count down from 49152, and behind the director's.
const PLACE: (u16, u32) = (49_154, 1);
