//! What is remembered of the ways to real servers behind tunnels.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::addr::Addr;
use shared::time::Time;

use crate::core::arena::Id;
use crate::core::egress::{Header, Request};
use crate::core::ip::min_mtu;
use crate::core::net::{Hop, Network, PortId};
use crate::core::operation::Tunnel;
use crate::core::server::ServerId;

/// What is known of the ways to real servers behind tunnels.
#[derive(Debug, Default)]
pub(in crate::core) struct Tunnels {
    /// By the number of the real server.
    paths: Vec<Option<Path>>,
    /// Path MTUs that routers have told.
    learned: BTreeMap<Addr, Learned>,
    /// Changes with them.
    revision: u32,
    requests: Vec<Request>,
}

/// The way to a real server, as long as neither routes nor path MTUs change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    to: Addr,
    pub(super) source: Addr,
    learned: Option<Learned>,
    generation: u32,
    revision: u32,
    kernel: Kernel,
}

/// A path MTU that a router has told.
#[derive(Debug, Clone, Copy)]
struct Learned {
    mtu: u32,
    until: Time,
}

/// Whether the kernel can write the outer headers of frames that leave by a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// It has not been asked.
    Unasked,
    /// It does not, or not yet.
    Asked(Tunnel, PortId),
    /// It does.
    Ready(Tunnel, PortId),
}

impl Tunnels {
    /// The way to a real server. None if the host has no address to call itself by.
    pub(super) fn path(
        &mut self,
        network: &Network,
        hop: &Hop,
        server: ServerId,
        to: Addr,
    ) -> Option<Path> {
        let at = server.number() as usize;
        let (generation, revision) = (network.generation(), self.revision);
        if let Some(&Some(path)) = self.paths.get(at)
            && (path.to, path.generation, path.revision) == (to, generation, revision)
        {
            return Some(path);
        }
        let path = Path {
            to,
            source: network.source_towards(hop.port, to)?,
            learned: self.learned.get(&to).copied(),
            generation,
            revision,
            kernel: Kernel::Unasked,
        };
        if self.paths.len() <= at {
            self.paths.resize(at + 1, None);
        }
        self.paths[at] = Some(path);
        Some(path)
    }

    /// A router says that packets to a real server must not have more than `mtu` bytes. Anybody may say
    /// so; hence nothing below the kernel's `net.ipv4.route.min_pmtu` is believed, and nothing below what
    /// every link of IPv6 takes.
    pub(in crate::core) fn learn(&mut self, now: Time, to: Addr, mtu: u32) {
        self.learned.retain(|_, learned| now < learned.until);
        let learned = Learned {
            mtu: mtu.max(LEAST_LEARNED).max(min_mtu(to.family())),
            until: now + LEARNED_FOR,
        };
        let former = self.learned.get(&to);
        if former.is_some_and(|former| former.mtu < learned.mtu) {
            return;
        }
        self.learned.insert(to, learned);
        self.revision = self.revision.wrapping_add(1);
    }

    /// Whether the kernel writes the outer headers for a real server whose way was looked up.
    pub(super) fn kernel(&self, server: ServerId) -> Kernel {
        let path = self.paths.get(server.number() as usize);
        path.and_then(Option::as_ref)
            .map_or(Kernel::Unasked, |path| path.kernel)
    }

    /// Asks for it, once.
    pub(super) fn ask(
        &mut self,
        server: ServerId,
        tunnel: Tunnel,
        port: PortId,
        header: Option<Header>,
    ) {
        let number = server.number();
        if let Some(Some(path)) = self.paths.get_mut(number as usize) {
            path.kernel = Kernel::Asked(tunnel, port);
        }
        self.requests.retain(|request| request.number != number);
        self.requests.extend(header.map(|header| Request {
            number,
            tunnel,
            port,
            header,
        }));
    }

    /// What was asked for since this was called last.
    pub(in crate::core) fn take_requests(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.requests)
    }

    /// The kernel does as it was asked.
    pub(in crate::core) fn ready(&mut self, request: &Request) {
        let asked = Kernel::Asked(request.tunnel, request.port);
        if let Some(Some(path)) = self.paths.get_mut(request.number as usize)
            && path.kernel == asked
        {
            path.kernel = Kernel::Ready(request.tunnel, request.port);
        }
    }

    /// The kernel does so no longer on any port.
    pub(in crate::core) fn unready(&mut self) {
        for path in self.paths.iter_mut().flatten() {
            path.kernel = Kernel::Unasked;
        }
    }
}

impl Path {
    /// Bytes of the largest outer packet.
    pub(super) fn mtu(&self, now: Time, hop: &Hop) -> u32 {
        let told = self.learned.filter(|learned| now < learned.until);
        told.map_or(hop.mtu, |learned| learned.mtu.min(hop.mtu))
    }
}

/// `net.ipv4.route.mtu_expires`
const LEARNED_FOR: Duration = Duration::from_secs(600);
/// `net.ipv4.route.min_pmtu`
const LEAST_LEARNED: u32 = 552;
