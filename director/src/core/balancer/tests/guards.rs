//! Quorum, sorry server, failures that are not believed, and what becomes of a failed server's connections.

use std::collections::BTreeSet;

use super::*;
use crate::core::guard::{Change, Guard, Panic};
use crate::core::judgement::{Health, Judge, Judgement};
use crate::core::operation::ServerGone;

const WEB: &str = "10.0.0.100:80";
const SERVERS: [&str; 4] = [
    "10.1.0.11:80",
    "10.1.0.12:80",
    "10.1.0.13:80",
    "10.1.0.14:80",
];
const SORRY: &str = "10.1.0.99:8080";

fn lab(servers: usize, guard: Guard) -> Laboratory {
    let mut lab = Laboratory::new();
    lab.ipvsadm(&format!("-A -t {WEB} -s rr"));
    for server in &SERVERS[..servers] {
        lab.ipvsadm(&format!("-a -t {WEB} -r {server} -m"));
    }
    guarded(&mut lab, guard);
    for server in &SERVERS[..servers] {
        judge(&mut lab, server, Health::Up);
    }
    assert_eq!(lab.balancer.take_changes(), []);
    lab
}

fn guarded(lab: &mut Laboratory, guard: Guard) {
    let guards = [(tcp_service(WEB), guard)].into();
    lab.balancer.set_guards(lab.now, guards);
}

fn with_sorry(quorum: u32, hysteresis: u32) -> Guard {
    let key = server_key(SORRY);
    Guard {
        quorum,
        hysteresis,
        sorry: Some(ServerSpec::new(
            key.address,
            key.port,
            ForwardMethod::Nat,
            1,
        )),
        ..Guard::default()
    }
}

fn judge(lab: &mut Laboratory, server: &str, health: Health) {
    let judgement = Judgement {
        health,
        reason: (health == Health::Down).then(|| "refused".to_owned()),
        ..Judgement::default()
    };
    let (now, service) = (lab.now, tcp_service(WEB));
    let server = server_key(server);
    lab.balancer
        .judge_server(now, &service, &server, Judge::Checks, judgement);
}

/// Where new connections of these clients go.
fn goes_to(lab: &mut Laboratory, ports: std::ops::Range<u16>) -> BTreeSet<String> {
    let mut went = BTreeSet::new();
    for port in ports {
        lab.tcp("S", &format!("10.0.0.10:{port}"), WEB);
        went.extend(lab.went.map(|end| format!("{}:{}", end.address, end.port)));
    }
    went
}

fn only(server: &str) -> BTreeSet<String> {
    [server.to_owned()].into()
}

fn listed(lab: &Laboratory) -> Vec<(String, i32, bool)> {
    let view = lab.balancer.service(&tcp_service(WEB)).unwrap();
    let server = |server: &ServerView| {
        (
            server.spec.key.to_string(),
            server.effective_weight,
            server.sorry,
        )
    };
    view.servers.iter().map(server).collect()
}

fn up(server: &str) -> Change {
    Change::Up(tcp_service(WEB), server_key(server))
}

fn down(server: &str) -> Change {
    Change::Down(tcp_service(WEB), server_key(server))
}

fn lost(weight: u64, quorum: u32) -> Change {
    Change::QuorumLost {
        service: tcp_service(WEB),
        weight,
        quorum,
        sorry: Some(server_key(SORRY)),
    }
}

fn gained(weight: u64, quorum: u32) -> Change {
    Change::QuorumGained {
        service: tcp_service(WEB),
        weight,
        quorum,
        sorry: Some(server_key(SORRY)),
    }
}

#[test]
fn the_sorry_server_serves_while_nobody_else_can() {
    let mut lab = lab(2, with_sorry(1, 0));
    assert_eq!(goes_to(&mut lab, 1000..1004).len(), 2);
    judge(&mut lab, SERVERS[0], Health::Down);
    assert_eq!(lab.balancer.take_changes(), [down(SERVERS[0])]);
    assert_eq!(goes_to(&mut lab, 2000..2004), only(SERVERS[1]));
    judge(&mut lab, SERVERS[1], Health::Down);
    assert_eq!(lab.balancer.take_changes(), [down(SERVERS[1]), lost(0, 1)]);
    assert_eq!(goes_to(&mut lab, 3000..3004), only(SORRY));
    let last = |server: &str, weight, sorry| (server.to_owned(), weight, sorry);
    assert_eq!(
        listed(&lab),
        [
            last(SORRY, 1, true),
            last(SERVERS[1], 0, false),
            last(SERVERS[0], 0, false)
        ]
    );
    // Nobody judges it.
    assert_eq!(lab.balancer.servers(&tcp_service(WEB)).count(), 2);

    judge(&mut lab, SERVERS[0], Health::Up);
    assert_eq!(lab.balancer.take_changes(), [up(SERVERS[0]), gained(1, 1)]);
    assert_eq!(goes_to(&mut lab, 4000..4004), only(SERVERS[0]));
    assert_eq!(listed(&lab).len(), 2);
    // Who was told sorry may be told so to the end.
    let class = lab.tcp("A", "10.0.0.10:3001", WEB);
    assert!(matches!(class, Class::Request(_)), "{class:?}");
    assert_eq!(lab.went.unwrap().address.to_string(), "10.1.0.99");
}

#[test]
fn below_the_quorum_those_that_are_up_wait_for_the_others() {
    let mut lab = lab(4, with_sorry(3, 1));
    let client = "10.0.0.10:1000";
    lab.tcp("S", client, WEB);
    let first = lab.went.unwrap();
    judge(&mut lab, SERVERS[0], Health::Down);
    judge(&mut lab, SERVERS[1], Health::Down);
    assert_eq!(goes_to(&mut lab, 2000..2008).len(), 2);
    judge(&mut lab, SERVERS[2], Health::Down);
    assert_eq!(lab.balancer.take_changes().last(), Some(&lost(1, 3)));
    assert_eq!(goes_to(&mut lab, 3000..3004), only(SORRY));
    let view = lab.server(tcp_service(WEB), SERVERS[3]);
    assert_eq!((view.health, view.effective_weight), (Health::Up, 0));
    assert_eq!(view.reason.as_deref(), Some("the service has no quorum"));
    // What was there goes on.
    assert!(matches!(lab.tcp("A", client, WEB), Class::Request(_)));
    assert_eq!(lab.went, Some(first));
    for server in &SERVERS[..2] {
        judge(&mut lab, server, Health::Up);
        assert_eq!(lab.balancer.take_changes(), [up(server)]);
        assert_eq!(goes_to(&mut lab, 4000..4004), only(SORRY));
    }
    judge(&mut lab, SERVERS[2], Health::Up);
    assert_eq!(lab.balancer.take_changes(), [up(SERVERS[2]), gained(4, 3)]);
    assert_eq!(goes_to(&mut lab, 5000..5008).len(), 4);
}

#[test]
fn what_the_administrator_does_counts_for_the_quorum() {
    let mut lab = lab(2, with_sorry(1, 0));
    for server in &SERVERS[..2] {
        lab.ipvsadm(&format!("-e -t {WEB} -r {server} -m -w 0"));
    }
    assert_eq!(lab.balancer.take_changes(), [lost(0, 1)]);
    lab.ipvsadm(&format!("-a -t {WEB} -r {} -m", SERVERS[2]));
    assert_eq!(lab.balancer.take_changes(), [gained(1, 1)]);
    lab.ipvsadm(&format!("-d -t {WEB} -r {}", SERVERS[2]));
    assert_eq!(lab.balancer.take_changes(), [lost(0, 1)]);
    // A service that is guarded no longer is as it was.
    lab.balancer.set_guards(lab.now, BTreeMap::new());
    assert_eq!(listed(&lab).len(), 2);
    guarded(&mut lab, with_sorry(1, 0));
    assert_eq!(listed(&lab).len(), 3);
    // Another sorry server takes the place of the one before.
    let mut other = with_sorry(1, 0);
    other.sorry.as_mut().unwrap().key = server_key(SERVERS[3]);
    guarded(&mut lab, other);
    assert_eq!(goes_to(&mut lab, 1000..1002), only(SERVERS[3]));
    lab.ipvsadm(&format!("-D -t {WEB}"));
}

#[test]
fn a_sorry_server_may_become_a_real_one() {
    let mut lab = lab(1, with_sorry(1, 0));
    judge(&mut lab, SERVERS[0], Health::Down);
    let client = "10.0.0.10:1000";
    lab.tcp("S", client, WEB);
    lab.balancer.take_changes();
    lab.ipvsadm(&format!("-a -t {WEB} -r {SORRY} -m -w 3"));
    assert_eq!(lab.balancer.take_changes(), [gained(3, 1)]);
    let servers = [
        (SORRY.to_owned(), 3, false),
        (SERVERS[0].to_owned(), 0, false),
    ];
    assert_eq!(listed(&lab), servers);
    assert!(matches!(lab.tcp("A", client, WEB), Class::Request(_)));
    let again = operation(&format!("-a -t {WEB} -r {SORRY} -m"));
    lab.apply(&again).unwrap_err();
    // If it fails, nobody says sorry.
    judge(&mut lab, SORRY, Health::Down);
    assert_eq!(listed(&lab).len(), 2);
}

#[test]
fn a_service_that_comes_back_is_guarded_as_before() {
    let mut lab = lab(1, with_sorry(1, 0));
    lab.ipvsadm(&format!("-D -t {WEB}"));
    lab.ipvsadm(&format!("-A -t {WEB} -s rr"));
    lab.ipvsadm(&format!("-a -t {WEB} -r {} -m", SERVERS[1]));
    lab.balancer.guard_new(lab.now);
    assert_eq!(lab.balancer.take_changes(), []);
    judge(&mut lab, SERVERS[1], Health::Down);
    assert_eq!(goes_to(&mut lab, 1000..1002), only(SORRY));
}

#[test]
fn without_a_sorry_server_those_that_are_left_go_on() {
    let mut lab = lab(
        2,
        Guard {
            quorum: 2,
            ..Guard::default()
        },
    );
    judge(&mut lab, SERVERS[0], Health::Down);
    let lost = Change::QuorumLost {
        service: tcp_service(WEB),
        weight: 1,
        quorum: 2,
        sorry: None,
    };
    assert_eq!(lab.balancer.take_changes(), [down(SERVERS[0]), lost]);
    assert_eq!(goes_to(&mut lab, 1000..1004), only(SERVERS[1]));
}

#[test]
fn a_sorry_server_that_cannot_serve_is_told() {
    let mut guard = with_sorry(1, 0);
    let sorry = guard.sorry.as_mut().unwrap();
    sorry.key.address = Ipv4Addr::LOCALHOST.into();
    let mut lab = lab(1, guard);
    judge(&mut lab, SERVERS[0], Health::Down);
    let changes = lab.balancer.take_changes();
    let Some(Change::NoSorry { reason, .. }) = changes.last() else {
        panic!("{changes:?}");
    };
    assert!(reason.contains("127.0.0.1:8080"), "{reason}");
    assert_eq!(lab.tcp("S", "10.0.0.10:1000", WEB), Class::NoServer);
}

fn panicky() -> Guard {
    Guard {
        panic: Some(Panic {
            percent: 50,
            within: Duration::from_secs(5),
        }),
        ..Guard::default()
    }
}

#[test]
fn when_too_many_fail_at_once_it_is_not_believed() {
    let mut lab = lab(4, panicky());
    let panic = Change::Panic {
        service: tcp_service(WEB),
        failed: 3,
        all: 4,
    };
    judge(&mut lab, SERVERS[0], Health::Down);
    lab.secs(2);
    judge(&mut lab, SERVERS[1], Health::Down);
    assert_eq!(goes_to(&mut lab, 1000..1008).len(), 2);
    lab.secs(2);
    judge(&mut lab, SERVERS[2], Health::Down);
    assert_eq!(lab.balancer.take_changes().last(), Some(&panic));
    assert_eq!(goes_to(&mut lab, 2000..2008).len(), 4);
    lab.secs(60);
    judge(&mut lab, SERVERS[3], Health::Down);
    assert_eq!(goes_to(&mut lab, 3000..3008).len(), 4);
    let view = lab.server(tcp_service(WEB), SERVERS[3]);
    assert_eq!((view.health, view.effective_weight), (Health::Down, 1));
    assert_eq!(
        view.reason.as_deref(),
        Some("refused; not believed, since too many have failed at once")
    );
    // When enough are back, those that are not are out.
    judge(&mut lab, SERVERS[0], Health::Up);
    assert_eq!(goes_to(&mut lab, 4000..4008).len(), 4);
    lab.balancer.take_changes();
    judge(&mut lab, SERVERS[1], Health::Up);
    let over = Change::PanicOver(tcp_service(WEB));
    assert_eq!(lab.balancer.take_changes(), [up(SERVERS[1]), over]);
    assert_eq!(goes_to(&mut lab, 5000..5008).len(), 2);
}

#[test]
fn one_after_the_other_may_fail() {
    let mut lab = lab(4, panicky());
    for (number, server) in SERVERS.iter().enumerate() {
        judge(&mut lab, server, Health::Down);
        lab.secs(6);
        let ports = 1000 * (number as u16 + 1);
        lab.went = None;
        assert_eq!(goes_to(&mut lab, ports..ports + 8).len(), 3 - number);
    }
}

/// Servers that nobody has found fit yet have not failed.
#[test]
fn at_the_start_nobody_has_failed() {
    let mut lab = Laboratory::new();
    lab.ipvsadm(&format!("-A -t {WEB} -s rr"));
    for server in &SERVERS {
        lab.ipvsadm(&format!("-a -t {WEB} -r {server} -m"));
    }
    guarded(&mut lab, panicky());
    for server in &SERVERS {
        judge(&mut lab, server, Health::Down);
    }
    let quorum_lost = Change::QuorumLost {
        service: tcp_service(WEB),
        weight: 0,
        quorum: 1,
        sorry: None,
    };
    assert_eq!(lab.balancer.take_changes(), [quorum_lost]);
    judge(&mut lab, SERVERS[0], Health::Up);
    let changes = lab.balancer.take_changes();
    assert_eq!(changes.first(), Some(&up(SERVERS[0])));
}

#[test]
fn connections_of_a_failed_server_end_if_the_service_says_how() {
    for (gone, inhibited) in [
        (None, false),
        (Some(ServerGone::Keep), false),
        (Some(ServerGone::Reschedule), false),
        (Some(ServerGone::Reschedule), true),
        (Some(ServerGone::Reset), false),
    ] {
        let mut guard = Guard::default();
        if inhibited {
            guard.inhibited.insert(server_key(SERVERS[0]));
        }
        let mut lab = lab(1, guard);
        let mut spec = ServiceSpec::new(tcp_service(WEB), "rr");
        spec.beyond.server_gone = gone;
        lab.apply(&Operation::EditService(spec)).unwrap();
        let client = "10.0.0.10:1000";
        lab.tcp("S", client, WEB);
        lab.tcp("SA", SERVERS[0], client);
        lab.tcp("A", client, WEB);
        lab.ipvsadm(&format!("-a -t {WEB} -r {} -m", SERVERS[1]));
        judge(&mut lab, SERVERS[0], Health::Down);
        lab.secs(1);
        let resets = lab.balancer.take_resets().len();
        lab.went = None;
        lab.tcp("A", client, WEB);
        let went = lab.went.map(|end| end.address.to_string());
        let expected = match gone {
            Some(ServerGone::Reschedule) if !inhibited => (0, Some("10.1.0.12")),
            Some(ServerGone::Reset) => (1, None),
            _ => (0, Some("10.1.0.11")),
        };
        assert_eq!((resets, went.as_deref()), expected, "{gone:?} {inhibited}");
        // One that is back has its connections.
        judge(&mut lab, SERVERS[0], Health::Up);
        assert!(lab.balancer.take_resets().is_empty());
    }
}

#[test]
fn a_service_may_say_so_when_its_server_is_down_already() {
    let mut lab = lab(1, Guard::default());
    let client = "10.0.0.10:1000";
    lab.tcp("S", client, WEB);
    lab.tcp("SA", SERVERS[0], client);
    judge(&mut lab, SERVERS[0], Health::Down);
    lab.secs(1);
    assert!(lab.balancer.take_resets().is_empty());
    let mut spec = ServiceSpec::new(tcp_service(WEB), "rr");
    spec.beyond.server_gone = Some(ServerGone::Reset);
    lab.apply(&Operation::EditService(spec)).unwrap();
    lab.secs(1);
    assert_eq!(lab.balancer.take_resets().len(), 1);
}

#[test]
fn a_drain_says_when_it_is_over() {
    let mut lab = lab(2, Guard::default());
    let client = "10.0.0.10:1000";
    lab.tcp("S", client, WEB);
    let to = lab.went.unwrap().address.ip();
    let drain = |address| Operation::Drain {
        address,
        port: None,
        deadline_secs: None,
        then: Default::default(),
    };
    lab.apply(&drain(to)).unwrap();
    assert_eq!(lab.balancer.take_changes(), []);
    lab.secs(3600);
    let over = Change::Drained(tcp_service(WEB), server_key(&format!("{to}:80")));
    assert_eq!(lab.balancer.take_changes(), [over]);
    // Nothing to wait for.
    let other = if to == server_key(SERVERS[0]).address {
        SERVERS[1]
    } else {
        SERVERS[0]
    };
    lab.apply(&drain(server_key(other).address)).unwrap();
    let changes = lab.balancer.take_changes();
    let at_once = Change::Drained(tcp_service(WEB), server_key(other));
    assert_eq!(changes.first(), Some(&at_once), "{changes:?}");
}
