//! Lowers the maximum segment size that the VIPs announce: a program for an interface's egress.
//!
//! What a client sends to a VIP gets a tunnel's header on its way from the director. Were its
//! segments as long as this host's interface takes them, then they would be too long by that, and
//! the director could only drop them and say so. The director never sees what the VIP answers, so the
//! answer is changed here (RFC 9293, section 3.7.1: the option tells what its sender can receive).

use shared::addr::Family;
use shared::sys::bpf::Reg::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use shared::sys::bpf::skb::{self, network};
use shared::sys::bpf::tcx::TCX_NEXT;
use shared::sys::bpf::{Alu, AssembleError, Assembler, Cond, Helper, Insn, Label, MapIndex, Size};

use super::address::{KEY_BYTES, known};
use super::layout::*;

/// The largest segments, in bytes, that reach a host by any of the tunnels of their family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segments {
    /// Of IPv4.
    pub(crate) v4: u16,
    /// Of IPv6.
    pub(crate) v6: u16,
}

impl Segments {
    /// When the path takes packets of `mtu` bytes. `None` when those are no segments worth the name, or
    /// there is no need for any.
    pub(crate) fn on(mtu: u32) -> Option<Segments> {
        let [v4, v6] = [IPV4_HEADER as u32, IPV6_HEADER as u32].map(|header| {
            let segment = mtu.checked_sub(2 * header + TUNNEL + TCP_HEADER as u32)?;
            u16::try_from(segment).ok()
        });
        let segments = Segments { v4: v4?, v6: v6? };
        (segments.v4 >= SMALLEST_SEGMENT).then_some(segments)
    }
}

/// The program. Its only map holds the VIPs. Packets with SYN that leave from one announce so many bytes at
/// most.
///
/// Registers: `R6` the frame, `R7` where in it TCP begins, `R8` where its options end, `R9` the option
/// being looked at.
///
/// # Errors
/// None: the program differs in two numbers. A test holds that.
pub(crate) fn program(segments: Segments) -> Result<Vec<Insn>, AssembleError> {
    let mut asm = Assembler::new();
    let [six, tcp, leave] = ["IPv6", "TCP", "leave"].map(|name| asm.label(name));
    asm.mov(R6, R1);
    asm.load(Size::Word, R1, R6, skb::PROTOCOL);
    asm.jump_if(R1, Cond::Eq, network(TYPE_IPV6), six);
    asm.jump_if(R1, Cond::Ne, network(TYPE_IPV4), leave);
    from_vip(&mut asm, leave);
    asm.store(Size::Double, R10, MOST, i32::from(segments.v4));
    asm.jump(tcp);
    asm.bind(six);
    from_vip_v6(&mut asm, leave);
    asm.store(Size::Double, R10, MOST, i32::from(segments.v6));
    asm.bind(tcp);
    syn(&mut asm, leave);
    find_option(&mut asm, leave);
    lower(&mut asm, leave);
    asm.bind(leave);
    asm.mov(R0, TCX_NEXT);
    asm.exit();
    asm.finish()
}

/// To `leave` unless it is whole, of TCP, and from a VIP. Moves `R7` behind the IP header.
fn from_vip(asm: &mut Assembler, leave: Label) {
    asm.copy_frame(ETHERNET, IP, IPV4_HEADER, leave);
    asm.load(Size::Byte, R1, R10, IP + IPV4_PROTOCOL);
    asm.jump_if(R1, Cond::Ne, PROTOCOL_TCP, leave);
    asm.load(Size::Half, R1, R10, IP + IPV4_FRAGMENT);
    let any_fragment = network(FRAGMENT_OFFSET | MORE_FRAGMENTS);
    asm.jump_if(R1, Cond::AnyBit, any_fragment, leave);
    asm.ipv4_header_length(R7, IP, leave);
    asm.alu(Alu::Add, R7, ETHERNET);
    known(asm, Family::V4, VIPS, (IP + IPV4_SOURCE, KEY), leave);
}

/// The same of IPv6. A host that answers has no extension headers in front of TCP.
fn from_vip_v6(asm: &mut Assembler, leave: Label) {
    asm.copy_frame(ETHERNET, IP, IPV6_HEADER, leave);
    asm.load(Size::Byte, R1, R10, IP + IPV6_NEXT);
    asm.jump_if(R1, Cond::Ne, PROTOCOL_TCP, leave);
    asm.mov(R7, ETHERNET + IPV6_HEADER as i32);
    known(asm, Family::V6, VIPS, (IP + IPV6_SOURCE, KEY), leave);
}

/// To `leave` unless it opens a connection or agrees to one. Moves `R8` behind the options.
fn syn(asm: &mut Assembler, leave: Label) {
    asm.copy_frame(R7, TCP, TCP_HEADER, leave);
    asm.load(Size::Byte, R1, R10, TCP + TCP_FLAGS);
    asm.alu(Alu::And, R1, TCP_SYN);
    asm.jump_if(R1, Cond::Eq, 0, leave);
    asm.load(Size::Byte, R8, R10, TCP + TCP_DATA_OFFSET);
    asm.alu(Alu::Shr, R8, 4);
    asm.alu(Alu::Shl, R8, 2);
    asm.alu(Alu::Add, R8, R7);
}

/// Moves `R9` to the option, whose four bytes are on the stack; to `leave` if there is none.
fn find_option(asm: &mut Assembler, leave: Label) {
    let [next, found, skip] = ["next option", "MSS", "skip"].map(|name| asm.label(name));
    asm.mov(R9, R7);
    asm.alu(Alu::Add, R9, TCP_HEADER as i32);
    asm.store(Size::Double, R10, LEFT, MOST_OPTIONS);

    asm.bind(next);
    asm.load(Size::Double, R1, R10, LEFT);
    asm.jump_if(R1, Cond::Eq, 0, leave);
    asm.alu(Alu::Sub, R1, 1);
    asm.store(Size::Double, R10, LEFT, R1);
    asm.jump_if(R9, Cond::Ge, R8, leave);
    asm.copy_frame(R9, OPTION, 1, leave);
    asm.load(Size::Byte, R1, R10, OPTION);
    asm.jump_if(R1, Cond::Eq, OPTION_END, leave);
    asm.mov(R2, 1);
    asm.jump_if(R1, Cond::Eq, OPTION_NOTHING, skip);
    asm.copy_frame(R9, OPTION, 2, leave);
    asm.load(Size::Byte, R2, R10, OPTION + 1);
    asm.jump_if(R2, Cond::Lt, 2, leave);
    asm.load(Size::Byte, R1, R10, OPTION);
    asm.jump_if(R1, Cond::Eq, OPTION_MSS, found);
    asm.bind(skip);
    asm.alu(Alu::Add, R9, R2);
    asm.jump(next);

    asm.bind(found);
    asm.jump_if(R2, Cond::Ne, OPTION_MSS_LENGTH, leave);
    asm.alu(Alu::Add, R2, R9);
    asm.jump_if(R2, Cond::Gt, R8, leave);
    asm.copy_frame(R9, OPTION, OPTION_MSS_LENGTH as usize, leave);
}

/// Writes the smaller size, and brings the checksum up to date.
fn lower(asm: &mut Assembler, leave: Label) {
    let even = asm.label("at an even place");
    asm.load_network(R1, OPTION + 2);
    asm.load(Size::Double, R2, R10, MOST);
    asm.jump_if(R1, Cond::Le, R2, leave);
    asm.store(Size::Byte, R10, NEW + 1, R2);
    asm.alu(Alu::Shr, R2, 8);
    asm.store(Size::Byte, R10, NEW, R2);
    asm.mov(R1, R6);
    asm.mov(R2, R9);
    asm.alu(Alu::Add, R2, 2);
    asm.stack_address(R3, NEW);
    asm.mov(R4, 2);
    asm.mov(R5, 0);
    asm.call(Helper::SkbStoreBytes);
    asm.jump_if(R0, Cond::Ne, 0, leave);

    // The checksum is of words of two bytes. At an odd place the first byte is the second one of a
    // word, and the second byte the first one of the next.
    asm.load(Size::Half, R3, R10, OPTION + 2);
    asm.load(Size::Half, R4, R10, NEW);
    asm.alu(Alu::Sub, R9, R7);
    asm.alu(Alu::And, R9, 1);
    asm.jump_if(R9, Cond::Eq, 0, even);
    for field in [R3, R4] {
        asm.mov(R1, field);
        asm.alu(Alu::Shl, R1, 8);
        asm.alu(Alu::Shr, field, 8);
        asm.alu(Alu::Or, field, R1);
        asm.alu(Alu::And, field, 0xffff);
    }
    asm.bind(even);
    asm.mov(R1, R6);
    asm.mov(R2, R7);
    asm.alu(Alu::Add, R2, TCP_CHECKSUM);
    asm.mov(R5, FIELD_BYTES);
    asm.call(Helper::L4ChecksumReplace);
}

const VIPS: MapIndex = MapIndex(0);

/// The most that a tunnel adds to the outer IP header: GUE's UDP and own header. GRE adds 4 or 8 bytes. Which one
/// the director uses is not known here; the outer header is taken to be of the inner one's family.
const TUNNEL: u32 = 8 + 4;

/// With less than this (RFC 9293, section 3.7.1, of a host that announces nothing) something is wrong with
/// the interface, and the option is left alone.
const SMALLEST_SEGMENT: u16 = 536;

/// A TCP header has room for so many options of one byte.
const MOST_OPTIONS: i32 = 40;

// The flags of bpf_l4_csum_replace: the size of the field.
const FIELD_BYTES: i32 = 2;

// The stack, downwards from R10.
const LEFT: i16 = -8;
const MOST: i16 = LEFT - 8;
const KEY: i16 = MOST - KEY_BYTES;
const IP: i16 = KEY - IPV6_HEADER as i16;
const TCP: i16 = IP - 24;
const OPTION: i16 = TCP - 4;
const NEW: i16 = OPTION - 4;
