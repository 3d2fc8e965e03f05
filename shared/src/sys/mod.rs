//! System calls that need `unsafe`, one kernel concept per file.
//!
//! | module | what is in it |
//! |---|---|
//! | [`bpf`] | an assembler for BPF programs; maps, programs and tcx links as owned descriptors |
//! | [`namespace`] | network namespaces: for tests and for the laboratory |
//! | [`offload`] | what an interface does for the kernel |
//! | [`prefetch`] | asking for memory before it is needed |
//! | [`tun`] | a TUN device that carries checksum and segmentation offloads |
#![allow(unsafe_code)]

pub mod bpf;
pub mod namespace;
pub mod offload;
pub mod prefetch;
pub mod tun;

use std::io;

/// A system call that failed: its name, and what the kernel said.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {source}")]
pub struct SyscallError {
    /// The call, with the command or option it was made for.
    pub call: &'static str,
    /// What the kernel said.
    pub source: io::Error,
}

impl SyscallError {
    /// The error of `call`, which has just failed in this thread (`errno`).
    pub fn last(call: &'static str) -> SyscallError {
        SyscallError {
            call,
            source: io::Error::last_os_error(),
        }
    }

    /// The kernel's error number.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

/// What a system call returned, or its error when that is -1.
///
/// # Errors
/// `errno` under the name `call`.
pub fn check<T: From<i8> + PartialEq>(call: &'static str, returned: T) -> Result<T, SyscallError> {
    if returned == T::from(-1) {
        Err(SyscallError::last(call))
    } else {
        Ok(returned)
    }
}
