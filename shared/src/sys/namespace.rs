//! Network namespaces made by the program itself: where tests and the laboratory live.

use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::{io, process, thread};

use super::{SyscallError, check};

/// A network namespace. It goes, with every device in it, when the last descriptor, thread and
/// process in it is gone; nothing has to be cleaned up.
#[derive(Debug)]
pub struct Namespace {
    fd: OwnedFd,
}

impl Namespace {
    /// A new namespace with nothing but a loopback device that is down.
    ///
    /// # Errors
    /// EPERM without `CAP_SYS_ADMIN`.
    pub fn new() -> Result<Namespace, SyscallError> {
        let made = thread::scope(|scope| scope.spawn(unshared).join());
        made.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs `work` in a thread of its own inside the namespace; processes that it starts are
    /// inside too. A panic in it goes on here.
    ///
    /// # Errors
    /// EPERM without `CAP_SYS_ADMIN`.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, SyscallError> {
        let done = thread::scope(|scope| {
            let inside = || {
                self.enter()?;
                Ok(work())
            };
            scope.spawn(inside).join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Moves the calling thread into the namespace, for good.
    ///
    /// # Errors
    /// EPERM without `CAP_SYS_ADMIN`.
    pub fn enter(&self) -> Result<(), SyscallError> {
        // SAFETY: setns(2) takes two plain numbers; it changes only the calling thread.
        let returned = unsafe { libc::setns(self.fd.as_raw_fd(), libc::CLONE_NEWNET) };
        check("setns", returned).map(drop)
    }

    /// A path by which other programs (`ip link set dev veth1 netns PATH`) find the namespace
    /// while this process lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!(
            "/proc/{}/fd/{}",
            process::id(),
            self.fd.as_raw_fd()
        ))
    }
}

/// The kernel's number for the network namespace of the calling thread, which it gives to no other
/// one until the next boot; the inode number of a namespace, by contrast, is soon used again.
///
/// # Errors
/// ENOPROTOOPT before Linux 5.14.
pub fn cookie() -> Result<u64, SyscallError> {
    let call = "getsockopt SO_NETNS_COOKIE";
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .map_err(|source| SyscallError { call, source })?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, which has as many, and writes
    // their number to `length`; both outlive the call.
    let returned = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    check(call, returned)?;
    Ok(cookie)
}

fn unshared() -> Result<Namespace, SyscallError> {
    // SAFETY: unshare(2) takes a plain number; with this flag it changes only the calling thread.
    let returned = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    check("unshare", returned)?;
    let own = "/proc/thread-self/ns/net";
    let file = File::open(own).map_err(|source: io::Error| SyscallError { call: own, source })?;
    Ok(Namespace { fd: file.into() })
}

/// Of asm-generic/socket.h; the libc crate has it not.
const SO_NETNS_COOKIE: libc::c_int = 71;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_namespaces_have_the_same_cookie() {
        let one = Namespace::new().unwrap();
        let first = one.run(cookie).unwrap().unwrap();
        assert_eq!(one.run(cookie).unwrap().unwrap(), first);
        drop(one);
        let other = Namespace::new().unwrap();
        assert_ne!(other.run(cookie).unwrap().unwrap(), first);
    }

    #[test]
    fn what_happens_inside_stays_inside() {
        let devices = || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        let namespace = Namespace::new().unwrap();
        let lines = |text: String| text.lines().count();
        assert_eq!(lines(namespace.run(devices).unwrap()), 3);
        namespace
            .run(|| {
                let path = namespace.path();
                let status = process::Command::new("ip")
                    .args(["link", "add", "one", "type", "veth", "peer", "name", "two"])
                    .arg("netns")
                    .arg(path)
                    .status();
                assert!(status.unwrap().success());
            })
            .unwrap();
        assert_eq!(lines(namespace.run(devices).unwrap()), 5);
    }
}
