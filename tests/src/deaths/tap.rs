//! What the director sends to real servers on behalf of clients, seen on its own interfaces as it leaves.

use std::io::IoSliceMut;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeSpec, TimeVal};
use shared::wire::{ethernet, ipv4, transport};

use super::clock::Clock;
use crate::host::Host;

/// A SYN of a client that left for a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Syn {
    pub(super) at: Duration,
    /// Counted from 0.
    pub(super) server: usize,
    /// The client's.
    pub(super) port: u16,
    /// Its sequence number: that of a SYN which is sent again is the same.
    pub(super) sequence: u32,
}

/// How the frames of a real server are known.
#[derive(Debug, Clone)]
pub(super) enum Known {
    /// By the address that they are sent to.
    ByAddress(Vec<Ipv4Addr>),
    /// By the Ethernet address, since the other one is the VIP.
    ByMac(Vec<[u8; 6]>),
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Tap {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Syn>>,
}

impl Tap {
    /// Sees all that leaves the host from now on.
    ///
    /// # Panics
    /// Without root.
    pub(super) fn new(host: &Host, client: Ipv4Addr, known: Known, clock: Clock) -> Tap {
        let socket = host.run(open);
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut syns = Vec::new();
            // What has arrived is read before the end.
            loop {
                let last = stop.load(Ordering::Relaxed);
                while let Some((at, frame)) = receive(&socket) {
                    syns.extend(read(&frame, client, &known).map(|syn| Syn {
                        at: clock.of(at),
                        ..syn
                    }));
                }
                if last {
                    return syns;
                }
            }
        });
        Tap { over, thread }
    }

    /// All that was seen, in its order.
    pub(super) fn finish(self) -> Vec<Syn> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("it reads to its end")
    }
}

fn open() -> OwnedFd {
    let of_all = SockProtocol::EthAll;
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, of_all);
    let socket = socket.expect("a packet socket needs root");
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).expect("a buffer");
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true).expect("time stamps");
    let patience = TimeVal::new(0, 50_000);
    setsockopt(&socket, sockopt::ReceiveTimeout, &patience).expect("a time limit");
    socket
}

/// The next frame, as far as its headers, and when it was seen.
fn receive(socket: &OwnedFd) -> Option<(TimeSpec, Vec<u8>)> {
    let mut bytes = [0; HEADERS];
    let mut control = cmsg_space!(TimeSpec);
    let mut pieces = [IoSliceMut::new(&mut bytes)];
    let fd = socket.as_raw_fd();
    let received = match recvmsg::<()>(fd, &mut pieces, Some(&mut control), MsgFlags::empty()) {
        Err(Errno::EAGAIN) => return None,
        Err(Errno::EINTR) => return receive(socket),
        received => received.expect("a packet socket"),
    };
    let length = received.bytes;
    let mut times = received.cmsgs().expect("room for it");
    let at = times.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(at) => Some(at),
        _ => None,
    });
    Some((at.expect("a time stamp"), bytes[..length].to_vec()))
}

/// Checks do not count: they come from the director.
fn read(frame: &[u8], client: Ipv4Addr, known: &Known) -> Option<Syn> {
    let header = ethernet::Header::parse(frame)?;
    if header.ethertype != ethernet::IPV4 {
        return None;
    }
    let packet = ipv4::Packet::new_lenient(&frame[ethernet::LENGTH..]).ok()?;
    let segment = packet.payload();
    if packet.protocol() != TCP
        || packet.source() != client.octets()
        || transport::tcp_flags(segment)? & (SYN | ACK) != SYN
    {
        return None;
    }
    let server = match known {
        Known::ByAddress(servers) => {
            let to = Ipv4Addr::from(packet.destination());
            servers.iter().position(|server| *server == to)
        }
        Known::ByMac(servers) => servers.iter().position(|mac| *mac == header.destination),
    };
    let (port, _) = transport::ports(segment)?;
    let sequence = segment.get(4..8)?.try_into().ok()?;
    Some(Syn {
        at: Duration::ZERO,
        server: server?,
        port,
        sequence: u32::from_be_bytes(sequence),
    })
}

const TCP: u8 = 6;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// Of Ethernet, IPv4 and TCP with all options.
const HEADERS: usize = 128;
const BUFFER: usize = 64 << 20;
