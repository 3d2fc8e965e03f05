//! IPv6 beside IPv4, in any laboratory: each address and each route has its like.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shared::addr::Family;
use shared::host::netlink::{Netlink, NewAddress, OUR_PROTOCOL, Prefix, Route, TABLE_MAIN};

use crate::host::Host;
use crate::wait::{SOON, wait_for};

/// What an address of IPv4 is called in IPv6: `2001:db8::` and its four bytes.
pub fn like(address: Ipv4Addr) -> Ipv6Addr {
    let [.., a, b, c, d] = address.to_ipv6_compatible().segments();
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, a, b, c, d)
}

/// An address, or what it is called in IPv6.
pub fn of(family: Family, address: Ipv4Addr) -> IpAddr {
    match family {
        Family::V4 => address.into(),
        Family::V6 => like(address).into(),
    }
}

/// Makes two tests of each function that takes a family behind what else it takes.
#[macro_export]
macro_rules! of_both_families {
    ($($test:ident $(($($first:expr),*))? => $four:ident, $six:ident;)*) => {$(
        #[test]
        fn $four() {
            $test($($($first,)*)? shared::addr::Family::V4);
        }

        #[test]
        fn $six() {
            $test($($($first,)*)? shared::addr::Family::V6);
        }
    )*};
}

/// Gives hosts the likes of their addresses and routes, and waits until they may use them. Routers go on
/// routing.
///
/// # Panics
/// When the kernel refuses.
pub fn beside<'a>(hosts: impl IntoIterator<Item = &'a Host>) {
    for host in hosts {
        for address in host.netlink(Netlink::addresses) {
            let scope = address.scope;
            if let Some(prefix) = like_prefix(&address.prefix) {
                let new = NewAddress {
                    link: address.link,
                    prefix,
                    label: None,
                    scope,
                    protocol: OUR_PROTOCOL,
                };
                host.netlink(|netlink| netlink.add_address(&new));
            }
        }
        for route in host.netlink(|netlink| netlink.routes(Family::V4)) {
            if let (TABLE_MAIN, Some(IpAddr::V4(gateway))) = (route.table, route.gateway)
                && let Some(destination) = like_prefix(&route.destination)
            {
                let new = Route {
                    gateway: Some(like(gateway).into()),
                    ..Route::to(destination)
                };
                host.netlink(|netlink| netlink.add_route(&new));
            }
        }
        let forwards = host.read_sysctl("net/ipv4/ip_forward");
        host.sysctl("net/ipv6/conf/all/forwarding", &forwards);
        // The link-local ones, which hosts ask for their neighbours by.
        let usable = wait_for(SOON, || {
            let addresses = host.netlink(Netlink::addresses);
            addresses
                .iter()
                .all(|address| address.flags & TENTATIVE == 0)
        });
        assert!(usable, "{} has no address of IPv6 to use", host.name());
    }
}

/// None of loopback, which has its own.
fn like_prefix(prefix: &Prefix) -> Option<Prefix> {
    match prefix.address {
        IpAddr::V4(address) if !address.is_loopback() => {
            Some(Prefix::new(like(address), prefix.length + 96))
        }
        _ => None,
    }
}

/// `IFA_F_TENTATIVE`
const TENTATIVE: u32 = 0x40;
