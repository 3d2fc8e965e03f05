//! One table of the file: its keys by name and type. Whatever is wrong becomes a fault, and reading
//! goes on.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Notes, nearest, one_of};

/// The keys of a table.
#[derive(Debug)]
pub struct Keys {
    /// How the table is named in messages.
    pub table: &'static str,
    /// Those that are there.
    pub known: &'static [&'static str],
    /// Those that are promised.
    pub later: &'static [&'static str],
}

/// The values of a key.
#[derive(Debug)]
pub struct Words {
    /// Those that are there.
    pub known: &'static [&'static str],
    /// Those that are promised.
    pub later: &'static [&'static str],
}

/// A table whose keys are all known.
#[derive(Debug, Clone, Copy)]
pub struct Section<'a, 't> {
    keys: &'static Keys,
    table: &'a DeTable<'t>,
    /// Where it begins.
    pub at: usize,
}

/// A value and where it stands.
#[derive(Debug, Clone, Copy)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Its byte offset.
    pub at: usize,
}

impl<'a, 't> Section<'a, 't> {
    /// A table; each key that it should not have is a fault.
    pub(super) fn new(
        notes: &mut Notes<'_>,
        keys: &'static Keys,
        table: &'a DeTable<'t>,
        at: usize,
    ) -> Section<'a, 't> {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !keys.known.contains(&name) {
                notes.fault(key.span().start, strange_key(keys, name));
            }
        }
        Section { keys, table, at }
    }

    /// `[key]`
    pub fn table(
        self,
        notes: &mut Notes<'_>,
        key: &str,
        keys: &'static Keys,
    ) -> Option<Section<'a, 't>> {
        let value = self.table.get(key)?;
        let at = value.span().start;
        if let DeValue::Table(table) = value.get_ref() {
            return Some(Section::new(notes, keys, table, at));
        }
        notes.fault(
            at,
            format!(
                "`{key}' is {}; write a section {}",
                a_kind(value.get_ref()),
                keys.table
            ),
        );
        None
    }

    /// All of `[[key]]`
    pub fn tables(
        self,
        notes: &mut Notes<'_>,
        key: &str,
        keys: &'static Keys,
    ) -> Vec<Section<'a, 't>> {
        let Some(value) = self.table.get(key) else {
            return Vec::new();
        };
        let elements: Vec<&'a Spanned<DeValue<'t>>> = match value.get_ref() {
            DeValue::Array(array) => array.iter().collect(),
            _ => vec![value],
        };
        let mut sections = Vec::new();
        for element in elements {
            let at = element.span().start;
            match (element.get_ref(), value.get_ref()) {
                (DeValue::Table(table), DeValue::Array(_)) => {
                    sections.push(Section::new(notes, keys, table, at));
                }
                (DeValue::Table(_), _) => notes.fault(
                    at,
                    format!("there can be more than one `{key}'; write {}", keys.table),
                ),
                (other, _) => notes.fault(
                    at,
                    format!(
                        "`{key}' is {}; write a section {}",
                        a_kind(other),
                        keys.table
                    ),
                ),
            }
        }
        sections
    }

    /// `[key]`, or all of `[[key]]`
    pub fn table_or_tables(
        self,
        notes: &mut Notes<'_>,
        key: &str,
        keys: &'static Keys,
    ) -> Vec<Section<'a, 't>> {
        match self.table.get(key).map(Spanned::get_ref) {
            Some(DeValue::Array(_)) => self.tables(notes, key, keys),
            _ => self.table(notes, key, keys).into_iter().collect(),
        }
    }

    /// A string.
    pub fn text(self, notes: &mut Notes<'_>, key: &str) -> Option<Placed<&'a str>> {
        text_of(notes, key, self.table.get(key)?)
    }

    /// A string that must be there; `example` is what to write if it is not.
    pub fn required_text(
        self,
        notes: &mut Notes<'_>,
        key: &str,
        example: &str,
    ) -> Option<Placed<&'a str>> {
        if !self.table.contains_key(key) {
            let table = self.keys.table;
            notes.missing(
                self.at,
                format!("{table} has no `{key}'; write {key} = {example}"),
            );
        }
        self.text(notes, key)
    }

    /// `key = true` or `false`
    pub fn flag(self, notes: &mut Notes<'_>, key: &str) -> Option<bool> {
        let value = self.table.get(key)?;
        if let DeValue::Boolean(flag) = value.get_ref() {
            return Some(*flag);
        }
        let at = value.span().start;
        notes.fault(at, format!("{key} is true or false: {key} = true"));
        None
    }

    /// A list of strings.
    pub fn texts(self, notes: &mut Notes<'_>, key: &str) -> Vec<Placed<&'a str>> {
        let Some(value) = self.table.get(key) else {
            return Vec::new();
        };
        if let DeValue::Array(array) = value.get_ref() {
            return array
                .iter()
                .filter_map(|element| text_of(notes, key, element))
                .collect();
        }
        let instead = match value.get_ref() {
            DeValue::String(text) => format!("[{text:?}]"),
            _ => "a list of strings in [ ]".to_owned(),
        };
        notes.fault(
            value.span().start,
            format!("`{key}' is {}; write {instead}", a_kind(value.get_ref())),
        );
        Vec::new()
    }

    /// Whether the value of a key is a string.
    pub fn has_text(self, key: &str) -> bool {
        let value = self.table.get(key).map(Spanned::get_ref);
        matches!(value, Some(DeValue::String(_)))
    }

    /// Where the value of a key stands, if the key is there.
    pub fn place(self, key: &str) -> Option<usize> {
        Some(self.table.get(key)?.span().start)
    }

    /// Whether a key is not there at all.
    pub fn lacks(self, key: &str) -> bool {
        self.table.get(key).is_none()
    }

    /// `true` or `false`.
    pub fn truth(self, notes: &mut Notes<'_>, key: &str) -> Option<Placed<bool>> {
        let value = self.table.get(key)?;
        let at = value.span().start;
        if let DeValue::Boolean(value) = *value.get_ref() {
            return Some(Placed { value, at });
        }
        let kind = a_kind(value.get_ref());
        notes.fault(at, format!("`{key}' is {kind}; write true or false"));
        None
    }

    /// A length of time within a range, such as `"1s"`. The range is of whole milliseconds.
    pub fn duration(
        self,
        notes: &mut Notes<'_>,
        key: &str,
        range: RangeInclusive<Duration>,
    ) -> Option<Placed<Duration>> {
        let value = self.table.get(key)?;
        let at = value.span().start;
        let text = match value.get_ref() {
            DeValue::String(text) => duration(text),
            _ => None,
        };
        match text {
            Some(value) if range.contains(&value) => Some(Placed { value, at }),
            _ => {
                let (least, most) = (words_of(*range.start()), words_of(*range.end()));
                let fault =
                    format!("`{key}' takes a time from {least:?} to {most:?}; write \"1s\"");
                notes.fault(at, fault);
                None
            }
        }
    }

    /// A whole number within a range.
    pub fn number(
        self,
        notes: &mut Notes<'_>,
        key: &str,
        range: RangeInclusive<u32>,
    ) -> Option<Placed<u32>> {
        number_of(notes, key, self.table.get(key)?, range)
    }

    /// A list of whole numbers within a range.
    pub fn numbers(
        self,
        notes: &mut Notes<'_>,
        key: &str,
        range: RangeInclusive<u32>,
    ) -> Vec<Placed<u32>> {
        let Some(value) = self.table.get(key) else {
            return Vec::new();
        };
        if let DeValue::Array(array) = value.get_ref() {
            return array
                .iter()
                .filter_map(|element| number_of(notes, key, element, range.clone()))
                .collect();
        }
        let kind = a_kind(value.get_ref());
        let fault = format!("`{key}' is {kind}; write a list of whole numbers in [ ]");
        notes.fault(value.span().start, fault);
        Vec::new()
    }

    /// A list of whole numbers, and of ranges of them such as `"200-299"`, within a range.
    pub fn number_ranges(
        self,
        notes: &mut Notes<'_>,
        key: &str,
        range: RangeInclusive<u32>,
    ) -> Vec<RangeInclusive<u32>> {
        let Some(value) = self.table.get(key) else {
            return Vec::new();
        };
        if let DeValue::Array(array) = value.get_ref() {
            return array
                .iter()
                .filter_map(|element| range_of(notes, key, element, range.clone()))
                .collect();
        }
        let kind = a_kind(value.get_ref());
        let fault = format!("`{key}' is {kind}; write a list in [ ]");
        notes.fault(value.span().start, fault);
        Vec::new()
    }
}

/// A whole number, or two as in `"200-299"`.
fn range_of(
    notes: &mut Notes<'_>,
    key: &str,
    value: &Spanned<DeValue<'_>>,
    range: RangeInclusive<u32>,
) -> Option<RangeInclusive<u32>> {
    let DeValue::String(text) = value.get_ref() else {
        let number = number_of(notes, key, value, range)?.value;
        return Some(number..=number);
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        // The standard parser takes a sign.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| digits);
        number.filter(|number| range.contains(number))
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Some(first..=last),
        _ => {
            let (least, most) = (range.start(), range.end());
            let fault = format!(
                "`{key}' has {text:?}; write numbers from {least} to {most}, the smaller one first, as in \
                 \"{least}-{most}\""
            );
            notes.fault(value.span().start, fault);
            None
        }
    }
}

/// `"1s"`, `"200ms"`, `"5m"` or `"1h"`; `None` for anything else.
pub fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// One of the words; or a fault, with the one that was most likely meant.
pub fn word<'w>(
    notes: &mut Notes<'_>,
    key: impl Display,
    given: Placed<&'w str>,
    words: &Words,
) -> Option<&'w str> {
    let Placed { value, at } = given;
    if words.known.contains(&value) {
        return Some(value);
    }
    let instead = match words.known {
        [] => "leave it out".to_owned(),
        known => format!("write {}", one_of(known)),
    };
    let all = words.known.iter().chain(words.later).copied();
    let fault = match nearest(value, all) {
        Some(near) if words.known.contains(&near) => {
            format!("{key} {value:?} is unknown; write {near:?}")
        }
        Some(near) if near == value => format!("{key} {value:?} is not there yet; {instead}"),
        Some(near) => {
            format!("{key} {value:?} is unknown, and {near:?} is not there yet; {instead}")
        }
        None => format!("{key} {value:?} is unknown; {instead}"),
    };
    notes.fault(at, fault);
    None
}

fn text_of<'a>(
    notes: &mut Notes<'_>,
    key: &str,
    value: &'a Spanned<DeValue<'_>>,
) -> Option<Placed<&'a str>> {
    let at = value.span().start;
    if let DeValue::String(text) = value.get_ref() {
        return Some(Placed { value: text, at });
    }
    let instead = match value.get_ref() {
        DeValue::Integer(integer) => format!("\"{integer}\""),
        _ => "a string in quotes".to_owned(),
    };
    notes.fault(
        at,
        format!(
            "`{key}' takes a string, not {}; write {instead}",
            a_kind(value.get_ref())
        ),
    );
    None
}

fn number_of(
    notes: &mut Notes<'_>,
    key: &str,
    value: &Spanned<DeValue<'_>>,
    range: RangeInclusive<u32>,
) -> Option<Placed<u32>> {
    let at = value.span().start;
    let instead = format!("a whole number from {} to {}", range.start(), range.end());
    let DeValue::Integer(integer) = value.get_ref() else {
        let kind = a_kind(value.get_ref());
        notes.fault(at, format!("`{key}' is {kind}; write {instead}"));
        return None;
    };
    match u32::from_str_radix(integer.as_str(), integer.radix()) {
        Ok(number) if range.contains(&number) => Some(Placed { value: number, at }),
        _ => {
            let fault = format!("`{key}' is {integer}, out of range; write {instead}");
            notes.fault(at, fault);
            None
        }
    }
}

fn words_of(duration: Duration) -> String {
    match duration.as_millis() {
        millis if millis % 1000 != 0 => format!("{millis}ms"),
        millis => format!("{}s", millis / 1000),
    }
}

fn strange_key(keys: &Keys, name: &str) -> String {
    let table = keys.table;
    let all = keys.known.iter().chain(keys.later).copied();
    match nearest(name, all) {
        Some(near) if keys.known.contains(&near) => {
            format!("{table} has no key `{name}'; write `{near}'")
        }
        Some(near) if near == name => {
            format!("`{name}' of {table} is not there yet; leave it out")
        }
        Some(near) => {
            format!("{table} has no key `{name}', and `{near}' is not there yet; leave it out")
        }
        None => format!(
            "{table} has no key `{name}'; it has {}",
            keys.known.join(", ")
        ),
    }
}

fn a_kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        let millis = |text| duration(text).map(|duration| duration.as_millis());
        assert_eq!(millis("200ms"), Some(200));
        assert_eq!(millis("1s"), Some(1000));
        assert_eq!(millis("10m"), Some(600_000));
        assert_eq!(millis("2h"), Some(7_200_000));
        for text in [
            "",
            "1",
            "s",
            "1 s",
            "-1s",
            "1.5s",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert_eq!(millis(text), None, "{text}");
        }
        assert_eq!(words_of(Duration::from_millis(60_000)), "60s");
        assert_eq!(words_of(Duration::from_millis(100)), "100ms");
    }
}
