//! Where things are in a frame: offsets and lengths in bytes, and the numbers that stand there.

/// Of an Ethernet header (IEEE 802.3), behind which IP begins.
pub(super) const ETHERNET: i32 = 14;
/// Of the EtherType in it.
pub(super) const ETHERTYPE: i32 = 12;
/// EtherType of IPv4.
pub(super) const TYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub(super) const TYPE_IPV6: u16 = 0x86dd;

// IPv4, RFC 791 section 3.1.
pub(super) const IPV4_HEADER: usize = 20;
pub(super) const IPV4_TOS: i16 = 1;
pub(super) const IPV4_TOTAL: i16 = 2;
pub(super) const IPV4_FRAGMENT: i16 = 6;
pub(super) const IPV4_PROTOCOL: i16 = 9;
pub(super) const IPV4_SOURCE: i16 = 12;
pub(super) const IPV4_DESTINATION: i16 = 16;
pub(super) const FRAGMENT_OFFSET: u16 = 0x1fff;
pub(super) const MORE_FRAGMENTS: u16 = 0x2000;
pub(super) const PROTOCOL_ICMP: i32 = 1;
pub(super) const PROTOCOL_IPIP: i32 = 4;
pub(super) const PROTOCOL_TCP: i32 = 6;
pub(super) const PROTOCOL_UDP: i32 = 17;
pub(super) const PROTOCOL_GRE: i32 = 47;
pub(super) const PROTOCOL_ESP: i32 = 50;
pub(super) const PROTOCOL_AH: i32 = 51;
pub(super) const PROTOCOL_SCTP: i32 = 132;

// IPv6, RFC 8200 section 3.
pub(super) const IPV6_HEADER: usize = 40;
/// The lower half of the traffic class, and what it is shifted by.
pub(super) const IPV6_CLASS: i16 = 1;
pub(super) const IPV6_CLASS_SHIFT: i32 = 4;
pub(super) const IPV6_PAYLOAD: i16 = 4;
pub(super) const IPV6_NEXT: i16 = 6;
pub(super) const IPV6_SOURCE: i16 = 8;
pub(super) const IPV6_DESTINATION: i16 = 24;
pub(super) const PROTOCOL_IPV6: i32 = 41;
pub(super) const PROTOCOL_FRAGMENT: i32 = 44;
pub(super) const PROTOCOL_ICMPV6: i32 = 58;

// TCP, RFC 9293 section 3.1.
pub(super) const TCP_HEADER: usize = 20;
pub(super) const TCP_DATA_OFFSET: i16 = 12;
pub(super) const TCP_FLAGS: i16 = 13;
pub(super) const TCP_CHECKSUM: i32 = 16;
pub(super) const TCP_SYN: i32 = 0x02;
pub(super) const OPTION_END: i32 = 0;
pub(super) const OPTION_NOTHING: i32 = 1;
pub(super) const OPTION_MSS: i32 = 2;
pub(super) const OPTION_MSS_LENGTH: i32 = 4;

// UDP, RFC 768.
pub(super) const UDP_HEADER: usize = 8;
pub(super) const UDP_DESTINATION: i16 = 2;
pub(super) const UDP_LENGTH: i16 = 4;

// Generic UDP encapsulation, draft-ietf-intarea-gue-09 section 3.1.
pub(super) const GUE_HEADER: usize = 4;
pub(super) const GUE_LENGTH: i32 = 0x1f;

// GRE, RFC 2784 section 2.1.
pub(super) const GRE_HEADER: usize = 4;
pub(super) const GRE_PROTOCOL: i16 = 2;
pub(super) const GRE_CHECKSUM: u16 = 0x8000;
pub(super) const GRE_CHECKSUM_BYTES: i32 = 4;
