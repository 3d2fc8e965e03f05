//! Looks at the host for the doctor.

use std::io;

use shared::host::netlink::Listeners;
use shared::sys::offload::fills_in_checksums;

use super::{Host, examine};
use crate::apply::{AgentError, Outcome, look};
use crate::compare::{asked_or_ours, compare};
use crate::config::Config;
use crate::finding::About;
use crate::run::{checks, key};
use crate::state::State;

/// `check`: prints line by line what is, what should be, and what mends it. Nothing is changed, and most
/// needs no privilege.
pub(crate) fn check(config: &Config, ports: &[u16]) -> Result<Outcome, AgentError> {
    let (mut netlink, facts) = look()?;
    let state = State::peek()?;
    let mut findings = compare(config, &state, &facts, &mut netlink)?;
    let vips = asked_or_ours(config, &state, &facts);
    let listeners = Listeners::open()?.list()?;
    let host = Host {
        facts: &facts,
        setting: &|sysctl| sysctl.read().ok(),
        listeners: &listeners,
        // A driver that does not say does not.
        fills_in_checksums: &|name| fills_in_checksums(name).unwrap_or(false),
    };
    examine(config, &vips, ports, &host, &mut findings);
    for check in &config.checks {
        let what = format!("check {}", check.name);
        match checks::look(check) {
            Ok(()) => findings.line(About::Host, (&what, "passed"), Ok(()), String::new),
            Err(error) => findings.wrong(About::Host, format_args!("{what}: {error}")),
        }
    }
    if !config.directors.is_empty() {
        match key::load(config) {
            Err(key::KeyFault::Read { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                findings.note(format_args!(
                    "{}: only root can look",
                    config.key_file.display()
                ));
            }
            Err(error) => findings.wrong(About::Host, error),
            Ok(None) => findings.note("reports carry no key: anybody on the way can forge them"),
            Ok(Some(_)) => {
                let file = config.key_file.display().to_string();
                findings.line(About::Host, (&file, "a key"), Ok(()), String::new);
            }
        }
    }
    print!("{}", findings.diagnosis());
    Ok(match findings.are_right() {
        true => Outcome::Done,
        false => Outcome::NotRunning,
    })
}
