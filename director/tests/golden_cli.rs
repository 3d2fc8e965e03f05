//! The recorded transcripts of the real ipvsadm 1.31 on the real kernel, replayed to the byte.
//!
//! `golden/cli/cli.out`: every command in its order, against a table that accepts everything the
//! kernel does; through the control protocol, both sides of it. `golden/misc/counters.out`: the
//! numbers of real traffic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use director::control::command::{Addresses, Columns, Format, Numbers};
use director::control::text::listing;
use director::core::operation::{ForwardMethod, ServerSpec, ServiceKey, ServiceSpec};
use director::core::view::{ServerView, ServiceView, StatsView};
use lockstep::Lockstep;
use reference::{Printed, RecordedHost, run_words};
use shared::addr::Protocol;

mod lockstep;
mod reference;

const TRANSCRIPT: &str = include_str!("golden/cli/cli.out");
const CORNERS: &str = include_str!("golden/cli/corners.out");
const ENGINES: &str = include_str!("golden/cli/engines.out");
const MARKS: &str = include_str!("golden/cli/marks.out");
const NAMES: &str = include_str!("golden/cli/names.out");
const COUNTERS: &str = include_str!("golden/misc/counters.out");

/// A recorded command with what came of it.
#[derive(Debug)]
struct Record {
    command: String,
    printed: Printed,
}

fn records(transcript: &str) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    for line in transcript.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            records.push(Record {
                command: command.to_owned(),
                printed: Printed::default(),
            });
            continue;
        }
        let Some(record) = records.last_mut() else {
            continue;
        };
        if let Some(text) = line.strip_prefix("| ") {
            record.printed.out += &format!("{text}\n");
        } else if let Some(text) = line.strip_prefix("! ") {
            record.printed.err += &format!("{text}\n");
        } else if let Some(exit) = line.strip_prefix("= ") {
            record.printed.exit = exit.parse().expect("an exit status");
        }
    }
    records
}

/// Why a record is not compared to the byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Exception {
    /// A command of the host, which is not about ipvsadm: not run.
    OfTheHost,
    /// Starts, stops or lists a synchronization daemon. There is none yet, and lvsadm says so.
    Daemon,
    /// A listing with addresses 2^31 and more apart: the comparison goes round in a circle, and the
    /// order depends on that in the kernel's hash table, another one at every boot. Or one that is
    /// not sorted at all. Compared as sets of lines.
    HashOrder,
    /// No permission: the second line asks about kernel modules, and ours gives an advice.
    Denied,
}

fn exception(record: &Record) -> Option<Exception> {
    let Record { command, printed } = record;
    if command.starts_with("ip link ") || command.starts_with("command -v ") {
        return Some(Exception::OfTheHost);
    }
    if command.starts_with("setpriv ") {
        return Some(Exception::Denied);
    }
    let starts = command.contains("--start-daemon ") || command.contains("--stop-daemon ");
    let by_the_kernel = printed.exit == 0
        || [
            "No such device\n",
            "No daemon is running\n",
            "Daemon has already run\n",
        ]
        .contains(&printed.err.as_str());
    let lists = command.ends_with("-L --daemon") && !printed.out.is_empty();
    if (starts && by_the_kernel) || lists {
        return Some(Exception::Daemon);
    }
    if printed.out.contains("224.0.0.1:") || command.ends_with("--stats --nosort") {
        return Some(Exception::HashOrder);
    }
    None
}

/// As much of a shell as the transcripts need.
struct Shell {
    table: Lockstep,
    names: RecordedHost,
    /// `/tmp/saved`
    saved: String,
}

impl Shell {
    fn new(names: RecordedHost) -> Shell {
        Shell {
            table: Lockstep::default(),
            names,
            saved: String::new(),
        }
    }

    fn run(&mut self, line: &str) -> Printed {
        if let Some((first, rest)) = line.split_once(" && ") {
            let printed = self.run(first);
            return if printed.exit == 0 {
                self.run(rest)
            } else {
                printed
            };
        }
        if let Some((first, rest)) = line.split_once("; ") {
            self.run(first);
            return self.run(rest);
        }
        if let Some(command) = line.strip_suffix(" | tee /tmp/saved") {
            let printed = self.run(command);
            printed.out.clone_into(&mut self.saved);
            return printed;
        }
        if let Some(command) = line.strip_suffix(" | diff - /tmp/saved") {
            let printed = self.run(command);
            assert_eq!(printed.out, self.saved);
            return Printed::default();
        }
        if let Some(command) = line.strip_suffix(" < /tmp/saved") {
            let saved = self.saved.clone();
            return self.words(command, &saved);
        }
        if let Some(printf) = line.strip_prefix("printf ") {
            let (text, command) = printf.rsplit_once(" | ").expect("a pipe");
            let text = text.trim_start_matches("-- ");
            let text = &text[1..text.len() - 1];
            let text = text.replace("\\n", "\n");
            let text = text.replace("\\t", "\t").replace("\\r", "\r");
            return self.words(command, &text);
        }
        if let Some(command) =
            line.strip_prefix("setpriv --reuid=65534 --regid=65534 --clear-groups ")
        {
            return run_words(&split(command), "", None, &self.names);
        }
        self.words(line, "")
    }

    fn words(&mut self, command: &str, input: &str) -> Printed {
        run_words(&split(command), input, Some(&mut self.table), &self.names)
    }
}

/// Words as a shell makes them, double quotes being all it knows.
fn split(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for letter in command.chars() {
        match letter {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

fn sorted_lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// Replays a transcript. Returns how many commands came out the same to the byte, the exceptions, and
/// how many changes the real balancer made or refused alike, and could not make yet.
fn replay(transcript: &str, names: RecordedHost) -> (usize, Vec<Exception>, [usize; 2]) {
    let mut shell = Shell::new(names);
    let mut same = 0;
    let mut exceptions = Vec::new();
    for record in records(transcript) {
        let command = &record.command;
        let exception = exception(&record);
        exceptions.extend(exception);
        if exception == Some(Exception::OfTheHost) {
            continue;
        }
        let printed = shell.run(command);
        let recorded = &record.printed;
        match exception {
            None => {
                assert_eq!(printed, *recorded, "{command}");
                same += 1;
            }
            Some(Exception::HashOrder) => {
                let expected = sorted_lines(&recorded.out);
                assert_eq!(sorted_lines(&printed.out), expected, "{command}");
            }
            Some(Exception::Denied) => {
                assert_eq!(printed.err.lines().next(), recorded.err.lines().next());
                assert_eq!(printed.exit, recorded.exit, "{command}");
            }
            Some(_) => {
                let refused =
                    "Operation not supported by this director yet: the synchronization daemon\n";
                let expected = if command.contains("-L ") {
                    ("", 0)
                } else {
                    (refused, 255)
                };
                assert_eq!((printed.err.as_str(), printed.exit), expected, "{command}");
            }
        }
    }
    exceptions.sort_unstable();
    (same, exceptions, [shell.table.agreed, shell.table.not_yet])
}

fn count(exceptions: &[Exception], wanted: Exception) -> usize {
    exceptions.iter().filter(|found| **found == wanted).count()
}

#[test]
fn every_recorded_command() {
    let (same, exceptions, changes) = replay(TRANSCRIPT, RecordedHost::with(&[]));
    assert_eq!(same + exceptions.len(), 328);
    assert_eq!(same, 303);
    assert_eq!(changes, [156, 1]);
    assert_eq!(count(&exceptions, Exception::OfTheHost), 2);
    assert_eq!(count(&exceptions, Exception::Daemon), 16);
    assert_eq!(count(&exceptions, Exception::HashOrder), 5);
    assert_eq!(count(&exceptions, Exception::Denied), 2);
}

#[test]
fn corners_of_the_grammar() {
    let (same, exceptions, changes) = replay(CORNERS, RecordedHost::with(&[]));
    assert_eq!((same, exceptions.len()), (132, 3));
    assert_eq!(changes, [52, 0]);
}

#[test]
fn marks_of_both_families() {
    let (same, exceptions, changes) = replay(MARKS, RecordedHost::with(&[]));
    assert_eq!((same, exceptions.len()), (45, 0));
    assert_eq!(changes, [29, 0]);
}

#[test]
fn persistence_engines() {
    let (same, exceptions, changes) = replay(ENGINES, RecordedHost::with(&[]));
    assert_eq!((same, exceptions.len()), (32, 0));
    assert_eq!(changes, [14, 0]);
}

#[test]
fn names_in_listings() {
    const HOSTS: &[(&str, IpAddr)] = &[
        ("ip6home", IpAddr::V6(Ipv6Addr::LOCALHOST)),
        (
            "a-very-long-host-name-indeed.of.a.very-long-domain.example",
            IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        ),
        ("short", IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2))),
    ];
    let (same, exceptions, changes) = replay(NAMES, RecordedHost::with(HOSTS));
    assert_eq!((same, exceptions.len()), (52, 0));
    assert_eq!(changes, [29, 0]);
}

/// The rows of a recorded listing of counters as services.
fn views(printed: &str) -> Vec<ServiceView> {
    let mut views: Vec<ServiceView> = Vec::new();
    for line in printed.lines().skip(3) {
        let words = split(line);
        let numbers: Vec<u64> = words[2..]
            .iter()
            .map(|w| w.parse().expect("exact"))
            .collect();
        let [a, b, c, d, e] = numbers[..] else {
            panic!("{line}")
        };
        let stats = StatsView {
            connections: a,
            in_packets: b,
            out_packets: c,
            in_bytes: d,
            out_bytes: e,
            cps: a,
            in_pps: b,
            out_pps: c,
            in_bps: d,
            out_bps: e,
        };
        let (address, port) = words[1].split_once(':').expect("a port");
        let address: Ipv4Addr = address.parse().expect("an address");
        let port: u16 = port.parse().expect("a number");
        if words[0] == "->" {
            let view = views.last_mut().expect("a service above");
            let spec = ServerSpec::new(address, port, ForwardMethod::Nat, 1);
            view.servers.push(ServerView {
                stats,
                ..ServerView::new(spec)
            });
        } else {
            let key = ServiceKey::new(Protocol::TCP, address, port);
            views.push(ServiceView {
                guard: None,
                spec: ServiceSpec::new(key, "rr"),
                stats,
                servers: Vec::new(),
            });
        }
    }
    views
}

/// Each exact listing gives itself again, and the scaled one recorded just before it when no packet
/// came between the two.
#[test]
fn counters_of_real_traffic() {
    let records = records(COUNTERS);
    let listed = |exact: &Record, columns, numbers| {
        let format = Format {
            addresses: Addresses::Numeric,
            columns,
            numbers,
            ..Format::default()
        };
        let heading = exact.printed.out.lines().next().expect("a heading");
        let names = RecordedHost::with(&[]);
        let rows = listing::services(&views(&exact.printed.out), format, &names);
        format!("{heading}\n{rows}")
    };
    let (mut exact_listings, mut scaled_listings) = (0, 0);
    for pair in records.windows(2) {
        let [scaled, exact] = pair else { continue };
        let Some(command) = exact.command.strip_suffix(" --exact") else {
            continue;
        };
        let columns = if command.ends_with("--rate") {
            Columns::Rate
        } else {
            Columns::Stats
        };
        assert_eq!(listed(exact, columns, Numbers::Exact), exact.printed.out);
        exact_listings += 1;
        let packets = |record: &Record| -> Vec<String> {
            let rows = record.printed.out.lines().skip(3);
            rows.flat_map(|row| split(row)[2..5].to_vec()).collect()
        };
        if scaled.command == command && packets(scaled) == packets(exact) {
            assert_eq!(listed(exact, columns, Numbers::Scaled), scaled.printed.out);
            scaled_listings += 1;
        }
    }
    assert_eq!((exact_listings, scaled_listings), (15, 12));
}
