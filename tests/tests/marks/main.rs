//! Services by firewall mark: the administrator's own rules of iptables put the marks on packets.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

#[path = "../common/mod.rs"]
mod common;
mod lab;

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

use laboratory::process::scratch;
use laboratory::programs::Director;
use laboratory::wait::{SOON, wait_for};
use shared::addr::Family;

use common::bound;
use lab::{Lab, nothing_is_dropped};

laboratory::of_both_families! {
    two_ports => two_ports_of_a_client_go_to_one_server, two_ports_of_a_client_go_to_one_server_of_ipv6;
    own_rules => the_director_marks_packets_by_itself, the_director_marks_packets_of_ipv6_by_itself;
    filter => a_filter_that_drops_marked_packets_is_named_with_its_cure, so_is_one_of_ipv6;
    fragments => a_datagram_in_three_fragments_goes_to_one_server_whole, so_does_one_of_ipv6;
}

/// The grouping of two ports that every LVS tutorial shows, beside a service by address on the same VIP; and
/// nothing stays behind, whatever happens to the director.
fn two_ports(family: Family) {
    let lab = Lab::new(family, 3);
    let _web = lab.web_servers(&[80, 23, 8082]);
    let host = &lab.net.director;
    let (mark, vip) = (lab.mark(80), lab.vip());
    let plain = SocketAddr::new(vip, 8082);
    let before = lab.routing();
    let setup = |director: &Director| {
        director.admin(&format!("-A {mark} -s rr -p 300"));
        director.admin(&format!("-A -t {plain} -s rr"));
        for number in 0..3 {
            let server = lab.server(number);
            director.admin(&format!("-a {mark} -r {server} -m"));
            let inner = SocketAddr::new(server, 8082);
            director.admin(&format!("-a -t {plain} -r {inner} -m"));
        }
    };
    for port in [80, 23] {
        let rule = format!("-t mangle -A PREROUTING -d {vip} -p tcp --dport {port}");
        lab.iptables(&format!("{rule} -j MARK --set-mark 80"));
    }
    let director = Director::start(host);
    let refused = format!("-A {mark} -s nosuch");
    let refused: Vec<&str> = refused.split(' ').collect();
    assert!(!director.lvsadm(&refused).status.success());
    assert_eq!(lab.routing(), before, "after a service that was refused");
    director.admin(&format!("-A {} -s rr", lab.mark(81)));
    assert_ne!(lab.routing(), before);
    director.admin(&format!("-D {}", lab.mark(81)));
    // lvsadm has its answer before the host's routing is changed back.
    let undone = wait_for(SOON, || lab.routing() == before);
    assert!(undone, "after the last service: {}", lab.routing());
    setup(&director);
    let mut seen = BTreeSet::new();
    for client in 101..=104 {
        let [web, other] = [80, 23].map(|port| lab.ask(client, port));
        assert_eq!(web, other, "{client}");
        seen.insert(web);
    }
    assert_eq!(seen.len(), 3, "each server has clients: {seen:?}");
    let plain: BTreeSet<String> = (0..3).map(|_| lab.ask(101, 8082)).collect();
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
    // As ipvsadm shows it, which was recorded: `[0:8::]:0` for the mark 8 of IPv6.
    let name = match family {
        Family::V4 => "0.0.0.80:0",
        Family::V6 => "[0:50::]:0",
    };
    let template = |row: &&str| row.starts_with("IP ") && row.contains(name);
    assert_eq!(listed.lines().filter(template).count(), 4, "{listed}");
    // Everything else of the VIP is the host's: a port that nobody listens on is refused, by it.
    let nobody = format!("http://{}/", SocketAddr::new(vip, 81));
    let refused = lab.net.client.output("curl", &["-sS", "-m", "20", &nobody]);
    assert_eq!(refused.status.code(), Some(7), "{refused:?}");
    assert!(lab.net.client.run(|| common::ping(vip)));
    nothing_is_dropped(&director);

    assert_ne!(lab.routing(), before);
    let stop = |mut director: Director, signal: &str| {
        director.process.signal(signal);
        director.process.ended(SOON);
    };
    stop(director, "TERM");
    assert_eq!(lab.routing(), before, "after an orderly end");

    // The process is killed, and the next one finds what it left.
    let director = Director::start(host);
    setup(&director);
    lab.ask(101, 80);
    stop(director, "KILL");
    assert_ne!(lab.routing(), before);
    let director = Director::start(host);
    assert_eq!(lab.routing(), before, "at the start after a crash");
    setup(&director);
    lab.ask(101, 80);
    stop(director, "INT");
    assert_eq!(lab.routing(), before);
}

/// For hosts without netfilter: by rules of the file, and nothing of the host's routing is changed.
fn own_rules(family: Family) {
    let lab = Lab::new(family, 2);
    let _web = lab.web_servers(&[80, 8081]);
    let before = lab.routing();
    let file = scratch("toml");
    let (vip, named) = (lab.vip(), family.to_string().to_lowercase());
    let text = format!(
        r#"
[[mark]]
mark = 7
protocol = "tcp"
address = "{vip}"
ports = ["80", "8081"]
[[service]]
fwmark = 7
family = "{named}"
scheduler = "rr"
persistence = 300
[[service.server]]
address = "{}"
forward = "nat"
[[service.server]]
address = "{}"
forward = "nat"
"#,
        lab.server(0),
        lab.server(1)
    );
    fs::write(&file, text).unwrap();
    let options = ["--config", file.to_str().unwrap()];
    let director = Director::start_with(&lab.net.director, &options);
    for _ in 0..2 {
        for port in [80, 8081] {
            assert_eq!(lab.ask(10, port), "server 2");
        }
    }
    assert_eq!(lab.routing(), before);
    nothing_is_dropped(&director);
    fs::remove_file(&file).unwrap();
}

/// The host's own filter drops what is routed into the director's device: the log says which one it is, and the
/// command that it says mends it.
fn filter(family: Family) {
    let lab = Lab::new(family, 1);
    let _web = lab.web_servers(&[80]);
    let vip = lab.vip();
    lab.iptables("-P FORWARD DROP");
    let rule = format!("-t mangle -A PREROUTING -d {vip} -p tcp --dport 80");
    lab.iptables(&format!("{rule} -j MARK --set-mark 1"));
    let director = Director::start(&lab.net.director);
    let warning = || {
        let printed = director.process.printed();
        let line = printed.lines().find(|line| line.contains("FORWARD"));
        line.map(str::to_owned)
    };
    assert_eq!(warning(), None);
    let mark = lab.mark(1);
    director.admin(&format!("-A {mark} -s rr"));
    director.admin(&format!("-a {mark} -r {} -m", lab.server(0)));
    let warned = wait_for(SOON, || warning().is_some());
    assert!(warned, "{}", director.process.printed());
    let warning = warning().unwrap();
    assert!(warning.contains("table filter"), "{warning}");
    let url = format!("http://{}/", SocketAddr::new(vip, 80));
    let lost = lab.net.client.output("curl", &["-sS", "-m", "1", &url]);
    assert!(!lost.status.success());
    let program = match family {
        Family::V4 => "; iptables ",
        Family::V6 => "; ip6tables ",
    };
    let (_, cure) = warning.split_once(program).unwrap();
    lab.iptables(cure);
    assert_eq!(lab.ask(10, 80), "server 1");
}

/// Only the first fragment carries the ports that the rule looks at, and only it is marked.
fn fragments(family: Family) {
    let lab = Lab::new(family, 2);
    let (vip, mark) = (lab.vip(), lab.mark(9));
    let servers: Vec<UdpSocket> = (0..2)
        .zip(&lab.net.servers)
        .map(|(number, host)| bound(host, lab.server(number), 53))
        .collect();
    let rule = format!("-t mangle -A PREROUTING -d {vip} -p udp --dport 53");
    lab.iptables(&format!("{rule} -j MARK --set-mark 9"));
    let director = Director::start(&lab.net.director);
    director.admin(&format!("-A {mark} -s rr"));
    for number in 0..2 {
        director.admin(&format!("-a {mark} -r {} -m", lab.server(number)));
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
        let client = bound(&lab.net.client, lab.client(10), 0);
        client.connect((vip, 53)).unwrap();
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
    let own = bound(&lab.net.director, vip, 5000);
    let client = bound(&lab.net.client, lab.client(10), 0);
    client.connect((vip, 5000)).unwrap();
    client.send(&[7; 4000]).unwrap();
    assert_eq!(receive(&own).0, [7; 4000]);
    nothing_is_dropped(&director);
}
