//! Vectors of the schedulers: servers A, B, C were added in this order before the
//! scheduler was set, and nothing but picks happens.

use shared::addr::{Addr, Protocol};

use super::*;
use crate::core::arena::Id;
use crate::core::operation::{ForwardMethod, ServerSpec};
use crate::core::server::Activity;
use crate::core::service::ServiceId;

/// The letters of the servers picked; a dash for none. With `staying`, every connection stays active.
fn picks(name: &str, weights: &[i32], many: usize, staying: bool) -> String {
    let mut servers = Arena::new();
    let mut list: Vec<ServerId> = Vec::new();
    let mut scheduler = by_name(name).unwrap();
    for (number, &weight) in (0..).zip(weights) {
        let spec = ServerSpec::new([10, 1, 0, number], 80, ForwardMethod::Nat, weight);
        list.insert(0, servers.insert(Server::new(ServiceId::new(0), spec)));
    }
    scheduler.init(&Pool::new(&list, &servers));
    let flow = FlowKey {
        protocol: Protocol::TCP,
        source: Addr::from_v4_bytes([10, 0, 0, 1]),
        source_port: 1024,
        destination: Addr::from_v4_bytes([10, 0, 0, 100]),
        destination_port: 80,
    };
    let mut letters = String::new();
    for _ in 0..many {
        let Some(position) = scheduler.pick(&Pool::new(&list, &servers), &flow) else {
            letters.push('-');
            continue;
        };
        let id = list[position];
        if staying {
            servers[id].bind();
            servers[id].recount(Activity::Active);
        }
        letters.push(char::from(b'A' + id.number() as u8));
    }
    letters
}

/// With a step for each level this would take minutes.
#[test]
fn wrr_does_not_walk_down_levels_that_nobody_reaches() {
    let mut servers = Arena::new();
    let mut list: Vec<ServerId> = Vec::new();
    for (number, weight, limit) in [(1, 3, 0), (2, i32::MAX, 1)] {
        let mut spec = ServerSpec::new([10, 1, 0, number], 80, ForwardMethod::Nat, weight);
        spec.upper_threshold = limit;
        list.insert(0, servers.insert(Server::new(ServiceId::new(0), spec)));
    }
    servers[list[0]].bind();
    let mut scheduler = by_name("wrr").unwrap();
    scheduler.init(&Pool::new(&list, &servers));
    let flow = FlowKey {
        protocol: Protocol::TCP,
        source: Addr::from_v4_bytes([10, 0, 0, 1]),
        source_port: 1024,
        destination: Addr::from_v4_bytes([10, 0, 0, 100]),
        destination_port: 80,
    };
    for _ in 0..20 {
        assert_eq!(scheduler.pick(&Pool::new(&list, &servers), &flow), Some(1));
    }
}

#[test]
fn known_sequences() {
    for (name, weights, staying, expected) in [
        ("rr", &[1, 1, 1][..], false, "CBACBA"),
        ("rr", &[1, 0, 1], false, "CACA"),
        ("rr", &[0, 0], false, "--"),
        ("rr", &[], false, "-"),
        ("wrr", &[4, 3, 2], false, "ABACBACBAABACBACBA"),
        ("wrr", &[4, 2], false, "ABAABA"),
        ("wrr", &[1, 1, 1], false, "CBACBA"),
        ("wrr", &[5, 1, 0], false, "AAAABA"),
        ("wrr", &[0, 0], false, "--"),
        ("wrr", &[], false, "-"),
        ("wlc", &[4, 2, 1], true, "CBAABAACBAABAA"),
        ("wlc", &[0, 0], true, "--"),
    ] {
        assert_eq!(
            picks(name, weights, expected.len(), staying),
            expected,
            "{name} {weights:?}"
        );
    }
}

#[test]
fn weights_up_to_the_greatest_do_not_overflow() {
    let most = i32::MAX;
    assert_eq!(picks("wlc", &[most, most], 4, true), "BABA");
    assert_eq!(picks("wrr", &[most, most], 4, false), "BABA");
}

#[test]
fn names_that_the_kernel_knows_are_not_unknown() {
    assert_eq!(
        by_name("sh").unwrap_err(),
        OperationError::NotYet("scheduler `sh'".to_owned())
    );
    assert_eq!(
        by_name("RR").unwrap_err(),
        OperationError::NoSuchScheduler("RR".to_owned())
    );
}
