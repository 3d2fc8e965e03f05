//! From the hash of a flow to its connection: one flat open-addressing table of 8-byte words.
//!
//! A word is the 32-bit hash (its upper bits say where the word wants to be, all of them are the
//! tag that is compared first), the slot of the connection and the direction. So a probe reads one
//! cache line of eight words, and growing and removing never touch the connections themselves.
//!
//! - Linear probing, at most five eighths full. Removal shifts the words behind it back, so there
//!   are no tombstones and a table that has seen a million connections come and go is as fast as a
//!   new one.
//! - Growing allocates a table of twice the size beside the old one, and each insertion then moves a
//!   few words over; a lookup in between asks the new one first. A whole run of words is moved at a
//!   time, so that both tables are always consistent.
//! - Of several connections with the same key (two virtual addresses in front of one real server, used
//!   from one client port) the newest is found first, as the kernel does.

use shared::sys::prefetch::prefetch;

use super::Direction;

/// What a word of the index leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Slot of the connection.
    pub(super) slot: u32,
    /// Which of the connection's keys this is.
    pub(super) direction: Direction,
}

/// The index. See the [module](self).
#[derive(Debug)]
pub(super) struct Index {
    table: Table,
    outgrown: Option<Outgrown>,
}

impl Index {
    /// An empty index. It starts small.
    pub(super) fn new() -> Index {
        Index {
            table: Table::new(FIRST_BITS),
            outgrown: None,
        }
    }

    /// The newest entry with this hash that `is_it` accepts.
    #[inline]
    pub(super) fn find(&self, hash: u32, mut is_it: impl FnMut(Entry) -> bool) -> Option<Entry> {
        self.table.find(hash, &mut is_it).or_else(|| {
            self.outgrown
                .as_ref()
                .and_then(|outgrown| outgrown.table.find(hash, &mut is_it))
        })
    }

    /// Asks for the memory that [`find`](Self::find) will read first.
    pub(super) fn prefetch(&self, hash: u32) {
        prefetch(&raw const self.table.words[self.table.home(hash)]);
    }

    /// The first entry whose tag is right; most often it is the one that is looked for.
    pub(super) fn guess(&self, hash: u32) -> Option<Entry> {
        self.table.find(hash, &mut |_| true)
    }

    /// Adds an entry; `same_key` tells which of the present ones have the same key.
    pub(super) fn insert(
        &mut self,
        hash: u32,
        entry: Entry,
        mut same_key: impl FnMut(Entry) -> bool,
    ) {
        self.migrate();
        if self.len() >= self.table.room() {
            self.grow();
        }
        self.table.insert(Word::new(hash, entry), &mut same_key);
    }

    /// Takes an entry out. Whether it was there.
    pub(super) fn remove(&mut self, hash: u32, entry: Entry) -> bool {
        let word = Word::new(hash, entry);
        self.table.remove(word)
            || self
                .outgrown
                .as_mut()
                .is_some_and(|outgrown| outgrown.table.remove(word))
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.table.used + self.outgrown.as_ref().map_or(0, |old| old.table.used)
    }

    fn grow(&mut self) {
        while self.outgrown.is_some() {
            self.migrate();
        }
        let bits = self.table.words.len().ilog2() + 1;
        let table = std::mem::replace(&mut self.table, Table::new(bits));
        let cursor = table.first_gap();
        self.outgrown = Some(Outgrown { table, cursor });
    }

    /// Moves the next few words of the outgrown table over.
    fn migrate(&mut self) {
        if let Some(outgrown) = &mut self.outgrown {
            outgrown.hand_over(&mut self.table);
            if outgrown.table.used == 0 {
                self.outgrown = None;
            }
        }
    }
}

/// The table of before, being emptied.
#[derive(Debug)]
struct Outgrown {
    table: Table,
    /// Everything from the first gap up to here is empty; here a run begins, or a gap.
    cursor: usize,
}

impl Outgrown {
    fn hand_over(&mut self, to: &mut Table) {
        let mask = self.table.mask();
        let mut visited = 0;
        // Never stop inside a run: its words would no longer be found.
        while self.table.used > 0
            && (visited < MIGRATION_STEP || self.table.word(self.cursor) != Word::EMPTY)
        {
            let word = Word(std::mem::take(&mut self.table.words[self.cursor]));
            if word != Word::EMPTY {
                self.table.used -= 1;
                to.append(word);
            }
            self.cursor = (self.cursor + 1) & mask;
            visited += 1;
        }
    }
}

/// Hash in the upper half; below it slot + 1 and, in the last bit, the direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    const EMPTY: Word = Word(0);

    fn new(hash: u32, entry: Entry) -> Word {
        let direction = match entry.direction {
            Direction::Request => 0,
            Direction::Reply => 1,
        };
        Word(u64::from(hash) << 32 | u64::from(entry.slot + 1) << 1 | direction)
    }

    const fn hash(self) -> u32 {
        (self.0 >> 32) as u32
    }

    const fn entry(self) -> Entry {
        Entry {
            slot: (self.0 as u32 >> 1).wrapping_sub(1),
            direction: if self.0 & 1 == 0 {
                Direction::Request
            } else {
                Direction::Reply
            },
        }
    }
}

#[derive(Debug)]
struct Table {
    /// [`Word`]s. As plain integers they come zeroed from the system, page by page when first used:
    /// a new table of any size costs nothing at once.
    words: Vec<u64>,
    used: usize,
}

impl Table {
    fn new(bits: u32) -> Table {
        Table {
            words: vec![0; 1 << bits],
            used: 0,
        }
    }

    fn word(&self, at: usize) -> Word {
        Word(self.words[at])
    }

    fn mask(&self) -> usize {
        self.words.len() - 1
    }

    /// How many words it may hold.
    fn room(&self) -> usize {
        self.words.len() / 8 * 5
    }

    fn home(&self, hash: u32) -> usize {
        // The upper bits, so that a run keeps its order when the table doubles.
        (hash >> (u32::BITS - self.words.len().ilog2())) as usize
    }

    #[inline(always)]
    fn find(&self, hash: u32, is_it: &mut impl FnMut(Entry) -> bool) -> Option<Entry> {
        let mut at = self.home(hash);
        loop {
            let word = self.word(at);
            if word == Word::EMPTY {
                return None;
            }
            if word.hash() == hash && is_it(word.entry()) {
                return Some(word.entry());
            }
            at = (at + 1) & self.mask();
        }
    }

    /// In front of the words with the same key.
    fn insert(&mut self, mut word: Word, same_key: &mut impl FnMut(Entry) -> bool) {
        let mut at = self.home(word.hash());
        while self.word(at) != Word::EMPTY {
            let present = self.word(at);
            if present.hash() == word.hash() && same_key(present.entry()) {
                self.words[at] = word.0;
                word = present;
            }
            at = (at + 1) & self.mask();
        }
        self.words[at] = word.0;
        self.used += 1;
    }

    /// Behind the words with the same key.
    fn append(&mut self, word: Word) {
        self.insert(word, &mut |_| false);
    }

    fn remove(&mut self, word: Word) -> bool {
        let mut at = self.home(word.hash());
        while self.word(at) != word {
            if self.word(at) == Word::EMPTY {
                return false;
            }
            at = (at + 1) & self.mask();
        }
        self.close_gap(at);
        self.used -= 1;
        true
    }

    /// Empties `gap` and moves back what would no longer be found behind it.
    fn close_gap(&mut self, mut gap: usize) {
        let mask = self.mask();
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let word = self.word(at);
            if word == Word::EMPTY {
                break;
            }
            let from_home = at.wrapping_sub(self.home(word.hash())) & mask;
            let from_gap = at.wrapping_sub(gap) & mask;
            if from_home >= from_gap {
                self.words[gap] = word.0;
                gap = at;
            }
        }
        self.words[gap] = Word::EMPTY.0;
    }

    fn first_gap(&self) -> usize {
        self.words
            .iter()
            .position(|&word| Word(word) == Word::EMPTY)
            .expect("a table is never full")
    }
}

/// 1024 words, 8 KiB.
const FIRST_BITS: u32 = 10;

/// Words visited per insertion while growing. A table of n words is outgrown with 5/8 n entries, and
/// its successor only after as many insertions again; so two would do, and sixteen (two cache lines)
/// end the time of double lookups early.
const MIGRATION_STEP: usize = 16;
