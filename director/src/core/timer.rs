//! A hierarchical timer wheel over slots that somebody else keeps.
//!
//! Five levels of 64 lists; a list of level n spans 64^n ticks. A slot lies in the level whose span
//! its deadline still leaves, and moves down as the deadline nears, so setting, moving and clearing
//! a timer are a few writes each, whatever the number of timers.
//!
//! The wheel does not know deadlines, it knows when to *look*: [`Wheel::due`] hands out slots whose
//! time may have come, and the owner links them again if it has not. So whoever only puts a
//! deadline off, as every packet of a connection does, need not touch the wheel at all
//! ([`Wheel::bring_forward`]).

use std::time::Duration;

use shared::time::Time;

/// Keeper of the links. Each slot has one.
pub trait Timed {
    /// The link of a slot that is, or will now be, on the wheel.
    fn link(&mut self, slot: u32) -> &mut Link;
}

/// A slot's place on the wheel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Link {
    /// When it will be looked at, ticks; of which the last 416 days can be told apart.
    at: u32,
    previous: Option<Slot>,
    next: Option<Slot>,
    list: Option<List>,
}

/// The wheel. See the [module](self).
#[derive(Debug)]
pub struct Wheel {
    /// What was due up to this tick has been handed out, but for what is left of the list that is being
    /// emptied.
    elapsed: u64,
    levels: [Level; LEVELS],
}

impl Wheel {
    /// An empty wheel.
    pub fn new() -> Wheel {
        Wheel {
            elapsed: 0,
            levels: [const { Level::new() }; LEVELS],
        }
    }

    /// Sets the timer of a slot that is not on the wheel.
    pub fn set(&mut self, slots: &mut impl Timed, slot: u32, deadline: Time) {
        let at = tick_after(deadline).max(self.elapsed + 1);
        let list = self.list_for(at);
        self.push(slots, slot, list, at);
    }

    /// Whether a slot with this link would be looked at later than at this deadline.
    #[inline]
    pub fn is_late(link: &Link, deadline: Time) -> bool {
        // No timer is set for more than a fourth of what can be told apart.
        ((tick_after(deadline) as u32).wrapping_sub(link.at) as i32) < 0
    }

    /// Makes sure that a slot on the wheel is looked at no later than at its new deadline. Touches
    /// the wheel only if the deadline has become earlier.
    pub fn bring_forward(&mut self, slots: &mut impl Timed, slot: u32, deadline: Time) {
        if Wheel::is_late(slots.link(slot), deadline) {
            self.clear(slots, slot);
            self.set(slots, slot, deadline);
        }
    }

    /// Takes a slot off the wheel, if it is on it.
    pub fn clear(&mut self, slots: &mut impl Timed, slot: u32) {
        let link = std::mem::take(slots.link(slot));
        let Some(list) = link.list else {
            return;
        };
        match link.previous {
            Some(previous) => slots.link(previous.get()).next = link.next,
            None => self.set_head(list, link.next),
        }
        if let Some(next) = link.next {
            slots.link(next.get()).previous = link.previous;
        }
    }

    /// The next slot whose deadline may have come by `now`, taken off the wheel. The owner either
    /// ends it or [sets](Self::set) it again.
    pub fn due(&mut self, slots: &mut impl Timed, now: Time) -> Option<u32> {
        let now = tick_before(now);
        let Some((list, at)) = self.earliest().filter(|&(_, at)| at <= now) else {
            self.elapsed = self.elapsed.max(now);
            return None;
        };
        // From here on slots of the list's span are linked into others, further down.
        self.elapsed = self.elapsed.max(at);
        let slot = self.head(list)?.get();
        self.clear(slots, slot);
        Some(slot)
    }

    /// When to call [`due`](Self::due) next. It may then have nothing yet.
    pub fn poll_at(&self) -> Option<Time> {
        self.earliest().map(|(_, at)| time_of(at))
    }

    /// The list that is emptied next, and when. One that is being emptied comes before what was moved
    /// down from it.
    fn earliest(&self) -> Option<(List, u64)> {
        // The last level is a ring; on the others nothing lies behind the present list.
        let lists = self.levels.iter().enumerate().filter_map(|(level, lists)| {
            let shift = LEVEL_BITS * level as u32;
            let here = (self.elapsed >> shift) % LISTS as u64;
            let ahead = lists.used.rotate_right(here as u32);
            (ahead != 0).then(|| {
                let at = ((self.elapsed >> shift) + u64::from(ahead.trailing_zeros())) << shift;
                (List::new(level, (at >> shift) as usize % LISTS), at)
            })
        });
        lists.min_by_key(|&(_, at)| at)
    }

    fn list_for(&self, at: u64) -> List {
        let differing = u64::BITS - 1 - (at ^ self.elapsed).leading_zeros();
        let level = ((differing / LEVEL_BITS) as usize).min(LEVELS - 1);
        let shift = LEVEL_BITS * level as u32;
        // Further than the wheel reaches: its last list, from where it is linked again. (On the
        // lower levels the last list is never passed, the levels being told apart by that.)
        let last = (self.elapsed >> shift) + LISTS as u64 - 1;
        List::new(level, (at >> shift).min(last) as usize % LISTS)
    }

    fn push(&mut self, slots: &mut impl Timed, slot: u32, list: List, at: u64) {
        let me = Slot::new(slot);
        let next = self.head(list);
        *slots.link(slot) = Link {
            at: at as u32,
            previous: None,
            next,
            list: Some(list),
        };
        if let Some(next) = next {
            slots.link(next.get()).previous = Some(me);
        }
        self.set_head(list, Some(me));
    }

    fn head(&self, list: List) -> Option<Slot> {
        let (level, list) = list.split();
        self.levels[level].heads[list]
    }

    fn set_head(&mut self, list: List, head: Option<Slot>) {
        let (level, list) = list.split();
        let level = &mut self.levels[level];
        level.heads[list] = head;
        level.used = level.used & !(1 << list) | u64::from(head.is_some()) << list;
    }
}

impl Default for Wheel {
    fn default() -> Wheel {
        Wheel::new()
    }
}

#[derive(Debug)]
struct Level {
    /// A bit for each list that is not empty.
    used: u64,
    heads: [Option<Slot>; LISTS],
}

impl Level {
    const fn new() -> Level {
        Level {
            used: 0,
            heads: [None; LISTS],
        }
    }
}

/// A slot number, one above itself so that an absent one takes no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot(std::num::NonZeroU32);

impl Slot {
    fn new(slot: u32) -> Slot {
        Slot(std::num::NonZeroU32::MIN.saturating_add(slot))
    }

    const fn get(self) -> u32 {
        self.0.get() - 1
    }
}

/// Level and list in one number, one above itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct List(std::num::NonZeroU16);

impl List {
    fn new(level: usize, list: usize) -> List {
        List(std::num::NonZeroU16::MIN.saturating_add((level * LISTS + list) as u16))
    }

    fn split(self) -> (usize, usize) {
        let number = usize::from(self.0.get()) - 1;
        (number / LISTS, number % LISTS)
    }
}

/// The first tick that is not before `time`.
fn tick_after(time: Time) -> u64 {
    time.as_nanos().div_ceil(TICK_NANOS)
}

/// The last tick that is not after `time`.
fn tick_before(time: Time) -> u64 {
    time.as_nanos() / TICK_NANOS
}

fn time_of(tick: u64) -> Time {
    Time::ZERO + Duration::from_nanos(tick.saturating_mul(TICK_NANOS))
}

/// 8.4 ms, about a kernel's jiffy. Timers end up to one tick late and never early.
const TICK_NANOS: u64 = 1 << 23;
/// Of the wheel.
pub const TICK: Duration = Duration::from_nanos(TICK_NANOS);
const LEVEL_BITS: u32 = 6;
const LISTS: usize = 1 << LEVEL_BITS;
/// Five levels reach 104 days ahead; the longest timeout that can be set is 31.
const LEVELS: usize = 5;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl Timed for Vec<Link> {
        fn link(&mut self, slot: u32) -> &mut Link {
            &mut self[slot as usize]
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// A packet: a new deadline, later or earlier.
        Stamp(u32, u64),
        Clear(u32),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let millis = prop_oneof![0..200_u64, 0..100_000_u64, 0..2_678_400_000_u64];
        prop_oneof![
            4 => (0..32_u32, millis.clone()).prop_map(|(slot, millis)| Step::Stamp(slot, millis)),
            1 => (0..32_u32).prop_map(Step::Clear),
            2 => millis.prop_map(Step::Pass),
        ]
    }

    /// A director that has run for so long that the links' ticks begin anew.
    #[test]
    fn years_later_timers_still_come_forward() {
        let years = Time::ZERO + Duration::from_secs(86400 * 416);
        let wrapped = Duration::from_nanos(TICK_NANOS * u64::from(u32::MAX));
        let mut now = Time::ZERO + wrapped - Duration::from_secs(60);
        assert!(now < years + Duration::from_secs(86400));
        let mut links = vec![Link::default(); 2];
        let mut wheel = Wheel::new();
        assert_eq!(wheel.due(&mut links, now), None);
        wheel.set(&mut links, 0, now + Duration::from_secs(300));
        wheel.set(&mut links, 1, now + Duration::from_secs(300));
        wheel.bring_forward(&mut links, 0, now + Duration::from_secs(30));
        wheel.bring_forward(&mut links, 1, now + Duration::from_secs(600));
        now = now + Duration::from_secs(31);
        assert_eq!(wheel.due(&mut links, now), Some(0));
        assert_eq!(wheel.due(&mut links, now), None);
        now = now + Duration::from_secs(270);
        assert_eq!(wheel.due(&mut links, now), Some(1));
    }

    proptest! {
        /// Against a plain map of deadlines: nothing ends early, nothing is more than a tick late,
        /// and `poll_at` never sleeps past a deadline.
        #[test]
        fn keeps_every_deadline(steps in prop::collection::vec(step(), 1..200)) {
            let tick = Duration::from_nanos(TICK_NANOS);
            let mut links = vec![Link::default(); 32];
            let mut wheel = Wheel::new();
            let mut deadlines: BTreeMap<u32, Time> = BTreeMap::new();
            let mut now = Time::from_secs(1000);
            for step in steps {
                match step {
                    Step::Stamp(slot, millis) => {
                        let deadline = now + Duration::from_millis(millis);
                        if deadlines.insert(slot, deadline).is_some() {
                            wheel.bring_forward(&mut links, slot, deadline);
                        } else {
                            wheel.set(&mut links, slot, deadline);
                        }
                    }
                    Step::Clear(slot) => {
                        if deadlines.remove(&slot).is_some() {
                            wheel.clear(&mut links, slot);
                        }
                    }
                    Step::Pass(millis) => {
                        now = now + Duration::from_millis(millis);
                        while let Some(slot) = wheel.due(&mut links, now) {
                            let deadline = deadlines[&slot];
                            if deadline <= now {
                                deadlines.remove(&slot);
                            } else {
                                wheel.set(&mut links, slot, deadline);
                            }
                        }
                    }
                }
                let earliest = deadlines.values().min().copied();
                prop_assert!(earliest.is_none_or(|earliest| earliest + tick + tick > now));
                prop_assert_eq!(wheel.poll_at().is_some(), earliest.is_some());
                if let (Some(poll_at), Some(earliest)) = (wheel.poll_at(), earliest) {
                    prop_assert!(poll_at <= earliest.max(now) + tick + tick);
                }
            }
        }
    }

    #[test]
    fn a_later_deadline_leaves_the_wheel_alone() {
        let mut links = vec![Link::default(); 1];
        let mut wheel = Wheel::new();
        wheel.set(&mut links, 0, Time::from_secs(60));
        let before = links[0];
        wheel.bring_forward(&mut links, 0, Time::from_secs(900));
        assert_eq!(links[0], before);
        wheel.bring_forward(&mut links, 0, Time::from_secs(10));
        assert_ne!(links[0], before);
    }

    #[test]
    fn a_fired_list_is_handed_out_piece_by_piece() {
        let mut links = vec![Link::default(); 100];
        let mut wheel = Wheel::new();
        for slot in 0..100 {
            wheel.set(&mut links, slot, Time::from_secs(1));
        }
        let now = Time::from_secs(2);
        let mut seen = Vec::new();
        for _ in 0..40 {
            seen.extend(wheel.due(&mut links, now));
        }
        assert!(wheel.poll_at().is_some_and(|at| at <= now));
        // What waits can still be taken off.
        let waiting = (0..100).find(|slot| !seen.contains(slot)).unwrap();
        wheel.clear(&mut links, waiting);
        while let Some(slot) = wheel.due(&mut links, now) {
            seen.push(slot);
        }
        seen.sort_unstable();
        let expected: Vec<u32> = (0..100).filter(|&slot| slot != waiting).collect();
        assert_eq!(seen, expected);
        assert_eq!(wheel.poll_at(), None);
    }
}
