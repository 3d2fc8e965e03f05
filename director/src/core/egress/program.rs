//! The program for an interface's egress (tcx). Registers: `R6` the frame, `R7` its mark, `R8` the entry of
//! the map, `R9` the length of the header.

use shared::sys::bpf::Reg::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use shared::sys::bpf::tcx::TCX_NEXT;
use shared::sys::bpf::{
    Alu, AssembleError, Assembler, Cond, Helper, Insn, Label, MapIndex, Size, skb,
};
use shared::wire::ethernet;

use super::{FLAGS_AT, GUE_BYTES, LENGTH_AT, MOST_BYTES, PORT_BITS};

/// Whose marks are labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Senders {
    /// Those of the sockets whose cookies are in the second map: a mark alone may be anybody's.
    Known,
    /// Everybody's, for tests: in a test run nobody sends the frame.
    All,
}

/// The program. Its first map holds the [headers](super::Header) by the [key](super::Label::key) of their
/// label.
///
/// A frame that has no label leaves as it came; one that has is never sent without its header: rather it is
/// lost. The frame must be IPv4, not to be fragmented, and small enough for its header.
///
/// # Errors
/// None: the program is always the same. A test holds that.
pub fn program(senders: Senders) -> Result<Vec<Insn>, AssembleError> {
    let mut asm = Assembler::new();
    let [leave, lose] = ["leave", "lose"].map(|name| asm.label(name));
    asm.mov(R6, R1);
    asm.load(Size::Word, R7, R6, skb::MARK);
    asm.jump_if(R7, Cond::Eq, 0, leave);
    asm.mov(R1, R7);
    asm.alu(Alu::Shr, R1, PORT_BITS as i32);
    asm.store(Size::Word, R10, KEY, R1);
    asm.load_map(R1, HEADERS);
    asm.stack_address(R2, KEY);
    asm.call(Helper::MapLookup);
    asm.jump_if(R0, Cond::Eq, 0, leave);
    asm.mov(R8, R0);
    if senders == Senders::Known {
        asm.mov(R1, R6);
        asm.call(Helper::SocketCookie);
        asm.store(Size::Double, R10, COOKIE, R0);
        asm.load_map(R1, COOKIES);
        asm.stack_address(R2, COOKIE);
        asm.call(Helper::MapLookup);
        asm.jump_if(R0, Cond::Eq, 0, leave);
    }
    asm.load(Size::Byte, R9, R8, LENGTH_AT as i16);
    asm.jump_if(R9, Cond::Lt, IPV4_HEADER as i32, lose);
    asm.jump_if(R9, Cond::Gt, MOST_BYTES as i32, lose);
    write(&mut asm, lose);
    put(&mut asm, lose);
    // The label has been obeyed, and would only confuse whoever looks at the frame next.
    asm.mov(R1, 0);
    asm.store(Size::Word, R6, skb::MARK, R1);
    asm.bind(leave);
    asm.mov(R0, TCX_NEXT);
    asm.exit();
    asm.bind(lose);
    asm.mov(R0, skb::DROP);
    asm.exit();
    asm.finish()
}

/// Writes the header to the stack: that of the map, with what depends on the packet.
fn write(asm: &mut Assembler, lose: Label) {
    let [no_congestion, complete] = ["no congestion", "complete"].map(|name| asm.label(name));
    for at in (0..MOST_BYTES as i16).step_by(8) {
        asm.load(Size::Double, R1, R8, at);
        asm.store(Size::Double, R10, OUTER + at, R1);
    }
    asm.copy_frame(ethernet::LENGTH as i32, INNER, IPV4_HEADER, lose);
    asm.load(Size::Byte, R1, R10, INNER + TOS);
    // "Congestion experienced" stays inside (RFC 3168, section 9.1.1).
    asm.mov(R2, R1);
    asm.alu(Alu::And, R2, CONGESTION_EXPERIENCED);
    asm.jump_if(R2, Cond::Ne, CONGESTION_EXPERIENCED, no_congestion);
    asm.alu(Alu::Sub, R1, CONGESTION_EXPERIENCED - ECN_CAPABLE_0);
    asm.bind(no_congestion);
    asm.store(Size::Byte, R10, OUTER + TOS, R1);
    asm.load(Size::Byte, R1, R10, INNER + TTL);
    asm.store(Size::Byte, R10, OUTER + TTL, R1);
    asm.load(Size::Word, R1, R6, skb::LEN);
    asm.alu(Alu::Add, R1, R9);
    asm.alu(Alu::Sub, R1, ethernet::LENGTH as i32);
    asm.jump_if(R1, Cond::Gt, i32::from(u16::MAX), lose);
    store_network(asm, OUTER + TOTAL);
    asm.store(Size::Half, R10, OUTER + CHECKSUM, 0);
    sum(asm);
    asm.jump_if(R9, Cond::Ne, GUE_BYTES as i32, complete);
    asm.mov(R1, R7);
    store_network(asm, OUTER + UDP_SOURCE);
    asm.load(Size::Word, R1, R6, skb::LEN);
    let behind_ip = GUE_BYTES as i32 - IPV4_HEADER as i32;
    asm.alu(Alu::Add, R1, behind_ip - ethernet::LENGTH as i32);
    store_network(asm, OUTER + UDP_LENGTH);
    asm.bind(complete);
}

/// The checksum of the IP header on the stack.
fn sum(asm: &mut Assembler) {
    asm.mov(R1, 0);
    asm.mov(R2, 0);
    asm.stack_address(R3, OUTER);
    asm.mov(R4, IPV4_HEADER as i32);
    asm.mov(R5, 0);
    asm.call(Helper::ChecksumDifference);
    for _ in 0..2 {
        asm.mov(R1, R0);
        asm.alu(Alu::Shr, R1, 16);
        asm.alu(Alu::And, R0, 0xffff);
        asm.alu(Alu::Add, R0, R1);
    }
    asm.mov(R1, 0xffff);
    asm.alu(Alu::Sub, R1, R0);
    asm.store(Size::Half, R10, OUTER + CHECKSUM, R1);
}

/// Makes room behind the Ethernet header, and puts the header there.
fn put(asm: &mut Assembler, lose: Label) {
    asm.mov(R1, R6);
    asm.mov(R2, R9);
    asm.mov(R3, ROOM_BEHIND_ETHERNET);
    asm.load(Size::Word, R4, R8, FLAGS_AT as i16);
    asm.call(Helper::SkbAdjustRoom);
    asm.jump_if(R0, Cond::Ne, 0, lose);
    asm.mov(R1, R6);
    asm.mov(R2, ethernet::LENGTH as i32);
    asm.stack_address(R3, OUTER);
    asm.mov(R4, R9);
    asm.mov(R5, 0);
    asm.call(Helper::SkbStoreBytes);
    asm.jump_if(R0, Cond::Ne, 0, lose);
}

/// Stores the lower half of `R1` in network order, and changes it.
fn store_network(asm: &mut Assembler, at: i16) {
    asm.store(Size::Byte, R10, at + 1, R1);
    asm.alu(Alu::Shr, R1, 8);
    asm.store(Size::Byte, R10, at, R1);
}

const HEADERS: MapIndex = MapIndex(0);
const COOKIES: MapIndex = MapIndex(1);

// The stack, downwards from R10.
const COOKIE: i16 = -8;
const KEY: i16 = COOKIE - 8;
const OUTER: i16 = KEY - MOST_BYTES as i16;
const INNER: i16 = OUTER - 24;

// RFC 791 and 768.
const IPV4_HEADER: usize = shared::wire::ipv4::MIN_HEADER;
const TOS: i16 = 1;
const TOTAL: i16 = 2;
const TTL: i16 = 8;
const CHECKSUM: i16 = 10;
const UDP_SOURCE: i16 = IPV4_HEADER as i16;
const UDP_LENGTH: i16 = UDP_SOURCE + 4;

const CONGESTION_EXPERIENCED: i32 = 3;
const ECN_CAPABLE_0: i32 = 2;

// include/uapi/linux/bpf.h: BPF_ADJ_ROOM_MAC, and flags of bpf_skb_adjust_room.
const ROOM_BEHIND_ETHERNET: i32 = 1;
/// The segments have been found to fit with the header: none is to become shorter, or the last longer.
pub(super) const KEEP_SEGMENT_SIZE: u32 = 1 << 0;
pub(super) const ENCAPSULATES_IP: u32 = 1 << 1;
pub(super) const ENCAPSULATES_GRE: u32 = 1 << 3;
pub(super) const ENCAPSULATES_UDP: u32 = 1 << 4;
