//! A link of 1 400 bytes somewhere on the way, by each forwarding method: nothing stalls, and who sends too
//! much is told.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::net::Ipv4Addr;

use common::{Transfers, compare_download, compare_upload};
use laboratory::paths::{Method, Narrow, Paths};
use laboratory::programs::Nginx;

/// Ten megabytes each way; then client and server know what they can only have been told.
fn nothing_stalls(method: Method) {
    let transfers = Transfers::of(10);
    for narrow in [Narrow::Front, Narrow::Own, Narrow::Behind] {
        if (method, narrow) == (Method::Direct, Narrow::Behind) {
            // The server is on the director's own link.
            continue;
        }
        let paths = Paths::new(method);
        paths.mtu(narrow, MTU);
        let web = Nginx::start(&paths.server, "server", 80, Some(transfers.path()));
        let director = paths.start("");
        let status = || format!("{method:?}, {narrow:?}: {}", director.admin("status"));

        compare_download(&paths.client, "192.0.2.100", &transfers);
        let passes_back = narrow == Narrow::Front || !method.answers_directly();
        let told = match method {
            Method::FullNat => Paths::learned(&paths.server, Paths::LOCAL, None::<Ipv4Addr>),
            _ => {
                let from = Some(paths.answering_address());
                Paths::learned(&paths.server, Paths::CLIENT, from)
            }
        };
        assert_eq!(told, passes_back.then_some(MTU), "the server, {}", status());

        // Or it would ask for segments that fit.
        paths.server.succeed("ip", &["route", "flush", "cache"]);
        compare_upload(&paths.client, "192.0.2.100", &web, &transfers);
        let outer = match narrow {
            Narrow::Front => 0,
            Narrow::Own | Narrow::Behind => method.outer(),
        };
        let told = Paths::learned(&paths.client, Paths::VIP, None::<Ipv4Addr>);
        assert_eq!(told, Some(MTU - outer), "the client, {}", status());
        // Of a tunnel's way the director is told as well, and says so to whom did not hear it yet.
        let either = narrow == Narrow::Behind && method.outer() > 0;
        let by_us = status().contains("too_big");
        assert!(either || by_us == (narrow == Narrow::Own), "{}", status());
    }
}

#[test]
fn nat() {
    nothing_stalls(Method::Nat);
}

#[test]
fn direct_routing() {
    nothing_stalls(Method::Direct);
}

#[test]
fn tunnels() {
    for method in [Method::Ipip, Method::Gue, Method::Gre] {
        nothing_stalls(method);
    }
}

#[test]
fn fullnat() {
    nothing_stalls(Method::FullNat);
}

#[test]
fn firewall_mark() {
    nothing_stalls(Method::Mark);
}

const MTU: u32 = 1400;
