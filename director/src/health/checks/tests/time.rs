//! keepalived's logic through time, and what follows for servers.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use shared::addr::Protocol;
use shared::time::Time;

use super::super::checker::Checker;
use super::super::*;
use super::{http, probe, probe_of, timing, url};

/// What each outcome leads to: up or down, and seconds until the next check.
fn history(probe: &Probe, outcomes: &str) -> Vec<(bool, u64)> {
    let now = Time::from_secs(100);
    let mut checker = Checker::new(now, &probe.check.timing);
    let outcomes = outcomes.chars().map(|outcome| match outcome {
        '+' => Ok(Pass::Well),
        _ => Err(Failure::Refused),
    });
    outcomes
        .map(|outcome| {
            let after = checker.conclude(now, &probe.check, outcome);
            (checker.is_up(), after.as_secs())
        })
        .collect()
}

const UP: (bool, u64) = (true, 5);
const AGAIN: (bool, u64) = (true, 2);
const DOWN: (bool, u64) = (false, 5);

#[test]
fn a_server_is_down_after_as_many_retries_and_up_after_one_success() {
    let tcp = probe(Kind::Tcp);
    assert_eq!(
        history(&tcp, "+---+------+-"),
        [
            UP, AGAIN, AGAIN, AGAIN, UP, AGAIN, AGAIN, AGAIN, DOWN, DOWN, DOWN, UP, AGAIN
        ]
    );
    let hasty = Timing {
        retry: 0,
        ..timing()
    };
    let hasty = probe_of(http(vec![url("/")]), hasty);
    assert_eq!(history(&hasty, "+-+"), [UP, DOWN, UP]);
}

#[test]
fn with_alpha_the_first_outcome_counts() {
    let alpha = Timing {
        alpha: true,
        ..timing()
    };
    let alpha = probe_of(Kind::Tcp, alpha);
    assert!(!Checker::new(Time::from_secs(1), &alpha.check.timing).is_up());
    assert_eq!(history(&alpha, "+-+"), [UP, AGAIN, UP]);
    assert_eq!(history(&alpha, "--+-"), [DOWN, DOWN, UP, AGAIN]);
}

/// Which URLs are asked for, one each time.
#[test]
fn urls_take_turns_and_all_must_answer_again() {
    let once = Timing {
        retry: 1,
        ..timing()
    };
    let probe = probe_of(http(vec![url("/0"), url("/1"), url("/2")]), once);
    let now = Time::from_secs(1);
    let mut checker = Checker::new(now, &once);
    let mut rounds = Vec::new();
    for outcome in "++++-+-+--++++".chars() {
        rounds.push((checker.round(), checker.is_up()));
        let outcome = match outcome {
            '+' => Ok(Pass::Well),
            _ => Err(Failure::Refused),
        };
        checker.conclude(now, &probe.check, outcome);
    }
    rounds.push((checker.round(), checker.is_up()));
    let (up, down) = (|round| (round, true), |round| (round, false));
    assert_eq!(
        rounds,
        [
            up(0),
            up(1),
            up(2),
            up(0),
            up(1),
            up(1),
            up(2),
            up(2),
            up(0),
            up(0),
            // Down because of 0: when it answers, all have to.
            down(0),
            down(0),
            down(1),
            down(2),
            up(0)
        ]
    );
}

fn service(port: u16) -> ServiceKey {
    ServiceKey::new(Protocol::TCP, Ipv4Addr::new(10, 0, 0, 100), port)
}

fn server(host: u8) -> ServerKey {
    let address = IpAddr::from([10, 1, 0, host]);
    ServerKey { address, port: 80 }
}

fn check(kind: Kind, timing: Timing) -> Check {
    probe_of(kind, timing).check
}

fn watch(port: u16, host: u8, checks: &[&Check]) -> Watch {
    Watch {
        service: service(port),
        server: server(host),
        weight: 10,
        probes: checks
            .iter()
            .map(|check| Probe::new(&server(host), check))
            .collect(),
    }
}

/// All that is due until then, each check with this outcome.
fn make(checks: &mut Checks, until: Time, outcome: &Outcome) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    while let Some(at) = checks.poll_at().filter(|at| *at <= until) {
        let start = checks.start(at).unwrap();
        verdicts.extend(checks.finish(at, start.id, outcome.clone()));
    }
    verdicts
}

#[test]
fn a_check_is_made_once_for_all_services() {
    let tcp = check(
        Kind::Tcp,
        Timing {
            retry: 0,
            ..timing()
        },
    );
    let mut checks = Checks::new(1);
    let now = Time::from_secs(100);
    let said = checks.watch(now, [80, 81].map(|port| watch(port, 11, &[&tcp])));
    assert_eq!(said.len(), 2);
    assert!(
        said.iter()
            .all(|verdict| verdict.sentence.is_none() && verdict.judgement == Judgement::default())
    );
    let start = checks.start(now + timing().warmup).unwrap();
    assert_eq!(start.probe.to.to_string(), "10.1.0.11:80");
    assert!(checks.start(now + timing().warmup).is_none());
    assert_eq!(checks.poll_at(), None, "not before it has ended");
    let verdicts = checks.finish(now, start.id, Err(Failure::Refused));
    let sentences: Vec<&str> = verdicts
        .iter()
        .map(|verdict| verdict.sentence.as_deref().unwrap())
        .collect();
    assert_eq!(
        sentences,
        [
            "10.1.0.11:80 is down, for TCP 10.0.0.100:80: its check by tcp fails: refused",
            "10.1.0.11:80 is down, for TCP 10.0.0.100:81: its check by tcp fails: refused"
        ]
    );
    let views = checks.views(now + Duration::from_secs(3));
    assert_eq!(views.len(), 1);
    assert_eq!((views[0].up, views[0].secs), (false, 3));
    assert_eq!(views[0].check, "tcp 10.1.0.11:80");
    assert_eq!(views[0].servers, [server(11)]);
    assert_eq!(views[0].failure.as_deref(), Some("refused"));
    // Another reason is no line of the log.
    let late = Err(Failure::System("no route to host".to_owned()));
    let verdicts = make(&mut checks, now + timing().interval, &late);
    assert!(verdicts.iter().all(|verdict| verdict.sentence.is_none()));
    assert_eq!(verdicts.len(), 2);
    let verdicts = make(&mut checks, now + timing().interval * 2, &Ok(Pass::Well));
    let sentence = verdicts[0].sentence.as_deref();
    assert_eq!(sentence, Some("10.1.0.11:80 is up, for TCP 10.0.0.100:80"));
}

#[test]
fn all_checks_of_a_server_must_go_well() {
    let hasty = Timing {
        retry: 0,
        ..timing()
    };
    let (tcp, ping) = (check(Kind::Tcp, hasty), check(Kind::Ping, hasty));
    let mut checks = Checks::new(1);
    let now = Time::from_secs(100);
    checks.watch(now, [watch(80, 11, &[&tcp, &ping])]);
    let later = now + Duration::from_secs(5);
    let first = checks.start(later).unwrap();
    let second = checks.start(later).unwrap();
    let refused = Err(Failure::Refused);
    let health = |verdicts: Vec<Verdict>| verdicts.first().map(|verdict| verdict.judgement.health);
    assert_eq!(
        health(checks.finish(later, first.id, refused.clone())),
        Some(Health::Down)
    );
    checks.finish(later, second.id, refused);
    let at = later + Duration::from_secs(5);
    let (a, b) = (checks.start(at).unwrap(), checks.start(at).unwrap());
    // The first one that fails is the reason, so that may be another one now.
    let verdicts = checks.finish(at, a.id, Ok(Pass::Well));
    assert!(
        verdicts
            .iter()
            .all(|verdict| verdict.judgement.health == Health::Down && verdict.sentence.is_none()),
        "{verdicts:?}"
    );
    assert_eq!(
        health(checks.finish(at, b.id, Ok(Pass::Well))),
        Some(Health::Up)
    );
}

#[test]
fn what_has_not_changed_goes_on_as_it_is() {
    let hasty = Timing {
        retry: 0,
        ..timing()
    };
    let (tcp, ping) = (check(Kind::Tcp, hasty), check(Kind::Ping, hasty));
    let mut checks = Checks::new(1);
    let now = Time::from_secs(100);
    let both = [watch(80, 11, &[&tcp]), watch(80, 12, &[&ping])];
    checks.watch(now, both);
    let later = now + Duration::from_secs(5);
    make(&mut checks, later, &Err(Failure::Refused));
    // A server comes, one gets another check, and one stays.
    let said = checks.watch(
        later,
        [
            watch(80, 11, &[&tcp]),
            watch(80, 12, &[&tcp]),
            watch(80, 13, &[&tcp]),
        ],
    );
    let health: Vec<(Health, bool)> = said
        .iter()
        .map(|verdict| (verdict.judgement.health, verdict.sentence.is_some()))
        .collect();
    assert_eq!(
        health,
        [
            (Health::Down, false),
            (Health::Up, true),
            (Health::Up, false)
        ]
    );
    assert_eq!(checks.views(later).len(), 3);
    // Nobody judges any more; a check that is still being made counts for nothing.
    let start = checks.start(later + Duration::from_secs(60)).unwrap();
    let freed = checks.watch(later, []);
    assert_eq!(freed.len(), 3);
    assert!(
        freed
            .iter()
            .all(|verdict| verdict.judgement == Judgement::default())
    );
    assert_eq!(checks.finish(later, start.id, Err(Failure::Refused)), []);
    assert_eq!(checks.poll_at(), None);
}

/// Somebody who cannot ask says nothing of who is asked.
#[test]
fn a_check_that_cannot_be_made_is_made_later() {
    let tcp = check(
        Kind::Tcp,
        Timing {
            retry: 0,
            delay_before_retry: Duration::ZERO,
            ..timing()
        },
    );
    let mut checks = Checks::new(1);
    let now = Time::from_secs(100);
    checks.watch(now, [watch(80, 11, &[&tcp])]);
    let start = checks.start(now + timing().warmup).unwrap();
    checks.postpone(now, start.id);
    assert_eq!(checks.poll_at(), Some(now + Duration::from_secs(1)));
    assert!(!checks.views(now)[0].checked);
    checks.watch(now, []);
    checks.postpone(now, start.id);
    assert_eq!(checks.poll_at(), None);
}

#[test]
fn weights_of_scripts_add_up() {
    let script = |name: &str| {
        let command = vec![name.to_owned()];
        let dynamic = true;
        check(Kind::Script(Script { command, dynamic }), timing())
    };
    let (a, b) = (script("/a"), script("/b"));
    let mut checks = Checks::new(1);
    let now = Time::from_secs(100);
    checks.watch(now, [watch(80, 11, &[&a, &b])]);
    let later = now + Duration::from_secs(5);
    let (first, second) = (checks.start(later).unwrap(), checks.start(later).unwrap());
    let change = |verdicts: Vec<Verdict>| verdicts[0].judgement.change;
    assert_eq!(
        change(checks.finish(later, first.id, Ok(Pass::Weight(4)))),
        -6
    );
    assert_eq!(
        change(checks.finish(later, second.id, Ok(Pass::Weight(30)))),
        14
    );
    let at = later + Duration::from_secs(5);
    let start = checks.start(at).unwrap();
    let changed = change(checks.finish(at, start.id, Ok(Pass::Well)));
    assert!([20, -6].contains(&changed), "{changed}");
}

/// A thousand checks are not made at once.
#[test]
fn first_checks_are_spread() {
    let tcp = check(Kind::Tcp, timing());
    let mut checks = Checks::new(1);
    let now = Time::from_secs(100);
    let servers = (0..250).flat_map(|host| (1..5).map(move |port| (port, host)));
    let tcp = &tcp;
    let watches = servers.map(|(port, host)| {
        let mut watch = watch(port, host, &[tcp]);
        watch.probes[0].to.set_port(port);
        watch
    });
    checks.watch(now, watches);
    assert_eq!(checks.views(now).len(), 1000);
    for second in 0..5 {
        let mut started = 0;
        while checks
            .start(now + Duration::from_secs(second + 1))
            .is_some()
        {
            started += 1;
        }
        assert!((150..250).contains(&started), "{second}: {started}");
    }
}

#[test]
fn checks_are_counted_by_their_kind() {
    let hasty = Timing {
        retry: 0,
        warmup: Duration::ZERO,
        ..timing()
    };
    let (tcp, ping) = (check(Kind::Tcp, hasty), check(Kind::Ping, hasty));
    let mut checks = Checks::new(1);
    let now = Time::from_secs(100);
    let both = [watch(80, 11, &[&tcp]), watch(80, 12, &[&tcp])];
    checks.watch(now, both);
    let took = Duration::from_millis(20);
    let (a, b) = (checks.start(now).unwrap(), checks.start(now).unwrap());
    checks.finish(now + took, a.id, Ok(Pass::Well));
    checks.finish(now + took * 2, b.id, Err(Failure::Refused));
    let told = |checks: &Checks| {
        let tallies = checks.tallies();
        let told = tallies.iter();
        let told = told.map(|t| (t.kind, [t.up, t.down, t.passed, t.failed], t.took.sum()));
        told.collect::<Vec<_>>()
    };
    assert_eq!(told(&checks), [("tcp", [1, 1, 1, 1], took * 3)]);
    // A kind that is made no longer keeps its counters.
    checks.watch(now, [watch(80, 12, &[&ping])]);
    let none = Duration::ZERO;
    assert_eq!(
        told(&checks),
        [
            ("ping", [1, 0, 0, 0], none),
            ("tcp", [0, 0, 1, 1], took * 3)
        ]
    );
}
