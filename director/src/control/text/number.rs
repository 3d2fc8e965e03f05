//! Counters in columns of nine.

use std::fmt;

use crate::control::command::Numbers;

/// A counter with the blanks in front of it. A number that fills its column has no blank before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counter {
    pub(super) value: u64,
    pub(super) numbers: Numbers,
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value;
        match self.numbers {
            Numbers::Exact => {
                let digits = value.checked_ilog10().unwrap_or(0) as usize + 1;
                let width = if digits <= 8 { 9 } else { digits + 1 };
                write!(f, "{value:width$}")
            }
            Numbers::Scaled if value < 100_000_000 => write!(f, "{value:9}"),
            Numbers::Scaled => {
                let (unit, letter) = if value < 1_000_000_000 {
                    (1_000, 'K')
                } else if value < 100_000_000_000 {
                    (1_000_000, 'M')
                } else if value < 100_000_000_000_000 {
                    (1_000_000_000, 'G')
                } else {
                    (1_000_000_000_000, 'T')
                };
                write!(f, "{:8}{letter}", value / unit)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_cut_to_their_column_or_widen_it() {
        let cases = [
            (0, "        0", "        0"),
            (99_999_999, " 99999999", " 99999999"),
            (100_000_000, "  100000K", " 100000000"),
            (999_999_999, "  999999K", " 999999999"),
            (1_000_000_000, "    1000M", " 1000000000"),
            (99_999_999_999, "   99999M", " 99999999999"),
            (100_000_000_000, "     100G", " 100000000000"),
            (99_999_999_999_999, "   99999G", " 99999999999999"),
            (100_000_000_000_000, "     100T", " 100000000000000"),
            (u64::MAX, "18446744T", " 18446744073709551615"),
        ];
        for (value, scaled, exact) in cases {
            let text = |numbers| Counter { value, numbers }.to_string();
            assert_eq!(text(Numbers::Scaled), scaled);
            assert_eq!(text(Numbers::Exact), exact);
        }
    }
}
