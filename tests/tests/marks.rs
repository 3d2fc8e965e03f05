//! Services by firewall mark: the administrator's own rules of iptables put the marks on packets.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::UdpSocket;

use laboratory::host::Host;
use laboratory::process::scratch;
use laboratory::programs::{Director, Nginx};
use laboratory::topology::Routed;
use laboratory::wait::{SOON, wait_for};

/// As an administrator types it.
fn iptables(host: &Host, rule: &str) {
    let words: Vec<&str> = rule.split_whitespace().collect();
    host.succeed("iptables", &words);
}

fn web_servers(lab: &Routed, ports: &[u16]) -> Vec<Nginx> {
    let servers = lab.servers.iter();
    servers
        .flat_map(|server| {
            ports
                .iter()
                .map(|&port| Nginx::start(server, server.name(), port, None))
        })
        .collect()
}

/// Who answers a client.
fn ask(client: &Host, from: &str, url: &str) -> String {
    let output = client.output("curl", &["-sS", "-m", "20", "--interface", from, url]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{from} to {url}: {errors}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What the director changes of its host's routing.
fn routing(host: &Host) -> String {
    let mut all = host.succeed("ip", &["rule"]);
    all += &host.succeed("ip", &["route", "show", "table", "all", "proto", "76"]);
    for device in ["cl", "rs", "all"] {
        all += &host.read_sysctl(&format!("net/ipv4/conf/{device}/forwarding"));
    }
    all
}

/// The grouping of two ports that every LVS tutorial shows, beside a service by address on the same VIP; and
/// nothing stays behind, whatever happens to the director.
#[test]
fn two_ports_of_a_client_go_to_one_server() {
    let lab = Routed::new(3);
    for host in 101..=104 {
        lab.client.address("eth0", &format!("10.0.0.{host}/32"));
    }
    let _web = web_servers(&lab, &[80, 23, 8082]);
    let before = routing(&lab.director);
    let setup = |director: &Director| {
        director.admin("-A -f 80 -s rr -p 300");
        director.admin("-A -t 10.0.0.100:8082 -s rr");
        for number in 0..3 {
            let server = Routed::server(number);
            director.admin(&format!("-a -f 80 -r {server} -m"));
            director.admin(&format!("-a -t 10.0.0.100:8082 -r {server}:8082 -m"));
        }
    };
    for port in [80, 23] {
        let rule = "-t mangle -A PREROUTING -d 10.0.0.100/32 -p tcp --dport";
        iptables(
            &lab.director,
            &format!("{rule} {port} -j MARK --set-mark 80"),
        );
    }
    let director = Director::start(&lab.director);
    let refused = director.lvsadm(&["-A", "-f", "80", "-s", "nosuch"]);
    assert!(!refused.status.success());
    assert_eq!(
        routing(&lab.director),
        before,
        "after a service that was refused"
    );
    director.admin("-A -f 81 -s rr");
    assert_ne!(routing(&lab.director), before);
    director.admin("-D -f 81");
    // lvsadm has its answer before the host's routing is changed back.
    let undone = wait_for(SOON, || routing(&lab.director) == before);
    assert!(undone, "after the last service: {}", routing(&lab.director));
    setup(&director);
    let mut seen = BTreeSet::new();
    for host in 101..=104 {
        let client = format!("10.0.0.{host}");
        let [web, other] =
            [80, 23].map(|port| ask(&lab.client, &client, &format!("http://10.0.0.100:{port}/")));
        assert_eq!(web, other, "{client}");
        seen.insert(web);
    }
    assert_eq!(seen.len(), 3, "each server has clients: {seen:?}");
    let plain: BTreeSet<String> = (0..3)
        .map(|_| ask(&lab.client, "10.0.0.101", "http://10.0.0.100:8082/"))
        .collect();
    assert_eq!(plain.len(), 3, "{plain:?}");
    let status = director.admin("status");
    let routed = status
        .lines()
        .find(|row| row.trim_start().starts_with("lvs"));
    assert!(
        routed.is_some(),
        "what the host routes here is counted: {status}"
    );
    let listed = director.admin("-Lnc");
    let template = |row: &&str| row.starts_with("IP ") && row.contains("0.0.0.80:0");
    assert_eq!(listed.lines().filter(template).count(), 4, "{listed}");
    // Everything else of the VIP is the host's: a port that nobody listens on is refused, by it.
    let refused = lab
        .client
        .output("curl", &["-sS", "-m", "20", "http://10.0.0.100:81/"]);
    assert_eq!(refused.status.code(), Some(7), "{refused:?}");
    assert!(lab.client.run(|| common::ping(Routed::VIP)));
    let status = director.admin("status");
    assert!(status.contains("dropped packets\n  none"), "{status}");

    assert_ne!(routing(&lab.director), before);
    let end = |mut director: Director, signal: &str| {
        director.process.signal(signal);
        director.process.ended(SOON);
    };
    end(director, "TERM");
    assert_eq!(routing(&lab.director), before, "after an orderly end");

    // The process is killed, and the next one finds what it left.
    let director = Director::start(&lab.director);
    setup(&director);
    ask(&lab.client, "10.0.0.101", "http://10.0.0.100/");
    end(director, "KILL");
    assert_ne!(routing(&lab.director), before);
    let director = Director::start(&lab.director);
    assert_eq!(routing(&lab.director), before, "at the start after a crash");
    setup(&director);
    ask(&lab.client, "10.0.0.101", "http://10.0.0.100/");
    end(director, "INT");
    assert_eq!(routing(&lab.director), before);
}

/// For hosts without netfilter: by rules of the file, and nothing of the host's routing is changed.
#[test]
fn the_director_marks_packets_by_itself() {
    let lab = Routed::new(2);
    let _web = web_servers(&lab, &[80, 8081]);
    let before = routing(&lab.director);
    let file = scratch("toml");
    let text = r#"
[[mark]]
mark = 7
protocol = "tcp"
address = "10.0.0.100"
ports = ["80", "8081"]
[[service]]
fwmark = 7
scheduler = "rr"
persistence = 300
[[service.server]]
address = "10.1.0.11"
forward = "nat"
[[service.server]]
address = "10.1.0.12"
forward = "nat"
"#;
    fs::write(&file, text).unwrap();
    let director = Director::start_with(&lab.director, &["--config", file.to_str().unwrap()]);
    for _ in 0..2 {
        for port in [80, 8081] {
            let url = format!("http://10.0.0.100:{port}/");
            assert_eq!(ask(&lab.client, "10.0.0.10", &url), "server 2");
        }
    }
    assert_eq!(routing(&lab.director), before);
    let status = director.admin("status");
    assert!(status.contains("dropped packets\n  none"), "{status}");
    fs::remove_file(&file).unwrap();
}

/// The host's own filter drops what is routed into the director's device: the log says which one it is, and the
/// command that it says mends it.
#[test]
fn a_filter_that_drops_marked_packets_is_named_with_its_cure() {
    let lab = Routed::new(1);
    let _web = web_servers(&lab, &[80]);
    iptables(&lab.director, "-P FORWARD DROP");
    iptables(
        &lab.director,
        "-t mangle -A PREROUTING -d 10.0.0.100 -p tcp --dport 80 -j MARK --set-mark 1",
    );
    let director = Director::start(&lab.director);
    let warning = || {
        let printed = director.process.printed();
        let line = printed.lines().find(|line| line.contains("FORWARD"));
        line.map(str::to_owned)
    };
    assert_eq!(warning(), None);
    director.admin("-A -f 1 -s rr");
    director.admin("-a -f 1 -r 10.1.0.11 -m");
    let warned = wait_for(SOON, || warning().is_some());
    assert!(warned, "{}", director.process.printed());
    let warning = warning().unwrap();
    assert!(warning.contains("table filter"), "{warning}");
    let curl = ["-sS", "-m", "1", "http://10.0.0.100/"];
    assert!(!lab.client.output("curl", &curl).status.success());
    let (_, cure) = warning.split_once("; iptables ").unwrap();
    iptables(&lab.director, cure);
    assert_eq!(
        ask(&lab.client, "10.0.0.10", "http://10.0.0.100/"),
        "server 1"
    );
}

/// Only the first fragment carries the ports that the rule looks at, and only it is marked.
#[test]
fn a_datagram_in_three_fragments_goes_to_one_server_whole() {
    let lab = Routed::new(2);
    let bound = |host: &Host, address: &str| {
        let socket = host.run(|| UdpSocket::bind(address).unwrap());
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket
    };
    let servers: Vec<UdpSocket> = lab
        .servers
        .iter()
        .map(|host| bound(host, "0.0.0.0:53"))
        .collect();
    iptables(
        &lab.director,
        "-t mangle -A PREROUTING -d 10.0.0.100 -p udp --dport 53 -j MARK --set-mark 9",
    );
    let director = Director::start(&lab.director);
    director.admin("-A -f 9 -s rr");
    for number in 0..2 {
        director.admin(&format!("-a -f 9 -r {} -m", Routed::server(number)));
    }
    let mut buffer = vec![0; 65_536];
    let mut receive = |socket: &UdpSocket| loop {
        match socket.recv_from(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => {
                let (length, from) = outcome.unwrap();
                return (buffer[..length].to_vec(), from);
            }
        }
    };
    for round in 0..4_u8 {
        let client = bound(&lab.client, "0.0.0.0:0");
        client.connect("10.0.0.100:53").unwrap();
        let datagram: Vec<u8> = (0..4000_u32).map(|at| (at * 7) as u8 ^ round).collect();
        client.send(&datagram).unwrap();
        // The newest server is the first.
        let server = &servers[usize::from(1 - round % 2)];
        let (got, from) = receive(server);
        assert!(got == datagram, "round {round}: {} bytes", got.len());
        server.send_to(&got, from).unwrap();
        let (answer, _) = receive(&client);
        assert!(
            answer == datagram,
            "round {round}: {} bytes back",
            answer.len()
        );
    }
    // A datagram of the host's own is whole too.
    let own = bound(&lab.director, "10.0.0.100:5000");
    let client = bound(&lab.client, "0.0.0.0:0");
    client.connect("10.0.0.100:5000").unwrap();
    client.send(&[7; 4000]).unwrap();
    assert_eq!(receive(&own).0, [7; 4000]);
    let status = director.admin("status");
    assert!(status.contains("dropped packets\n  none"), "{status}");
}
