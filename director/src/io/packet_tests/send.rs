//! What becomes of a batch in which some frames cannot be sent.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use super::bench::{Udp, ifindex, namespace, run};
use crate::sys::packet_socket::PacketSocket;

const MISSING: u32 = 99;

#[test]
fn a_frame_that_cannot_be_sent_does_not_hold_up_the_others() {
    let host = namespace(None, "");
    let sender = namespace(
        Some(&host),
        "ip link add near type veth \
             peer name wire address 02:00:00:00:00:02 netns $peer
        ip link add idle type veth peer name silent
        ip link set near up",
    );
    run(
        &host,
        None,
        "ip address add 192.0.2.1/24 dev wire
        ip link set wire up",
    );
    let receiver = host.run(|| UdpSocket::bind("192.0.2.1:5258").unwrap());
    let receiver = receiver.unwrap();
    // Room for them all: nobody reads before all are sent.
    socket2::SockRef::from(&receiver)
        .set_recv_buffer_size(4 << 20)
        .unwrap();
    let patience = Some(Duration::from_secs(20));
    receiver.set_read_timeout(patience).unwrap();

    let datagram = |payload: &[u8]| Udp {
        mac: [2, 0, 0, 0, 0, 2],
        from: Ipv4Addr::new(192, 0, 2, 7),
        to: Ipv4Addr::new(192, 0, 2, 1),
        port: 5258,
        payload: payload.to_vec(),
    };
    let good: Vec<_> = (0_u16..270)
        .map(|number| datagram(&number.to_be_bytes()).wire())
        .collect();
    let too_large = datagram(&[0; 1500]).wire();
    let (near, idle) = sender.run(|| (ifindex(c"near"), ifindex(c"idle"))).unwrap();
    let mut frames: Vec<(u32, &[u8])> = good.iter().map(|frame| (near, &frame[..])).collect();
    frames[0].0 = MISSING;
    frames[1].0 = idle;
    frames[258].1 = &too_large;
    frames[259].1 = &too_large[..5];
    frames[269].0 = idle;

    let (mut lost, mut sent) = (Vec::new(), 0);
    let send = || {
        let mut socket = PacketSocket::new();
        let note = |number, error: std::io::Error| lost.push((number, error.raw_os_error()));
        sent = socket.send_batch(frames.iter().copied(), note);
    };
    sender.run(send).unwrap();
    // Each interface has its own batches, and so its own order.
    lost.sort_unstable();
    assert_eq!(
        lost,
        [
            (0, Some(libc::ENODEV)),
            (1, Some(libc::ENETDOWN)),
            (258, Some(libc::EMSGSIZE)),
            (259, Some(libc::EINVAL)),
            (269, Some(libc::ENETDOWN)),
        ]
    );
    assert_eq!(sent, 265);
    for number in (0_u16..270).filter(|n| ![0, 1, 258, 259, 269].contains(n)) {
        let mut payload = [0; 2];
        receiver.recv(&mut payload).unwrap();
        assert_eq!(u16::from_be_bytes(payload), number);
    }
}
