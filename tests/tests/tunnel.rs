//! Forwarding by tunnel, to servers on which rsagent takes the tunnels off.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::ops::Deref;

use common::{Pair, TUNNELS, Transfers, compare_transfers, is_reset};
use laboratory::host::Host;
use laboratory::programs::{Director, Nginx, ours};
use laboratory::topology::OneLan;

/// Servers that are set up, and put back at the end.
struct Lab(OneLan);

impl Deref for Lab {
    type Target = OneLan;

    fn deref(&self) -> &OneLan {
        &self.0
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for server in &self.0.servers {
            server.output(&ours("rsagent").display().to_string(), &["stop"]);
        }
    }
}

fn lab(servers: u8) -> Lab {
    let lab = Lab(OneLan::new(servers));
    for server in &lab.servers {
        serve(server, "10.2.0.100");
    }
    lab
}

/// The server takes tunnels off, with the VIP of its own.
fn serve(server: &Host, vip: &str) {
    server.succeed(
        &ours("rsagent").display().to_string(),
        &["start", "--mode", "tun", "--vip", vip],
    );
}

#[test]
fn a_thousand_requests_by_each_kind_of_tunnel() {
    let lab = lab(2);
    let _web: Vec<Nginx> = lab
        .servers
        .iter()
        .map(|server| Nginx::start(server, server.name(), 80, None))
        .collect();
    let director = Director::start(&lab.director);
    for kind in TUNNELS {
        director.admin("-C");
        director.admin("-A -t 10.2.0.100:80 -s rr");
        for number in 0..2 {
            let server = OneLan::server(number);
            director.admin(&format!("-a -t 10.2.0.100:80 -r {server} {kind}"));
        }
        let url = "http://10.2.0.100/?[1-1000]";
        let answers = lab
            .client
            .succeed("curl", &["-sS", "-m", "30", "--http1.0", url]);
        let answers: Vec<&str> = answers.lines().collect();
        // Not in turn: a port that the client uses again may still have a connection of another kind.
        for name in ["server 1", "server 2"] {
            let of = answers.iter().filter(|answer| **answer == name).count();
            assert!((400..=600).contains(&of), "{kind}: {of} of {name}");
        }
        assert_eq!(answers.len(), 1000, "{kind}");
    }
    let status = director.admin("status");
    assert!(status.contains("dropped packets\n  none"), "{status}");
    for server in &lab.servers {
        assert_eq!(server.counter("Tcp", "InCsumErrors"), 0);
        assert_eq!(server.counter("Udp", "InCsumErrors"), 0);
    }
}

/// The server is told by a tunnelled segment, the client by one of the director's own.
#[test]
fn both_ends_hear_at_once_that_their_server_was_removed() {
    let lab = lab(1);
    let director = Director::start(&lab.director);
    director.admin("-A -t 10.2.0.100:80 -s rr --server-gone auto");
    director.admin("-a -t 10.2.0.100:80 -r 10.2.0.11 -i");
    let mut pair = Pair::connect(&lab.client, &lab.servers[0], "10.2.0.100:80", 80);
    pair.talk();
    director.admin("-d -t 10.2.0.100:80 -r 10.2.0.11");
    assert!(is_reset(&mut pair.server), "the server");
    assert!(is_reset(&mut pair.client), "the client");
}

/// The director's own route says how narrow it is.
#[test]
fn a_narrow_route_to_the_server_stalls_nothing() {
    let transfers = Transfers::new();
    let lab = lab(1);
    let route = ["route", "add", "10.2.0.11/32", "dev", "eth0", "mtu", "1400"];
    lab.director.succeed("ip", &route);
    let web = Nginx::start(&lab.servers[0], "server", 80, Some(transfers.path()));
    let director = Director::start(&lab.director);
    director.admin("-A -t 10.2.0.100:80 -s rr");
    director.admin("-a -t 10.2.0.100:80 -r 10.2.0.11 -i");
    compare_transfers(&lab.client, "10.2.0.100", &web, &transfers);
    let learned = lab.client.succeed("ip", &["route", "get", "10.2.0.100"]);
    assert!(learned.contains("mtu 1380"), "{learned}");
    let status = director.admin("status");
    assert!(status.contains("too_big"), "{status}");
}
