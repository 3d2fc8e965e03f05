//! IPv6: NAT over a routed network and direct routing on one link, with nginx behind and curl in front.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::net::{Ipv4Addr, Ipv6Addr};

use common::{Transfers, compare_transfers, datagrams};
use laboratory::host::Host;
use laboratory::ipv6::{beside, like};
use laboratory::process::scratch;
use laboratory::programs::{Director, Nginx};
use laboratory::topology::{OneLan, Routed};
use laboratory::wait::{SOON, wait_for};

fn vip() -> Ipv6Addr {
    like(Routed::VIP)
}

/// Servers of a web service at the VIP's port 80, which is 8080 there, by NAT.
fn routed(servers: u8, bytes: Option<&std::path::Path>) -> (Routed, Vec<Nginx>, Director) {
    let lab = Routed::new(servers);
    beside([&lab.client, &lab.director].into_iter().chain(&lab.servers));
    let web = lab.servers.iter();
    let web = web.map(|server| Nginx::of_both_families(server, 8080, bytes));
    let web = web.collect();
    let director = Director::start(&lab.director);
    director.admin(&format!("-A -t [{}]:80 -s rr", vip()));
    for number in 0..servers {
        let server = like(Routed::server(number));
        director.admin(&format!("-a -t [{}]:80 -r [{server}]:8080 -m", vip()));
    }
    (lab, web, director)
}

/// The same by direct routing. The servers have the VIP on loopback, where they do not answer for it.
fn one_lan(servers: u8, bytes: Option<&std::path::Path>) -> (OneLan, Vec<Nginx>, Director) {
    let lab = OneLan::new(servers);
    beside([&lab.client, &lab.director].into_iter().chain(&lab.servers));
    let vip = like(OneLan::VIP);
    let mut web = Vec::new();
    for server in &lab.servers {
        let address = format!("{vip}/128");
        server.succeed("ip", &["address", "add", &address, "dev", "lo", "nodad"]);
        web.push(Nginx::of_both_families(server, 80, bytes));
    }
    let director = Director::start(&lab.director);
    director.admin(&format!("-A -t [{vip}]:80 -s rr"));
    for number in 0..servers {
        let server = like(OneLan::server(number));
        director.admin(&format!("-a -t [{vip}]:80 -r [{server}]:80 -g"));
    }
    (lab, web, director)
}

fn thousand_requests(client: &Host, vip: Ipv6Addr) -> Vec<String> {
    let url = format!("http://[{vip}]/?[1-1000]");
    let words = ["-sS", "-m", "60", "--http1.0", &url];
    let answers = client.succeed("curl", &words);
    answers.lines().map(str::to_owned).collect()
}

fn nothing_is_lost(director: &Director) {
    let status = director.admin("status");
    assert!(status.contains("dropped packets\n  none"), "{status}");
    assert!(status.contains("lost by the rings   0 packets"), "{status}");
}

#[test]
fn nat_shares_a_thousand_requests() {
    let (lab, _web, director) = routed(3, None);
    let answers = thousand_requests(&lab.client, vip());
    assert_eq!(answers.len(), 1000);
    let expected = ["server 3", "server 2", "server 1"];
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(*answer, expected[number % 3], "request {number}");
    }
    let stats = director.admin("-Ln --stats --exact");
    let service = stats.lines().find(|line| line.starts_with("TCP")).unwrap();
    assert_eq!(service.split_whitespace().nth(2), Some("1000"), "{stats}");
    nothing_is_lost(&director);
    assert_eq!(lab.director.counter("Tcp", "OutRsts"), 0);
}

#[test]
fn direct_routing_shares_a_thousand_requests() {
    let (lab, _web, director) = one_lan(2, None);
    let answers = thousand_requests(&lab.client, like(OneLan::VIP));
    assert_eq!(answers.len(), 1000);
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(
            *answer,
            ["server 2", "server 1"][number % 2],
            "request {number}"
        );
    }
    nothing_is_lost(&director);
    assert_eq!(lab.director.counter("Tcp", "OutRsts"), 0);
}

/// 100 MB each way, with all offloads, and 10 MB without them, which shows wrong sums.
#[test]
fn bulk_transfers_go_through_whole() {
    let (large, small) = (Transfers::new(), Transfers::of(10));
    for transfers in [&large, &small] {
        let (lab, web, director) = routed(1, Some(transfers.path()));
        let (lan, lan_web, lan_director) = one_lan(1, Some(transfers.path()));
        if std::ptr::eq(transfers, &small) {
            for (host, device) in [
                (&lab.client, "eth0"),
                (&lab.director, "cl"),
                (&lab.director, "rs"),
                (&lab.servers[0], "eth0"),
                (&lan.client, "eth0"),
                (&lan.director, "eth0"),
                (&lan.servers[0], "eth0"),
            ] {
                host.offloads_off(device);
            }
        }
        compare_transfers(&lab.client, &format!("[{}]", vip()), &web[0], transfers);
        let lan_vip = format!("[{}]", like(OneLan::VIP));
        compare_transfers(&lan.client, &lan_vip, &lan_web[0], transfers);
        for host in [&lab.client, &lab.servers[0], &lan.client, &lan.servers[0]] {
            assert_eq!(host.counter("Tcp", "InCsumErrors"), 0, "{}", host.name());
        }
        nothing_is_lost(&director);
        nothing_is_lost(&lan_director);
    }
}

/// Small ones, the largest that need not be cut, one that its sender cuts into fragments, and one that leaves
/// it as twenty.
fn datagrams_come_back(client: &Host, vip: Ipv6Addr, what: &str) {
    let socket = datagrams::connected(client, vip, 53);
    let pattern: Vec<u8> = (0..24_000_u32).map(|at| (at % 251) as u8).collect();
    for bytes in [1, 1000, 1452, 5000] {
        datagrams::exchange(&socket, &pattern[..bytes], what);
    }
    let mut different: Vec<u8> = pattern;
    for (number, segment) in different.chunks_mut(1200).enumerate() {
        segment[0] = number as u8;
        segment[1] = 255;
    }
    datagrams::exchange_segments(&socket, &different, 1200, what);
}

#[test]
fn datagrams_go_there_and_back() {
    let (lab, _web, director) = routed(1, None);
    let server = like(Routed::server(0));
    director.admin(&format!("-A -u [{}]:53 -s rr", vip()));
    director.admin(&format!("-a -u [{}]:53 -r [{server}]:5353 -m", vip()));
    datagrams::echo(&lab.servers[0], server, 5353);
    datagrams_come_back(&lab.client, vip(), "NAT");
    nothing_is_lost(&director);

    let (lan, _web, director) = one_lan(1, None);
    let vip = like(OneLan::VIP);
    let server = like(OneLan::server(0));
    director.admin(&format!("-A -u [{vip}]:53 -s rr"));
    director.admin(&format!("-a -u [{vip}]:53 -r [{server}]:53 -g"));
    datagrams::echo(&lan.servers[0], vip, 53);
    datagrams_come_back(&lan.client, vip, "direct routing");
    nothing_is_lost(&director);
}

/// The kernel's IPVS drops what such a server says.
#[test]
fn a_server_that_does_not_listen_says_so_as_the_vip() {
    let (lab, _web, director) = routed(1, None);
    let server = like(Routed::server(0));
    director.admin(&format!("-A -u [{}]:53 -s rr", vip()));
    director.admin(&format!("-a -u [{}]:53 -r [{server}]:5353 -m", vip()));
    let socket = datagrams::connected(&lab.client, vip(), 53);
    socket.send(b"anybody?").unwrap();
    let error = datagrams::receive(&socket, &mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    nothing_is_lost(&director);
}

/// A file names the VIP, which the director adds and removes, and the service.
#[test]
fn a_file_has_addresses_of_ipv6() {
    let lab = Routed::new(1);
    beside([&lab.client, &lab.director].into_iter().chain(&lab.servers));
    let _web = Nginx::of_both_families(&lab.servers[0], 8080, None);
    let (vip, server) = (like(Ipv4Addr::new(10, 0, 0, 99)), like(Routed::server(0)));
    let file = scratch("toml");
    let text = format!(
        "[[vip]]\naddress = \"{vip}\"\ninterface = \"cl\"\n\
         [[service]]\naddress = \"[{vip}]:80\"\nprotocol = \"tcp\"\npersistence = 300\nnetmask = \"64\"\n\
         [[service.server]]\naddress = \"[{server}]:8080\"\nforward = \"nat\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let name = file.display().to_string();
    let director = Director::start_with(&lab.director, &["--config", &name]);
    let url = format!("http://[{vip}]/");
    let answer = lab.client.succeed("curl", &["-gsS", "-m", "20", &url]);
    assert_eq!(answer, "server 1\n");
    let listing = director.admin("-Ln");
    assert!(listing.contains("persistent 300 mask 64"), "{listing}");
    nothing_is_lost(&director);
    std::fs::remove_file(&file).unwrap();
}

/// The VIP is an address of the host: it answers echo requests, and refuses its other ports.
#[test]
fn the_rest_of_the_host_is_untouched() {
    let (lab, _web, director) = routed(1, None);
    let alive = lab.client.run(|| common::ping(vip()));
    assert!(alive, "no answer to a ping of the VIP");
    let refused = |port| {
        let url = format!("http://[{}]:{port}/", vip());
        let output = lab.client.output("curl", &["-gsS", "-m", "20", &url]);
        assert_eq!(output.status.code(), Some(7), "port {port}");
    };
    refused(81);
    // Another port of the real server, and the balanced one, asked for directly.
    let (host, server) = (&lab.director, like(Routed::server(0)));
    host.sysctl("net/ipv6/conf/all/forwarding", "1");
    let url = format!("http://[{server}]:8080/");
    let direct = lab.client.succeed("curl", &["-gsS", "-m", "20", &url]);
    assert_eq!(direct, "server 1\n");
    // Without a server the client is told at once, and not by the host.
    director.admin(&format!("-d -t [{}]:80 -r [{server}]:8080", vip()));
    refused(80);
    assert!(wait_for(SOON, || {
        director.drops().contains(&("no_server".to_owned(), 1))
    }));
}

/// A real server that has the VIP where neighbours ask for it, and a stranger; one with the VIP on loopback answers
/// for it no more than the director alarms itself.
#[test]
fn who_else_answers_for_a_vip_is_found_and_named() {
    let lab = OneLan::new(3);
    beside([&lab.client, &lab.director].into_iter().chain(&lab.servers));
    let (vip, director) = (like(OneLan::VIP), Director::start(&lab.director));
    let address = format!("{vip}/128");
    for (host, device) in lab.servers.iter().zip(["eth0", "lo", "eth0"]) {
        host.succeed("ip", &["address", "add", &address, "dev", device, "nodad"]);
    }
    let [server, stranger] = [&lab.servers[0], &lab.servers[2]].map(|host| host.mac("eth0"));
    director.admin(&format!("-A -t [{vip}]:80"));
    for number in 0..2 {
        let server = like(OneLan::server(number));
        director.admin(&format!("-a -t [{vip}]:80 -r [{server}]:80 -g"));
    }
    let log_has = |sentence: &str| {
        let found = wait_for(SOON, || director.process.printed().contains(sentence));
        assert!(found, "{sentence}:\n{}", director.process.printed());
    };
    let answers = format!("answers neighbour discovery for {vip} on eth0: ");
    let name = like(OneLan::server(0));
    log_has(&format!("real server {name} ({server}) {answers}"));
    let nobody = "a host that is no real server of it";
    log_has(&format!("{nobody} ({stranger}) {answers}"));
    let status = director.admin("status --json");
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let rivals = status["director"]["rivals"].as_array().expect("a list");
    assert_eq!(rivals.len(), 2, "{status}");
    // A VIP that is no service's any more is nobody's affair.
    director.admin("-C");
    let no_more = format!("does not answer neighbour discovery for {vip} on eth0 any more");
    log_has(&format!("({server}) {no_more}"));
}
