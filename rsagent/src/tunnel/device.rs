//! The kernel's own end of IPIP tunnels: the device `tunl0` of its module `ipip`.
//!
//! It takes packets from and for any address of the host. What was inside arrives by `tunl0`, while the
//! way back to the client is another interface: strict reverse path filtering would drop all of it.
//! The loose one asks for an address on the device too (`__fib_validate_source` in
//! net/ipv4/fib_frontend.c), so it gets one that nobody uses.
//!
//! The device stays when it is given back, as the module stays loaded; but down, if it was.

use std::net::Ipv4Addr;

use shared::host::netlink::{Link, Netlink, NetlinkError, NewAddress, OUR_PROTOCOL, Prefix, Scope};

/// The device. The kernel loads the module for whoever asks for a device of its kind. `None`: it has
/// none.
///
/// # Errors
/// What netlink says, but that the kind is not known.
pub(crate) fn find(netlink: &mut Netlink) -> Result<Option<Link>, NetlinkError> {
    if let Some(link) = netlink.link_by_name(NAME)? {
        return Ok(Some(link));
    }
    match netlink.add_ipip(NAME) {
        Err(error) if error.errno() == Some(nix::libc::EOPNOTSUPP) => Ok(None),
        Err(error) if !error.is_exists() => Err(error),
        _ => netlink.link_by_name(NAME),
    }
}

/// Makes the device take packets.
///
/// # Errors
/// What netlink says.
pub(crate) fn set_up(link: &Link, netlink: &mut Netlink) -> Result<(), NetlinkError> {
    let added = netlink.add_address(&NewAddress {
        link: link.index,
        prefix: Prefix::host(ADDRESS),
        label: None,
        scope: Scope::Link,
        protocol: OUR_PROTOCOL,
    });
    match added {
        Err(error) if !error.is_exists() => Err(error),
        _ => netlink.set_link_up(link.index),
    }
}

/// Makes it what it was: without our address, and down if it `was_down`.
///
/// # Errors
/// What netlink says, but that something is gone.
pub(crate) fn give_back(was_down: bool, netlink: &mut Netlink) -> Result<(), NetlinkError> {
    let Some(link) = netlink.link_by_name(NAME)? else {
        return Ok(());
    };
    match netlink.delete_address(link.index, Prefix::host(ADDRESS)) {
        Err(error) if !error.is_missing() => return Err(error),
        _ => {}
    }
    if was_down {
        netlink.set_link_down(link.index)?;
    }
    Ok(())
}

/// Its name, which the kernel gives.
pub(crate) const NAME: &str = "tunl0";

/// Its address, of the link alone (RFC 3927).
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 76, 4);
