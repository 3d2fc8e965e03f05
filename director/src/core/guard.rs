//! What a service demands of its real servers together: a quorum, a sorry server that stands in for them, and
//! doubt when too many of them fail at once. The words and their logic are keepalived's (`ipwrapper.c`); that
//! doubt is ours.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::time::Time;

use super::operation::{ServerKey, ServerSpec, ServiceKey};

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The sum of weights of servers that are up which the service needs. More than all its servers have together
    /// is as much as they have.
    pub quorum: u32,
    /// How far the sum has to be off the quorum for the quorum to be lost, or there again; below `quorum`.
    pub hysteresis: u32,
    /// Who serves while there is no quorum.
    pub sorry: Option<ServerSpec>,
    /// Servers whose connections go on when they are down, whatever `server_gone` says.
    pub inhibited: BTreeSet<ServerKey>,
    /// When failures are not believed.
    pub panic: Option<Panic>,
}

impl Default for Guard {
    fn default() -> Guard {
        Guard {
            quorum: 1,
            hysteresis: 0,
            sorry: None,
            inhibited: BTreeSet::new(),
            panic: None,
        }
    }
}

impl Guard {
    /// Whether servers that are up with this sum of weights have the quorum, after they had it or not, or to begin
    /// with; all servers together have `whole`.
    pub fn has_quorum(&self, had: Option<bool>, sum: u64, whole: u64) -> bool {
        let quorum = u64::from(self.quorum).min(whole);
        let hysteresis = u64::from(self.hysteresis);
        let least = match had {
            None => quorum,
            Some(true) => quorum.saturating_sub(hysteresis),
            Some(false) => (quorum + hysteresis).min(whole),
        };
        sum > 0 && sum >= least
    }
}

/// When more servers than this fail at once, it is rather the director that cannot reach them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panic {
    /// Percent of the service's servers.
    pub percent: u8,
    /// How long "at once" is: an interval of the checks.
    pub within: Duration,
}

impl Panic {
    /// Whether so many servers of all are too many.
    pub fn too_many(&self, failed: usize, all: usize) -> bool {
        failed * 100 > usize::from(self.percent) * all
    }

    /// Of servers that failed at these times, how many have failed with the last one.
    pub fn at_once(&self, failed_at: &[Time]) -> usize {
        let last = failed_at.iter().max().copied();
        let with_last = failed_at.iter();
        let with_last = with_last.filter(|&&at| Some(at + self.within) >= last);
        with_last.count()
    }
}

/// How it is with a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Guarded {
    pub(super) guard: Guard,
    /// Once it was counted.
    pub(super) has_quorum: Option<bool>,
    /// Since when failures are not believed; those within [`Panic::within`] before it are not either.
    pub(super) panic_since: Option<Time>,
}

/// The same for listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardView {
    /// The sum of weights of the servers that are up.
    pub weight: u64,
    /// As much is needed.
    pub quorum: u32,
    /// Whether the quorum is there.
    pub has_quorum: bool,
    /// Whether failures are not believed, since there are too many.
    pub panic: bool,
}

/// Something that has changed by judgements, quorum or drains, in the order in which it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A real server is up.
    Up(ServiceKey, ServerKey),
    /// A real server is down.
    Down(ServiceKey, ServerKey),
    /// All its connections have ended, or its deadline has come.
    Drained(ServiceKey, ServerKey),
    /// The servers are not enough, or there is none.
    QuorumLost {
        /// Of which service.
        service: ServiceKey,
        /// Sum of their weights.
        weight: u64,
        /// What is needed.
        quorum: u32,
        /// Who serves from now on.
        sorry: Option<ServerKey>,
    },
    /// They are enough again.
    QuorumGained {
        /// Of which service.
        service: ServiceKey,
        /// Sum of their weights.
        weight: u64,
        /// What is needed.
        quorum: u32,
        /// Who served until now.
        sorry: Option<ServerKey>,
    },
    /// The sorry server cannot serve.
    NoSorry {
        /// Of which service.
        service: ServiceKey,
        /// Why not.
        reason: String,
    },
    /// So many servers have failed at once that it is not believed.
    Panic {
        /// Of which service.
        service: ServiceKey,
        /// How many.
        failed: usize,
        /// How many there are.
        all: usize,
    },
    /// Failures are believed again.
    PanicOver(ServiceKey),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(quorum: u32, hysteresis: u32) -> Guard {
        Guard {
            quorum,
            hysteresis,
            ..Guard::default()
        }
    }

    #[test]
    fn a_quorum_is_lost_below_and_gained_above() {
        // Quorum, hysteresis; lost with this sum, gained with this sum, if all have 10.
        for (quorum, hysteresis, lost, gained) in
            [(1, 0, 0, 1), (3, 0, 2, 3), (3, 2, 0, 5), (5, 3, 1, 8)]
        {
            let guard = guard(quorum, hysteresis);
            assert!(!guard.has_quorum(Some(true), lost, 10), "{guard:?}");
            assert!(guard.has_quorum(Some(true), lost + 1, 10), "{guard:?}");
            assert!(!guard.has_quorum(Some(false), gained - 1, 10), "{guard:?}");
            assert!(guard.has_quorum(Some(false), gained, 10), "{guard:?}");
            assert!(
                !guard.has_quorum(None, u64::from(quorum) - 1, 10),
                "{guard:?}"
            );
            assert!(guard.has_quorum(None, quorum.into(), 10), "{guard:?}");
        }
    }

    #[test]
    fn what_all_servers_have_is_enough() {
        assert!(guard(20, 0).has_quorum(Some(false), 10, 10));
        assert!(!guard(20, 0).has_quorum(Some(true), 9, 10));
        assert!(guard(9, 3).has_quorum(Some(false), 10, 10));
        assert!(!guard(1, 0).has_quorum(Some(true), 0, 0));
    }

    #[test]
    fn at_once_is_within_an_interval_of_the_last_one() {
        let panic = Panic {
            percent: 50,
            within: Duration::from_secs(5),
        };
        let at = |seconds: &[u64]| {
            let times: Vec<Time> = seconds.iter().map(|&at| Time::from_secs(at)).collect();
            panic.at_once(&times)
        };
        assert_eq!(at(&[]), 0);
        assert_eq!(at(&[1, 2, 100]), 1);
        assert_eq!(at(&[100, 95, 94]), 2);
        assert!(!panic.too_many(2, 4));
        assert!(panic.too_many(3, 4));
    }
}
