//! A director of the test's own: puts packets for a VIP into tunnels.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use laboratory::host::Host;
use shared::host::netlink::Hook;
use shared::sys::bpf::Reg::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R10};
use shared::sys::bpf::{Alu, Assembler, Cond, Helper, Program, Size, skb};
use shared::wire::checksum::checksum;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// A kind of tunnel.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Ipip,
    Gue,
    Gre,
    GreWithChecksum,
}

impl Kind {
    fn protocol(self) -> u8 {
        match self {
            Kind::Ipip => 4,
            Kind::Gue => 17,
            Kind::Gre | Kind::GreWithChecksum => 47,
        }
    }

    /// What is between the outer IP header and the packet.
    fn header(self, inner: &[u8]) -> Vec<u8> {
        match self {
            Kind::Ipip => Vec::new(),
            Kind::Gue => {
                let length = 12 + inner.len() as u16;
                let udp = [55_555, 6080, length, 0].map(u16::to_be_bytes);
                [&udp.concat()[..], &[0, 4, 0, 0]].concat()
            }
            Kind::Gre => vec![0, 0, 8, 0],
            Kind::GreWithChecksum => {
                let mut header = vec![0x80, 0, 8, 0, 0, 0, 0, 0];
                let sum = checksum(&[&header, inner].concat());
                header[4..6].copy_from_slice(&sum.to_be_bytes());
                header
            }
        }
    }
}

/// Forwards packets, one by one, until it is dropped.
pub struct Forwarder {
    stop: Arc<AtomicBool>,
    too_long: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Takes what comes in for `vip` on any interface of a host, and sends it to `server`.
    pub fn start(host: &Host, kind: Kind, vip: Ipv4Addr, server: Ipv4Addr) -> Forwarder {
        let (mut input, output) = host.run(|| {
            let ipv4 = Protocol::from(i32::from(0x0800_u16.to_be()));
            let input = Socket::new(Domain::PACKET, Type::DGRAM, Some(ipv4)).unwrap();
            input
                .set_read_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            input.set_recv_buffer_size(8 << 20).unwrap();
            // The header is in what is sent.
            let raw = Protocol::from(255);
            (
                input,
                Socket::new(Domain::IPV4, Type::RAW, Some(raw)).unwrap(),
            )
        });
        let to = SockAddr::from(SocketAddrV4::new(server, 0));
        let (stop, too_long) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
        let (stopped, refused) = (Arc::clone(&stop), Arc::clone(&too_long));
        let thread = thread::spawn(move || {
            let mut packet = vec![0; 1 << 16];
            while !stopped.load(Ordering::Relaxed) {
                let Ok(length) = input.read(&mut packet) else {
                    continue;
                };
                let inner = &packet[..length];
                if inner[16..20] != vip.octets() {
                    continue;
                }
                // Length, checksum and source are the kernel's to fill in.
                let mut outer = vec![0x45, inner[1], 0, 0, 0, 0, 0x40, 0, inner[8] - 1];
                outer.extend([kind.protocol(), 0, 0, 0, 0, 0, 0]);
                outer.extend(server.octets());
                outer.extend(kind.header(inner));
                outer.extend(inner);
                match output.send_to(&outer, &to) {
                    Ok(_) => {}
                    // EMSGSIZE
                    Err(error) if error.raw_os_error() == Some(90) => {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => panic!("to {server}: {error}"),
                }
            }
        });
        Forwarder {
            stop,
            too_long,
            thread: Some(thread),
        }
    }

    /// Packets that were too long for the way, with the tunnel.
    pub fn too_long(&self) -> u64 {
        self.too_long.load(Ordering::Relaxed)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Puts what leaves by a device for `vip` into IPIP, whole aggregates at a time, by a program at its
/// egress. The host routes the VIP to the server.
pub fn encapsulate_aggregates(
    host: &Host,
    device: &str,
    vip: Ipv4Addr,
    (from, to): (Ipv4Addr, Ipv4Addr),
) {
    let program = encapsulator(vip, from, to);
    let link = host.ifindex(device);
    host.netlink(|netlink| {
        netlink.add_clsact(link)?;
        netlink.set_program(link, Hook::Egress, (1, 1), "ipip", program.as_fd())
    });
}

fn encapsulator(vip: Ipv4Addr, from: Ipv4Addr, to: Ipv4Addr) -> Program {
    const OUTER: i16 = -24;
    let word = |address: Ipv4Addr| u32::from_ne_bytes(address.octets()) as i32;
    let mut asm = Assembler::new();
    let leave = asm.label("leave");
    asm.mov(R6, R1);
    asm.load(Size::Word, R1, R6, skb::PROTOCOL);
    asm.jump_if(R1, Cond::Ne, skb::network(0x0800), leave);
    asm.copy_frame(14, OUTER, 20, leave);
    asm.load(Size::Word, R1, R10, OUTER + 16);
    asm.mov(R2, word(vip));
    asm.alu(Alu::Shl, R2, 32);
    asm.alu(Alu::Shr, R2, 32);
    asm.jump_if(R1, Cond::Ne, R2, leave);
    asm.load_network(R7, OUTER + 2);
    asm.alu(Alu::Add, R7, 20);
    asm.mov(R1, R6);
    asm.mov(R2, 20);
    asm.mov(R3, 1);
    // BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4
    asm.mov(R4, 0b11);
    asm.mov(R5, 0);
    asm.call(Helper::SkbAdjustRoom);
    asm.jump_if(R0, Cond::Ne, 0, leave);

    let mut header = [0; 20];
    header[0] = 0x45;
    header[6] = 0x40;
    header[8..10].copy_from_slice(&[64, 4]);
    header[12..16].copy_from_slice(&from.octets());
    header[16..].copy_from_slice(&to.octets());
    for (at, four) in (OUTER..).step_by(4).zip(header.chunks_exact(4)) {
        let four = i32::from_ne_bytes(four.try_into().unwrap());
        asm.store(Size::Word, R10, at, four);
    }
    // The checksum without the length is known; the length is added to it here.
    asm.mov(R8, i32::from(!checksum(&header)));
    asm.alu(Alu::Add, R8, R7);
    asm.mov(R1, R8);
    asm.alu(Alu::Shr, R1, 16);
    asm.alu(Alu::And, R8, 0xffff);
    asm.alu(Alu::Add, R8, R1);
    // Its complement.
    asm.mov(R1, 0xffff);
    asm.alu(Alu::Sub, R1, R8);
    for (value, at) in [(R7, OUTER + 2), (R1, OUTER + 10)] {
        asm.store(Size::Byte, R10, at + 1, value);
        asm.alu(Alu::Shr, value, 8);
        asm.store(Size::Byte, R10, at, value);
    }
    asm.mov(R1, R6);
    asm.mov(R2, 14);
    asm.stack_address(R3, OUTER);
    asm.mov(R4, 20);
    asm.mov(R5, 0);
    asm.call(Helper::SkbStoreBytes);
    asm.bind(leave);
    asm.mov(R0, -1);
    asm.exit();
    Program::load("ipip", &asm.finish().unwrap(), &[]).unwrap()
}
