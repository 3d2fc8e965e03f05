//! Whatever comes, nothing panics, and what leaves is as sound as what came.

use proptest::prelude::*;
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
            send(&mut director, OUTSIDE, CLIENT_MAC, OUTSIDE_MAC, vnet, &packet);
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
