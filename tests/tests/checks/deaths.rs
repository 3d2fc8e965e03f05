//! Servers that die and return at random under load; `make bench KINDS=deaths` does it for longer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use laboratory::deaths::{self, Method};

const LENGTH: Duration = Duration::from_secs(15);

/// Another one each time; what failed tells it.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().subsec_nanos().into()
}

#[test]
fn by_nat_nothing_is_sent_to_a_server_that_was_declared_down() {
    let story = deaths::run(Method::Nat, seed(), LENGTH);
    println!("{}", story.text());
    story.judge();
}

#[test]
fn by_direct_routing_nothing_is_sent_to_a_server_that_was_declared_down() {
    let story = deaths::run(Method::Direct, seed(), LENGTH);
    println!("{}", story.text());
    story.judge();
}
