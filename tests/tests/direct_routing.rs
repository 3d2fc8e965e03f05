//! Direct routing on one link, with servers that rsagent has set up.

mod common;

use common::{Transfers, compare_transfers};
use laboratory::programs::{Director, Nginx, ours};
use laboratory::topology::OneLan;
use shared::host::netlink::Netlink;

fn lab(servers: u8, bytes: Option<&std::path::Path>) -> (OneLan, Vec<Nginx>, Director) {
    let lab = OneLan::new(servers);
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
fn bulk_data_arrives_as_it_was_sent_with_offloads_and_without() {
    let transfers = Transfers::new();
    let (lab, web, _director) = lab(1, Some(transfers.path()));
    compare_transfers(&lab.client, "10.2.0.100", &web[0], &transfers);
    lab.director.offloads_off("eth0");
    lab.servers[0].offloads_off("eth0");
    compare_transfers(&lab.client, "10.2.0.100", &web[0], &transfers);
    for host in [&lab.client, &lab.servers[0]] {
        assert_eq!(host.counter("Tcp", "InCsumErrors"), 0, "{}", host.name());
    }
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
