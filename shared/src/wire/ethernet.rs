//! Ethernet II headers (IEEE 802.3 clause 3; the types are IANA's).

/// Bytes of the header.
pub const LENGTH: usize = 14;
/// Type of IPv4.
pub const IPV4: u16 = 0x0800;
/// Type of ARP.
pub const ARP: u16 = 0x0806;
/// Type of IPv6.
pub const IPV6: u16 = 0x86dd;

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Who shall get the frame.
    pub destination: [u8; 6],
    /// Who sent it.
    pub source: [u8; 6],
    /// What is in it.
    pub ethertype: u16,
}

impl Header {
    /// From the first bytes of a frame; none if it is too short.
    #[inline]
    pub fn parse(frame: &[u8]) -> Option<Header> {
        let (header, _) = frame.split_first_chunk::<LENGTH>()?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *header;
        Some(Header {
            destination: [d0, d1, d2, d3, d4, d5],
            source: [s0, s1, s2, s3, s4, s5],
            ethertype: u16::from_be_bytes([t0, t1]),
        })
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..6].copy_from_slice(&self.destination);
        bytes[6..12].copy_from_slice(&self.source);
        bytes[12..].copy_from_slice(&self.ethertype.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_back() {
        let header = Header {
            destination: [1; 6],
            source: [2; 6],
            ethertype: IPV4,
        };
        assert_eq!(Header::parse(&header.to_bytes()), Some(header));
        assert_eq!(Header::parse(&header.to_bytes()[..13]), None);
    }
}
