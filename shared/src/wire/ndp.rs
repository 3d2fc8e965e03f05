//! Neighbour discovery (RFC 4861), as far as asking goes: who has an address, and who says that it does.

use super::{icmpv6, ipv6};

/// The packet that asks for the Ethernet address of `target` (section 4.3), in the name of `source`, an address of
/// the interface it leaves by whose Ethernet address is `mac`.
pub fn solicitation(source: [u8; 16], target: [u8; 16], mac: [u8; 6]) -> Vec<u8> {
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target);
    message.extend([SOURCE_LINK_LAYER, 1]);
    message.extend(mac);
    let destination = solicited_node(target);
    icmpv6::recompute(&mut message, source, destination);
    let header = ipv6::Header {
        traffic_class: 0,
        next_header: ICMPV6,
        hop_limit: HOP_LIMIT,
        source,
        destination,
    };
    [&header.to_bytes(message.len())[..], &message].concat()
}

/// The group that everybody who has `target` belongs to (RFC 4291 section 2.7.1).
pub fn solicited_node(target: [u8; 16]) -> [u8; 16] {
    let [.., a, b, c] = target;
    [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]
}

/// The Ethernet address of a group (RFC 2464 section 7).
pub fn group_mac(group: [u8; 16]) -> [u8; 6] {
    let [.., a, b, c, d] = group;
    [0x33, 0x33, a, b, c, d]
}

/// Somebody says that it has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertisement {
    /// The address.
    pub target: [u8; 16],
    /// Its Ethernet address; none if it is that of the frame.
    pub mac: Option<[u8; 6]>,
}

impl Advertisement {
    /// Of a packet. None if it is anything else, or not as section 7.1.2 wants it.
    pub fn of(packet: &[u8]) -> Option<Advertisement> {
        let header = ipv6::Packet::new_checked(packet).ok()?;
        if header.next_header() != ICMPV6 || header.hop_limit() != HOP_LIMIT {
            return None;
        }
        let message = packet.get(ipv6::HEADER..header.total_length())?;
        if !icmpv6::verifies(message, header.source(), header.destination()) {
            return None;
        }
        let (fixed, mut options) = message.split_first_chunk::<FIXED>()?;
        let [ADVERTISEMENT, 0, _, _, _, _, _, _, target @ ..] = *fixed else {
            return None;
        };
        let mut mac = None;
        while let [kind, words, ..] = *options {
            let (option, rest) = options.split_at_checked(usize::from(words) * 8)?;
            // One without a length would never end.
            let contents = option.get(2..)?;
            if kind == TARGET_LINK_LAYER {
                mac = contents.first_chunk().copied();
            }
            options = rest;
        }
        Some(Advertisement { target, mac })
    }
}

/// The type of a neighbour advertisement.
pub const ADVERTISEMENT: u8 = 136;
/// Of all packets of neighbour discovery: no router has passed them on.
pub const HOP_LIMIT: u8 = 255;
/// IANA's number of ICMPv6.
pub const ICMPV6: u8 = 58;

const SOLICITATION: u8 = 135;
/// Bytes in front of the options.
const FIXED: usize = 24;
/// Options (section 4.6.1).
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use pnet_packet::Packet as _;
    use pnet_packet::icmpv6::checksum;
    use pnet_packet::icmpv6::ndp::{
        MutableNeighborAdvertPacket, NdpOption, NdpOptionTypes, NeighborSolicitPacket,
    };
    use pnet_packet::icmpv6::{Icmpv6Packet, Icmpv6Types};
    use pnet_packet::ipv6::Ipv6Packet;
    use proptest::prelude::*;

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    #[test]
    fn another_reader_agrees_on_a_question() {
        let (source, target) = (ip("2001:db8::1"), ip("2001:db8::64:1234"));
        let packet = solicitation(source.octets(), target.octets(), MAC);
        let theirs = Ipv6Packet::new(&packet).unwrap();
        let group = ip("ff02::1:ff64:1234");
        assert_eq!(theirs.get_destination(), group);
        assert_eq!((theirs.get_source(), theirs.get_hop_limit()), (source, 255));
        let icmp = Icmpv6Packet::new(theirs.payload()).unwrap();
        assert_eq!(icmp.get_checksum(), checksum(&icmp, &source, &group));
        let question = NeighborSolicitPacket::new(theirs.payload()).unwrap();
        assert_eq!(question.get_icmpv6_type(), Icmpv6Types::NeighborSolicit);
        assert_eq!(question.get_target_addr(), target);
        let options = question.get_options();
        assert_eq!(options.len(), 1);
        assert_eq!(options[0].option_type, NdpOptionTypes::SourceLLAddr);
        assert_eq!((options[0].length, &options[0].data[..]), (1, &MAC[..]));
        let group_mac = group_mac(group.octets());
        assert_eq!(group_mac, [0x33, 0x33, 0xff, 0x64, 0x12, 0x34]);
    }

    /// By another writer.
    fn answer(with_option: bool) -> Vec<u8> {
        let (source, to) = (ip("2001:db8::7"), ip("2001:db8::1"));
        let mut message = vec![0; if with_option { 32 } else { 24 }];
        let mut advert = MutableNeighborAdvertPacket::new(&mut message).unwrap();
        advert.set_icmpv6_type(Icmpv6Types::NeighborAdvert);
        advert.set_flags(0x60);
        advert.set_target_addr(ip("2001:db8::100"));
        if with_option {
            let option = NdpOption {
                option_type: NdpOptionTypes::TargetLLAddr,
                length: 1,
                data: MAC.to_vec(),
            };
            advert.set_options(&[option]);
        }
        icmpv6::recompute(&mut message, source.octets(), to.octets());
        let header = ipv6::Header {
            traffic_class: 0,
            next_header: ICMPV6,
            hop_limit: 255,
            source: source.octets(),
            destination: to.octets(),
        };
        [&header.to_bytes(message.len())[..], &message].concat()
    }

    #[test]
    fn an_answer_is_read() {
        let target = ip("2001:db8::100").octets();
        let expected = Advertisement {
            target,
            mac: Some(MAC),
        };
        assert_eq!(Advertisement::of(&answer(true)), Some(expected));
        let bare = Advertisement { target, mac: None };
        assert_eq!(Advertisement::of(&answer(false)), Some(bare));
        // A card's padding is none of it.
        let padded = [&answer(false)[..], &[0; 9]].concat();
        assert_eq!(Advertisement::of(&padded), Some(bare));
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let question = solicitation([1; 16], [2; 16], MAC);
        assert_eq!(Advertisement::of(&question), None);
        let mut changes = vec![(7, 254), (40, 137), (41, 1), (60, 9)];
        // An option without a length, and one that is longer than the message.
        changes.extend([(65, 0), (65, 2)]);
        for (at, value) in changes {
            let mut packet = answer(true);
            packet[at] = value;
            if at != 60 {
                let (source, to) = (ip("2001:db8::7"), ip("2001:db8::1"));
                icmpv6::recompute(&mut packet[ipv6::HEADER..], source.octets(), to.octets());
            }
            assert_eq!(Advertisement::of(&packet), None, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(
            mut message in prop::collection::vec(any::<u8>(), 0..100), kind in any::<bool>(),
        ) {
            if let (Some(first), true) = (message.first_mut(), kind) {
                *first = ADVERTISEMENT;
            }
            icmpv6::recompute(&mut message, [1; 16], [2; 16]);
            let header = ipv6::Header {
                traffic_class: 0,
                next_header: ICMPV6,
                hop_limit: HOP_LIMIT,
                source: [1; 16],
                destination: [2; 16],
            };
            let packet = [&header.to_bytes(message.len())[..], &message].concat();
            let _ = Advertisement::of(&packet);
        }
    }
}
