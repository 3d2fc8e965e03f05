//! The program at the egress of interfaces that tunnels leave by, and the headers that it writes.
//!
//! It is there from the first large frame on that could go into a tunnel whole, by tcx or as a filter. The
//! filter outlives a killed director, and does nothing then: the sockets that it knows are gone.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use shared::host::netlink::{Hook, Netlink, NetlinkError};
use shared::sys::SyscallError;
use shared::sys::bpf::{AssembleError, HashMap, LoadError, Program, TcxLink};
use tracing::{info, warn};

use super::capture::{Attached, CaptureKind, is_unknown};
use super::filter::{self, Filter, Place};
use crate::core::egress::{Request, Senders, VALUE_BYTES, program};
use crate::sys::packet_socket::PacketSocket;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Egress {
    kind: CaptureKind,
    writer: Writer,
    /// By the kernel's number of the interface; none where it could not be.
    attached: BTreeMap<u32, Option<Attached>>,
}

#[derive(Debug)]
enum Writer {
    /// Nobody has needed it.
    NotYet,
    /// The kernel takes no program.
    Never,
    Loaded(Loaded),
}

#[derive(Debug)]
struct Loaded {
    headers: HashMap<4, VALUE_BYTES>,
    senders: HashMap<8, 1>,
    program: Program,
}

/// Why the kernel does not write headers.
#[derive(Debug, thiserror::Error)]
enum EgressError {
    #[error("the program is wrong: {0}; this is a fault of the director")]
    Assemble(#[from] AssembleError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Kernel(#[from] SyscallError),
    #[error(transparent)]
    Filter(#[from] NetlinkError),
}

impl Egress {
    /// Nothing is attached yet.
    pub(super) fn new(kind: CaptureKind) -> Egress {
        Egress {
            kind,
            writer: Writer::NotYet,
            attached: BTreeMap::new(),
        }
    }

    /// An interface is there: what a killed director left on it is removed.
    pub(super) fn clean(&mut self, ifindex: u32, netlink: &mut Netlink) {
        if !self.attached.contains_key(&ifindex)
            && let Err(error) = filter::remove(ifindex, FILTER, netlink)
        {
            warn!("a filter of a director before this one: {error}");
        }
    }

    /// An interface has vanished.
    pub(super) fn link_gone(&mut self, ifindex: u32) {
        self.attached.remove(&ifindex);
    }

    /// Makes the kernel write a header. False if it does not.
    pub(super) fn prepare(
        &mut self,
        request: &Request,
        (ifindex, name): (u32, &str),
        socket: &mut PacketSocket,
        netlink: &mut Netlink,
    ) -> bool {
        if matches!(self.writer, Writer::NotYet) {
            self.writer = match Loaded::load() {
                Ok(loaded) => Writer::Loaded(loaded),
                Err(error) => {
                    warn!("large frames for tunnels are cut by the director: {error}");
                    Writer::Never
                }
            };
        }
        let Writer::Loaded(loaded) = &self.writer else {
            return false;
        };
        let attached = self.attached.entry(ifindex).or_insert_with(|| {
            let attached = loaded.attach(self.kind, ifindex, socket, netlink);
            match &attached {
                Ok(_) => {
                    info!("large frames for tunnels are cut by the kernel on {name}");
                }
                Err(error) => {
                    warn!("large frames for tunnels are cut by the director on {name}: {error}");
                }
            }
            attached.ok()
        });
        let Some(key) = request.key().filter(|_| attached.is_some()) else {
            return false;
        };
        match loaded.headers.insert(&key, &request.header.to_value()) {
            Ok(()) => true,
            Err(error) => {
                warn!("large frames for a tunnel are cut by the director: {error}");
                false
            }
        }
    }
}

impl Loaded {
    fn load() -> Result<Loaded, EgressError> {
        let headers = HashMap::create("lvs_headers", MOST_HEADERS)?;
        let senders = HashMap::create("lvs_senders", MOST_INTERFACES)?;
        let code = program(Senders::Known)?;
        let program = Program::load(NAME, &code, &[headers.as_fd(), senders.as_fd()])?;
        Ok(Loaded {
            headers,
            senders,
            program,
        })
    }

    fn attach(
        &self,
        kind: CaptureKind,
        ifindex: u32,
        socket: &mut PacketSocket,
        netlink: &mut Netlink,
    ) -> Result<Attached, EgressError> {
        let cookie = socket.cookie(ifindex)?;
        self.senders.insert(&cookie.to_ne_bytes(), &[1])?;
        if kind != CaptureKind::Clsact {
            match TcxLink::attach_egress(&self.program, ifindex) {
                Ok(link) => return Ok(Attached::Tcx(link)),
                Err(error) if kind == CaptureKind::Auto && is_unknown(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let filter = Filter::attach(ifindex, FILTER, &self.program, netlink)?;
        Ok(Attached::Filter(filter))
    }
}

const NAME: &str = "lvs_egress";
/// As a filter, before all others: any of them could end the row, and with it send frames without their header.
const FILTER: Place = Place {
    hook: Hook::Egress,
    priority: 1,
    name: NAME,
};
/// As many as a label can tell apart.
const MOST_HEADERS: u32 = 1 << 16;
/// With those that have vanished.
const MOST_INTERFACES: u32 = 1 << 16;

#[cfg(test)]
mod tests;
