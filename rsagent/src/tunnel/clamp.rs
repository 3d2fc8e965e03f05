//! Lowers the maximum segment size that the VIPs announce: a program for an interface's egress.
//!
//! What a client sends to a VIP gets a tunnel's header on its way from the director. Were its
//! segments as long as this host's interface takes them, then they would be too long by that, and
//! the director could only drop them and say so. The director never sees what the VIP answers, so the
//! answer is changed here (RFC 9293, section 3.7.1: the option tells what its sender can receive).

use shared::sys::bpf::Reg::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use shared::sys::bpf::skb::{self, network};
use shared::sys::bpf::tcx::TCX_NEXT;
use shared::sys::bpf::{Alu, AssembleError, Assembler, Cond, Helper, Insn, Label, MapIndex, Size};

use super::layout::*;

/// The largest segment, in bytes, that reaches a host by any of the tunnels when the path takes
/// packets of `mtu` bytes. `None` when that is no segment worth the name, or there is no need for one.
pub(crate) fn segment(mtu: u32) -> Option<u16> {
    let segment = mtu.checked_sub(LARGEST_TUNNEL + HEADERS)?;
    let segment = u16::try_from(segment).ok()?;
    (segment >= SMALLEST_SEGMENT).then_some(segment)
}

/// The program. Its only map holds the VIPs. Packets with SYN that leave from one announce `segment`
/// bytes at most.
///
/// Registers: `R6` the frame, `R7` where in it TCP begins, `R8` where its options end, `R9` the option
/// being looked at.
///
/// # Errors
/// None: the program differs in one number. A test holds that.
pub(crate) fn program(segment: u16) -> Result<Vec<Insn>, AssembleError> {
    let mut asm = Assembler::new();
    let leave = asm.label("leave");
    asm.mov(R6, R1);
    asm.load(Size::Word, R1, R6, skb::PROTOCOL);
    asm.jump_if(R1, Cond::Ne, network(TYPE_IPV4), leave);
    syn_of_vip(&mut asm, leave);
    find_option(&mut asm, leave);
    lower(&mut asm, segment, leave);
    asm.bind(leave);
    asm.mov(R0, TCX_NEXT);
    asm.exit();
    asm.finish()
}

/// To `leave` unless a VIP opens a connection or agrees to one.
fn syn_of_vip(asm: &mut Assembler, leave: Label) {
    asm.copy_frame(ETHERNET, IPV4, IPV4_HEADER, leave);
    asm.load(Size::Byte, R1, R10, IPV4 + IPV4_PROTOCOL);
    asm.jump_if(R1, Cond::Ne, PROTOCOL_TCP, leave);
    asm.load(Size::Half, R1, R10, IPV4 + IPV4_FRAGMENT);
    let any_fragment = network(FRAGMENT_OFFSET | MORE_FRAGMENTS);
    asm.jump_if(R1, Cond::AnyBit, any_fragment, leave);
    asm.ipv4_header_length(R7, IPV4, leave);
    asm.alu(Alu::Add, R7, ETHERNET);
    asm.copy_frame(R7, TCP, TCP_HEADER, leave);
    asm.load(Size::Byte, R1, R10, TCP + TCP_FLAGS);
    asm.alu(Alu::And, R1, TCP_SYN);
    asm.jump_if(R1, Cond::Eq, 0, leave);
    asm.load(Size::Byte, R8, R10, TCP + TCP_DATA_OFFSET);
    asm.alu(Alu::Shr, R8, 4);
    asm.alu(Alu::Shl, R8, 2);
    asm.alu(Alu::Add, R8, R7);
    asm.load_map(R1, VIPS);
    asm.stack_address(R2, IPV4 + IPV4_SOURCE);
    asm.call(Helper::MapLookup);
    asm.jump_if(R0, Cond::Eq, 0, leave);
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
fn lower(asm: &mut Assembler, segment: u16, leave: Label) {
    let even = asm.label("at an even place");
    asm.load_network(R1, OPTION + 2);
    asm.jump_if(R1, Cond::Le, i32::from(segment), leave);
    asm.store(Size::Half, R10, NEW, network(segment));
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
    asm.mov(R4, network(segment));
    asm.alu(Alu::Sub, R9, R7);
    asm.alu(Alu::And, R9, 1);
    asm.jump_if(R9, Cond::Eq, 0, even);
    asm.alu(Alu::And, R4, 0xffff);
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

/// The most that a tunnel adds: GUE's IP, UDP and own header. IPIP adds 20 bytes, GRE 24 or 28. Which
/// one the director uses is not known here.
const LARGEST_TUNNEL: u32 = 20 + 8 + 4;

/// Of IPv4 and TCP, without options, as the maximum segment size counts (RFC 6691).
const HEADERS: u32 = 40;

/// With less than this (RFC 9293, section 3.7.1, of a host that announces nothing) something is wrong with
/// the interface, and the option is left alone.
const SMALLEST_SEGMENT: u16 = 536;

/// A TCP header has room for so many options of one byte.
const MOST_OPTIONS: i32 = 40;

// The flags of bpf_l4_csum_replace: the size of the field.
const FIELD_BYTES: i32 = 2;

// The stack, downwards from R10.
const LEFT: i16 = -8;
const IPV4: i16 = LEFT - 24;
const TCP: i16 = IPV4 - 24;
const OPTION: i16 = TCP - 4;
const NEW: i16 = OPTION - 4;
