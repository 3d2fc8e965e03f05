//! The capture in the kernel: one map of keys and one program, attached to each interface.
//!
//! By tcx where the kernel has it (6.6), else as a filter of traffic control. The link of tcx ends
//! with the process; a filter does not, so its program takes frames only while the director writes the
//! time into a map ([`Capture::beat`]), and whoever starts next removes it.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use shared::host::netlink::{Hook, Netlink, NetlinkError};
use shared::sys::SyscallError;
use shared::sys::bpf::{AssembleError, HashMap, LoadError, Program, TcxLink};
use tracing::info;

use super::filter::{self, Filter, Place};

use crate::core::capture::{
    CaptureChange, CaptureKey, KEY_BYTES, Life, PULSE_KEY, Taken, program, pulse_value,
};

/// How frames are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum CaptureKind {
    /// By tcx if the kernel has it, else by clsact
    #[default]
    Auto,
    /// By a tcx program (Linux 6.6 and later)
    Tcx,
    /// By a filter of traffic control
    Clsact,
}

/// The loaded program and its maps. What is attached outlives it: it holds the program, and that
/// the maps.
#[derive(Debug)]
pub struct Capture {
    kind: CaptureKind,
    keys: HashMap<KEY_BYTES, 1>,
    pulse: HashMap<4, 8>,
    program: Program,
}

/// A program on an interface; nothing is taken there any more when this is dropped.
#[derive(Debug)]
pub enum Attached {
    /// By tcx.
    Tcx(TcxLink),
    /// By clsact.
    Filter(Filter),
}

/// What can go wrong with the capture.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The program is not one.
    #[error("the capture program is wrong: {0}; this is a fault of the director")]
    Assemble(#[from] AssembleError),
    /// The kernel made no map.
    #[error("no BPF map for the capture: {0}; CAP_BPF and CAP_NET_ADMIN are needed")]
    Map(#[source] SyscallError),
    /// The kernel did not take the program.
    #[error("{0}; CAP_BPF, CAP_NET_ADMIN and Linux 5.14 or later are needed")]
    Load(#[from] LoadError),
    /// The kernel did not attach the program.
    #[error("no capture on interface {ifindex}: {source}; tcx needs Linux 6.6 (--capture clsact)")]
    Attach {
        /// The interface.
        ifindex: u32,
        /// What the kernel said.
        source: SyscallError,
    },
    /// The kernel did not take the filter.
    #[error("no capture: {0}; the kernel needs CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF")]
    Filter(#[from] NetlinkError),
    /// The time cannot be written.
    #[error("the capture's pulse: {0}")]
    Pulse(#[source] SyscallError),
    /// A key could not be added or removed.
    #[error("capture key {key} cannot be changed: {source}; the map holds at most {MOST_KEYS}")]
    Key {
        /// The key.
        key: CaptureKey,
        /// What the kernel said.
        source: SyscallError,
    },
}

impl Capture {
    /// Makes the maps, still empty, and loads the program.
    ///
    /// # Errors
    /// [`CaptureError::Map`] and [`CaptureError::Load`], mostly for want of privileges.
    pub fn load(kind: CaptureKind) -> Result<Capture, CaptureError> {
        Capture::load_with(kind, Taken::ToRing)
    }

    /// Begins to take what is ours from an interface. The ring must be open before, or frames are
    /// lost in between. What a killed director left there is removed.
    ///
    /// # Errors
    /// [`CaptureError::Attach`] and [`CaptureError::Filter`]: the kernel cannot, or the interface is
    /// gone.
    pub fn attach(
        &mut self,
        ifindex: u32,
        netlink: &mut Netlink,
    ) -> Result<Attached, CaptureError> {
        filter::remove(ifindex, FILTER, netlink)?;
        if self.kind != CaptureKind::Clsact {
            match TcxLink::attach_ingress(&self.program, ifindex) {
                Ok(link) => {
                    // What goes on one interface goes on all.
                    self.kind = CaptureKind::Tcx;
                    return Ok(Attached::Tcx(link));
                }
                Err(error) if self.kind == CaptureKind::Auto && is_unknown(&error) => {
                    info!("this kernel has no tcx ({error}): frames are taken by clsact");
                    self.program = self.load_program(CaptureKind::Clsact, Taken::ToRing)?;
                    self.kind = CaptureKind::Clsact;
                }
                Err(source) => return Err(CaptureError::Attach { ifindex, source }),
            }
        }
        self.beat()?;
        let filter = Filter::attach(ifindex, FILTER, &self.program, netlink)?;
        Ok(Attached::Filter(filter))
    }

    /// How often [`beat`](Self::beat) must be called; not at all if the program ends with the
    /// process.
    pub fn pulse(&self) -> Option<Duration> {
        (self.kind == CaptureKind::Clsact).then_some(BEAT)
    }

    /// Tells the program that the director lives.
    ///
    /// # Errors
    /// [`CaptureError::Pulse`]: none that the map is known to give.
    pub fn beat(&self) -> Result<(), CaptureError> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
        let nanos = Duration::from(now).as_nanos() as u64;
        self.pulse
            .insert(&PULSE_KEY, &pulse_value(nanos))
            .map_err(CaptureError::Pulse)
    }

    /// Brings the changes to the map, on all interfaces at once.
    ///
    /// # Errors
    /// [`CaptureError::Key`] for the first key that could not be changed; the others are.
    pub fn apply(&self, changes: &[CaptureChange]) -> Result<(), CaptureError> {
        let mut first_error = Ok(());
        for &change in changes {
            let (key, changed) = match change {
                CaptureChange::Insert(key) => (key, self.keys.insert(&key.to_bytes(), &[1])),
                CaptureChange::Remove(key) => (key, self.keys.remove(&key.to_bytes()).map(drop)),
            };
            if let Err(source) = changed {
                first_error = first_error.and(Err(CaptureError::Key { key, source }));
            }
        }
        first_error
    }

    fn load_with(kind: CaptureKind, taken: Taken) -> Result<Capture, CaptureError> {
        let keys = HashMap::create("lvs_capture", MOST_KEYS).map_err(CaptureError::Map)?;
        let pulse = HashMap::create("lvs_pulse", 1).map_err(CaptureError::Map)?;
        let program = load_program(kind, taken, &keys, &pulse)?;
        Ok(Capture {
            kind,
            keys,
            pulse,
            program,
        })
    }

    fn load_program(&self, kind: CaptureKind, taken: Taken) -> Result<Program, CaptureError> {
        load_program(kind, taken, &self.keys, &self.pulse)
    }
}

fn load_program(
    kind: CaptureKind,
    taken: Taken,
    keys: &HashMap<KEY_BYTES, 1>,
    pulse: &HashMap<4, 8>,
) -> Result<Program, CaptureError> {
    let life = match kind {
        CaptureKind::Clsact => Life::Pulse,
        CaptureKind::Auto | CaptureKind::Tcx => Life::Attached,
    };
    let code = program(taken, life)?;
    Ok(Program::load(NAME, &code, &[keys.as_fd(), pulse.as_fd()])?)
}

/// The kernel does not know `BPF_LINK_CREATE` for tcx.
pub(super) fn is_unknown(error: &SyscallError) -> bool {
    matches!(error.errno(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}

/// Of program and filter.
const NAME: &str = "lvs_capture";

/// As a filter, behind those that tc(8) adds without a word about their priority: these count down from 49152.
const FILTER: Place = Place {
    hook: Hook::Ingress,
    priority: 49_153,
    name: NAME,
};

/// Four times in the life of a time.
const BEAT: Duration = Duration::from_millis(500);

/// Services, real servers behind NAT and their ports, and the host's addresses: 16 bytes each of
/// an index, and about 80 for a key that is there.
const MOST_KEYS: u32 = 1 << 16;

#[cfg(test)]
mod tests;
