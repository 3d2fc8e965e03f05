//! Real servers that are judged by the director's own checks: real programs, and such that fail in their own
//! ways.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod deaths;
mod ipv6;
mod lab;
mod protocols;
mod scripts;
mod sorry;
mod web;

use std::time::{Duration, Instant};

use laboratory::bench::checks::{SERVERS, all_checked, many_servers, service_of_many};
use laboratory::programs::Nginx;
use laboratory::topology::Routed;
use laboratory::wait::{SOON, wait_for};
use shared::host::netlink::Netlink;

use self::lab::Lab;

/// Two servers behind NAT with this check.
fn two(check: &str) -> String {
    format!(
        "[[service]]\naddress = \"10.0.0.100:80\"\nprotocol = \"tcp\"\nscheduler = \"rr\"\n\
         check = {{ {check} }}\n\
         [[service.server]]\naddress = \"10.1.0.11:80\"\nforward = \"nat\"\n\
         [[service.server]]\naddress = \"10.1.0.12:80\"\nforward = \"nat\"\n"
    )
}

const INTERVAL: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_millis(400);
const DELAY: Duration = Duration::from_millis(200);
const TIMES: &str =
    "interval = \"500ms\", timeout = \"400ms\", retry = 2, delay_before_retry = \"200ms\"";

fn nginx(net: &Routed, number: usize) -> Nginx {
    let server = &net.servers[number];
    Nginx::start(server, server.name(), 80, None)
}

/// One whose port is closed, and one that is gone.
#[test]
fn a_server_that_dies_is_out_in_time_and_returns_with_its_first_success() {
    let net = Routed::new(2);
    let (first, _second) = (nginx(&net, 0), nginx(&net, 1));
    let check = format!("type = \"http\", path = \"/\", status = [200], {TIMES}");
    let lab = Lab::new(net, &two(&check));
    let [a, b] = [0, 1].map(Routed::server);
    assert_eq!(lab.answers(10), ["server 1", "server 2"]);

    // One check may have just begun; after each of the retries one more fails.
    let refused_within = INTERVAL + DELAY * 2;
    let silent_within = refused_within + TIMEOUT * 3;
    drop(first);
    let died = Instant::now();
    lab.becomes(a, 80, "down");
    assert!(
        died.elapsed() < refused_within + SLACK,
        "{:?}",
        died.elapsed()
    );
    assert_eq!(lab.answers(10), ["server 2"]);
    let first = nginx(&lab.net, 0);
    lab.becomes(a, 80, "up");
    assert_eq!(lab.answers(10), ["server 1", "server 2"]);

    let second = &lab.net.servers[1];
    let link = second.ifindex("eth0");
    second.netlink(|netlink: &mut Netlink| netlink.set_link_down(link));
    let died = Instant::now();
    lab.becomes(b, 80, "down");
    assert!(
        died.elapsed() < silent_within + SLACK,
        "{:?}",
        died.elapsed()
    );
    assert_eq!(lab.answers(10), ["server 1"]);

    let log = lab.director.process.printed();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(" is up, for ") || line.contains(" is down, for "))
        .collect();
    let expected = [
        "10.1.0.11:80 is down, for TCP 10.0.0.100:80: its check by http fails: refused",
        "10.1.0.11:80 is up, for TCP 10.0.0.100:80",
        "10.1.0.12:80 is down, for TCP 10.0.0.100:80: its check by http fails: timed out after 400 ms, connecting",
    ];
    assert_eq!(lines.len(), 3, "{log}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.contains(expected), "{log}");
    }
    let status = lab.director.admin("status");
    let has = |words: &str| status.lines().any(|line| line.contains(words));
    assert!(has("http 10.1.0.11:80 /"), "{status}");
    assert!(
        status
            .lines()
            .any(|line| line.contains("http 10.1.0.12:80 /")
                && line.contains(" down for ")
                && line.contains("timed out after 400 ms, connecting")),
        "{status}"
    );
    drop(first);
}

/// What a loaded machine may take in addition, with what it takes to ask.
const SLACK: Duration = Duration::from_millis(1500);

#[test]
fn a_connection_is_enough_for_a_check_by_tcp() {
    let net = Routed::new(2);
    let first = nginx(&net, 0);
    let lab = Lab::new(net, &two(&format!("type = \"tcp\", {TIMES}")));
    let [a, b] = [0, 1].map(Routed::server);
    lab.becomes(b, 80, "down");
    assert_eq!(lab.health(a, 80).0, "up");
    let _second = nginx(&lab.net, 1);
    lab.becomes(b, 80, "up");
    drop(first);
    lab.becomes(a, 80, "down");
}

/// With alpha nothing is sent to a server that has not been seen.
#[test]
fn with_alpha_servers_wait_for_their_first_success() {
    let net = Routed::new(2);
    let _first = nginx(&net, 0);
    let slow = "type = \"tcp\", interval = \"1h\", timeout = \"1s\", alpha = true, warmup = \"2s\"";
    let lab = Lab::new(net, &two(slow));
    let [a, b] = [0, 1].map(Routed::server);
    let (health, reason) = lab.health(b, 80);
    assert_eq!(health, "down");
    assert!(reason.contains("its check by tcp "), "{reason}");
    lab.becomes(a, 80, "up");
    let refused = || lab.health(b, 80).1 == "its check by tcp fails: refused";
    assert!(wait_for(SOON, refused), "{}", lab.all());
}

#[test]
fn servers_that_come_by_lvsadm_are_checked_and_a_reload_forgets_nothing() {
    let net = Routed::new(2);
    let _first = nginx(&net, 0);
    // An hour: what is known stays known only if it is not forgotten.
    let slow = "type = \"tcp\", interval = \"1h\", timeout = \"1s\", retry = 0, warmup = \"0s\"";
    let config = two(slow);
    let lab = Lab::new(net, &config);
    let b = Routed::server(1);
    lab.becomes(b, 80, "down");
    lab.director.admin("-a -t 10.0.0.100:80 -r 10.1.0.12:81 -m");
    lab.becomes(b, 81, "down");
    let _second = nginx(&lab.net, 1);
    lab.reload(&config.replace("\"rr\"", "\"wrr\""));
    assert_eq!(lab.health(b, 80).0, "down");
    assert_eq!(lab.health(b, 81).0, "down");
    assert_eq!(lab.answers(4), ["server 1"]);
    // Another check is made anew.
    lab.reload(&config.replace("1h", "2h"));
    lab.becomes(b, 80, "up");
    lab.becomes(b, 81, "down");
    // And without one everybody is as configured.
    lab.reload(&config.replace(&format!("check = {{ {slow} }}"), ""));
    lab.becomes(b, 81, "up");
}

/// The check of each of a thousand servers, each 5 s, in a few per cent of a core, packets aside.
#[test]
fn a_thousand_checks_cost_little() {
    let net = Routed::new(1);
    let _web = many_servers(&net);
    let check = "check = { type = \"http\", interval = \"5s\" }\n";
    let lab = Lab::new(net, &service_of_many(SERVERS, check));
    let checked = || all_checked(&lab.director.admin("status --json"));
    assert!(wait_for(SOON, checked), "{}", lab.all());
    let before = lab.director.process.cpu_time();
    let begun = Instant::now();
    // Two rounds of all of them: what is measured takes this time.
    std::thread::sleep(Duration::from_secs(10));
    let used = lab.director.process.cpu_time() - before;
    let share = used.as_secs_f64() / begun.elapsed().as_secs_f64();
    println!(
        "a thousand checks each 5 s: {:.1} % of a core",
        share * 100.0
    );
    assert!(share < 0.05, "{share}");
    let status = lab.status();
    let checks = status["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 1000);
    assert!(
        checks.iter().all(|check| check["up"] == true),
        "{}",
        lab.all()
    );
}

/// What the director asks of the servers itself is never taken for balanced traffic, also while there is some
/// from the same ports.
#[test]
fn the_director_s_own_questions_pass_by_its_capture() {
    for (forward, fullnat) in [
        ("nat", ""),
        ("fullnat", "[fullnat]\nlocal_addresses = [\"10.1.0.99\"]\n"),
    ] {
        let net = Routed::new(2);
        let _web = [nginx(&net, 0), nginx(&net, 1)];
        let config = two(
            "type = \"http\", interval = \"50ms\", timeout = \"1s\", retry = 0, warmup = \"0s\"",
        );
        let config = config.replace("\"nat\"", &format!("\"{forward}\""));
        let lab = Lab::new(net, &format!("{fullnat}{config}"));
        for _ in 0..5 {
            assert_eq!(lab.answers(200), ["server 1", "server 2"], "{forward}");
        }
        let log = lab.director.process.printed();
        assert!(!log.contains("is down"), "{forward}: {log}");
        let status = lab.status();
        let checks = status["checks"].as_array().unwrap();
        assert_eq!(checks.len(), 2);
        assert!(
            checks
                .iter()
                .all(|check| check["checked"] == true && check["up"] == true),
            "{forward}: {}",
            lab.all()
        );
        assert_eq!(
            status["director"]["given_back"],
            0,
            "{forward}: {}",
            lab.all()
        );
        assert_eq!(lab.director.drops(), [], "{forward}");
    }
}
