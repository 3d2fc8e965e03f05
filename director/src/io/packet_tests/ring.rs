//! Slots, batches and losses of the ring.

use std::net::Ipv4Addr;

use shared::addr::Protocol;
use shared::sys::namespace::Namespace;

use super::bench::{Port, Udp, ifindex, namespace, service, wait_for};
use crate::sys::packet_ring::HEADROOM;
use crate::sys::packet_socket::PacketSocket;

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const DIRECTOR: [u8; 6] = [2, 0, 0, 0, 0, 2];
const SLOTS: usize = 64;

/// Both ends of a wire in one namespace: what goes in outside is received inside.
fn wire() -> Namespace {
    let script = "ip link add outside address 02:00:00:00:00:01 type veth \
                  peer name inside address 02:00:00:00:00:02
        sysctl -qw net.ipv6.conf.outside.disable_ipv6=1 net.ipv6.conf.inside.disable_ipv6=1
        ip link set outside up
        ip link set inside up";
    namespace(None, script)
}

fn datagram(payload: &[u8]) -> Udp {
    Udp {
        mac: DIRECTOR,
        from: Ipv4Addr::new(198, 51, 100, 7),
        to: VIP,
        port: 5300,
        payload: payload.to_vec(),
    }
}

fn send(wire: &[u8]) {
    let mut socket = PacketSocket::new();
    let lost = |_, error| panic!("{error}");
    assert_eq!(socket.send_batch([(ifindex(c"outside"), wire)], lost), 1);
}

fn open() -> Port {
    Port::open(
        c"inside",
        SLOTS,
        &[service(Protocol::UDP, "192.0.2.1", 5300)],
    )
}

#[test]
fn a_frame_comes_with_its_vnet_header_and_room_in_front() {
    let test = || {
        let mut port = open();
        let sent = datagram(b"hello").wire();
        send(&sent);
        let frame = port.next();
        assert!(frame.vnet_at >= HEADROOM && !frame.tagged);
        assert_eq!((frame.vnet_at + 24) % 4, 0, "the IP header is aligned");
        // The checksum is still to be completed, and the header says so.
        assert_eq!(frame.buffer[frame.vnet_at], 1);
        assert_eq!(frame.buffer[frame.vnet_at + 6..frame.end], sent[6..]);
        frame.buffer[0] = 7;
        let end = frame.end;
        assert_eq!(port.ring.buffer(0)[0], 7);
        assert_eq!(&port.ring.buffer(0)[end - 5..end], b"hello");
        assert_eq!(port.ring.ethernet(0)[..6], DIRECTOR);
        port.release();
        assert!(port.ring.buffer(0).is_empty() && port.ring.ethernet(0).is_empty());
        assert!(port.take().is_none());
    };
    wire().run(test).unwrap();
}

#[test]
fn slots_are_the_kernels_again_only_after_release() {
    let test = || {
        let mut port = open();
        let more = 8;
        // Three times around the ring.
        for round in 1..=3 {
            for number in 0..SLOTS + more {
                send(&datagram(&[number as u8]).wire());
            }
            let arrived = round * (SLOTS + more) as u64;
            wait_for("frames", || {
                port.ring.statistics().unwrap().frames == arrived
            });
            for number in 0..SLOTS {
                let frame = port.take().unwrap();
                assert_eq!(usize::from(frame.buffer[frame.end - 1]), number);
            }
            assert!(port.take().is_none());
            assert_eq!(port.ring.held(), SLOTS);
            port.release();
            assert!(port.take().is_none());
            let lost = round * more as u64;
            assert_eq!(port.ring.statistics().unwrap().ring_full, lost);
        }
    };
    wire().run(test).unwrap();
}

#[test]
fn frames_that_the_program_did_not_take_do_not_arrive() {
    let test = || {
        let mut port = open();
        let mut other_station = datagram(b"other station");
        other_station.mac = [2, 0, 0, 0, 0, 0x77];
        send(&other_station.wire());
        // VLAN 5 has no device here; the kernel gives such a frame the type OTHERHOST and takes
        // the tag away before the ring could see it.
        let mut tagged = datagram(b"tagged").wire();
        tagged.splice(22..22, [0x81, 0, 0, 5]);
        tagged[..10].fill(0);
        send(&tagged);
        // No whole IP header: nothing that the program reads of it is there.
        for length in [14, 15, 33] {
            let mut short = datagram(b"short").wire();
            short[..10].fill(0);
            send(&short[..10 + length]);
        }
        send(&datagram(b"ours").wire());
        let frame = port.next();
        assert_eq!(&frame.buffer[frame.end - 4..frame.end], b"ours");
        port.release();
        assert!(port.take().is_none());
        assert_eq!(port.ring.statistics().unwrap().frames, 1);
    };
    wire().run(test).unwrap();
}
