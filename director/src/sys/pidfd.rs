//! A process as a file descriptor (`pidfd_open`, Linux 5.3): readable when it has ended.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// The descriptor of a process that has not been waited for.
///
/// # Errors
/// What the kernel says; there is no such process, or it cannot do that.
pub fn open(process: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
    let fd = i32::try_from(fd).expect("the kernel counts descriptors in an int");
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
