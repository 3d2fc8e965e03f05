//! What a network interface does for the kernel (ethtool's ioctls).

use std::mem::zeroed;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::ptr;

use super::{SyscallError, check};

/// `struct ethtool_value`
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Whether an interface fills in the checksums of what is sent by it (`ethtool -K ... tx`): frames then leave the
/// kernel without them.
///
/// # Errors
/// ENODEV: there is no such interface; EOPNOTSUPP: its driver does not say.
pub fn fills_in_checksums(interface: &str) -> Result<bool, SyscallError> {
    let any = UdpSocket::bind("127.0.0.1:0").or_else(|_| UdpSocket::bind("[::1]:0"));
    let socket = any.map_err(|source| SyscallError {
        call: "socket",
        source,
    })?;
    let mut value = Value {
        command: ETHTOOL_GTXCSUM,
        data: 0,
    };
    // SAFETY: struct ifreq is plain data, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = ptr::from_mut(&mut value).cast();
    let to = ptr::from_mut(&mut request);
    // SAFETY: SIOCETHTOOL reads the name and the command, and writes the answer to `value`; both live until after
    // the call.
    let returned = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, to) };
    check("ioctl(ETHTOOL_GTXCSUM)", returned)?;
    Ok(value.data != 0)
}

/// include/uapi/linux/ethtool.h
const ETHTOOL_GTXCSUM: u32 = 0x16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::namespace::Namespace;
    use std::process::Command;

    #[test]
    fn a_device_says_whether_it_fills_in_checksums() {
        let in_namespace = || {
            let shell = |script: &str| {
                let status = Command::new("sh").args(["-ec", script]).status().unwrap();
                assert!(status.success(), "{script}");
            };
            shell("ip link set lo up; ip link add v0 type veth peer name v1");
            assert!(fills_in_checksums("v0").unwrap());
            shell("ethtool -K v0 tx off >/dev/null");
            assert!(!fills_in_checksums("v0").unwrap());
            assert!(fills_in_checksums("v1").unwrap());
            let absent = fills_in_checksums("v2").unwrap_err();
            assert_eq!(absent.errno(), Some(libc::ENODEV));
        };
        Namespace::new().unwrap().run(in_namespace).unwrap();
    }
}
