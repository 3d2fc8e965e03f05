//! The generator of small packets: frames made in the kernel by a program of ours and put into a
//! veth, about four times as fast as a process could send them.

use shared::sys::bpf::Reg::{R0, R1, R2, R3, R4, R6, R7, R8, R9};
use shared::sys::bpf::{Alu, Assembler, Cond, FrameSource, Helper, Insn, Reg, Size};
use shared::wire::checksum::{self, Change};
use shared::wire::{ethernet, ipv4, ipv6, vnet};

use std::net::{IpAddr, Ipv6Addr};

/// How many flows there are; each packet is of a random one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flows {
    /// So many.
    Many(u32),
    /// So many that hardly any comes twice.
    Endless,
}

/// What the packets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UDP datagrams.
    Udp,
    /// TCP SYNs.
    Syn,
}

impl Kind {
    fn protocol(self) -> u8 {
        match self {
            Kind::Udp => 17,
            Kind::Syn => 6,
        }
    }

    /// Bytes of the transport header.
    fn header(self) -> usize {
        match self {
            Kind::Udp => 8,
            Kind::Syn => 20,
        }
    }

    /// Where in the transport header its checksum is.
    fn checksum(self) -> usize {
        match self {
            Kind::Udp => 6,
            Kind::Syn => 16,
        }
    }
}

/// The ends of a flow, on the wire and above.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// MAC of the sender.
    pub source_mac: [u8; 6],
    /// MAC of the next hop.
    pub destination_mac: [u8; 6],
    /// Receiver, whose family is that of the packets.
    pub destination: IpAddr,
    /// Its port.
    pub port: u16,
}

impl Ends {
    /// Bytes of the IP header.
    fn ip(&self) -> usize {
        match self.destination {
            IpAddr::V4(_) => ipv4::MIN_HEADER,
            IpAddr::V6(_) => ipv6::HEADER,
        }
    }

    /// Where in the frame the transport header is.
    fn transport(&self) -> usize {
        ethernet::LENGTH + self.ip()
    }

    /// Where in the frame the last half of the source address is, which tells flows apart.
    fn source(&self) -> usize {
        match self.destination {
            IpAddr::V4(_) => 28,
            IpAddr::V6(_) => 36,
        }
    }
}

/// Packets of 46 bytes over IPv4, which in a frame are 64 on a real wire with its check sequence; over IPv6 their
/// header is 20 bytes longer.
#[derive(Debug)]
pub struct Offer {
    source: FrameSource,
    frame: Vec<u8>,
}

impl Offer {
    /// Prepares the packets; they leave by the device of that number.
    ///
    /// # Panics
    /// If the kernel refuses the program.
    pub fn new(kind: Kind, ends: &Ends, flows: Flows, ifindex: u32) -> Offer {
        let frame = frame(kind, ends);
        let code = program(kind, ends, &frame, flows, ifindex);
        let source =
            FrameSource::load("lvs_offer", &code).unwrap_or_else(|error| panic!("{error}"));
        Offer { source, frame }
    }

    /// Sends so many packets as fast as the machine can. In the namespace of the device.
    ///
    /// # Panics
    /// On kernels before 5.18.
    pub fn send(&self, count: u32) {
        self.source
            .send(&self.frame, count)
            .unwrap_or_else(|error| panic!("{error}; the generator needs Linux 5.18"));
    }
}

/// Of the flow whose source is all zeros, with the checksums that this would have.
fn frame(kind: Kind, ends: &Ends) -> Vec<u8> {
    // A SYN over IPv4 is shorter than the least of frames.
    let segment = match kind {
        Kind::Udp => SEGMENT,
        Kind::Syn => kind.header(),
    };
    let mut header = [0; ethernet::LENGTH];
    header[..6].copy_from_slice(&ends.destination_mac);
    header[6..12].copy_from_slice(&ends.source_mac);
    let mut transport = vec![0; segment];
    transport[2..4].copy_from_slice(&ends.port.to_be_bytes());
    match kind {
        Kind::Udp => transport[4..6].copy_from_slice(&(segment as u16).to_be_bytes()),
        Kind::Syn => transport[12..16].copy_from_slice(&[0x50, 0x02, 0xff, 0xff]),
    }
    let protocol = kind.protocol();
    let (ip, pseudo) = match ends.destination {
        IpAddr::V4(address) => {
            header[12..].copy_from_slice(&ethernet::IPV4.to_be_bytes());
            let (source, destination) = ([SOURCES[0], SOURCES[1], 0, 0], address.octets());
            let ip = ipv4::Header {
                tos: 0,
                identification: 1,
                fragment: 0,
                ttl: 64,
                protocol,
                source,
                destination,
            };
            let pseudo = checksum::pseudo_v4(source, destination, protocol, segment as u16);
            (ip.to_bytes(segment).to_vec(), pseudo)
        }
        IpAddr::V6(address) => {
            header[12..].copy_from_slice(&ethernet::IPV6.to_be_bytes());
            let (source, destination) = (SOURCES6.octets(), address.octets());
            let ip = ipv6::Header {
                traffic_class: 0,
                next_header: protocol,
                hop_limit: 64,
                source,
                destination,
            };
            let pseudo = checksum::pseudo_v6(source, destination, protocol, segment as u32);
            (ip.to_bytes(segment).to_vec(), pseudo)
        }
    };
    let sum = !checksum::fold(checksum::sum(&transport, pseudo));
    transport[kind.checksum()..][..2].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [&header[..], &ip, &transport].concat();
    frame.resize(frame.len().max(LEAST_FRAME), 0);
    frame
}

/// A SYN of a flow, as the program would make it, behind a virtio header.
pub fn syn(ends: &Ends, flow: u32) -> Vec<u8> {
    let mut frame = frame(Kind::Syn, ends);
    let [high, low, port_high, port_low] = flow.to_be_bytes();
    let port = u16::from_be_bytes([port_high, port_low]) | 0x8000;
    let (source, transport) = (ends.source(), ends.transport());
    frame[source..source + 2].copy_from_slice(&[high, low]);
    frame[transport..transport + 2].copy_from_slice(&port.to_be_bytes());
    let address = Change::word(0, u16::from_be_bytes([high, low]));
    let both = address.and(Change::word(0, port));
    let of_ip = ends.destination.is_ipv4().then_some((IP_CHECKSUM, address));
    let of_tcp = (transport + Kind::Syn.checksum(), both);
    for (at, change) in of_ip.into_iter().chain([of_tcp]) {
        let sum = u16::from_be_bytes([frame[at], frame[at + 1]]);
        frame[at..at + 2].copy_from_slice(&change.complete(sum).to_be_bytes());
    }
    let mut wire = vec![0; vnet::LENGTH];
    wire.extend(frame);
    wire
}

/// Writes all headers anew, since the memory has been through the middle before, and draws a flow.
fn program(kind: Kind, ends: &Ends, frame: &[u8], flows: Flows, ifindex: u32) -> Vec<Insn> {
    let mut asm = Assembler::new();
    let short = asm.label("short");
    asm.load(Size::Word, R7, R1, 0); // data
    asm.load(Size::Word, R3, R1, 4); // data_end
    asm.mov(R4, R7);
    asm.alu(Alu::Add, R4, frame.len() as i32);
    asm.jump_if(R4, Cond::Gt, R3, short);
    let transport = ends.transport();
    for at in (0..transport + kind.header()).step_by(2) {
        let half = u16::from_ne_bytes([frame[at], frame[at + 1]]);
        asm.store(Size::Half, R7, at as i16, i32::from(half));
    }
    asm.mov(R8, 0);
    match flows {
        Flows::Many(1) => {}
        Flows::Many(count) => {
            asm.call(Helper::Random);
            asm.mov(R8, R0);
            asm.alu(Alu::Mul, R8, count as i32);
            asm.alu(Alu::Shr, R8, 32);
        }
        Flows::Endless => {
            asm.call(Helper::Random);
            asm.mov(R8, R0);
        }
    }
    // The source port: fifteen bits, and one that is always set, so that it is never a low one.
    asm.mov(R9, R8);
    asm.alu(Alu::And, R9, 0x7f);
    asm.alu(Alu::Or, R9, 0x80);
    asm.mov(R2, R8);
    asm.alu(Alu::And, R2, 0x7f80);
    asm.alu(Alu::Shl, R2, 1);
    asm.alu(Alu::Or, R9, R2);
    asm.store(Size::Half, R7, transport as i16, R9);
    // The lower half of the source address: the sixteen bits above.
    asm.alu(Alu::Shr, R8, 15);
    asm.alu(Alu::And, R8, 0xffff);
    asm.store(Size::Half, R7, ends.source() as i16, R8);
    // Sums of 16-bit words, in whatever order the bytes are.
    if ends.destination.is_ipv4() {
        subtract(&mut asm, IP_CHECKSUM as i16, &[R8]);
    }
    subtract(&mut asm, (transport + kind.checksum()) as i16, &[R8, R9]);
    asm.mov(R1, ifindex as i32);
    asm.mov(R2, 0);
    asm.call(Helper::Redirect);
    asm.exit();
    asm.bind(short);
    asm.mov(R0, 1); // XDP_DROP
    asm.exit();
    asm.finish().expect("the labels are bound")
}

/// Takes words off the complement of a sum.
fn subtract(asm: &mut Assembler, at: i16, words: &[Reg]) {
    asm.load(Size::Half, R6, R7, at);
    asm.mov(R2, 0xffff);
    asm.alu(Alu::Sub, R2, R6);
    for &word in words {
        asm.alu(Alu::Add, R2, word);
    }
    for _ in 0..2 {
        asm.mov(R6, R2);
        asm.alu(Alu::Shr, R6, 16);
        asm.alu(Alu::And, R2, 0xffff);
        asm.alu(Alu::Add, R2, R6);
    }
    asm.mov(R6, 0xffff);
    asm.alu(Alu::Sub, R6, R2);
    asm.store(Size::Half, R7, at, R6);
}

/// Bytes without the check sequence.
const LEAST_FRAME: usize = 60;
/// Bytes of a datagram that fills the least of frames over IPv4.
const SEGMENT: usize = LEAST_FRAME - ethernet::LENGTH - ipv4::MIN_HEADER;
/// In a frame of IPv4.
const IP_CHECKSUM: usize = 24;
/// The sources are all in 10.64.0.0/16, or in 2001:db8:40::/112.
const SOURCES: [u8; 2] = [10, 64];
const SOURCES6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x40, 0, 0, 0, 0, 0);
