//! Whatever comes, nothing panics, and what leaves is as sound as what came.

use proptest::prelude::*;
use shared::wire::ipv4::{self, Packet};
use shared::wire::vnet::VnetHeader;

use super::laboratory::*;
use crate::core::operation::ForwardMethod;
use crate::core::verdict::Verdict;

fn method() -> impl Strategy<Value = ForwardMethod> {
    prop_oneof![Just(ForwardMethod::Nat), Just(ForwardMethod::Direct)]
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let end = |address| prop_oneof![Just((address, 80)), Just((address, 53)), Just((address, 9))];
    let payload = prop::collection::vec(any::<u8>(), 0..200);
    (end(VIP), any::<u8>(), any::<bool>(), any::<u8>(), payload).prop_map(
        |(destination, flags, is_tcp, ttl, payload)| {
            let kind = if is_tcp { Kind::Tcp(flags) } else { Kind::Udp };
            let client = (CLIENT, 40001);
            Sketch {
                kind,
                ttl,
                payload,
                ..tcp(client, destination, 0)
            }
        },
    )
}

proptest! {
    #[test]
    fn noise(
        method in method(),
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 1..8),
        vnet in any::<[u8; 10]>(),
    ) {
        let mut director = director(method);
        for mut packet in packets {
            let vnet = VnetHeader::from_bytes(vnet);
            offered(&mut director, vnet, &packet);
            if let Some(first) = packet.first_mut() {
                *first = 0x45;
            }
            send(&mut director, INSIDE, SERVER_MAC, INSIDE_MAC, vnet, &packet);
        }
    }

    #[test]
    fn damaged_packets(
        method in method(),
        sketches in prop::collection::vec(sketch(), 1..8),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut director = director(method);
        for sketch in sketches {
            let mut packet = sketch.packet();
            for (at, value) in &damage {
                let at = at.index(packet.len());
                packet[at] = *value;
            }
            // The header's checksum right again, so that the damage gets further in.
            packet[10..12].fill(0);
            let header = usize::from(packet[0] & 0xf) * 4;
            let sum = shared::wire::checksum::checksum(&packet[..header.clamp(20, packet.len())]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            from_client(&mut director, &packet);
            packet.truncate(cut.index(packet.len()));
            from_client(&mut director, &packet);
        }
    }

    /// Both ways, complete or left to the sender, of one segment or many.
    #[test]
    fn sound_packets_stay_sound_both_ways(
        is_tcp in any::<bool>(),
        partial in any::<bool>(),
        gso_size in prop_oneof![Just(0_u16), 8..1400_u16],
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut director = director(ForwardMethod::Nat);
        let (outer, inner) = if is_tcp { (80, 8080) } else { (53, 5353) };
        let between = |source, destination| Sketch {
            kind: if is_tcp { Kind::Tcp(SYN_ACK) } else { Kind::Udp },
            payload: payload.clone(),
            ..tcp(source, destination, 0)
        };
        let client = (CLIENT, 40001);
        for (port, macs, sent, seen) in [
            (
                OUTSIDE,
                (CLIENT_MAC, OUTSIDE_MAC),
                between(client, (VIP, outer)),
                (client, (SERVER, inner)),
            ),
            (
                INSIDE,
                (SERVER_MAC, INSIDE_MAC),
                between((SERVER, inner), client),
                ((VIP, outer), client),
            ),
        ] {
            let (vnet, packet) = if partial {
                sent.partial(gso_size)
            } else {
                (VnetHeader::default(), sent.packet())
            };
            let out = send(&mut director, port, macs.0, macs.1, vnet, &packet);
            prop_assert_eq!(out.vnet, vnet);
            prop_assert_eq!(read(&completed(out.vnet, &out.packet)), seen);
        }
    }

    /// Parts of anything, in any order.
    #[test]
    fn parts_of_anything(
        method in method(),
        parts in prop::collection::vec(
            (any::<bool>(), 0..6_u16, any::<bool>(), 1..3_u16, prop::collection::vec(any::<u8>(), 0..40)),
            1..12,
        ),
    ) {
        let mut director = director(method);
        for (is_tcp, offset, more, identification, payload) in parts {
            let header = ipv4::Header {
                tos: 0,
                identification,
                fragment: offset | if more { ipv4::MF } else { 0 },
                ttl: 64,
                protocol: if is_tcp { 6 } else { 17 },
                source: CLIENT,
                destination: VIP,
            };
            let packet = [&header.to_bytes(payload.len())[..], &payload].concat();
            let out = from_client(&mut director, &packet);
            if out.verdict == Verdict::Forward(INSIDE) {
                Packet::new_checked(&out.packet[..]).unwrap();
            }
        }
    }

    #[test]
    fn sound_packets_stay_sound(
        method in method(),
        sketches in prop::collection::vec(sketch(), 1..8),
    ) {
        let mut director = director(method);
        for sketch in sketches {
            let out = from_client(&mut director, &sketch.packet());
            if out.verdict == Verdict::Forward(INSIDE) {
                read(&out.packet);
            }
        }
    }
}
