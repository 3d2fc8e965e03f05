//! The host's network as the kernel tells it, turned into events of the pure core's copy.

use std::os::fd::{AsRawFd, RawFd};

use shared::addr::{Addr, Family};
use shared::host::netlink::{
    Event, Link, Monitor, Neighbour, NeighbourState, Netlink, NetlinkError, NextHop, Route,
    RouteKind,
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
                Event::Route(it) => {
                    let routes = routes(&it).into_iter();
                    heard.extend(routes.map(NetworkEvent::Route).map(Heard::Network));
                }
                Event::RouteReplaced(it) => {
                    let mut routes = routes(&it).into_iter();
                    let first = routes.next().map(NetworkEvent::RouteReplaced);
                    let all = first.into_iter().chain(routes.map(NetworkEvent::Route));
                    heard.extend(all.map(Heard::Network));
                }
                Event::RouteGone(it) => {
                    let routes = routes(&it).into_iter();
                    heard.extend(routes.map(NetworkEvent::RouteGone).map(Heard::Network));
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
            all.extend(self.netlink.routes(family)?.iter().flat_map(routes));
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

/// None: a route that balanced packets do not follow. Of a multipath route of IPv4 the first next hop that is
/// usable; of IPv6 all of them, which come and go one by one.
fn routes(route: &Route) -> Vec<RouteInfo> {
    if route.tos != 0 || route.kind == RouteKind::Throw {
        return Vec::new();
    }
    let first = NextHop {
        link: route.link,
        gateway: route.gateway,
        dead: route.dead,
    };
    let most = match route.destination.family() {
        Family::V4 => 1,
        Family::V6 => usize::MAX,
    };
    let hops = [&first].into_iter().chain(&route.others);
    let usable = hops.filter(|hop| !hop.dead).take(most);
    let lead = |hop: &NextHop| {
        let kind = match (route.kind, hop.link) {
            (RouteKind::Unicast, Some(ifindex)) => Kind::Unicast {
                ifindex,
                gateway: hop.gateway.map(Addr::from),
            },
            (RouteKind::Local, _) => Kind::Local,
            _ => Kind::Unreachable,
        };
        RouteInfo {
            destination: prefix(&route.destination),
            table: route.table,
            metric: route.metric,
            kind,
            mtu: route.mtu,
            source: route.source.map(Addr::from),
        }
    };
    usable.map(lead).collect()
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::core::net::{CachedHop, Network, Route as Way};
    use shared::sys::namespace::Namespace;

    /// Two routers of one metric, as such that advertise themselves: whichever goes, the other is the way. As the
    /// kernel tells it.
    #[test]
    fn one_of_two_routers_of_ipv6_goes() {
        let in_namespace = || {
            let ip = |words: &str| {
                let status = Command::new("ip").args(words.split(' ')).status();
                assert!(status.unwrap().success(), "ip {words}");
            };
            ip("link add v0 type veth peer name v1");
            ip("link set v1 up");
            ip("link set v0 up");
            for router in 1..=3 {
                let mac = format!("02:00:00:00:00:0{router}");
                ip(&format!(
                    "-6 neigh add fe80::{router} dev v0 lladdr {mac} nud permanent"
                ));
            }
            let mut host = HostNetwork::open().unwrap();
            let mut network = Network::default();
            for heard in host.dump().unwrap() {
                if let Heard::Network(event) = heard {
                    network.apply(event);
                }
            }
            let mut step = |change: &str, router: u8, way: Option<u8>| {
                let to = "dev v0 proto ra metric 1024";
                ip(&format!(
                    "-6 route {change} default via fe80::{router} {to}"
                ));
                for heard in host.changes() {
                    if let Heard::Network(event) = heard {
                        network.apply(event);
                    }
                }
                let to = Addr::from_bytes([0x20; 16]);
                let next = match network.resolve(&mut CachedHop::default(), to, None) {
                    Way::Via(hop) => hop.destination,
                    _ => None,
                };
                let expected = way.map(|router| Mac([2, 0, 0, 0, 0, router]));
                assert_eq!(next, expected, "{change} {router}");
            };
            step("add", 1, Some(1));
            step("append", 2, Some(1));
            step("del", 1, Some(2));
            step("append", 1, Some(2));
            step("del", 2, Some(1));
            step("append", 2, Some(1));
            step("replace", 3, Some(3));
            step("del", 3, None);
        };
        Namespace::new().unwrap().run(in_namespace).unwrap();
    }
}
