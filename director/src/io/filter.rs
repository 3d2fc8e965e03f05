//! Programs as filters of traffic control (clsact), on kernels without tcx. They outlive the process: whoever
//! starts next finds them by name.

use std::os::fd::AsFd;

use shared::host::netlink::{Hook, IngressFilter, Netlink, NetlinkError};
use shared::sys::bpf::Program;
use tracing::warn;

/// Where a filter hangs, and what it is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) hook: Hook,
    pub(super) priority: u16,
    pub(super) name: &'static str,
}

/// A filter of ours; it is removed when this is dropped.
#[derive(Debug)]
pub struct Filter {
    ifindex: u32,
    place: Place,
}

impl Filter {
    /// Hangs a program on an interface, in place of what a killed director left there under that name.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn attach(
        ifindex: u32,
        place: Place,
        program: &Program,
        netlink: &mut Netlink,
    ) -> Result<Filter, NetlinkError> {
        remove(ifindex, place, netlink)?;
        let handle = if netlink.add_clsact(ifindex)? || made_by_us(ifindex, netlink)? {
            WITH_ITS_CLSACT
        } else {
            WITHOUT
        };
        // From here on it is taken away again, whatever happens.
        let filter = Filter { ifindex, place };
        let Place {
            hook,
            priority,
            name,
        } = place;
        netlink.set_program(ifindex, hook, (priority, handle), name, program.as_fd())?;
        Ok(filter)
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        let removed =
            Netlink::open().and_then(|mut netlink| remove(self.ifindex, self.place, &mut netlink));
        match removed {
            // It went with its interface.
            Err(error) if error.is_missing() => {}
            Err(error) => warn!(
                "the filter {} is left behind, without effect: {error}",
                self.place.name
            ),
            Ok(()) => {}
        }
    }
}

/// Removes a filter of ours, and the queueing discipline if it came with us and nothing else hangs on it by
/// now.
pub(super) fn remove(
    ifindex: u32,
    place: Place,
    netlink: &mut Netlink,
) -> Result<(), NetlinkError> {
    let Place { hook, priority, .. } = place;
    let filters = netlink.filters(ifindex, hook)?;
    let ours = |filter: &&IngressFilter| {
        filter.priority == priority && filter.name.as_deref() == Some(place.name)
    };
    let Some(filter) = filters.iter().find(ours) else {
        return Ok(());
    };
    netlink.delete_filter(ifindex, hook, (priority, filter.handle))?;
    let mut alone = true;
    for hook in [Hook::Ingress, Hook::Egress] {
        alone &= netlink.filters(ifindex, hook)?.is_empty();
    }
    if filter.handle == WITH_ITS_CLSACT && alone {
        netlink.delete_clsact(ifindex)?;
    }
    Ok(())
}

/// Whether the queueing discipline is there for another filter of ours.
fn made_by_us(ifindex: u32, netlink: &mut Netlink) -> Result<bool, NetlinkError> {
    let mut ours = false;
    for hook in [Hook::Ingress, Hook::Egress] {
        let filters = netlink.filters(ifindex, hook)?;
        ours |= filters.iter().any(|filter| {
            let name = filter.name.as_deref().unwrap_or_default();
            filter.handle == WITH_ITS_CLSACT && name.starts_with(PREFIX)
        });
    }
    Ok(ours)
}

/// Of the names of all our filters.
const PREFIX: &str = "lvs_";

/// The handle of a filter says whether the queueing discipline was made for one of ours.
const WITH_ITS_CLSACT: u32 = 1;
const WITHOUT: u32 = 2;
