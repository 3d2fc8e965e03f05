//! lvsadm's command line: nothing panics, the balancer agrees with the kernel's rules about every
//! change, and what `-S` saves makes the same rules again.
//!
//! The bytes are text. Each line is a command line without the program's name (see `lines` for how
//! words are parted); one that begins with `!` has the name in front. A command that reads its
//! standard input gets the lines behind its own.

use std::collections::BTreeMap;

use director::control::command::{self, Command};
use director::control::session::Backend;
use director::core::operation::{SchedulerFlags, ServerKey, ServerSpec, ServiceKey, ServiceSpec};
use director::core::view::ServiceView;

use crate::lines::words;
use crate::lockstep::Lockstep;
use crate::reference::{Printed, RecordedHost, run_words};

/// One table, all lines, and then the way through a file and back.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let names = RecordedHost::with(&[]);
    let mut table = Lockstep::default();
    let mut lines = text.split('\n');
    while let Some(line) = lines.next() {
        let called = called(line);
        let input: Vec<&str> = if reads_input(&called, &names) {
            lines.by_ref().collect()
        } else {
            Vec::new()
        };
        let printed = run_words(&called, &input.join("\n"), Some(&mut table), &names);
        assert!(
            printed.exit == 0 || !printed.err.is_empty(),
            "{called:?} fails in silence: {printed:?}"
        );
    }
    if table
        .services()
        .iter()
        .any(|view| is_great_mark(&view.spec.key))
    {
        return;
    }
    for numeric in [true, false] {
        saved_rules_are_the_rules(&mut table, numeric, &names);
    }
}

/// A line as the words of a call.
fn called(line: &str) -> Vec<String> {
    match line.strip_prefix('!').map(words) {
        Some(called) if !called.is_empty() => called,
        _ => [vec!["ipvsadm".to_owned()], words(line)].concat(),
    }
}

fn reads_input(called: &[String], names: &RecordedHost) -> bool {
    let [program, args @ ..] = called else {
        return false;
    };
    program.ends_with("-restore")
        || matches!(command::parse(program, args, names), Ok(Command::Restore))
}

fn saved_rules_are_the_rules(table: &mut Lockstep, numeric: bool, names: &RecordedHost) {
    let call = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
    let save = if numeric {
        call("ipvsadm -S -n")
    } else {
        call("ipvsadm -S")
    };
    let saved = run_words(&save, "", Some(table), names);
    let silent = |printed: &Printed| printed.exit == 0 && printed.err.is_empty();
    assert!(silent(&saved), "{saved:?}");
    let mut again = Lockstep::default();
    let restored = run_words(&call("ipvsadm -R"), &saved.out, Some(&mut again), names);
    assert!(silent(&restored), "{restored:?} of:\n{}", saved.out);
    assert_eq!(
        rules(table.services()),
        rules(again.services()),
        "restored from:\n{}",
        saved.out
    );
}

/// See [`rules`].
fn is_great_mark(key: &ServiceKey) -> bool {
    matches!(key, ServiceKey::Mark { mark, .. } if i32::try_from(*mark).is_err())
}

type Rules = BTreeMap<ServiceKey, (ServiceSpec, BTreeMap<ServerKey, ServerSpec>)>;

/// What ipvsadm saves: all but thresholds, timeouts, counters and the order. And without two faults
/// of its own, which the transcripts have and lvsadm therefore too: it saves a mark from 2^31 on as a
/// negative number, which it then refuses, and a third flag of `sh` and `mh` not at all.
fn rules(services: Vec<ServiceView>) -> Rules {
    let without_thresholds = |spec: ServerSpec| ServerSpec {
        upper_threshold: 0,
        lower_threshold: 0,
        ..spec
    };
    services
        .into_iter()
        .map(|mut view| {
            if ["sh", "mh"].contains(&view.spec.scheduler.as_str()) {
                view.spec.flags.0 &= !SchedulerFlags::FLAG_3;
            }
            let servers = view.servers.into_iter();
            let servers = servers
                .map(|server| (server.spec.key, without_thresholds(server.spec)))
                .collect();
            (view.spec.key, (view.spec, servers))
        })
        .collect()
}
