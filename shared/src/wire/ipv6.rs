//! The fixed header of IPv6 (RFC 8200 section 3): a view over untrusted bytes.

/// A packet whose fixed header and payload length have been checked against the bytes there are.
#[derive(Debug, Clone, Copy)]
pub struct Packet<T>(T);

/// Why bytes are no IPv6 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Fewer bytes than the fixed header.
    Truncated,
    /// Another version.
    NotIpv6,
    /// The payload length is beyond the bytes there are.
    Length,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Checks what the kernel's `ip6_rcv_core` checks of the fixed header.
    ///
    /// # Errors
    /// What is wrong, the first thing that is.
    pub fn new_checked(bytes: T) -> Result<Packet<T>, Malformed> {
        let data = bytes.as_ref();
        if data.len() < HEADER {
            return Err(Malformed::Truncated);
        }
        if data[0] >> 4 != 6 {
            return Err(Malformed::NotIpv6);
        }
        let packet = Packet(bytes);
        if HEADER + usize::from(packet.payload_length()) > packet.0.as_ref().len() {
            return Err(Malformed::Length);
        }
        Ok(packet)
    }

    /// DSCP and ECN.
    pub fn traffic_class(&self) -> u8 {
        let bytes = self.0.as_ref();
        bytes[0] << 4 | bytes[1] >> 4
    }

    /// Bytes behind the fixed header.
    pub fn payload_length(&self) -> u16 {
        let bytes = self.0.as_ref();
        u16::from_be_bytes([bytes[4], bytes[5]])
    }

    /// What is behind the fixed header: an extension header or the payload's protocol.
    pub fn next_header(&self) -> u8 {
        self.0.as_ref()[6]
    }

    /// How many more routers may pass it on.
    pub fn hop_limit(&self) -> u8 {
        self.0.as_ref()[7]
    }

    /// Source address.
    pub fn source(&self) -> [u8; 16] {
        self.address(8)
    }

    /// Destination address.
    pub fn destination(&self) -> [u8; 16] {
        self.address(24)
    }

    /// Extension headers and payload.
    pub fn payload(&self) -> &[u8] {
        &self.0.as_ref()[HEADER..HEADER + usize::from(self.payload_length())]
    }

    fn address(&self, at: usize) -> [u8; 16] {
        let mut address = [0; 16];
        address.copy_from_slice(&self.0.as_ref()[at..at + 16]);
        address
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the source address. The transport checksum covers it.
    pub fn set_source(&mut self, address: [u8; 16]) {
        self.0.as_mut()[8..24].copy_from_slice(&address);
    }

    /// Sets the destination address. The transport checksum covers it.
    pub fn set_destination(&mut self, address: [u8; 16]) {
        self.0.as_mut()[24..40].copy_from_slice(&address);
    }

    /// One router less.
    pub fn decrement_hop_limit(&mut self) {
        let limit = &mut self.0.as_mut()[7];
        *limit = limit.wrapping_sub(1);
    }
}

/// Bytes of the fixed header.
pub const HEADER: usize = 40;

#[cfg(test)]
mod tests {
    use pnet_packet::ipv6::MutableIpv6Packet;

    use super::*;

    #[test]
    fn another_writer_agrees() {
        let mut bytes = vec![0; 43];
        let mut theirs = MutableIpv6Packet::new(&mut bytes).unwrap();
        theirs.set_version(6);
        theirs.set_traffic_class(0xb8);
        theirs.set_flow_label(0x54321);
        theirs.set_payload_length(3);
        theirs.set_hop_limit(64);
        theirs.set_next_header(pnet_packet::ip::IpNextHeaderProtocols::Udp);
        theirs.set_source("2001:db8::1".parse().unwrap());
        theirs.set_destination("2001:db8::2".parse().unwrap());
        let mut ours = Packet::new_checked(&mut bytes[..]).unwrap();
        assert_eq!(ours.source()[15], 1);
        ours.set_source([9; 16]);
        ours.decrement_hop_limit();
        let ours = Packet::new_checked(&bytes[..]).unwrap();
        assert_eq!((ours.traffic_class(), ours.payload_length()), (0xb8, 3));
        assert_eq!((ours.next_header(), ours.hop_limit()), (17, 63));
        assert_eq!((ours.source(), ours.destination()[15]), ([9; 16], 2));
        assert_eq!(ours.payload().len(), 3);
    }

    #[test]
    fn lies_are_named() {
        let mut bytes = [0; 42];
        bytes[0] = 0x60;
        assert!(Packet::new_checked(bytes).is_ok());
        assert_eq!(
            Packet::new_checked(&bytes[..39]).unwrap_err(),
            Malformed::Truncated
        );
        bytes[5] = 3;
        assert_eq!(Packet::new_checked(bytes).unwrap_err(), Malformed::Length);
        bytes[0] = 0x45;
        assert_eq!(Packet::new_checked(bytes).unwrap_err(), Malformed::NotIpv6);
    }
}
