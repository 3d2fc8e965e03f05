//! The program in the kernel and the pure function agree.

use shared::addr::{Addr, Protocol};

use super::*;
use crate::core::capture::{CaptureSet, PULSE_NANOS, Treatment, takes, treat};

/// The loopback device has this address: frames to it are `PACKET_HOST` in a test run.
const PORT_MAC: [u8; 6] = [0; 6];
/// The first half are in the set, in one class or another.
const ADDRESSES: [[u8; 4]; 6] = [
    [192, 0, 2, 1],
    [192, 0, 2, 2],
    [10, 0, 0, 8],
    [10, 0, 0, 1],
    [198, 51, 100, 7],
    [192, 0, 2, 129],
];
const PORTS: [u16; 5] = [80, 5300, 8080, 0, 81];
const FRAMES: usize = 100_000;

/// The same of IPv6.
fn long(address: [u8; 4]) -> [u8; 16] {
    let mut long = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    long[12..].copy_from_slice(&address);
    long
}

fn set() -> CaptureSet {
    let mut set = CaptureSet::default();
    fill(&mut set, ADDRESSES.map(Addr::from_v4_bytes));
    fill(&mut set, ADDRESSES.map(long).map(Addr::from_bytes));
    set
}

fn fill(set: &mut CaptureSet, addresses: [Addr; 6]) {
    let [vip, other_vip, rip, host, ..] = addresses;
    let service = |protocol, address, port| CaptureKey::Service {
        protocol,
        address,
        port,
    };
    for key in [
        service(Protocol::TCP, vip, 80),
        service(Protocol::UDP, vip, 5300),
        service(Protocol::TCP, other_vip, 0),
        service(Protocol::SCTP, other_vip, 8080),
        CaptureKey::Reply {
            protocol: Protocol::TCP,
            address: rip,
            port: 8080,
        },
        CaptureKey::Reply {
            protocol: Protocol::UDP,
            address: rip,
            port: 0,
        },
        CaptureKey::Tunnel {
            protocol: Protocol::UDP,
            address: rip,
            port: 5300,
        },
        CaptureKey::Tunnel {
            protocol: Protocol(47),
            address: rip,
            port: 0,
        },
        CaptureKey::Tunnel {
            protocol: Protocol(4),
            address: other_vip,
            port: 0,
        },
        CaptureKey::Local { address: vip },
        CaptureKey::Local { address: host },
        CaptureKey::Client {
            protocol: Protocol::TCP,
            address: host,
            port: 8080,
        },
    ] {
        set.acquire(key);
    }
}

#[test]
fn program_and_function_agree() {
    agree(CaptureKind::Tcx, set());
}

#[test]
fn so_does_the_program_with_a_pulse() {
    agree(CaptureKind::Clsact, set());
}

/// While the host routes marked packets to the director.
#[test]
fn they_agree_about_copies() {
    use shared::addr::Family::{V4, V6};
    for families in [&[V4][..], &[V6], &[V4, V6]] {
        let mut set = set();
        for &family in families {
            set.acquire_mark(7, family);
        }
        agree(CaptureKind::Tcx, set);
    }
}

fn agree(kind: CaptureKind, mut set: CaptureSet) {
    let capture = Capture::load_with(kind, Taken::Report).unwrap();
    capture.beat().unwrap();
    capture.apply(&set.take_changes()).unwrap();
    let mut random = Random(0x6c76_7321);
    let mut taken = 0;
    for _ in 0..FRAMES {
        let frame = frame(&mut random);
        if taken % 4096 == 0 {
            capture.beat().unwrap();
        }
        let expected = treat(&frame, PORT_MAC, &set);
        let report = match expected {
            Treatment::Leave => -1,
            Treatment::Take => 1,
            Treatment::Copy => 2,
        };
        let returned = run(&capture, &frame).unwrap_or(-1);
        assert_eq!(returned, report, "{frame:02x?}");
        taken += usize::from(expected != Treatment::Leave);
    }
    let both = FRAMES / 20..FRAMES * 19 / 20;
    assert!(both.contains(&taken), "{taken} of {FRAMES} say nothing");
}

#[test]
fn removed_keys_are_left_to_the_host() {
    let mut set = set();
    let capture = Capture::load_with(CaptureKind::Tcx, Taken::Report).unwrap();
    let keys: Vec<_> = set.keys().collect();
    capture.apply(&set.take_changes()).unwrap();
    let all_removed: Vec<_> = keys.into_iter().map(CaptureChange::Remove).collect();
    capture.apply(&all_removed).unwrap();
    capture.apply(&all_removed).unwrap();
    let mut random = Random(1);
    for _ in 0..1000 {
        let returned = run(&capture, &frame(&mut random));
        assert!(matches!(returned, None | Some(-1)), "{returned:?}");
    }
}

#[test]
fn the_program_of_the_director_passes_every_frame_on() {
    let capture = Capture::load(CaptureKind::Tcx).unwrap();
    capture.apply(&set().take_changes()).unwrap();
    let mut random = Random(2);
    for _ in 0..1000 {
        let returned = run(&capture, &frame(&mut random));
        assert!(matches!(returned, None | Some(-1)), "{returned:?}");
    }
}

#[test]
fn without_a_pulse_nothing_is_taken() {
    let mut set = set();
    let capture = Capture::load_with(CaptureKind::Clsact, Taken::Report).unwrap();
    capture.apply(&set.take_changes()).unwrap();
    let ours: Vec<Vec<u8>> = {
        let mut random = Random(3);
        let frames = std::iter::repeat_with(|| frame(&mut random));
        frames
            .filter(|frame| takes(frame, PORT_MAC, &set))
            .take(100)
            .collect()
    };
    let taken = |expected| {
        ours.iter()
            .all(|frame| run(&capture, frame) == Some(expected))
    };
    assert!(taken(-1), "the time was never written");
    capture.beat().unwrap();
    assert!(taken(1));
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
    let old = now.as_nanos() as u64 - PULSE_NANOS as u64 - 1;
    capture.pulse.insert(&PULSE_KEY, &pulse_value(old)).unwrap();
    assert!(taken(-1), "the time is too old");
}

/// A frame that is nearly ours, or just so.
fn frame(random: &mut Random) -> Vec<u8> {
    let mut frame = if random.one_in(16) {
        vec![0, 0, 0, 0, 0, 1]
    } else {
        PORT_MAC.to_vec()
    };
    frame.extend([2, 0, 0, 0, 0, 9]);
    let of_v6 = random.one_in(2);
    let kind = if random.one_in(16) {
        random.of(&[0x86dd, 0x0800, 0x8100, 0x0806, 0x0008, 0x88a8])
    } else if of_v6 {
        0x86dd
    } else {
        0x0800_u16
    };
    frame.extend(kind.to_be_bytes());
    if of_v6 {
        frame.extend(packet_v6(random, true));
    } else {
        frame.extend(packet(random, true));
    }
    if random.one_in(8) {
        frame.truncate(ETHERNET + random.below(frame.len() - ETHERNET));
    }
    if random.one_in(16) {
        let at = random.below(frame.len());
        frame[at] ^= 1 << random.below(8);
    }
    frame
}

/// An IPv4 packet, perhaps an ICMP message with another one inside.
fn packet(random: &mut Random, outer: bool) -> Vec<u8> {
    let options = if random.one_in(4) {
        random.below(11)
    } else {
        0
    };
    let icmp = if outer {
        random.one_in(3)
    } else {
        random.one_in(16)
    };
    let protocol = if icmp {
        1
    } else {
        random.of(&[6, 6, 6, 17, 17, 132, 47, 4])
    };
    let fragment: u16 = if random.one_in(4) {
        random.of(&[0x2000, 0x0001, 0x2001, 0x1fff, 0x0100, 0x8000])
    } else {
        random.of(&[0, 0x4000])
    };
    let first = if random.one_in(32) {
        random.below(256) as u8
    } else {
        0x45 + options as u8
    };
    let mut packet = vec![first, 0, 0, 0, 0, 0];
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(random.of(&ADDRESSES));
    packet.extend(random.of(&ADDRESSES));
    packet.extend(vec![1; options * 4]);
    if icmp && outer {
        packet.push(random.of(&[3, 3, 4, 11, 0, 5, 8, 12]));
        packet.extend([0; 7]);
        packet.extend(self::packet(random, false));
    } else {
        packet.extend(random.of(&PORTS).to_be_bytes());
        packet.extend(random.of(&PORTS).to_be_bytes());
        packet.extend(vec![0; random.below(20)]);
    }
    packet
}

/// The same of IPv6, perhaps with extension headers.
fn packet_v6(random: &mut Random, outer: bool) -> Vec<u8> {
    let icmp = random.one_in(if outer { 3 } else { 16 });
    let mut next = if icmp {
        58
    } else {
        random.of(&[6, 6, 6, 17, 17, 132, 47, 4])
    };
    let mut rest = Vec::new();
    if icmp && outer {
        rest.push(random.of(&[1, 2, 3, 4, 127, 128, 135]));
        rest.extend([0; 7]);
        rest.extend(packet_v6(random, false));
    } else {
        rest.extend(random.of(&PORTS).to_be_bytes());
        rest.extend(random.of(&PORTS).to_be_bytes());
        rest.extend(vec![0; random.below(20)]);
    }
    let extensions = if random.one_in(2) { random.below(7) } else { 0 };
    for number in 0..extensions {
        let first = number + 1 == extensions;
        let kind = if first && random.one_in(2) {
            0
        } else {
            random.of(&[60, 60, 43, 44, 44, 0])
        };
        let units = if kind == 44 { 1 } else { 1 + random.below(3) };
        let mut header = vec![next, units as u8 - 1, 0, 0, 0, 0, 0, 0];
        match kind {
            // All, a part or nothing of a packet.
            44 => header[2..4].copy_from_slice(&random.of(&[0_u16, 0, 1, 8, 9, 6]).to_be_bytes()),
            43 => header[3] = u8::from(random.one_in(4)),
            _ => {}
        }
        header.resize(units * 8, 0);
        rest.splice(0..0, header);
        next = kind;
    }
    let version = if random.one_in(32) { 0x45 } else { 0x60 };
    let length = if random.one_in(32) { 0 } else { rest.len() };
    let mut packet = vec![version, 0, 0, 0, 0, length as u8, next, 64];
    let link_local = random.one_in(16);
    let mut source = long(random.of(&ADDRESSES));
    if link_local {
        source[..2].copy_from_slice(&[0xfe, 0x80 | random.below(64) as u8]);
    }
    packet.extend(source);
    packet.extend(long(random.of(&ADDRESSES)));
    packet.extend(rest);
    packet
}

/// What the program returns for a frame. Newer kernels refuse to make a test run of a frame that
/// calls itself IP and has not even the fixed header: then `None`.
fn run(capture: &Capture, frame: &[u8]) -> Option<i32> {
    let shortest = match frame[12..ETHERNET] {
        [0x08, 0x00] => ETHERNET + 20,
        [0x86, 0xdd] => ETHERNET + 40,
        _ => ETHERNET,
    };
    (frame.len() >= shortest).then(|| capture.program.test_run(frame).unwrap())
}

const ETHERNET: usize = 14;

/// SplitMix64 (Steele, Lea, Flood 2014): the same frames in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}
