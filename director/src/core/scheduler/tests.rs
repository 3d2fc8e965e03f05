//! Vectors of the schedulers: servers A, B, C were added in this order before the
//! scheduler was set, and nothing but picks happens.

use proptest::prelude::*;
use shared::addr::{Addr, Protocol};

use super::*;
use crate::core::arena::Id;
use crate::core::operation::{ForwardMethod, ServerSpec};
use crate::core::random::Random;
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
    let mut random = Random::new(1);
    let mut letters = String::new();
    for _ in 0..many {
        let Some(position) = ask(
            scheduler.as_mut(),
            &Pool::new(&list, &servers),
            &flow(),
            &mut random,
        ) else {
            letters.push('-');
            continue;
        };
        let id = list[position];
        if staying {
            servers[id].bind(ForwardMethod::Nat);
            servers[id].recount(Activity::Active);
        }
        letters.push(char::from(b'A' + id.number() as u8));
    }
    letters
}

/// What a scheduler is asked for a packet of this flow.
fn ask(
    scheduler: &mut dyn Scheduler,
    pool: &Pool<'_>,
    flow: &FlowKey,
    random: &mut Random,
) -> Option<usize> {
    let day = Duration::from_secs(86400);
    let mut opening = Opening {
        flow,
        flags: SchedulerFlags::default(),
        now: Time::from_secs(1),
        expiration: Expiration {
            lblc: day,
            lblcr: day,
        },
        random,
    };
    scheduler.pick(pool, &mut opening)
}

fn flow() -> FlowKey {
    FlowKey {
        protocol: Protocol::TCP,
        source: Addr::from_v4_bytes([10, 0, 0, 1]),
        source_port: 1024,
        destination: Addr::from_v4_bytes([10, 0, 0, 100]),
        destination_port: 80,
    }
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
    servers[list[0]].bind(ForwardMethod::Nat);
    let mut scheduler = by_name("wrr").unwrap();
    scheduler.init(&Pool::new(&list, &servers));
    let mut random = Random::new(1);
    for _ in 0..20 {
        assert_eq!(
            ask(
                scheduler.as_mut(),
                &Pool::new(&list, &servers),
                &flow(),
                &mut random
            ),
            Some(1)
        );
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
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
        ("lc", &[4, 2, 1], true, "CBACBA"),
        ("sed", &[4, 2, 1], true, "ABAACBAABAACBA"),
        ("nq", &[4, 2, 1], true, "CBAAABAABAACBA"),
        ("none", &[1, 1], true, "--"),
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
fn an_unknown_name_is_refused() {
    assert_eq!(
        by_name("RR").unwrap_err(),
        OperationError::NoSuchScheduler("RR".to_owned())
    );
}

/// Of two servers the lighter loaded one for its weight is taken whenever both are drawn; weights decide
/// who is drawn, and the first of the list a little more often: the kernel's lots begin with 0.
#[test]
fn two_choices_follow_weights_and_load() {
    let shares = |weights: [i32; 2], busy: u32| {
        let mut servers = Arena::new();
        let mut list: Vec<ServerId> = Vec::new();
        for (number, weight) in (0..).zip(weights) {
            let spec = ServerSpec::new([10, 1, 0, number], 80, ForwardMethod::Nat, weight);
            list.push(servers.insert(Server::new(ServiceId::new(0), spec)));
        }
        for _ in 0..busy {
            servers[list[0]].bind(ForwardMethod::Nat);
        }
        let mut scheduler = by_name("twos").unwrap();
        let mut random = Random::new(3);
        let pool = Pool::new(&list, &servers);
        let mut picks = [0; 2];
        for _ in 0..3000 {
            let pick = ask(scheduler.as_mut(), &pool, &flow(), &mut random);
            picks[pick.unwrap()] += 1;
        }
        picks
    };
    let [first, second] = shares([1, 1], 100);
    assert!((1200..1470).contains(&first), "{first} {second}");
    let [first, second] = shares([9, 1], 0);
    assert!(first > second * 5, "{first} {second}");
    assert_eq!(shares([0, 1], 0), [0, 3000]);
}

/// Slots of the Maglev table, computed apart from this code.
#[test]
fn maglev_shares_by_weight() {
    for (weights, expected) in [
        ([1, 1, 1], [1364, 1364, 1365]),
        ([1, 2, 3], [682, 1364, 2047]),
    ] {
        let mut servers = Arena::new();
        let mut list: Vec<ServerId> = Vec::new();
        for (number, weight) in (1..).zip(weights) {
            let spec = ServerSpec::new([192, 168, 10, number], 80, ForwardMethod::Nat, weight);
            list.insert(0, servers.insert(Server::new(ServiceId::new(0), spec)));
        }
        let mut maglev = mh::Maglev::default();
        let pool = Pool::new(&list, &servers);
        maglev.init(&pool);
        assert_eq!([2, 1, 0].map(|position| maglev.share(position)), expected);
        let before = maglev.clone();
        // The lightest leaves: nobody else's slot moves to another but its own.
        let id = list.pop().unwrap();
        maglev.deleted(&Pool::new(&list, &servers), 2);
        let moved = maglev.moved_since(&before);
        assert!(
            moved < before.share(2) * 3 / 2,
            "{moved} slots of {}",
            before.share(2)
        );
        // Weight 0 keeps its slots.
        servers[id].restate(ServerSpec::new(
            [192, 168, 10, 1],
            80,
            ForwardMethod::Nat,
            0,
        ));
        list.push(id);
        maglev.added(&Pool::new(&list, &servers));
        assert_eq!(maglev.share(2), before.share(2));
    }
}

proptest! {
    /// In a round of `wrr` everybody is picked as often as the weights say. By `wlc` and `sed` connections
    /// that stay are never further from the weights than one connection: who was picked last had the least
    /// to bear for its weight.
    #[test]
    fn weights_are_honoured(
        weights in prop::collection::vec(1..8_usize, 1..8),
        rounds in 1..4_usize,
    ) {
        let signed: Vec<i32> = weights.iter().map(|&weight| weight as i32).collect();
        let step = weights.iter().copied().reduce(gcd).unwrap();
        let round: usize = weights.iter().sum::<usize>() / step;
        let count = |picks: &str| -> Vec<usize> {
            let letters = (b'A'..).take(weights.len()).map(char::from);
            letters.map(|letter| picks.matches(letter).count()).collect()
        };
        let exactly: Vec<usize> = weights.iter().map(|weight| weight / step * rounds).collect();
        prop_assert_eq!(count(&picks("wrr", &signed, round * rounds, false)), exactly);
        // By wlc the load is what is there, by sed what would be there with one more.
        for (name, more) in [("wlc", 0), ("sed", 1)] {
            let counts = count(&picks(name, &signed, round * rounds, true));
            for (has, weight) in counts.iter().zip(&weights).filter(|(has, _)| **has > 0) {
                for (other, its) in counts.iter().zip(&weights) {
                    let before = has - 1;
                    prop_assert!((before + more) * its <= (other + more) * weight, "{} {:?}", name, counts);
                }
            }
        }
    }

    /// Whatever is added, edited, filled and removed: who is picked takes connections.
    #[test]
    fn nobody_picks_a_server_that_takes_none(
        name in prop::sample::select(
            SCHEDULERS.iter().map(|(name, _)| *name).collect::<Vec<_>>()
        ),
        steps in prop::collection::vec((0..4_u8, 0..6_u8, 0..5_i32, 0..3_u32), 1..60),
        client in any::<u32>(),
    ) {
        let mut servers: Arena<ServerId, Server> = Arena::new();
        let mut list: Vec<ServerId> = Vec::new();
        let mut scheduler = by_name(name).unwrap();
        scheduler.init(&Pool::new(&list, &servers));
        let mut random = Random::new(u64::from(client));
        for (step, number, weight, limit) in steps {
            let mut spec = ServerSpec::new([10, 1, 0, number], 80, ForwardMethod::Nat, weight);
            spec.upper_threshold = limit;
            let position = list.iter().position(|&id| servers[id].spec().key == spec.key);
            match (step, position) {
                (0, None) => {
                    list.insert(0, servers.insert(Server::new(ServiceId::new(0), spec)));
                    scheduler.added(&Pool::new(&list, &servers));
                }
                (1, Some(position)) => {
                    servers[list[position]].restate(spec);
                    scheduler.updated(&Pool::new(&list, &servers));
                }
                (2, Some(position)) => {
                    list.remove(position);
                    scheduler.deleted(&Pool::new(&list, &servers), position);
                }
                _ => {}
            }
            let flow = FlowKey {
                source: Addr::from_v4_bytes(client.to_be_bytes()),
                destination: Addr::from_v4_bytes([10, 0, 0, number]),
                ..flow()
            };
            let picked = ask(scheduler.as_mut(), &Pool::new(&list, &servers), &flow, &mut random);
            let Some(position) = picked else { continue };
            prop_assert!(position < list.len());
            let server = &mut servers[list[position]];
            // What lblc remembers may be above its threshold.
            let takes = server.is_usable() || name == "lblc" && server.weight() > 0;
            prop_assert!(takes, "{name} picked {:?}", server.spec());
            server.bind(ForwardMethod::Nat);
            if step == 3 {
                server.recount(Activity::Active);
            }
        }
    }
}
