//! The program writes what the director itself writes in front of a packet.

use shared::sys::bpf::skb::DROP;
use shared::sys::bpf::tcx::TCX_NEXT;
use shared::wire::ipv4::{self, Packet};
use shared::wire::vnet;

use super::*;
use crate::core::director::tests::laboratory::*;
use crate::core::director::tests::tunnels::tunnelling;
use crate::core::egress::Label;
use crate::core::frame;
use crate::core::operation::{Tunnel, TunnelChecksum};
use crate::core::verdict::Verdict;

const TUNNELS: [Tunnel; 3] = [
    Tunnel::Ipip,
    Tunnel::Gue {
        port: 6080,
        checksum: TunnelChecksum::None,
    },
    Tunnel::Gre {
        checksum: TunnelChecksum::None,
    },
];

fn request() -> Sketch {
    tcp((CLIENT, 40001), (VIP, 80), SYN)
}

/// What the kernel is asked for, and the label of the frames of a connection.
fn asked(tunnel: Tunnel) -> (Request, Label) {
    let mut director = tunnelling(tunnel);
    let large = Sketch {
        payload: vec![7; 5000],
        ..request()
    };
    let (vnet, packet) = large.partial(1400);
    let mut send = || offered(&mut director, vnet, &packet);
    assert_eq!(send().verdict, Verdict::Consumed);
    let mut requests = director.take_tunnel_requests();
    assert_eq!(requests.len(), 1);
    director.tunnel_ready(&requests[0]);
    let mut send = || send_again(&mut director, vnet, &packet);
    let Verdict::Encapsulate(INSIDE, label) = send() else {
        panic!("it is not left to the kernel");
    };
    (requests.remove(0), label)
}

fn send_again(
    director: &mut crate::core::director::Director,
    vnet: vnet::VnetHeader,
    packet: &[u8],
) -> Verdict {
    send(director, OUTSIDE, CLIENT_MAC, OUTSIDE_MAC, vnet, packet).verdict
}

fn program_with(request: &Request, senders: Senders) -> Program {
    let headers = HashMap::<4, VALUE_BYTES>::create("test", 8).unwrap();
    let known = HashMap::<8, 1>::create("test", 8).unwrap();
    headers
        .insert(&request.key().unwrap(), &request.header.to_value())
        .unwrap();
    let code = program(senders).unwrap();
    Program::load("test", &code, &[headers.as_fd(), known.as_fd()]).unwrap()
}

/// A frame as it comes to the program: the core has taken one hop off its time to live.
fn wire(packet: &[u8]) -> Vec<u8> {
    frame::compose(SERVER_MAC, INSIDE_MAC, Default::default(), &[packet])[vnet::LENGTH..].to_vec()
}

#[test]
fn program_and_director_write_the_same() {
    for tunnel in TUNNELS {
        let (request_of_it, label) = asked(tunnel);
        let program = program_with(&request_of_it, Senders::All);
        for (tos, ttl, length) in [(0, 64, 5), (0xb8, 2, 0), (0x01, 255, 1000), (0x03, 9, 1)] {
            let sketch = Sketch {
                ttl,
                payload: vec![3; length],
                ..request()
            };
            let mut packet = sketch.packet();
            let header = ipv4::Header {
                tos,
                identification: 77,
                fragment: ipv4::DF,
                ttl,
                protocol: 6,
                source: CLIENT,
                destination: VIP,
            };
            let behind = packet.len() - ipv4::MIN_HEADER;
            packet[..ipv4::MIN_HEADER].copy_from_slice(&header.to_bytes(behind));
            let own = from_client(&mut tunnelling(tunnel), &packet);
            assert_eq!(own.verdict, Verdict::Forward(INSIDE));
            Packet::new_checked(&mut packet[..])
                .unwrap()
                .decrement_ttl();
            let (action, written) = program.test_marked(&wire(&packet), label.mark()).unwrap();
            assert_eq!(action, TCX_NEXT);
            assert_eq!(written, wire(&own.packet), "{tunnel:?} {tos:#x} {ttl}");
        }
    }
}

#[test]
fn what_has_no_label_or_is_somebody_elses_stays_as_it_is() {
    let (request_of_it, label) = asked(Tunnel::Ipip);
    let frame = wire(&request().packet());
    let nobody = Label::new(request_of_it.number + 1, 40000).unwrap();
    for (senders, mark) in [
        (Senders::All, 0),
        (Senders::All, 1),
        (Senders::All, nobody.mark()),
        // The mark is right, and it is not the director's socket that sends.
        (Senders::Known, label.mark()),
    ] {
        let program = program_with(&request_of_it, senders);
        let unchanged = (TCX_NEXT, frame.clone());
        assert_eq!(program.test_marked(&frame, mark).unwrap(), unchanged);
    }
}

/// A tunnel's packet that has none would be forwarded past the real server.
#[test]
fn what_cannot_get_its_header_is_lost() {
    let (request_of_it, label) = asked(Tunnel::Ipip);
    let program = program_with(&request_of_it, Senders::All);
    let arp = [&[0; 12][..], &[0x08, 0x06], &[0; 40]].concat();
    assert_eq!(program.test_marked(&arp, label.mark()).unwrap().0, DROP);
}
