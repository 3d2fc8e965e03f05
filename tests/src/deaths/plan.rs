//! Who dies when, and how: all of it told by a seed.

use std::time::Duration;

use director::core::random::Random;

/// How a real server dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Its process is killed: connections are refused.
    Killed,
    /// Its process is stopped: connections are made, and nothing answers.
    Hung,
    /// Its link is cut.
    Cut,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 3] = [Way::Killed, Way::Hung, Way::Cut];
}

/// A death, and the return from it; both since the begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    /// Which server, counted from 0.
    pub server: usize,
    /// How.
    pub way: Way,
    /// When it is to die,
    pub at: Duration,
    /// and when to return.
    pub back: Duration,
}

/// The deaths of so many servers in this time, in their order. There is always one that neither is dead nor
/// has only just returned.
pub fn plan(seed: u64, servers: usize, length: Duration) -> Vec<Death> {
    let mut random = Random::new(seed);
    let mut upto = |most: Duration| {
        let most = u64::try_from(most.as_millis()).expect("short times");
        Duration::from_millis(random.up_to(most))
    };
    let mut there_from = vec![Duration::ZERO; servers];
    let mut deaths: Vec<Death> = Vec::new();
    let mut at = FIRST;
    loop {
        at += upto(LONGEST_PAUSE);
        let outage = SHORTEST_OUTAGE + upto(LONGEST_OUTAGE - SHORTEST_OUTAGE);
        // A number below that of servers.
        let server = upto(Duration::from_millis(servers as u64 - 1)).as_millis() as usize;
        if at + outage > length {
            return deaths;
        }
        let others = there_from.iter().enumerate();
        let others = others.filter(|(other, from)| *other != server && **from <= at);
        if there_from[server] > at || others.count() == 0 {
            continue;
        }
        let back = at + outage;
        there_from[server] = back + RECOVERY;
        deaths.push(Death {
            server,
            // In turns, so that none is left out of a short time.
            way: Way::ALL[deaths.len() % Way::ALL.len()],
            at,
            back,
        });
    }
}

/// Everything is well for as long as that.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_millis(800);
/// Some of them are too short to be noticed.
const SHORTEST_OUTAGE: Duration = Duration::from_millis(100);
const LONGEST_OUTAGE: Duration = Duration::from_millis(3000);
/// So long it may take until a server that has returned is up.
const RECOVERY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_tells_all_and_somebody_is_always_there() {
        for seed in 0..20 {
            let deaths = plan(seed, 4, Duration::from_secs(60));
            assert_eq!(deaths, plan(seed, 4, Duration::from_secs(60)));
            assert!(deaths.len() > 30, "{}", deaths.len());
            for death in &deaths {
                let dead = deaths
                    .iter()
                    .filter(|other| (other.at..other.back + RECOVERY).contains(&death.at));
                assert!((1..4).contains(&dead.count()), "{death:?}");
            }
            for way in Way::ALL {
                assert!(deaths.iter().any(|death| death.way == way));
            }
        }
        assert_ne!(
            plan(1, 4, Duration::from_secs(60)),
            plan(2, 4, Duration::from_secs(60))
        );
    }
}
