//! `[service.check] type = "agent"`: what is expected of the agent of a real server.

use std::time::Duration;

use shared::agent::Report;

/// What is expected of the agent of a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentCheck {
    /// Between two reports; none is what the reports themselves say.
    pub interval: Option<Duration>,
    /// So many missing reports mean that the server is down.
    pub missed: u32,
    /// Whether the weight that the agent wants counts, and not the configured one.
    pub weight: Weight,
}

/// Whose weight counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The configured one.
    Configured,
    /// What the agent wants, if it wants any; within these bounds.
    Wanted {
        /// At least; 0 lets the agent refuse new connections.
        least: u16,
        /// At most.
        most: u16,
    },
}

impl Default for AgentCheck {
    fn default() -> AgentCheck {
        AgentCheck {
            interval: None,
            missed: 3,
            weight: Weight::Configured,
        }
    }
}

impl AgentCheck {
    /// How long after a report its agent counts as silent: half an interval more than what is allowed to be
    /// missing, since reports are jittered.
    pub fn patience(&self, report: &Report) -> Duration {
        let told = Duration::from_millis(report.interval.into());
        let interval = self.interval.unwrap_or(told.clamp(SHORTEST, LONGEST));
        interval * self.missed + interval / 2
    }

    /// The weight in place of the configured one.
    pub fn weight(&self, report: &Report) -> Option<u16> {
        match self.weight {
            Weight::Configured => None,
            Weight::Wanted { least, most } => {
                report.weight.map(|weight| weight.max(least).min(most))
            }
        }
    }
}

/// What an agent may say of its interval: no less, or a moment's delay would end it.
const SHORTEST: Duration = Duration::from_millis(50);
/// No more, or its server would be up for ever.
const LONGEST: Duration = Duration::from_secs(60);
