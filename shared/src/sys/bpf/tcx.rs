//! tcx: a program at a device's ingress or egress, held there by a descriptor.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::program::Program;
use super::syscall::{LinkCreateTcx, bpf_fd};
use crate::sys::SyscallError;

/// What a tcx program returns so that the next one, and then the host, sees the frame too.
/// `TC_ACT_OK` (0) would end the row, and with it the administrator's own programs.
pub const TCX_NEXT: i32 = -1;

/// A program attached to a device. It is detached when this is dropped, and so when the process
/// ends, however that happens.
#[derive(Debug)]
pub struct TcxLink {
    _fd: OwnedFd,
    ifindex: u32,
}

impl TcxLink {
    /// Attaches `program` to the ingress of a device of this network namespace, behind the
    /// programs that are there already. Needs Linux 6.6.
    ///
    /// # Errors
    /// EINVAL on older kernels; ENODEV when there is no such device; EPERM without
    /// `CAP_NET_ADMIN`.
    pub fn attach_ingress(program: &Program, ifindex: u32) -> Result<TcxLink, SyscallError> {
        TcxLink::attach(program, ifindex, ATTACH_TCX_INGRESS, BEHIND_ALL)
    }

    /// Attaches `program` to the egress of a device of this network namespace, before the programs that are
    /// there already: any of them could end the row. Needs Linux 6.6.
    ///
    /// # Errors
    /// As of [`attach_ingress`](Self::attach_ingress).
    pub fn attach_egress(program: &Program, ifindex: u32) -> Result<TcxLink, SyscallError> {
        TcxLink::attach(program, ifindex, ATTACH_TCX_EGRESS, BEFORE_ALL)
    }

    fn attach(
        program: &Program,
        ifindex: u32,
        attach_type: u32,
        flags: u32,
    ) -> Result<TcxLink, SyscallError> {
        let fd = bpf_fd(&mut LinkCreateTcx {
            prog_fd: program.as_fd().as_raw_fd() as u32,
            target_ifindex: ifindex,
            attach_type,
            flags,
            relative_fd: 0,
            zero: 0,
            expected_revision: 0,
        })?;
        Ok(TcxLink { _fd: fd, ifindex })
    }

    /// The device.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }
}

const ATTACH_TCX_INGRESS: u32 = 46;
const ATTACH_TCX_EGRESS: u32 = 47;
const BEHIND_ALL: u32 = 0;
/// `BPF_F_BEFORE`, of nothing in particular.
const BEFORE_ALL: u32 = 1 << 3;
