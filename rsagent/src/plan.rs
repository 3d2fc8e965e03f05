//! What should be on a real server, from what is. Pure.
//!
//! With direct routing the director sends packets for a VIP to this host's Ethernet address, so
//! the VIP must be an address of this host; but ARP requests for it must be left to the director.
//! So it stands on `lo`, as one address alone, and
//!
//! - `arp_ignore=1`: ARP requests are answered only for addresses of the interface that they come
//!   in by (IPv6 neighbour discovery never does otherwise);
//! - `arp_announce=2`: this host's own ARP requests name an address of the interface that they
//!   leave by, since one that named the VIP would make the VIP's neighbours believe it is here.
//!
//! With tunnels it is the same, since the real servers may be in one network with the director; what
//! ends the tunnels is in [`tunnel`](crate::tunnel).
//!
//! For each interface the kernel takes the greater one of its own value and that of `all`
//! (Documentation/networking/ip-sysctl.rst).

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use shared::addr::Family;
use shared::host::netlink::{Address, Link, OUR_PROTOCOL, Prefix, Route, RouteKind};
use shared::host::sysctl::Sysctl;

/// What there is on the host.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Interfaces.
    pub(crate) links: Vec<Link>,
    /// Addresses of both families.
    pub(crate) addresses: Vec<Address>,
    /// Routes of both families.
    pub(crate) routes: Vec<Route>,
}

/// What direct routing needs, and tunnels need too.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Index of `lo`.
    pub(crate) lo: u32,
    /// Whether `lo` has to be set up.
    pub(crate) lo_is_down: bool,
    /// Interfaces whose ARP settings matter, and why; none for IPv6 alone.
    pub(crate) interfaces: Vec<(String, Carries)>,
    /// The VIPs, each once.
    pub(crate) vips: Vec<Vip>,
}

/// Why an interface matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carries {
    /// It was asked for.
    Asked,
    /// The default route leaves by it.
    DefaultRoute,
    /// A VIP is of its network.
    VipNetwork,
}

/// A VIP, and how it stands with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Vip {
    /// The address alone, /32 or /128.
    pub(crate) prefix: Prefix,
    /// Whether it is on `lo`.
    pub(crate) place: Place,
}

/// Whether an address is on `lo`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is not; to be added with this label (IPv4).
    Absent(Option<String>),
    /// It is, with our mark.
    Ours,
    /// It is, without our mark: the administrator's, or ours if the kernel keeps no marks.
    Unmarked,
}

/// An ARP setting of an interface.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ArpSetting {
    /// Name under `net/ipv4/conf/INTERFACE`.
    pub(crate) name: &'static str,
    /// What it is set to.
    pub(crate) value: &'static str,
    /// Values that do.
    enough: &'static [u32],
}

/// The settings, in the order they are made.
pub(crate) const ARP_SETTINGS: [ArpSetting; 2] = [
    ArpSetting {
        name: "arp_ignore",
        value: "1",
        // 2 also looks at the sender. 3 answers for addresses of global scope, as a VIP is; 8
        // answers for none at all.
        enough: &[1, 2],
    },
    ArpSetting {
        name: "arp_announce",
        value: "2",
        enough: &[2],
    },
];

impl ArpSetting {
    /// Whether a value does.
    pub(crate) fn is_met_by(&self, value: &str) -> bool {
        value
            .parse()
            .is_ok_and(|value| self.enough.contains(&value))
    }

    /// What sets it on an interface, or on `all`.
    pub(crate) fn cure(&self, interface: &str) -> String {
        let setting = Sysctl::ipv4_conf(interface, self.name);
        format!("sysctl -w {}={}", setting.path(), self.value)
    }

    /// The value in force on an interface: the greater one.
    pub(crate) fn in_force<'a>(all: &'a str, own: &'a str) -> &'a str {
        let number = |value: &str| value.parse::<u32>().unwrap_or(0);
        if number(own) > number(all) { own } else { all }
    }
}

/// Why a host cannot be a real server as it is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    #[error("there is no interface lo, which the VIPs belong on")]
    NoLoopback,
    #[error("--interface {name}: there is no such interface; there are {known}")]
    NoInterface { name: String, known: String },
    #[error("--vip {0}: not an address that a service can have")]
    NotAVip(IpAddr),
    #[error(
        "{vip} is an address of {interface}: this host would answer ARP for it in place of the \
         director. Remove it there: ip address del {vip} dev {interface}"
    )]
    OnTheLan { vip: Prefix, interface: String },
    #[error(
        "{0} is on lo with more than itself: this host takes every address of that network for \
         its own. Remove it, and start again: ip address del {0} dev lo"
    )]
    Network(Prefix),
    #[error(
        "no default gateway for {0}: with NAT the replies must go back through the director. \
         Make it the gateway: ip route add default via DIRECTOR"
    )]
    NoGateway(&'static str),
    #[error("--interface {0}: tunnels end at Ethernet interfaces only")]
    NotEthernet(String),
    #[error(
        "no Ethernet interface that tunnels could come in by is up and has an address that others \
         know: name one by --interface"
    )]
    NoWayIn,
    #[error(
        "this host has no address of its own that tunnels could end at: ip address add \
         ADDRESS/LENGTH dev INTERFACE"
    )]
    NoAddress,
}

/// What direct routing needs.
pub(crate) fn direct_routing(
    vips: &BTreeSet<IpAddr>,
    interfaces: &[String],
    facts: &Facts,
) -> Result<Plan, PlanError> {
    let lo = facts.links.iter().find(|link| link.loopback);
    let lo = lo.ok_or(PlanError::NoLoopback)?;
    let mut labels = free_labels(&lo.name, facts);
    let interfaces = if interfaces.is_empty() {
        carriers(vips, lo.index, facts)
    } else {
        let asked = interfaces.iter().map(|name| asked_for(name, facts));
        asked.collect::<Result<_, _>>()?
    };
    let has_v4 = vips.iter().any(IpAddr::is_ipv4);
    let vips = vips.iter().map(|&vip| {
        let prefix = Prefix::host(vip);
        let place = place(prefix, lo.index, facts, &mut labels)?;
        Ok(Vip { prefix, place })
    });
    Ok(Plan {
        lo: lo.index,
        lo_is_down: !lo.up,
        interfaces: if has_v4 { interfaces } else { Vec::new() },
        vips: vips.collect::<Result<_, _>>()?,
    })
}

impl Plan {
    /// Whether ARP settings are needed: for IPv4.
    pub(crate) fn needs_arp_settings(&self) -> bool {
        let mut vips = self.vips.iter();
        vips.any(|vip| vip.prefix.family() == Family::V4)
    }
}

/// The default gateway for each family of the VIPs, with the name of its interface; for IPv4 if
/// there is no VIP.
pub(crate) fn gateways(vips: &[IpAddr], facts: &Facts) -> Result<Vec<(IpAddr, String)>, PlanError> {
    let mut gateways = Vec::new();
    for (family, name) in [(Family::V4, "IPv4"), (Family::V6, "IPv6")] {
        let mut families = vips.iter().map(|&vip| Family::of(vip));
        let is_asked = families.any(|of| of == family) || (vips.is_empty() && family == Family::V4);
        if !is_asked {
            continue;
        }
        let default = facts
            .routes
            .iter()
            .filter(|route| is_default(route) && route.destination.family() == family)
            .filter_map(|route| Some((route.metric, route.gateway?, route.link?)))
            .min_by_key(|&(metric, ..)| metric);
        let (_, gateway, link) = default.ok_or(PlanError::NoGateway(name))?;
        gateways.push((gateway, name_of(link, facts)));
    }
    Ok(gateways)
}

impl fmt::Display for Carries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Carries::Asked => "asked for",
            Carries::DefaultRoute => "the default route",
            Carries::VipNetwork => "a VIP's network",
        })
    }
}

fn place(
    vip: Prefix,
    lo: u32,
    facts: &Facts,
    labels: &mut impl Iterator<Item = String>,
) -> Result<Place, PlanError> {
    let address = vip.address;
    let reserved = match address {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if reserved || address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return Err(PlanError::NotAVip(address));
    }
    let there = facts.addresses.iter();
    let there: Vec<_> = there.filter(|a| a.prefix.address == address).collect();
    if let Some(elsewhere) = there.iter().find(|address| address.link != lo) {
        return Err(PlanError::OnTheLan {
            vip: elsewhere.prefix,
            interface: name_of(elsewhere.link, facts),
        });
    }
    match there.first() {
        None if address.is_ipv4() => Ok(Place::Absent(labels.next())),
        None => Ok(Place::Absent(None)),
        Some(found) if found.prefix != vip => Err(PlanError::Network(found.prefix)),
        Some(found) if found.protocol == OUR_PROTOCOL => Ok(Place::Ours),
        Some(_) => Ok(Place::Unmarked),
    }
}

/// `lo:0`, `lo:1` and so on, without those that there are.
fn free_labels(lo: &str, facts: &Facts) -> impl Iterator<Item = String> + use<> {
    let taken: BTreeSet<String> = facts
        .addresses
        .iter()
        .filter_map(|address| address.label.clone())
        .collect();
    let lo = lo.to_owned();
    (0_u32..)
        .map(move |number| format!("{lo}:{number}"))
        .filter(move |label| !taken.contains(label))
}

/// The interface of that name, which must be there.
pub(crate) fn asked_for(name: &str, facts: &Facts) -> Result<(String, Carries), PlanError> {
    if facts.links.iter().any(|link| link.name == name) {
        return Ok((name.to_owned(), Carries::Asked));
    }
    let known: Vec<&str> = facts.links.iter().map(|link| link.name.as_str()).collect();
    Err(PlanError::NoInterface {
        name: name.to_owned(),
        known: known.join(", "),
    })
}

/// The interfaces of IPv4 default routes, and of routes to the networks of VIPs. A route with
/// several next hops counts with its first.
pub(crate) fn carriers(vips: &BTreeSet<IpAddr>, lo: u32, facts: &Facts) -> Vec<(String, Carries)> {
    let mut carriers: Vec<(String, Carries)> = Vec::new();
    let routes = facts.routes.iter();
    for route in routes.filter(|route| route.destination.family() == Family::V4) {
        let Some(link) = route.link.filter(|&link| link != lo) else {
            continue;
        };
        let why = if is_default(route) {
            Carries::DefaultRoute
        } else if route.kind == RouteKind::Unicast
            && vips.iter().any(|&vip| contains(route.destination, vip))
        {
            Carries::VipNetwork
        } else {
            continue;
        };
        let name = name_of(link, facts);
        if carriers.iter().all(|(known, _)| *known != name) {
            carriers.push((name, why));
        }
    }
    carriers
}

/// Whether a route is for everything.
pub(crate) fn is_default(route: &Route) -> bool {
    route.kind == RouteKind::Unicast && route.destination.length == 0
}

pub(crate) fn contains(network: Prefix, address: IpAddr) -> bool {
    let (IpAddr::V4(network_bits), IpAddr::V4(bits)) = (network.address, address) else {
        return false;
    };
    let unused = 32 - u32::from(network.length.min(32));
    let difference = network_bits.to_bits() ^ bits.to_bits();
    difference.checked_shr(unused).unwrap_or(0) == 0
}

pub(crate) fn name_of(link: u32, facts: &Facts) -> String {
    let found = facts.links.iter().find(|known| known.index == link);
    found.map_or_else(|| format!("interface {link}"), |found| found.name.clone())
}

#[cfg(test)]
pub(crate) mod tests;
