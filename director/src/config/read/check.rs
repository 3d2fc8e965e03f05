//! `[agents]`, `[service.check]` and `[service.server.check]`: who judges real servers.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use shared::agent::{KEY_FILE, PORT};
use shared::config::{Keys, Notes, Placed, Section, word};

use crate::config::{Agents, words};
use crate::health::agents::check::{AgentCheck, Weight};

/// `[agents]`
pub(super) fn agents(notes: &mut Notes<'_>, section: Section<'_, '_>) -> Agents {
    let everywhere = SocketAddr::from(([0; 4], PORT));
    let listen = section.text(notes, "listen");
    let listen = listen.map_or(Some(everywhere), |text| {
        socket_address(notes, text, everywhere)
    });
    let insecure = section.truth(notes, "insecure");
    let insecure = insecure.filter(|insecure| insecure.value);
    let key_file = section.text(notes, "key_file");
    if let (Some(_), Some(insecure)) = (key_file, insecure) {
        let fault = "with a key file nothing is insecure; leave `insecure' out, or `key_file' if \
                     everybody's reports are to be believed";
        notes.fault(insecure.at, fault);
    }
    if let Some(file) = key_file
        && !file.value.starts_with('/')
    {
        let fault = format!(
            "`key_file' is {:?}, which depends on where the director is started; write a path from the \
             root, such as {KEY_FILE:?}",
            file.value
        );
        notes.fault(file.at, fault);
    }
    let named = key_file.map_or(KEY_FILE, |file| file.value);
    Agents {
        listen: listen.unwrap_or(everywhere),
        key_file: insecure.is_none().then(|| PathBuf::from(named)),
    }
}

/// Such as `usual`, whose port is that of an address without one.
pub(super) fn socket_address(
    notes: &mut Notes<'_>,
    text: Placed<&str>,
    usual: SocketAddr,
) -> Option<SocketAddr> {
    let whole = text.value.parse::<SocketAddr>().ok();
    let inside = text.value.strip_prefix('[');
    let inside = inside.and_then(|rest| rest.strip_suffix(']'));
    let bare = inside.unwrap_or(text.value).parse::<IpAddr>().ok();
    let address = whole.or_else(|| Some(SocketAddr::new(bare?, usual.port())));
    let address = address.filter(|address| address.port() != 0);
    if address.is_none() {
        let fault = format!(
            "{:?} is not an address to listen at; write one, as in \"{usual}\"",
            text.value
        );
        notes.fault(text.at, fault);
    }
    address
}

/// What a section's `check` says; what it leaves out is as `base` has it, the check of a server's service.
pub(super) fn check(
    notes: &mut Notes<'_>,
    section: Section<'_, '_>,
    keys: &'static Keys,
    base: Option<AgentCheck>,
) -> Option<AgentCheck> {
    let section = section.table(notes, "check", keys)?;
    let given = if base.is_some() {
        section.text(notes, "type")
    } else {
        section.required_text(notes, "type", "\"agent\"")
    };
    given.and_then(|given| word(notes, "type", given, &words::CHECKS));
    let base = base.unwrap_or_default();
    let interval = section.duration(notes, "interval", SHORTEST..=LONGEST);
    let missed = section.number(notes, "missed", 1..=MOST_MISSED);
    Some(AgentCheck {
        interval: interval.map_or(base.interval, |interval| Some(interval.value)),
        missed: missed.map_or(base.missed, |missed| missed.value),
        weight: weight(notes, section, base.weight),
    })
}

/// `weight = true`, perhaps with bounds.
fn weight(notes: &mut Notes<'_>, section: Section<'_, '_>, base: Weight) -> Weight {
    let wanted = section.truth(notes, "weight");
    let least = section.number(notes, "least_weight", 0..=u32::from(u16::MAX));
    let most = section.number(notes, "most_weight", 0..=u32::from(u16::MAX));
    let (counts, base) = match base {
        Weight::Configured => (false, (0, u16::MAX)),
        Weight::Wanted { least, most } => (true, (least, most)),
    };
    let bound = |given: Option<Placed<u32>>, base| given.map_or(base, |given| given.value as u16);
    let bounds = (bound(least, base.0), bound(most, base.1));
    let place = least.or(most).map(|bound| bound.at);
    if !wanted.map_or(counts, |wanted| wanted.value) {
        if let Some(at) = place {
            let fault = "bounds are for the weight that the agent wants; write weight = true";
            notes.fault(at, fault);
        }
        return Weight::Configured;
    }
    if let (Some(at), (least, most)) = (place, bounds)
        && least > most
    {
        let fault = format!("least_weight {least} is above most_weight {most}; write a lower one");
        notes.fault(at, fault);
    }
    Weight::Wanted {
        least: bounds.0,
        most: bounds.1,
    }
}

const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(60);
const MOST_MISSED: u32 = 1000;
