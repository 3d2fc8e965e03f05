//! ARP answers that come in, on all interfaces.

use std::mem::zeroed;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

use shared::sys::{SyscallError, check};

use super::socket;

/// The socket.
#[derive(Debug)]
pub struct ArpTap {
    fd: OwnedFd,
}

impl ArpTap {
    /// Opens it.
    ///
    /// # Errors
    /// EPERM without `CAP_NET_RAW`.
    pub fn open() -> Result<ArpTap, SyscallError> {
        let fd = socket::open()?;
        // First, so that nothing else comes.
        let answers = [
            socket::load_half(OPERATION_AT),
            socket::equal(REPLY, 0, 1),
            socket::ACCEPT,
            socket::REJECT,
        ];
        socket::attach_filter(&fd, &answers)?;
        socket::bind(&fd, ALL_INTERFACES, libc::ETH_P_ARP as u16)?;
        Ok(ArpTap { fd })
    }

    /// The next frame that came, cut to the buffer, and the kernel's number of the interface that it came by.
    /// None: nothing more has come.
    ///
    /// # Errors
    /// ENETDOWN once when an interface has gone down.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Option<(u32, usize)>, SyscallError> {
        // SAFETY: sockaddr_ll is plain data, for which zeros are valid.
        let mut from: libc::sockaddr_ll = unsafe { zeroed() };
        let mut size = size_of_val(&from) as libc::socklen_t;
        // SAFETY: the kernel writes at most as many bytes to `buffer` and to `from` as each has; both live
        // until after the call.
        let received = unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
                ptr::from_mut(&mut from).cast(),
                &raw mut size,
            )
        };
        match check("recvfrom(AF_PACKET)", received as i32) {
            Ok(length) => Ok(Some((
                from.sll_ifindex as u32,
                length.unsigned_abs() as usize,
            ))),
            Err(error) if error.errno() == Some(libc::EAGAIN) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsRawFd for ArpTap {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

const ALL_INTERFACES: u32 = 0;
/// Behind the Ethernet header (RFC 826).
const OPERATION_AT: u32 = 14 + 6;
/// `ares_op$REPLY`
const REPLY: u32 = 2;
