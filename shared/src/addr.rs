//! Addresses of both families as one plain value, transport protocols, flow keys.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 or IPv6 address in 16 bytes; IPv4 is kept in the form `::ffff:a.b.c.d`
/// (RFC 4291 section 2.5.5.2), so that both families share keys and tables and compare as one
/// integer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Addr(u128);

impl Addr {
    /// `0.0.0.0`.
    pub const UNSPECIFIED_V4: Addr = Addr::v4(Ipv4Addr::UNSPECIFIED);

    const MAPPED: u128 = 0xffff_0000_0000;

    /// `0.0.0.0` or `::`.
    pub const fn unspecified(family: Family) -> Addr {
        match family {
            Family::V4 => Addr::UNSPECIFIED_V4,
            Family::V6 => Addr(0),
        }
    }

    /// An IPv4 address.
    pub const fn v4(address: Ipv4Addr) -> Addr {
        Addr(Self::MAPPED | address.to_bits() as u128)
    }

    /// An IPv4 address from its four bytes, as they stand in a packet.
    #[inline]
    pub const fn from_v4_bytes(bytes: [u8; 4]) -> Addr {
        Addr(Self::MAPPED | u32::from_be_bytes(bytes) as u128)
    }

    /// An address from its sixteen bytes, IPv4 in its mapped form.
    pub const fn from_bytes(bytes: [u8; 16]) -> Addr {
        Addr(u128::from_be_bytes(bytes))
    }

    /// The sixteen bytes in network order, IPv4 in its mapped form.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The four bytes of an IPv4 address in network order; the last four of an IPv6 address.
    #[inline]
    pub const fn to_v4_bytes(self) -> [u8; 4] {
        (self.0 as u32).to_be_bytes()
    }

    /// The whole as an integer, for hashing.
    pub const fn to_bits(self) -> u128 {
        self.0
    }

    /// The address in 32 bits, as the kernel's IPVS hashes it: of IPv6 the four words together, without
    /// carry.
    pub const fn folded(self) -> u32 {
        match self.family() {
            Family::V4 => self.0 as u32,
            Family::V6 => {
                (self.0 >> 96) as u32
                    ^ (self.0 >> 64) as u32
                    ^ (self.0 >> 32) as u32
                    ^ self.0 as u32
            }
        }
    }

    /// Whether it can be the address of one host: not unspecified, multicast or broadcast.
    pub fn is_unicast(self) -> bool {
        match self.ip() {
            IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_multicast() && !v4.is_broadcast(),
            IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
        }
    }

    /// Which family the address is of.
    pub const fn family(self) -> Family {
        if self.0 >> 32 == 0xffff {
            Family::V4
        } else {
            Family::V6
        }
    }

    /// The standard library's form.
    pub const fn ip(self) -> IpAddr {
        match self.family() {
            Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(self.0 as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(self.0)),
        }
    }
}

impl From<IpAddr> for Addr {
    fn from(address: IpAddr) -> Addr {
        match address {
            IpAddr::V4(v4) => Addr::v4(v4),
            IpAddr::V6(v6) => Addr(v6.to_bits()),
        }
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(address: Ipv4Addr) -> Addr {
        Addr::v4(address)
    }
}

impl From<Addr> for IpAddr {
    fn from(address: Addr) -> IpAddr {
        address.ip()
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

/// Address family.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// A protocol number of the IP header (IANA protocol numbers).
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP, 1.
    pub const ICMP: Protocol = Protocol(1);
    /// TCP, 6.
    pub const TCP: Protocol = Protocol(6);
    /// UDP, 17.
    pub const UDP: Protocol = Protocol(17);
    /// ESP of IPsec, 50.
    pub const ESP: Protocol = Protocol(50);
    /// AH of IPsec, 51.
    pub const AH: Protocol = Protocol(51);
    /// ICMPv6, 58.
    pub const ICMPV6: Protocol = Protocol(58);
    /// SCTP, 132.
    pub const SCTP: Protocol = Protocol(132);

    /// Whether it is IPsec's, whose packets follow the conversation of the same two hosts about their keys.
    #[inline]
    pub const fn is_ipsec(self) -> bool {
        matches!(self, Protocol::ESP | Protocol::AH)
    }

    /// Whether its packets begin with the ports, and connections of it are balanced.
    #[inline]
    pub const fn has_ports(self) -> bool {
        matches!(self, Protocol::TCP | Protocol::UDP | Protocol::SCTP)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Protocol::ICMP => f.write_str("ICMP"),
            Protocol::TCP => f.write_str("TCP"),
            Protocol::UDP => f.write_str("UDP"),
            Protocol::ESP => f.write_str("ESP"),
            Protocol::AH => f.write_str("AH"),
            Protocol::ICMPV6 => f.write_str("ICMPv6"),
            Protocol::SCTP => f.write_str("SCTP"),
            Protocol(n) => write!(f, "protocol {n}"),
        }
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What tells one flow from another, as it stands in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Source address.
    pub source: Addr,
    /// Source port, host order.
    pub source_port: u16,
    /// Destination address.
    pub destination: Addr,
    /// Destination port, host order.
    pub destination_port: u16,
}

impl FlowKey {
    /// The key of a packet in the other direction.
    pub const fn reversed(self) -> FlowKey {
        FlowKey {
            protocol: self.protocol,
            source: self.destination,
            source_port: self.destination_port,
            destination: self.source,
            destination_port: self.source_port,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_keep_their_text() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "255.255.255.255",
            "::",
            "::1",
            "2001:db8::9",
        ] {
            let ip: IpAddr = text.parse().unwrap();
            let addr = Addr::from(ip);
            assert_eq!(addr.ip(), ip);
            assert_eq!(addr.to_string(), text);
            assert_eq!(addr.family(), Family::of(ip));
            assert_eq!(Addr::from_bytes(addr.to_bytes()), addr);
        }
        assert_eq!(
            Addr::from_v4_bytes([10, 1, 2, 3]).to_v4_bytes(),
            [10, 1, 2, 3]
        );
    }
}
