//! What is taken of IPv6.

use super::*;
use shared::wire::icmpv4::Error;
use shared::wire::{icmpv6, ipv6};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const VIP: [u8; 16] = of(0x100);
const CLIENT: [u8; 16] = of(0x10);
const RIP: [u8; 16] = of(0x8);
const HOST: [u8; 16] = of(0x1);
const TCP: u8 = 6;
const UDP: u8 = 17;

const fn of(last: u16) -> [u8; 16] {
    let mut address = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    [address[14], address[15]] = last.to_be_bytes();
    address
}

/// TCP to the VIP's port 80, and replies from port 8080 of a real server, while marks of IPv4 are routed.
fn set() -> CaptureSet {
    let mut set = CaptureSet::default();
    let protocol = Protocol::TCP;
    for key in [
        CaptureKey::Service {
            protocol,
            address: Addr::from_bytes(VIP),
            port: 80,
        },
        CaptureKey::Reply {
            protocol,
            address: Addr::from_bytes(RIP),
            port: 8080,
        },
        CaptureKey::Local {
            address: Addr::from_bytes(VIP),
        },
        CaptureKey::Local {
            address: Addr::from_bytes(HOST),
        },
    ] {
        set.acquire(key);
    }
    set.acquire_mark(7, shared::addr::Family::V4);
    set
}

fn packet(next_header: u8, source: [u8; 16], destination: [u8; 16], payload: &[u8]) -> Vec<u8> {
    let header = ipv6::Header {
        traffic_class: 0,
        next_header,
        hop_limit: 64,
        source,
        destination,
    };
    [&header.to_bytes(payload.len())[..], payload].concat()
}

fn ports(from: u16, to: u16) -> Vec<u8> {
    [from.to_be_bytes(), to.to_be_bytes()].concat()
}

fn treated(packet: &[u8]) -> Treatment {
    treated_by(&set(), packet)
}

fn treated_by(set: &CaptureSet, packet: &[u8]) -> Treatment {
    let frame = [&MAC[..], &[2, 0, 0, 0, 0, 9], &[0x86, 0xdd], packet].concat();
    treat(&frame, MAC, set)
}

fn taken(packet: &[u8]) -> bool {
    treated(packet) == Treatment::Take
}

#[test]
fn packets_by_their_endpoints() {
    for (what, protocol, from, to, expected) in [
        ("to the service", TCP, (CLIENT, 4000), (VIP, 80), true),
        ("to another port", TCP, (CLIENT, 4000), (VIP, 81), false),
        ("by another protocol", UDP, (CLIENT, 4000), (VIP, 80), false),
        ("a reply", TCP, (RIP, 8080), (CLIENT, 4000), true),
        ("from another port", TCP, (RIP, 8081), (CLIENT, 4000), false),
        ("a reply to the host", TCP, (RIP, 8080), (HOST, 4000), false),
        ("from the VIP", TCP, (VIP, 80), (CLIENT, 4000), false),
    ] {
        let whole = packet(protocol, from.0, to.0, &ports(from.1, to.1));
        assert_eq!(taken(&whole), expected, "{what}");
        assert!(!taken(&whole[..43]), "{what}, truncated");
    }
}

#[test]
fn what_is_behind_extension_headers() {
    let chain = |kind: u8, header: [u8; 8]| {
        let header = [&[TCP], &header[1..], &ports(4000, 80)].concat();
        packet(kind, CLIENT, VIP, &header)
    };
    assert!(taken(&chain(ipv6::HOP_BY_HOP, [0; 8])));
    assert!(taken(&chain(ipv6::ROUTING, [0; 8])));
    let leads_on = [0, 0, 0, 1, 0, 0, 0, 0];
    assert!(!taken(&chain(ipv6::ROUTING, leads_on)));
    // The first part and another: all of the datagram is taken, whatever its ports are.
    for field in [1, 8, 9] {
        assert!(taken(&chain(ipv6::FRAGMENT, [0, 0, 0, field, 0, 0, 0, 1])));
    }
}

/// While there are marks of IPv6, the host routes what is to services, and fragments that may be marked are copied.
#[test]
fn what_marks_lead() {
    let mut marked = set();
    marked.acquire_mark(7, shared::addr::Family::V6);
    let later = [TCP, 0, 0, 8, 0, 0, 0, 1, 9, 9];
    let elsewhere = of(0x200);
    for (to, unmarked, expected) in [
        (HOST, Treatment::Leave, Treatment::Copy),
        (VIP, Treatment::Take, Treatment::Leave),
        (elsewhere, Treatment::Leave, Treatment::Copy),
    ] {
        let fragment = packet(ipv6::FRAGMENT, CLIENT, to, &later);
        assert_eq!(treated(&fragment), unmarked, "{to:?}");
        assert_eq!(treated_by(&marked, &fragment), expected, "{to:?}");
    }
    let request = packet(TCP, CLIENT, VIP, &ports(4000, 80));
    assert_eq!(treated_by(&marked, &request), Treatment::Leave);
    let error = |to| {
        let too_big = Error::FragmentationNeeded { mtu: 1280 };
        let about = packet(TCP, CLIENT, elsewhere, &ports(4000, 80));
        let message = icmpv6::message(too_big, of(0xffff), to, &about);
        packet(58, of(0xffff), to, &message)
    };
    assert_eq!(treated(&error(CLIENT)), Treatment::Leave);
    assert_eq!(treated_by(&marked, &error(CLIENT)), Treatment::Take);
    let mut link_local = HOST;
    link_local[..2].copy_from_slice(&[0xfe, 0x80]);
    let to_link = treated_by(&marked, &error(link_local));
    assert_eq!(to_link, Treatment::Leave, "only its own link knows it");
}

#[test]
fn what_is_the_hosts_by_itself() {
    let mut jumbogram = packet(TCP, CLIENT, VIP, &ports(4000, 80));
    jumbogram[4..6].fill(0);
    assert!(!taken(&jumbogram));
    let mut link_local = CLIENT;
    link_local[..2].copy_from_slice(&[0xfe, 0x80]);
    assert!(!taken(&packet(TCP, link_local, VIP, &ports(4000, 80))));
    for kind in [128, 133, 135, 136] {
        assert!(!taken(&packet(
            58,
            CLIENT,
            VIP,
            &[kind, 0, 0, 0, 0, 0, 0, 0]
        )));
    }
}

#[test]
fn errors_by_what_they_are_about() {
    let error = |to: [u8; 16], about: &[u8]| {
        let mut router = of(0xffff);
        router[..2].copy_from_slice(&[0xfe, 0x80]);
        let too_big = Error::FragmentationNeeded { mtu: 1280 };
        let message = icmpv6::message(too_big, router, to, about);
        taken(&packet(58, router, to, &message))
    };
    let reply = packet(TCP, VIP, CLIENT, &ports(80, 4000));
    let request = packet(TCP, CLIENT, RIP, &ports(4000, 8080));
    assert!(error(VIP, &reply));
    assert!(error(CLIENT, &request));
    assert!(!error(HOST, &request), "about the host's own check");
    assert!(!error(VIP, &reply[..43]));
    let swapped = packet(TCP, CLIENT, VIP, &ports(4000, 80));
    assert!(!error(VIP, &swapped), "about a request");
}
