//! `lvsadm status`, `lvsadm drain` and `lvsadm ready`: how real servers are, and taking one out of service
//! without anybody noticing.

use std::net::{IpAddr, SocketAddr};

use serde_json::json;
use shared::config::duration;

use super::{Failure, Run};
use crate::control::text::{servers, status};
use crate::core::judgement::Afterwards;
use crate::core::operation::Operation;

impl Run<'_> {
    /// `status [--json]`
    pub(super) fn status(&mut self, words: &[String]) -> u8 {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let done = match words[..] {
            [] => self.status_text(),
            ["--json"] => self.status_json(),
            _ => Err(Failure::Refused(
                "write status, or status --json".to_owned(),
            )),
        };
        self.report(done).exit
    }

    fn status_text(&mut self) -> Result<(), Failure> {
        let view = self.api.status()?;
        let services = self.api.services()?;
        let checks = self.api.checks()?;
        let agents = self.api.agents()?;
        self.terminal.out(&status::report(&view));
        self.terminal.out(&servers::report(
            &services,
            &checks,
            &agents,
            view.reports.as_ref(),
        ));
        Ok(())
    }

    fn status_json(&mut self) -> Result<(), Failure> {
        let all = json!({
            "director": self.api.status()?,
            "services": self.api.services()?,
            "checks": self.api.checks()?,
            "agents": self.api.agents()?,
        });
        self.terminal.out(&format!("{all:#}\n"));
        Ok(())
    }

    /// `drain SERVER [--deadline 10m] [--then keep|reset]`
    pub(super) fn drain(&mut self, words: &[String]) -> u8 {
        let done = drain_operation(words).and_then(|operation| self.order(&operation));
        self.report(done).exit
    }

    /// `ready SERVER`
    pub(super) fn ready(&mut self, words: &[String]) -> u8 {
        let operation = match words {
            [server] => server_of(server).map(|(address, port)| Operation::Ready { address, port }),
            _ => Err(Failure::Refused(READY.to_owned())),
        };
        let done = operation.and_then(|operation| self.order(&operation));
        self.report(done).exit
    }

    fn order(&mut self, operation: &Operation) -> Result<(), Failure> {
        self.api.apply(operation)?;
        Ok(())
    }
}

fn drain_operation(words: &[String]) -> Result<Operation, Failure> {
    let refused = |sentence: &str| Failure::Refused(sentence.to_owned());
    let (mut server, mut deadline, mut then) = (None, None, None);
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) if option.starts_with("--") => (option, Some(value)),
            _ => (word, None),
        };
        match option {
            "--deadline" => {
                let value = value
                    .or_else(|| words.next())
                    .ok_or_else(|| refused(DRAIN))?;
                let span = duration(value).map(|span| span.as_secs());
                let secs = span.and_then(|secs| u32::try_from(secs).ok());
                let secs = secs.filter(|secs| (1..=LONGEST_SECS).contains(secs));
                let fault = || {
                    let sentence = format!(
                        "deadline `{value}' is not a time from 1s to 744h; write --deadline 10m"
                    );
                    Failure::Refused(sentence)
                };
                deadline = Some(secs.ok_or_else(fault)?);
            }
            "--then" => {
                let value = value
                    .or_else(|| words.next())
                    .ok_or_else(|| refused(DRAIN))?;
                let known = Afterwards::NAMES.iter().find(|(name, _)| *name == value);
                let fault = || {
                    let sentence =
                        format!("`{value}' is unknown; write --then keep or --then reset");
                    Failure::Refused(sentence)
                };
                then = Some(known.ok_or_else(fault)?.1);
            }
            _ if server.is_none() && !word.starts_with('-') => server = Some(server_of(word)?),
            _ => return Err(refused(DRAIN)),
        }
    }
    let (address, port) = server.ok_or_else(|| refused(DRAIN))?;
    if then == Some(Afterwards::Reset) && deadline.is_none() {
        return Err(refused(
            "connections are reset at the deadline; write --deadline 10m too",
        ));
    }
    Ok(Operation::Drain {
        address,
        port,
        deadline_secs: deadline,
        then: then.unwrap_or_default(),
    })
}

/// `10.1.0.11` or `10.1.0.11:80`
fn server_of(word: &str) -> Result<(IpAddr, Option<u16>), Failure> {
    if let Ok(address) = word.parse::<IpAddr>() {
        return Ok((address, None));
    }
    let endpoint = word.parse::<SocketAddr>();
    let endpoint = endpoint.map(|endpoint| (endpoint.ip(), Some(endpoint.port())));
    endpoint.map_err(|_| {
        let sentence = format!(
            "`{word}' is not the address of a real server; write one, as in 10.1.0.11 or 10.1.0.11:80"
        );
        Failure::Refused(sentence)
    })
}

const DRAIN: &str =
    "write drain SERVER, drain SERVER --deadline 10m, or drain SERVER --deadline 10m --then reset";
const READY: &str = "write ready SERVER, which ends its drain";
/// 31 days, as of other times that ipvsadm takes.
const LONGEST_SECS: u32 = 31 * 24 * 3600;
