//! Whether the capture takes a frame, as a pure function.

use shared::addr::{Addr, Protocol};
use shared::wire::icmpv6;
use shared::wire::ipv6::Packet;

use super::layout::{ethernet, icmp, ipv4, ipv6, ports};
use super::questions::{
    CLIENT, FRAGMENT, Found, ICMP_ERROR, OWN, Question, Transport, WITH_PORTS, Whose,
};
use super::{CaptureKey, CaptureSet, Class};

/// Whether the capture takes `frame`, which begins with its Ethernet header and was received by a
/// port with the address `port_mac`. `false`: it goes to the host.
///
/// Only IPv4 and IPv6 to that very MAC is taken. A tagged frame belongs to its VLAN device. An ICMP error
/// is taken when it is not about a later fragment.
pub fn takes(frame: &[u8], port_mac: [u8; 6], set: &CaptureSet) -> bool {
    treat(frame, port_mac, set) == Treatment::Take
}

/// What the capture does with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It is the host's.
    Leave,
    /// It is the director's.
    Take,
    /// It is the host's, and the director gets a copy.
    Copy,
}

/// What the capture does with `frame`. See [`takes`].
pub fn treat(frame: &[u8], port_mac: [u8; 6], set: &CaptureSet) -> Treatment {
    if bytes(frame, ethernet::DESTINATION) != Some(port_mac) {
        return Treatment::Leave;
    }
    let packet = frame.get(ethernet::HEADER..);
    let asked = match half(frame, ethernet::TYPE) {
        Some(ethernet::TYPE_IPV4) => packet.and_then(ipv4_subject),
        Some(ethernet::TYPE_IPV6) => packet.and_then(ipv6_subject),
        _ => None,
    };
    let Some((subject, questions)) = asked else {
        return Treatment::Leave;
    };
    let answers = questions
        .iter()
        .filter(|question| set.contains(subject.key(question)));
    let decided = answers
        .map(|question| question.found)
        .find(|found| *found != Found::TakeIfOwn || set.contains(subject.key(&OWN)));
    match decided {
        Some(Found::Take | Found::TakeIfOwn) => Treatment::Take,
        Some(Found::Copy) => Treatment::Copy,
        Some(Found::LeaveUnlessClient) if set.contains(subject.key(&CLIENT)) => Treatment::Take,
        Some(Found::Leave | Found::LeaveUnlessClient) | None => Treatment::Leave,
    }
}

/// What the questions are about.
struct Subject {
    protocol: Protocol,
    to: (Addr, u16),
    from: (Addr, u16),
    host: Addr,
}

impl Subject {
    fn key(&self, question: &Question) -> CaptureKey {
        let address = match question.address {
            Whose::To => self.to.0,
            Whose::From => self.from.0,
            Whose::Host => self.host,
            Whose::Nobody => Addr::unspecified(self.host.family()),
        };
        let port = match question.transport {
            Transport::None | Transport::AnyPort => 0,
            Transport::ToPort => self.to.1,
            Transport::FromPort => self.from.1,
        };
        let protocol = self.protocol;
        match question.class {
            Class::Service => CaptureKey::Service {
                protocol,
                address,
                port,
            },
            Class::Reply => CaptureKey::Reply {
                protocol,
                address,
                port,
            },
            Class::ServiceFragments => CaptureKey::ServiceFragments { address },
            Class::ReplyFragments => CaptureKey::ReplyFragments { address },
            Class::Local => CaptureKey::Local { address },
            Class::RoutedFragments => CaptureKey::RoutedFragments { address },
            Class::LocalFragments => CaptureKey::LocalFragments { address },
            Class::Marks => CaptureKey::Marks {
                family: address.family(),
            },
            Class::Tunnel => CaptureKey::Tunnel {
                protocol,
                address,
                port,
            },
            Class::Client => CaptureKey::Client {
                protocol,
                address,
                port,
            },
        }
    }
}

/// What an IPv4 packet is asked about. `None`: nothing, it is the host's.
fn ipv4_subject(packet: &[u8]) -> Option<(Subject, &'static [Question])> {
    let header = Ipv4::parse(packet)?;
    if header.fragment & (ipv4::FRAGMENT_OFFSET | ipv4::MORE_FRAGMENTS) != 0 {
        // The whole header must be there, as it must for the ports of other packets.
        packet.get(..header.length)?;
        let subject = Subject {
            protocol: header.protocol,
            to: (header.destination, 0),
            from: (header.source, 0),
            host: header.destination,
        };
        return Some((subject, &FRAGMENT));
    }
    let payload = packet.get(header.length..)?;
    if header.protocol == Protocol::ICMP {
        let subject = icmp_subject(payload, header.destination)?;
        return Some((subject, &ICMP_ERROR));
    }
    let subject = Subject {
        protocol: header.protocol,
        to: (header.destination, half(payload, ports::DESTINATION)?),
        from: (header.source, half(payload, ports::SOURCE)?),
        host: header.destination,
    };
    Some((subject, &WITH_PORTS))
}

/// What an ICMP error is asked about.
fn icmp_subject(message: &[u8], host: Addr) -> Option<Subject> {
    if !icmp::ERRORS.contains(message.first()?) {
        return None;
    }
    let embedded = message.get(icmp::HEADER..)?;
    let header = Ipv4::parse(embedded)?;
    if header.fragment & ipv4::FRAGMENT_OFFSET != 0 {
        return None;
    }
    let payload = embedded.get(header.length..)?;
    let destination_port = half(payload, ports::DESTINATION)?;
    Some(Subject {
        protocol: header.protocol,
        to: (header.source, half(payload, ports::SOURCE)?),
        from: (header.destination, destination_port),
        host,
    })
}

/// What an IPv6 packet is asked about. `None`: nothing, it is the host's. So are jumbograms, what is still to be
/// routed by its header, and what has more extension headers than anybody needs.
fn ipv6_subject(packet: &[u8]) -> Option<(Subject, &'static [Question])> {
    let header = Packet::new_lenient(packet).ok()?;
    if header.payload_length() == 0 {
        return None;
    }
    let (source, destination) = (
        Addr::from_bytes(header.source()),
        Addr::from_bytes(header.destination()),
    );
    let chain = header.chain().ok()?;
    if chain.piece.is_some() {
        let subject = Subject {
            protocol: Protocol(chain.protocol),
            to: (destination, 0),
            from: (source, 0),
            host: destination,
        };
        return Some((subject, &FRAGMENT));
    }
    let payload = packet.get(chain.at..)?;
    let is_error = chain.protocol == Protocol::ICMPV6.0;
    // A router does not forward what is from such an address, and what an error to one is about stays on its
    // link too.
    let end = if is_error {
        header.destination()
    } else {
        header.source()
    };
    if half(&end, 0)? & ipv6::LINK_LOCAL_MASK == ipv6::LINK_LOCAL {
        return None;
    }
    if is_error {
        let subject = icmpv6_subject(payload, destination)?;
        return Some((subject, &ICMP_ERROR));
    }
    let subject = Subject {
        protocol: Protocol(chain.protocol),
        to: (destination, half(payload, ports::DESTINATION)?),
        from: (source, half(payload, ports::SOURCE)?),
        host: destination,
    };
    Some((subject, &WITH_PORTS))
}

/// What an ICMPv6 error is asked about.
fn icmpv6_subject(message: &[u8], host: Addr) -> Option<Subject> {
    if !icmpv6::is_error(message) {
        return None;
    }
    let embedded = message.get(icmp::HEADER..)?;
    let header = Packet::new_lenient(embedded).ok()?;
    let chain = header.chain().ok()?;
    if chain.piece.is_some_and(|piece| piece.offset != 0) {
        return None;
    }
    let payload = embedded.get(chain.at..)?;
    let destination_port = half(payload, ports::DESTINATION)?;
    Some(Subject {
        protocol: Protocol(chain.protocol),
        to: (
            Addr::from_bytes(header.source()),
            half(payload, ports::SOURCE)?,
        ),
        from: (Addr::from_bytes(header.destination()), destination_port),
        host,
    })
}

struct Ipv4 {
    length: usize,
    fragment: u16,
    protocol: Protocol,
    source: Addr,
    destination: Addr,
}

impl Ipv4 {
    /// The header without its options, which need not be there.
    fn parse(packet: &[u8]) -> Option<Ipv4> {
        let header: &[u8; ipv4::HEADER] = packet.first_chunk()?;
        ipv4::FIRST_BYTE.contains(&header[0]).then_some(())?;
        Some(Ipv4 {
            length: usize::from(header[0] & 0x0f) * 4,
            fragment: half(header, ipv4::FRAGMENT)?,
            protocol: Protocol(header[ipv4::PROTOCOL]),
            source: Addr::from_v4_bytes(bytes(header, ipv4::SOURCE)?),
            destination: Addr::from_v4_bytes(bytes(header, ipv4::DESTINATION)?),
        })
    }
}

fn half(from: &[u8], at: usize) -> Option<u16> {
    bytes(from, at).map(u16::from_be_bytes)
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod ipv6_tests;
#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const VIP: [u8; 4] = [192, 0, 2, 1];
    const CLIENT: [u8; 4] = [198, 51, 100, 7];
    const RIP: [u8; 4] = [10, 0, 0, 8];
    const HOST: [u8; 4] = [10, 0, 0, 1];
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    const ICMP: u8 = 1;

    /// TCP to the VIP's port 80, UDP to any port of it, replies from port 8080 of a real server.
    fn set() -> CaptureSet {
        let mut set = CaptureSet::default();
        let address = Addr::from_v4_bytes;
        set.acquire(CaptureKey::Service {
            protocol: Protocol::TCP,
            address: address(VIP),
            port: 80,
        });
        set.acquire(CaptureKey::Service {
            protocol: Protocol::UDP,
            address: address(VIP),
            port: 0,
        });
        set.acquire(CaptureKey::Reply {
            protocol: Protocol::TCP,
            address: address(RIP),
            port: 8080,
        });
        for (protocol, port) in [(Protocol(4), 0), (Protocol::UDP, 6080)] {
            set.acquire(CaptureKey::Tunnel {
                protocol,
                address: address(RIP),
                port,
            });
        }
        for local in [VIP, HOST] {
            set.acquire(CaptureKey::Local {
                address: address(local),
            });
        }
        set
    }

    fn ipv4(protocol: u8, fragment: u16, from: [u8; 4], to: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0];
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, protocol, 0, 0]);
        packet.extend(from);
        packet.extend(to);
        packet.extend(payload);
        packet
    }

    fn with_options(mut packet: Vec<u8>) -> Vec<u8> {
        packet[0] = 0x46;
        packet.splice(20..20, [1, 1, 1, 0]);
        packet
    }

    fn ports(from: u16, to: u16) -> Vec<u8> {
        [from.to_be_bytes(), to.to_be_bytes()].concat()
    }

    fn error(kind: u8, about: &[u8]) -> Vec<u8> {
        [&[kind, 0, 0, 0, 0, 0, 0, 0], about].concat()
    }

    fn ethernet(to: [u8; 6], kind: u16, packet: &[u8]) -> Vec<u8> {
        [&to[..], &[2, 0, 0, 0, 0, 9], &kind.to_be_bytes(), packet].concat()
    }

    fn taken(packet: &[u8]) -> bool {
        takes(&ethernet(MAC, 0x0800, packet), MAC, &set())
    }

    #[test]
    fn packets_by_their_endpoints() {
        let cases = [
            ("to the service", TCP, CLIENT, 4000, VIP, 80, true),
            ("to another port", TCP, CLIENT, 4000, VIP, 81, false),
            ("of another protocol", UDP, CLIENT, 80, HOST, 80, false),
            (
                "to a service on every port",
                UDP,
                CLIENT,
                4000,
                VIP,
                9,
                true,
            ),
            ("to another address", TCP, CLIENT, 4000, HOST, 80, false),
            ("a reply", TCP, RIP, 8080, CLIENT, 4000, true),
            ("from another port", TCP, RIP, 8081, CLIENT, 4000, false),
            (
                "a reply to the host itself",
                TCP,
                RIP,
                8080,
                HOST,
                4000,
                false,
            ),
            ("a server as a client", TCP, RIP, 8080, VIP, 80, true),
            ("from the VIP", TCP, VIP, 80, CLIENT, 4000, false),
        ];
        for (what, protocol, from, from_port, to, to_port, expected) in cases {
            let packet = ipv4(protocol, 0x4000, from, to, &ports(from_port, to_port));
            assert_eq!(taken(&packet), expected, "{what}");
            assert_eq!(taken(&with_options(packet.clone())), expected, "{what}");
            assert!(!taken(&packet[..23]), "{what}, truncated");
        }
    }

    #[test]
    fn frames_that_are_not_for_the_port_or_not_ipv4() {
        let packet = ipv4(TCP, 0, CLIENT, VIP, &ports(4000, 80));
        let takes = |mac, kind, packet: &[u8]| takes(&ethernet(mac, kind, packet), MAC, &set());
        assert!(takes(MAC, 0x0800, &packet));
        assert!(!takes([2, 0, 0, 0, 0, 2], 0x0800, &packet));
        assert!(!takes([0xff; 6], 0x0800, &packet));
        for kind in [0x86dd, 0x8100, 0x0806, 46] {
            assert!(!takes(MAC, kind, &packet), "{kind:x}");
        }
        for first in [0x35, 0x44, 0x55, 0x65] {
            let mut packet = packet.clone();
            packet[0] = first;
            assert!(!takes(MAC, 0x0800, &packet), "{first:x}");
        }
        for length in 0..packet.len() {
            assert!(!takes(MAC, 0x0800, &packet[..length]));
        }
    }

    #[test]
    fn fragments() {
        let first = ipv4(TCP, 0x2000, CLIENT, VIP, &ports(4000, 80));
        assert!(taken(&first));
        // Of another port: its later ones will be taken, and must find out that it is the host's.
        let first = ipv4(TCP, 0x2000, CLIENT, VIP, &ports(4000, 81));
        assert!(taken(&first));
        let later = |from, to| ipv4(TCP, 0x0001, from, to, &[]);
        assert!(taken(&later(CLIENT, VIP)));
        assert!(taken(&later(RIP, CLIENT)));
        assert!(!taken(&later(RIP, HOST)));
        assert!(!taken(&later(CLIENT, HOST)));
        let long = with_options(later(CLIENT, VIP));
        assert!(taken(&long));
        assert!(!taken(&long[..23]));
    }

    #[test]
    fn errors_about_tunnelled_packets_of_the_host() {
        const CLIENT_PACKET: [u8; 8] = [0x45, 0, 0, 40, 0, 0, 0, 0];
        let message = |to, about: &[u8]| taken(&ipv4(ICMP, 0, CLIENT, to, &error(3, about)));
        let ipip = |from, to| ipv4(4, 0x4000, from, to, &CLIENT_PACKET);
        assert!(message(HOST, &ipip(HOST, RIP)));
        assert!(!message(HOST, &ipip(CLIENT, RIP)), "of another director");
        assert!(!message(HOST, &ipip(HOST, CLIENT)), "to somebody else");
        assert!(!taken(&ipip(RIP, HOST)), "a packet, and no error");
        let gue = |to, port| ipv4(UDP, 0x4000, HOST, to, &ports(40000, port));
        assert!(message(HOST, &gue(RIP, 6080)));
        assert!(!message(HOST, &gue(RIP, 6081)));
        assert!(!message(HOST, &ipv4(47, 0, HOST, RIP, &[0; 8])));
        // An error about a reply that looks alike goes where it did.
        let reply = ipv4(UDP, 0x4000, VIP, CLIENT, &ports(6080, 4000));
        assert!(message(VIP, &reply));
    }

    #[test]
    fn icmp_errors_by_what_they_are_about() {
        let reply = ipv4(TCP, 0x4000, VIP, CLIENT, &ports(80, 4000));
        let request = ipv4(TCP, 0x4000, CLIENT, RIP, &ports(4000, 8080));
        let message = |to, message: &[u8]| taken(&ipv4(ICMP, 0, CLIENT, to, message));
        for kind in [3, 4, 11] {
            assert!(message(VIP, &error(kind, &reply)), "{kind}");
            assert!(message(CLIENT, &error(kind, &request)), "{kind}");
            assert!(message(VIP, &error(kind, &with_options(reply.clone()))));
        }
        for kind in [0, 5, 8, 12] {
            assert!(!message(VIP, &error(kind, &reply)), "{kind}");
        }
        let check = error(3, &request);
        assert!(!message(HOST, &check), "about the host's own check");
        let later = ipv4(TCP, 0x0001, VIP, CLIENT, &ports(80, 4000));
        assert!(!message(VIP, &error(3, &later)));
        let truncated = error(3, &reply[..23]);
        assert!(!message(VIP, &truncated));
        let fragment = ipv4(ICMP, 0x2000, CLIENT, VIP, &error(3, &reply));
        assert!(taken(&fragment), "as every fragment");
        let swapped = ipv4(TCP, 0x4000, CLIENT, VIP, &ports(4000, 80));
        assert!(!message(VIP, &error(3, &swapped)), "about a request");
    }
}
