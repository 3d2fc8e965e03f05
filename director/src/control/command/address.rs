//! Addresses and ports as ipvsadm reads them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shared::addr::Protocol;

use super::number::number;
use crate::control::names::Names;

/// `host[:port]` of `-t`, `-u`, `--sctp-service` and `-r`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: IpAddr,
    /// `None` if the text has none.
    pub(super) port: Option<u16>,
}

/// Reads `host[:port]`; `protocol` is the one whose service names are meant, if it is known yet.
///
/// What ipvsadm accepts is wider than its manual: an IPv6 address without brackets has no port, one
/// with brackets has to have one, and an IPv4 address in brackets loses the port behind them.
pub(super) fn endpoint(
    text: &str,
    protocol: Option<Protocol>,
    names: &dyn Names,
) -> Option<Endpoint> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(inner) => {
            let (host, behind) = inner.split_once(']')?;
            (host, Some(behind.strip_prefix(':')?))
        }
        None => (text, None),
    };
    let (address, port) = match host.parse::<Ipv6Addr>() {
        Ok(v6) => (IpAddr::V6(v6), port),
        Err(_) => {
            let (host, port) = match host.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (host, None),
            };
            (IpAddr::V4(host_v4(host, names)?), port)
        }
    };
    let port = match port {
        Some(text) => Some(port_number(text, protocol, names)?),
        None => None,
    };
    Some(Endpoint { address, port })
}

/// An IPv4 address in any form of `inet_aton`, or the name of a host.
pub(super) fn host_v4(text: &str, names: &dyn Names) -> Option<Ipv4Addr> {
    inet_aton(text).or_else(|| names.host_by_name(text))
}

fn port_number(text: &str, protocol: Option<Protocol>, names: &dyn Names) -> Option<u16> {
    match number(text, 0..=65535) {
        Some(port) => u16::try_from(port).ok(),
        None => names.port_by_service(text, protocol?),
    }
}

/// inet_aton(3): `a.b.c.d`, `a.b.c`, `a.b` or `a`, where the last part fills all bytes that are
/// left and each part may be decimal, octal (`0...`) or hexadecimal (`0x...`). What follows a blank
/// is ignored.
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let text = text
        .split([' ', '\t', '\n', '\x0b', '\x0c', '\r'])
        .next()
        .unwrap_or_default();
    let mut bits = 0;
    let mut shift = 32;
    let mut parts = text.split('.').peekable();
    while let Some(part) = parts.next() {
        let value = inet_aton_part(part)?;
        if parts.peek().is_some() {
            if value > 0xff || shift == 8 {
                return None;
            }
            shift -= 8;
            bits |= value << shift;
        } else {
            if shift < 32 && value >> shift != 0 {
                return None;
            }
            bits |= value;
        }
    }
    Some(Ipv4Addr::from_bits(bits))
}

fn inet_aton_part(part: &str) -> Option<u32> {
    let (digits, radix) = if let Some(hex) = part.strip_prefix("0x").or(part.strip_prefix("0X")) {
        (hex, 16)
    } else if part.len() > 1 && part.starts_with('0') {
        (part, 8)
    } else {
        (part, 10)
    };
    // from_str_radix would take a sign.
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inet_aton_takes_all_its_forms() {
        let cases = [
            ("10.0.0.1", Some([10, 0, 0, 1])),
            ("10.0.1", Some([10, 0, 0, 1])),
            ("10.65537", Some([10, 1, 0, 1])),
            ("24", Some([0, 0, 0, 24])),
            ("4294967295", Some([255, 255, 255, 255])),
            ("0xa000001", Some([10, 0, 0, 1])),
            ("0XA.010.0.1", Some([10, 8, 0, 1])),
            ("10.0.0.1 x", Some([10, 0, 0, 1])),
            ("4294967296", None),
            ("10.0.0.256", None),
            ("256.0.0.1", None),
            ("10.0.65536", None),
            ("10.16777216", None),
            ("1.2.3.4.5", None),
            ("08.0.0.1", None),
            ("0x", None),
            ("1..2", None),
            ("1.2.", None),
            ("", None),
            (" 1.2.3.4", None),
            ("+1.2.3.4", None),
            ("1.-2", None),
            ("bad", None),
        ];
        for (text, expected) in cases {
            assert_eq!(inet_aton(text), expected.map(Ipv4Addr::from), "{text:?}");
        }
    }
}
