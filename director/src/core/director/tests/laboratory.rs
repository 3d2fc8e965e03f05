//! A client, a director and servers made of values, and packets that can be read.

use shared::addr::{Addr, Protocol};
use shared::time::Time;
use shared::wire::checksum;
use shared::wire::ethernet;
use shared::wire::ipv4::{self, Packet};
use shared::wire::transport;
use shared::wire::vnet::{NEEDS_CSUM, VnetHeader};

use crate::core::balancer::Settings;
use crate::core::director::{Director, Entropy};
use crate::core::frame::{self, Frame};
use crate::core::ip::{self, Ends, Passed, family_of};
use crate::core::net::{Mac, NetworkEvent, Port, PortId, Prefix, RouteInfo, RouteKind};
use crate::core::operation::{ForwardMethod, Operation, ServerSpec, ServiceKey, ServiceSpec};
use crate::core::verdict::{Outbox, Outgoing, Verdict};

pub(crate) const CLIENT: [u8; 4] = [10, 0, 0, 10];
pub(crate) const FAR_CLIENT: [u8; 4] = [192, 0, 2, 7];
pub(crate) const VIP: [u8; 4] = [10, 0, 0, 100];
pub(crate) const SERVER: [u8; 4] = [10, 1, 0, 11];
/// A local address of FULLNAT.
pub(crate) const LOCAL: [u8; 4] = [10, 1, 0, 2];
pub(crate) const INNER: [u8; 4] = [10, 1, 0, 1];

pub(crate) const OUTSIDE: PortId = PortId(0);
pub(crate) const INSIDE: PortId = PortId(1);

pub(crate) const OUTSIDE_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub(crate) const INSIDE_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
pub(crate) const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 0, 10]);
pub(crate) const GATEWAY_MAC: Mac = Mac([2, 0, 0, 0, 0, 254]);
pub(crate) const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 0, 11]);

/// The director with one service of each protocol, ports 80 and 53, mapped to 8080 and 5353 with
/// NAT.
pub(crate) fn director(method: ForwardMethod) -> Director {
    let entropy = Entropy {
        hash_key: [3, 5],
        identification: 100,
    };
    let mut director = Director::new(Settings::default(), entropy);
    let mut outbox = Outbox::default();
    let port = |ifindex, mac| {
        let name = format!("eth{ifindex}");
        NetworkEvent::Link(Port {
            ifindex,
            name,
            mac,
            mtu: 1500,
            up: true,
        })
    };
    let address = |ifindex, address, length| {
        let prefix = Prefix::new(Addr::from_v4_bytes(address), length);
        NetworkEvent::Address { ifindex, prefix }
    };
    let neighbour = |ifindex, address, mac| {
        let address = Addr::from_v4_bytes(address);
        NetworkEvent::Neighbour {
            ifindex,
            address,
            mac,
        }
    };
    for event in [
        port(0, OUTSIDE_MAC),
        port(1, INSIDE_MAC),
        address(0, [10, 0, 0, 1], 24),
        address(0, VIP, 32),
        address(1, INNER, 24),
        route([10, 0, 0, 0], 24, 0, None),
        route([10, 1, 0, 0], 24, 1, None),
        route([0; 4], 0, 0, Some([10, 0, 0, 254])),
        neighbour(0, [10, 0, 0, 254], GATEWAY_MAC),
        neighbour(1, SERVER, SERVER_MAC),
    ] {
        director.network_changed(event, &mut outbox);
    }
    if method == ForwardMethod::FullNat {
        let operation = Operation::AddLocalAddress {
            address: std::net::Ipv4Addr::from(LOCAL).into(),
            interface: None,
        };
        director.apply(NOW, &operation).unwrap();
    }
    for (protocol, port, inner) in [(Protocol::TCP, 80, 8080), (Protocol::UDP, 53, 5353)] {
        let key = ServiceKey::new(protocol, std::net::Ipv4Addr::from(VIP), port);
        let inner = if method.is_nat() { inner } else { port };
        let server = ServerSpec::new(std::net::Ipv4Addr::from(SERVER), inner, method, 1);
        for operation in [
            Operation::AddService(ServiceSpec::new(key, "rr")),
            Operation::AddServer(key, server),
        ] {
            director.apply(NOW, &operation).unwrap();
        }
    }
    director
}

pub(crate) fn route(
    destination: [u8; 4],
    length: u8,
    ifindex: u32,
    gateway: Option<[u8; 4]>,
) -> NetworkEvent {
    NetworkEvent::Route(RouteInfo {
        destination: Prefix::new(Addr::from_v4_bytes(destination), length),
        table: 254,
        metric: 0,
        kind: RouteKind::Unicast {
            ifindex,
            gateway: gateway.map(Addr::from_v4_bytes),
        },
        mtu: None,
        source: None,
    })
}

pub(crate) fn set_mtu(director: &mut Director, ifindex: u32, mac: Mac, mtu: u32) {
    let name = format!("eth{ifindex}");
    let event = NetworkEvent::Link(Port {
        ifindex,
        name,
        mac,
        mtu,
        up: true,
    });
    director.network_changed(event, &mut Outbox::default());
}

/// A packet to be built.
#[derive(Debug, Clone)]
pub(crate) struct Sketch {
    pub(crate) source: ([u8; 4], u16),
    pub(crate) destination: ([u8; 4], u16),
    pub(crate) kind: Kind,
    pub(crate) ttl: u8,
    pub(crate) fragment: u16,
    pub(crate) payload: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp(u8),
    Udp,
    UdpWithoutChecksum,
}

pub(crate) const SYN: u8 = 0x02;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const SYN_ACK: u8 = 0x12;

pub(crate) fn tcp(source: ([u8; 4], u16), destination: ([u8; 4], u16), flags: u8) -> Sketch {
    let fragment = ipv4::DF;
    let kind = Kind::Tcp(flags);
    Sketch {
        source,
        destination,
        kind,
        ttl: 64,
        fragment,
        payload: b"hello".to_vec(),
    }
}

pub(crate) fn udp(source: ([u8; 4], u16), destination: ([u8; 4], u16)) -> Sketch {
    Sketch {
        kind: Kind::Udp,
        fragment: 0,
        ..tcp(source, destination, 0)
    }
}

impl Sketch {
    /// The IP packet, its checksums complete.
    pub(crate) fn packet(&self) -> Vec<u8> {
        let mut segment = self.header();
        segment.extend(&self.payload);
        let (protocol, at) = match self.kind {
            Kind::Tcp(_) => (Protocol::TCP, transport::TCP_CHECKSUM),
            _ => (Protocol::UDP, transport::UDP_CHECKSUM),
        };
        if self.kind != Kind::UdpWithoutChecksum {
            let sum = self.pseudo(protocol, segment.len());
            let sum = !checksum::fold(checksum::sum(&segment, sum));
            transport::set_field(&mut segment, at, sum);
        }
        let mut packet = self.ip(protocol, segment.len());
        packet.extend(segment);
        packet
    }

    /// The IP packet and its virtio header, the checksum left to whoever sends it on.
    pub(crate) fn partial(&self, gso_size: u16) -> (VnetHeader, Vec<u8>) {
        let mut packet = self.packet();
        let (protocol, at, gso_type, length) = match self.kind {
            Kind::Tcp(_) => (Protocol::TCP, transport::TCP_CHECKSUM, 1, 20),
            _ => (Protocol::UDP, transport::UDP_CHECKSUM, 5, 8),
        };
        let pseudo = checksum::fold(self.pseudo(protocol, packet.len() - 20));
        transport::set_field(&mut packet, 20 + at, pseudo);
        let gso = gso_size != 0;
        let header = VnetHeader {
            flags: NEEDS_CSUM,
            gso_type: if gso { gso_type } else { 0 },
            hdr_len: if gso { 34 + length } else { 0 },
            gso_size,
            csum_start: 34,
            csum_offset: at as u16,
        };
        (header, packet)
    }

    fn header(&self) -> Vec<u8> {
        let mut header = Vec::new();
        header.extend(self.source.1.to_be_bytes());
        header.extend(self.destination.1.to_be_bytes());
        match self.kind {
            Kind::Tcp(flags) => {
                header.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
            }
            _ => {
                header.extend((8 + self.payload.len() as u16).to_be_bytes());
                header.extend([0, 0]);
            }
        }
        header
    }

    fn pseudo(&self, protocol: Protocol, length: usize) -> u32 {
        checksum::pseudo_v4(self.source.0, self.destination.0, protocol.0, length as u16)
    }

    fn ip(&self, protocol: Protocol, payload: usize) -> Vec<u8> {
        let header = ipv4::Header {
            tos: 0,
            identification: 77,
            fragment: self.fragment,
            ttl: self.ttl,
            protocol: protocol.0,
            source: self.source.0,
            destination: self.destination.0,
        };
        header.to_bytes(payload).to_vec()
    }
}

/// What came of a frame.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) ethernet: (Mac, Mac),
    pub(crate) ethertype: u16,
    pub(crate) vnet: VnetHeader,
    pub(crate) packet: Vec<u8>,
    pub(crate) outbox: Vec<Outgoing>,
}

pub(crate) fn from_client(director: &mut Director, packet: &[u8]) -> Outcome {
    offered(director, VnetHeader::default(), packet)
}

/// From the client, with something left to be done to the packet.
pub(crate) fn offered(director: &mut Director, vnet: VnetHeader, packet: &[u8]) -> Outcome {
    send(director, OUTSIDE, CLIENT_MAC, OUTSIDE_MAC, vnet, packet)
}

pub(crate) fn from_server(director: &mut Director, packet: &[u8]) -> Outcome {
    send(
        director,
        INSIDE,
        SERVER_MAC,
        INSIDE_MAC,
        VnetHeader::default(),
        packet,
    )
}

pub(crate) fn send(
    director: &mut Director,
    port: PortId,
    source: Mac,
    destination: Mac,
    vnet: VnetHeader,
    packet: &[u8],
) -> Outcome {
    send_at(director, NOW, port, (source, destination), vnet, packet)
}

pub(crate) fn send_at(
    director: &mut Director,
    now: Time,
    port: PortId,
    (source, destination): (Mac, Mac),
    vnet: VnetHeader,
    packet: &[u8],
) -> Outcome {
    let bytes = frame::compose(destination, source, vnet, &[packet]);
    arrive(bytes, |frame, outbox| {
        director.handle_frame(now, port, frame, outbox)
    })
}

/// The frames of the train, each with its virtio header and its packet.
pub(super) fn train(
    director: &mut Director,
    vnet: VnetHeader,
    packet: &[u8],
) -> Vec<(VnetHeader, Vec<u8>)> {
    let (verdict, frames) = in_order(director, vnet, packet);
    assert_eq!(verdict, Verdict::Consumed);
    frames
}

/// What goes inside because of a client's packet, in its order, with virtio headers.
pub(super) fn in_order(
    director: &mut Director,
    vnet: VnetHeader,
    packet: &[u8],
) -> (Verdict, Vec<(VnetHeader, Vec<u8>)>) {
    let mut buffer = vec![0; 64];
    buffer.extend(frame::compose(OUTSIDE_MAC, CLIENT_MAC, vnet, &[packet]));
    let end = buffer.len();
    let mut frame = Frame::new(&mut buffer, 64, end).unwrap();
    let mut outbox = Outbox::default();
    let verdict = director.handle_frame(NOW, OUTSIDE, &mut frame, &mut outbox);
    if verdict == Verdict::Forward(INSIDE) {
        assert!(outbox.is_empty());
        return (verdict, vec![(frame.vnet(), frame.packet().to_vec())]);
    }
    assert_eq!(outbox.train().port(), INSIDE);
    let frames = outbox.train().frames().map(|frame| {
        assert_eq!(frame[10..16], SERVER_MAC.0);
        let vnet = VnetHeader::from_bytes(*frame.first_chunk().unwrap());
        (vnet, frame[24..].to_vec())
    });
    (verdict, frames.collect())
}

/// A copy of what the host keeps.
pub(crate) fn copy(director: &mut Director, packet: &[u8]) -> Outcome {
    let bytes = frame::compose(OUTSIDE_MAC, CLIENT_MAC, VnetHeader::default(), &[packet]);
    arrive(bytes, |frame, outbox| {
        director.handle_copy(NOW, OUTSIDE, frame, outbox)
    })
}

/// A packet that the host has routed here: one router less, and no Ethernet header.
pub(crate) fn routed(director: &mut Director, mark: u32, packet: &[u8]) -> Outcome {
    let mut packet = packet.to_vec();
    let family = family_of(&packet).unwrap();
    ip::edit(&mut packet, family, Ends::default(), Passed::On).unwrap();
    let bytes = frame::compose(
        Mac::default(),
        Mac::default(),
        VnetHeader::default(),
        &[&packet],
    );
    arrive(bytes, |frame, outbox| {
        director.handle_routed(NOW, mark, frame, outbox)
    })
}

fn arrive(bytes: Vec<u8>, handle: impl FnOnce(&mut Frame<'_>, &mut Outbox) -> Verdict) -> Outcome {
    let mut buffer = vec![0xaa; 64];
    buffer.extend(bytes);
    let end = buffer.len();
    let mut outbox = Outbox::default();
    let mut frame = Frame::new(&mut buffer, 64, end).unwrap();
    let verdict = handle(&mut frame, &mut outbox);
    let ethernet = frame.ethernet();
    if matches!(verdict, Verdict::Forward(_)) {
        let version = match ethernet.ethertype {
            ethernet::IPV6 => 6,
            _ => 4,
        };
        assert_eq!(
            frame.packet()[0] >> 4,
            version,
            "another family than its frame says"
        );
    }
    Outcome {
        verdict,
        ethernet: (Mac(ethernet.destination), Mac(ethernet.source)),
        ethertype: ethernet.ethertype,
        vnet: frame.vnet(),
        packet: frame.packet().to_vec(),
        outbox: outbox.drain().collect(),
    }
}

/// Ports and addresses of a packet, after all its checksums were verified.
pub(crate) fn read(packet: &[u8]) -> (([u8; 4], u16), ([u8; 4], u16)) {
    let ip = Packet::new_checked(packet).unwrap();
    let segment = ip.payload();
    let pseudo = checksum::pseudo_v4(
        ip.source(),
        ip.destination(),
        ip.protocol(),
        segment.len() as u16,
    );
    assert_eq!(
        checksum::fold(checksum::sum(segment, pseudo)),
        0xffff,
        "transport checksum"
    );
    let (source, destination) = transport::ports(segment).unwrap();
    ((ip.source(), source), (ip.destination(), destination))
}

/// Does what a network card does to a partial checksum.
pub(crate) fn completed(vnet: VnetHeader, packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if vnet.is_partial() {
        let start = usize::from(vnet.csum_start) - 14;
        let sum = !checksum::fold(checksum::sum(&packet[start..], 0));
        transport::set_field(&mut packet[start..], usize::from(vnet.csum_offset), sum);
    }
    packet
}

pub(crate) const NOW: Time = Time::from_secs(1000);
