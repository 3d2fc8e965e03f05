//! Each forwarding method with nginx, curl and datagrams, offloads on and off: what arrives is what was sent,
//! whole and sound.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::fs;

use common::{Transfers, compare_transfers, datagrams};
use laboratory::paths::{Method, Paths};
use laboratory::programs::Nginx;

/// A hundred megabytes each way by TCP and by UDP, a hundred requests, and a hundred datagrams of 4 000 bytes
/// that are answered by such ones.
fn everything_arrives(method: Method) {
    let transfers = Transfers::new();
    let bytes = fs::read(transfers.path()).unwrap();
    let paths = Paths::new(method);
    let web = Nginx::start(&paths.server, "server", 80, Some(transfers.path()));
    datagrams::echo(&paths.server, paths.answering_address(), 53);
    let director = paths.start("");
    let client = datagrams::connected(&paths.client, Paths::VIP, 53);
    for offloads in [true, false] {
        if !offloads {
            paths.offloads_off();
        }
        let words = [
            "-sS",
            "-m",
            "60",
            "--http1.0",
            "http://192.0.2.100/?[1-100]",
        ];
        let answers = paths.client.succeed("curl", &words);
        assert_eq!(answers, "server\n".repeat(100), "{method:?}");
        compare_transfers(&paths.client, "192.0.2.100", &web, &transfers);
        let what = format!("{method:?}, offloads {offloads}");
        for sent in bytes.chunks(AT_ONCE) {
            datagrams::exchange_segments(&client, sent, DATAGRAM, &what);
        }
        for sent in bytes.chunks(4000).take(100) {
            datagrams::exchange(&client, sent, &what);
        }
    }
    for host in [&paths.client, &paths.server] {
        for protocol in ["Tcp", "Udp"] {
            let wrong = host.counter(protocol, "InCsumErrors");
            assert_eq!(wrong, 0, "{protocol} of {}, {method:?}", host.name());
        }
    }
    let status = director.admin("status");
    assert!(status.contains("dropped packets\n  none"), "{status}");
}

#[test]
fn nat() {
    everything_arrives(Method::Nat);
}

#[test]
fn direct_routing() {
    everything_arrives(Method::Direct);
}

#[test]
fn ipip() {
    everything_arrives(Method::Ipip);
}

#[test]
fn gue() {
    everything_arrives(Method::Gue);
}

#[test]
fn gre() {
    everything_arrives(Method::Gre);
}

#[test]
fn fullnat() {
    everything_arrives(Method::FullNat);
}

#[test]
fn firewall_mark() {
    everything_arrives(Method::Mark);
}

/// Fits into each tunnel.
const DATAGRAM: usize = 1400;
/// What is on its way at once.
const AT_ONCE: usize = 32 * DATAGRAM;
