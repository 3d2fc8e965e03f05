//! The header in front of each frame of an AF_PACKET socket with `PACKET_VNET_HDR` and of a TUN
//! device with `IFF_VNET_HDR` (`struct virtio_net_hdr`, virtio 1.2 section 5.1.6), native byte
//! order: what is still to be done to the frame's checksum and to its segments.

/// What precedes a frame. Offsets count from the first byte behind this header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VnetHeader {
    /// [`NEEDS_CSUM`], [`DATA_VALID`].
    pub flags: u8,
    /// 0: a frame of one segment.
    pub gso_type: u8,
    /// Bytes of all headers, for a frame of several segments; a hint.
    pub hdr_len: u16,
    /// Payload bytes of each segment.
    pub gso_size: u16,
    /// With [`NEEDS_CSUM`]: where summing begins.
    pub csum_start: u16,
    /// With [`NEEDS_CSUM`]: where the sum goes, from `csum_start`.
    pub csum_offset: u16,
}

/// The checksum field holds the pseudo header's sum; the rest is to be added.
pub const NEEDS_CSUM: u8 = 1;
/// Whoever received the frame has verified its checksum.
pub const DATA_VALID: u8 = 2;
/// Bytes of the header.
pub const LENGTH: usize = 10;

impl VnetHeader {
    /// From its bytes.
    #[inline]
    pub const fn from_bytes(bytes: [u8; LENGTH]) -> VnetHeader {
        let [flags, gso_type, a, b, c, d, e, f, g, h] = bytes;
        VnetHeader {
            flags,
            gso_type,
            hdr_len: u16::from_ne_bytes([a, b]),
            gso_size: u16::from_ne_bytes([c, d]),
            csum_start: u16::from_ne_bytes([e, f]),
            csum_offset: u16::from_ne_bytes([g, h]),
        }
    }

    /// Its bytes.
    pub const fn to_bytes(self) -> [u8; LENGTH] {
        let [a, b] = self.hdr_len.to_ne_bytes();
        let [c, d] = self.gso_size.to_ne_bytes();
        let [e, f] = self.csum_start.to_ne_bytes();
        let [g, h] = self.csum_offset.to_ne_bytes();
        [self.flags, self.gso_type, a, b, c, d, e, f, g, h]
    }

    /// Whether the transport checksum is still to be completed.
    #[inline]
    pub const fn is_partial(self) -> bool {
        self.flags & NEEDS_CSUM != 0
    }

    /// Whether the frame is of several segments.
    #[inline]
    pub const fn is_gso(self) -> bool {
        self.gso_type != 0
    }

    /// The same with `bytes` more (or less, negative) in front of the packet.
    pub const fn shifted(self, bytes: i16) -> VnetHeader {
        let mut header = self;
        if self.is_partial() {
            header.csum_start = self.csum_start.wrapping_add_signed(bytes);
        }
        if self.is_gso() {
            header.hdr_len = self.hdr_len.wrapping_add_signed(bytes);
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_back() {
        let header = VnetHeader {
            flags: NEEDS_CSUM,
            gso_type: 1,
            hdr_len: 66,
            gso_size: 1448,
            csum_start: 34,
            csum_offset: 16,
        };
        assert_eq!(VnetHeader::from_bytes(header.to_bytes()), header);
        let without_ethernet = header.shifted(-14);
        assert_eq!(
            (without_ethernet.csum_start, without_ethernet.hdr_len),
            (20, 52)
        );
        assert_eq!(without_ethernet.shifted(14), header);
        assert_eq!(VnetHeader::default().shifted(-14), VnetHeader::default());
    }
}
