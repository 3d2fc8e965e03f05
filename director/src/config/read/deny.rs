//! `[[deny]]`

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use shared::addr::Family;

use super::{decimal, endpoint, ip_address};
use crate::config::words;
use crate::core::net::host_length;
use crate::core::operation::{DenyRule, ServiceKey};
use shared::config::{Notes, Placed, Section, word};

/// The rule of a section, and where it stands.
pub(super) fn deny(notes: &mut Notes<'_>, section: Section<'_, '_>) -> Option<(usize, DenyRule)> {
    let text = section.required_text(notes, "source", "\"203.0.113.0/24\"");
    let service = service(notes, section);
    let text = text?;
    let (source, length) = network(notes, text)?;
    let rule = DenyRule {
        source,
        length,
        service: service?,
    };
    Some((text.at, rule))
}

/// Which service a rule is of; the inner none is all.
fn service(notes: &mut Notes<'_>, section: Section<'_, '_>) -> Option<Option<ServiceKey>> {
    let text = section.text(notes, "service");
    let protocol = section.text(notes, "protocol");
    let (text, protocol) = match (text, protocol) {
        (None, None) => return Some(None),
        (Some(text), Some(protocol)) => (text, protocol),
        (Some(text), None) => {
            let fault = "`service' alone does not say which; write protocol = \"tcp\", \"udp\" or \"sctp\" too";
            notes.fault(text.at, fault);
            return None;
        }
        (None, Some(protocol)) => {
            let fault = "`protocol' is that of a service; write service = \"192.168.100.240:80\" too, \
                         or neither for all services";
            notes.fault(protocol.at, fault);
            return None;
        }
    };
    let protocol = word(notes, "protocol", protocol, &words::PROTOCOLS)?;
    let (address, port) = endpoint(notes, text)?;
    let Some(port) = port else {
        let example = SocketAddr::new(address, 80);
        let fault = format!("service {address} has no port; write \"{example}\"");
        notes.fault(text.at, fault);
        return None;
    };
    Some(Some(ServiceKey::new(
        super::protocol(protocol),
        address,
        port,
    )))
}

/// `203.0.113.0/24`, or one address.
pub(super) fn network(notes: &mut Notes<'_>, text: Placed<&str>) -> Option<(IpAddr, u8)> {
    let example = "\"203.0.113.0/24\"";
    let Some((address, length)) = text.value.split_once('/') else {
        let address = ip_address(notes, text, text.value, example)?;
        return Some((address, host_length(Family::of(address))));
    };
    // Everybody is 0.0.0.0/0, which is no host.
    let everybody = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ]
    .into_iter()
    .find(|all| length == "0" && address.parse() == Ok(*all));
    let address = match everybody {
        Some(all) => all,
        None => ip_address(notes, text, address, example)?,
    };
    let whole = host_length(Family::of(address));
    let Some(length) = decimal(length).filter(|length| *length <= u32::from(whole)) else {
        let fault = format!(
            "prefix length `{length}' of {address} is not from 0 to {whole}; write \"{address}/{whole}\""
        );
        notes.fault(text.at, fault);
        return None;
    };
    Some((address, length as u8))
}
