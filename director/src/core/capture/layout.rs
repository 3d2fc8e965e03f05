//! Where things are: in a frame, and in a key of the kernel's map. Offsets in bytes.

/// Ethernet II (IEEE 802.3 clause 3).
pub(super) mod ethernet {
    pub(in super::super) const DESTINATION: usize = 0;
    pub(in super::super) const TYPE: usize = 12;
    pub(in super::super) const HEADER: usize = 14;
    pub(in super::super) const TYPE_IPV4: u16 = 0x0800;
    pub(in super::super) const TYPE_IPV6: u16 = 0x86dd;
}

/// IPv4 (RFC 791 section 3.1).
pub(super) mod ipv4 {
    /// Version 4 and a header of 5 words, up to a header of 15.
    pub(in super::super) const FIRST_BYTE: std::ops::RangeInclusive<u8> = 0x45..=0x4f;
    pub(in super::super) const HEADER: usize = 20;
    pub(in super::super) const FRAGMENT: usize = 6;
    pub(in super::super) const MORE_FRAGMENTS: u16 = 0x2000;
    pub(in super::super) const FRAGMENT_OFFSET: u16 = 0x1fff;
    pub(in super::super) const PROTOCOL: usize = 9;
    pub(in super::super) const SOURCE: usize = 12;
    pub(in super::super) const DESTINATION: usize = 16;
}

/// IPv6 (RFC 8200 section 3), and an extension header's first 8 bytes.
pub(super) mod ipv6 {
    pub(in super::super) const HEADER: usize = 40;
    pub(in super::super) const PAYLOAD_LENGTH: usize = 4;
    pub(in super::super) const NEXT_HEADER: usize = 6;
    pub(in super::super) const SOURCE: usize = 8;
    pub(in super::super) const DESTINATION: usize = 24;
    /// Of a link-local address: the first 10 bits.
    pub(in super::super) const LINK_LOCAL: u16 = 0xfe80;
    pub(in super::super) const LINK_LOCAL_MASK: u16 = 0xffc0;

    pub(in super::super) const EXTENSION: usize = 8;
    pub(in super::super) const EXTENSION_NEXT: usize = 0;
    pub(in super::super) const EXTENSION_LENGTH: usize = 1;
    pub(in super::super) const FRAGMENT: usize = 2;
    pub(in super::super) const SEGMENTS_LEFT: usize = 3;
}

/// ICMP (RFC 792), and its errors of IPv6 (RFC 4443).
pub(super) mod icmp {
    pub(in super::super) const HEADER: usize = 8;
    /// Destination unreachable, source quench, time exceeded: the messages that IPVS follows.
    pub(in super::super) const ERRORS: [u8; 3] = [3, 4, 11];
}

/// TCP, UDP and SCTP have both ports at the same place.
pub(super) mod ports {
    pub(in super::super) const SOURCE: usize = 0;
    pub(in super::super) const DESTINATION: usize = 2;
    pub(in super::super) const LENGTH: usize = 4;
}

/// A key of the map.
pub(super) mod key {
    pub(in super::super) const CLASS: usize = 0;
    pub(in super::super) const PROTOCOL: usize = 1;
    pub(in super::super) const PORT: usize = 2;
    pub(in super::super) const ADDRESS: usize = 4;
}
