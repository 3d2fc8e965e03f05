//! Checks of the other types.

use shared::config::{Notes, word};

use super::{Layers, is_absolute};
use crate::config::words;
use crate::health::checks::{Dns, Kind, Nibbles, Reply, Script, Udp, hex};

pub(super) fn udp(notes: &mut Notes<'_>, layers: Layers<'_, '_>) -> Udp {
    let payload = layers.of("payload").text(notes, "payload");
    let payload = payload.and_then(|text| {
        let bytes = hex(text.value);
        if bytes.is_none() {
            let fault = format!(
                "`payload' is {:?}; write hexadecimal digits, two of each byte, as in \"0a 1b\"",
                text.value
            );
            notes.fault(text.at, fault);
        }
        bytes
    });
    let least = layers.of("min_reply_length");
    let least = least.number(notes, "min_reply_length", 0..=MOST_REPLY);
    let most = layers.of("max_reply_length");
    let most = most.number(notes, "max_reply_length", 0..=MOST_REPLY);
    let pattern = reply_pattern(notes, layers);
    if let (None, Some(given)) = (&pattern, least.or(most)) {
        notes.fault(
            given.at,
            "it is the length of a reply that is required; write require_reply = true",
        );
    }
    let bounds = (
        least.map_or(0, |least| least.value),
        most.map_or(USUAL_REPLY, |most| most.value),
    );
    if let (Some(given), (least, most)) = (least.or(most), bounds)
        && least > most
    {
        let fault =
            format!("min_reply_length {least} is above max_reply_length {most}; write a lower one");
        notes.fault(given.at, fault);
    }
    Udp {
        payload,
        reply: pattern.map(|pattern| Reply {
            pattern,
            least: bounds.0,
            most: bounds.1,
        }),
    }
}

/// `require_reply = true`, or what the reply begins with.
fn reply_pattern(notes: &mut Notes<'_>, layers: Layers<'_, '_>) -> Option<Vec<Nibbles>> {
    let section = layers.of("require_reply");
    if !section.has_text("require_reply") {
        let required = section.truth(notes, "require_reply")?;
        return required.value.then(Vec::new);
    }
    let text = section.text(notes, "require_reply")?;
    let pattern = Nibbles::parse(text.value);
    if pattern.is_none() {
        let fault = format!(
            "`require_reply' is {:?}; write true, or hexadecimal digits, two of each byte, with X for any, as in \
             \"0aXX\"",
            text.value
        );
        notes.fault(text.at, fault);
    }
    pattern
}

pub(super) fn dns(notes: &mut Notes<'_>, layers: Layers<'_, '_>) -> Dns {
    let name = layers.of("name").text(notes, "name");
    if let Some(name) = name
        && !Dns::is_name(name.value)
    {
        let fault = format!(
            "`name' is {:?}; write one such as \"www.example.org\"",
            name.value
        );
        notes.fault(name.at, fault);
    }
    let query = layers.of("query").text(notes, "query");
    let query = query.and_then(|given| word(notes, "query", given, &words::DNS_TYPES));
    let query = query.unwrap_or("SOA");
    let number = Dns::TYPES.iter().find(|(name, _)| *name == query);
    Dns {
        name: name.map_or(".", |name| name.value).to_owned(),
        query: number.map_or(0, |(_, number)| *number),
    }
}

pub(super) fn smtp(notes: &mut Notes<'_>, layers: Layers<'_, '_>) -> Kind {
    let helo = layers.of("helo").text(notes, "helo");
    if let Some(helo) = helo
        && (helo.value.is_empty() || !helo.value.chars().all(|letter| letter.is_ascii_graphic()))
    {
        let fault = format!(
            "`helo' is {:?}; write a name such as \"lvs.example.org\"",
            helo.value
        );
        notes.fault(helo.at, fault);
    }
    Kind::Smtp {
        helo: helo.map_or(HELO, |helo| helo.value).to_owned(),
    }
}

pub(super) fn script(notes: &mut Notes<'_>, layers: Layers<'_, '_>) -> Option<Script> {
    let section = layers.of("command");
    let words = section.texts(notes, "command").into_iter();
    let command: Vec<String> = words.map(|word| word.value.to_owned()).collect();
    let dynamic = layers.of("dynamic").flag(notes, "dynamic").unwrap_or(false);
    let usable = command.first().is_some_and(|program| is_absolute(program));
    if !usable || command.iter().any(|word| word.contains('\0')) {
        let at = section.place("command").unwrap_or(section.at);
        let fault = "a check of type script needs `command' with a path from the root; write \
                     command = [\"/usr/local/bin/check\", \"ARGUMENT\"]";
        notes.missing(at, fault);
        return None;
    }
    Some(Script { command, dynamic })
}

/// keepalived's default.
const HELO: &str = "smtpchecker.keepalived.org";
/// keepalived's `max_reply_length`, bytes.
const USUAL_REPLY: u32 = 255;
/// A datagram is no longer.
const MOST_REPLY: u32 = 65_507;
