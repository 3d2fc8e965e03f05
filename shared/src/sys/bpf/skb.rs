//! What programs of traffic control do with a frame: `struct __sk_buff` (include/uapi/linux/bpf.h), and
//! pieces of program that copy from it.
//!
//! The pieces expect the frame in `R6`. Bytes are copied to the stack by `bpf_skb_load_bytes`, which
//! checks the bounds, and reads frames that are not linear. They change `R0` to `R5`.

use super::asm::{Assembler, Label};
use super::insn::Reg::{R0, R1, R2, R3, R4, R6, R10};
use super::insn::{Alu, Cond, Helper, Operand, Reg, Size};

/// `__sk_buff::len`: bytes of the frame, with its Ethernet header.
pub const LEN: i16 = 0;
/// `__sk_buff::pkt_type`: for whom the frame is.
pub const PKT_TYPE: i16 = 4;
/// `__sk_buff::mark`: `SO_MARK` of its sender, or what a packet filter set.
pub const MARK: i16 = 8;
/// `__sk_buff::queue_mapping`: the queue that the frame is of.
pub const QUEUE_MAPPING: i16 = 12;
/// `__sk_buff::protocol`: the EtherType, in network order.
pub const PROTOCOL: i16 = 16;
/// `__sk_buff::vlan_present`: whether there is a VLAN tag beside the frame.
pub const VLAN_PRESENT: i16 = 20;
/// A `pkt_type`: for this host (include/uapi/linux/if_packet.h).
pub const PACKET_HOST: i32 = 0;
/// What a filter returns so that the frame goes no further, `TC_ACT_SHOT`.
pub const DROP: i32 = 2;

impl Assembler {
    /// Copies `length` bytes of the frame at `offset` to the stack at `to`; to `short` if it has not
    /// so many.
    pub fn copy_frame(&mut self, offset: impl Into<Operand>, to: i16, length: usize, short: Label) {
        self.mov(R1, R6);
        self.mov(R2, offset);
        self.stack_address(R3, to);
        self.mov(R4, length as i32);
        self.call(Helper::SkbLoadBytes);
        self.jump_if(R0, Cond::Ne, 0, short);
    }

    /// `register` = address of the stack at `at`.
    pub fn stack_address(&mut self, register: Reg, at: i16) {
        self.mov(register, R10);
        self.alu(Alu::Add, register, i32::from(at));
    }

    /// `register` = the length in bytes that the IPv4 header on the stack at `at` claims, 20 to 60; to
    /// `other` if it is none.
    pub fn ipv4_header_length(&mut self, register: Reg, at: i16, other: Label) {
        self.load(Size::Byte, register, R10, at);
        self.jump_if(register, Cond::Lt, 0x45, other);
        self.jump_if(register, Cond::Gt, 0x4f, other);
        self.alu(Alu::And, register, 0x0f);
        self.alu(Alu::Shl, register, 2);
    }

    /// `register` = the number of two bytes in network order on the stack at `at`. Changes `R0`;
    /// `register` is another one.
    pub fn load_network(&mut self, register: Reg, at: i16) {
        self.load(Size::Byte, register, R10, at);
        self.alu(Alu::Shl, register, 8);
        self.load(Size::Byte, R0, R10, at + 1);
        self.alu(Alu::Or, register, R0);
    }
}

/// A value as a load of two bytes in network order gives it.
pub fn network(value: u16) -> i32 {
    i32::from(value.to_be())
}
