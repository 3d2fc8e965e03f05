//! The generator of small packets: frames made in the kernel by a program of ours and put into a
//! veth, about four times as fast as a process could send them.

use shared::sys::bpf::Reg::{R0, R1, R2, R3, R4, R6, R7, R8, R9};
use shared::sys::bpf::{Alu, Assembler, Cond, FrameSource, Helper, Insn, Reg, Size};
use shared::wire::checksum::{self, Change};
use shared::wire::vnet;

use std::net::Ipv4Addr;

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

    /// Where in the frame the transport checksum is.
    fn checksum(self) -> usize {
        match self {
            Kind::Udp => 40,
            Kind::Syn => 50,
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
    /// Receiver.
    pub destination: Ipv4Addr,
    /// Its port.
    pub port: u16,
}

/// Packets in frames of 60 bytes, 64 on a real wire, which counts the check sequence.
#[derive(Debug)]
pub struct Offer {
    source: FrameSource,
    frame: [u8; FRAME],
}

impl Offer {
    /// Prepares the packets; they leave by the device of that number.
    ///
    /// # Panics
    /// If the kernel refuses the program.
    pub fn new(kind: Kind, ends: &Ends, flows: Flows, ifindex: u32) -> Offer {
        let frame = frame(kind, ends);
        let code = program(kind, &frame, flows, ifindex);
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
fn frame(kind: Kind, ends: &Ends) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    let protocol = kind.protocol();
    frame[..6].copy_from_slice(&ends.destination_mac);
    frame[6..12].copy_from_slice(&ends.source_mac);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    // A SYN is shorter than the least of frames.
    let segment = match kind {
        Kind::Udp => FRAME - 34,
        Kind::Syn => kind.header(),
    };
    let ip = 20 + segment as u8;
    frame[14..26].copy_from_slice(&[0x45, 0, 0, ip, 0, 1, 0, 0, 64, protocol, 0, 0]);
    frame[26..28].copy_from_slice(&SOURCES);
    frame[30..34].copy_from_slice(&ends.destination.octets());
    frame[36..38].copy_from_slice(&ends.port.to_be_bytes());
    match kind {
        Kind::Udp => frame[38..40].copy_from_slice(&(segment as u16).to_be_bytes()),
        Kind::Syn => frame[46..50].copy_from_slice(&[0x50, 0x02, 0xff, 0xff]),
    }
    let sum = !checksum::fold(checksum::sum(&frame[14..34], 0));
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    let source = [SOURCES[0], SOURCES[1], 0, 0];
    let receiver = ends.destination.octets();
    let pseudo = checksum::pseudo_v4(source, receiver, protocol, segment as u16);
    let sum = !checksum::fold(checksum::sum(&frame[34..34 + segment], pseudo));
    frame[kind.checksum()..][..2].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// A SYN of a flow, as the program would make it, behind a virtio header.
pub fn syn(ends: &Ends, flow: u32) -> Vec<u8> {
    let mut frame = frame(Kind::Syn, ends);
    let [high, low, port_high, port_low] = flow.to_be_bytes();
    let port = u16::from_be_bytes([port_high, port_low]) | 0x8000;
    frame[28..30].copy_from_slice(&[high, low]);
    frame[34..36].copy_from_slice(&port.to_be_bytes());
    let address = Change::word(0, u16::from_be_bytes([high, low]));
    for (at, change) in [(24, address), (50, address.and(Change::word(0, port)))] {
        let sum = u16::from_be_bytes([frame[at], frame[at + 1]]);
        frame[at..at + 2].copy_from_slice(&change.complete(sum).to_be_bytes());
    }
    let mut wire = vec![0; vnet::LENGTH];
    wire.extend(frame);
    wire
}

/// Writes all headers anew, since the memory has been through the middle before, and draws a flow.
fn program(kind: Kind, frame: &[u8; FRAME], flows: Flows, ifindex: u32) -> Vec<Insn> {
    let mut asm = Assembler::new();
    let short = asm.label("short");
    asm.load(Size::Word, R7, R1, 0); // data
    asm.load(Size::Word, R3, R1, 4); // data_end
    asm.mov(R4, R7);
    asm.alu(Alu::Add, R4, FRAME as i32);
    asm.jump_if(R4, Cond::Gt, R3, short);
    for at in (0..34 + kind.header()).step_by(2) {
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
    asm.store(Size::Half, R7, 34, R9);
    // The lower half of the source address: the sixteen bits above.
    asm.alu(Alu::Shr, R8, 15);
    asm.alu(Alu::And, R8, 0xffff);
    asm.store(Size::Half, R7, 28, R8);
    // Both are sums of 16-bit words, in whatever order the bytes are.
    subtract(&mut asm, 24, &[R8]);
    subtract(&mut asm, kind.checksum() as i16, &[R8, R9]);
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
const FRAME: usize = 60;
/// The sources are all in 10.64.0.0/16.
const SOURCES: [u8; 2] = [10, 64];
