//! `[[mark]]`: firewall marks that the director itself puts on packets, for hosts without netfilter.
//!
//! Asked about a packet that belongs to no connection and that the host has not marked. The first rule that
//! fits decides.

use std::ops::RangeInclusive;

use shared::addr::{Addr, Family, FlowKey, Protocol};

use super::capture::CaptureKey;
use super::net::Prefix;
use super::operation::MarkRule;

/// The rules in force, in their order.
#[derive(Debug, Default)]
pub struct Marks(Vec<MarkRule>);

impl Marks {
    /// Of these rules.
    pub fn new(rules: &[MarkRule]) -> Marks {
        Marks(rules.to_vec())
    }

    /// The mark of a packet of this flow; none if no rule fits.
    pub fn mark_of(&self, flow: &FlowKey) -> Option<u32> {
        let rule = self.0.iter().find(|rule| fits(rule, flow))?;
        Some(rule.mark)
    }

    /// Whether a rule gives this mark to packets of a family: then the host need not.
    pub fn gives(&self, mark: u32, family: Family) -> bool {
        let given = |rule: &MarkRule| (rule.mark, Family::of(rule.address)) == (mark, family);
        self.0.iter().any(given)
    }

    /// What is to be taken from the wire for the rules to see it, a key for each rule that needs it.
    pub fn keys(&self) -> impl Iterator<Item = CaptureKey> {
        self.0.iter().flat_map(|rule| {
            let ports: u32 = rule.ports.iter().map(width).sum();
            // A key for each port, unless there are many: then all, and what is too much goes back.
            let all = rule.ports.is_empty() || ports > MOST_PORT_KEYS;
            let each = rule.ports.iter().filter(move |_| !all);
            let each = each.flat_map(|&(first, last)| first..=last);
            let ports: Vec<u16> = all.then_some(0).into_iter().chain(each).collect();
            protocols(rule).into_iter().flat_map(move |protocol| {
                let address = rule.address.into();
                ports
                    .clone()
                    .into_iter()
                    .map(move |port| CaptureKey::Service {
                        protocol,
                        address,
                        port,
                    })
            })
        })
    }
}

fn protocols(rule: &MarkRule) -> Vec<Protocol> {
    match rule.protocol {
        Some(protocol) => vec![protocol],
        None => vec![Protocol::TCP, Protocol::UDP, Protocol::SCTP],
    }
}

fn fits(rule: &MarkRule, flow: &FlowKey) -> bool {
    let port = |&(first, last): &(u16, u16)| (first..=last).contains(&flow.destination_port);
    Addr::from(rule.address) == flow.destination
        && rule
            .protocol
            .is_none_or(|protocol| protocol == flow.protocol)
        && (rule.ports.is_empty() || rule.ports.iter().any(port))
        && rule.source.is_none_or(|(network, length)| {
            Prefix::new(network.into(), length).contains(flow.source)
        })
}

fn width(&(first, last): &(u16, u16)) -> u32 {
    let range: RangeInclusive<u32> = first.into()..=last.into();
    range.count() as u32
}

/// Keys of one rule and protocol.
const MOST_PORT_KEYS: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(mark: u32) -> MarkRule {
        MarkRule {
            mark,
            protocol: Some(Protocol::TCP),
            address: [10, 0, 0, 100].into(),
            ports: vec![(80, 80), (8000, 8010)],
            source: None,
        }
    }

    fn flow(protocol: Protocol, source: [u8; 4], port: u16) -> FlowKey {
        FlowKey {
            protocol,
            source: Addr::from_v4_bytes(source),
            source_port: 4000,
            destination: Addr::from_v4_bytes([10, 0, 0, 100]),
            destination_port: port,
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let inside = MarkRule {
            source: Some(([192, 168, 1, 0].into(), 24)),
            ..rule(1)
        };
        let anything = MarkRule {
            protocol: None,
            ports: Vec::new(),
            ..rule(3)
        };
        let marks = Marks::new(&[inside, rule(2), anything]);
        let mark = |protocol, source, port| marks.mark_of(&flow(protocol, source, port));
        assert_eq!(mark(Protocol::TCP, [192, 168, 1, 9], 80), Some(1));
        assert_eq!(mark(Protocol::TCP, [192, 168, 2, 9], 80), Some(2));
        assert_eq!(mark(Protocol::TCP, [192, 168, 1, 9], 8010), Some(1));
        assert_eq!(mark(Protocol::TCP, [192, 168, 1, 9], 8011), Some(3));
        assert_eq!(mark(Protocol::UDP, [192, 168, 1, 9], 80), Some(3));
        let mut elsewhere = flow(Protocol::UDP, [192, 168, 1, 9], 80);
        elsewhere.destination = Addr::from_v4_bytes([10, 0, 0, 101]);
        assert_eq!(marks.mark_of(&elsewhere), None);
        assert!(marks.gives(3, Family::V4) && !marks.gives(4, Family::V4));
        assert!(!marks.gives(3, Family::V6));
    }

    #[test]
    fn keys_are_for_ports_or_for_all_of_them() {
        let ports = |rule: MarkRule| -> Vec<String> {
            let marks = Marks::new(&[rule]);
            marks.keys().map(|key| key.to_string()).collect()
        };
        assert_eq!(ports(rule(1)).len(), 12);
        let many = MarkRule {
            protocol: None,
            ports: vec![(1, 65)],
            ..rule(1)
        };
        let all = ["TCP", "UDP", "SCTP"].map(|name| format!("service {name} 10.0.0.100:0"));
        assert_eq!(ports(many), all);
    }
}
