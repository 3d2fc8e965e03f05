//! Datagrams that are no good reports: counted by reason, and told once a minute with their senders.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use shared::agent::DecodeError;
use shared::time::Time;

use crate::core::view::{DropView, ReportsView};

/// What is wrong with a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Complaint {
    /// The key does not vouch for it.
    Forged,
    /// It was there before, or something newer was.
    Replayed,
    /// Its clock is too far from ours.
    OutOfTime,
    /// It has more bytes than a report can have.
    Oversized,
    /// It has fewer than it says.
    Truncated,
    /// It is no report, or a field of it is wrong.
    Malformed,
    /// It is of another version.
    Version,
    /// Nothing vouches for it, and there is a key.
    Insecure,
    /// It is another agent's.
    Mistaken,
    /// It is good, but no service has a real server at its address that agents judge.
    UnknownSender,
    /// There are more agents than can be remembered.
    TooMany,
}

impl Complaint {
    const ALL: [Complaint; 11] = [
        Complaint::Forged,
        Complaint::Replayed,
        Complaint::OutOfTime,
        Complaint::Oversized,
        Complaint::Truncated,
        Complaint::Malformed,
        Complaint::Version,
        Complaint::Insecure,
        Complaint::Mistaken,
        Complaint::UnknownSender,
        Complaint::TooMany,
    ];

    /// Its name in `lvsadm status`.
    pub const fn name(self) -> &'static str {
        match self {
            Complaint::Forged => "forged",
            Complaint::Replayed => "replayed",
            Complaint::OutOfTime => "out of time",
            Complaint::Oversized => "oversized",
            Complaint::Truncated => "truncated",
            Complaint::Malformed => "malformed",
            Complaint::Version => "another version",
            Complaint::Insecure => "insecure",
            Complaint::Mistaken => "of another agent",
            Complaint::UnknownSender => "unknown sender",
            Complaint::TooMany => "too many agents",
        }
    }

    /// What to do about it.
    const fn advice(self) -> &'static str {
        match self {
            Complaint::Forged => "not made with our key; is its key file the same?",
            Complaint::Replayed => "was there before, or is older than what was",
            Complaint::OutOfTime => "its clock is more than 30 s from ours; set both by NTP",
            Complaint::Oversized | Complaint::Truncated | Complaint::Malformed => {
                "no report of an agent"
            }
            Complaint::Version => "of another version; are director and rsagent of the same?",
            Complaint::Insecure => "made without a key; give its agent our key file",
            Complaint::Mistaken => "what an agent of another address or name said",
            Complaint::UnknownSender => "no service with a check by agents has a real server there",
            Complaint::TooMany => "too many agents report here",
        }
    }
}

impl From<DecodeError> for Complaint {
    fn from(error: DecodeError) -> Complaint {
        match error {
            DecodeError::TooLong => Complaint::Oversized,
            DecodeError::Truncated => Complaint::Truncated,
            DecodeError::BadMagic | DecodeError::Malformed(_) => Complaint::Malformed,
            DecodeError::Version(_) => Complaint::Version,
            DecodeError::BadMac => Complaint::Forged,
            DecodeError::Insecure => Complaint::Insecure,
        }
    }
}

/// All that was wrong.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    good: u64,
    totals: BTreeMap<Complaint, u64>,
    /// Since the last time that it was told.
    fresh: BTreeMap<(IpAddr, Complaint), u64>,
    /// Those of senders beyond the most that are remembered.
    others: u64,
    /// When it may be told again.
    quiet_until: Option<Time>,
}

impl Complaints {
    pub(super) fn count(&mut self, from: IpAddr, complaint: Complaint) {
        self.count_silently(complaint);
        let place = (from, complaint);
        if self.fresh.len() >= MOST_SENDERS && !self.fresh.contains_key(&place) {
            self.others += 1;
        } else {
            *self.fresh.entry(place).or_default() += 1;
        }
    }

    /// Only for `lvsadm status`.
    pub(super) fn count_silently(&mut self, complaint: Complaint) {
        *self.totals.entry(complaint).or_default() += 1;
    }

    pub(super) fn good(&mut self) {
        self.good += 1;
    }

    pub(super) fn poll_at(&self) -> Option<Time> {
        let anything = !self.fresh.is_empty();
        anything.then(|| self.quiet_until.unwrap_or(Time::ZERO))
    }

    pub(super) fn take(&mut self, now: Time) -> Vec<String> {
        if self.poll_at().is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.quiet_until = Some(now + QUIET);
        let fresh = std::mem::take(&mut self.fresh).into_iter();
        let mut sentences: Vec<String> = fresh
            .map(|((from, complaint), count)| {
                let (name, advice) = (complaint.name(), complaint.advice());
                format!("{count} reports from {from} count for nothing: {name} ({advice})")
            })
            .collect();
        let others = std::mem::take(&mut self.others);
        if others > 0 {
            sentences.push(format!("{others} reports of others count for nothing"));
        }
        sentences
    }

    pub(super) fn view(&self) -> ReportsView {
        let total = |complaint: &Complaint| DropView {
            reason: complaint.name().to_owned(),
            packets: self.totals.get(complaint).copied().unwrap_or_default(),
        };
        let ignored = Complaint::ALL.iter().map(total);
        ReportsView {
            good: self.good,
            ignored: ignored.filter(|total| total.packets > 0).collect(),
        }
    }
}

/// Between two times that the log is told.
const QUIET: Duration = Duration::from_secs(60);
/// Senders and reasons that are told apart in that time: anybody can write any sender.
const MOST_SENDERS: usize = 64;
