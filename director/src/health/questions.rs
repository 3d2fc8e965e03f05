//! Who has an address: asked and answered by ARP (RFC 826) for IPv4, and by neighbour discovery (RFC 4861) for IPv6.
//! Ethernet frames, as bytes.

use std::net::{IpAddr, Ipv4Addr};

use pnet_base::MacAddr;
use pnet_packet::arp::{ArpHardwareTypes, ArpOperations, ArpPacket, MutableArpPacket};
use pnet_packet::ethernet::EtherTypes;
use shared::addr::{Addr, Family};
use shared::wire::{ethernet, ndp};

use super::rivals::Question;
use crate::core::net::{Mac, Prefix};

/// The frame that asks, as a client would, on the interface with this Ethernet address and these addresses. None if
/// none of them can ask: a question of IPv6 by nobody would be one for duplicate addresses, which the host itself
/// would take for an alarm.
pub fn ask(question: &Question, mac: Mac, senders: &[Prefix]) -> Option<Vec<u8>> {
    let sender = sender(question.address, senders);
    match (question.address, sender) {
        (IpAddr::V4(address), sender) => {
            let sender = match sender {
                Some(IpAddr::V4(sender)) => sender,
                // RFC 5227, 2.1.1.
                _ => Ipv4Addr::UNSPECIFIED,
            };
            let arp = arp(mac, sender, address)?;
            Some(frame([0xff; 6], mac, ethernet::ARP, &arp))
        }
        (IpAddr::V6(address), Some(IpAddr::V6(sender))) => {
            let target = address.octets();
            let packet = ndp::solicitation(sender.octets(), target, mac.0);
            let group = ndp::group_mac(ndp::solicited_node(target));
            Some(frame(group, mac, ethernet::IPV6, &packet))
        }
        _ => None,
    }
}

/// Who asks: an address of the same network, else any of that family.
fn sender(address: IpAddr, senders: &[Prefix]) -> Option<IpAddr> {
    let family = Family::of(address);
    let senders = senders
        .iter()
        .filter(|prefix| prefix.address.family() == family);
    let near = |prefix: &&Prefix| prefix.contains(Addr::from(address));
    let sender = senders.clone().find(near).or(senders.clone().next());
    sender.map(|prefix| prefix.address.ip())
}

fn arp(mac: Mac, sender: Ipv4Addr, address: Ipv4Addr) -> Option<[u8; ARP_BYTES]> {
    let mut arp = [0; ARP_BYTES];
    let mut packet = MutableArpPacket::new(&mut arp)?;
    packet.set_hardware_type(ArpHardwareTypes::Ethernet);
    packet.set_protocol_type(EtherTypes::Ipv4);
    packet.set_hw_addr_len(6);
    packet.set_proto_addr_len(4);
    packet.set_operation(ArpOperations::Request);
    packet.set_sender_hw_addr(MacAddr::from(mac.0));
    packet.set_sender_proto_addr(sender);
    packet.set_target_proto_addr(address);
    Some(arp)
}

fn frame(destination: [u8; 6], source: Mac, ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let header = ethernet::Header {
        destination,
        source: source.0,
        ethertype,
    };
    [&header.to_bytes()[..], packet].concat()
}

/// What a frame answers: this host has this address. None if it is no answer.
pub fn answer(frame: &[u8]) -> Option<(Mac, IpAddr)> {
    let header = ethernet::Header::parse(frame)?;
    let packet = frame.get(ethernet::LENGTH..)?;
    match header.ethertype {
        ethernet::ARP => {
            let packet = ArpPacket::new(packet).filter(is_of_ipv4)?;
            let mac = Mac(packet.get_sender_hw_addr().octets());
            Some((mac, packet.get_sender_proto_addr().into()))
        }
        ethernet::IPV6 => {
            let answer = ndp::Advertisement::of(packet)?;
            let mac = Mac(answer.mac.unwrap_or(header.source));
            Some((mac, Addr::from_bytes(answer.target).ip()))
        }
        _ => None,
    }
}

fn is_of_ipv4(packet: &ArpPacket<'_>) -> bool {
    packet.get_operation() == ArpOperations::Reply
        && packet.get_protocol_type() == EtherTypes::Ipv4
        && (packet.get_hw_addr_len(), packet.get_proto_addr_len()) == (6, 4)
}

/// Bytes of the longest answer that is read: an advertisement has one option, or a few.
pub const MOST_BYTES: usize = 256;
/// For Ethernet and IPv4.
const ARP_BYTES: usize = 28;

#[cfg(test)]
mod tests {
    use shared::wire::{icmpv6, ipv6};

    use super::*;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 7]);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn asked(address: &str, senders: &[(&str, u8)]) -> Option<Vec<u8>> {
        let senders = senders.iter();
        let senders = senders.map(|(address, length)| Prefix::new(ip(address).into(), *length));
        let senders: Vec<Prefix> = senders.collect();
        let question = Question {
            ifindex: 7,
            address: ip(address),
        };
        ask(&question, OWN, &senders)
    }

    const SENDERS: [(&str, u8); 4] = [
        ("192.0.2.1", 24),
        ("fe80::1", 64),
        ("10.2.0.1", 24),
        ("2001:db8::1", 64),
    ];

    #[test]
    fn ipv4_is_asked_for_by_arp_from_the_same_network() {
        let sender = |senders: &[(&str, u8)]| {
            let frame = asked("10.2.0.100", senders).unwrap();
            let packet = ArpPacket::new(&frame[ethernet::LENGTH..]).unwrap();
            assert_eq!(packet.get_operation(), ArpOperations::Request);
            assert_eq!(packet.get_sender_hw_addr().octets(), OWN.0);
            assert_eq!(packet.get_target_proto_addr(), ip("10.2.0.100"));
            assert_eq!(frame[..14], [&[0xff; 6], &OWN.0[..], &[8, 6]].concat());
            packet.get_sender_proto_addr()
        };
        assert_eq!(sender(&SENDERS), ip("10.2.0.1"));
        assert_eq!(sender(&SENDERS[..2]), ip("192.0.2.1"));
        assert_eq!(sender(&SENDERS[1..2]), Ipv4Addr::UNSPECIFIED);
    }

    #[test]
    fn ipv6_is_asked_for_by_a_solicitation_and_never_by_nobody() {
        let frame = |senders| asked("2001:db8::64", senders);
        let IpAddr::V6(target) = ip("2001:db8::64") else {
            unreachable!()
        };
        for (senders, by) in [(&SENDERS[..], "2001:db8::1"), (&SENDERS[..2], "fe80::1")] {
            let IpAddr::V6(by) = ip(by) else {
                unreachable!()
            };
            let packet = ndp::solicitation(by.octets(), target.octets(), OWN.0);
            let header = [&[0x33, 0x33, 0xff, 0, 0, 0x64], &OWN.0[..], &[0x86, 0xdd]].concat();
            assert_eq!(frame(senders), Some([header, packet].concat()));
        }
        assert_eq!(frame(&SENDERS[..1]), None);
    }

    #[test]
    fn answers_of_both_families_are_read_and_questions_are_none() {
        let mut reply = asked("10.2.0.100", &SENDERS).unwrap();
        assert_eq!(answer(&reply), None);
        let mut arp = MutableArpPacket::new(&mut reply[ethernet::LENGTH..]).unwrap();
        arp.set_operation(ArpOperations::Reply);
        arp.set_sender_hw_addr(MacAddr::from(OTHER.0));
        assert_eq!(answer(&reply), Some((OTHER, ip("10.2.0.1"))));

        assert_eq!(answer(&asked("2001:db8::64", &SENDERS).unwrap()), None);
        let target = Addr::from(ip("2001:db8::64")).to_bytes();
        let advertised = |option: &[u8]| {
            let mut message = [&[ndp::ADVERTISEMENT, 0, 0, 0, 0x60, 0, 0, 0], &target[..]].concat();
            message.extend(option);
            icmpv6::recompute(&mut message, target, [9; 16]);
            let header = ipv6::Header {
                traffic_class: 0,
                next_header: ndp::ICMPV6,
                hop_limit: ndp::HOP_LIMIT,
                source: target,
                destination: [9; 16],
            };
            let packet = [&header.to_bytes(message.len())[..], &message].concat();
            answer(&frame(OWN.0, OTHER, ethernet::IPV6, &packet))
        };
        let address = ip("2001:db8::64");
        assert_eq!(advertised(&[]), Some((OTHER, address)));
        let third = Mac([2, 0, 0, 0, 0, 9]);
        let option = [&[2, 1], &third.0[..]].concat();
        assert_eq!(advertised(&option), Some((third, address)));
    }
}
