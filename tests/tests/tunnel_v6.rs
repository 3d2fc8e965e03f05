//! Tunnels of IPv6 and from one family to the other, to servers on which rsagent takes the tunnels off.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::net::IpAddr;
use std::path::Path;

use common::{TUNNELS, Transfers, compare_transfers, datagrams};
use laboratory::host::Host;
use laboratory::ipv6::{beside, like};
use laboratory::programs::{Director, Nginx, ours};
use laboratory::topology::OneLan;

/// An address of the VIP inside, one of the server outside.
fn mixtures() -> [(IpAddr, IpAddr); 3] {
    let (vip, server) = (OneLan::VIP, OneLan::server(0));
    let (vip6, server6) = (IpAddr::from(like(vip)), IpAddr::from(like(server)));
    [
        (vip6, server6),
        (vip6, server.into()),
        (vip.into(), server6),
    ]
}

/// A server that is set up, and put back at the end.
struct Lab {
    lan: OneLan,
    web: Nginx,
}

impl Drop for Lab {
    fn drop(&mut self) {
        rsagent(&self.lan.servers[0], &["stop"]);
    }
}

fn rsagent(host: &Host, words: &[&str]) {
    host.succeed(&ours("rsagent").display().to_string(), words);
}

fn serve(host: &Host, vip: std::net::Ipv4Addr) {
    let (vip, vip6) = (vip.to_string(), like(vip).to_string());
    let words = ["start", "--mode", "tun", "--vip", &vip, "--vip", &vip6];
    rsagent(host, &words);
}

fn lab(bytes: Option<&Path>) -> Lab {
    let lan = OneLan::new(1);
    beside([&lan.client, &lan.director].into_iter().chain(&lan.servers));
    serve(&lan.servers[0], OneLan::VIP);
    let web = Nginx::of_both_families(&lan.servers[0], 80, bytes);
    Lab { lan, web }
}

/// As it stands in front of a port.
fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

fn services(vip: IpAddr) -> [String; 2] {
    let vip = bracketed(vip);
    [format!("-t {vip}:80"), format!("-u {vip}:53")]
}

/// The server gets this kind of tunnel; `verb` is to add or to edit.
fn tunnel(director: &Director, verb: &str, (vip, server): (IpAddr, IpAddr), kind: &str) {
    for service in services(vip) {
        director.admin(&format!("{verb} {service} -r {server} {kind}"));
    }
}

impl Lab {
    /// One director for each mixture: ports that the client uses again have no connections to other servers.
    fn director(&self, (vip, _): (IpAddr, IpAddr)) -> Director {
        let director = Director::start(&self.lan.director);
        for service in services(vip) {
            director.admin(&format!("-A {service} -s rr"));
        }
        director
    }

    /// But what was too big for a tunnel and is sent again.
    fn nothing_is_lost(&self, director: &Director) {
        let status = director.admin("status");
        assert!(status.contains("lost by the rings   0 packets"), "{status}");
        for (reason, _) in director.drops() {
            assert_eq!(reason, "too_big", "{status}");
        }
        for host in [&self.lan.client, &self.lan.servers[0]] {
            for protocol in ["Tcp", "Udp"] {
                assert_eq!(host.counter(protocol, "InCsumErrors"), 0);
            }
        }
    }
}

#[test]
fn requests_and_datagrams_by_each_kind_of_tunnel() {
    let lab = lab(None);
    datagrams::echo(&lab.lan.servers[0], OneLan::VIP, 53);
    datagrams::echo(&lab.lan.servers[0], like(OneLan::VIP), 53);
    for mixture @ (vip, _) in mixtures() {
        let director = lab.director(mixture);
        for (number, kind) in TUNNELS.iter().enumerate() {
            let verb = if number == 0 { "-a" } else { "-e" };
            tunnel(&director, verb, mixture, kind);
            let url = format!("http://{}/?[1-200]", bracketed(vip));
            let words = ["-sS", "-m", "30", "--http1.0", &url];
            let answers = lab.lan.client.succeed("curl", &words);
            assert_eq!(answers.lines().count(), 200, "{mixture:?} {kind}");
            let socket = datagrams::connected(&lab.lan.client, vip, 53);
            let pattern: Vec<u8> = (0..24_000_u32).map(|at| (at / 100) as u8).collect();
            for bytes in [1, 1000, 1300] {
                let what = format!("{mixture:?} {kind}, {bytes} bytes");
                datagrams::exchange(&socket, &pattern[..bytes], &what);
            }
            let what = format!("{mixture:?} {kind}, 20 at once");
            datagrams::exchange_segments(&socket, &pattern, 1200, &what);
        }
        lab.nothing_is_lost(&director);
    }
}

/// 100 MB each way, with all offloads, and 10 MB without them, which shows wrong sums.
#[test]
fn bulk_transfers_go_through_whole() {
    for (transfers, offloads) in [(Transfers::new(), true), (Transfers::of(10), false)] {
        let lab = lab(Some(transfers.path()));
        if !offloads {
            for host in [&lab.lan.client, &lab.lan.director, &lab.lan.servers[0]] {
                host.offloads_off("eth0");
            }
        }
        for mixture @ (vip, _) in mixtures() {
            let director = lab.director(mixture);
            for (verb, kind) in [("-a", TUNNELS[0]), ("-e", TUNNELS[2])] {
                tunnel(&director, verb, mixture, kind);
                compare_transfers(&lab.lan.client, &bracketed(vip), &lab.web, &transfers);
            }
            lab.nothing_is_lost(&director);
        }
    }
}
