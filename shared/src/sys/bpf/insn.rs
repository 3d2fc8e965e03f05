//! BPF instructions as plain data, in the kernel's own layout.
//!
//! Encoding: RFC 9669 (BPF Instruction Set Architecture), section 3. Only what our programs use
//! has a name here.

/// One instruction of 64 bits, as `struct bpf_insn` has it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Insn {
    code: u8,
    registers: u8,
    pub(super) offset: i16,
    immediate: i32,
}

/// A register. `R0` holds results; `R1` to `R5` arguments, lost in a call; `R6` to `R9` stay; `R10`
/// is the end of the 512 bytes of stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "described as a whole")]
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// How much a load or store moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Size {
    /// 4 bytes.
    Word = 0x00,
    /// 2 bytes.
    Half = 0x08,
    /// 1 byte.
    Byte = 0x10,
    /// 8 bytes.
    Double = 0x18,
}

/// Arithmetic of 64 bits: `destination = destination op operand`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Alu {
    /// Sum.
    Add = 0x00,
    /// Difference.
    Sub = 0x10,
    /// Product.
    Mul = 0x20,
    /// Bitwise or.
    Or = 0x40,
    /// Bitwise and.
    And = 0x50,
    /// Shift to the left.
    Shl = 0x60,
    /// Logical shift to the right.
    Shr = 0x70,
    /// Plain copy.
    Mov = 0xb0,
}

/// When a conditional jump is taken; comparisons are unsigned, of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cond {
    /// Equal.
    Eq = 0x10,
    /// Greater.
    Gt = 0x20,
    /// Greater or equal.
    Ge = 0x30,
    /// Some bit in common.
    AnyBit = 0x40,
    /// Not equal.
    Ne = 0x50,
    /// Less.
    Lt = 0xa0,
    /// Less or equal.
    Le = 0xb0,
}

/// A kernel function a program may call (`enum bpf_func_id`). None of these asks for a licence
/// compatible with the GPL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Helper {
    /// `void *bpf_map_lookup_elem(map, key)`: the value, or 0.
    MapLookup = 1,
    /// `u64 bpf_ktime_get_ns()`: nanoseconds of `CLOCK_MONOTONIC`.
    MonotonicNanos = 5,
    /// `u32 bpf_get_prandom_u32()`: a random number.
    Random = 7,
    /// `bpf_skb_store_bytes(skb, offset, from, len, flags)`: writes bytes into the frame; checksums
    /// are left to the program.
    SkbStoreBytes = 9,
    /// `bpf_l4_csum_replace(skb, offset, from, to, flags)`: brings the checksum at `offset` of the
    /// frame up to date with a field that was `from` and is `to`, of as many bytes as `flags` says.
    L4ChecksumReplace = 11,
    /// `bpf_redirect(ifindex, flags)`: what the program is to return to send the frame out of a
    /// device.
    Redirect = 23,
    /// `bpf_skb_load_bytes(skb, offset, to, len)`: copies bytes of the frame, also when it is not
    /// linear; negative when the frame has not so many.
    SkbLoadBytes = 26,
    /// `s64 bpf_csum_diff(from, from_size, to, to_size, seed)`: the sum of 16-bit words of `to`, less that of
    /// `from`, not folded (or folded once, by newer kernels); sizes are multiples of 4.
    ChecksumDifference = 28,
    /// `bpf_skb_change_proto(skb, ethertype, flags)`: makes a frame of IPv4 one of IPv6 or the other way round: a
    /// header of the other length stands in front, whose bytes mean nothing.
    SkbChangeProtocol = 31,
    /// `bpf_skb_change_type(skb, type)`: sets `skb->pkt_type`.
    SkbChangeType = 32,
    /// `u64 bpf_get_socket_cookie(skb)`: the number, unique on this host, of the socket that sends the frame; 0
    /// if there is none.
    SocketCookie = 46,
    /// `bpf_skb_adjust_room(skb, difference, mode, flags)`: makes room behind the Ethernet header or,
    /// with a negative difference, takes bytes away there; negative when it cannot.
    SkbAdjustRoom = 50,
    /// `bpf_skb_ecn_set_ce(skb)`: sets the ECN field of the IP header to "congestion experienced"
    /// (RFC 3168); 0 when the sender does not know ECN.
    SkbSetCongestion = 97,
}

/// Which of the maps handed over at load time an instruction means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapIndex(pub u16);

/// The second operand of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// A register.
    Reg(Reg),
    /// A constant, sign-extended to 64 bits.
    Imm(i32),
}

impl From<Reg> for Operand {
    fn from(register: Reg) -> Operand {
        Operand::Reg(register)
    }
}

impl From<i32> for Operand {
    fn from(immediate: i32) -> Operand {
        Operand::Imm(immediate)
    }
}

impl Insn {
    /// `destination = destination op operand`.
    pub fn alu(op: Alu, destination: Reg, operand: Operand) -> Insn {
        Insn::with_operand(CLASS_ALU64 | op as u8, destination, operand, 0)
    }

    /// `destination = *(size *)(base + offset)`.
    pub fn load(size: Size, destination: Reg, base: Reg, offset: i16) -> Insn {
        let code = CLASS_LDX | MODE_MEM | size as u8;
        Insn::new(code, destination, base as u8, offset, 0)
    }

    /// `*(size *)(base + offset) = operand`.
    pub fn store(size: Size, base: Reg, offset: i16, operand: Operand) -> Insn {
        let rest = MODE_MEM | size as u8;
        match operand {
            Operand::Reg(source) => Insn::new(CLASS_STX | rest, base, source as u8, offset, 0),
            Operand::Imm(value) => Insn::new(CLASS_ST | rest, base, 0, offset, value),
        }
    }

    /// Jump over `offset` instructions when `register cond operand`.
    pub fn jump_if(cond: Cond, register: Reg, operand: Operand, offset: i16) -> Insn {
        Insn::with_operand(CLASS_JMP | cond as u8, register, operand, offset)
    }

    /// Jump over `offset` instructions.
    pub fn jump(offset: i16) -> Insn {
        Insn::new(CLASS_JMP, Reg::R0, 0, offset, 0)
    }

    /// Call a kernel function.
    pub fn call(helper: Helper) -> Insn {
        Insn::new(CLASS_JMP | OP_CALL, Reg::R0, 0, 0, helper as i32)
    }

    /// Leave the program; `R0` is the result.
    pub fn exit() -> Insn {
        Insn::new(CLASS_JMP | OP_EXIT, Reg::R0, 0, 0, 0)
    }

    /// `destination = map`: two instructions, since it is an immediate of 64 bits.
    /// `BPF_PSEUDO_MAP_IDX` (5.14 and later) lets the text be the same whatever descriptor the
    /// map has.
    pub fn load_map(destination: Reg, map: MapIndex) -> [Insn; 2] {
        [
            Insn::new(
                CLASS_LD | MODE_IMM | Size::Double as u8,
                destination,
                PSEUDO_MAP_IDX,
                0,
                i32::from(map.0),
            ),
            Insn::new(0, Reg::R0, 0, 0, 0),
        ]
    }

    fn with_operand(code: u8, destination: Reg, operand: Operand, offset: i16) -> Insn {
        match operand {
            Operand::Reg(source) => {
                Insn::new(code | SOURCE_REG, destination, source as u8, offset, 0)
            }
            Operand::Imm(value) => Insn::new(code, destination, 0, offset, value),
        }
    }

    fn new(code: u8, destination: Reg, source: u8, offset: i16, immediate: i32) -> Insn {
        // The two halves of the byte are C bit fields: their order is the machine's.
        let registers = if cfg!(target_endian = "little") {
            source << 4 | destination as u8
        } else {
            (destination as u8) << 4 | source
        };
        Insn {
            code,
            registers,
            offset,
            immediate,
        }
    }
}

const CLASS_LD: u8 = 0x00;
const CLASS_LDX: u8 = 0x01;
const CLASS_ST: u8 = 0x02;
const CLASS_STX: u8 = 0x03;
const CLASS_JMP: u8 = 0x05;
const CLASS_ALU64: u8 = 0x07;
const MODE_IMM: u8 = 0x00;
const MODE_MEM: u8 = 0x60;
const SOURCE_REG: u8 = 0x08;
const OP_CALL: u8 = 0x80;
const OP_EXIT: u8 = 0x90;
const PSEUDO_MAP_IDX: u8 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that clang and `llvm-objdump` show for these instructions.
    #[test]
    #[cfg(target_endian = "little")]
    fn encodings() {
        let bytes = |insn: Insn| {
            let mut bytes = vec![insn.code, insn.registers];
            bytes.extend(insn.offset.to_le_bytes());
            bytes.extend(insn.immediate.to_le_bytes());
            bytes
        };
        let table = [
            (
                Insn::alu(Alu::Mov, Reg::R6, Reg::R1.into()),
                "bf16000000000000",
            ),
            (
                Insn::alu(Alu::Mov, Reg::R0, (-1).into()),
                "b7000000ffffffff",
            ),
            (Insn::alu(Alu::And, Reg::R3, 15.into()), "570300000f000000"),
            (
                Insn::alu(Alu::Add, Reg::R2, Reg::R10.into()),
                "0fa2000000000000",
            ),
            (
                Insn::load(Size::Word, Reg::R1, Reg::R6, 16),
                "6161100000000000",
            ),
            (
                Insn::load(Size::Byte, Reg::R0, Reg::R10, -20),
                "71a0ecff00000000",
            ),
            (
                Insn::store(Size::Half, Reg::R10, -22, Reg::R2.into()),
                "6b2aeaff00000000",
            ),
            (
                Insn::store(Size::Double, Reg::R10, -8, 0.into()),
                "7a0af8ff00000000",
            ),
            (
                Insn::jump_if(Cond::Eq, Reg::R0, 0.into(), 3),
                "1500030000000000",
            ),
            (
                Insn::jump_if(Cond::Ne, Reg::R1, Reg::R2.into(), -2),
                "5d21feff00000000",
            ),
            (Insn::jump(7), "0500070000000000"),
            (Insn::call(Helper::MapLookup), "8500000001000000"),
            (Insn::exit(), "9500000000000000"),
            (Insn::load_map(Reg::R1, MapIndex(0))[0], "1851000000000000"),
        ];
        for (insn, expected) in table {
            let hex: String = bytes(insn).iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hex, expected, "{insn:?}");
        }
    }
}
