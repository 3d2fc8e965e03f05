//! Random histories of commands and packets, recorded on the real kernel (`histories/record.py`, which
//! says what the lines mean), replayed against the core and the language of its commands: where every
//! packet went, every connection's state and time, all counts, and the listings to the byte.

use history::History;

mod history;
#[allow(
    dead_code,
    reason = "shared with the transcripts, which need more of it"
)]
mod reference;

const RECORDED: &str = include_str!("histories/recorded.txt");
const SCTP: &str = include_str!("histories/sctp.txt");

/// Histories that go otherwise here: the seed, where first, and why.
const EXCEPTIONS: [(u32, &str, &str); 10] = [
    (162, "9710 . state", LATE),
    (
        251,
        "1939 > c udp 1000 10.0.0.14:2000 10.0.0.100:53 -",
        "a removed server came back with another method: the kernel still has the route of the former \
         one, and sends to nobody",
    ),
    (
        330,
        "12340 . statistics",
        "a removed server came back to a new service: its counters begin at zero here, at the last \
         estimate there",
    ),
    (443, "2492 . state", OWN_ANSWER),
    (
        584,
        "2198 > c A 10 10.0.0.10:2002 10.0.0.100:80 -",
        OWN_ANSWER,
    ),
    (688, "3302 . state", OWN_ANSWER),
    (717, "1720 . state", OWN_ANSWER),
    (
        876,
        "8464 > c udp 10 10.0.0.10:2001 10.0.0.100:5000 r2",
        LATE,
    ),
    (956, "11606 . state", LATE),
    (980, "28245 . statistics", OWN_ANSWER),
];

const SCTP_EXCEPTIONS: [(u32, &str, &str); 0] = [];

const LATE: &str = "a template and its last connection end within the slack of the kernel's timers, which \
                    is a quarter of a second and more: which of them is first decides";
const OWN_ANSWER: &str = "a SYN ends a connection by direct routing and finds no service or no server: the \
                          kernel takes what its own stack answers for a packet of the real server, and the \
                          connection stays";

#[test]
fn a_thousand_histories_go_as_the_kernels() {
    assert_eq!(replay(RECORDED, &EXCEPTIONS), 1000);
}

#[test]
fn histories_of_sctp_go_as_the_kernels() {
    assert_eq!(replay(SCTP, &SCTP_EXCEPTIONS), 40);
}

/// How many histories there are.
fn replay(recorded: &str, exceptions: &[(u32, &str, &str)]) -> u32 {
    let mut exceptions = exceptions.to_vec();
    let mut seeds = 0;
    for history in recorded.split("# ").filter(|history| !history.is_empty()) {
        let (seed, lines) = history.split_once('\n').expect("a seed");
        let seed: u32 = seed.parse().expect("a seed");
        assert_eq!(seed, seeds, "histories are all there");
        seeds += 1;
        let outcome = History::new().replay(lines);
        match (exceptions.first(), outcome) {
            (Some((expected, place, reason)), Err(difference)) if *expected == seed => {
                assert!(
                    difference.starts_with(place),
                    "{seed}, {reason}: {difference}"
                );
                exceptions.remove(0);
            }
            (_, Err(difference)) => panic!("history {seed}: {difference}"),
            (Some((expected, _, reason)), Ok(())) if *expected == seed => {
                panic!("history {seed} is no exception any more: {reason}");
            }
            (_, Ok(())) => {}
        }
    }
    assert!(exceptions.is_empty());
    seeds
}
