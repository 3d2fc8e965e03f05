//! What the tests share: namespaces with veth devices between them, the director's side, frames.

use std::ffi::CStr;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use shared::addr::{Addr, Protocol};
use shared::host::netlink::Netlink;
use shared::sys::namespace::Namespace;

use crate::core::capture::{COPIED_QUEUE, CaptureKey, CaptureSet, TAKEN_QUEUE};
use crate::io::capture::{Attached, Capture, CaptureKind};
use crate::sys::packet_ring::{PacketRing, Received, RingOptions};

/// A namespace in which `script` was run by a shell; its `$peer` is another one's path.
pub(super) fn namespace(peer: Option<&Namespace>, script: &str) -> Namespace {
    let namespace = Namespace::new().unwrap();
    run(&namespace, peer, script);
    namespace
}

pub(super) fn run(inside: &Namespace, peer: Option<&Namespace>, script: &str) {
    let peer = peer.map(Namespace::path).unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.args(["-euc", script]).env("peer", peer);
    let status = inside.run(|| shell.status().unwrap()).unwrap();
    assert!(status.success());
}

/// The director's side of one interface: program, keys and ring.
pub(super) struct Port {
    pub(super) ring: PacketRing,
    pub(super) capture: Capture,
    /// Of the batch.
    taken: usize,
    _link: Attached,
}

impl Port {
    /// Must be called in the namespace of the interface.
    pub(super) fn open(interface: &CStr, slots: usize, keys: &[CaptureKey]) -> Port {
        let ifindex = ifindex(interface);
        let options = RingOptions {
            slots,
            ..RingOptions::new(
                shared::wire::ethernet::IPV4,
                1500,
                TAKEN_QUEUE,
                COPIED_QUEUE,
            )
        };
        let ring = PacketRing::open(ifindex, &options).unwrap();
        let mut capture = Capture::load(CaptureKind::Auto).unwrap();
        let mut set = CaptureSet::default();
        keys.iter().for_each(|&key| set.acquire(key));
        capture.apply(&set.take_changes()).unwrap();
        let _link = capture
            .attach(ifindex, &mut Netlink::open().unwrap())
            .unwrap();
        Port {
            ring,
            capture,
            taken: 0,
            _link,
        }
    }

    /// The next frame, waited for.
    pub(super) fn next(&mut self) -> Received<'_> {
        wait_for("a frame", || self.readable());
        self.take().unwrap()
    }

    /// The next frame, if it is there.
    pub(super) fn take(&mut self) -> Option<Received<'_>> {
        let number = self.taken;
        (self.ring.gather(number + 1) > number).then_some(())?;
        self.taken += 1;
        self.ring.received(number)
    }

    pub(super) fn release(&mut self) {
        self.ring.release();
        self.taken = 0;
    }

    pub(super) fn readable(&self) -> bool {
        readable(&self.ring, Duration::ZERO)
    }
}

/// The index of an interface of this thread's namespace.
pub(super) fn ifindex(interface: &CStr) -> u32 {
    let name = interface.to_str().unwrap();
    let link = Netlink::open().unwrap().link_by_name(name).unwrap();
    link.unwrap_or_else(|| panic!("no {name}")).index
}

/// Whether something can be read within `timeout`.
pub(super) fn readable(source: &impl AsRawFd, timeout: Duration) -> bool {
    let mut poll = mio::Poll::new().unwrap();
    let fd = source.as_raw_fd();
    let token = mio::Token(0);
    poll.registry()
        .register(&mut SourceFd(&fd), token, mio::Interest::READABLE)
        .unwrap();
    let mut events = mio::Events::with_capacity(1);
    poll.poll(&mut events, Some(timeout)).unwrap();
    events.iter().any(mio::event::Event::is_readable)
}

pub(super) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(20), "no {what}");
        std::thread::yield_now();
    }
}

pub(super) fn service(protocol: Protocol, address: &str, port: u16) -> CaptureKey {
    CaptureKey::Service {
        protocol,
        address: addr(address),
        port,
    }
}

pub(super) fn addr(text: &str) -> Addr {
    Addr::v4(text.parse().unwrap())
}

/// `[vnet][Ethernet][IPv4][UDP]`, the UDP checksum left to be completed.
pub(super) struct Udp {
    pub(super) mac: [u8; 6],
    pub(super) from: Ipv4Addr,
    pub(super) to: Ipv4Addr,
    pub(super) port: u16,
    pub(super) payload: Vec<u8>,
}

impl Udp {
    pub(super) fn wire(&self) -> Vec<u8> {
        let length = 8 + self.payload.len() as u16;
        let addresses = [self.from.octets(), self.to.octets()].concat();
        let mut ip = vec![0x45, 0];
        ip.extend((20 + length).to_be_bytes());
        ip.extend([0, 1, 0, 0, 64, 17, 0, 0]);
        ip.extend(&addresses);
        let checksum = !sum(&ip);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        let mut pseudo = addresses;
        pseudo.extend([0, 17]);
        pseudo.extend(length.to_be_bytes());

        let mut wire = vec![1, 0, 0, 0, 0, 0];
        wire.extend(34_u16.to_ne_bytes());
        wire.extend(6_u16.to_ne_bytes());
        wire.extend(self.mac);
        wire.extend([2, 0, 0, 0, 0, 0x99, 8, 0]);
        wire.extend(ip);
        wire.extend(40_000_u16.to_be_bytes());
        wire.extend(self.port.to_be_bytes());
        wire.extend(length.to_be_bytes());
        wire.extend(sum(&pseudo).to_be_bytes());
        wire.extend(&self.payload);
        wire
    }
}

/// The ones' complement sum of RFC 1071.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let folded = (sum >> 16) + (sum & 0xffff);
    ((folded >> 16) + folded) as u16
}
