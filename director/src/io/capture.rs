//! The capture in the kernel: one map of keys and one program, attached to each interface.

use std::os::fd::AsFd;

use shared::sys::SyscallError;
use shared::sys::bpf::{AssembleError, HashMap, LoadError, Program, TcxLink};

use crate::core::capture::{CaptureChange, CaptureKey, KEY_BYTES, Taken, program};

/// The loaded program and its map. Links outlive it: they hold the program, and it the map.
#[derive(Debug)]
pub struct Capture {
    keys: HashMap<KEY_BYTES, 1>,
    program: Program,
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
    #[error("no capture on interface {ifindex}: {source}; Linux 6.6 or later is needed for tcx")]
    Attach {
        /// The interface.
        ifindex: u32,
        /// What the kernel said.
        source: SyscallError,
    },
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
    /// Makes the map, still empty, and loads the program.
    ///
    /// # Errors
    /// [`CaptureError::Map`] and [`CaptureError::Load`], mostly for want of privileges.
    pub fn load() -> Result<Capture, CaptureError> {
        Capture::load_with(Taken::ToRing)
    }

    /// Begins to take what is ours from an interface; ends when the link is dropped. The ring must
    /// be open before, or frames are lost in between.
    ///
    /// # Errors
    /// [`CaptureError::Attach`] on kernels before 6.6, or when the interface is gone.
    pub fn attach(&self, ifindex: u32) -> Result<TcxLink, CaptureError> {
        TcxLink::attach_ingress(&self.program, ifindex)
            .map_err(|source| CaptureError::Attach { ifindex, source })
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

    fn load_with(taken: Taken) -> Result<Capture, CaptureError> {
        let keys = HashMap::create("lvs_capture", MOST_KEYS).map_err(CaptureError::Map)?;
        let program = Program::load("lvs_capture", &program(taken)?, &[keys.as_fd()])?;
        Ok(Capture { keys, program })
    }
}

/// Services, real servers behind NAT and their ports, and the host's addresses: 16 bytes each of
/// an index, and about 80 for a key that is there.
const MOST_KEYS: u32 = 1 << 16;

#[cfg(test)]
mod tests;
