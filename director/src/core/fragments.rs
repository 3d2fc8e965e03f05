//! Fragments follow their first one, which alone has the ports.
//!
//! A first fragment leaves a record of what became of it; the later ones are treated alike. Those
//! that come before it wait, bounded in number and time. A record ends when the whole datagram has
//! passed, so that its identification may be used again, or with its time. Nothing is reassembled,
//! so that the sizes the sender chose stay.

use std::collections::BTreeMap;
use std::mem;
use std::time::Duration;

use shared::addr::{Addr, Family, FlowKey, Protocol};
use shared::time::Time;
use shared::wire::ipv4::MIN_HEADER;
use shared::wire::transport;

use super::balancer::Sending;
use super::ip::Ip;
use super::net::PortId;
use super::reason::Reason;

/// What the fragments of one datagram have in common (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Whole {
    source: Addr,
    destination: Addr,
    identification: u32,
    /// Of IPv4 only (RFC 8200 section 4.5).
    protocol: u8,
}

/// A fragment, as far as its header tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    whole: Whole,
    offset: usize,
    length: usize,
    last: bool,
}

impl Part {
    /// The part that a packet is. None if no datagram is cut so: without payload, with one that is
    /// no multiple of eight bytes but not the last, beyond the largest packet, or writing over the
    /// TCP header of the first (RFC 1858, RFC 3128).
    pub fn of(ip: &Ip, packet: &[u8]) -> Option<Part> {
        let piece = ip.piece?;
        let (protocol, most) = match ip.family() {
            Family::V4 => (ip.protocol.0, MOST_PAYLOAD),
            Family::V6 => (0, usize::from(u16::MAX)),
        };
        let part = Part {
            whole: Whole {
                source: ip.source,
                destination: ip.destination,
                identification: piece.identification,
                protocol,
            },
            offset: usize::from(piece.offset),
            length: ip.payload(packet).len(),
            last: !piece.more,
        };
        let even = part.last || part.length.is_multiple_of(8);
        let fits = (1..=most).contains(&(part.offset + part.length)) && part.length > 0;
        let over_header =
            ip.protocol == Protocol::TCP && (1..transport::TCP_HEADER).contains(&part.offset);
        (even && fits && !over_header).then_some(part)
    }

    /// Whether it is the one with the ports.
    pub fn is_first(&self) -> bool {
        self.offset == 0
    }
}

/// What became of a first fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It went the way of this flow's connection.
    Follow(FlowKey),
    /// It was a connection of its own, of this flow, and went there.
    Alone(FlowKey, Sending),
    /// It went to the host.
    Host,
    /// It was dropped.
    Drop(Reason),
}

/// The records. See the [module](self).
#[derive(Debug, Default)]
pub struct Fragments {
    records: BTreeMap<Whole, Record>,
    /// Oldest first. All live equally long, so it is also the order of their ends.
    by_age: BTreeMap<u64, Whole>,
    born: u64,
    waiting: usize,
}

/// A frame with its port, if it came in by one.
type Late = (Option<PortId>, Vec<u8>);

#[derive(Debug)]
struct Record {
    age: u64,
    ends: Time,
    /// None: the first has not come yet.
    fate: Option<Fate>,
    waiting: Vec<Late>,
    /// Bytes of the datagram that have come.
    seen: usize,
    /// Bytes of the whole datagram; none before its last fragment.
    total: Option<usize>,
}

impl Fragments {
    /// What became of the first fragment, if it has come, for a later one that now goes the same
    /// way.
    pub fn fate(&mut self, part: Part) -> Option<Fate> {
        let record = self.records.get_mut(&part.whole)?;
        let fate = record.fate?;
        record.see(part);
        self.end_if_over(part.whole);
        Some(fate)
    }

    /// Lets a fragment wait for its first one. False if too many do.
    pub fn hold(&mut self, now: Time, part: Part, port: Option<PortId>, frame: &[u8]) -> bool {
        if self.waiting >= MOST_WAITING {
            return false;
        }
        let record = self.record(now, part.whole);
        if record.waiting.len() >= MOST_WAITING_PER_DATAGRAM {
            return false;
        }
        record.see(part);
        record.waiting.push((port, frame.to_vec()));
        self.waiting += 1;
        true
    }

    /// Records what became of a first fragment. Returns those that waited for it, and how many
    /// others had to be given up to make room.
    pub fn decide(&mut self, now: Time, part: Part, fate: Fate) -> (Vec<Late>, u64) {
        let old = self.records.get(&part.whole);
        let is_another = old.is_some_and(|record| record.fate.is_some());
        let given_up = if is_another {
            // The identification is used again before all of the old datagram came.
            self.end(part.whole)
        } else if old.is_none() && self.records.len() >= MOST_RECORDS {
            self.end_oldest()
        } else {
            0
        };
        let record = self.record(now, part.whole);
        record.fate = Some(fate);
        record.see(part);
        let waited = mem::take(&mut record.waiting);
        self.waiting -= waited.len();
        self.end_if_over(part.whole);
        (waited, given_up)
    }

    /// Forgets what is over. Returns how many fragments waited in vain.
    pub fn expire(&mut self, now: Time) -> u64 {
        let mut lost = 0;
        while self.poll_at().is_some_and(|at| at <= now) {
            lost += self.end_oldest();
        }
        lost
    }

    /// When the next record ends.
    pub fn poll_at(&self) -> Option<Time> {
        let (_, whole) = self.by_age.first_key_value()?;
        Some(self.records.get(whole)?.ends)
    }

    fn record(&mut self, now: Time, whole: Whole) -> &mut Record {
        let (born, by_age) = (&mut self.born, &mut self.by_age);
        self.records.entry(whole).or_insert_with(|| {
            *born += 1;
            by_age.insert(*born, whole);
            Record {
                age: *born,
                ends: now + LIFETIME,
                fate: None,
                waiting: Vec::new(),
                seen: 0,
                total: None,
            }
        })
    }

    fn end_if_over(&mut self, whole: Whole) {
        if self.records.get(&whole).is_some_and(Record::is_over) {
            self.end(whole);
        }
    }

    fn end_oldest(&mut self) -> u64 {
        match self.by_age.first_key_value() {
            Some((_, &whole)) => self.end(whole),
            None => 0,
        }
    }

    /// Returns how many fragments waited.
    fn end(&mut self, whole: Whole) -> u64 {
        let Some(record) = self.records.remove(&whole) else {
            return 0;
        };
        self.by_age.remove(&record.age);
        self.waiting -= record.waiting.len();
        record.waiting.len() as u64
    }
}

impl Record {
    fn see(&mut self, part: Part) {
        self.seen += part.length;
        if part.last {
            self.total = Some(part.offset + part.length);
        }
    }

    fn is_over(&self) -> bool {
        self.total.is_some_and(|total| self.seen >= total)
    }
}

/// As long as the kernel waits for missing fragments (`ipfrag_time`).
const LIFETIME: Duration = Duration::from_secs(30);
/// Datagrams of which fragments are missing.
const MOST_RECORDS: usize = 4096;
/// A datagram of 64 KiB in fragments of 1500 bytes has 45.
const MOST_WAITING_PER_DATAGRAM: usize = 64;
/// At 1500 bytes each, 1.5 MiB.
const MOST_WAITING: usize = 1024;
/// What fits into a packet with the shortest header.
const MOST_PAYLOAD: usize = u16::MAX as usize - MIN_HEADER;

#[cfg(test)]
mod tests {
    use super::*;
    use shared::wire::ipv4::{Header, MF};

    fn part(identification: u16, offset: usize, length: usize, more: u16) -> Part {
        cut(17, identification, offset, length, more).unwrap()
    }

    fn cut(
        protocol: u8,
        identification: u16,
        offset: usize,
        length: usize,
        more: u16,
    ) -> Option<Part> {
        let header = Header {
            tos: 0,
            identification,
            fragment: (offset / 8) as u16 | more,
            ttl: 64,
            protocol,
            source: [10, 0, 0, 1],
            destination: [10, 0, 0, 2],
        };
        let packet = [&header.to_bytes(length)[..], &vec![0; length]].concat();
        Part::of(&Ip::read(&packet).unwrap(), &packet)
    }

    /// Of a datagram in three fragments.
    fn first(identification: u16) -> Part {
        part(identification, 0, 16, MF)
    }

    fn second(identification: u16) -> Part {
        part(identification, 16, 16, MF)
    }

    fn last(identification: u16) -> Part {
        part(identification, 32, 5, 0)
    }

    #[test]
    fn fragments_that_no_datagram_is_cut_into() {
        for (protocol, offset, length, more, good) in [
            (17, 0, 8, MF, true),
            (17, 0, 9, MF, false),
            (17, 8, 9, 0, true),
            (17, 8, 0, 0, false),
            (17, 65504, 11, 0, true),
            (17, 65504, 12, 0, false),
            (6, 0, 24, MF, true),
            (6, 8, 24, MF, false),
            (6, 16, 24, 0, false),
            (6, 24, 24, 0, true),
        ] {
            let is = cut(protocol, 1, offset, length, more).is_some();
            assert_eq!(is, good, "{protocol} {offset} {length} {more}");
        }
    }

    #[test]
    fn late_ones_wait_and_come_out_in_order() {
        let mut fragments = Fragments::default();
        let now = Time::from_secs(1);
        assert_eq!(fragments.fate(second(1)), None);
        assert!(fragments.hold(now, second(1), Some(PortId(0)), &[1]));
        assert!(fragments.hold(now, second(1), Some(PortId(0)), &[2]));
        let (waited, lost) = fragments.decide(now, first(1), Fate::Host);
        assert_eq!(
            waited,
            vec![(Some(PortId(0)), vec![1]), (Some(PortId(0)), vec![2])]
        );
        assert_eq!(lost, 0);
        assert_eq!(fragments.fate(second(1)), Some(Fate::Host));
        assert_eq!(fragments.fate(second(2)), None);
        assert_eq!(fragments.expire(now + LIFETIME), 0);
        assert_eq!((fragments.fate(second(1)), fragments.waiting), (None, 0));
        assert_eq!(fragments.poll_at(), None);
    }

    #[test]
    fn a_datagram_that_has_passed_leaves_nothing() {
        let parts = [first(1), second(1), last(1)];
        for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 2, 1]] {
            let mut fragments = Fragments::default();
            for part in order.map(|at| parts[at]) {
                if part.is_first() {
                    fragments.decide(Time::ZERO, part, Fate::Host);
                } else if fragments.fate(part).is_none() {
                    assert!(fragments.hold(Time::ZERO, part, Some(PortId(0)), &[0]));
                }
            }
            assert!(fragments.records.is_empty() && fragments.by_age.is_empty());
            assert_eq!(fragments.waiting, 0);
        }
    }

    #[test]
    fn an_identification_that_is_used_again_is_another_datagram() {
        let mut fragments = Fragments::default();
        fragments.decide(Time::from_secs(1), first(1), Fate::Host);
        let dropped = Fate::Drop(Reason::NoServer);
        fragments.decide(Time::from_secs(9), first(1), dropped);
        assert_eq!(fragments.fate(second(1)), Some(dropped));
        assert_eq!(fragments.poll_at(), Some(Time::from_secs(9) + LIFETIME));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut fragments = Fragments::default();
        let now = Time::from_secs(1);
        let held = (0..100)
            .filter(|_| fragments.hold(now, second(1), Some(PortId(0)), &[0]))
            .count();
        assert_eq!(held, MOST_WAITING_PER_DATAGRAM);
        for identification in 2..1000 {
            fragments.hold(now, second(identification), Some(PortId(0)), &[0]);
            fragments.hold(now, second(identification), Some(PortId(0)), &[0]);
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
            fragments.decide(now, first(identification), Fate::Host);
        }
        assert_eq!(fragments.records.len(), MOST_RECORDS);
        assert_eq!(fragments.by_age.len(), MOST_RECORDS);
        assert_eq!(fragments.fate(second(9_999)), Some(Fate::Host));
        assert_eq!(fragments.fate(second(0)), None);
    }
}
