//! Numbers as the C library reads them: `strtol` with base 10, and `atoi`.

use std::ops::RangeInclusive;

/// A whole decimal number within `range`: `strtol` that has to use up all of the text. Blanks in
/// front and a sign are allowed, blanks behind are not.
pub(super) fn number(text: &str, range: RangeInclusive<i64>) -> Option<i64> {
    let (value, rest) = strtol(text)?;
    (rest.is_empty() && range.contains(&value)).then_some(value)
}

/// `atoi`: the number a text begins with, 0 if there is none or if it is beyond all limits.
pub(super) fn leading_number(text: &str) -> i64 {
    strtol(text).map_or(0, |(value, _)| value)
}

/// The number a text begins with and what follows it; `None` without digits or when it does not
/// fit (`ERANGE`).
fn strtol(text: &str) -> Option<(i64, &str)> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(unsigned.len());
    if digits == 0 {
        return None;
    }
    let (number, rest) = text.split_at(text.len() - unsigned.len() + digits);
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_strtol_does() {
        let cases = [
            ("0", Some(0)),
            ("+70", Some(70)),
            (" 71", Some(71)),
            ("\t\n-3", Some(-3)),
            ("007", Some(7)),
            ("", None),
            ("-", None),
            ("+", None),
            ("1 ", None),
            ("1.5", None),
            ("0x10", None),
            ("+-1", None),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
        ];
        for (text, expected) in cases {
            assert_eq!(number(text, i64::MIN..=i64::MAX), expected, "{text:?}");
        }
        assert_eq!(number("65536", 0..=65535), None);
        assert_eq!(leading_number("24x"), 24);
        assert_eq!(leading_number("x"), 0);
    }
}
