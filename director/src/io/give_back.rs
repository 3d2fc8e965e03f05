//! The way back to the host: a TUN device that frames are written to which were taken and are none
//! of the director's after all.
//!
//! The device has a link-local address, `rp_filter=2` and `accept_local=1`: then what is written
//! arrives whatever the host's other settings are (without an address it is lost for every
//! `rp_filter` but 0). All of it vanishes with the process.

use std::net::Ipv4Addr;

use shared::host::netlink::{Link, Netlink, NetlinkError, NewAddress, OUR_PROTOCOL, Prefix, Scope};
use shared::host::sysctl::{Sysctl, SysctlError};
use shared::sys::SyscallError;
use shared::sys::tun::Tun;

/// The device. See the [module](self).
#[derive(Debug)]
pub(super) struct GiveBack {
    tun: Tun,
    ifindex: u32,
}

/// Why the device cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum GiveBackError {
    /// No `/dev/net/tun`, or no right to it.
    #[error("the TUN device through which frames go back to the host: {0}")]
    Open(#[from] SyscallError),
    /// It was refused an address or an MTU.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// It was refused a setting.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// Somebody removed it at once.
    #[error("the TUN device {0} vanished while it was set up")]
    Vanished(String),
}

impl GiveBack {
    /// Makes the device.
    pub(super) fn open(netlink: &mut Netlink) -> Result<GiveBack, GiveBackError> {
        let tun = Tun::open(NAME)?;
        let name = tun.name();
        let Some(Link { index: ifindex, .. }) = netlink.link_by_name(name)? else {
            return Err(GiveBackError::Vanished(name.to_owned()));
        };
        Sysctl::ipv4_conf(name, "rp_filter").write("2")?;
        Sysctl::ipv4_conf(name, "accept_local").write("1")?;
        // Where new devices have no IPv6, those that the administrator gave it have frames to give back.
        match Sysctl::ipv6_conf(name, "disable_ipv6").write("0") {
            Err(error) if !error.is_missing() => return Err(error.into()),
            _ => {}
        }
        netlink.set_link_mtu(ifindex, MTU)?;
        netlink.add_address(&NewAddress {
            link: ifindex,
            prefix: Prefix::host(address(ifindex)),
            label: None,
            scope: Scope::Link,
            protocol: OUR_PROTOCOL,
        })?;
        netlink.set_link_up(ifindex)?;
        Ok(GiveBack { tun, ifindex })
    }

    /// The kernel's number of the device, and its name.
    pub(super) fn device(&self) -> (u32, &str) {
        (self.ifindex, self.tun.name())
    }

    /// What the host forwards of an interface's frames it shall forward of ours too.
    pub(super) fn forward_like(&self, interface: &str) -> Result<(), SysctlError> {
        let name = self.tun.name();
        if Sysctl::ipv4_conf(interface, "forwarding").read()? == "1" {
            Sysctl::ipv4_conf(name, "forwarding").write("1")?;
        }
        // Since Linux 6.17, and where the host does not forward as a whole.
        let six = Sysctl::ipv6_conf(interface, "force_forwarding").read();
        if six.is_ok_and(|value| value == "1") {
            Sysctl::ipv6_conf(name, "force_forwarding").write("1")?;
        }
        Ok(())
    }

    /// Gives a packet (virtio header and IP packet, offsets counted from the IP header) to the
    /// host.
    pub(super) fn write(&self, packet: &[u8]) -> Result<(), SyscallError> {
        self.tun.write(packet)
    }
}

/// Whether a link is such a device, of this or another director.
pub(super) fn is_one(link: &Link) -> bool {
    let number = link.name.strip_prefix(PREFIX);
    link.hardware == NO_HARDWARE && number.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// One address for each device, so that several directors on one host do not meet.
fn address(ifindex: u32) -> Ipv4Addr {
    let [.., high, low] = ifindex.to_be_bytes();
    // 169.254.0.0/24 and 169.254.255.0/24 are reserved (RFC 3927 section 2.1).
    Ipv4Addr::new(169, 254, 1 + high % 254, low)
}

/// The kernel puts the first free number in.
const NAME: &str = "lvs%d";
const PREFIX: &str = "lvs";
/// `ARPHRD_NONE`
const NO_HARDWARE: u16 = 65534;

/// Frames that were merged on the way in are up to this long.
const MTU: u32 = 65_535;
