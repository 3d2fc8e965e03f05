//! What a forwarder needs of TCP (RFC 9293) and UDP (RFC 768) headers: ports, flags, checksum.
//!
//! Both begin with the ports, so that one set of functions reads and changes either.

use super::checksum::Change;

/// Source and destination port; none of a header too short for them.
#[inline]
pub fn ports(header: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d] = *header.first_chunk::<4>()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// The flags of a TCP header (CWR, ECE, URG, ACK, PSH, RST, SYN, FIN from the highest bit on);
/// none unless the whole header with its options is there.
#[inline]
pub fn tcp_flags(segment: &[u8]) -> Option<u8> {
    let header = segment.first_chunk::<TCP_HEADER>()?;
    let length = usize::from(header[12] >> 4) * 4;
    (length >= TCP_HEADER && segment.len() >= length).then_some(header[13])
}

/// Whether a whole UDP header is there and its length is that of the datagram or less.
#[inline]
pub fn udp_is_whole(datagram: &[u8]) -> bool {
    datagram.first_chunk::<UDP_HEADER>().is_some_and(|header| {
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        (UDP_HEADER..=datagram.len()).contains(&length)
    })
}

/// Which port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// The sender's.
    Source,
    /// The receiver's.
    Destination,
}

/// Writes a port and says what changed.
#[inline]
pub fn set_port(header: &mut [u8], which: Port, new: u16) -> Change {
    let at = match which {
        Port::Source => 0,
        Port::Destination => 2,
    };
    let Some(field) = header.get_mut(at..at + 2) else {
        return Change::default();
    };
    let old = u16::from_be_bytes([field[0], field[1]]);
    field.copy_from_slice(&new.to_be_bytes());
    Change::word(old, new)
}

/// The two bytes at an offset; none beyond the end.
#[inline]
pub fn field(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// Writes two bytes at an offset, unless that is beyond the end.
#[inline]
pub fn set_field(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(field) = bytes.get_mut(at..at + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// Bytes of a TCP header without options.
pub const TCP_HEADER: usize = 20;
/// Where TCP keeps its checksum.
pub const TCP_CHECKSUM: usize = 16;
/// Bytes of a UDP header.
pub const UDP_HEADER: usize = 8;
/// Where UDP keeps its checksum; zero there is none.
pub const UDP_CHECKSUM: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_must_be_whole() {
        let mut tcp = [0; 24];
        tcp[..4].copy_from_slice(&[0x9c, 0x41, 0, 80]);
        tcp[12] = 0x60;
        tcp[13] = 0x12;
        assert_eq!(ports(&tcp), Some((40001, 80)));
        assert_eq!(tcp_flags(&tcp), Some(0x12));
        assert_eq!(tcp_flags(&tcp[..23]), None);
        tcp[12] = 0x40;
        assert_eq!(tcp_flags(&tcp), None);
        assert_eq!(ports(&tcp[..3]), None);
    }

    #[test]
    fn a_datagram_holds_what_it_says() {
        let datagram = |length| [0, 1, 0, 2, 0, length, 0, 0, 9, 9];
        assert!(udp_is_whole(&datagram(10)));
        assert!(udp_is_whole(&datagram(8)));
        assert!(!udp_is_whole(&datagram(11)));
        assert!(!udp_is_whole(&datagram(7)));
        assert!(!udp_is_whole(&datagram(8)[..7]));
    }

    #[test]
    fn a_port_is_changed_where_it_stands() {
        let mut header = [0x9c, 0x41, 0, 80, 0, 0, 0, 0];
        let change = set_port(&mut header, Port::Destination, 8080);
        assert_eq!(ports(&header), Some((40001, 8080)));
        assert_eq!(change, Change::word(80, 8080));
        assert_eq!(
            set_port(&mut header[..3], Port::Destination, 1),
            Change::default()
        );
    }
}
