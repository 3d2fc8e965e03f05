//! What somebody other than the administrator's configuration says of a real server: its agent, a health
//! check, a drain. It is kept apart from what is configured, so that nothing of that gets lost.

use serde::{Deserialize, Serialize};
use shared::time::Time;

/// Whether a real server is fit to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It takes new connections.
    #[default]
    Up,
    /// It wants no new connections, and keeps those that it has.
    Draining,
    /// It takes none. Those that it has stay: whether they still work is for their ends to find out.
    Down,
}

impl Health {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Health::Up => "up",
            Health::Draining => "draining",
            Health::Down => "down",
        }
    }
}

/// Who judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judge {
    /// The agent on the real server.
    Agent,
    /// The health checks that the director makes.
    Checks,
}

/// What a judge says of a real server. The default is that of a server that nobody judges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judgement {
    /// Whether it is fit to serve.
    pub health: Health,
    /// The weight in place of the configured one. A configured weight of 0 stays 0.
    pub weight: Option<u16>,
    /// What is added to that weight; the sum is between 0 and 65535.
    pub change: i32,
    /// Why it is not up.
    pub reason: Option<String>,
}

/// What all judges say of a real server: it is as fit as the worst of them says.
#[derive(Debug, Default)]
pub(super) struct Judgements([Judgement; 2]);

impl Judgements {
    pub(super) fn set(&mut self, judge: Judge, judgement: Judgement) {
        self.0[judge as usize] = judgement;
    }

    pub(super) fn of(&self, judge: Judge) -> &Judgement {
        &self.0[judge as usize]
    }

    pub(super) fn health(&self) -> Health {
        self.0[0].health.max(self.0[1].health)
    }

    /// The weight of a server that has this one by its configuration.
    pub(super) fn weigh(&self, configured: i32) -> i32 {
        let wanted = self.0.iter().find_map(|judgement| judgement.weight);
        let changes = self.0.iter().map(|judgement| judgement.change);
        let changed = changes.fold(wanted.map_or(configured, i32::from), i32::saturating_add);
        match configured {
            0 => 0,
            // A configured weight may be larger.
            _ => changed.clamp(0, configured.max(u16::MAX.into())),
        }
    }

    /// Why it is not up.
    pub(super) fn reason(&self) -> Option<String> {
        let worst = self.health();
        let reasons = self.0.iter().filter(|judgement| judgement.health == worst);
        let reasons: Vec<&str> = reasons
            .filter_map(|judgement| judgement.reason.as_deref())
            .collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// `lvsadm drain --then`: what becomes of the connections that are left at the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Afterwards {
    /// They go on.
    #[default]
    Keep,
    /// Both ends are told that they are over (TCP); those of UDP go to other servers.
    Reset,
}

impl Afterwards {
    /// Those that there are, by name.
    pub const NAMES: [(&str, Afterwards); 2] =
        [("keep", Afterwards::Keep), ("reset", Afterwards::Reset)];
}

/// The administrator's order to drain a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) deadline: Option<Time>,
    pub(super) then: Afterwards,
}

/// The beginning of a drain, whoever wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Beginning {
    pub(super) at: Time,
    /// Connections and templates that there were.
    pub(super) held: u32,
    /// Whether it was told that it is over.
    pub(super) told: bool,
}

/// How far a drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainView {
    /// Whether the administrator wants it; if not, the server's agent does.
    pub ordered: bool,
    /// Since when, seconds.
    pub secs: u64,
    /// Connections and templates when it began.
    pub held: u32,
    /// Connections and templates now.
    pub left: u32,
    /// Until it is over if they go on ending as they did, seconds; none as long as none has ended.
    pub estimate_secs: Option<u64>,
    /// Until the deadline, seconds.
    pub deadline_secs: Option<u64>,
    /// What becomes of the rest then.
    pub then: Afterwards,
}

impl Beginning {
    pub(super) fn view(self, now: Time, left: u32, order: Option<Order>) -> DrainView {
        let took = now.since(self.at);
        let gone = u64::from(self.held.saturating_sub(left));
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let estimate = match (left, gone) {
            (0, _) => Some(0),
            (_, 0) => None,
            _ => Some(millis.saturating_mul(u64::from(left)) / gone / 1000),
        };
        DrainView {
            ordered: order.is_some(),
            secs: took.as_secs(),
            held: self.held,
            left,
            estimate_secs: estimate,
            deadline_secs: order
                .and_then(|order| order.deadline)
                .map(|deadline| deadline.since(now).as_secs()),
            then: order.map_or_else(Afterwards::default, |order| order.then),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judgement(health: Health, weight: Option<u16>, change: i32) -> Judgement {
        Judgement {
            health,
            weight,
            change,
            reason: (health != Health::Up).then(|| format!("{health:?} by {change}")),
        }
    }

    #[test]
    fn the_worst_judge_counts_and_weights_add_up() {
        let both = |agent, checks| {
            let mut judgements = Judgements::default();
            judgements.set(Judge::Agent, agent);
            judgements.set(Judge::Checks, checks);
            judgements
        };
        let up = |weight, change| judgement(Health::Up, weight, change);
        for (agent, checks, configured, weight) in [
            (up(None, 0), up(None, 0), 5, 5),
            (up(Some(7), 0), up(None, 0), 5, 7),
            (up(Some(7), 0), up(None, -3), 5, 4),
            (up(None, 0), up(None, -9), 5, 0),
            (up(None, 0), up(None, i32::MAX), 5, 65_535),
            (up(None, 0), up(None, 1), 100_000, 100_000),
            (up(Some(7), 0), up(None, 3), 0, 0),
        ] {
            assert_eq!(both(agent, checks).weigh(configured), weight);
        }
        let down = || judgement(Health::Down, None, 1);
        let draining = || judgement(Health::Draining, None, 2);
        let worst = |agent, checks| {
            let judgements = both(agent, checks);
            (judgements.health(), judgements.reason())
        };
        let reason = |text: &str| Some(text.to_owned());
        assert_eq!(worst(up(None, 0), up(None, 0)), (Health::Up, None));
        assert_eq!(
            worst(draining(), up(None, 0)),
            (Health::Draining, reason("Draining by 2"))
        );
        assert_eq!(
            worst(draining(), down()),
            (Health::Down, reason("Down by 1"))
        );
        assert_eq!(
            worst(down(), down()),
            (Health::Down, reason("Down by 1; Down by 1"))
        );
    }

    #[test]
    fn a_drain_is_estimated_by_what_has_ended() {
        let beginning = Beginning {
            at: Time::from_secs(100),
            held: 40,
            told: false,
        };
        let estimate = |at, left| {
            let view = beginning.view(Time::from_secs(at), left, None);
            view.estimate_secs
        };
        assert_eq!(estimate(110, 40), None);
        assert_eq!(estimate(110, 50), None);
        assert_eq!(estimate(110, 30), Some(30));
        assert_eq!(estimate(150, 1), Some(1));
        assert_eq!(estimate(150, 0), Some(0));
        let order = Order {
            deadline: Some(Time::from_secs(160)),
            then: Afterwards::Reset,
        };
        let view = beginning.view(Time::from_secs(110), 40, Some(order));
        assert_eq!((view.deadline_secs, view.secs), (Some(50), 10));
        assert_eq!(view.then, Afterwards::Reset);
        assert!(view.ordered);
    }
}
