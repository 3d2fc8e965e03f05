//! Which interfaces frames are taken from, and their rings.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use shared::host::netlink::{Link, Netlink};
use shared::sys::SyscallError;
use shared::wire::ethernet;
use tracing::{info, warn};

use super::capture::{Attached, Capture, CaptureError};
use crate::core::capture::{COPIED_QUEUE, CaptureChange, TAKEN_QUEUE};
use crate::sys::packet_ring::{PacketRing, RingOptions};

/// An interface that frames are taken from.
#[derive(Debug)]
pub(super) struct Interface {
    /// The capture ends with it, and before the rings do.
    _capture: Attached,
    pub(super) name: String,
    /// One of each family.
    pub(super) rings: [PacketRing; 2],
    /// What a slot of a ring has room for.
    mtu: u32,
}

/// All of them, by the kernel's number.
#[derive(Debug)]
pub(super) struct Intake {
    capture: Capture,
    interfaces: BTreeMap<u32, Interface>,
    /// Empty: every Ethernet interface that is up.
    wanted: Vec<String>,
    registry: Registry,
}

/// Why no frames are taken from an interface.
#[derive(Debug, thiserror::Error)]
enum AttachError {
    #[error("its ring: {0}")]
    Ring(#[from] SyscallError),
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error("its ring cannot be polled: {0}")]
    Poll(#[from] std::io::Error),
}

impl Intake {
    /// Nothing is taken yet.
    pub(super) fn new(capture: Capture, wanted: Vec<String>, registry: Registry) -> Intake {
        Intake {
            capture,
            interfaces: BTreeMap::new(),
            wanted,
            registry,
        }
    }

    /// Brings changes of what is ours to the kernel.
    pub(super) fn update(&self, changes: &[CaptureChange]) {
        if let Err(error) = self.capture.apply(changes) {
            warn!("{error}");
        }
    }

    /// How often [`beat`](Self::beat) must be called, if at all.
    pub(super) fn pulse(&self) -> Option<Duration> {
        self.capture.pulse()
    }

    /// Tells the capture in the kernel that the director lives.
    pub(super) fn beat(&self) {
        if let Err(error) = self.capture.beat() {
            warn!("{error}");
        }
    }

    /// An interface came or changed. True if its rings are new and may have frames already.
    pub(super) fn link_changed(&mut self, link: &Link, netlink: &mut Netlink) -> bool {
        let attached = self.interfaces.get_mut(&link.index).map(|interface| {
            if interface.name != link.name {
                info!("{} is now called {}", interface.name, link.name);
                interface.name.clone_from(&link.name);
            }
            interface.mtu
        });
        if !self.wants(link, netlink) {
            if attached.is_some() {
                self.link_gone(link.index);
            }
            return false;
        }
        match attached {
            Some(mtu) if link.mtu <= mtu => return false,
            // Larger frames than its rings have room for: rings with larger slots.
            Some(_) => self.link_gone(link.index),
            None if !link.up => return false,
            None => {}
        }
        match self.attach(link, netlink) {
            Ok(()) => {
                info!("taking frames from {}", link.name);
                true
            }
            Err(error) => {
                warn!("no frames are taken from {}: {error}", link.name);
                false
            }
        }
    }

    /// An interface vanished.
    pub(super) fn link_gone(&mut self, ifindex: u32) {
        if let Some(interface) = self.interfaces.remove(&ifindex) {
            for ring in &interface.rings {
                // The kernel forgets the descriptor anyway when it is closed.
                let _ = self.registry.deregister(&mut SourceFd(&ring.as_raw_fd()));
            }
            info!("no longer taking frames from {}", interface.name);
        }
    }

    /// All interfaces there are; others are gone.
    pub(super) fn links(&mut self, links: &[Link], netlink: &mut Netlink) -> Vec<u32> {
        let gone: Vec<u32> = self
            .interfaces
            .keys()
            .filter(|ifindex| !links.iter().any(|link| link.index == **ifindex))
            .copied()
            .collect();
        for ifindex in gone {
            self.link_gone(ifindex);
        }
        links
            .iter()
            .filter(|link| self.link_changed(link, netlink))
            .map(|link| link.index)
            .collect()
    }

    /// Interfaces that the configuration names and that are not there.
    pub(super) fn missing(&self) -> impl Iterator<Item = &str> {
        self.wanted
            .iter()
            .filter(|name| {
                !self
                    .interfaces
                    .values()
                    .any(|interface| interface.name == **name)
            })
            .map(String::as_str)
    }

    /// Takes frames from other interfaces from now on.
    pub(super) fn set_wanted(&mut self, wanted: Vec<String>) {
        self.wanted = wanted;
    }

    /// The interface of this number.
    pub(super) fn get_mut(&mut self, ifindex: u32) -> Option<&mut Interface> {
        self.interfaces.get_mut(&ifindex)
    }

    /// All interfaces that frames are taken from.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Interface)> {
        self.interfaces
            .iter_mut()
            .map(|(ifindex, interface)| (*ifindex, interface))
    }

    fn wants(&self, link: &Link, netlink: &mut Netlink) -> bool {
        let named = self.wanted.is_empty() || self.wanted.contains(&link.name);
        named && link.hardware == ETHERNET && !link.loopback && !is_member(link, netlink)
    }

    fn attach(&mut self, link: &Link, netlink: &mut Netlink) -> Result<(), AttachError> {
        let open = |ethertype| {
            let mtu = link.mtu as usize;
            let options = RingOptions::new(ethertype, mtu, TAKEN_QUEUE, COPIED_QUEUE);
            PacketRing::open(link.index, &options)
        };
        let rings = [open(ethernet::IPV4)?, open(ethernet::IPV6)?];
        for ring in &rings {
            let fd = ring.as_raw_fd();
            self.registry
                .register(&mut SourceFd(&fd), token(link.index), Interest::READABLE)?;
        }
        // The rings are open: whatever is taken from now on is not lost.
        let _capture = self.capture.attach(link.index, netlink)?;
        let interface = Interface {
            _capture,
            name: link.name.clone(),
            rings,
            mtu: link.mtu,
        };
        self.interfaces.insert(link.index, interface);
        Ok(())
    }
}

/// The token of an interface's rings.
pub(super) fn token(ifindex: u32) -> Token {
    Token(RINGS + ifindex as usize)
}

/// The interface of a ring's token.
pub(super) fn ifindex_of(token: Token) -> Option<u32> {
    u32::try_from(token.0.checked_sub(RINGS)?).ok()
}

/// Frames of members arrive at their bridge, bond or team, which is where they are taken. A VRF has
/// members that keep their own frames.
fn is_member(link: &Link, netlink: &mut Netlink) -> bool {
    let Some(master) = link.master else {
        return false;
    };
    match netlink.link_by_index(master) {
        Ok(Some(master)) => master.kind.as_deref() != Some("vrf"),
        Ok(None) => false,
        Err(error) => {
            warn!("{error}");
            true
        }
    }
}

/// `ARPHRD_ETHER`
const ETHERNET: u16 = 1;
/// First token of the rings; below it are the loop's own and the control connections.
pub(super) const RINGS: usize = 1 << 32;
