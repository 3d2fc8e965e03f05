//! Every view of `shared::wire` over the same bytes: none reads beyond them, and what one writes is
//! what another reads.
//!
//! The first byte chooses values to write, the rest is the packet.

use shared::wire::checksum::{self, Change};
use shared::wire::icmpv4::{self, Error};
use shared::wire::sctp;
use shared::wire::transport::{self, Port};
use shared::wire::vnet::{self, VnetHeader};
use shared::wire::{ethernet, ipv4, ipv6};

/// Everything at once: each view is cheap.
pub fn run(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else {
        return;
    };
    ethernet_header(bytes);
    virtio_header(choice, bytes);
    sums(choice, bytes);
    transport_header(choice, bytes);
    sctp_packet(choice, bytes);
    icmp_message(choice, bytes);
    ipv4_packet(choice, bytes);
    ipv6_packet(choice, bytes);
}

fn ethernet_header(bytes: &[u8]) {
    match ethernet::Header::parse(bytes) {
        Some(header) => assert_eq!(header.to_bytes(), bytes[..ethernet::LENGTH]),
        None => assert!(bytes.len() < ethernet::LENGTH),
    }
}

fn virtio_header(choice: u8, bytes: &[u8]) {
    let Some(first) = bytes.first_chunk::<{ vnet::LENGTH }>() else {
        return;
    };
    let header = VnetHeader::from_bytes(*first);
    assert_eq!(header.to_bytes(), *first);
    let by = i16::from(choice as i8);
    assert_eq!(header.shifted(by).shifted(-by), header);
}

fn sums(choice: u8, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
    let whole = checksum::fold(checksum::sum(bytes, 0));
    let cut = usize::from(choice).min(bytes.len()) & !1;
    let (head, tail) = bytes.split_at(cut);
    let added = checksum::fold(checksum::sum(tail, checksum::sum(head, 0)));
    assert_eq!(whole % 0xffff, added % 0xffff, "sums of pieces add up");
    assert_eq!(checksum::checksum(bytes), !whole);
    assert_eq!(checksum::verifies(bytes), whole == 0xffff);

    // A change that is undone is none.
    if let [a, b, c, d, e, f, g, h, ..] = *bytes {
        let (old, new) = ([a, b, c, d], [e, f, g, h]);
        let field = u16::from_be_bytes([a, h]);
        let (there, back) = (Change::quad(old, new), Change::quad(new, old));
        let undone = back.complete(there.complete(field));
        assert_eq!(undone % 0xffff, field % 0xffff);
        let undone = back.partial(there.partial(field));
        assert_eq!(undone % 0xffff, field % 0xffff);
        let both = there.and(back).complete(field);
        assert_eq!(both % 0xffff, field % 0xffff);
    }
}

fn transport_header(choice: u8, bytes: &[u8]) {
    let ports = transport::ports(bytes);
    assert_eq!(ports.is_some(), bytes.len() >= 4);
    if transport::tcp_flags(bytes).is_some() {
        assert!(bytes.len() >= transport::TCP_HEADER);
    }
    if transport::udp_is_whole(bytes) {
        let length = transport::field(bytes, 4).expect("it is whole");
        assert!((transport::UDP_HEADER..=bytes.len()).contains(&usize::from(length)));
    }
    let at = usize::from(choice);
    let mut copy = bytes.to_vec();
    transport::set_field(&mut copy, at, 0x1234);
    let there = transport::field(bytes, at).is_some();
    assert_eq!(transport::field(&copy, at), there.then_some(0x1234));
    for which in [Port::Source, Port::Destination] {
        let mut copy = bytes.to_vec();
        let before = checksum::checksum(bytes);
        let change = transport::set_port(&mut copy, which, 8080);
        let updated = change.complete(before);
        assert_eq!(updated % 0xffff, checksum::checksum(&copy) % 0xffff);
        if let (Some(old), Some(new)) = (ports, transport::ports(&copy)) {
            let expected = match which {
                Port::Source => (8080, old.1),
                Port::Destination => (old.0, 8080),
            };
            assert_eq!(new, expected);
        }
    }
}

fn sctp_packet(choice: u8, bytes: &[u8]) {
    let chunks = sctp::ChunkTypes::of(bytes).map_or(0, Iterator::count);
    assert!(chunks * 4 + sctp::HEADER <= bytes.len().max(sctp::HEADER));
    if bytes.len() < sctp::HEADER {
        assert!(chunks == 0 && !sctp::verifies(bytes));
        return;
    }
    let mut sound = bytes.to_vec();
    sctp::sum_up(&mut sound);
    sctp::set_ports(&mut sound, Some(u16::from(choice)), None);
    assert!(sctp::verifies(&sound));
}

fn icmp_message(choice: u8, bytes: &[u8]) {
    if icmpv4::next_mtu(bytes).is_some() {
        assert!(icmpv4::is_error(bytes));
    }
    let mut copy = bytes.to_vec();
    icmpv4::recompute(&mut copy);
    if copy.len() >= icmpv4::HEADER && copy.len() <= usize::from(u16::MAX) {
        assert!(checksum::verifies(&copy) || copy.iter().all(|&byte| byte == 0xff));
    }
    let error = match choice % 3 {
        0 => Error::PortUnreachable,
        1 => Error::TimeExceeded,
        _ => Error::FragmentationNeeded {
            mtu: u16::from(choice) << 4,
        },
    };
    let quoted = &bytes[..bytes.len().min(1500)];
    let message = error.message(quoted);
    assert!(icmpv4::is_error(&message) && checksum::verifies(&message));
    assert_eq!(message[icmpv4::HEADER..], *quoted);
    let mtu = match error {
        Error::FragmentationNeeded { mtu } => Some(mtu),
        _ => None,
    };
    assert_eq!(icmpv4::next_mtu(&message), mtu);
}

fn ipv4_packet(choice: u8, bytes: &[u8]) {
    let checked = ipv4::Packet::new_checked(bytes);
    let Ok(lenient) = ipv4::Packet::new_lenient(bytes) else {
        assert!(
            checked.is_err(),
            "the strict view takes what the lenient does not"
        );
        return;
    };
    assert_eq!(
        lenient.header_length() + lenient.rest().len(),
        bytes.len(),
        "header and rest are the whole"
    );
    assert!(lenient.rest().starts_with(lenient.payload()));
    assert_eq!(
        lenient.is_fragment(),
        lenient.more_fragments() || lenient.fragment_offset() != 0
    );
    let mut copy = bytes.to_vec();
    let mut written = ipv4::Packet::new_lenient(&mut copy[..]).expect("it was one before");
    written.set_source([10, 0, 0, choice]);
    written.set_destination([10, 1, choice, 1]);
    written.decrement_ttl();
    assert_eq!(written.source(), [10, 0, 0, choice]);
    assert_eq!(written.destination(), [10, 1, choice, 1]);
    assert_eq!(written.ttl(), lenient.ttl().wrapping_sub(1));
    assert_eq!(written.payload_mut(), lenient.payload());
    assert_eq!(written.rest_mut(), lenient.rest());
    if let Ok(packet) = checked {
        assert_eq!(
            packet.header_length() + packet.payload().len(),
            usize::from(packet.total_length())
        );
        let after = ipv4::Packet::new_checked(&copy[..]);
        assert!(after.is_ok(), "a sound packet is sound after every change");
    }

    let header = ipv4::Header {
        tos: lenient.tos(),
        identification: lenient.identification(),
        fragment: transport::field(bytes, 6).expect("a whole header"),
        ttl: lenient.ttl(),
        protocol: lenient.protocol(),
        source: lenient.source(),
        destination: lenient.destination(),
    };
    let payload = lenient.payload();
    let again = [&header.to_bytes(payload.len())[..], payload].concat();
    let again = ipv4::Packet::new_checked(&again[..]).expect("what is built is sound");
    assert_eq!(again.payload(), payload);
    assert_eq!(again.tos(), lenient.tos());
    assert_eq!(again.identification(), lenient.identification());
    assert_eq!(again.dont_fragment(), lenient.dont_fragment());
    assert_eq!(again.fragment_offset(), lenient.fragment_offset());
    assert_eq!(again.protocol(), lenient.protocol());
    assert_eq!(again.source(), lenient.source());
}

fn ipv6_packet(choice: u8, bytes: &[u8]) {
    let Ok(packet) = ipv6::Packet::new_checked(bytes) else {
        return;
    };
    assert!(packet.total_length() <= bytes.len(), "the packet is whole");
    let whole = ipv6::Packet::new_checked(&bytes[..packet.total_length()]).expect("it is one");
    if let Ok(chain) = whole.chain() {
        assert!(
            chain.at >= ipv6::HEADER && chain.at <= ipv6::HEADER + 2048 * ipv6::MOST_EXTENSIONS
        );
        let in_pieces = chain
            .piece
            .is_none_or(|piece| piece.more || piece.offset != 0);
        assert!(in_pieces, "a whole packet is no piece");
    }
    let mut copy = bytes.to_vec();
    let mut edit = ipv6::Edit::new(&mut copy).expect("it was one before");
    edit.set_source([choice; 16]);
    edit.set_destination([!choice; 16]);
    edit.decrement_hop_limit();
    let written = ipv6::Packet::new_checked(&copy[..]).expect("it was one before");
    assert_eq!(written.source(), [choice; 16]);
    assert_eq!(written.destination(), [!choice; 16]);
    assert_eq!(written.hop_limit(), packet.hop_limit().wrapping_sub(1));
    assert_eq!(written.traffic_class(), packet.traffic_class());
    assert_eq!(written.next_header(), packet.next_header());
    assert_eq!(copy[ipv6::HEADER..], bytes[ipv6::HEADER..]);
}
