//! What a `[[service]]` demands of its real servers together, and whom it tells.

use std::net::SocketAddr;
use std::time::Duration;

use shared::config::{Notes, Section, word};

use super::{endpoint, is_of_family};
use crate::config::{Checks, Guarding, Notices, words};
use crate::core::guard::{Guard, Panic};
use crate::core::operation::{ForwardMethod, ServerKey, ServerSpec, ServiceKey};

/// What a service says, before its servers are known.
pub(super) fn guarding(
    notes: &mut Notes<'_>,
    section: Section<'_, '_>,
    service: Option<ServiceKey>,
    checks: &Checks,
) -> Guarding {
    let quorum = section.number(notes, "quorum", 1..=MOST_QUORUM);
    let hysteresis = section.number(notes, "hysteresis", 0..=MOST_QUORUM);
    let (needed, slack) = (
        quorum.map_or(1, |quorum| quorum.value),
        hysteresis.map_or(0, |hysteresis| hysteresis.value),
    );
    if let Some(hysteresis) = hysteresis
        && slack >= needed
    {
        let fault = format!(
            "hysteresis {slack} is not below quorum {needed}; write a lower one, or a higher quorum"
        );
        notes.fault(hysteresis.at, fault);
    }
    let percent = section.number(notes, "panic_threshold", 1..=99);
    let panic = percent.map(|percent| Panic {
        percent: percent.value as u8,
        within: checks
            .intervals()
            .max()
            .unwrap_or(Duration::from_secs(USUAL_SECS)),
    });
    let omega = section.truth(notes, "omega");
    let mut command = |key| command(notes, section, key);
    let notices = Notices {
        quorum_up: command("quorum_up"),
        quorum_down: command("quorum_down"),
        omega: omega.is_some_and(|omega| omega.value),
        ..Notices::default()
    };
    Guarding {
        guard: Guard {
            quorum: needed,
            hysteresis: slack,
            sorry: sorry_server(notes, section, service),
            panic,
            ..Guard::default()
        },
        notices,
    }
}

/// What a server says of itself, or its service of all.
pub(super) fn of_server(
    notes: &mut Notes<'_>,
    section: Section<'_, '_>,
    service: Section<'_, '_>,
    server: ServerKey,
    guarding: &mut Guarding,
) {
    let who = |key| match section.lacks(key) {
        true => service,
        false => section,
    };
    let inhibited = who("inhibit_on_failure").truth(notes, "inhibit_on_failure");
    if inhibited.is_some_and(|inhibited| inhibited.value) {
        guarding.guard.inhibited.insert(server);
    }
    let mut command = |key| command(notes, who(key), key);
    let (up, down) = (command("notify_up"), command("notify_down"));
    let Notices {
        server_up,
        server_down,
        ..
    } = &mut guarding.notices;
    server_up.extend(up.map(|up| (server, up)));
    server_down.extend(down.map(|down| (server, down)));
}

fn command(notes: &mut Notes<'_>, section: Section<'_, '_>, key: &str) -> Option<Vec<String>> {
    let at = section.place(key)?;
    let words = section.texts(notes, key).into_iter();
    let words: Vec<String> = words.map(|word| word.value.to_owned()).collect();
    let usable = words
        .first()
        .is_some_and(|program| program.starts_with('/'));
    if !usable || words.iter().any(|word| word.contains('\0')) {
        let fault = format!(
            "`{key}' needs a program by its path from the root; write {key} = \
             [\"/usr/local/bin/tell\", \"ARGUMENT\"]"
        );
        notes.fault(at, fault);
        return None;
    }
    Some(words)
}

/// `{ address = "127.0.0.1:80", forward = "local" }`
fn sorry_server(
    notes: &mut Notes<'_>,
    service: Section<'_, '_>,
    of: Option<ServiceKey>,
) -> Option<ServerSpec> {
    let section = service.table(notes, "sorry_server", &words::SORRY_SERVER)?;
    let text = section.required_text(notes, "address", "\"127.0.0.1:80\"");
    let given = section.text(notes, "forward").map(|given| {
        let word = word(notes, "forward", given, &words::SORRY_FORWARDS);
        (given.at, word)
    });
    let text = text?;
    let (address, port) = endpoint(notes, text)?;
    let service_port = match of {
        Some(ServiceKey::Address { port, .. }) => port,
        _ => 0,
    };
    let forward = match given {
        // As keepalived's users write it.
        None if address.is_loopback() => "local",
        None => "dr",
        Some((at, word)) => {
            let word = word?;
            if address.is_loopback() && word != "local" {
                let fault = format!(
                    "{address} is the director itself, where packets get by forward = \"local\" only; write \
                     that, or leave `forward' out"
                );
                notes.fault(at, fault);
            }
            word
        }
    };
    let method = match forward {
        "nat" => ForwardMethod::Nat,
        "fullnat" => ForwardMethod::FullNat,
        "tun" => ForwardMethod::Tunnel,
        "local" => ForwardMethod::Local,
        _ => ForwardMethod::Direct,
    };
    let families = (of.map(|key| key.family()), address);
    is_of_family(notes, text, families, method).then_some(())?;
    let port = port.unwrap_or(service_port);
    if !method.is_nat() && port != service_port && service_port != 0 {
        let fault = format!(
            "sorry server {} has not the port of its service, and \"{forward}\" does not change ports; write \
             \"{}\", or forward = \"nat\"",
            SocketAddr::new(address, port),
            SocketAddr::new(address, service_port)
        );
        notes.fault(text.at, fault);
    }
    Some(ServerSpec::new(address, port, method, 1))
}

/// The sorry server must not be one of those that it stands in for.
pub(super) fn check_sorry_server(
    notes: &mut Notes<'_>,
    section: Section<'_, '_>,
    guard: &Guard,
    servers: &[ServerSpec],
) {
    if let Some(sorry) = &guard.sorry
        && servers.iter().any(|server| server.key == sorry.key)
        && let Some(at) = section.place("sorry_server")
    {
        let fault = format!(
            "{} is a real server of the service, and cannot stand in for it; write another sorry server",
            sorry.key
        );
        notes.fault(at, fault);
    }
}

/// More than all weights that a service can have.
const MOST_QUORUM: u32 = 1_000_000_000;
/// keepalived's `delay_loop`.
const USUAL_SECS: u64 = 60;
