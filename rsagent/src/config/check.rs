//! `[[check]]`: what a server looks after by itself.

use std::net::SocketAddr;
use std::time::Duration;

use shared::agent::MAX_CHECK_NAME;
use shared::config::{Keys, Notes, Section, Words, word};

use super::is_name;

/// A look at a local service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// What directors know it by.
    pub(crate) name: String,
    /// What is done.
    pub(crate) kind: Kind,
    /// From one look to the next.
    pub(crate) interval: Duration,
    /// A look that takes longer has failed.
    pub(crate) timeout: Duration,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A connection is made.
    Tcp(SocketAddr),
    /// A page is asked for, without TLS.
    Http {
        /// Of whom.
        address: SocketAddr,
        /// Which one.
        path: String,
        /// Status codes that will do.
        status: Vec<u16>,
    },
    /// A program must end with 0. It is not run by a shell.
    Script {
        /// Its path.
        program: String,
        arguments: Vec<String>,
    },
}

impl Check {
    /// Where the service listens, if that is known.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp(address) | Kind::Http { address, .. } => Some(*address),
            Kind::Script { .. } => None,
        }
    }
}

pub(super) fn check(notes: &mut Notes<'_>, section: Section<'_, '_>) -> Option<Check> {
    let name = section.required_text(notes, "name", "\"web\"");
    if let Some(name) = name {
        is_name(notes, "name", name, MAX_CHECK_NAME);
    }
    let kind = section.required_text(notes, "type", "\"tcp\"");
    let kind = kind.and_then(|kind| word(notes, "type", kind, &TYPES))?;
    let (kind, others): (Option<Kind>, &[&str]) = match kind {
        "tcp" => {
            let address = address(notes, section);
            (address.map(Kind::Tcp), &["path", "status", "command"])
        }
        "http" => (http(notes, section), &["command"]),
        _ => (script(notes, section), &["address", "path", "status"]),
    };
    for key in others {
        if let Some(at) = section.place(key) {
            let fault = format!("`{key}' is for checks of another type; leave it out");
            notes.fault(at, fault);
        }
    }
    let time = SHORTEST..=LONGEST;
    let interval = section.duration(notes, "interval", time.clone());
    let timeout = section.duration(notes, "timeout", time);
    Some(Check {
        name: name?.value.to_owned(),
        kind: kind?,
        interval: interval.map_or(INTERVAL, |interval| interval.value),
        timeout: timeout.map_or(TIMEOUT, |timeout| timeout.value),
    })
}

fn http(notes: &mut Notes<'_>, section: Section<'_, '_>) -> Option<Kind> {
    let address = address(notes, section);
    let path = section.text(notes, "path");
    if let Some(path) = path
        && (!path.value.starts_with('/')
            || path
                .value
                .contains(|letter: char| letter.is_control() || letter == ' '))
    {
        let fault = format!("`path' is {:?}; write one such as \"/healthz\"", path.value);
        notes.fault(path.at, fault);
    }
    let status = section.numbers(notes, "status", 100..=599);
    let status: Vec<u16> = status.iter().map(|code| code.value as u16).collect();
    Some(Kind::Http {
        address: address?,
        path: path.map_or("/", |path| path.value).to_owned(),
        status: if status.is_empty() { vec![200] } else { status },
    })
}

fn script(notes: &mut Notes<'_>, section: Section<'_, '_>) -> Option<Kind> {
    let mut command = section.texts(notes, "command").into_iter();
    let program = command.next().map(|word| word.value.to_owned());
    let Some(program) = program.filter(|program| program.starts_with('/')) else {
        let at = section.place("command").unwrap_or(section.at);
        let fault = "a check of type \"script\" needs `command'; write \
                     command = [\"/usr/local/bin/check\", \"ARGUMENT\"]";
        notes.fault(at, fault);
        return None;
    };
    let arguments = command.map(|word| word.value.to_owned()).collect();
    Some(Kind::Script { program, arguments })
}

fn address(notes: &mut Notes<'_>, section: Section<'_, '_>) -> Option<SocketAddr> {
    let text = section.required_text(notes, "address", "\"192.0.2.100:80\"")?;
    match text.value.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 && !address.ip().is_unspecified() => Some(address),
        _ => {
            let fault = format!(
                "`address' is {:?}; write address and port, such as \"192.0.2.100:80\"",
                text.value
            );
            notes.fault(text.at, fault);
            None
        }
    }
}

pub(super) const KEYS: Keys = Keys {
    table: "[[check]]",
    known: &[
        "name", "type", "address", "path", "status", "command", "interval", "timeout",
    ],
    later: &[],
};

const TYPES: Words = Words {
    known: &["tcp", "http", "script"],
    later: &["https", "udp", "dns", "smtp"],
};

const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(600);
