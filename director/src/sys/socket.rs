//! What the AF_PACKET sockets need: opening, options, addresses.

use std::ffi::c_int;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use shared::sys::{SyscallError, check};

/// The call name in errors, and the option itself.
pub(super) struct Name {
    pub(super) call: &'static str,
    pub(super) level: c_int,
    pub(super) option: c_int,
}

/// Short for a [`Name`] of `SOL_PACKET` or `SOL_SOCKET`.
macro_rules! option {
    ($level:ident, $option:ident) => {
        &$crate::sys::socket::Name {
            call: concat!("setsockopt(", stringify!($option), ")"),
            level: libc::$level,
            option: libc::$option,
        }
    };
}
pub(super) use option;

/// An AF_PACKET socket of whole frames that receives nothing before it is bound (protocol 0).
pub(super) fn open() -> Result<OwnedFd, SyscallError> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket(2) takes plain numbers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    check("socket(AF_PACKET)", fd)?;
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn set<T: Copy>(fd: &OwnedFd, name: &Name, value: T) -> Result<(), SyscallError> {
    let from = ptr::from_ref(&value).cast();
    let size = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `size` bytes at `from`, which is `value`, alive until after the
    // call; what pointers a value has (SO_ATTACH_FILTER) its caller answers for.
    let returned = unsafe { libc::setsockopt(fd.as_raw_fd(), name.level, name.option, from, size) };
    check(name.call, returned).map(drop)
}

fn interface(ifindex: u32, protocol: u16) -> libc::sockaddr_ll {
    // SAFETY: sockaddr_ll is plain data, for which zeros are valid.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = ifindex as i32;
    address
}

/// Ties a socket to an interface: what is sent goes out there, and `protocol` (0: nothing) is
/// received from there.
pub(super) fn bind(fd: &OwnedFd, ifindex: u32, protocol: u16) -> Result<(), SyscallError> {
    let address = interface(ifindex, protocol);
    let from = ptr::from_ref(&address).cast();
    let size = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the kernel reads `size` bytes at `from`, which is `address`, alive until after the
    // call.
    let returned = unsafe { libc::bind(fd.as_raw_fd(), from, size) };
    check("bind(AF_PACKET)", returned).map(drop)
}

/// The kernel's number of a socket, unique on this host (`SO_COOKIE`).
///
/// # Errors
/// None that getsockopt(2) is known to give here.
pub(super) fn cookie(fd: &OwnedFd) -> Result<u64, SyscallError> {
    let mut cookie = 0_u64;
    let mut size = size_of_val(&cookie) as libc::socklen_t;
    let to = ptr::from_mut(&mut cookie).cast();
    let (level, name) = (libc::SOL_SOCKET, libc::SO_COOKIE);
    // SAFETY: the kernel writes at most `size` bytes to `to`, which is `cookie`.
    let returned = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, to, &raw mut size) };
    check("getsockopt(SO_COOKIE)", returned)?;
    Ok(cookie)
}

/// What came, and what was lost, since this was asked last.
///
/// # Errors
/// None that getsockopt(2) is known to give here.
pub(super) fn statistics(fd: &OwnedFd) -> Result<libc::tpacket_stats, SyscallError> {
    // SAFETY: tpacket_stats is plain data, for which zeros are valid.
    let mut since_last: libc::tpacket_stats = unsafe { zeroed() };
    let mut size = size_of_val(&since_last) as libc::socklen_t;
    let to = ptr::from_mut(&mut since_last).cast();
    let (level, name) = (libc::SOL_PACKET, libc::PACKET_STATISTICS);
    // SAFETY: the kernel writes at most `size` bytes to `to`, which is `since_last`.
    let returned = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, to, &raw mut size) };
    check("getsockopt(PACKET_STATISTICS)", returned)?;
    Ok(since_last)
}

/// Lets a socket receive only what this program of the classic BPF accepts.
pub(super) fn attach_filter(
    fd: &OwnedFd,
    program: &[libc::sock_filter],
) -> Result<(), SyscallError> {
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut(),
    };
    set(fd, option!(SOL_SOCKET, SO_ATTACH_FILTER), program)
}

/// Lets a socket receive only what leaves by its interface.
pub(super) fn only_outgoing(fd: &OwnedFd) -> Result<(), SyscallError> {
    let outgoing = u32::from(libc::PACKET_OUTGOING);
    let program = [
        load(libc::SKF_AD_PKTTYPE),
        equal(outgoing, 0, 1),
        ACCEPT,
        REJECT,
    ];
    attach_filter(fd, &program)
}

/// A step of a filter: loads what the kernel knows of a packet (`SKF_AD_*`).
pub(super) fn load(what: i32) -> libc::sock_filter {
    step(BPF_LOAD_WORD, (libc::SKF_AD_OFF + what) as u32, 0, 0)
}

/// A step of a filter: loads two bytes of the frame.
pub(super) const fn load_half(at: u32) -> libc::sock_filter {
    step(BPF_LOAD_HALF, at, 0, 0)
}

/// A step of a filter: skips so many steps if it is this value, or so many if not.
pub(super) const fn equal(value: u32, yes: u8, no: u8) -> libc::sock_filter {
    step(BPF_JUMP_EQUAL, value, yes, no)
}

/// The last step of a filter: the whole packet.
pub(super) const ACCEPT: libc::sock_filter = step(BPF_RETURN, u32::MAX, 0, 0);
/// The last step of a filter: nothing of it.
pub(super) const REJECT: libc::sock_filter = step(BPF_RETURN, 0, 0, 0);

const fn step(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    let code = code as u16;
    libc::sock_filter { code, jt, jf, k }
}

const BPF_LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const BPF_LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const BPF_JUMP_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const BPF_RETURN: u32 = libc::BPF_RET | libc::BPF_K;
