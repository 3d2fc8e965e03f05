//! `[[mark]]`

use super::deny::network;
use super::{decimal, endpoint};
use crate::config::words;
use crate::core::operation::MarkRule;
use shared::config::{Notes, Placed, Section, word};

/// The rule of a section.
pub(super) fn mark(notes: &mut Notes<'_>, section: Section<'_, '_>) -> Option<MarkRule> {
    let mark = section.number(notes, "mark", 1..=u32::MAX);
    if mark.is_none() && section.lacks("mark") {
        notes.fault(section.at, "[[mark]] has no `mark'; write mark = 8");
    }
    let protocol = section
        .text(notes, "protocol")
        .map(|given| word(notes, "protocol", given, &words::PROTOCOLS).map(super::protocol));
    let address = section
        .required_text(notes, "address", "\"192.168.100.240\"")
        .and_then(|text| {
            let (address, port) = endpoint(notes, text)?;
            if port.is_some() {
                let fault = format!(
                    "the ports are a list; write address = \"{address}\", ports = [\"80\"]"
                );
                notes.fault(text.at, fault);
            }
            Some(address)
        });
    let ports: Vec<Option<(u16, u16)>> = section
        .texts(notes, "ports")
        .into_iter()
        .map(|text| ports(notes, text))
        .collect();
    let source = section.text(notes, "source").map(|text| {
        let (network, length) = network(notes, text)?;
        if let Some(address) = address
            && address.is_ipv6() != network.is_ipv6()
        {
            let fault = format!(
                "no packet goes from {:?} to {address}, which is of the other address family",
                text.value
            );
            notes.fault(text.at, fault);
            return None;
        }
        Some((network, length))
    });
    Some(MarkRule {
        mark: mark?.value,
        protocol: match protocol {
            Some(protocol) => Some(protocol?),
            None => None,
        },
        address: address?,
        ports: ports.into_iter().collect::<Option<_>>()?,
        source: match source {
            Some(source) => Some(source?),
            None => None,
        },
    })
}

/// `80`, or `8000-8010`.
fn ports(notes: &mut Notes<'_>, text: Placed<&str>) -> Option<(u16, u16)> {
    let (first, last) = text
        .value
        .split_once('-')
        .unwrap_or((text.value, text.value));
    let port = |digits| {
        decimal(digits)
            .and_then(|port| u16::try_from(port).ok())
            .filter(|&port| port != 0)
    };
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Some((first, last)),
        _ => {
            let fault = format!(
                "{:?} is no port and no range of ports; write \"80\" or \"8000-8010\"",
                text.value
            );
            notes.fault(text.at, fault);
            None
        }
    }
}
