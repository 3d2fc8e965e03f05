//! A TUN device that is written to: how the director gives packets to its own host.
//!
//! Frames on the descriptor are `[virtio_net_hdr 10][IP packet]`, checksum offsets counted from
//! the IP header: a packet captured with a checksum still to be completed, or larger than a
//! segment, goes in as it is. Without the header it would be a checksum error.
//!
//! The packet arrives when the device is up, has an address of its own (a link-local /32 does),
//! and has `rp_filter=2` and `accept_local=1`; that is for `host` to set.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::{SyscallError, check};

/// A TUN device. It is removed when this is dropped.
#[derive(Debug)]
pub struct Tun {
    file: File,
    name: String,
    segmentation: Segmentation,
}

/// Which packets larger than a segment the host may route into the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segmentation {
    /// TCP and UDP (6.2 and later).
    TcpAndUdp,
    /// TCP only.
    Tcp,
}

impl Tun {
    /// Makes a device. `name` may hold one `%d`, which becomes the first free number.
    ///
    /// # Errors
    /// ENOENT without the tun driver; EPERM without `CAP_NET_ADMIN`; EBUSY when there is another
    /// device of that name; EINVAL for a name of more than 15 bytes.
    pub fn open(name: &str) -> Result<Tun, SyscallError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(DEVICE)
            .map_err(|source| SyscallError {
                call: "open(/dev/net/tun)",
                source,
            })?;
        let name = create(&file, name)?;
        let segmentation = set_offloads(&file)?;
        Ok(Tun {
            file,
            name,
            segmentation,
        })
    }

    /// The name the device got.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the kernel agreed to.
    pub fn segmentation(&self) -> Segmentation {
        self.segmentation
    }

    /// Gives the host one packet: `[virtio_net_hdr 10][IP packet]`.
    ///
    /// # Errors
    /// EIO while the device is down; EINVAL for a header that does not fit its packet.
    pub fn write(&self, frame: &[u8]) -> Result<(), SyscallError> {
        // A packet goes in whole or not at all: after a success `write_all` has nothing left.
        (&self.file)
            .write_all(frame)
            .map_err(|source| SyscallError {
                call: "write(tun)",
                source,
            })
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// `TUNSETIFF`: names the device and makes it.
fn create(file: &File, name: &str) -> Result<String, SyscallError> {
    let mut request = ifreq(name).ok_or_else(|| SyscallError {
        call: "ioctl(TUNSETIFF)",
        source: std::io::Error::from_raw_os_error(libc::EINVAL),
    })?;
    request.ifr_ifru.ifru_flags =
        (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    let to: *mut libc::ifreq = &mut request;
    // SAFETY: TUNSETIFF reads and writes one struct ifreq, which `to` is.
    let returned = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, to) };
    check("ioctl(TUNSETIFF)", returned)?;
    Ok(interface_name(&request))
}

/// `TUNSETOFFLOAD`: what packets from the host's side need not be completed for.
fn set_offloads(file: &File) -> Result<Segmentation, SyscallError> {
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    let udp = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    let set = |offloads: libc::c_uint| {
        let offloads = libc::c_ulong::from(offloads);
        // SAFETY: TUNSETOFFLOAD takes a plain number.
        let returned = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, offloads) };
        check("ioctl(TUNSETOFFLOAD)", returned)
    };
    match set(tcp | udp) {
        Ok(_) => Ok(Segmentation::TcpAndUdp),
        Err(_) => set(tcp).map(|_| Segmentation::Tcp),
    }
}

/// A request for the device `name`; `None` when it has no room for it.
fn ifreq(name: &str) -> Option<libc::ifreq> {
    // SAFETY: struct ifreq is plain data, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { zeroed() };
    let room = request.ifr_name.len() - 1;
    if name.is_empty() || name.len() > room || name.contains('\0') {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Some(request)
}

fn interface_name(request: &libc::ifreq) -> String {
    let bytes = request.ifr_name.map(|byte| byte as u8);
    let name = CStr::from_bytes_until_nul(&bytes).unwrap_or_default();
    name.to_string_lossy().into_owned()
}

const DEVICE: &str = "/dev/net/tun";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::namespace::Namespace;
    use std::net::UdpSocket;
    use std::process::Command;
    use std::time::Duration;

    #[test]
    fn the_kernel_numbers_devices() {
        let in_namespace = || {
            let first = Tun::open("lvs%d").unwrap();
            let second = Tun::open("lvs%d").unwrap();
            assert_eq!((first.name(), second.name()), ("lvs0", "lvs1"));
            let busy = Tun::open("lvs0").unwrap_err();
            assert_eq!(busy.errno(), Some(libc::EBUSY));
            let long = Tun::open("sixteen-bytes-or").unwrap_err();
            assert_eq!(long.errno(), Some(libc::EINVAL));
        };
        Namespace::new().unwrap().run(in_namespace).unwrap();
    }

    #[test]
    fn a_packet_with_a_partial_checksum_reaches_a_socket_of_the_host() {
        let in_namespace = || {
            let tun = Tun::open("lvs%d").unwrap();
            let script = "ip link set lo up
                ip address add 192.0.2.1/32 dev lo
                ip address add 169.254.77.1/32 dev lvs0
                sysctl -qw net.ipv4.conf.lvs0.rp_filter=2 net.ipv4.conf.lvs0.accept_local=1
                ip link set lvs0 up
                ip route add default dev lvs0";
            let status = Command::new("sh").args(["-ec", script]).status().unwrap();
            assert!(status.success());
            let socket = UdpSocket::bind("192.0.2.1:5300").unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            tun.write(&UDP_TO_5300).unwrap();
            let mut buffer = [0; 64];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"hello!");
            assert_eq!(from.to_string(), "198.51.100.7:40000");
        };
        Namespace::new().unwrap().run(in_namespace).unwrap();
    }

    /// 198.51.100.7:40000 to 192.0.2.1:5300, the UDP checksum left to be completed.
    #[rustfmt::skip]
    const UDP_TO_5300: [u8; 44] = [
        1, 0, 0, 0, 0, 0, 20, 0, 6, 0, // NEEDS_CSUM, csum_start 20, csum_offset 6
        0x45, 0, 0, 34, 0, 1, 0, 0, 64, 17, 0x8e, 0x8e, 198, 51, 100, 7, 192, 0, 2, 1,
        0x9c, 0x40, 0x14, 0xb4, 0, 14, 0xec, 0x5b,
        b'h', b'e', b'l', b'l', b'o', b'!',
    ];
}
