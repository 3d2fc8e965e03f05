//! A thousand real servers with a check by HTTP each five seconds, and one with dear certificates: what that costs
//! the director, and packets.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use shared::host::netlink::{Prefix, Route};

use super::VIP;
use super::cpu::{self, ENDS, MIDDLE, Used};
use super::lane::Middle;
use super::report::Row;
use super::site::{Site, p99, short};
use crate::papers::Papers;
use crate::programs::Nginx;
use crate::topology::Routed;
use crate::wait::{SOON, wait_for};

/// All rows of this kind, so many repetitions.
///
/// # Panics
/// If a packet is lost.
pub fn measure(repeat: usize) -> Vec<Row> {
    let check = "type = \"http\", interval = \"5s\"";
    let sites = [format!("check = {{ {check} }}\n"), String::new()].map(|check| {
        let lab = Routed::new(1);
        let web = many_servers(&lab);
        let site = Site::new(lab, &service_of_many(SERVERS, &check));
        cpu::pin(site.director.process.id(), MIDDLE);
        (site, web)
    });
    let [(checked, _), (unchecked, _)] = &sites;
    // The first round is spread over some time of its own.
    let begun = wait_for(SOON, || {
        all_checked(&checked.director.admin("status --json"))
    });
    assert!(begun, "checks are missing");
    let title = |what| format!("1 000 real servers with an HTTP check each 5 s: {what}");
    let mut used = Row::new(title("CPU time of the director"), "% of a CPU", PLACEMENT);
    let mut without = Row::new(
        title("UDP round trip, p99, of a director without"),
        "us",
        PLACEMENT,
    );
    let mut with = Row::new(title("UDP round trip, p99"), "us", PLACEMENT);
    let mut ratio = Row::new(title("that, divided by that without"), "", PLACEMENT);
    for _ in 0..repeat {
        let process = Some(checked.director.process.id());
        let (begin, before) = (Instant::now(), Used::now(process, &[]));
        thread::sleep(ROUND);
        let (middle, _) = before.since(process, &[]);
        let share = middle.as_secs_f64() / begin.elapsed().as_secs_f64();
        used.add(Middle::Nat, share * 100.0);
        let of = |site: &Site| p99(site.round_trips_during(|| thread::sleep(ROUND)));
        let (plain, busy) = (of(unchecked), of(checked));
        without.add(Middle::Nat, plain);
        with.add(Middle::Nat, busy);
        ratio.add(Middle::Nat, busy / plain);
    }
    vec![used, without, with, ratio, dear_certificates(repeat)]
}

/// Three signatures of P-384 are verified for a check: the server's, its certificate's, and that of the authority
/// between.
fn dear_certificates(repeat: usize) -> Row {
    let papers = Papers::new("laboratory", "P-384");
    let (certificate, key) = papers.issue_between("www", "www.example.org");
    let lab = Routed::new(1);
    let web = Nginx::secured(&lab.servers[0], "www", 443, &certificate, &key);
    cpu::pin(web.process.id(), ENDS);
    let check = format!(
        "type = \"https\", interval = \"100ms\", host = \"www.example.org\", ca_file = \"{}\"",
        papers.authority().display()
    );
    let address = Routed::server(0);
    let service = format!(
        "[[service]]\naddress = \"{VIP}:443\"\nprotocol = \"tcp\"\ncheck = {{ {check} }}\n\
         [[service.server]]\nforward = \"nat\"\naddress = \"{address}:443\"\n"
    );
    let site = Site::new(lab, &service);
    cpu::pin(site.director.process.id(), MIDDLE);
    let status = || site.director.admin("status --json");
    let up = wait_for(SOON, || {
        let status: serde_json::Value = serde_json::from_str(&status()).expect("JSON");
        let check = &status["checks"][0];
        check["checked"] == true && check["failure"].is_null()
    });
    assert!(up, "the check fails: {}", status());
    let title = "HTTPS checks of certificates of P-384: turns of more than 2 ms for 100 checks";
    let mut long = Row::new(title.to_owned(), "", "director on CPU 0; server on CPU 1");
    for _ in 0..repeat {
        let before = site.turns("0.002");
        thread::sleep(CHECKS);
        let after = site.turns("0.002");
        let share = 1.0 - short(before, after);
        long.add(Middle::Nat, share * (after.1 - before.1));
    }
    drop(web);
    long
}

/// nginx at each address of a network behind the director.
///
/// # Panics
/// If the kernel refuses.
pub fn many_servers(lab: &Routed) -> Nginx {
    reach_many(lab);
    let host = &lab.servers[0];
    Nginx::start(host, host.name(), 80, None)
}

/// All addresses of a network behind the director are the one host's.
///
/// # Panics
/// If the kernel refuses.
pub fn reach_many(lab: &Routed) {
    let host = &lab.servers[0];
    host.succeed("ip", &["route", "add", "local", "10.9.0.0/16", "dev", "lo"]);
    let route = Route {
        gateway: Some(Routed::server(0).into()),
        ..Route::to(Prefix::new(Ipv4Addr::new(10, 9, 0, 0), 16))
    };
    lab.director.netlink(|netlink| netlink.add_route(&route));
}

/// A service with so many servers of that network, and these lines.
pub fn service_of_many(servers: u16, lines: &str) -> String {
    let mut text = format!("[[service]]\naddress = \"{VIP}:80\"\nprotocol = \"tcp\"\n{lines}");
    for number in 0..servers {
        let (high, low) = (number / 250, number % 250 + 1);
        let server = "[[service.server]]\nforward = \"nat\"\n";
        let line = writeln!(text, "{server}address = \"10.9.{high}.{low}:80\"");
        line.expect("memory");
    }
    text
}

/// Whether each check has been made, as `lvsadm status --json` tells.
///
/// # Panics
/// If that says nothing of checks.
pub fn all_checked(status: &str) -> bool {
    let status: serde_json::Value = serde_json::from_str(status).expect("JSON");
    let mut checks = status["checks"].as_array().expect("checks").iter();
    checks.all(|check| check["checked"] == true)
}

/// How many servers there are.
pub const SERVERS: u16 = 1000;
/// All are checked once.
const ROUND: Duration = Duration::from_secs(5);
/// For a hundred checks.
const CHECKS: Duration = Duration::from_secs(10);
const PLACEMENT: &str = "director on CPU 0; client and servers on CPU 1, nginx anywhere";
