//! Faults of a configuration file and their places.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

/// One fault: where it is, what it is, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong, and what to write instead.
    pub text: String,
}

/// Every fault of a file, in the order of their places. Shown as one `FILE:LINE:COLUMN: text` a
/// line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Faults {
    /// The file, as it was named to [`read`](super::read).
    pub file: String,
    /// Never empty.
    pub faults: Vec<Fault>,
}

impl Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Fault { line, column, text }) in self.faults.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:{line}:{column}: {text}", self.file)?;
        }
        Ok(())
    }
}

/// Faults while a text is being read: they are noted by byte offset.
#[derive(Debug)]
pub struct Notes<'t> {
    text: &'t str,
    broken: Broken,
    faults: Vec<Fault>,
}

/// Whether the text is TOML at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// It is.
    No,
    /// It is not: what stands there was made out as well as possible.
    Yes,
}

impl<'t> Notes<'t> {
    /// Of a text, still without faults.
    pub(super) fn new(text: &'t str, broken: Broken) -> Notes<'t> {
        Notes {
            text,
            broken,
            faults: Vec::new(),
        }
    }

    /// A fault at a byte offset.
    pub fn fault(&mut self, at: usize, text: impl Into<String>) {
        let (line, column) = self.place(at);
        self.faults.push(Fault {
            line,
            column,
            text: text.into(),
        });
    }

    /// Something that is not there. In a broken text it may well be there.
    pub fn missing(&mut self, at: usize, text: impl Into<String>) {
        if self.broken == Broken::No {
            self.fault(at, text);
        }
    }

    /// Line and column of a byte offset, both from 1.
    pub(super) fn place(&self, at: usize) -> (usize, usize) {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (
            before.matches('\n').count() + 1,
            before[line_start..].chars().count() + 1,
        )
    }

    /// All faults by place. In a broken text only the first one noted of each line counts, since
    /// others may only follow from it.
    pub(super) fn finish(mut self) -> Vec<Fault> {
        if self.broken == Broken::Yes {
            let mut lines = BTreeSet::new();
            self.faults.retain(|fault| lines.insert(fault.line));
        }
        self.faults.sort();
        self.faults.dedup();
        self.faults
    }
}

/// What was said already, and where.
#[derive(Debug)]
pub struct Seen<K>(BTreeMap<K, usize>);

impl<K> Default for Seen<K> {
    fn default() -> Seen<K> {
        Seen(BTreeMap::new())
    }
}

impl<K: Ord> Seen<K> {
    /// Whether `key` is new; if it is not, that is a fault.
    pub fn first(&mut self, notes: &mut Notes<'_>, at: usize, what: impl Display, key: K) -> bool {
        let Some(&earlier) = self.0.get(&key) else {
            self.0.insert(key, at);
            return true;
        };
        let (line, _) = notes.place(earlier);
        notes.fault(
            at,
            format!("{what} is in line {line} already; write it once"),
        );
        false
    }
}

/// A list of values as the file writes them: `"a", "b" or "c"`.
pub(super) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.as_slice() {
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
        [] => String::new(),
    }
}

/// The word that was most likely meant: at most a third of its letters differ.
pub(super) fn nearest<'w>(word: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let word = word.to_lowercase();
    words
        .into_iter()
        .map(|known| (strsim::osa_distance(&word, known), known))
        .filter(|&(distance, known)| distance * 3 <= known.len().max(3))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters() {
        let notes = Notes::new("ab\n\u{e9}x\n", Broken::No);
        assert_eq!(notes.place(0), (1, 1));
        assert_eq!(notes.place(2), (1, 3));
        assert_eq!(notes.place(3), (2, 1));
        assert_eq!(notes.place(4), (2, 1), "inside of a character");
        assert_eq!(notes.place(5), (2, 2));
        assert_eq!(notes.place(99), (3, 1));
    }

    #[test]
    fn nearest_takes_slips_and_leaves_strangers() {
        let words = ["scheduler", "address", "weight", "rr", "wrr", "wlc"];
        assert_eq!(nearest("shceduler", words), Some("scheduler"));
        assert_eq!(nearest("Weigth", words), Some("weight"));
        assert_eq!(nearest("wwr", words), Some("wrr"));
        assert_eq!(nearest("colour", words), None);
    }
}
