//! Each forwarding method with nginx, curl and datagrams, offloads on and off: what arrives is what was sent,
//! whole and sound.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::fs;

use common::{Transfers, compare_transfers, datagrams};
use laboratory::paths::{Method, Paths};
use laboratory::programs::Nginx;
use shared::addr::Family;

/// A hundred megabytes each way by TCP and by UDP, a hundred requests, and a hundred datagrams of 4 000 bytes
/// that are answered by such ones.
fn everything_arrives(method: Method, family: Family) {
    let transfers = Transfers::new();
    let bytes = fs::read(transfers.path()).unwrap();
    let paths = Paths::of(method, family);
    let web = Nginx::of_both_families(&paths.server, 80, Some(transfers.path()));
    datagrams::echo(&paths.server, paths.answering_address(), 53);
    let director = paths.start("");
    // Its first fragments do not fit into a tunnel, and nobody cuts IPv6 on its way.
    let is_told = family == Family::V6 && method.outer(family) > 0;
    let client = datagrams::connected(&paths.client, paths.vip(), 53);
    for offloads in [true, false] {
        if !offloads {
            paths.offloads_off();
        }
        let url = format!("http://{}/?[1-100]", paths.at(80));
        let words = ["-sS", "-m", "60", "--http1.0", &url];
        let answers = paths.client.succeed("curl", &words);
        assert_eq!(answers, "server\n".repeat(100), "{method:?}");
        compare_transfers(&paths.client, &paths.at(80).to_string(), &web, &transfers);
        let what = format!("{method:?}, offloads {offloads}");
        for sent in bytes.chunks(AT_ONCE) {
            datagrams::exchange_segments(&client, sent, DATAGRAM, &what);
        }
        if offloads && is_told {
            client.send(&bytes[..4000]).unwrap();
            let told = datagrams::receive(&client, &mut [0; 4000]).unwrap_err();
            assert_eq!(told.raw_os_error(), Some(EMSGSIZE), "{what}");
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
    let (status, reasons) = (director.admin("status"), director.drops().into_iter());
    let reasons: Vec<String> = reasons.map(|(reason, _)| reason).collect();
    let expected: &[&str] = if is_told { &["too_big"] } else { &[] };
    assert_eq!(reasons, expected, "{status}");
}

laboratory::of_both_families! {
    everything_arrives(Method::Nat) => nat_of_ipv4, nat_of_ipv6;
    everything_arrives(Method::Direct) => direct_routing_of_ipv4, direct_routing_of_ipv6;
    everything_arrives(Method::Ipip) => ipip_of_ipv4, ipip_of_ipv6;
    everything_arrives(Method::Gue) => gue_of_ipv4, gue_of_ipv6;
    everything_arrives(Method::Gre) => gre_of_ipv4, gre_of_ipv6;
    everything_arrives(Method::FullNat) => fullnat_of_ipv4, fullnat_of_ipv6;
    everything_arrives(Method::Mark) => firewall_mark_of_ipv4, firewall_mark_of_ipv6;
}

const EMSGSIZE: i32 = 90;
/// Fits into each tunnel.
const DATAGRAM: usize = 1380;
/// What is on its way at once.
const AT_ONCE: usize = 32 * DATAGRAM;
