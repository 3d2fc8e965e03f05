//! ICMP for IPv6 (RFC 4443): errors that quote the packet they are about.

use super::checksum;
use super::icmpv4::Error;
use super::transport::{field, set_field};

/// Destination unreachable.
pub const UNREACHABLE: u8 = 1;
/// Code of [`UNREACHABLE`]: nobody knows the way to the host, or it does not answer.
pub const ADDRESS_UNREACHABLE: u8 = 3;
/// Code of [`UNREACHABLE`]: nobody serves the port.
pub const PORT_UNREACHABLE: u8 = 4;
/// Packet too big.
pub const TOO_BIG: u8 = 2;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// From here on messages are no errors.
pub const FIRST_INFORMATION: u8 = 128;
/// Bytes of an error's header; the quoted packet follows.
pub const HEADER: usize = 8;

/// Whether a message is an error (RFC 4443 section 2.1): all of them are followed (`ip_vs_in_icmp_v6`).
pub fn is_error(message: &[u8]) -> bool {
    message
        .first()
        .is_some_and(|&kind| kind < FIRST_INFORMATION)
}

/// The message of an error about a packet, of which as much is quoted as is handed over. The addresses are
/// those of the packet that will carry it.
pub fn message(error: Error, source: [u8; 16], destination: [u8; 16], quoted: &[u8]) -> Vec<u8> {
    let (kind, code, rest) = match error {
        Error::PortUnreachable => (UNREACHABLE, PORT_UNREACHABLE, 0),
        Error::FragmentationNeeded { mtu } => (TOO_BIG, 0, u32::from(mtu)),
        Error::TimeExceeded => (TIME_EXCEEDED, 0, 0),
        Error::Relayed { kind, code, rest } => (kind, code, rest),
    };
    let mut message = Vec::with_capacity(HEADER + quoted.len());
    message.extend([kind, code, 0, 0]);
    message.extend(rest.to_be_bytes());
    message.extend(quoted);
    recompute(&mut message, source, destination);
    message
}

/// Writes the checksum of a whole message between these addresses.
pub fn recompute(message: &mut [u8], source: [u8; 16], destination: [u8; 16]) {
    set_field(message, CHECKSUM, 0);
    let sum = !checksum::fold(sum(message, source, destination));
    set_field(message, CHECKSUM, sum);
}

/// Whether a message between these addresses is as it was sent.
pub fn verifies(message: &[u8], source: [u8; 16], destination: [u8; 16]) -> bool {
    checksum::fold(sum(message, source, destination)) == 0xffff
}

/// The MTU that [`TOO_BIG`] tells, bytes.
pub fn next_mtu(message: &[u8]) -> Option<u32> {
    match message {
        [TOO_BIG, ..] => Some(u32::from(field(message, 4)?) << 16 | u32::from(field(message, 6)?)),
        _ => None,
    }
}

fn sum(message: &[u8], source: [u8; 16], destination: [u8; 16]) -> u32 {
    let pseudo = checksum::pseudo_v6(source, destination, PROTOCOL, message.len() as u32);
    checksum::sum(message, pseudo)
}

const CHECKSUM: usize = 2;
/// IANA's number of ICMPv6.
const PROTOCOL: u8 = 58;

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use pnet_packet::icmpv6::{Icmpv6Packet, checksum as independent_checksum};

    use super::*;

    #[test]
    fn another_reader_agrees() {
        let (from, to): (Ipv6Addr, Ipv6Addr) = (
            "2001:db8::1".parse().unwrap(),
            "2001:db8:1::2".parse().unwrap(),
        );
        let too_big = Error::FragmentationNeeded { mtu: 1400 };
        let bytes = message(too_big, from.octets(), to.octets(), &[1, 2, 3, 4, 5]);
        let theirs = Icmpv6Packet::new(&bytes).unwrap();
        assert_eq!(
            theirs.get_checksum(),
            independent_checksum(&theirs, &from, &to)
        );
        assert_eq!(next_mtu(&bytes), Some(1400));
        assert!(is_error(&bytes));
        assert!(verifies(&bytes, from.octets(), to.octets()));
        assert!(!verifies(&bytes, from.octets(), from.octets()));
        let expired = message(Error::TimeExceeded, from.octets(), to.octets(), &[]);
        assert_eq!(next_mtu(&expired), None);
        assert!(!is_error(&[128, 0]));
        assert!(!is_error(&[]));
    }
}
