//! `[service.check]` and `[service.server.check]`: who judges real servers, and how.

mod agent;
mod http;
mod kinds;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use shared::config::{Keys, Notes, Section, word};

pub(super) use self::agent::agents;
use crate::config::{Judges, words};
use crate::core::operation::ServerKey;
use crate::health::checks::{Check, Kind, Timing};

/// What a section says, and below it what its keys are if it leaves them out: the check of a server's service.
#[derive(Debug, Clone, Copy)]
struct Layers<'a, 't> {
    own: Section<'a, 't>,
    base: Option<Section<'a, 't>>,
}

impl<'a, 't> Layers<'a, 't> {
    /// Who says what this key is.
    fn of(self, key: &str) -> Section<'a, 't> {
        let base = self.base.filter(|_| self.own.lacks(key));
        base.unwrap_or(self.own)
    }
}

/// Who judges the servers of a section, by its `check`; none if it has none. A single one of a server says only
/// what is other than in that of its service.
pub(super) fn judges(
    notes: &mut Notes<'_>,
    section: Section<'_, '_>,
    keys: &'static Keys,
    service: Option<Section<'_, '_>>,
) -> Option<Judges> {
    if section.lacks("check") {
        return None;
    }
    let sections = section.table_or_tables(notes, "check", keys);
    let below =
        service.map(|service| service.table_or_tables(notes, "check", &words::SERVICE_CHECK));
    let base = match (sections.as_slice(), below.as_deref()) {
        ([_], Some([base])) => Some(*base),
        _ => None,
    };
    let mut judges = Judges::default();
    for own in sections {
        let Some((kind, base)) = kind_of(notes, own, base) else {
            continue;
        };
        let layers = Layers { own, base };
        reject_strangers(notes, own, kind);
        if kind != "agent" {
            judges.checks.extend(check(notes, layers, kind));
        } else if judges.agent.is_some() {
            notes.fault(
                own.at,
                "a server has one agent; write type = \"agent\" once",
            );
        } else {
            judges.agent = Some(agent::agent(notes, layers));
        }
    }
    Some(judges)
}

/// The `type`, and what the section may leave things to, which must be of the same one.
fn kind_of<'a, 't>(
    notes: &mut Notes<'_>,
    own: Section<'a, 't>,
    base: Option<Section<'a, 't>>,
) -> Option<(&'a str, Option<Section<'a, 't>>)> {
    let below = base.and_then(|base| base.text(notes, "type"));
    if let (Some(below), true) = (below, own.lacks("type")) {
        return Some((word(notes, "type", below, &words::CHECKS)?, base));
    }
    let given = own.required_text(notes, "type", "\"tcp\"")?;
    let kind = word(notes, "type", given, &words::CHECKS)?;
    let base = base.filter(|_| below.is_some_and(|below| below.value == kind));
    Some((kind, base))
}

/// A key that is for other types.
fn reject_strangers(notes: &mut Notes<'_>, own: Section<'_, '_>, kind: &str) {
    for (key, kinds) in OF_SOME {
        if let Some(at) = own.place(key)
            && !kinds.contains(&kind)
        {
            let kinds = kinds.join(", ");
            let fault = format!(
                "`{key}' is for checks of type {kinds}, and this one is of type {kind}; leave it out"
            );
            notes.fault(at, fault);
        }
    }
}

fn check(notes: &mut Notes<'_>, layers: Layers<'_, '_>, kind: &str) -> Option<Check> {
    let mut ip = |key| {
        let text = layers.of(key).text(notes, key)?;
        super::ip_address(notes, text, text.value, "\"192.168.100.8\"")
    };
    let (address, bind) = (ip("address"), ip("bind"));
    let port = layers.of("port").number(notes, "port", 1..=65535);
    let kind = match kind {
        "tcp" => Some(Kind::Tcp),
        "http" | "https" => http::http(notes, layers, kind).map(Kind::Http),
        "udp" => Some(Kind::Udp(kinds::udp(notes, layers))),
        "dns" => Some(Kind::Dns(kinds::dns(notes, layers))),
        "smtp" => Some(kinds::smtp(notes, layers)),
        "ping" => Some(Kind::Ping),
        _ => kinds::script(notes, layers).map(Kind::Script),
    }?;
    Some(Check {
        timing: timing(notes, layers, &kind),
        kind: Arc::new(kind),
        address,
        port: port.map(|port| port.value as u16),
        bind,
    })
}

/// The defaults are keepalived's; those of `SSL_GET` are those of `HTTP_GET`.
fn timing(notes: &mut Notes<'_>, layers: Layers<'_, '_>, kind: &Kind) -> Timing {
    let mut time = |key, range: RangeInclusive<Duration>| {
        let time = layers.of(key).duration(notes, key, range)?;
        Some(time.value)
    };
    let interval = time("interval", SHORTEST..=LONGEST).unwrap_or(INTERVAL);
    let usual_timeout = match kind {
        Kind::Script(_) => interval,
        _ => TIMEOUT,
    };
    let (usual_retry, usual_delay) = match kind {
        Kind::Http(_) => (1, HTTP_DELAY),
        Kind::Dns(_) => (3, interval),
        Kind::Script(_) => (0, DELAY),
        _ => (1, DELAY),
    };
    let timeout = time("timeout", SHORTEST..=LONGEST).unwrap_or(usual_timeout);
    let delay = time("delay_before_retry", Duration::ZERO..=LONGEST).unwrap_or(usual_delay);
    let warmup = time("warmup", Duration::ZERO..=LONGEST).unwrap_or(interval);
    let retry = layers.of("retry").number(notes, "retry", 0..=MOST_RETRY);
    Timing {
        interval,
        timeout,
        retry: retry.map_or(usual_retry, |retry| retry.value),
        delay_before_retry: delay,
        warmup,
        alpha: layers.of("alpha").flag(notes, "alpha").unwrap_or(false),
    }
}

/// A server on port 0, which is all ports, can be asked at none of them.
pub(super) fn check_ports(notes: &mut Notes<'_>, at: usize, server: &ServerKey, judges: &Judges) {
    for check in &judges.checks {
        let without = matches!(*check.kind, Kind::Ping | Kind::Script(_));
        if server.port == 0 && check.port.is_none() && !without {
            let kind = check.kind.name();
            let fault = format!(
                "real server {server} is for all ports, and a check of type {kind} asks at one; write port = 80 in its check"
            );
            notes.fault(at, fault);
        }
    }
}

/// A path of the host, such as that of a program or a file.
fn is_absolute(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0')
}

/// Keys that not all checks have.
const OF_SOME: &[(&str, &[&str])] = &[
    ("timeout", ACTIVE),
    ("retry", ACTIVE),
    ("delay_before_retry", ACTIVE),
    ("warmup", ACTIVE),
    ("alpha", ACTIVE),
    ("address", ACTIVE),
    ("port", &["tcp", "http", "https", "udp", "dns", "smtp"]),
    (
        "bind",
        &["tcp", "http", "https", "udp", "dns", "smtp", "ping"],
    ),
    ("path", WEB),
    ("host", WEB),
    ("status", WEB),
    ("digest", WEB),
    ("sha256", WEB),
    ("regex", WEB),
    ("regex_no_match", WEB),
    ("urls", WEB),
    ("http_version", WEB),
    ("verify", &["https"]),
    ("ca_file", &["https"]),
    ("sni", &["https"]),
    ("payload", &["udp"]),
    ("require_reply", &["udp"]),
    ("min_reply_length", &["udp"]),
    ("max_reply_length", &["udp"]),
    ("name", &["dns"]),
    ("query", &["dns"]),
    ("helo", &["smtp"]),
    ("command", &["script"]),
    ("dynamic", &["script"]),
    ("missed", &["agent"]),
    ("weight", &["agent"]),
    ("least_weight", &["agent"]),
    ("most_weight", &["agent"]),
];

const WEB: &[&str] = &["http", "https"];
const ACTIVE: &[&str] = &[
    "tcp", "http", "https", "udp", "dns", "smtp", "ping", "script",
];

const INTERVAL: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(5);
const DELAY: Duration = Duration::from_secs(1);
const HTTP_DELAY: Duration = Duration::from_secs(3);
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(24 * 3600);
const MOST_RETRY: u32 = 1000;
