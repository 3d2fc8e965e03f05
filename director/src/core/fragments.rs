//! Fragments follow their first one, which alone has the ports.
//!
//! A first fragment leaves a record of what became of it; the later ones are treated alike. Those
//! that come before it wait, bounded in number and time. Nothing is reassembled, so that the sizes
//! the sender chose stay.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::time::Duration;

use shared::addr::FlowKey;
use shared::time::Time;
use shared::wire::ipv4::Packet;

use super::net::PortId;
use super::reason::Reason;

/// What the fragments of one datagram have in common (RFC 791 section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Whole {
    source: [u8; 4],
    destination: [u8; 4],
    identification: u16,
    protocol: u8,
}

impl Whole {
    /// Of the packet that this is a part of.
    pub fn of(packet: &Packet<&[u8]>) -> Whole {
        Whole {
            source: packet.source(),
            destination: packet.destination(),
            identification: packet.identification(),
            protocol: packet.protocol(),
        }
    }
}

/// What became of a first fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It went the way of this flow's connection.
    Follow(FlowKey),
    /// It went to the host.
    Host,
    /// It was dropped.
    Drop(Reason),
}

/// The records. See the [module](self).
#[derive(Debug, Default)]
pub struct Fragments {
    records: BTreeMap<Whole, Record>,
    /// When records end, soonest first.
    ends: VecDeque<(Time, Whole)>,
    waiting: usize,
}

/// A frame with its port.
type Late = (PortId, Vec<u8>);

#[derive(Debug)]
enum Record {
    Decided(Fate),
    /// The first has not come yet.
    Waiting(Vec<Late>),
}

impl Fragments {
    /// What became of the first fragment, if it has come.
    pub fn fate(&self, whole: Whole) -> Option<Fate> {
        match self.records.get(&whole)? {
            Record::Decided(fate) => Some(*fate),
            Record::Waiting(_) => None,
        }
    }

    /// Lets a fragment wait for its first one. False if too many do.
    pub fn hold(&mut self, now: Time, whole: Whole, port: PortId, frame: &[u8]) -> bool {
        if self.waiting >= MOST_WAITING {
            return false;
        }
        let ends = &mut self.ends;
        let record = self.records.entry(whole).or_insert_with(|| {
            ends.push_back((now + LIFETIME, whole));
            Record::Waiting(Vec::new())
        });
        match record {
            Record::Waiting(late) if late.len() < MOST_WAITING_PER_DATAGRAM => {
                late.push((port, frame.to_vec()));
                self.waiting += 1;
                true
            }
            _ => false,
        }
    }

    /// Records what became of a first fragment. Returns those that waited for it, and how many
    /// others had to be given up to make room.
    pub fn decide(&mut self, now: Time, whole: Whole, fate: Fate) -> (Vec<Late>, u64) {
        if let Some(record) = self.records.get_mut(&whole) {
            let waited = match mem::replace(record, Record::Decided(fate)) {
                Record::Waiting(late) => late,
                Record::Decided(_) => Vec::new(),
            };
            self.waiting -= waited.len();
            return (waited, 0);
        }
        let given_up = if self.records.len() >= MOST_RECORDS {
            self.end_soonest()
        } else {
            0
        };
        self.ends.push_back((now + LIFETIME, whole));
        self.records.insert(whole, Record::Decided(fate));
        (Vec::new(), given_up)
    }

    /// Forgets what is over. Returns how many fragments waited in vain.
    pub fn expire(&mut self, now: Time) -> u64 {
        let mut lost = 0;
        while self.poll_at().is_some_and(|at| at <= now) {
            lost += self.end_soonest();
        }
        lost
    }

    /// When the next record ends.
    pub fn poll_at(&self) -> Option<Time> {
        self.ends.front().map(|(at, _)| *at)
    }

    fn end_soonest(&mut self) -> u64 {
        let Some((_, whole)) = self.ends.pop_front() else {
            return 0;
        };
        match self.records.remove(&whole) {
            Some(Record::Waiting(late)) => {
                self.waiting -= late.len();
                late.len() as u64
            }
            _ => 0,
        }
    }
}

/// As long as the kernel waits for missing fragments (`ipfrag_time`).
const LIFETIME: Duration = Duration::from_secs(30);
/// Datagrams in flight; 4096 of 64 KiB in 30 s are 70 Mbit/s.
const MOST_RECORDS: usize = 4096;
/// A datagram of 64 KiB in fragments of 1500 bytes has 45.
const MOST_WAITING_PER_DATAGRAM: usize = 64;
/// At 1500 bytes each, 1.5 MiB.
const MOST_WAITING: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(identification: u16) -> Whole {
        Whole {
            source: [10, 0, 0, 1],
            destination: [10, 0, 0, 2],
            identification,
            protocol: 17,
        }
    }

    #[test]
    fn late_ones_wait_and_come_out_in_order() {
        let mut fragments = Fragments::default();
        let now = Time::from_secs(1);
        assert_eq!(fragments.fate(whole(1)), None);
        assert!(fragments.hold(now, whole(1), PortId(0), &[1]));
        assert!(fragments.hold(now, whole(1), PortId(0), &[2]));
        let (waited, lost) = fragments.decide(now, whole(1), Fate::Host);
        assert_eq!(waited, vec![(PortId(0), vec![1]), (PortId(0), vec![2])]);
        assert_eq!(lost, 0);
        assert_eq!(fragments.fate(whole(1)), Some(Fate::Host));
        assert_eq!(fragments.fate(whole(2)), None);
        assert_eq!(fragments.expire(now + LIFETIME), 0);
        assert_eq!((fragments.fate(whole(1)), fragments.waiting), (None, 0));
        assert_eq!(fragments.poll_at(), None);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut fragments = Fragments::default();
        let now = Time::from_secs(1);
        let held = (0..100)
            .filter(|_| fragments.hold(now, whole(1), PortId(0), &[0]))
            .count();
        assert_eq!(held, MOST_WAITING_PER_DATAGRAM);
        for identification in 2..1000 {
            fragments.hold(now, whole(identification), PortId(0), &[0]);
            fragments.hold(now, whole(identification), PortId(0), &[0]);
        }
        assert_eq!(fragments.waiting, MOST_WAITING);
        let later = now + Duration::from_secs(29);
        assert_eq!(fragments.expire(later), 0);
        assert_eq!(fragments.expire(now + LIFETIME), MOST_WAITING as u64);
        assert!(fragments.records.is_empty());
    }

    #[test]
    fn records_are_bounded() {
        let mut fragments = Fragments::default();
        for identification in 0..10_000 {
            let now = Time::from_millis(u64::from(identification));
            fragments.decide(now, whole(identification), Fate::Host);
        }
        assert_eq!(fragments.records.len(), MOST_RECORDS);
        assert_eq!(fragments.fate(whole(9_999)), Some(Fate::Host));
        assert_eq!(fragments.fate(whole(0)), None);
    }
}
