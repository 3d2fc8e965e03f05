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
//! | IPIP (RFC 2003) | protocol 4 | nothing |
//! | GUE (draft-ietf-intarea-gue, version 0) | UDP, the port | 4 bytes and what their length says |
//! | GRE (RFC 2784) | protocol 47 | 4 bytes, 8 with a checksum |
//!
//! Everything else passes as it came, and the host does with it what it did before. That is also:
//!
//! - **fragments of the tunnel's packet**: at this place nobody has put them together. A director
//!   sends the inner packet in fragments instead, or tells its sender about the path's MTU;
//! - **GUE with flags**, and with them `remcsum`, whose inner checksum would have to be made here;
//!   GRE with key or sequence number; control messages;
//! - what is not for an address of this host outside and for a VIP inside, and **tunnels in tunnels**:
//!   inside there is TCP, UDP, SCTP, ESP, AH or an ICMP error.
//!
//! Checksums of UDP and GRE outside are not looked at: the inner packet has its own, which the host
//! verifies, since the kernel forgets what a network card said of the checksum outside.
//!
//! "Congestion experienced" outside is carried over (RFC 6040, section 4.2): into a packet that knows
//! ECN it is written, one that does not is dropped.

use shared::sys::bpf::Reg::{R0, R1, R2, R3, R4, R6, R7, R8, R9, R10};
use shared::sys::bpf::skb::{self, network};
use shared::sys::bpf::tcx::TCX_NEXT;
use shared::sys::bpf::{Alu, AssembleError, Assembler, Cond, Helper, Insn, Label, MapIndex, Size};

use super::Ipip;
use super::layout::*;

/// The program. Its first map holds the addresses of this host where tunnels end, its second one the
/// VIPs; `port` is GUE's.
///
/// Registers: `R6` the frame, `R7` where in it the inner packet begins, `R8` where the outer one ends,
/// `R9` the outer ECN field.
///
/// # Errors
/// None: the program differs in two numbers. A test holds that.
pub(crate) fn program(port: u16, ipip: Ipip) -> Result<Vec<Insn>, AssembleError> {
    let mut asm = Assembler::new();
    let [inner, leave] = ["inner", "leave"].map(|name| asm.label(name));
    asm.mov(R6, R1);
    asm.load(Size::Word, R1, R6, skb::PKT_TYPE);
    asm.jump_if(R1, Cond::Ne, skb::PACKET_HOST, leave);
    // It comes by here again, at its VLAN's device.
    asm.load(Size::Word, R1, R6, skb::VLAN_PRESENT);
    asm.jump_if(R1, Cond::Ne, 0, leave);
    asm.load(Size::Word, R1, R6, skb::PROTOCOL);
    asm.jump_if(R1, Cond::Ne, network(TYPE_IPV4), leave);
    outer(&mut asm, leave);
    tunnels(&mut asm, port, ipip, inner, leave);
    asm.bind(inner);
    acceptable(&mut asm, leave);
    shorten(&mut asm, leave);
    asm.bind(leave);
    asm.mov(R0, TCX_NEXT);
    asm.exit();
    asm.finish()
}

/// To `leave` unless it is a whole packet for this host.
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
    known(asm, OWN, OUTER + IPV4_DESTINATION, leave);
}

/// Moves `R7` behind the tunnel's own header; to `leave` if it is none of ours.
fn tunnels(asm: &mut Assembler, port: u16, ipip: Ipip, inner: Label, leave: Label) {
    let [udp, gre, plain] = ["UDP", "GRE", "plain GRE"].map(|name| asm.label(name));
    asm.load(Size::Byte, R1, R10, OUTER + IPV4_PROTOCOL);
    if ipip == Ipip::Program {
        asm.jump_if(R1, Cond::Eq, PROTOCOL_IPIP, inner);
    }
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
    asm.load(Size::Byte, R2, R10, gue + 1);
    asm.jump_if(R2, Cond::Ne, PROTOCOL_IPIP, leave);
    asm.load(Size::Half, R2, R10, gue + 2);
    asm.jump_if(R2, Cond::Ne, 0, leave);
    asm.alu(Alu::Shl, R1, 2);
    asm.alu(Alu::Add, R7, R1);
    asm.alu(Alu::Add, R7, (UDP_HEADER + GUE_HEADER) as i32);
    asm.jump(inner);

    asm.bind(gre);
    asm.copy_frame(R7, TUNNEL, GRE_HEADER, leave);
    asm.load(Size::Half, R1, R10, TUNNEL + GRE_PROTOCOL);
    asm.jump_if(R1, Cond::Ne, network(TYPE_IPV4), leave);
    asm.alu(Alu::Add, R7, GRE_HEADER as i32);
    asm.load(Size::Half, R1, R10, TUNNEL);
    asm.jump_if(R1, Cond::Eq, 0, plain);
    asm.jump_if(R1, Cond::Ne, network(GRE_CHECKSUM), leave);
    asm.alu(Alu::Add, R7, GRE_CHECKSUM_BYTES);
    asm.bind(plain);
}

/// To `leave` unless the inner packet lies within the outer one, is for a VIP, and no tunnel again.
fn acceptable(asm: &mut Assembler, leave: Label) {
    let [icmp, accepted] = ["ICMP", "accepted"].map(|name| asm.label(name));
    asm.copy_frame(R7, INNER, IPV4_HEADER, leave);
    asm.load_network(R2, INNER + IPV4_TOTAL);
    asm.ipv4_header_length(R1, INNER, leave);
    asm.jump_if(R2, Cond::Lt, R1, leave);
    asm.alu(Alu::Add, R2, R7);
    asm.jump_if(R2, Cond::Gt, R8, leave);
    known(asm, VIPS, INNER + IPV4_DESTINATION, leave);
    asm.load(Size::Byte, R1, R10, INNER + IPV4_PROTOCOL);
    for protocol in BALANCED {
        asm.jump_if(R1, Cond::Eq, protocol, accepted);
    }
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
    asm.bind(accepted);
}

/// Takes away what is in front of the inner packet, which is what the host goes on with.
fn shorten(asm: &mut Assembler, leave: Label) {
    let [carry, drop] = ["carry congestion", "drop"].map(|name| asm.label(name));
    asm.jump_if(R9, Cond::Ne, ECN, carry);
    asm.load(Size::Byte, R1, R10, INNER + IPV4_TOS);
    asm.jump_if(R1, Cond::AnyBit, ECN, carry);
    asm.jump(drop);

    asm.bind(carry);
    asm.mov(R1, R6);
    asm.mov(R2, ETHERNET);
    asm.alu(Alu::Sub, R2, R7);
    asm.mov(R3, ROOM_BEHIND_ETHERNET);
    // The segments of an aggregate stay as long as they are: they were counted without the tunnel.
    asm.mov(R4, KEEP_SEGMENT_SIZE);
    asm.call(Helper::SkbAdjustRoom);
    asm.jump_if(R0, Cond::Ne, 0, leave);
    asm.jump_if(R9, Cond::Ne, ECN, leave);
    asm.mov(R1, R6);
    asm.call(Helper::SkbSetCongestion);
    asm.jump(leave);

    asm.bind(drop);
    asm.mov(R0, skb::DROP);
    asm.exit();
}

/// To `leave` unless the address on the stack is in the map.
fn known(asm: &mut Assembler, map: MapIndex, address: i16, leave: Label) {
    asm.load_map(R1, map);
    asm.stack_address(R2, address);
    asm.call(Helper::MapLookup);
    asm.jump_if(R0, Cond::Eq, 0, leave);
}

const OWN: MapIndex = MapIndex(0);
const VIPS: MapIndex = MapIndex(1);

// The stack, downwards from R10.
const OUTER: i16 = -24;
const INNER: i16 = OUTER - 24;
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

// include/uapi/linux/bpf.h: BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO.
const ROOM_BEHIND_ETHERNET: i32 = 1;
const KEEP_SEGMENT_SIZE: i32 = 1;
