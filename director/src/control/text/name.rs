//! How services and real servers are called in listings and in saved rules.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use shared::addr::{Family, Protocol};

use crate::control::command::Addresses;
use crate::control::names::Names;
use crate::core::operation::ServiceKey;

/// Where names come from, if they are wanted.
#[derive(Clone, Copy)]
pub(super) struct Namer<'a> {
    pub(super) addresses: Addresses,
    pub(super) names: &'a dyn Names,
}

impl Namer<'_> {
    /// `address:port`, IPv6 in brackets; cut to the room that ipvsadm has for it.
    pub(super) fn endpoint(&self, address: IpAddr, port: u16, protocol: Protocol) -> String {
        let host = match self.addresses {
            Addresses::Names => self.names.host_by_address(address),
            Addresses::Numeric => None,
        };
        let host = host.unwrap_or_else(|| numeric(address));
        let service = match self.addresses {
            Addresses::Names => self.names.service_by_port(port, protocol),
            Addresses::Numeric => None,
        };
        let service = service.unwrap_or_else(|| port.to_string());
        let text = match address {
            IpAddr::V4(_) => format!("{host}:{service}"),
            IpAddr::V6(_) => format!("[{host}]:{service}"),
        };
        cut(&text, ENDPOINT_BYTES).to_owned()
    }

    /// A service in a listing: `TCP  10.0.0.1:80`, `FWM  7`.
    pub(super) fn listed(&self, key: &ServiceKey) -> String {
        match *key {
            ServiceKey::Address {
                protocol,
                address,
                port,
            } => {
                let name = format!(
                    "{:<4} {}",
                    protocol_name(protocol),
                    self.endpoint(address, port, protocol)
                );
                match address {
                    IpAddr::V4(_) => cut(&name, SERVICE_BYTES).to_owned(),
                    IpAddr::V6(_) => name,
                }
            }
            // Marks are printed as signed numbers.
            ServiceKey::Mark { mark, family } => match family {
                Family::V4 => format!("FWM  {}", mark.cast_signed()),
                Family::V6 => format!("FWM  {} IPv6", mark.cast_signed()),
            },
        }
    }

    /// A service in saved rules: `-t 10.0.0.1:80`, `-f 7`.
    pub(super) fn rule(&self, key: &ServiceKey) -> String {
        match *key {
            ServiceKey::Address {
                protocol,
                address,
                port,
            } => {
                let option = match protocol {
                    Protocol::UDP => "-u",
                    Protocol::SCTP => "--sctp-service",
                    _ => "-t",
                };
                format!("{option} {}", self.endpoint(address, port, protocol))
            }
            ServiceKey::Mark { mark, family } => match family {
                Family::V4 => format!("-f {}", mark.cast_signed()),
                Family::V6 => format!("-f {} -6", mark.cast_signed()),
            },
        }
    }
}

/// The protocol in which the ports of a service's real servers are named.
pub(super) fn protocol_of(key: &ServiceKey) -> Protocol {
    match *key {
        ServiceKey::Address { protocol, .. } => protocol,
        ServiceKey::Mark { .. } => Protocol::TCP,
    }
}

/// The protocol in a row of a listing.
pub(super) fn protocol_name(protocol: Protocol) -> Cow<'static, str> {
    match protocol {
        Protocol(0) => "IP".into(),
        Protocol::TCP => "TCP".into(),
        Protocol::UDP => "UDP".into(),
        Protocol::SCTP => "SCTP".into(),
        Protocol::ICMP => "ICMP".into(),
        Protocol::ICMPV6 => "ICMPv6".into(),
        Protocol(number) => format!("IP_{number}").into(),
    }
}

/// The beginning of a text, at most `bytes` of it.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// inet_ntop(3). It differs from the standard library for IPv4-compatible addresses (RFC 4291
/// section 2.5.5.1), which it writes with dots.
fn numeric(address: IpAddr) -> String {
    match address {
        IpAddr::V6(v6) if is_v4_compatible(v6) => {
            format!("::{}", std::net::Ipv4Addr::from_bits(v6.to_bits() as u32))
        }
        _ => address.to_string(),
    }
}

fn is_v4_compatible(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, _] = address.segments();
    (a | b | c | d | e | f) == 0 && g != 0
}

/// ipvsadm's room for an address with port, less the final NUL.
const ENDPOINT_BYTES: usize = 59;
/// Where it cuts an IPv4 service off, protocol included.
const SERVICE_BYTES: usize = 33;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_inet_ntop_does() {
        for text in [
            "::1",
            "::",
            "::0.1.0.0",
            "::10.0.0.1",
            "::ffff:10.0.0.1",
            "fe80::1",
            "1::2:0:0:3",
        ] {
            let address: Ipv6Addr = text.parse().unwrap();
            assert_eq!(numeric(address.into()), text);
        }
    }
}
