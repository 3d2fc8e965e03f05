//! Who else answers ARP or neighbour discovery for the director's VIPs: a real server whose ARP is not suppressed, or
//! that has the VIP elsewhere than on loopback, or a stranger. Clients that hear it before the director go past the
//! director.
//!
//! In rounds, each VIP is asked for on each segment, as a client would ask. Whoever answers is a rival. To
//! give it a name, the real servers of the VIP are asked for on that segment too: the one with the rival's
//! Ethernet address is it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use shared::time::Time;

use crate::core::net::Mac;

/// To be asked: who has `address`?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// The kernel's number of the interface to ask on.
    pub ifindex: u32,
    /// Whose Ethernet address is wanted.
    pub address: IpAddr,
}

/// Somebody who answers for a VIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rival {
    /// The VIP.
    pub vip: IpAddr,
    /// On which interface.
    pub ifindex: u32,
    /// Its Ethernet address.
    pub mac: Mac,
}

/// What has become known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News {
    /// Of whom.
    pub rival: Rival,
    /// The real server that it is, if it is one.
    pub server: Option<IpAddr>,
    /// Whether it answers, or does so no more.
    pub answers: bool,
}

/// All rivals. See the [module](self).
#[derive(Debug)]
pub struct Rivals {
    round_at: Time,
    ask_at: Time,
    queue: VecDeque<Question>,
    vips: BTreeSet<IpAddr>,
    found: BTreeMap<Rival, Found>,
    /// Who has these Ethernet addresses, as real servers have answered.
    names: BTreeMap<(u32, Mac), IpAddr>,
    /// Real servers that were asked for a name.
    candidates: BTreeSet<IpAddr>,
}

#[derive(Debug, Clone, Copy)]
struct Found {
    /// Rounds since its last answer.
    silent: u8,
    /// When it is told, by then its name is known; none if it has been told.
    tell_at: Option<Time>,
}

impl Rivals {
    /// The first round begins soon.
    pub fn new(now: Time) -> Rivals {
        Rivals {
            round_at: now + FIRST,
            ask_at: now,
            queue: VecDeque::new(),
            vips: BTreeSet::new(),
            found: BTreeMap::new(),
            names: BTreeMap::new(),
            candidates: BTreeSet::new(),
        }
    }

    /// When there is something to do next.
    pub fn poll_at(&self) -> Time {
        let ask = (!self.queue.is_empty()).then_some(self.ask_at);
        let tell = self.found.values().filter_map(|found| found.tell_at);
        tell.chain(ask).fold(self.round_at, Time::min)
    }

    /// Whether a round is to [begin](Self::begin).
    pub fn is_due(&self, now: Time) -> bool {
        self.round_at <= now
    }

    /// A round begins: these VIPs are asked for on these interfaces. Who has been silent for some rounds, or
    /// whose VIP or interface is no longer there, is no rival any more.
    pub fn begin(&mut self, now: Time, vips: BTreeSet<IpAddr>, segments: &[u32]) -> Vec<News> {
        self.round_at = now + ROUND;
        let mut gone = Vec::new();
        self.found.retain(|rival, found| {
            found.silent += 1;
            let there = vips.contains(&rival.vip) && segments.contains(&rival.ifindex);
            let stays = there && found.silent <= PATIENCE;
            if !stays && found.tell_at.is_none() {
                gone.push(*rival);
            }
            stays
        });
        let gone = gone.into_iter().map(|rival| News {
            rival,
            server: self.name(rival),
            answers: false,
        });
        let gone: Vec<News> = gone.collect();
        if self.found.is_empty() {
            self.names.clear();
            self.candidates.clear();
        }
        let questions = vips.iter().flat_map(|&address| {
            let of_segment = move |&ifindex| Question { ifindex, address };
            segments.iter().map(of_segment)
        });
        // What a long round has left is asked again with this one.
        self.queue = questions.collect();
        self.vips = vips;
        gone
    }

    /// What is to be asked now: little at a time, for it goes to everybody.
    pub fn take_questions(&mut self, now: Time) -> Vec<Question> {
        if self.ask_at > now || self.queue.is_empty() {
            return Vec::new();
        }
        self.ask_at = now + PAUSE;
        self.queue.drain(..self.queue.len().min(AT_ONCE)).collect()
    }

    /// Whether it is asked for in this round.
    pub fn is_vip(&self, address: IpAddr) -> bool {
        self.vips.contains(&address)
    }

    /// Somebody else than this host has answered that it has `address`. `servers` are the real servers behind
    /// a VIP.
    pub fn hear(
        &mut self,
        now: Time,
        (ifindex, mac): (u32, Mac),
        address: IpAddr,
        servers: impl FnOnce() -> Vec<IpAddr>,
    ) {
        if self.candidates.contains(&address) {
            self.names.insert((ifindex, mac), address);
        }
        if !self.vips.contains(&address) {
            return;
        }
        let rival = Rival {
            vip: address,
            ifindex,
            mac,
        };
        if let Some(found) = self.found.get_mut(&rival) {
            found.silent = 0;
            return;
        }
        if self.found.len() >= MOST {
            return;
        }
        let tell_at = Some(now + NAMING);
        self.found.insert(rival, Found { silent: 0, tell_at });
        if self.name(rival).is_none() {
            let servers = servers();
            let unasked = servers.iter().copied();
            let unasked = unasked.filter(|server| self.candidates.insert(*server));
            let questions = unasked.map(|address| Question { ifindex, address });
            // Before the rest of the round: somebody waits for it.
            for question in questions.take(MOST).collect::<Vec<_>>() {
                self.queue.push_front(question);
            }
        }
    }

    /// Who is to be told of.
    pub fn take_news(&mut self, now: Time) -> Vec<News> {
        let mut due = Vec::new();
        for (rival, found) in &mut self.found {
            if found.tell_at.is_some_and(|at| at <= now) {
                found.tell_at = None;
                due.push(*rival);
            }
        }
        let news = due.into_iter().map(|rival| News {
            rival,
            server: self.name(rival),
            answers: true,
        });
        news.collect()
    }

    /// Those who answer, with the real servers that they are.
    pub fn all(&self) -> impl Iterator<Item = (Rival, Option<IpAddr>)> + '_ {
        let told = self
            .found
            .iter()
            .filter(|(_, found)| found.tell_at.is_none());
        told.map(|(&rival, _)| (rival, self.name(rival)))
    }

    fn name(&self, rival: Rival) -> Option<IpAddr> {
        self.names.get(&(rival.ifindex, rival.mac)).copied()
    }
}

/// After the start: addresses may just have been added.
const FIRST: Duration = Duration::from_secs(1);
/// From the beginning of a round to the next.
const ROUND: Duration = Duration::from_secs(15);
/// Rounds without an answer after which it is over: a question or its answer may get lost.
const PATIENCE: u8 = 2;
/// Questions at once, and the time until the next ones.
const AT_ONCE: usize = 16;
const PAUSE: Duration = Duration::from_millis(50);
/// So long names are waited for.
const NAMING: Duration = Duration::from_millis(500);
/// Rivals, and real servers that are asked for the name of one.
const MOST: usize = 256;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 100));
    const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 11));
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 11]);
    const SEGMENT: u32 = 7;
    const RIVAL: Rival = Rival {
        vip: VIP,
        ifindex: SEGMENT,
        mac: MAC,
    };

    fn second(seconds: u64) -> Time {
        Time::from_secs(seconds)
    }

    fn begin(rivals: &mut Rivals, now: Time) -> Vec<News> {
        assert!(rivals.is_due(now));
        let gone = rivals.begin(now, [VIP].into(), &[SEGMENT]);
        let question = Question {
            ifindex: SEGMENT,
            address: VIP,
        };
        assert_eq!(rivals.take_questions(now), [question]);
        gone
    }

    fn hear(rivals: &mut Rivals, now: Time, address: IpAddr) {
        rivals.hear(now, (SEGMENT, MAC), address, || vec![SERVER]);
    }

    #[test]
    fn a_rival_is_named_told_once_and_told_when_it_is_over() {
        let mut rivals = Rivals::new(second(0));
        assert!(!rivals.is_due(second(0)));
        assert_eq!(begin(&mut rivals, second(1)), []);
        assert_eq!(rivals.poll_at(), second(16));
        hear(&mut rivals, second(2), VIP);
        // Its name is asked for, of those who could be it.
        assert_eq!(rivals.poll_at(), second(1) + PAUSE);
        let question = Question {
            ifindex: SEGMENT,
            address: SERVER,
        };
        assert_eq!(rivals.take_questions(second(2)), [question]);
        hear(&mut rivals, second(2), SERVER);
        assert_eq!(rivals.poll_at(), second(2) + NAMING);
        assert_eq!(rivals.take_news(second(2)), []);
        assert_eq!(rivals.all().count(), 0);
        let found = News {
            rival: RIVAL,
            server: Some(SERVER),
            answers: true,
        };
        assert_eq!(rivals.take_news(second(3)), [found]);
        assert_eq!(rivals.take_news(second(3)), []);
        assert_eq!(rivals.all().collect::<Vec<_>>(), [(RIVAL, Some(SERVER))]);
        for now in [16, 31] {
            assert_eq!(begin(&mut rivals, second(now)), []);
            hear(&mut rivals, second(now), VIP);
        }
        for now in [46, 61] {
            assert_eq!(begin(&mut rivals, second(now)), []);
        }
        let over = News {
            answers: false,
            ..found
        };
        assert_eq!(begin(&mut rivals, second(76)), [over]);
        assert_eq!(rivals.all().count(), 0);
    }

    #[test]
    fn a_stranger_has_no_name_and_others_are_no_rivals() {
        let mut rivals = Rivals::new(second(0));
        begin(&mut rivals, second(1));
        hear(&mut rivals, second(1), SERVER);
        hear(&mut rivals, second(1), Ipv4Addr::new(10, 2, 0, 101).into());
        assert_eq!(rivals.take_news(second(9)), []);
        hear(&mut rivals, second(9), VIP);
        let stranger = News {
            rival: RIVAL,
            server: None,
            answers: true,
        };
        assert_eq!(rivals.take_news(second(10)), [stranger]);
        // It is over with the VIP.
        let over = News {
            answers: false,
            ..stranger
        };
        let none = BTreeSet::new();
        assert_eq!(rivals.begin(second(16), none, &[SEGMENT]), [over]);
        assert_eq!(rivals.take_questions(second(16)), []);
    }

    #[test]
    fn many_vips_are_asked_for_bit_by_bit() {
        let mut rivals = Rivals::new(second(0));
        let vips = (1..=20).map(|last| IpAddr::from([10, 2, 0, last]));
        rivals.begin(second(1), vips.collect(), &[1, 2]);
        let mut now = second(1);
        for asked in [AT_ONCE, AT_ONCE, 40 - 2 * AT_ONCE] {
            assert!(rivals.poll_at() <= now);
            assert_eq!(rivals.take_questions(now).len(), asked);
            assert_eq!(rivals.take_questions(now), []);
            now = now + PAUSE;
        }
        assert_eq!(rivals.poll_at(), second(16));
    }

    #[test]
    fn a_flood_of_answers_is_bounded() {
        let mut rivals = Rivals::new(second(0));
        begin(&mut rivals, second(1));
        for number in 0..1000_u32 {
            let [a, b, c, d] = number.to_be_bytes();
            let mac = Mac([2, 0, a, b, c, d]);
            rivals.hear(second(1), (SEGMENT, mac), VIP, Vec::new);
        }
        assert_eq!(rivals.take_news(second(2)).len(), MOST);
    }
}
