//! Holds the walls of the house: who may name whom, and what the pure parts may not name at all.
//!
//! The sources are cut into tokens without comments and strings. From those come all paths that a
//! file names, with `use` trees written out and `super` resolved, and each is held against the
//! rules. Macros that make up paths would get through; nobody builds one by accident.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn the_walls_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace is above the crate");
    let mut files = Vec::new();
    for folder in ["shared", "director", "rsagent", "tests"] {
        sources(&root.join(folder), &mut files);
    }
    assert!(files.len() > 20, "the sources were not found: {files:?}");
    let mut breaches = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("sources are readable");
        let name = file.strip_prefix(root).expect("files are below the root");
        breaches.extend(breaches_of(&name.to_string_lossy(), &text));
    }
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

/// What a file may not name, by the folder it is in.
struct Rule {
    /// Files whose names begin with one of these, ...
    of: &'static [&'static str],
    /// ... must not name paths that begin with one of these.
    not: &'static [&'static str],
    because: &'static str,
}

const PURE: &[&str] = &[
    "shared/src/wire",
    "shared/src/agent",
    "shared/src/addr.rs",
    "shared/src/time.rs",
    "shared/src/config",
    "director/src/core",
    "director/src/health",
    "director/src/config",
    "director/src/control",
    "director/src/metrics",
    "rsagent/src/config",
    "rsagent/src/doctor/mod.rs",
    "rsagent/src/finding.rs",
    "rsagent/src/plan.rs",
    "rsagent/src/procfs.rs",
    "rsagent/src/run/pace.rs",
    "rsagent/src/run/report.rs",
];

const RULES: &[Rule] = &[
    Rule {
        of: PURE,
        not: &[
            "std::fs",
            "std::env",
            "std::process",
            "std::thread",
            "std::os",
            "std::time::Instant",
            "std::time::SystemTime",
            "std::net::TcpListener",
            "std::net::TcpStream",
            "std::net::UdpSocket",
            "std::hash::RandomState",
            "std::collections::hash_map::RandomState",
            "std::collections::HashMap::new",
            "HashMap::new",
            "HashSet::new",
            "Instant::now",
            "SystemTime::now",
            "rand",
            "getrandom",
            "libc",
            "nix",
            "mio",
            "socket2",
            "dns_lookup",
            "sd_notify",
            "signal_hook",
            "signal_hook_mio",
            "netlink_sys",
            "tracing",
            "tracing_subscriber",
            "prometheus::process_collector",
            "prometheus::register",
            "prometheus::gather",
            "prometheus::default_registry",
        ],
        because: "it is pure: time, randomness and the machine come in as arguments",
    },
    Rule {
        of: &[
            "shared/src/wire",
            "shared/src/agent",
            "shared/src/addr.rs",
            "shared/src/time.rs",
            "shared/src/config",
        ],
        not: &["crate::host", "crate::sys"],
        because: "plain values know nothing of the machine",
    },
    Rule {
        of: &["shared/src/sys"],
        not: &["crate::host"],
        because: "sys knows the C library",
    },
    Rule {
        of: &["director/src/core"],
        not: &[
            "crate::config",
            "crate::control",
            "crate::health",
            "crate::metrics",
        ],
        because: "the core does not know who tells it what to do",
    },
    Rule {
        of: &["director/src/health"],
        not: &["crate::config", "crate::control", "crate::metrics"],
        because: "health knows the core only",
    },
    Rule {
        of: &["director/src/config"],
        not: &["crate::control"],
        because: "config knows the core, what health expects and what metrics shows",
    },
    Rule {
        of: &["director/src/control"],
        not: &["crate::config", "crate::health", "crate::metrics"],
        because: "control knows the core only",
    },
    Rule {
        of: &["director/src/metrics"],
        not: &["crate::config", "crate::control", "crate::health"],
        because: "metrics knows the core only",
    },
    Rule {
        of: &[
            "director/src/core",
            "director/src/health",
            "director/src/config",
            "director/src/control",
            "director/src/metrics",
        ],
        not: &["crate::io", "crate::sys", "shared::host", "shared::sys"],
        because: "it is pure, and nobody knows io",
    },
    Rule {
        of: &["director/src/sys"],
        not: &[
            "crate::io",
            "crate::config",
            "crate::control",
            "crate::health",
            "crate::metrics",
        ],
        because: "sys knows the C library, and nobody knows io",
    },
    Rule {
        of: &["shared", "rsagent"],
        not: &["director"],
        because: "the director is not there on a real server",
    },
    Rule {
        of: &["shared"],
        not: &["rsagent"],
        because: "what is shared knows neither program",
    },
];

/// What a single file may nevertheless name.
struct Door {
    of: &'static str,
    may: &'static [&'static str],
}

/// The capture's program stands beside the pure function that it must agree with, that of the egress beside
/// what decides about it. They are written with the assembler's words, which are plain values; loading them is
/// for `io`.
///
/// The connection table asks for memory ahead: a hint to the processor, which changes nothing.
const DOORS: &[Door] = &[
    Door {
        of: "director/src/core/connection/index.rs",
        may: &["shared::sys::prefetch::prefetch"],
    },
    Door {
        of: "director/src/core/connection/slab.rs",
        may: &["shared::sys::prefetch::prefetch"],
    },
    Door {
        of: "director/src/core/capture/program.rs",
        may: ASSEMBLER,
    },
    Door {
        of: "director/src/core/egress/program.rs",
        may: ASSEMBLER,
    },
];

const ASSEMBLER: &[&str] = &[
    "shared::sys::bpf::Alu",
    "shared::sys::bpf::AssembleError",
    "shared::sys::bpf::Assembler",
    "shared::sys::bpf::Cond",
    "shared::sys::bpf::Helper",
    "shared::sys::bpf::Insn",
    "shared::sys::bpf::Label",
    "shared::sys::bpf::MapIndex",
    "shared::sys::bpf::Operand",
    "shared::sys::bpf::Reg",
    "shared::sys::bpf::Size",
    "shared::sys::bpf::skb",
    "shared::sys::bpf::tcx::TCX_NEXT",
];

/// Where `unsafe` is.
const UNSAFE: &[&str] = &["shared/src/sys", "director/src/sys"];

fn breaches_of(file: &str, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let is_in = |folders: &[&str]| folders.iter().any(|folder| is_below(file, folder));
    let mut breaches = Vec::new();
    if !is_in(UNSAFE) {
        for token in tokens.iter().filter(|token| token.text == "unsafe") {
            let line = token.line;
            breaches.push(format!("{file}:{line}: `unsafe' is for sys alone"));
        }
    }
    for Named { path, line } in paths(&tokens) {
        let path = resolved(file, &path);
        let mut doors = DOORS.iter().filter(|door| door.of == file);
        if doors.any(|door| door.may.iter().any(|open| names(&path, open))) {
            continue;
        }
        for rule in RULES.iter().filter(|rule| is_in(rule.of)) {
            if rule.not.iter().any(|wall| names(&path, wall)) {
                let path = path.join("::");
                let because = rule.because;
                breaches.push(format!("{file}:{line}: `{path}' ({because})"));
            }
        }
    }
    breaches
}

fn is_below(file: &str, folder: &str) -> bool {
    file.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest == ".rs")
}

/// Whether a path is the forbidden one or below it. `use std;` and a glob over a forbidden item's
/// parent are too rare to be looked for.
fn names(path: &[String], wall: &str) -> bool {
    let mut path = path.iter();
    wall.split("::")
        .all(|segment| path.next().is_some_and(|s| s == segment))
}

/// The path as seen from the crate's root, if it begins with `super` or `self`.
fn resolved(file: &str, path: &[String]) -> Vec<String> {
    let supers = path
        .iter()
        .take_while(|segment| *segment == "super")
        .count();
    let skip = match path.first().map(String::as_str) {
        Some("super") => supers,
        Some("self") => 1,
        _ => return path.to_vec(),
    };
    let inside = file.split_once("/src/").map_or(file, |(_, inside)| inside);
    let inside = inside.trim_end_matches(".rs").trim_end_matches("/mod");
    let mut module = vec!["crate".to_owned()];
    module.extend(
        inside
            .split('/')
            .filter(|part| !["lib", "main"].contains(part))
            .map(str::to_owned),
    );
    module.truncate(module.len().saturating_sub(supers).max(1));
    module.extend(path.iter().skip(skip).cloned());
    module
}

/// A path and the line it stands in.
#[derive(Debug, PartialEq)]
struct Named {
    path: Vec<String>,
    line: usize,
}

/// All paths of the tokens; those of a `use` tree are written out.
fn paths(tokens: &[Token]) -> Vec<Named> {
    let mut found = Vec::new();
    let mut rest = tokens;
    while let Some(token) = rest.first() {
        if token.is_word() {
            rest = path(rest, &[], &mut found);
        } else {
            rest = &rest[1..];
        }
    }
    found
}

/// Reads one path, or one tree of them, that continues `prefix`; returns what comes behind it.
fn path<'t>(mut rest: &'t [Token], prefix: &[String], found: &mut Vec<Named>) -> &'t [Token] {
    let mut path = prefix.to_vec();
    let line = rest.first().map_or(0, |token| token.line);
    loop {
        match rest {
            [token, behind @ ..] if token.is_word() => {
                path.push(token.text.trim_start_matches("r#").to_owned());
                rest = behind;
            }
            [token, behind @ ..] if token.text == "{" && path.len() > prefix.len() => {
                rest = behind;
                while let Some(token) = rest.first() {
                    match token.text.as_str() {
                        "}" => return &rest[1..],
                        _ if token.is_word() => rest = self::path(rest, &path, found),
                        _ => rest = &rest[1..],
                    }
                }
                return rest;
            }
            _ => break,
        }
        match rest {
            [colons, behind @ ..] if colons.text == "::" => rest = behind,
            _ => break,
        }
    }
    found.push(Named { path, line });
    rest
}

/// A word, `::`, or one character of punctuation.
#[derive(Debug, PartialEq)]
struct Token {
    text: String,
    line: usize,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text
            .starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// The tokens of a source, without comments, strings, characters and lifetimes.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let line = 1 + text[..text.len() - rest.len()].matches('\n').count();
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '"' {
            quoted(rest)
        } else if first == '\'' {
            character_or_lifetime(rest)
        } else if first.is_alphabetic() || first == '_' {
            let word = word(rest);
            tokens.push(Token {
                text: rest[..word].to_owned(),
                line,
            });
            word
        } else {
            let length = if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            if !first.is_whitespace() {
                tokens.push(Token {
                    text: rest[..length].to_owned(),
                    line,
                });
            }
            length
        };
        rest = &rest[length..];
    }
    tokens
}

fn word(rest: &str) -> usize {
    let start = if rest.starts_with("r#") { 2 } else { 0 };
    rest[start..]
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .map_or(rest.len(), |end| start + end)
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        let (step, deeper) = match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (2, 1),
            [b'*', b'/', ..] => (2, -1),
            _ => (1, 0),
        };
        at += step;
        depth += deeper;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// `r"..."`, `br#"..."#`, `cr"..."` and their like.
fn raw_string(rest: &str) -> Option<usize> {
    let body = ["r", "br", "cr"].iter().find_map(|prefix| {
        rest.strip_prefix(prefix)
            .filter(|b| b.starts_with(['"', '#']))
    })?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let body = body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let close = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(rest.len() - body.len() + close)
}

/// To the closing quote, which is the first character, without those behind a backslash.
fn quoted(rest: &str) -> usize {
    let quote = rest.as_bytes()[0];
    let mut at = 1;
    while let Some(&byte) = rest.as_bytes().get(at) {
        match byte {
            b'\\' => at += 2,
            _ if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn character_or_lifetime(rest: &str) -> usize {
    let mut inside = rest[1..].chars();
    match (inside.next(), inside.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(rest),
        _ => 1 + word(&rest[1..]),
    }
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).expect("folders of the workspace are readable");
    for entry in entries {
        let path = entry.expect("entries are readable").path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[cfg(test)]
mod self_test {
    use super::*;

    /// The lines of a text that break a wall when they stand in a file.
    fn lines(file: &str, text: &str) -> Vec<String> {
        breaches_of(file, text)
            .into_iter()
            .map(|breach| {
                let breach = breach.strip_prefix(file).expect("the file is named first");
                breach
                    .split_once(" (")
                    .map_or(breach, |(what, _)| what)
                    .to_owned()
            })
            .collect()
    }

    const OFFENDING: &str = r##"
//! std::fs, unsafe
use std::{collections::{BTreeMap, hash_map::RandomState}, fs::{self, File}};
use super::super::super::io::Launch;
/* libc::open /* nested */ mio::Poll */
fn f<'a>(x: &'a str, y: char) -> Instant {
    let text = "Instant::now() \" std::thread";
    let raw = r#"unsafe { " } libc"#;
    let quote = ('"', '\'', 'x');
    let grand = brand + operand::rand;
    unsafe { libc::getpid() }
    std
        ::thread::sleep(super::super::operation::X);
    Instant::now()
}
"##;

    #[test]
    fn each_breach_is_found_and_nothing_else() {
        assert_eq!(
            lines("director/src/core/balancer/lookup.rs", OFFENDING),
            [
                ":11: `unsafe' is for sys alone",
                ":3: `std::collections::hash_map::RandomState'",
                ":3: `std::fs::self'",
                ":3: `std::fs::File'",
                ":4: `crate::io::Launch'",
                ":11: `libc::getpid'",
                ":12: `std::thread::sleep'",
                ":14: `Instant::now'",
            ]
        );
    }

    #[test]
    fn the_edge_may_what_the_core_may_not() {
        let impure = OFFENDING.replace("unsafe {", "{");
        assert_eq!(lines("director/src/io/clock.rs", &impure), [""; 0]);
        assert_eq!(
            lines("director/src/sys/ring.rs", "unsafe { libc::x() }"),
            [""; 0]
        );
        assert_eq!(
            lines("director/src/system.rs", "unsafe {}"),
            [":1: `unsafe' is for sys alone"]
        );
    }

    #[test]
    fn each_wall_has_its_own_side() {
        for (file, text) in [
            ("shared/src/wire/tcp.rs", "use crate::sys::bpf;"),
            ("shared/src/addr.rs", "use std::net::{IpAddr, UdpSocket};"),
            ("shared/src/host/link.rs", "use director::core;"),
            ("director/src/core/mod.rs", "use crate::{config::Config};"),
            ("director/src/config/mod.rs", "use super::control::parse;"),
            ("director/src/control/mod.rs", "use crate::config::Config;"),
            ("director/src/control/text/mod.rs", "tracing::info!()"),
            ("director/src/sys/ring.rs", "use crate::io::run;"),
            ("rsagent/src/main.rs", "use director::core::view;"),
            (
                "director/src/core/capture/program.rs",
                "use shared::sys::bpf::{Reg, TcxLink};",
            ),
        ] {
            assert_eq!(lines(file, text).len(), 1, "{file}: {text}");
        }
    }
}
