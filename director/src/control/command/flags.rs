//! Scheduler flags: three bits, and names for them that depend on the scheduler.

use super::UsageError;
use crate::core::operation::SchedulerFlags;

/// The names of a comma list (`-b`) as bits. Empty parts are ignored.
pub(super) fn parse(list: &str, scheduler: &str) -> Result<SchedulerFlags, UsageError> {
    let mut bits = 0;
    for name in list.split(',').filter(|name| !name.is_empty()) {
        let (_, only_for, bit) = NAMES
            .iter()
            .find(|(known, ..)| *known == name)
            .ok_or_else(|| UsageError::fault(format!("invalid scheduler flag `{name}'")))?;
        if only_for.is_some_and(|only| only != scheduler) {
            return Err(UsageError::fault(format!(
                "incompatible scheduler flag `{name}'"
            )));
        }
        bits |= bit;
    }
    Ok(SchedulerFlags(bits))
}

/// The bits as a comma list; a scheduler with names of its own has none for the third.
pub(crate) fn names(flags: SchedulerFlags, scheduler: &str) -> String {
    let own = NAMES.iter().any(|(_, only, _)| *only == Some(scheduler));
    let shown = |only: &Option<&str>| match only {
        Some(only) => *only == scheduler,
        None => !own,
    };
    let names: Vec<&str> = NAMES
        .iter()
        .filter(|(_, only, bit)| flags.0 & bit != 0 && shown(only))
        .map(|(name, ..)| *name)
        .collect();
    names.join(",")
}

/// Name, the one scheduler that has it, bit.
const NAMES: [(&str, Option<&str>, u8); 7] = [
    ("flag-1", None, SchedulerFlags::FLAG_1),
    ("flag-2", None, SchedulerFlags::FLAG_2),
    ("flag-3", None, SchedulerFlags::FLAG_3),
    ("sh-fallback", Some("sh"), SchedulerFlags::FLAG_1),
    ("sh-port", Some("sh"), SchedulerFlags::FLAG_2),
    ("mh-fallback", Some("mh"), SchedulerFlags::FLAG_1),
    ("mh-port", Some("mh"), SchedulerFlags::FLAG_2),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_depend_on_the_scheduler() {
        let cases = [
            ("sh", "sh-port,,sh-fallback,", "sh-fallback,sh-port"),
            ("sh", "flag-1,flag-3", "sh-fallback"),
            ("mh", "mh-port", "mh-port"),
            ("rr", "flag-3,flag-2,flag-2", "flag-2,flag-3"),
            ("rr", ",", ""),
        ];
        for (scheduler, list, expected) in cases {
            let flags = parse(list, scheduler).unwrap();
            assert_eq!(names(flags, scheduler), expected, "{scheduler} {list}");
        }
    }

    #[test]
    fn unknown_and_foreign_names_are_refused() {
        for (list, message) in [
            ("sh-port", "incompatible scheduler flag `sh-port'"),
            ("flag-1,flag-4", "invalid scheduler flag `flag-4'"),
        ] {
            assert_eq!(parse(list, "rr").unwrap_err().message, message);
        }
    }
}
