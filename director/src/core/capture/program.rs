//! The same as [`takes()`](super::takes()), as a program for the kernel (tcx or clsact, ingress).
//!
//! Registers: `R6` the frame (`struct __sk_buff`), `R7` the protocol, `R8` and `R9` first an
//! offset, then the addresses of the two endpoints. What is read of the frame is copied to the
//! stack by `bpf_skb_load_bytes`, which checks the bounds, and reads frames that are not linear.

use shared::sys::bpf::Reg::{R0, R1, R2, R3, R6, R7, R8, R9, R10};
use shared::sys::bpf::tcx::TCX_NEXT;
use shared::sys::bpf::{
    Alu, AssembleError, Assembler, Cond, Helper, Insn, Label, MapIndex, Reg, Size, skb,
};

use shared::addr::Family;
use shared::wire::icmpv6;
use shared::wire::ipv6::{
    DESTINATION_OPTIONS, FRAGMENT as FRAGMENT_HEADER, HOP_BY_HOP, MORE, MOST_EXTENSIONS, OFFSET,
    ROUTING,
};

use super::layout::{ethernet, icmp, ipv4, ipv6, key, ports};
use super::questions::{
    CLIENT, FRAGMENT, Found, ICMP_ERROR, OWN, Question, Transport, WITH_PORTS, Whose,
};

/// What becomes of a frame that is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is marked `PACKET_OTHERHOST`, with queue number [`TAKEN_QUEUE`], and passed on: the ring
    /// takes it, the host discards it.
    ToRing,
    /// The program returns 1, or 2 for a copy, for tests: a test run does not show the packet type.
    Report,
}

/// How long the program goes on taking frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// As long as it is attached: the link ends with the process.
    Attached,
    /// As long as the time in a second map ([`pulse_value`] under [`PULSE_KEY`]) is younger than
    /// [`PULSE_NANOS`]: a filter of traffic control outlives the process.
    Pulse,
}

/// The key of the time.
pub const PULSE_KEY: [u8; 4] = [0; 4];

/// The time, nanoseconds of `CLOCK_MONOTONIC`, as it stands in the map.
pub fn pulse_value(nanos: u64) -> [u8; 8] {
    nanos.to_ne_bytes()
}

/// How long a time is good: 2 s.
pub const PULSE_NANOS: i32 = 2_000_000_000;

/// The queue number (`skb->queue_mapping`) of frames that the program has taken. The packet type
/// alone does not tell them apart: the kernel itself gives it to frames for other stations, when
/// the device is promiscuous, and to those of a VLAN that it has no device for, which by then
/// look untagged. Nothing else uses a received frame's queue number after tcx.
pub const TAKEN_QUEUE: u16 = 0x4c56;

/// The queue number of frames that the host keeps and the ring gets a copy of.
pub const COPIED_QUEUE: u16 = 0x4c57;

/// The program. Its first map holds the keys
/// ([`CaptureKey::to_bytes`](super::CaptureKey::to_bytes)) of what is ours.
///
/// It returns `TCX_NEXT` (as a filter, `TC_ACT_UNSPEC`: the same) for every frame (but see [`Taken::Report`]), so that the administrator's
/// own programs see them too.
///
/// # Errors
/// None: the program is always the same. A test holds that.
pub fn program(taken: Taken, life: Life) -> Result<Vec<Insn>, AssembleError> {
    let mut asm = Assembler::new();
    let take = asm.label("take");
    let copy = asm.label("copy");
    let leave = asm.label("leave");

    asm.mov(R6, R1);
    asm.load(Size::Word, R1, R6, skb::PKT_TYPE);
    asm.jump_if(R1, Cond::Ne, skb::PACKET_HOST, leave);
    asm.load(Size::Word, R1, R6, skb::VLAN_PRESENT);
    asm.jump_if(R1, Cond::Ne, 0, leave);
    asm.load(Size::Word, R1, R6, skb::PROTOCOL);
    let six = asm.label("IPv6");
    asm.jump_if(R1, Cond::Eq, skb::network(ethernet::TYPE_IPV6), six);
    asm.jump_if(R1, Cond::Ne, skb::network(ethernet::TYPE_IPV4), leave);
    let ends = Ends { take, copy, leave };
    ipv4(&mut asm, ends);
    asm.bind(six);
    ipv6(&mut asm, ends);

    asm.bind(take);
    if life == Life::Pulse {
        pulse(&mut asm, leave);
    }
    match taken {
        Taken::ToRing => {
            asm.mov(R1, R6);
            asm.mov(R2, PACKET_OTHERHOST);
            asm.call(Helper::SkbChangeType);
            asm.mov(R1, i32::from(TAKEN_QUEUE));
            asm.store(Size::Word, R6, skb::QUEUE_MAPPING, R1);
            asm.jump(leave);
        }
        Taken::Report => {
            asm.mov(R0, 1);
            asm.exit();
        }
    }
    asm.bind(copy);
    if life == Life::Pulse {
        pulse(&mut asm, leave);
    }
    match taken {
        Taken::ToRing => {
            asm.mov(R1, i32::from(COPIED_QUEUE));
            asm.store(Size::Word, R6, skb::QUEUE_MAPPING, R1);
        }
        Taken::Report => {
            asm.mov(R0, 2);
            asm.exit();
        }
    }
    asm.bind(leave);
    asm.mov(R0, TCX_NEXT);
    asm.exit();
    asm.finish()
}

/// To `leave` when nobody has written the time for too long.
fn pulse(asm: &mut Assembler, leave: Label) {
    asm.store(Size::Word, R10, KEY, 0);
    asm.load_map(R1, PULSE);
    asm.stack_address(R2, KEY);
    asm.call(Helper::MapLookup);
    asm.jump_if(R0, Cond::Eq, 0, leave);
    asm.load(Size::Double, R7, R0, 0);
    asm.call(Helper::MonotonicNanos);
    asm.alu(Alu::Sub, R0, R7);
    asm.jump_if(R0, Cond::Gt, PULSE_NANOS, leave);
}

/// Where the way of a frame ends.
#[derive(Clone, Copy)]
struct Ends {
    take: Label,
    copy: Label,
    leave: Label,
}

/// Goes to one of the ends.
fn ipv4(asm: &mut Assembler, ends: Ends) {
    let leave = ends.leave;
    let fragment = asm.label("fragment");
    let icmp_message = asm.label("ICMP message");
    let with_ports = asm.label("with ports");

    asm.copy_frame(ethernet::HEADER as i32, IPV4, ipv4::HEADER, leave);
    asm.ipv4_header_length(R8, IPV4, leave);
    asm.alu(Alu::Add, R8, ethernet::HEADER as i32);
    asm.load(Size::Word, R1, R6, skb::LEN);
    asm.jump_if(R1, Cond::Lt, R8, leave);
    asm.load(Size::Half, R1, R10, IPV4 + ipv4::FRAGMENT as i16);
    asm.jump_if(
        R1,
        Cond::AnyBit,
        skb::network(ipv4::FRAGMENT_OFFSET | ipv4::MORE_FRAGMENTS),
        fragment,
    );
    asm.load(Size::Byte, R7, R10, IPV4 + ipv4::PROTOCOL as i16);
    asm.jump_if(R7, Cond::Eq, IPPROTO_ICMP, icmp_message);

    // A whole packet: to its destination, from its source.
    asm.copy_frame(R8, PORTS, ports::LENGTH, leave);
    asm.load(Size::Word, TO, R10, IPV4 + ipv4::DESTINATION as i16);
    asm.load(Size::Word, FROM, R10, IPV4 + ipv4::SOURCE as i16);
    asm.load(Size::Half, R1, R10, PORTS + ports::DESTINATION as i16);
    asm.load(Size::Half, R2, R10, PORTS + ports::SOURCE as i16);
    asm.jump(with_ports);

    // An ICMP error: to its embedded source, from its embedded destination.
    asm.bind(icmp_message);
    asm.copy_frame(R8, ICMP, icmp::HEADER + ipv4::HEADER, leave);
    let error = asm.label("ICMP error");
    asm.load(Size::Byte, R1, R10, ICMP);
    for kind in icmp::ERRORS {
        asm.jump_if(R1, Cond::Eq, i32::from(kind), error);
    }
    asm.jump(leave);
    asm.bind(error);
    asm.ipv4_header_length(R9, EMBEDDED, leave);
    asm.load(Size::Half, R1, R10, EMBEDDED + ipv4::FRAGMENT as i16);
    asm.jump_if(R1, Cond::AnyBit, skb::network(ipv4::FRAGMENT_OFFSET), leave);
    asm.alu(Alu::Add, R8, R9);
    asm.alu(Alu::Add, R8, icmp::HEADER as i32);
    asm.copy_frame(R8, PORTS, ports::LENGTH, leave);
    asm.load(Size::Byte, R7, R10, EMBEDDED + ipv4::PROTOCOL as i16);
    asm.load(Size::Word, TO, R10, EMBEDDED + ipv4::SOURCE as i16);
    asm.load(Size::Word, FROM, R10, EMBEDDED + ipv4::DESTINATION as i16);
    asm.load(Size::Half, R1, R10, PORTS + ports::SOURCE as i16);
    asm.load(Size::Half, R2, R10, PORTS + ports::DESTINATION as i16);
    asm.store(Size::Half, R10, TO_PORT, R1);
    asm.store(Size::Half, R10, FROM_PORT, R2);
    ask(asm, Family::V4, &ICMP_ERROR, ends);

    asm.bind(with_ports);
    asm.store(Size::Half, R10, TO_PORT, R1);
    asm.store(Size::Half, R10, FROM_PORT, R2);
    ask(asm, Family::V4, &WITH_PORTS, ends);

    asm.bind(fragment);
    asm.load(Size::Word, TO, R10, IPV4 + ipv4::DESTINATION as i16);
    asm.load(Size::Word, FROM, R10, IPV4 + ipv4::SOURCE as i16);
    ask(asm, Family::V4, &FRAGMENT, ends);
}

/// The same for IPv6, whose addresses stay on the stack.
fn ipv6(asm: &mut Assembler, ends: Ends) {
    let leave = ends.leave;
    let fragment = asm.label("fragment of IPv6");
    let icmp_message = asm.label("ICMPv6 message");

    asm.copy_frame(ethernet::HEADER as i32, IPV6, ipv6::HEADER, leave);
    version_6(asm, IPV6, leave);
    asm.load(Size::Half, R1, R10, IPV6 + ipv6::PAYLOAD_LENGTH as i16);
    asm.jump_if(R1, Cond::Eq, 0, leave);
    asm.load(Size::Byte, R7, R10, IPV6 + ipv6::NEXT_HEADER as i16);
    asm.mov(R8, (ethernet::HEADER + ipv6::HEADER) as i32);
    extensions(asm, Cut::Any, fragment, leave);
    asm.jump_if(R7, Cond::Eq, IPPROTO_ICMPV6, icmp_message);

    asm.copy_frame(R8, PORTS6, ports::LENGTH, leave);
    unless_link_local(asm, ipv6::SOURCE, leave);
    place(asm, Ends6::Outer);
    ask(asm, Family::V6, &WITH_PORTS, ends);

    asm.bind(icmp_message);
    unless_link_local(asm, ipv6::DESTINATION, leave);
    asm.copy_frame(R8, ICMP6, icmp::HEADER + ipv6::HEADER, leave);
    asm.load(Size::Byte, R1, R10, ICMP6);
    asm.jump_if(R1, Cond::Ge, i32::from(icmpv6::FIRST_INFORMATION), leave);
    version_6(asm, EMBEDDED6, leave);
    asm.load(Size::Byte, R7, R10, EMBEDDED6 + ipv6::NEXT_HEADER as i16);
    asm.alu(Alu::Add, R8, (icmp::HEADER + ipv6::HEADER) as i32);
    extensions(asm, Cut::Later, leave, leave);
    asm.copy_frame(R8, PORTS6, ports::LENGTH, leave);
    place(asm, Ends6::Embedded);
    ask(asm, Family::V6, &ICMP_ERROR, ends);

    asm.bind(fragment);
    // There are no ports; nothing asks for them.
    asm.store(Size::Word, R10, PORTS6, 0);
    place(asm, Ends6::Outer);
    ask(asm, Family::V6, &FRAGMENT, ends);
}

/// To `leave` if an address of the frame's own header is of its link alone.
fn unless_link_local(asm: &mut Assembler, address: usize, leave: Label) {
    asm.load(Size::Half, R1, R10, IPV6 + address as i16);
    asm.alu(Alu::And, R1, skb::network(ipv6::LINK_LOCAL_MASK));
    asm.jump_if(R1, Cond::Eq, skb::network(ipv6::LINK_LOCAL), leave);
}

/// To `other` unless the header on the stack at `at` is one of IPv6.
fn version_6(asm: &mut Assembler, at: i16, other: Label) {
    asm.load(Size::Byte, R1, R10, at);
    asm.alu(Alu::Shr, R1, 4);
    asm.jump_if(R1, Cond::Ne, 6, other);
}

/// Which fragments are told apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// All.
    Any,
    /// Those without ports.
    Later,
}

/// Follows extension headers from `R8` on, of which `R7` is the first: then both are those of what they lead
/// to. To `fragment` where there is one; to `leave` where they lead nowhere.
fn extensions(asm: &mut Assembler, cut: Cut, fragment: Label, leave: Label) {
    let end = asm.label("end of the extension headers");
    // What a fragment header said, if it is of a part.
    asm.mov(R9, 0);
    for number in 0..MOST_EXTENSIONS {
        let (is_one, is_fragment, next) = (
            asm.label("extension header"),
            asm.label("fragment header"),
            asm.label("next extension header"),
        );
        asm.jump_if(R7, Cond::Eq, i32::from(DESTINATION_OPTIONS), is_one);
        asm.jump_if(R7, Cond::Eq, i32::from(ROUTING), is_one);
        asm.jump_if(R7, Cond::Eq, i32::from(FRAGMENT_HEADER), is_one);
        asm.jump_if(R7, Cond::Ne, i32::from(HOP_BY_HOP), end);
        if number > 0 {
            asm.jump(leave);
        }
        asm.bind(is_one);
        asm.copy_frame(R8, EXTENSION, ipv6::EXTENSION, leave);
        asm.jump_if(R7, Cond::Eq, i32::from(FRAGMENT_HEADER), is_fragment);
        let options = asm.label("options");
        asm.jump_if(R7, Cond::Ne, i32::from(ROUTING), options);
        asm.load(Size::Byte, R1, R10, EXTENSION + ipv6::SEGMENTS_LEFT as i16);
        asm.jump_if(R1, Cond::Ne, 0, leave);
        asm.bind(options);
        asm.load(
            Size::Byte,
            R1,
            R10,
            EXTENSION + ipv6::EXTENSION_LENGTH as i16,
        );
        asm.alu(Alu::Add, R1, 1);
        asm.alu(Alu::Shl, R1, 3);
        asm.alu(Alu::Add, R8, R1);
        asm.jump(next);

        asm.bind(is_fragment);
        asm.jump_if(R9, Cond::Ne, 0, leave);
        asm.alu(Alu::Add, R8, ipv6::EXTENSION as i32);
        asm.load(Size::Half, R9, R10, EXTENSION + ipv6::FRAGMENT as i16);
        asm.alu(Alu::And, R9, skb::network(OFFSET | MORE));
        asm.jump_if(R9, Cond::AnyBit, skb::network(OFFSET), fragment);
        asm.bind(next);
        asm.load(Size::Byte, R7, R10, EXTENSION + ipv6::EXTENSION_NEXT as i16);
    }
    for kind in [DESTINATION_OPTIONS, ROUTING, FRAGMENT_HEADER, HOP_BY_HOP] {
        asm.jump_if(R7, Cond::Eq, i32::from(kind), leave);
    }
    asm.bind(end);
    if cut == Cut::Any {
        asm.jump_if(R9, Cond::Ne, 0, fragment);
    }
}

/// Which header says what a frame of IPv6 is to and from.
#[derive(Clone, Copy)]
enum Ends6 {
    Outer,
    /// The other way round.
    Embedded,
}

/// Puts both ends and their ports where the questions look.
fn place(asm: &mut Assembler, ends: Ends6) {
    let (header, to, from, to_port, from_port) = match ends {
        Ends6::Outer => (
            IPV6,
            ipv6::DESTINATION,
            ipv6::SOURCE,
            ports::DESTINATION,
            ports::SOURCE,
        ),
        Ends6::Embedded => (
            EMBEDDED6,
            ipv6::SOURCE,
            ipv6::DESTINATION,
            ports::SOURCE,
            ports::DESTINATION,
        ),
    };
    copy_address(asm, header + to as i16, TO6);
    copy_address(asm, header + from as i16, FROM6);
    for (port, at) in [(to_port, TO_PORT), (from_port, FROM_PORT)] {
        asm.load(Size::Half, R1, R10, PORTS6 + port as i16);
        asm.store(Size::Half, R10, at, R1);
    }
}

/// Copies an IPv6 address on the stack.
fn copy_address(asm: &mut Assembler, from: i16, to: i16) {
    for word in (0..16).step_by(4) {
        asm.load(Size::Word, R3, R10, from + word);
        asm.store(Size::Word, R10, to + word, R3);
    }
}

/// Looks into the map for each question in order, and goes to one of the ends.
fn ask(asm: &mut Assembler, family: Family, questions: &[Question], ends: Ends) {
    if family == Family::V4 {
        // The address in its mapped form: ten zeros, two 0xff, and the four bytes.
        let address = KEY + key::ADDRESS as i16;
        asm.store(Size::Word, R10, address, 0);
        asm.store(Size::Word, R10, address + 4, 0);
        asm.store(Size::Word, R10, address + 8, 0x0000_ffff_u32.to_be() as i32);
    }
    for question in questions {
        look_up(asm, family, question);
        match question.found {
            Found::Take => asm.jump_if(R0, Cond::Ne, 0, ends.take),
            Found::Leave => asm.jump_if(R0, Cond::Ne, 0, ends.leave),
            Found::Copy => asm.jump_if(R0, Cond::Ne, 0, ends.copy),
            Found::LeaveUnlessClient => {
                let next = asm.label("next question");
                asm.jump_if(R0, Cond::Eq, 0, next);
                look_up(asm, family, &CLIENT);
                asm.jump_if(R0, Cond::Ne, 0, ends.take);
                asm.jump(ends.leave);
                asm.bind(next);
            }
            Found::TakeIfOwn => {
                let next = asm.label("next question");
                asm.jump_if(R0, Cond::Eq, 0, next);
                look_up(asm, family, &OWN);
                asm.jump_if(R0, Cond::Ne, 0, ends.take);
                asm.bind(next);
            }
        }
    }
    asm.jump(ends.leave);
}

/// Looks into the map for one question, the constant part of whose key is there. R0 is 0 if the key is not.
fn look_up(asm: &mut Assembler, family: Family, question: &Question) {
    match family {
        Family::V4 => {
            match question.address {
                Whose::To => asm.mov(R3, TO),
                Whose::From => asm.mov(R3, FROM),
                Whose::Host => asm.load(Size::Word, R3, R10, IPV4 + ipv4::DESTINATION as i16),
                Whose::Nobody => asm.mov(R3, 0),
            }
            asm.store(Size::Word, R10, KEY + key::ADDRESS as i16 + 12, R3);
        }
        Family::V6 => {
            let address = match question.address {
                Whose::To => Some(TO6),
                Whose::From => Some(FROM6),
                Whose::Host => Some(IPV6 + ipv6::DESTINATION as i16),
                Whose::Nobody => None,
            };
            let place = KEY + key::ADDRESS as i16;
            match address {
                Some(address) => copy_address(asm, address, place),
                None => {
                    for word in (0..16).step_by(4) {
                        asm.store(Size::Word, R10, place + word, 0);
                    }
                }
            }
        }
    }
    asm.store(
        Size::Byte,
        R10,
        KEY + key::CLASS as i16,
        question.class as i32,
    );
    match question.transport {
        Transport::None => asm.store(Size::Byte, R10, KEY + key::PROTOCOL as i16, 0),
        _ => asm.store(Size::Byte, R10, KEY + key::PROTOCOL as i16, R7),
    }
    match question.transport {
        Transport::None | Transport::AnyPort => asm.mov(R3, 0),
        Transport::ToPort => asm.load(Size::Half, R3, R10, TO_PORT),
        Transport::FromPort => asm.load(Size::Half, R3, R10, FROM_PORT),
    }
    asm.store(Size::Half, R10, KEY + key::PORT as i16, R3);

    asm.load_map(R1, KEYS);
    asm.stack_address(R2, KEY);
    asm.call(Helper::MapLookup);
}

const TO: Reg = R8;
const FROM: Reg = R9;

// The stack, downwards from R10.
const KEY: i16 = -24;
const IPV4: i16 = KEY - 24;
const ICMP: i16 = IPV4 - 32;
const EMBEDDED: i16 = ICMP + icmp::HEADER as i16;
const PORTS: i16 = ICMP - 4;
const TO_PORT: i16 = PORTS - 2;
const FROM_PORT: i16 = PORTS - 4;
// Of IPv6, further down.
const TO6: i16 = FROM_PORT - 16 - FROM_PORT % 4;
const FROM6: i16 = TO6 - 16;
const IPV6: i16 = FROM6 - ipv6::HEADER as i16;
const ICMP6: i16 = IPV6 - (icmp::HEADER + ipv6::HEADER) as i16;
const EMBEDDED6: i16 = ICMP6 + icmp::HEADER as i16;
const PORTS6: i16 = ICMP6 - 4;
const EXTENSION: i16 = PORTS6 - 12;

const KEYS: MapIndex = MapIndex(0);
const PULSE: MapIndex = MapIndex(1);

// include/uapi/linux/if_packet.h
const PACKET_OTHERHOST: i32 = 3;

const IPPROTO_ICMP: i32 = 1;
const IPPROTO_ICMPV6: i32 = 58;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_assembles() {
        for taken in [Taken::ToRing, Taken::Report] {
            for life in [Life::Attached, Life::Pulse] {
                assert!(program(taken, life).is_ok());
            }
        }
    }
}
