//! Direct routing on one link, with servers that rsagent has set up.

mod common;

use std::ops::Deref;

use common::{Pair, is_reset};
use laboratory::programs::{Director, Nginx, ours};
use laboratory::topology::OneLan;
use laboratory::wait::{SOON, wait_for};
use shared::host::netlink::Netlink;

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

fn lab(servers: u8, bytes: Option<&std::path::Path>) -> (Lab, Vec<Nginx>, Director) {
    let lab = Lab(OneLan::new(servers));
    let mut web = Vec::new();
    for server in &lab.servers {
        rsagent(server, "start");
        web.push(Nginx::start(server, server.name(), 80, bytes));
    }
    let director = Director::start(&lab.director);
    director.admin("-A -t 10.2.0.100:80 -s rr");
    for number in 0..servers {
        director.admin(&format!(
            "-a -t 10.2.0.100:80 -r {} -g",
            OneLan::server(number)
        ));
    }
    (lab, web, director)
}

fn rsagent(server: &laboratory::host::Host, verb: &str) {
    server.succeed(
        &ours("rsagent").display().to_string(),
        &[verb, "--vip", "10.2.0.100"],
    );
}

#[test]
fn a_thousand_requests_go_round_robin_newest_server_first() {
    let (lab, _web, director) = lab(2, None);
    let url = "http://10.2.0.100/?[1-1000]";
    let answers = lab
        .client
        .succeed("curl", &["-sS", "-m", "30", "--http1.0", url]);
    let answers: Vec<&str> = answers.lines().collect();
    assert_eq!(answers.len(), 1000);
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(
            *answer,
            ["server 2", "server 1"][number % 2],
            "request {number}"
        );
    }
    let listing = director.admin("-Ln --stats --exact -t 10.2.0.100:80");
    let service = listing
        .lines()
        .find(|line| line.starts_with("TCP"))
        .unwrap();
    let words: Vec<&str> = service.split_whitespace().collect();
    // The answers do not pass the director.
    assert_eq!(
        (words[2], words[4], words[6]),
        ("1000", "0", "0"),
        "{listing}"
    );
    let status = director.admin("status");
    assert!(status.contains("dropped packets\n  none"), "{status}");
}

#[test]
fn only_the_director_answers_for_the_vip() {
    let (lab, _web, director) = lab(2, None);
    let mac = |host: &laboratory::host::Host| {
        let link = host.netlink(|netlink| netlink.link_by_name("eth0"));
        link.unwrap().mac
    };
    lab.client
        .succeed("curl", &["-sS", "-m", "10", "http://10.2.0.100/"]);
    let neighbours = lab.client.netlink(Netlink::neighbours);
    let vip = neighbours
        .iter()
        .find(|known| known.address == OneLan::VIP)
        .unwrap();
    assert_eq!(vip.mac, mac(&lab.director));
    // DR connections end half seen, as with the kernel's IPVS.
    let connections = director.admin("-Lnc");
    assert!(
        connections.contains("FIN_WAIT    10.2.0.10:"),
        "{connections}"
    );
}

/// The director sees the client's packets only, and knows from them where both ends are. What the client
/// has not acknowledged yet it asks about, and the answer is the reset.
#[test]
fn both_ends_hear_at_once_that_their_server_was_removed() {
    let lab = Lab(OneLan::new(1));
    rsagent(&lab.servers[0], "start");
    let director = Director::start(&lab.director);
    director.admin("-A -t 10.2.0.100:80 -s rr --server-gone auto");
    director.admin("-a -t 10.2.0.100:80 -r 10.2.0.11 -g");
    let mut pair = Pair::connect(&lab.client, &lab.servers[0], "10.2.0.100:80", 80);
    pair.talk();
    director.admin("-d -t 10.2.0.100:80 -r 10.2.0.11");
    assert!(is_reset(&mut pair.server), "the server");
    assert!(is_reset(&mut pair.client), "the client");
}

/// A real server that nobody has set up, and a stranger; the director looks by itself who they are.
#[test]
fn who_else_answers_arp_for_a_vip_is_found_and_named() {
    let lab = OneLan::new(2);
    let director = Director::start(&lab.director);
    let [server, stranger] = [&lab.servers[0], &lab.servers[1]].map(|host| {
        host.succeed("ip", &["address", "add", "10.2.0.100/32", "dev", "lo"]);
        host.mac("eth0")
    });
    director.admin("-A -t 10.2.0.100:80");
    director.admin("-a -t 10.2.0.100:80 -r 10.2.0.11 -g");
    let log_has = |sentence: &str| {
        let found = wait_for(SOON, || director.process.printed().contains(sentence));
        assert!(found, "{sentence}:\n{}", director.process.printed());
    };
    log_has(&format!(
        "real server 10.2.0.11 ({server}) answers ARP for 10.2.0.100 on eth0: "
    ));
    log_has(&format!(
        "a host that is no real server of it ({stranger}) answers ARP for 10.2.0.100 on eth0: "
    ));
    let status = director.admin("status --json");
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let rivals = status["director"]["rivals"].as_array().expect("a list");
    assert_eq!(rivals.len(), 2, "{status}");
    // A VIP that is no service's any more is nobody's affair.
    director.admin("-C");
    log_has(&format!(
        "({server}) does not answer ARP for 10.2.0.100 on eth0 any more"
    ));
}
