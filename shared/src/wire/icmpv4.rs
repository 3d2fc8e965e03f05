//! ICMP for IPv4 (RFC 792): errors that quote the packet they are about.

use super::checksum;
use super::transport::{field, set_field};

/// Destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// Code of [`UNREACHABLE`]: nobody knows the way to the host, or it does not answer.
pub const HOST_UNREACHABLE: u8 = 1;
/// Code of [`UNREACHABLE`]: nobody serves the port.
pub const PORT_UNREACHABLE: u8 = 3;
/// Code of [`UNREACHABLE`]: too big, and not to be fragmented (RFC 1191).
pub const FRAGMENTATION_NEEDED: u8 = 4;
/// Source quench.
pub const SOURCE_QUENCH: u8 = 4;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Bytes of an error's header; the quoted packet follows.
pub const HEADER: usize = 8;

/// Whether a message is one of the errors that a balancer follows: destination unreachable,
/// source quench, time exceeded (`ip_vs_in_icmp`).
pub fn is_error(message: &[u8]) -> bool {
    matches!(
        message.first(),
        Some(&(UNREACHABLE | SOURCE_QUENCH | TIME_EXCEEDED))
    )
}

/// What an error message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Nobody serves the port.
    PortUnreachable,
    /// Too big for a link with this MTU, and not to be fragmented.
    FragmentationNeeded {
        /// Bytes of the largest packet that fits.
        mtu: u16,
    },
    /// The last router that was allowed was this one.
    TimeExceeded,
    /// What another one said, in one's own name.
    Relayed {
        /// Type of the message.
        kind: u8,
        /// Code of the message.
        code: u8,
        /// What the header holds behind the checksum.
        rest: u32,
    },
}

impl Error {
    /// The message about a packet, of which as much is quoted as is handed over.
    pub fn message(self, quoted: &[u8]) -> Vec<u8> {
        let (kind, code, rest) = match self {
            Error::PortUnreachable => (UNREACHABLE, PORT_UNREACHABLE, 0),
            Error::FragmentationNeeded { mtu } => {
                (UNREACHABLE, FRAGMENTATION_NEEDED, u32::from(mtu))
            }
            Error::TimeExceeded => (TIME_EXCEEDED, 0, 0),
            Error::Relayed { kind, code, rest } => (kind, code, rest),
        };
        let mut message = Vec::with_capacity(HEADER + quoted.len());
        message.extend([kind, code, 0, 0]);
        message.extend(rest.to_be_bytes());
        message.extend(quoted);
        recompute(&mut message);
        message
    }
}

/// Writes the checksum of a whole message.
pub fn recompute(message: &mut [u8]) {
    set_field(message, CHECKSUM, 0);
    let sum = checksum::checksum(message);
    set_field(message, CHECKSUM, sum);
}

/// The MTU that [`FRAGMENTATION_NEEDED`] tells, bytes.
pub fn next_mtu(message: &[u8]) -> Option<u16> {
    match message {
        [UNREACHABLE, FRAGMENTATION_NEEDED, ..] => field(message, 6),
        _ => None,
    }
}

const CHECKSUM: usize = 2;

#[cfg(test)]
mod tests {
    use pnet_packet::icmp::{IcmpPacket, checksum as independent_checksum};

    use super::*;

    #[test]
    fn another_reader_agrees() {
        let message = Error::FragmentationNeeded { mtu: 1400 }.message(&[1, 2, 3, 4, 5]);
        let theirs = IcmpPacket::new(&message).unwrap();
        assert_eq!(theirs.get_checksum(), independent_checksum(&theirs));
        assert_eq!(next_mtu(&message), Some(1400));
        assert!(is_error(&message));
        assert!(checksum::verifies(&message));
        assert_eq!(next_mtu(&Error::TimeExceeded.message(&[])), None);
        assert!(!is_error(&[8, 0]));
        assert!(!is_error(&[]));
    }
}
