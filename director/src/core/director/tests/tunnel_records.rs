//! What tunnels of the kernel did (6.1), replayed: the packets of a transfer to the byte, and the sizes,
//! headers and errors of `icmp/tun`.

use shared::addr::Addr;
use shared::wire::icmpv4;
use shared::wire::ipv4::{self, Packet};

use super::laboratory::*;
use crate::core::balancer::Settings;
use crate::core::director::{Director, Entropy};
use crate::core::net::{NetworkEvent, Port, Prefix};
use crate::core::operation::{ForwardMethod, Operation, ServerSpec, ServiceKey, ServiceSpec};
use crate::core::verdict::{Outbox, Outgoing};
use shared::addr::Protocol;

const VIP: [u8; 4] = [10, 2, 0, 100];
const CLIENT: [u8; 4] = [10, 2, 0, 10];
const SERVER: [u8; 4] = [10, 2, 0, 11];
const OWN: [u8; 4] = [10, 2, 0, 1];
const ROUTER: [u8; 4] = [10, 2, 0, 12];

/// The recording's network: all on one link.
fn director() -> Director {
    let entropy = Entropy {
        hash_key: [3, 5],
        identification: 100,
    };
    let mut director = Director::new(Settings::default(), entropy);
    let address = |address, length| NetworkEvent::Address {
        ifindex: 0,
        prefix: Prefix::new(Addr::from_v4_bytes(address), length),
    };
    let neighbour = |address, mac| NetworkEvent::Neighbour {
        ifindex: 0,
        address: Addr::from_v4_bytes(address),
        mac,
    };
    let port = Port {
        ifindex: 0,
        name: "eth0".to_owned(),
        mac: OUTSIDE_MAC,
        mtu: 1500,
        up: true,
    };
    for event in [
        NetworkEvent::Link(port),
        address(OWN, 24),
        address(VIP, 32),
        route([10, 2, 0, 0], 24, 0, None),
        neighbour(SERVER, SERVER_MAC),
        neighbour(CLIENT, CLIENT_MAC),
    ] {
        director.network_changed(event, &mut Outbox::default());
    }
    for (protocol, port) in [(Protocol::TCP, 80), (Protocol::UDP, 53)] {
        let key = ServiceKey::new(protocol, VIP, port);
        let server = ServerSpec::new(SERVER, port, ForwardMethod::Tunnel, 1);
        for operation in [
            Operation::AddService(ServiceSpec::new(key, "rr")),
            Operation::AddServer(key, server),
        ] {
            director.apply(NOW, &operation).unwrap();
        }
    }
    director
}

/// All packets that leave because of this one.
fn leaving(director: &mut Director, packet: &[u8]) -> Vec<Vec<u8>> {
    let out = from_client(director, packet);
    let mut all = Vec::new();
    if matches!(out.verdict, crate::core::verdict::Verdict::Forward(_)) {
        all.push(out.packet);
    }
    all.extend(out.outbox.into_iter().map(|outgoing| match outgoing {
        Outgoing::Transmit(_, frame) => frame[24..].to_vec(),
        Outgoing::Local(_) => panic!("nothing is the host's"),
    }));
    all
}

/// The IP packets of a capture file of Ethernet frames.
fn captured(file: &[u8]) -> Vec<&[u8]> {
    let mut rest = &file[24..];
    let mut packets = Vec::new();
    while let Some((record, behind)) = rest.split_at_checked(16) {
        let length = u32::from_le_bytes(*record[8..].first_chunk().unwrap()) as usize;
        packets.push(&behind[14..length]);
        rest = &behind[length..];
    }
    packets
}

#[test]
fn a_transfer_leaves_in_the_kernels_bytes() {
    let file = include_bytes!("../../../../tests/golden/pcap/tun_d_eth0.pcap");
    let mut director = director();
    let mut left = Vec::new();
    let mut compared = 0;
    for packet in captured(file) {
        let ip = Packet::new_checked(packet).unwrap();
        if ip.destination() == VIP {
            left.extend(leaving(&mut director, packet));
        } else {
            assert_eq!(left.remove(0), packet, "packet {compared}");
            compared += 1;
        }
    }
    assert_eq!((left.len(), compared), (0, 9));
}

/// A datagram of the recording, as it is described.
struct Datagram {
    port: u16,
    bytes: usize,
    fragile: bool,
    ttl: u8,
    tos: u8,
}

impl Datagram {
    fn packet(&self) -> Vec<u8> {
        let segment = Sketch {
            payload: vec![b'z'; self.bytes],
            ..udp((CLIENT, self.port), (VIP, 53))
        }
        .packet()[20..]
            .to_vec();
        let header = ipv4::Header {
            tos: self.tos,
            identification: 1,
            fragment: if self.fragile { ipv4::DF } else { 0 },
            ttl: self.ttl,
            protocol: 17,
            source: CLIENT,
            destination: VIP,
        };
        [&header.to_bytes(segment.len())[..], &segment].concat()
    }
}

/// The beginning of a segment between client and VIP, as the recorder quoted it.
fn quoted(from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Vec<u8> {
    let header = ipv4::Header {
        tos: 0,
        identification: 7,
        fragment: ipv4::DF,
        ttl: 63,
        protocol: 6,
        source: from.0,
        destination: to.0,
    };
    let ports = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    let header = header.to_bytes(1380);
    [&header[..], &ports, &1001_u32.to_be_bytes()].concat()
}

fn error(kind: u8, code: u8, from: [u8; 4], to: [u8; 4], about: &[u8]) -> Vec<u8> {
    let rest = if code == 4 { 1300 } else { 0 };
    let message = icmpv4::Error::Relayed { kind, code, rest }.message(about);
    let header = ipv4::Header {
        tos: 0,
        identification: 1,
        fragment: 0,
        ttl: 64,
        protocol: 1,
        source: from,
        destination: to,
    };
    [&header.to_bytes(message.len())[..], &message].concat()
}

/// As tcpdump writes it, but for the identification.
fn described(packet: &[u8]) -> String {
    let ip = Packet::new_checked(packet).unwrap();
    if ip.protocol() == 4 {
        let flags = match (ip.dont_fragment(), ip.more_fragments()) {
            (true, _) => "DF",
            (false, true) => "+",
            (false, false) => "none",
        };
        return format!(
            "tos {:#x}, ttl {}, offset {}, flags [{flags}], length {}",
            ip.tos(),
            ip.ttl(),
            ip.fragment_offset(),
            ip.total_length()
        );
    }
    assert_eq!((ip.source(), ip.destination()), (VIP, CLIENT));
    let message = ip.payload();
    let what = match (message[0], message[1]) {
        (3, 4) => {
            let mtu = icmpv4::next_mtu(message).unwrap();
            format!("10.2.0.100 unreachable - need to frag (mtu {mtu})")
        }
        (3, 1) => "host 10.2.0.100 unreachable".to_owned(),
        (11, 0) => "time exceeded in-transit".to_owned(),
        other => panic!("{other:?}"),
    };
    format!("ICMP {what}, length {}", message.len())
}

/// What a line of the recording says of a packet that the director sent; none of another line.
fn expected(line: &str) -> Option<String> {
    if let Some(header) = line.strip_prefix("| IP (") {
        let (header, _) = header.split_once(", proto IPIP (4), ")?;
        let (_, length) = line.split_once("proto IPIP (4), ")?;
        let (length, _) = length.split_once(')')?;
        let fields: Vec<&str> = header.split(", ").collect();
        let [tos, ttl, _, offset, flags] = fields[..] else {
            panic!("{line}")
        };
        return Some([tos, ttl, offset, flags, length].join(", "));
    }
    let said = line.strip_prefix("|     10.2.0.100 > 10.2.0.10: ")?;
    Some(said.to_owned())
}

#[test]
fn sizes_headers_and_errors_are_the_kernels() {
    let record = include_str!("../../../../tests/golden/icmp/tun.out");
    let (_, record) = record.split_once("# ==== tun: connection").unwrap();
    let (record, totals) = record.split_once("# ==== fragments").unwrap();
    let mut director = director();
    leaving(&mut director, &tcp((CLIENT, 6000), (VIP, 80), SYN).packet());
    let mut tos = 0;
    let mut datagram: Option<Datagram> = None;
    let mut packet = None;
    let mut fragile = true;
    let mut ours: Vec<String> = Vec::new();
    let mut compared = 0;
    for line in record.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["#", "====", "TOS", value] => {
                tos = u8::from_str_radix(value.trim_start_matches("0x"), 16).unwrap();
            }
            [
                "$",
                "ip",
                "route",
                verb @ ("add" | "del"),
                "10.2.0.11/32",
                ..,
            ] => {
                let NetworkEvent::Route(mut narrow) = route(SERVER, 32, 0, None) else {
                    unreachable!()
                };
                narrow.mtu = Some(1400);
                let event = match *verb {
                    "add" => NetworkEvent::Route(narrow),
                    _ => NetworkEvent::RouteGone(narrow),
                };
                director.network_changed(event, &mut Outbox::default());
            }
            // The director's memory is its own: what a router said is forgotten by time alone.
            ["$", "ip", "route", "flush", "cache"] => director.tunnels = Default::default(),
            ["$", "sysctl", "-w", setting] => {
                let (name, value) = setting.split_once('=').unwrap();
                let switch = Operation::SetSysctl {
                    name: name.rsplit('.').next().unwrap().to_owned(),
                    value: value.parse().unwrap(),
                };
                director.apply(NOW, &switch).unwrap();
            }
            [">", who, "sends", "ICMP", "type", kind, "code", code, ..] => {
                let (kind, code) = (kind.parse().unwrap(), code.parse().unwrap());
                packet = Some(if *who == "c" {
                    let about = quoted((VIP, 80), (CLIENT, 6000));
                    error(kind, code, CLIENT, VIP, &about)
                } else {
                    let outer = ipv4::Header {
                        tos: 0,
                        identification: 7,
                        fragment: ipv4::DF,
                        ttl: 63,
                        protocol: 4,
                        source: OWN,
                        destination: SERVER,
                    };
                    let inner = quoted((CLIENT, 6000), (VIP, 80));
                    let about = [&outer.to_bytes(1400)[..], &inner, &[0; 40]].concat();
                    error(kind, code, ROUTER, OWN, &about)
                });
            }
            [">", "c", "sends", "UDP", from, ">", _, bytes, _] => {
                datagram = Some(Datagram {
                    port: from.rsplit(':').next().unwrap().parse().unwrap(),
                    bytes: bytes.trim_start_matches('(').parse().unwrap(),
                    fragile: false,
                    ttl: 64,
                    tos,
                });
            }
            [">", "IP", "length", _, "DF", fragile, ..] => {
                datagram.as_mut().unwrap().fragile = *fragile == "1";
            }
            [">", "TTL", ttl] => datagram.as_mut().unwrap().ttl = ttl.parse().unwrap(),
            ["|", "---", "tcpdump", .., "c", "eth0"] => {
                fragile = datagram.as_ref().is_none_or(|datagram| datagram.fragile);
                let packet = packet.take().or_else(|| Some(datagram.take()?.packet()));
                let packets = leaving(&mut director, &packet.expect(line));
                ours.extend(packets.iter().map(|packet| described(packet)));
            }
            ["|"] | [] => {}
            _ => {
                let Some(mut theirs) = expected(line) else {
                    continue;
                };
                // The kernel goes by the path MTU that it had before it was told, and says the new one
                // with the client's next packet only.
                if compared == 1 {
                    theirs = theirs.replace("mtu 1480", "mtu 1280");
                }
                let ours = ours.remove(0);
                let outer_piece = theirs.contains("flags [+]") || !theirs.contains(", offset 0,");
                // What may be cut is cut here before it goes into the tunnel, and not after.
                if theirs.starts_with("tos") && outer_piece && !fragile {
                    assert!(ours.contains("offset 0, flags [none]"), "{line}: {ours}");
                } else {
                    assert_eq!(ours, theirs, "{line}");
                }
                compared += 1;
            }
        }
    }
    assert_eq!((ours.len(), compared), (0, 20));
    // Errors that leave count as replies would.
    for (protocol, port) in [("TCP", 80), ("UDP", 53)] {
        let listed = totals
            .lines()
            .find(|line| line.contains(&format!("{protocol}  10.2.0.100:{port}")));
        let words: Vec<&str> = listed.unwrap().split_whitespace().collect();
        let protocol = if port == 80 {
            Protocol::TCP
        } else {
            Protocol::UDP
        };
        let key = ServiceKey::new(protocol, VIP, port);
        let stats = director.balancer.service(&key).unwrap().stats;
        assert_eq!(stats.out_packets.to_string(), words[5]);
        assert_eq!(stats.out_bytes.to_string(), words[7]);
    }
}
