//! A link of 1 400 bytes somewhere on the way, of IPv6 one of 1 280, which is its least, by each forwarding
//! method: nothing stalls, and who sends too much is told.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::net::IpAddr;

use common::{Transfers, compare_download, compare_upload};
use laboratory::paths::{Method, Narrow, Paths};
use laboratory::programs::Nginx;
use shared::addr::Family;

/// Ten megabytes each way; then client and server know what they can only have been told.
fn nothing_stalls(method: Method, family: Family) {
    let (mtu, least) = match family {
        Family::V4 => (1400, 68),
        Family::V6 => (1280, 1280),
    };
    let transfers = Transfers::of(10);
    for narrow in [Narrow::Front, Narrow::Own, Narrow::Behind] {
        if (method, narrow) == (Method::Direct, Narrow::Behind) {
            // The server is on the director's own link.
            continue;
        }
        let paths = Paths::of(method, family);
        paths.mtu(narrow, mtu);
        let web = Nginx::of_both_families(&paths.server, 80, Some(transfers.path()));
        let director = paths.start("");
        let status = || format!("{method:?}, {narrow:?}: {}", director.admin("status"));
        let vip = paths.at(80).to_string();

        compare_download(&paths.client, &vip, &transfers);
        let passes_back = narrow == Narrow::Front || !method.answers_directly();
        let told = match method {
            Method::FullNat => Paths::learned(&paths.server, paths.local(), None::<IpAddr>),
            _ => {
                let from = Some(paths.answering_address());
                Paths::learned(&paths.server, paths.client_address(), from)
            }
        };
        assert_eq!(told, passes_back.then_some(mtu), "the server, {}", status());

        // Or it would ask for segments that fit.
        let words = match family {
            Family::V4 => ["-4", "route", "flush", "cache"],
            Family::V6 => ["-6", "route", "flush", "cache"],
        };
        paths.server.succeed("ip", &words);
        compare_upload(&paths.client, &vip, &web, &transfers);
        let outer = match narrow {
            Narrow::Front => 0,
            Narrow::Own | Narrow::Behind => method.outer(family),
        };
        let told = Paths::learned(&paths.client, paths.vip(), None::<IpAddr>);
        let fits = (mtu - outer).max(least);
        assert_eq!(told, Some(fits), "the client, {}", status());
        // Of a tunnel's way the director is told as well, and says so to whom did not hear it yet.
        let either = narrow == Narrow::Behind && method.outer(family) > 0;
        let by_us = status().contains("too_big");
        assert!(either || by_us == (narrow == Narrow::Own), "{}", status());
    }
}

laboratory::of_both_families! {
    nothing_stalls(Method::Nat) => nat_of_ipv4, nat_of_ipv6;
    nothing_stalls(Method::Direct) => direct_routing_of_ipv4, direct_routing_of_ipv6;
    nothing_stalls(Method::Ipip) => ipip_of_ipv4, ipip_of_ipv6;
    nothing_stalls(Method::Gue) => gue_of_ipv4, gue_of_ipv6;
    nothing_stalls(Method::Gre) => gre_of_ipv4, gre_of_ipv6;
    nothing_stalls(Method::FullNat) => fullnat_of_ipv4, fullnat_of_ipv6;
    nothing_stalls(Method::Mark) => firewall_mark_of_ipv4, firewall_mark_of_ipv6;
}
