//! The host's routing, as far as it brings packets to the director: those with a firewall mark, which the
//! host itself puts on them after the capture has seen them, and while there are such, all to services; and
//! what the host itself sends as a real server or as a client.
//!
//! Rules in front of everything else send them to a table whose only route leads into the TUN device that
//! frames are given back through; a socket there sees them with their marks. For that the rule of local
//! addresses has to stand behind ours. What the device sends, and whatever else the host does, is not sent back:
//!
//! ```text
//! 1: from all iif lvs0 goto 3      what is given back
//! 1: from 10.1.0.1 iif lo ipproto tcp sport 8080 lookup 19543     what the host answers
//! 1: from all to 192.0.2.1 iif lo ipproto tcp dport 80 lookup 19543     what it asks
//! 2: from all iif lo goto 3        what it sends besides
//! 2: from all fwmark 8 lookup 19542
//! 2: from all to 192.0.2.1 ipproto tcp lookup 19542
//! 3: from all lookup local         was 0
//! ```
//!
//! Each family has such rules of its own. What is undone when the last of a family goes, at the end, and at the
//! start after a crash: rules and routes have our protocol number, and settings are remembered in a file.

mod filters;
mod forwarding;
mod rules;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use shared::addr::Family;
use shared::host::netlink::{Netlink, NetlinkError};
use shared::host::sysctl::SysctlError;
use shared::sys::{SyscallError, namespace};
use tracing::{info, warn};

use super::intake;
use crate::core::capture::RouteKey;
use crate::core::view::InterfaceView;
use crate::sys::mark_tap::MarkTap;
use forwarding::Forwarding;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Routing {
    ifindex: u32,
    device: String,
    registry: Registry,
    tap: Option<MarkTap>,
    /// Whose rules are there.
    families: BTreeSet<Family>,
    keys: BTreeSet<RouteKey>,
    forwarding: Forwarding,
}

/// Why the host cannot bring marked packets here.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// Rules or routes were refused.
    #[error("{0}; CONFIG_IP_MULTIPLE_TABLES and CONFIG_IPV6_MULTIPLE_TABLES are needed")]
    Netlink(#[from] NetlinkError),
    /// No socket on the device.
    #[error("{0}; marks can be told since Linux 5.19")]
    Tap(SyscallError),
    /// No way to be told of packets.
    #[error("the socket of marked packets cannot be polled: {0}")]
    Poll(io::Error),
    /// A setting was refused.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// The host gets its own way out by router advertisements, and would not take them any more.
    #[error(
        "the host does not forward IPv6, and if it did it would no longer take the default route that \
         routers advertise on {0}; set net.ipv6.conf.{0}.accept_ra=2 and net.ipv6.conf.all.forwarding=1"
    )]
    Advertised(String),
    /// The settings that are changed cannot be remembered.
    #[error("{path}: {source}")]
    Remember {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Which namespace this is cannot be told.
    #[error("which network namespace this is: {0}")]
    Namespace(SyscallError),
}

impl Routing {
    /// Nothing is routed here yet; what a killed director left behind is undone.
    pub(super) fn new(
        (ifindex, device): (u32, &str),
        registry: Registry,
        netlink: &mut Netlink,
    ) -> Result<Routing, RoutingError> {
        let cookie = namespace::cookie().map_err(RoutingError::Namespace)?;
        // A cookie is never used again.
        let remembered = PathBuf::from(format!("/run/lvs/director-{cookie}.settings"));
        let mut routing = Routing {
            ifindex,
            device: device.to_owned(),
            registry,
            tap: None,
            families: BTreeSet::new(),
            keys: BTreeSet::new(),
            forwarding: Forwarding::new(remembered),
        };
        routing.undo(netlink);
        Ok(routing)
    }

    /// The device that packets arrive on.
    pub(super) fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// The socket that they arrive on, while there are any.
    pub(super) fn tap(&mut self) -> Option<&mut MarkTap> {
        self.tap.as_mut()
    }

    /// What came that way, while anything does: for listings.
    pub(super) fn view(&mut self) -> Option<InterfaceView> {
        let statistics = self.tap.as_mut()?.statistics().unwrap_or_default();
        Some(InterfaceView {
            name: self.device.clone(),
            received: statistics.packets,
            sent: 0,
            ring_losses: statistics.lost,
        })
    }

    /// Makes sure that packets of a family with marks can be routed here.
    pub(super) fn prepare(
        &mut self,
        family: Family,
        netlink: &mut Netlink,
    ) -> Result<(), RoutingError> {
        self.begin(family, netlink)?;
        let made = self.forwarding.begin(family, &self.device, netlink);
        if made.is_err() {
            self.settle(netlink);
        }
        made
    }

    /// Routes these packets here.
    pub(super) fn insert(
        &mut self,
        key: RouteKey,
        netlink: &mut Netlink,
    ) -> Result<(), RoutingError> {
        if is_of_others(key) {
            self.prepare(key.family(), netlink)?;
        } else {
            self.begin(key.family(), netlink)?;
        }
        self.keys.insert(key);
        let added = netlink.add_rule(&rules::rule(key));
        added.or_else(|error| {
            if error.is_exists() {
                Ok(())
            } else {
                Err(error.into())
            }
        })
    }

    /// No longer routes these packets here.
    pub(super) fn remove(&mut self, key: RouteKey, netlink: &mut Netlink) {
        if self.keys.remove(&key)
            && let Err(error) = netlink.delete_rule(&rules::rule(key))
        {
            warn!("{error}");
        }
    }

    /// Ends what there is nothing more to route for.
    pub(super) fn settle(&mut self, netlink: &mut Netlink) {
        for family in self.families.clone() {
            let mut keys = self.keys.iter().filter(|key| key.family() == family);
            if keys.clone().next().is_none() {
                self.end(family, netlink);
            } else if !keys.any(|&key| is_of_others(key)) {
                self.forwarding.end(family);
            }
        }
    }

    /// Frames are taken from this interface.
    pub(super) fn interface(&mut self, name: &str, netlink: &mut Netlink) {
        self.forwarding.interface(name, netlink);
    }

    /// Undoes everything.
    pub(super) fn undo(&mut self, netlink: &mut Netlink) {
        self.keys.clear();
        for family in [Family::V4, Family::V6] {
            self.end(family, netlink);
        }
    }

    /// Undoes what is there for a family.
    fn end(&mut self, family: Family, netlink: &mut Netlink) {
        self.families.remove(&family);
        if self.families.is_empty()
            && let Some(tap) = self.tap.take()
        {
            // The kernel forgets the descriptor anyway when it is closed.
            let _ = self.registry.deregister(&mut SourceFd(&tap.as_raw_fd()));
        }
        if let Err(error) = rules::remove(family, netlink) {
            warn!("rules of the host's routing are left behind: {error}");
        }
        self.forwarding.end(family);
    }

    /// Makes sure that packets of a family can be routed here.
    fn begin(&mut self, family: Family, netlink: &mut Netlink) -> Result<(), RoutingError> {
        if !self.families.insert(family) {
            return Ok(());
        }
        let made = self.make(family, netlink);
        if made.is_err() {
            self.end(family, netlink);
        }
        made
    }

    fn make(&mut self, family: Family, netlink: &mut Netlink) -> Result<(), RoutingError> {
        if self.tap.is_none() {
            self.open(netlink)?;
        }
        rules::make(family, (self.ifindex, &self.device), netlink)?;
        let (first, last) = (rules::BEFORE, rules::BEHIND);
        info!(
            "the host routes packets to the director, by the rules {first} to {last} of {family}"
        );
        Ok(())
    }

    fn open(&mut self, netlink: &mut Netlink) -> Result<(), RoutingError> {
        // Nobody reads the device: what the socket has seen need not wait there.
        netlink.set_link_queue(self.ifindex, 1)?;
        let tap = MarkTap::open(self.ifindex).map_err(RoutingError::Tap)?;
        let (fd, token) = (tap.as_raw_fd(), intake::token(self.ifindex));
        let registered = self
            .registry
            .register(&mut SourceFd(&fd), token, Interest::READABLE);
        registered.map_err(RoutingError::Poll)?;
        self.tap = Some(tap);
        Ok(())
    }
}

/// Whether packets of other hosts are meant, which have to be forwarded.
fn is_of_others(key: RouteKey) -> bool {
    match key {
        RouteKey::Mark { .. } | RouteKey::Destination { .. } => true,
        RouteKey::Answer { .. } | RouteKey::Question { .. } => false,
    }
}
