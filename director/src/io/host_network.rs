//! The host's network as the kernel tells it, turned into events of the pure core's copy.

use std::os::fd::{AsRawFd, RawFd};

use shared::addr::{Addr, Family};
use shared::host::netlink::{
    Event, Link, Monitor, Neighbour, NeighbourState, Netlink, NetlinkError, Route, RouteKind,
};
use tracing::warn;

use crate::core::net::{Mac, NetworkEvent, Port, Prefix, RouteInfo, RouteKind as Kind};

/// What the kernel said, and what the rest of the loop must look at besides.
#[derive(Debug)]
pub(super) enum Heard {
    /// For the core's copy.
    Network(NetworkEvent),
    /// An interface came or changed: should frames be taken from it?
    Link(Link),
    /// An interface vanished.
    LinkGone {
        /// The kernel's number of it.
        ifindex: u32,
    },
    /// All interfaces there are.
    Links(Vec<Link>),
}

/// A socket for questions and one for notifications.
#[derive(Debug)]
pub(super) struct HostNetwork {
    netlink: Netlink,
    monitor: Monitor,
}

impl HostNetwork {
    /// Opens both, the notifications first: no change falls between them and the first dump.
    pub(super) fn open() -> Result<HostNetwork, NetlinkError> {
        let monitor = Monitor::open()?;
        Ok(HostNetwork {
            netlink: Netlink::open()?,
            monitor,
        })
    }

    /// For changes of the host.
    pub(super) fn netlink(&mut self) -> &mut Netlink {
        &mut self.netlink
    }

    /// Everything there is.
    pub(super) fn dump(&mut self) -> Result<Vec<Heard>, NetlinkError> {
        let links: Vec<Link> = self.netlink.links()?;
        let addresses = self.netlink.addresses()?;
        let addresses = addresses
            .iter()
            .map(|address| (address.link, prefix(&address.prefix)));
        let mut heard = vec![
            Heard::Network(NetworkEvent::Links(links.iter().filter_map(port).collect())),
            Heard::Network(NetworkEvent::Addresses(addresses.collect())),
            Heard::Network(self.routes()?),
            Heard::Links(links),
        ];
        heard.extend(
            self.netlink
                .neighbours()?
                .iter()
                .filter_map(neighbour)
                .map(Heard::Network),
        );
        Ok(heard)
    }

    /// What changed since the last call.
    pub(super) fn changes(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        let mut routes_may_have_gone = false;
        while let Some(event) = self.monitor.next() {
            match event {
                Event::Link(link) => {
                    routes_may_have_gone |= !link.up;
                    heard.extend(port(&link).map(NetworkEvent::Link).map(Heard::Network));
                    heard.push(Heard::Link(link));
                }
                Event::LinkGone(link) => {
                    routes_may_have_gone = true;
                    let ifindex = link.index;
                    heard.push(Heard::Network(NetworkEvent::LinkGone { ifindex }));
                    heard.push(Heard::LinkGone { ifindex });
                }
                Event::Address(it) => heard.push(Heard::Network(NetworkEvent::Address {
                    ifindex: it.link,
                    prefix: prefix(&it.prefix),
                })),
                Event::AddressGone(address) => {
                    routes_may_have_gone = true;
                    heard.push(Heard::Network(NetworkEvent::AddressGone {
                        ifindex: address.link,
                        prefix: prefix(&address.prefix),
                    }));
                }
                Event::Route(it) | Event::RouteReplaced(it) => {
                    heard.extend(route(&it).map(NetworkEvent::Route).map(Heard::Network));
                }
                Event::RouteGone(it) => {
                    heard.extend(route(&it).map(NetworkEvent::RouteGone).map(Heard::Network));
                }
                Event::Neighbour(it) => heard.extend(neighbour(&it).map(Heard::Network)),
                Event::NeighbourGone(it) => {
                    heard.push(Heard::Network(NetworkEvent::NeighbourGone {
                        ifindex: it.link,
                        address: it.address.into(),
                    }));
                }
                Event::Lost => match self.dump() {
                    Ok(all) => heard.extend(all),
                    Err(error) => warn!("changes of the network were missed: {error}"),
                },
            }
        }
        if routes_may_have_gone {
            match self.routes() {
                Ok(routes) => heard.push(Heard::Network(routes)),
                Err(error) => warn!("routes may have gone unnoticed: {error}"),
            }
        }
        heard
    }

    /// Has the kernel find, or verify, a neighbour. What comes of it is heard later.
    pub(super) fn ask(&mut self, ifindex: u32, address: Addr) {
        if let Err(error) = self.netlink.use_neighbour(ifindex, address.ip()) {
            warn!("{error}");
        }
    }

    fn routes(&mut self) -> Result<NetworkEvent, NetlinkError> {
        let mut all = Vec::new();
        for family in [Family::V4, Family::V6] {
            all.extend(self.netlink.routes(family)?.iter().filter_map(route));
        }
        Ok(NetworkEvent::Routes(all))
    }
}

impl AsRawFd for HostNetwork {
    /// Of the notifications.
    fn as_raw_fd(&self) -> RawFd {
        self.monitor.as_raw_fd()
    }
}

/// None: not an Ethernet interface, no frame can be sent there.
fn port(link: &Link) -> Option<Port> {
    match (link.hardware, link.mac) {
        (ETHERNET, Some(mac)) => Some(Port {
            ifindex: link.index,
            name: link.name.clone(),
            mac: Mac(mac),
            mtu: link.mtu,
            up: link.up,
        }),
        _ => None,
    }
}

fn prefix(prefix: &shared::host::netlink::Prefix) -> Prefix {
    Prefix::new(prefix.address.into(), prefix.length)
}

/// None: a route that balanced packets do not follow.
fn route(route: &Route) -> Option<RouteInfo> {
    if route.dead || route.tos != 0 || route.kind == RouteKind::Throw {
        return None;
    }
    let kind = match (route.kind, route.link) {
        (RouteKind::Unicast, Some(ifindex)) => Kind::Unicast {
            ifindex,
            gateway: route.gateway.map(Addr::from),
        },
        (RouteKind::Local, _) => Kind::Local,
        _ => Kind::Unreachable,
    };
    Some(RouteInfo {
        destination: prefix(&route.destination),
        table: route.table,
        metric: route.metric,
        kind,
        mtu: route.mtu,
        source: route.source.map(Addr::from),
    })
}

/// None: nothing is known yet.
fn neighbour(neighbour: &Neighbour) -> Option<NetworkEvent> {
    let (ifindex, address) = (neighbour.link, neighbour.address.into());
    match (neighbour.state, neighbour.mac) {
        (NeighbourState::Failed, _) => Some(NetworkEvent::NeighbourFailed { ifindex, address }),
        (state, Some(mac)) if state.is_valid() => Some(NetworkEvent::Neighbour {
            ifindex,
            address,
            mac: Mac(mac),
        }),
        _ => None,
    }
}

/// `ARPHRD_ETHER`
const ETHERNET: u16 = 1;
