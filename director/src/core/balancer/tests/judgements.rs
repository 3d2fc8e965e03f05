//! Real servers that somebody judges, and that are drained.

use super::*;
use crate::core::judgement::{Afterwards, Health, Judge, Judgement};

const WEB: &str = "10.0.0.100:80";
const FIRST: &str = "10.1.0.11:80";
const SECOND: &str = "10.1.0.12:80";

fn lab(service: &str) -> Laboratory {
    let mut lab = Laboratory::new();
    lab.ipvsadm(&format!("-A -t {WEB} {service}"));
    lab.ipvsadm(&format!("-a -t {WEB} -r {FIRST} -m -w 3"));
    lab.ipvsadm(&format!("-a -t {WEB} -r {SECOND} -m -w 1"));
    lab
}

fn judge(lab: &mut Laboratory, server: &str, health: Health, weight: Option<u16>) {
    judge_as(lab, Judge::Agent, server, health, weight);
}

fn judge_as(lab: &mut Laboratory, judge: Judge, server: &str, health: Health, weight: Option<u16>) {
    let judgement = Judgement {
        health,
        weight,
        change: 0,
        reason: (health != Health::Up).then(|| "so says the test".to_owned()),
    };
    let (now, service) = (lab.now, tcp_service(WEB));
    lab.balancer
        .judge_server(now, &service, &server_key(server), judge, judgement);
}

fn drain(lab: &mut Laboratory, deadline_secs: Option<u32>, then: Afterwards) {
    let server = server_key(FIRST);
    let (address, port) = (server.address, None);
    lab.apply(&Operation::Drain {
        address,
        port,
        deadline_secs,
        then,
    })
    .unwrap();
}

fn ready(lab: &mut Laboratory) {
    let address = server_key(FIRST).address;
    let port = Some(80);
    lab.apply(&Operation::Ready { address, port }).unwrap();
}

#[test]
fn every_judge_must_be_content() {
    let mut lab = lab("-s wrr");
    judge(&mut lab, FIRST, Health::Up, Some(1));
    judge_as(&mut lab, Judge::Checks, FIRST, Health::Down, None);
    assert_eq!(shares(&mut lab, 1..21), (0, 20));
    judge(&mut lab, FIRST, Health::Down, None);
    judge_as(&mut lab, Judge::Checks, FIRST, Health::Up, None);
    assert_eq!(shares(&mut lab, 21..41), (0, 20));
    judge(&mut lab, FIRST, Health::Up, Some(1));
    assert_eq!(shares(&mut lab, 41..61), (10, 10));
}

/// Where connections of clients with these ports go: how many of them to each server.
fn shares(lab: &mut Laboratory, ports: std::ops::Range<u16>) -> (usize, usize) {
    let (mut first, mut second) = (0, 0);
    for port in ports {
        lab.tcp("S", &format!("10.0.0.10:{port}"), WEB);
        match lab.went.map(|end| end.address.to_string()).as_deref() {
            Some("10.1.0.11") => first += 1,
            Some("10.1.0.12") => second += 1,
            other => panic!("{other:?}"),
        }
    }
    (first, second)
}

fn weights(lab: &Laboratory, server: &str) -> (i32, i32) {
    let view = lab.server(tcp_service(WEB), server);
    (view.spec.weight, view.effective_weight)
}

fn establish(lab: &mut Laboratory, client: &str) {
    lab.tcp("S", client, WEB);
    lab.tcp("SA", FIRST, client);
    lab.tcp("A", client, WEB);
}

#[test]
fn a_server_that_is_down_gets_nothing_new_and_keeps_what_it_has() {
    let mut lab = lab("-s wrr");
    assert_eq!(shares(&mut lab, 1000..1008), (6, 2));
    let client = "10.0.0.10:1001";
    judge(&mut lab, FIRST, Health::Down, None);
    assert_eq!(weights(&lab, FIRST), (3, 0));
    assert_eq!(shares(&mut lab, 2000..2008), (0, 8));
    assert!(matches!(lab.tcp("A", client, WEB), Class::Request(_)));
    assert_eq!(lab.went.unwrap().address.to_string(), "10.1.0.11");
    let view = lab.server(tcp_service(WEB), FIRST);
    assert_eq!(view.health, Health::Down);
    assert_eq!(view.reason.as_deref(), Some("so says the test"));

    judge(&mut lab, FIRST, Health::Up, None);
    assert_eq!(weights(&lab, FIRST), (3, 3));
    assert_eq!(shares(&mut lab, 3000..3008), (6, 2));
    // With nobody up the client is told so.
    judge(&mut lab, FIRST, Health::Down, None);
    judge(&mut lab, SECOND, Health::Down, None);
    assert_eq!(lab.tcp("S", "10.0.0.10:4000", WEB), Class::NoServer);
}

#[test]
fn a_judged_weight_counts_in_place_of_the_configured_one_but_never_of_0() {
    let mut lab = lab("-s wrr");
    judge(&mut lab, FIRST, Health::Up, Some(1));
    assert_eq!(shares(&mut lab, 1000..1008), (4, 4));
    assert_eq!(weights(&lab, FIRST), (3, 1));
    // What the administrator edits does not undo it.
    lab.ipvsadm(&format!("-e -t {WEB} -r {FIRST} -m -w 7"));
    assert_eq!(weights(&lab, FIRST), (7, 1));
    assert_eq!(shares(&mut lab, 2000..2008), (4, 4));
    lab.ipvsadm(&format!("-e -t {WEB} -r {FIRST} -m -w 0"));
    judge(&mut lab, FIRST, Health::Up, Some(u16::MAX));
    assert_eq!(weights(&lab, FIRST), (0, 0));
    assert_eq!(shares(&mut lab, 3000..3008), (0, 8));
    // One that is brought back is judged anew.
    lab.ipvsadm(&format!("-d -t {WEB} -r {FIRST}"));
    judge(&mut lab, FIRST, Health::Down, None);
    lab.ipvsadm(&format!("-a -t {WEB} -r {FIRST} -m -w 3"));
    assert_eq!(weights(&lab, FIRST), (3, 3));
}

#[test]
fn no_template_leads_to_a_server_that_is_down_or_drained() {
    for by_hand in [false, true] {
        let mut lab = lab("-s fo -p 300");
        establish(&mut lab, "10.0.0.10:1000");
        assert_eq!(shares(&mut lab, 1001..1004), (3, 0));
        if by_hand {
            drain(&mut lab, None, Afterwards::Keep);
        } else {
            judge(&mut lab, FIRST, Health::Down, None);
        }
        assert_eq!(shares(&mut lab, 2000..2004), (0, 4));
        assert!(matches!(
            lab.tcp("A", "10.0.0.10:1000", WEB),
            Class::Request(_)
        ));
        assert_eq!(lab.went.unwrap().address.to_string(), "10.1.0.11");
    }
}

#[test]
fn a_drain_shows_how_far_it_is_and_can_be_taken_back() {
    let mut lab = lab("-s fo -p 300");
    establish(&mut lab, "10.0.0.10:1000");
    drain(&mut lab, Some(600), Afterwards::Keep);
    lab.secs(60);
    let view = lab.server(tcp_service(WEB), FIRST);
    assert_eq!(view.health, Health::Draining);
    let progress = view.drain.unwrap();
    assert_eq!((progress.held, progress.left), (2, 2), "and a template");
    assert_eq!(progress.estimate_secs, None);
    assert!((538..=542).contains(&progress.deadline_secs.unwrap()));
    // The deadline changes nothing for who is kept.
    lab.secs(600);
    assert!(matches!(
        lab.tcp("A", "10.0.0.10:1000", WEB),
        Class::Request(_)
    ));
    ready(&mut lab);
    let view = lab.server(tcp_service(WEB), FIRST);
    assert_eq!((view.health, view.drain), (Health::Up, None));
    assert_eq!(weights(&lab, FIRST), (3, 3));
    // A server that its agent drains shows the same.
    judge(&mut lab, FIRST, Health::Draining, None);
    let view = lab.server(tcp_service(WEB), FIRST);
    assert!(!view.drain.unwrap().ordered);
    assert_eq!(view.effective_weight, 0);
}

#[test]
fn what_is_left_at_the_deadline_is_reset_if_asked_for() {
    let mut lab = lab("-s fo");
    lab.ipvsadm(&format!("-A -u {WEB} -s rr"));
    lab.ipvsadm(&format!("-a -u {WEB} -r {FIRST} -m"));
    establish(&mut lab, "10.0.0.10:1000");
    lab.udp("10.0.0.10:5000", WEB);
    drain(&mut lab, Some(60), Afterwards::Reset);
    lab.secs(59);
    let Class::Request(id) = lab.tcp("A", "10.0.0.10:1000", WEB) else {
        panic!();
    };
    assert!(lab.balancer.connection(id).is_followed());
    assert!(lab.balancer.take_resets().is_empty());
    lab.secs(3);
    let resets = lab.balancer.take_resets();
    assert_eq!(resets.len(), 1, "of TCP");
    assert!(matches!(
        lab.tcp("A", "10.0.0.10:1000", WEB),
        Class::Over(_)
    ));
    assert_eq!(lab.connections().len(), 1, "UDP has gone");
    lab.secs(30);
    assert_eq!(lab.connections().len(), 0);
    let progress = lab.server(tcp_service(WEB), FIRST).drain.unwrap();
    assert_eq!((progress.left, progress.estimate_secs), (0, Some(0)));
    ready(&mut lab);
    assert_eq!(shares(&mut lab, 2000..2008), (8, 0));
}

#[test]
fn a_drain_needs_a_server() {
    let mut lab = lab("-s wrr");
    let address = server_key("10.1.0.13:80").address;
    let error = lab.apply(&Operation::Ready {
        address,
        port: None,
    });
    assert_eq!(
        error.unwrap_err().to_string(),
        "no service has the real server 10.1.0.13"
    );
    let address = server_key(FIRST).address;
    let port = Some(81);
    let error = lab.apply(&Operation::Ready { address, port });
    assert_eq!(
        error.unwrap_err().to_string(),
        "no service has the real server 10.1.0.11 at port 81"
    );
}

#[test]
fn slow_start_begins_when_a_server_comes_up() {
    let mut lab = lab("-s wrr");
    let Operation::EditService(mut spec) = operation(&format!("-E -t {WEB} -s wrr")) else {
        panic!();
    };
    spec.beyond.slow_start_secs = 10;
    lab.apply(&Operation::EditService(spec)).unwrap();
    lab.secs(20);
    judge(&mut lab, FIRST, Health::Down, None);
    lab.secs(20);
    judge(&mut lab, FIRST, Health::Up, None);
    assert_eq!(weights(&lab, FIRST), (3, 3));
    let (cold, _) = shares(&mut lab, 1000..1022);
    assert!(cold <= 4, "{cold}");
    lab.secs(20);
    let (warm, _) = shares(&mut lab, 2000..2040);
    assert_eq!(warm, 30);
}
