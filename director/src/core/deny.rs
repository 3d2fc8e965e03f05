//! `[[deny]]`: sources that no service answers.
//!
//! Asked before a packet makes a connection, not for those of one that exists: what a new rule denies is
//! ended when the rule comes.

use std::collections::{BTreeMap, BTreeSet};

use shared::addr::Addr;

use super::operation::{DenyRule, ServiceKey};

/// The rules in force.
#[derive(Debug, Default)]
pub struct Deny {
    everywhere: Networks,
    of_service: BTreeMap<ServiceKey, Networks>,
}

impl Deny {
    /// Of these rules.
    pub fn new(rules: &[DenyRule]) -> Deny {
        let mut deny = Deny::default();
        for rule in rules {
            let networks = match rule.service {
                None => &mut deny.everywhere,
                Some(key) => deny.of_service.entry(key).or_default(),
            };
            networks.insert(rule.source.into(), rule.length);
        }
        deny
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.everywhere.0.is_empty() && self.of_service.is_empty()
    }

    /// Whether a service has no ear for a source.
    pub fn denies(&self, source: Addr, service: &ServiceKey) -> bool {
        let of_service = self.of_service.get(service);
        self.everywhere.contain(source) || of_service.is_some_and(|nets| nets.contain(source))
    }
}

/// Networks by the length of their prefix: there are few lengths, and may be many networks.
#[derive(Debug, Default)]
struct Networks(BTreeMap<u8, BTreeSet<u128>>);

impl Networks {
    fn insert(&mut self, network: Addr, length: u8) {
        let length = whole_length(network, length);
        let network = bits(network) & mask(length);
        self.0.entry(length).or_default().insert(network);
    }

    fn contain(&self, address: Addr) -> bool {
        let address = bits(address);
        let mut lengths = self.0.iter();
        lengths.any(|(&length, networks)| networks.contains(&(address & mask(length))))
    }
}

fn bits(address: Addr) -> u128 {
    u128::from_be_bytes(address.to_bytes())
}

/// IPv4 addresses are in their mapped form, whose first 96 bits are all the same.
fn whole_length(network: Addr, length: u8) -> u8 {
    match network.ip() {
        std::net::IpAddr::V4(_) => 96 + length.min(32),
        std::net::IpAddr::V6(_) => length.min(128),
    }
}

fn mask(length: u8) -> u128 {
    u128::MAX
        .checked_shl(128 - u32::from(length))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use shared::addr::Protocol;

    use super::*;

    fn rule(text: &str, service: Option<ServiceKey>) -> DenyRule {
        let (address, length) = text.split_once('/').unwrap();
        DenyRule {
            source: address.parse::<IpAddr>().unwrap(),
            length: length.parse().unwrap(),
            service,
        }
    }

    #[test]
    fn networks_are_denied_everywhere_or_to_a_service() {
        let [web, dns] = [(Protocol::TCP, 80), (Protocol::UDP, 53)]
            .map(|(protocol, port)| ServiceKey::new(protocol, [10, 0, 0, 100], port));
        let deny = Deny::new(&[
            rule("203.0.113.0/24", None),
            rule("198.51.100.7/32", None),
            rule("192.0.2.128/25", Some(web)),
            rule("2001:db8::/32", None),
        ]);
        let denied =
            |source: &str, service| deny.denies(source.parse::<IpAddr>().unwrap().into(), &service);
        assert!(denied("203.0.113.255", web) && denied("203.0.113.0", dns));
        assert!(denied("198.51.100.7", dns) && !denied("198.51.100.6", dns));
        assert!(denied("192.0.2.200", web) && !denied("192.0.2.200", dns));
        assert!(!denied("192.0.2.127", web) && !denied("203.0.112.255", web));
        assert!(denied("2001:db8:1::1", web) && !denied("2001:db9::1", web));
        assert!(Deny::default().is_empty() && !deny.is_empty());
        let all = Deny::new(&[rule("0.0.0.0/0", None)]);
        assert!(all.denies(IpAddr::from([9, 9, 9, 9]).into(), &web));
    }
}
