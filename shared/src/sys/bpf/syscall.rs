//! bpf(2): its commands, and the part of `union bpf_attr` that each one reads.
//!
//! The kernel takes a shorter union than its own and reads the rest as zeros, so each command
//! passes just its structure (`include/uapi/linux/bpf.h`).

use std::ffi::c_long;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::sys::{SyscallError, check};

/// A structure that is one member of `union bpf_attr`, and the command it is for.
///
/// # Safety
/// It must be laid out as the kernel reads it for `COMMAND`, without padding, and every pointer
/// in it must be good for what that command does, at every moment that [`bpf`] is called with it.
pub(super) unsafe trait Command {
    /// `enum bpf_cmd`.
    const COMMAND: u32;
    /// What errors call it.
    const NAME: &'static str;
}

/// `BPF_MAP_CREATE`.
#[repr(C)]
pub(super) struct MapCreate {
    pub(super) map_type: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) map_flags: u32,
    pub(super) inner_map_fd: u32,
    pub(super) numa_node: u32,
    pub(super) map_name: ObjectName,
}

/// `BPF_MAP_*_ELEM`.
#[repr(C)]
pub(super) struct MapElement<const COMMAND: u32> {
    pub(super) map_fd: u32,
    pub(super) zero: u32,
    pub(super) key: u64,
    pub(super) value: u64,
    pub(super) flags: u64,
}

/// `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
pub(super) struct ProgLoad {
    pub(super) prog_type: u32,
    pub(super) insn_cnt: u32,
    pub(super) insns: u64,
    pub(super) license: u64,
    pub(super) log_level: u32,
    pub(super) log_size: u32,
    pub(super) log_buf: u64,
    pub(super) kern_version: u32,
    pub(super) prog_flags: u32,
    pub(super) prog_name: ObjectName,
    pub(super) prog_ifindex: u32,
    pub(super) expected_attach_type: u32,
    pub(super) prog_btf_fd: u32,
    pub(super) func_info_rec_size: u32,
    pub(super) func_info: u64,
    pub(super) func_info_cnt: u32,
    pub(super) line_info_rec_size: u32,
    pub(super) line_info: u64,
    pub(super) line_info_cnt: u32,
    pub(super) attach_btf_id: u32,
    pub(super) attach_prog_fd: u32,
    pub(super) core_relo_cnt: u32,
    pub(super) fd_array: u64,
}

/// `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Default)]
pub(super) struct ProgTestRun {
    pub(super) prog_fd: u32,
    pub(super) retval: u32,
    pub(super) data_size_in: u32,
    pub(super) data_size_out: u32,
    pub(super) data_in: u64,
    pub(super) data_out: u64,
    pub(super) repeat: u32,
    pub(super) duration: u32,
    pub(super) ctx_size_in: u32,
    pub(super) ctx_size_out: u32,
    pub(super) ctx_in: u64,
    pub(super) ctx_out: u64,
    pub(super) flags: u32,
    pub(super) cpu: u32,
    pub(super) batch_size: u32,
    pub(super) zero: u32,
}

/// `BPF_LINK_CREATE` for tcx.
#[repr(C)]
pub(super) struct LinkCreateTcx {
    pub(super) prog_fd: u32,
    pub(super) target_ifindex: u32,
    pub(super) attach_type: u32,
    pub(super) flags: u32,
    pub(super) relative_fd: u32,
    pub(super) zero: u32,
    pub(super) expected_revision: u64,
}

pub(super) const MAP_LOOKUP: u32 = 1;
pub(super) const MAP_UPDATE: u32 = 2;
pub(super) const MAP_DELETE: u32 = 3;

// SAFETY: laid out as the anonymous structure for BPF_MAP_CREATE; no pointers.
unsafe impl Command for MapCreate {
    const COMMAND: u32 = 0;
    const NAME: &'static str = "bpf(BPF_MAP_CREATE)";
}

// SAFETY: laid out as the structure for BPF_MAP_*_ELEM; `map` makes the pointers from arrays of
// the map's own key and value size.
unsafe impl<const C: u32> Command for MapElement<C> {
    const COMMAND: u32 = C;
    const NAME: &'static str = match C {
        MAP_LOOKUP => "bpf(BPF_MAP_LOOKUP_ELEM)",
        MAP_UPDATE => "bpf(BPF_MAP_UPDATE_ELEM)",
        _ => "bpf(BPF_MAP_DELETE_ELEM)",
    };
}

// SAFETY: laid out as the structure for BPF_PROG_LOAD up to fd_array; `program` makes the
// pointers from slices together with their lengths.
unsafe impl Command for ProgLoad {
    const COMMAND: u32 = 5;
    const NAME: &'static str = "bpf(BPF_PROG_LOAD)";
}

// SAFETY: laid out as `test`, whose own end is padding; `program` makes the
// pointers from slices together with their lengths.
unsafe impl Command for ProgTestRun {
    const COMMAND: u32 = 10;
    const NAME: &'static str = "bpf(BPF_PROG_TEST_RUN)";
}

// SAFETY: laid out as `link_create` with its member `tcx`; no pointers.
unsafe impl Command for LinkCreateTcx {
    const COMMAND: u32 = 28;
    const NAME: &'static str = "bpf(BPF_LINK_CREATE)";
}

/// Makes the call; results come back in `attr` or as the value returned.
pub(super) fn bpf<C: Command>(attr: &mut C) -> Result<c_long, SyscallError> {
    let size = size_of::<C>();
    let attr: *mut C = attr;
    // SAFETY: `attr` is a live, exclusive structure of `size` bytes, of the layout that this
    // command reads and writes, and its pointers are good (contract of `Command`).
    let returned = unsafe { libc::syscall(libc::SYS_bpf, C::COMMAND, attr, size) };
    check(C::NAME, returned)
}

/// Makes a call that returns a new descriptor.
pub(super) fn bpf_fd<C: Command>(attr: &mut C) -> Result<OwnedFd, SyscallError> {
    let fd = bpf(attr)?;
    // SAFETY: the kernel has just opened this descriptor for us (close-on-exec, as all of bpf's),
    // and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// A name of a map or program as tools such as bpftool show it.
pub(super) type ObjectName = [u8; 16];

/// The first 15 bytes of `name`.
pub(super) fn object_name(name: &str) -> ObjectName {
    let mut bytes = [0; 16];
    for (to, from) in bytes[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    bytes
}
