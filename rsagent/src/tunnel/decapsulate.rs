//! Takes the tunnel off packets from the director: a program for an interface's ingress.
//!
//! The frame is shortened before the IP layer has seen it. So the inner packet arrives by the interface
//! that the tunnel's packet came in by, with the client's address as its source, as if the client
//! had sent it to the VIP itself; packet filters and `tcpdump` on that interface are to be read so.
//! Reverse path filtering asks, as always, for the way back to that source: it must lead out of this
//! very interface where `rp_filter` is 1, and out of any where it is 2.
//!
//! | taken | to | what is in front of the inner packet |
//! |---|---|---|
//! | IP in IP (RFC 2003, RFC 2473, RFC 4213) | protocol 4, 41 | nothing |
//! | GUE (draft-ietf-intarea-gue, version 0) | UDP, the port | 4 bytes and what their length says |
//! | GRE (RFC 2784, RFC 7676) | protocol 47 | 4 bytes, 8 with a checksum |
//!
//! Each family may be in either. Everything else passes as it came, and the host does with it what it did
//! before. That is also:
//!
//! - **fragments of the tunnel's packet**, and what has extension headers outside: at this place nobody has
//!   put them together. A director sends the inner packet in fragments instead, or tells its sender about the
//!   path's MTU;
//! - **GUE with flags**, and with them `remcsum`, whose inner checksum would have to be made here;
//!   GRE with key or sequence number; control messages;
//! - what is not for an address of this host outside and for a VIP inside, and **tunnels in tunnels**:
//!   inside there is TCP, UDP, SCTP, ESP, AH, a fragment of those, or an ICMP error; with IPv6 no other
//!   extension headers.
//!
//! Checksums of UDP and GRE outside are not looked at: the inner packet has its own, which the host
//! verifies, since the kernel forgets what a network card said of the checksum outside.
//!
//! "Congestion experienced" outside is carried over (RFC 6040, section 4.2): into a packet that knows
//! ECN it is written, one that does not is dropped.

use shared::addr::Family;
use shared::sys::bpf::Reg::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use shared::sys::bpf::skb::{self, network};
use shared::sys::bpf::tcx::TCX_NEXT;
use shared::sys::bpf::{Alu, AssembleError, Assembler, Cond, Helper, Insn, Label, MapIndex, Size};

use super::Ipip;
use super::address::{KEY_BYTES, known};
use super::layout::*;

/// The program. Its first map holds the addresses of this host where tunnels end, its second one the
/// VIPs; `port` is GUE's. `ipip` is about IPv4 in IPv4 alone.
///
/// Registers: `R6` the frame, `R7` where in it the inner packet begins, `R8` where the outer one ends,
/// `R9` the outer ECN field.
///
/// # Errors
/// None: the program differs in two numbers. A test holds that.
pub(crate) fn program(port: u16, ipip: Ipip) -> Result<Vec<Insn>, AssembleError> {
    let mut asm = Assembler::new();
    let [six, tunnel, leave] = ["IPv6 outside", "tunnel", "leave"].map(|name| asm.label(name));
    asm.mov(R6, R1);
    asm.load(Size::Word, R1, R6, skb::PKT_TYPE);
    asm.jump_if(R1, Cond::Ne, skb::PACKET_HOST, leave);
    // It comes by here again, at its VLAN's device.
    asm.load(Size::Word, R1, R6, skb::VLAN_PRESENT);
    asm.jump_if(R1, Cond::Ne, 0, leave);
    asm.load(Size::Word, R1, R6, skb::PROTOCOL);
    asm.jump_if(R1, Cond::Eq, network(TYPE_IPV6), six);
    asm.jump_if(R1, Cond::Ne, network(TYPE_IPV4), leave);
    outer(&mut asm, leave);
    if ipip == Ipip::Kernel {
        asm.jump_if(R1, Cond::Eq, PROTOCOL_IPIP, leave);
    }
    asm.jump(tunnel);
    asm.bind(six);
    outer_v6(&mut asm, leave);
    asm.bind(tunnel);
    tunnels(&mut asm, port, leave);
    acceptable(&mut asm, leave);
    shorten(&mut asm, leave);
    asm.bind(leave);
    asm.mov(R0, TCX_NEXT);
    asm.exit();
    asm.finish()
}

/// To `leave` unless it is a whole packet for this host. What it carries is in `R1`.
fn outer(asm: &mut Assembler, leave: Label) {
    asm.copy_frame(ETHERNET, OUTER, IPV4_HEADER, leave);
    asm.ipv4_header_length(R7, OUTER, leave);
    asm.alu(Alu::Add, R7, ETHERNET);
    asm.load(Size::Half, R1, R10, OUTER + IPV4_FRAGMENT);
    let any_fragment = network(FRAGMENT_OFFSET | MORE_FRAGMENTS);
    asm.jump_if(R1, Cond::AnyBit, any_fragment, leave);
    asm.load_network(R8, OUTER + IPV4_TOTAL);
    asm.alu(Alu::Add, R8, ETHERNET);
    asm.load(Size::Word, R1, R6, skb::LEN);
    asm.jump_if(R1, Cond::Lt, R8, leave);
    asm.load(Size::Byte, R9, R10, OUTER + IPV4_TOS);
    asm.alu(Alu::And, R9, ECN);
    known(asm, Family::V4, OWN, (OUTER + IPV4_DESTINATION, KEY), leave);
    asm.store(Size::Double, R10, OUTSIDE, VERSION_4);
    asm.load(Size::Byte, R1, R10, OUTER + IPV4_PROTOCOL);
}

/// The same of IPv6.
fn outer_v6(asm: &mut Assembler, leave: Label) {
    asm.copy_frame(ETHERNET, OUTER, IPV6_HEADER, leave);
    version_6(asm, OUTER, leave);
    asm.mov(R7, ETHERNET + IPV6_HEADER as i32);
    asm.load_network(R8, OUTER + IPV6_PAYLOAD);
    asm.alu(Alu::Add, R8, R7);
    asm.load(Size::Word, R1, R6, skb::LEN);
    asm.jump_if(R1, Cond::Lt, R8, leave);
    asm.load(Size::Byte, R9, R10, OUTER + IPV6_CLASS);
    asm.alu(Alu::Shr, R9, IPV6_CLASS_SHIFT);
    asm.alu(Alu::And, R9, ECN);
    known(asm, Family::V6, OWN, (OUTER + IPV6_DESTINATION, KEY), leave);
    asm.store(Size::Double, R10, OUTSIDE, VERSION_6);
    asm.load(Size::Byte, R1, R10, OUTER + IPV6_NEXT);
}

/// To `leave` unless the header on the stack at `at` is one of IPv6.
fn version_6(asm: &mut Assembler, at: i16, leave: Label) {
    asm.load(Size::Byte, R1, R10, at);
    asm.alu(Alu::Shr, R1, 4);
    asm.jump_if(R1, Cond::Ne, VERSION_6, leave);
}

/// Moves `R7` behind the tunnel's own header, and notes what should be inside; to `leave` if it is none of ours.
/// In `R1` is what the outer packet carries.
fn tunnels(asm: &mut Assembler, port: u16, leave: Label) {
    let [udp, gre, plain] = ["UDP", "GRE", "plain GRE"].map(|name| asm.label(name));
    let [four, six, inner] = ["IPv4 inside", "IPv6 inside", "inner"].map(|name| asm.label(name));
    asm.jump_if(R1, Cond::Eq, PROTOCOL_IPIP, four);
    asm.jump_if(R1, Cond::Eq, PROTOCOL_IPV6, six);
    asm.jump_if(R1, Cond::Eq, PROTOCOL_UDP, udp);
    asm.jump_if(R1, Cond::Eq, PROTOCOL_GRE, gre);
    asm.jump(leave);

    asm.bind(udp);
    asm.copy_frame(R7, TUNNEL, UDP_HEADER + GUE_HEADER, leave);
    asm.load(Size::Half, R1, R10, TUNNEL + UDP_DESTINATION);
    asm.jump_if(R1, Cond::Ne, network(port), leave);
    asm.load_network(R1, TUNNEL + UDP_LENGTH);
    asm.alu(Alu::Add, R1, R7);
    asm.jump_if(R1, Cond::Ne, R8, leave);
    let gue = TUNNEL + UDP_HEADER as i16;
    // Version 0, no control message; the rest is the length of what follows, in words.
    asm.load(Size::Byte, R1, R10, gue);
    asm.jump_if(R1, Cond::Gt, GUE_LENGTH, leave);
    asm.load(Size::Half, R2, R10, gue + 2);
    asm.jump_if(R2, Cond::Ne, 0, leave);
    asm.alu(Alu::Shl, R1, 2);
    asm.alu(Alu::Add, R7, R1);
    asm.alu(Alu::Add, R7, (UDP_HEADER + GUE_HEADER) as i32);
    asm.load(Size::Byte, R1, R10, gue + 1);
    asm.jump_if(R1, Cond::Eq, PROTOCOL_IPIP, four);
    asm.jump_if(R1, Cond::Eq, PROTOCOL_IPV6, six);
    asm.jump(leave);

    asm.bind(gre);
    asm.copy_frame(R7, TUNNEL, GRE_HEADER, leave);
    asm.alu(Alu::Add, R7, GRE_HEADER as i32);
    asm.load(Size::Half, R1, R10, TUNNEL);
    asm.jump_if(R1, Cond::Eq, 0, plain);
    asm.jump_if(R1, Cond::Ne, network(GRE_CHECKSUM), leave);
    asm.alu(Alu::Add, R7, GRE_CHECKSUM_BYTES);
    asm.bind(plain);
    asm.load(Size::Half, R1, R10, TUNNEL + GRE_PROTOCOL);
    asm.jump_if(R1, Cond::Eq, network(TYPE_IPV4), four);
    asm.jump_if(R1, Cond::Eq, network(TYPE_IPV6), six);
    asm.jump(leave);

    asm.bind(four);
    asm.store(Size::Double, R10, INSIDE, VERSION_4);
    asm.jump(inner);
    asm.bind(six);
    asm.store(Size::Double, R10, INSIDE, VERSION_6);
    asm.bind(inner);
}

/// To `leave` unless the inner packet lies within the outer one, is for a VIP, and no tunnel again.
fn acceptable(asm: &mut Assembler, leave: Label) {
    let [six, accepted] = ["IPv6 is inside", "accepted"].map(|name| asm.label(name));
    asm.load(Size::Double, R1, R10, INSIDE);
    asm.jump_if(R1, Cond::Eq, VERSION_6, six);
    acceptable_v4(asm, accepted, leave);
    asm.bind(six);
    acceptable_v6(asm, accepted, leave);
    asm.bind(accepted);
}

fn acceptable_v4(asm: &mut Assembler, accepted: Label, leave: Label) {
    let icmp = asm.label("ICMP");
    asm.copy_frame(R7, INNER, IPV4_HEADER, leave);
    asm.load_network(R2, INNER + IPV4_TOTAL);
    asm.ipv4_header_length(R1, INNER, leave);
    asm.jump_if(R2, Cond::Lt, R1, leave);
    asm.alu(Alu::Add, R2, R7);
    asm.jump_if(R2, Cond::Gt, R8, leave);
    known(
        asm,
        Family::V4,
        VIPS,
        (INNER + IPV4_DESTINATION, KEY),
        leave,
    );
    asm.load(Size::Byte, R1, R10, INNER + IPV4_PROTOCOL);
    accept_balanced(asm, accepted);
    asm.jump_if(R1, Cond::Eq, PROTOCOL_ICMP, icmp);
    asm.jump(leave);

    asm.bind(icmp);
    asm.load(Size::Half, R1, R10, INNER + IPV4_FRAGMENT);
    asm.jump_if(R1, Cond::AnyBit, network(FRAGMENT_OFFSET), leave);
    asm.ipv4_header_length(R2, INNER, leave);
    asm.alu(Alu::Add, R2, R7);
    asm.copy_frame(R2, TUNNEL, 1, leave);
    asm.load(Size::Byte, R1, R10, TUNNEL);
    for kind in ICMP_ERRORS {
        asm.jump_if(R1, Cond::Eq, kind, accepted);
    }
    asm.jump(leave);
}

fn acceptable_v6(asm: &mut Assembler, accepted: Label, leave: Label) {
    let [icmp, fragment] = ["ICMPv6", "fragment"].map(|name| asm.label(name));
    asm.copy_frame(R7, INNER, IPV6_HEADER, leave);
    version_6(asm, INNER, leave);
    asm.load_network(R2, INNER + IPV6_PAYLOAD);
    asm.alu(Alu::Add, R2, IPV6_HEADER as i32);
    asm.alu(Alu::Add, R2, R7);
    asm.jump_if(R2, Cond::Gt, R8, leave);
    known(
        asm,
        Family::V6,
        VIPS,
        (INNER + IPV6_DESTINATION, KEY),
        leave,
    );
    asm.load(Size::Byte, R1, R10, INNER + IPV6_NEXT);
    accept_balanced(asm, accepted);
    asm.jump_if(R1, Cond::Eq, PROTOCOL_ICMPV6, icmp);
    asm.jump_if(R1, Cond::Eq, PROTOCOL_FRAGMENT, fragment);
    asm.jump(leave);

    asm.bind(icmp);
    first_byte(asm, leave);
    asm.jump_if(R1, Cond::Lt, ICMPV6_INFORMATION, accepted);
    asm.jump(leave);

    asm.bind(fragment);
    first_byte(asm, leave);
    accept_balanced(asm, accepted);
    asm.jump(leave);
}

/// To `accepted` with a protocol, in `R1`, that is balanced.
fn accept_balanced(asm: &mut Assembler, accepted: Label) {
    for protocol in BALANCED {
        asm.jump_if(R1, Cond::Eq, protocol, accepted);
    }
}

/// What is behind the inner header of IPv6, in `R1`.
fn first_byte(asm: &mut Assembler, leave: Label) {
    asm.mov(R2, R7);
    asm.alu(Alu::Add, R2, IPV6_HEADER as i32);
    asm.copy_frame(R2, TUNNEL, 1, leave);
    asm.load(Size::Byte, R1, R10, TUNNEL);
}

/// Takes away what is in front of the inner packet, which is what the host goes on with.
fn shorten(asm: &mut Assembler, leave: Label) {
    let [ecn, six, carry, drop] =
        ["inner ECN", "of IPv6", "carry congestion", "drop"].map(|name| asm.label(name));
    asm.jump_if(R9, Cond::Ne, ECN, carry);
    asm.load(Size::Double, R2, R10, INSIDE);
    asm.jump_if(R2, Cond::Eq, VERSION_6, six);
    asm.load(Size::Byte, R1, R10, INNER + IPV4_TOS);
    asm.jump(ecn);
    asm.bind(six);
    asm.load(Size::Byte, R1, R10, INNER + IPV6_CLASS);
    asm.alu(Alu::Shr, R1, IPV6_CLASS_SHIFT);
    asm.bind(ecn);
    asm.jump_if(R1, Cond::AnyBit, ECN, carry);
    asm.jump(drop);

    asm.bind(carry);
    change_family(asm, drop, leave);
    asm.mov(R1, R6);
    asm.mov(R2, ETHERNET);
    asm.alu(Alu::Sub, R2, R7);
    asm.mov(R3, ROOM_BEHIND_ETHERNET);
    // The segments of an aggregate stay as long as they are: they were counted without the tunnel.
    asm.mov(R4, KEEP_SEGMENT_SIZE);
    asm.call(Helper::SkbAdjustRoom);
    // A frame whose family was changed would mean nothing to anybody.
    asm.jump_if(R0, Cond::Ne, 0, drop);
    asm.jump_if(R9, Cond::Ne, ECN, leave);
    asm.mov(R1, R6);
    asm.call(Helper::SkbSetCongestion);
    asm.jump(leave);

    asm.bind(drop);
    asm.mov(R0, skb::DROP);
    asm.exit();
}

/// Makes the frame one of the inner packet's family, if it is of the other. The kernel puts a header of that
/// family's length in front, which goes with the rest of the tunnel.
fn change_family(asm: &mut Assembler, drop: Label, leave: Label) {
    let [to_four, to_six, changed] =
        ["to IPv4", "to IPv6", "of the right family"].map(|name| asm.label(name));
    asm.load(Size::Double, R1, R10, OUTSIDE);
    asm.load(Size::Double, R2, R10, INSIDE);
    asm.jump_if(R1, Cond::Eq, R2, changed);
    asm.jump_if(R2, Cond::Eq, VERSION_6, to_six);
    asm.jump(to_four);
    let difference = (IPV6_HEADER - IPV4_HEADER) as i32;
    for (label, family, op) in [
        (to_six, TYPE_IPV6, Alu::Add),
        (to_four, TYPE_IPV4, Alu::Sub),
    ] {
        asm.bind(label);
        asm.mov(R1, R6);
        asm.mov(R2, network(family));
        asm.mov(R3, 0);
        asm.call(Helper::SkbChangeProtocol);
        asm.jump_if(R0, Cond::Ne, 0, leave);
        asm.alu(op, R7, difference);
        asm.store(Size::Half, R10, TUNNEL, network(family));
        asm.mov(R1, R6);
        asm.mov(R2, ETHERTYPE);
        asm.stack_address(R3, TUNNEL);
        asm.mov(R4, 2);
        asm.mov(R5, 0);
        asm.call(Helper::SkbStoreBytes);
        asm.jump_if(R0, Cond::Ne, 0, drop);
        asm.jump(changed);
    }
    asm.bind(changed);
}

const OWN: MapIndex = MapIndex(0);
const VIPS: MapIndex = MapIndex(1);

const VERSION_4: i32 = 4;
const VERSION_6: i32 = 6;

// The stack, downwards from R10.
const OUTSIDE: i16 = -8;
const INSIDE: i16 = OUTSIDE - 8;
const KEY: i16 = INSIDE - KEY_BYTES;
const OUTER: i16 = KEY - IPV6_HEADER as i16;
const INNER: i16 = OUTER - IPV6_HEADER as i16;
const TUNNEL: i16 = INNER - 16;

const ECN: i32 = 0b11;

/// What a director sends, besides errors about it.
const BALANCED: [i32; 5] = [
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    PROTOCOL_SCTP,
    PROTOCOL_ESP,
    PROTOCOL_AH,
];

// RFC 792: destination unreachable, source quench, time exceeded, parameter problem.
const ICMP_ERRORS: [i32; 4] = [3, 4, 11, 12];
/// RFC 4443 section 2.1: what is below is an error.
const ICMPV6_INFORMATION: i32 = 128;

// include/uapi/linux/bpf.h: BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO.
const ROOM_BEHIND_ETHERNET: i32 = 1;
const KEEP_SEGMENT_SIZE: i32 = 1;
