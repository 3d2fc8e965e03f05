//! The generator of small packets: frames made in the kernel by a program of ours and put into a
//! veth, about four times as fast as a process could send them.

use shared::sys::bpf::Reg::{R0, R1, R2, R3, R4, R6, R7, R8, R9};
use shared::sys::bpf::{Alu, Assembler, Cond, FrameSource, Helper, Insn, Reg, Size};
use shared::wire::checksum;

use std::net::Ipv4Addr;

/// How many flows there are; each packet is of a random one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flows {
    /// So many.
    Many(u32),
    /// So many that hardly any comes twice.
    Endless,
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
    /// Its UDP port.
    pub port: u16,
}

/// UDP in frames of 60 bytes, 64 on a real wire, which counts the check sequence.
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
    pub fn new(ends: &Ends, flows: Flows, ifindex: u32) -> Offer {
        let frame = frame(ends);
        let code = program(&frame, flows, ifindex);
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
fn frame(ends: &Ends) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[..6].copy_from_slice(&ends.destination_mac);
    frame[6..12].copy_from_slice(&ends.source_mac);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    let (ip, udp) = (FRAME - 14, FRAME - 34);
    frame[14..26].copy_from_slice(&[0x45, 0, 0, ip as u8, 0, 1, 0, 0, 64, 17, 0, 0]);
    frame[26..28].copy_from_slice(&SOURCES);
    frame[30..34].copy_from_slice(&ends.destination.octets());
    frame[36..38].copy_from_slice(&ends.port.to_be_bytes());
    frame[38..40].copy_from_slice(&(udp as u16).to_be_bytes());
    let sum = !checksum::fold(checksum::sum(&frame[14..34], 0));
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    let source = [SOURCES[0], SOURCES[1], 0, 0];
    let pseudo = checksum::pseudo_v4(source, ends.destination.octets(), 17, udp as u16);
    let sum = !checksum::fold(checksum::sum(&frame[34..], pseudo));
    frame[40..42].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Writes all headers anew, since the memory has been through the middle before, and draws a flow.
fn program(frame: &[u8; FRAME], flows: Flows, ifindex: u32) -> Vec<Insn> {
    let mut asm = Assembler::new();
    let short = asm.label("short");
    asm.load(Size::Word, R7, R1, 0); // data
    asm.load(Size::Word, R3, R1, 4); // data_end
    asm.mov(R4, R7);
    asm.alu(Alu::Add, R4, FRAME as i32);
    asm.jump_if(R4, Cond::Gt, R3, short);
    for at in (0..HEADERS).step_by(2) {
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
    subtract(&mut asm, 40, &[R8, R9]);
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
/// Ethernet, IPv4, UDP.
const HEADERS: usize = 42;
/// The sources are all in 10.64.0.0/16.
const SOURCES: [u8; 2] = [10, 64];
