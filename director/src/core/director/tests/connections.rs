//! NAT and direct routing of whole packets.

use super::laboratory::*;
use crate::core::director::Director;
use crate::core::net::{Mac, NetworkEvent};
use crate::core::operation::{ForwardMethod, Operation, ServerSpec, ServiceKey, ServiceSpec};
use crate::core::reason::Reason;
use crate::core::verdict::{Outbox, Outgoing, Verdict};
use shared::addr::{Addr, Protocol};
use shared::wire::ipv4::Packet;
use shared::wire::vnet::{NEEDS_CSUM, VnetHeader};

fn open(director: &mut Director) {
    let syn = tcp((CLIENT, 40001), (VIP, 80), SYN).packet();
    assert_eq!(
        from_client(director, &syn).verdict,
        Verdict::Forward(INSIDE)
    );
}

#[test]
fn nat_rewrites_both_ways() {
    for udp_too in [
        tcp((CLIENT, 40001), (VIP, 80), SYN),
        udp((CLIENT, 40001), (VIP, 53)),
    ] {
        let mut director = director(ForwardMethod::Nat);
        let request = from_client(&mut director, &udp_too.packet());
        assert_eq!(request.verdict, Verdict::Forward(INSIDE));
        assert_eq!(request.ethernet, (SERVER_MAC, INSIDE_MAC));
        let inner = if matches!(udp_too.kind, Kind::Udp) {
            5353
        } else {
            8080
        };
        assert_eq!(read(&request.packet), ((CLIENT, 40001), (SERVER, inner)));
        assert_eq!(Packet::new_checked(&request.packet).unwrap().ttl(), 63);

        let kind = if inner == 5353 {
            Kind::Udp
        } else {
            Kind::Tcp(SYN_ACK)
        };
        let answer = Sketch {
            kind,
            ..tcp((SERVER, inner), (CLIENT, 40001), 0)
        };
        let reply = from_server(&mut director, &answer.packet());
        assert_eq!(reply.verdict, Verdict::Forward(OUTSIDE));
        // The client is on the link: its own frame told where it is.
        assert_eq!(reply.ethernet, (CLIENT_MAC, OUTSIDE_MAC));
        assert_eq!(
            read(&reply.packet),
            ((VIP, udp_too.destination.1), (CLIENT, 40001))
        );
    }
}

#[test]
fn a_client_behind_a_router_is_answered_through_it() {
    let mut director = director(ForwardMethod::Nat);
    let syn = tcp((FAR_CLIENT, 40001), (VIP, 80), SYN).packet();
    from_client(&mut director, &syn);
    let answer = tcp((SERVER, 8080), (FAR_CLIENT, 40001), SYN_ACK).packet();
    assert_eq!(
        from_server(&mut director, &answer).ethernet,
        (GATEWAY_MAC, OUTSIDE_MAC)
    );
}

#[test]
fn partial_checksums_stay_partial_and_right() {
    for gso_size in [0, 2] {
        for sketch in [
            tcp((CLIENT, 40001), (VIP, 80), SYN),
            udp((CLIENT, 40001), (VIP, 53)),
        ] {
            let mut director = director(ForwardMethod::Nat);
            let (vnet, packet) = sketch.partial(gso_size);
            let request = offered(&mut director, vnet, &packet);
            assert_eq!(request.verdict, Verdict::Forward(INSIDE));
            assert_eq!(request.vnet, vnet);
            let (_, destination) = read(&completed(request.vnet, &request.packet));
            assert_eq!(destination.0, SERVER);
        }
    }
}

#[test]
fn a_datagram_without_a_checksum_gets_one_with_nat_only() {
    let sketch = Sketch {
        kind: Kind::UdpWithoutChecksum,
        ..udp((CLIENT, 40001), (VIP, 53))
    };
    let out = from_client(&mut director(ForwardMethod::Nat), &sketch.packet());
    assert_eq!(read(&out.packet).1, (SERVER, 5353));
    let out = from_client(&mut director(ForwardMethod::Direct), &sketch.packet());
    assert_eq!(out.packet[26..28], [0, 0]);
}

/// VXLAN and its like: the checksum to be completed is that of a packet in the tunnel.
#[test]
fn a_partial_checksum_deeper_in_the_packet_is_not_this_ones() {
    let vnet = VnetHeader {
        flags: NEEDS_CSUM,
        csum_start: 34 + 8 + 8 + 34,
        csum_offset: 16,
        ..VnetHeader::default()
    };
    for kind in [Kind::UdpWithoutChecksum, Kind::Udp] {
        let sketch = Sketch {
            kind,
            payload: vec![7; 100],
            ..udp((CLIENT, 40001), (VIP, 53))
        };
        let mut director = director(ForwardMethod::Nat);
        let packet = sketch.packet();
        let out = offered(&mut director, vnet, &packet);
        assert_eq!((out.verdict, out.vnet), (Verdict::Forward(INSIDE), vnet));
        match kind {
            Kind::Udp => assert_eq!(read(&out.packet).1, (SERVER, 5353)),
            _ => assert_eq!(out.packet[26..28], [0, 0]),
        }
    }
}

#[test]
fn nobody_can_have_sent_from_these_addresses() {
    let mut director = director(ForwardMethod::Nat);
    for source in [
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [255; 4],
    ] {
        let syn = tcp((source, 40001), (VIP, 80), SYN).packet();
        let out = from_client(&mut director, &syn);
        assert_eq!(out.verdict, Verdict::Drop(Reason::MartianSource));
    }
    let syn = tcp(([240, 0, 0, 1], 40001), (VIP, 80), SYN).packet();
    let out = from_client(&mut director, &syn);
    assert_eq!(out.verdict, Verdict::Forward(INSIDE));
}

#[test]
fn direct_routing_changes_only_the_ethernet_header_and_the_ttl() {
    let mut director = director(ForwardMethod::Direct);
    let sketch = tcp((CLIENT, 40001), (VIP, 80), SYN);
    let out = from_client(&mut director, &sketch.packet());
    assert_eq!(out.verdict, Verdict::Forward(INSIDE));
    assert_eq!(out.ethernet, (SERVER_MAC, INSIDE_MAC));
    assert_eq!(out.packet, Sketch { ttl: 63, ..sketch }.packet());
}

#[test]
fn what_belongs_to_no_connection_is_the_hosts() {
    let mut director = director(ForwardMethod::Nat);
    let ack = tcp((CLIENT, 40001), (VIP, 80), ACK).packet();
    assert_eq!(from_client(&mut director, &ack).verdict, Verdict::Local);
    let other_port = tcp((CLIENT, 40001), (VIP, 81), SYN).packet();
    assert_eq!(
        from_client(&mut director, &other_port).verdict,
        Verdict::Local
    );
    let direct = tcp((SERVER, 8080), (CLIENT, 5), SYN_ACK).packet();
    let out = from_server(&mut director, &direct);
    assert_eq!((out.verdict, out.packet), (Verdict::Local, direct));
}

#[test]
fn padding_is_cut_off() {
    let mut director = director(ForwardMethod::Direct);
    let sketch = tcp((CLIENT, 40001), (VIP, 80), SYN);
    let mut padded = sketch.packet();
    padded.extend([0xee; 6]);
    let out = from_client(&mut director, &padded);
    assert_eq!(out.packet, Sketch { ttl: 63, ..sketch }.packet());
}

#[test]
fn connections_go_on_when_their_service_is_deleted() {
    let mut director = director(ForwardMethod::Nat);
    open(&mut director);
    director.apply(NOW, &Operation::Flush).unwrap();
    let ack = tcp((CLIENT, 40001), (VIP, 80), ACK).packet();
    assert!(director.takes(OUTSIDE, &ethernet(OUTSIDE_MAC, &ack)));
    // The kernel drops what the client sends and lets the server finish.
    let request = from_client(&mut director, &ack);
    assert_eq!(request.verdict, Verdict::Drop(Reason::ServerRemoved));
    let answer = tcp((SERVER, 8080), (CLIENT, 40001), ACK).packet();
    assert_eq!(
        from_server(&mut director, &answer).verdict,
        Verdict::Forward(OUTSIDE)
    );
    assert_eq!(director.drops().of(Reason::ServerRemoved), 1);
}

#[test]
fn frames_for_others_are_not_ours() {
    let mut director = director(ForwardMethod::Nat);
    let syn = tcp((CLIENT, 40001), (VIP, 80), SYN).packet();
    let other = Mac([2, 9, 9, 9, 9, 9]);
    let out = send(
        &mut director,
        OUTSIDE,
        CLIENT_MAC,
        other,
        Default::default(),
        &syn,
    );
    assert_eq!(out.verdict, Verdict::Drop(Reason::OtherHost));
    assert!(!director.takes(OUTSIDE, &ethernet(other, &syn)));
    assert!(director.takes(OUTSIDE, &ethernet(OUTSIDE_MAC, &syn)));
}

#[test]
fn a_server_that_must_be_found_first_gets_its_packet_then() {
    let mut director = director(ForwardMethod::Nat);
    let address = Addr::from_v4_bytes(SERVER);
    let failed = NetworkEvent::NeighbourFailed {
        ifindex: 1,
        address,
    };
    director.network_changed(failed.clone(), &mut Outbox::default());
    let syn = tcp((CLIENT, 40001), (VIP, 80), SYN).packet();
    // It was known to the kernel, so the first packet is what makes us ask.
    let gone = NetworkEvent::NeighbourGone {
        ifindex: 1,
        address,
    };
    director.network_changed(gone, &mut Outbox::default());
    let out = from_client(&mut director, &syn);
    assert_eq!(out.verdict, Verdict::Consumed);
    assert_eq!(director.network.take_asks().len(), 1);
    let mut outbox = Outbox::default();
    let found = NetworkEvent::Neighbour {
        ifindex: 1,
        address,
        mac: SERVER_MAC,
    };
    director.network_changed(found, &mut outbox);
    let sent: Vec<Outgoing> = outbox.drain().collect();
    let [Outgoing::Transmit(port, frame)] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(*port, INSIDE);
    assert_eq!(frame[10..16], SERVER_MAC.0);
    assert_eq!(read(&frame[24..]).1, (SERVER, 8080));
    // And if it stays silent, that is counted.
    director.network_changed(failed, &mut Outbox::default());
    from_client(
        &mut director,
        &tcp((CLIENT, 40002), (VIP, 80), SYN).packet(),
    );
    let failed = NetworkEvent::NeighbourFailed {
        ifindex: 1,
        address,
    };
    director.network_changed(failed, &mut Outbox::default());
    assert_eq!(director.drops().of(Reason::NeighbourSilent), 1);
}

#[test]
fn a_frame_that_tells_what_others_wait_for_lets_them_go_at_once() {
    let mut director = director(ForwardMethod::Nat);
    let failed = NetworkEvent::NeighbourFailed {
        ifindex: 1,
        address: Addr::from_v4_bytes(SERVER),
    };
    director.network_changed(failed, &mut Outbox::default());
    let syn = tcp((CLIENT, 40001), (VIP, 80), SYN).packet();
    let out = from_client(&mut director, &syn);
    assert_eq!((out.verdict, out.outbox.len()), (Verdict::Consumed, 0));
    // It is told that its time to live is over, by way of its own frame.
    let last_hop = Sketch {
        ttl: 1,
        ..tcp((SERVER, 8080), (CLIENT, 40001), SYN_ACK)
    };
    let out = from_server(&mut director, &last_hop.packet());
    let to_server = |outgoing: &Outgoing| match outgoing {
        Outgoing::Transmit(INSIDE, frame) => frame[10..16] == SERVER_MAC.0,
        _ => false,
    };
    assert_eq!(out.outbox.len(), 2);
    assert!(out.outbox.iter().all(to_server), "{:?}", out.outbox);
}

fn ethernet(destination: Mac, packet: &[u8]) -> Vec<u8> {
    crate::core::frame::compose(destination, CLIENT_MAC, Default::default(), &[packet])[10..]
        .to_vec()
}

/// A server of the director's own gets packets as they are, whatever says so.
#[test]
fn a_local_server_gets_what_the_client_sent() {
    for (method, address) in [
        (ForwardMethod::Direct, [127, 0, 0, 1]),
        (ForwardMethod::Direct, INNER),
        (ForwardMethod::Local, SERVER),
    ] {
        let mut director = director(ForwardMethod::Nat);
        let key = ServiceKey::new(Protocol::TCP, std::net::Ipv4Addr::from(VIP), 81);
        let server = ServerSpec::new(std::net::Ipv4Addr::from(address), 81, method, 1);
        for operation in [
            Operation::AddService(ServiceSpec::new(key, "rr")),
            Operation::AddServer(key, server),
        ] {
            director.apply(NOW, &operation).unwrap();
        }
        let request = tcp((CLIENT, 40001), (VIP, 81), SYN).packet();
        let outcome = from_client(&mut director, &request);
        assert_eq!((outcome.verdict, outcome.packet), (Verdict::Local, request));
        let view = director.balancer.service(&key).unwrap();
        assert_eq!(view.servers[0].stats.in_packets, 1);
        assert_eq!(view.servers[0].active, 1);
    }
}

/// Of its protocol no service is made, whatever its ports say; nor does a packet that gets here all the same make a
/// connection.
#[test]
fn udp_lite_is_the_hosts() {
    let mut director = super::ipv6::director6(ForwardMethod::Nat);
    let datagram = |protocol: u8, of_v6: bool| {
        let mut packet = if of_v6 {
            let (client, vip) = (super::ipv6::CLIENT6, super::ipv6::VIP6);
            super::ipv6::packet(Kind::Udp, (client, 40001), (vip, 53))
        } else {
            udp((CLIENT, 40001), (VIP, 53)).packet()
        };
        if of_v6 {
            packet[6] = protocol;
        } else {
            // The sum of the header says nothing else.
            packet[9] = protocol;
            packet[10..12].fill(0);
            let sum = !shared::wire::checksum::fold(shared::wire::checksum::sum(&packet[..20], 0));
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        packet
    };
    for of_v6 in [false, true] {
        let lite = datagram(UDP_LITE, of_v6);
        let udp = datagram(17, of_v6);
        assert!(director.takes(OUTSIDE, &ethernet(OUTSIDE_MAC, &udp)));
        assert!(!director.takes(OUTSIDE, &ethernet(OUTSIDE_MAC, &lite)));
        let outcome = from_client(&mut director, &lite);
        assert_eq!((outcome.verdict, outcome.packet), (Verdict::Local, lite));
    }
    assert_eq!(director.balancer.connection_count(), 0);
}

/// IANA's number of it (RFC 3828).
const UDP_LITE: u8 = 136;
