//! Resets of connections whose real server was removed or drained.

use std::time::Duration;

use shared::addr::Protocol;
use shared::wire::ipv4::Packet;
use shared::wire::transport;

use super::laboratory::*;
use crate::core::director::Director;
use crate::core::judgement::Afterwards;
use crate::core::net::Mac;
use crate::core::operation::{
    Beyond, ForwardMethod, Operation, ServerGone, ServerKey, ServiceKey, ServiceSpec,
};
use crate::core::reason::Reason;
use crate::core::verdict::{Outbox, Outgoing, Verdict};

/// Ends, sequence and acknowledgement numbers, flags of a segment, its checksums being right; and whom
/// its frame is for.
type Told = (([u8; 4], u16), ([u8; 4], u16), u32, u32, u8, Mac);

fn told(outgoing: &Outgoing) -> Told {
    let Outgoing::Transmit(_, frame) = outgoing else {
        panic!("{outgoing:?}");
    };
    let packet = &frame[24..];
    let (source, destination) = read(packet);
    let segment = Packet::new_checked(packet).unwrap();
    let segment = segment.payload();
    let number = |at: usize| u32::from_be_bytes(*segment[at..].first_chunk().unwrap());
    let mac = Mac(*frame[10..].first_chunk().unwrap());
    (source, destination, number(4), number(8), segment[13], mac)
}

const RST: u8 = 0x04;
const CLIENT_END: ([u8; 4], u16) = (CLIENT, 4000);
const VIRTUAL_END: ([u8; 4], u16) = (VIP, 80);

/// One segment with these numbers and five bytes of data.
fn numbered(sketch: &Sketch, sequence: u32, acknowledged: u32) -> Vec<u8> {
    let mut packet = sketch.packet();
    packet[24..28].copy_from_slice(&sequence.to_be_bytes());
    packet[28..32].copy_from_slice(&acknowledged.to_be_bytes());
    packet[36..38].fill(0);
    let sum = shared::wire::checksum::pseudo_v4(
        sketch.source.0,
        sketch.destination.0,
        Protocol::TCP.0,
        (packet.len() - 20) as u16,
    );
    let sum = !shared::wire::checksum::fold(shared::wire::checksum::sum(&packet[20..], sum));
    transport::set_field(&mut packet[20..], transport::TCP_CHECKSUM, sum);
    packet
}

/// A director whose web service resets, with a connection of which the client has sent up to 1005 and
/// has had up to 5000.
fn connected(method: ForwardMethod) -> (Director, ServerKey) {
    connected_with(method, Some(ServerGone::Reset))
}

fn connected_with(method: ForwardMethod, way: Option<ServerGone>) -> (Director, ServerKey) {
    let mut director = director(method);
    let key = ServiceKey::new(Protocol::TCP, std::net::Ipv4Addr::from(VIP), 80);
    let spec = ServiceSpec {
        beyond: Beyond {
            server_gone: way,
            ..Beyond::default()
        },
        ..ServiceSpec::new(key, "rr")
    };
    director.apply(NOW, &Operation::EditService(spec)).unwrap();
    let client_mac = crate::core::net::NetworkEvent::Neighbour {
        ifindex: 0,
        address: shared::addr::Addr::from_v4_bytes(CLIENT),
        mac: CLIENT_MAC,
    };
    director.network_changed(client_mac, &mut Outbox::default());
    for (flags, sequence, acknowledged) in [(SYN, 994, 0), (ACK, 1000, 5000)] {
        let packet = numbered(&tcp(CLIENT_END, VIRTUAL_END, flags), sequence, acknowledged);
        assert!(matches!(
            from_client(&mut director, &packet).verdict,
            Verdict::Forward(_)
        ));
    }
    let port = if method == ForwardMethod::Nat {
        8080
    } else {
        80
    };
    let server = ServerKey {
        address: std::net::Ipv4Addr::from(SERVER).into(),
        port,
    };
    (director, server)
}

fn remove(director: &mut Director, server: ServerKey) -> Vec<Told> {
    let key = ServiceKey::new(Protocol::TCP, std::net::Ipv4Addr::from(VIP), 80);
    director
        .apply(NOW, &Operation::DeleteServer(key, server))
        .unwrap();
    let mut outbox = Outbox::default();
    director.handle_timeout(NOW + Duration::from_millis(1), &mut outbox);
    outbox.drain().map(|outgoing| told(&outgoing)).collect()
}

#[test]
fn both_ends_of_a_nat_connection_are_told_where_they_are() {
    let (mut director, server) = connected(ForwardMethod::Nat);
    // What the server has sent since then is known too.
    let reply = numbered(&tcp((SERVER, 8080), CLIENT_END, ACK), 5000, 1005);
    assert!(matches!(
        from_server(&mut director, &reply).verdict,
        Verdict::Forward(_)
    ));
    let told = remove(&mut director, server);
    let (to_client, to_server) = (
        (VIRTUAL_END, CLIENT_END, 5005, 1005, RST | ACK, CLIENT_MAC),
        (
            CLIENT_END,
            (SERVER, 8080),
            1005,
            5005,
            RST | ACK,
            SERVER_MAC,
        ),
    );
    assert_eq!(told, [to_client, to_server]);
}

#[test]
fn a_server_behind_direct_routing_hears_it_of_the_virtual_address() {
    let (mut director, server) = connected(ForwardMethod::Direct);
    let told = remove(&mut director, server);
    let (to_client, to_server) = (
        (VIRTUAL_END, CLIENT_END, 5000, 1005, RST | ACK, CLIENT_MAC),
        (CLIENT_END, VIRTUAL_END, 1005, 5000, RST | ACK, SERVER_MAC),
    );
    assert_eq!(told, [to_client, to_server]);
}

#[test]
fn what_is_still_sent_is_answered() {
    let (mut director, server) = connected(ForwardMethod::Nat);
    remove(&mut director, server);
    for (flags, answer) in [
        (ACK, Some((7000, 0, RST))),
        (0x08, Some((0, 2005, RST | ACK))),
        (RST, None),
    ] {
        let packet = numbered(&tcp(CLIENT_END, VIRTUAL_END, flags), 2000, 7000);
        let outcome = from_client(&mut director, &packet);
        assert_eq!(outcome.verdict, Verdict::Drop(Reason::ServerGone));
        let told = outcome.outbox.iter().map(told).next();
        let expected = answer.map(|(sequence, acknowledged, flags)| {
            (
                VIRTUAL_END,
                CLIENT_END,
                sequence,
                acknowledged,
                flags,
                CLIENT_MAC,
            )
        });
        assert_eq!(told, expected, "{flags:#x}");
    }
}

/// Its numbers were not followed when it was made, and it is silent.
#[test]
fn the_client_of_a_silent_connection_is_asked_for_its_numbers() {
    for method in [ForwardMethod::Nat, ForwardMethod::Direct] {
        let (mut director, server) = connected_with(method, None);
        let drain = Operation::Drain {
            address: server.address,
            port: None,
            deadline_secs: Some(5),
            then: Afterwards::Reset,
        };
        director.apply(NOW, &drain).unwrap();
        let mut outbox = Outbox::default();
        for secs in 0..6 {
            director.handle_timeout(NOW + Duration::from_secs(secs), &mut outbox);
        }
        let told_first: Vec<Told> = outbox.drain().map(|outgoing| told(&outgoing)).collect();
        let question = (VIRTUAL_END, CLIENT_END, 0, 0, ACK, CLIENT_MAC);
        assert_eq!(told_first, [question]);
        let answer = numbered(&tcp(CLIENT_END, VIRTUAL_END, ACK), 1005, 5000);
        let outcome = from_client(&mut director, &answer);
        assert_eq!(outcome.verdict, Verdict::Drop(Reason::ServerGone));
        let told: Vec<Told> = outcome.outbox.iter().map(told).collect();
        let server_end = match method {
            ForwardMethod::Nat => (SERVER, 8080),
            _ => VIRTUAL_END,
        };
        // The server has not had the five bytes of data that this answer brings.
        let to_client = (VIRTUAL_END, CLIENT_END, 5000, 0, RST, CLIENT_MAC);
        let to_server = (CLIENT_END, server_end, 1005, 5000, RST | ACK, SERVER_MAC);
        assert_eq!(told, [to_client, to_server]);
    }
}
