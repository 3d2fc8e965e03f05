//! What neighbours answer, on all interfaces: ARP replies, and advertisements of neighbour discovery.

use std::mem::zeroed;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

use shared::sys::{SyscallError, check};
use shared::wire::ndp;

use super::socket;

/// The socket of one protocol.
#[derive(Debug)]
pub struct AnswerTap {
    fd: OwnedFd,
}

impl AnswerTap {
    /// Hears ARP replies (RFC 826).
    ///
    /// # Errors
    /// EPERM without `CAP_NET_RAW`.
    pub fn of_arp() -> Result<AnswerTap, SyscallError> {
        let replies = [
            socket::load_half(OPERATION_AT),
            socket::equal(REPLY, 0, 1),
            socket::ACCEPT,
            socket::REJECT,
        ];
        AnswerTap::open(libc::ETH_P_ARP, &replies)
    }

    /// Hears neighbour advertisements (RFC 4861 section 4.4).
    ///
    /// # Errors
    /// EPERM without `CAP_NET_RAW`.
    pub fn of_neighbour_discovery() -> Result<AnswerTap, SyscallError> {
        let next_header = u32::from(ndp::ICMPV6) << 8 | u32::from(ndp::HOP_LIMIT);
        let advertisements = [
            socket::load_half(NEXT_HEADER_AT),
            socket::equal(next_header, 0, 3),
            socket::load_half(TYPE_AT),
            socket::equal(u32::from(ndp::ADVERTISEMENT) << 8, 0, 1),
            socket::ACCEPT,
            socket::REJECT,
        ];
        AnswerTap::open(libc::ETH_P_IPV6, &advertisements)
    }

    fn open(protocol: i32, filter: &[libc::sock_filter]) -> Result<AnswerTap, SyscallError> {
        let fd = socket::open()?;
        // First, so that nothing else comes.
        socket::attach_filter(&fd, filter)?;
        socket::bind(&fd, ALL_INTERFACES, protocol as u16)?;
        Ok(AnswerTap { fd })
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

impl AsRawFd for AnswerTap {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

const ALL_INTERFACES: u32 = 0;
/// Behind the Ethernet header (RFC 826).
const OPERATION_AT: u32 = 14 + 6;
/// `ares_op$REPLY`
const REPLY: u32 = 2;
/// Behind the Ethernet header: the next header, with the hop limit; and without extension headers in front of it,
/// which senders of advertisements have no use for, an ICMPv6 type with its code.
const NEXT_HEADER_AT: u32 = 14 + 6;
const TYPE_AT: u32 = 14 + 40;
