//! Programs: load one, run one on a made-up frame.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::insn::Insn;
use super::skb;
use super::syscall::{ProgLoad, ProgTestRun, bpf, bpf_fd, object_name};
use crate::sys::SyscallError;

/// A program of the traffic control hooks (`BPF_PROG_TYPE_SCHED_CLS`), which tcx runs too.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
}

/// The kernel did not take a program.
#[derive(Debug, thiserror::Error)]
#[error("BPF program {name:?} was refused: {source}{}{log}", if log.is_empty() { "" } else { "\n" })]
pub struct LoadError {
    /// Name of the program.
    pub name: String,
    /// What the verifier wrote; empty when it was not asked.
    pub log: String,
    /// What the kernel said.
    pub source: SyscallError,
}

impl Program {
    /// Loads `code`. `maps` are what its [`MapIndex`](super::MapIndex)es mean.
    /// Needs Linux 5.14 when there are maps.
    ///
    /// # Errors
    /// EPERM without `CAP_BPF` and `CAP_NET_ADMIN`; EINVAL or EACCES, with the verifier's log, for
    /// a program that the verifier does not find safe.
    pub fn load(name: &str, code: &[Insn], maps: &[BorrowedFd<'_>]) -> Result<Program, LoadError> {
        load(PROG_TYPE_SCHED_CLS, name, code, maps).map(|fd| Program { fd })
    }

    /// Runs the program on `frame`, as if the loopback device of this network namespace had
    /// received it, and gives what it returned. A frame to the MAC 00:00:00:00:00:00 is
    /// `PACKET_HOST` there.
    ///
    /// # Errors
    /// EINVAL for a frame of less than 14 bytes; newer kernels want a whole fixed header of frames
    /// that call themselves IPv4 or IPv6.
    pub fn test_run(&self, frame: &[u8]) -> Result<i32, SyscallError> {
        let mut attr = ProgTestRun {
            prog_fd: self.fd.as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_in: address(frame),
            ..ProgTestRun::default()
        };
        bpf(&mut attr)?;
        Ok(attr.retval as i32)
    }

    /// As [`test_run`](Program::test_run), and gives the frame as the program left it too, of which
    /// it may not have made more than `frame` and 256 bytes.
    ///
    /// # Errors
    /// As of [`test_run`](Program::test_run); ENOSPC for a frame that has become too long.
    pub fn test_frame(&self, frame: &[u8]) -> Result<(i32, Vec<u8>), SyscallError> {
        self.test_marked(frame, 0)
    }

    /// As [`test_frame`](Program::test_frame), with a mark.
    ///
    /// # Errors
    /// As of [`test_frame`](Program::test_frame).
    pub fn test_marked(&self, frame: &[u8], mark: u32) -> Result<(i32, Vec<u8>), SyscallError> {
        let mut out = vec![0; frame.len() + TEST_GROWTH];
        let mut context = [0_u32; 3];
        context[usize::from(skb::MARK as u16) / size_of::<u32>()] = mark;
        let mut attr = ProgTestRun {
            ctx_size_in: size_of_val(&context) as u32,
            ctx_in: address(&context),
            prog_fd: self.fd.as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_size_out: out.len() as u32,
            data_in: address(frame),
            data_out: out.as_mut_ptr().expose_provenance() as u64,
            ..ProgTestRun::default()
        };
        bpf(&mut attr)?;
        out.truncate(attr.data_size_out as usize);
        Ok((attr.retval as i32, out))
    }
}

fn load(
    kind: u32,
    name: &str,
    code: &[Insn],
    maps: &[BorrowedFd<'_>],
) -> Result<OwnedFd, LoadError> {
    let maps: Vec<i32> = maps.iter().map(AsRawFd::as_raw_fd).collect();
    let mut attr = ProgLoad {
        prog_type: kind,
        insn_cnt: code.len() as u32,
        insns: address(code),
        license: address(LICENSE),
        prog_name: object_name(name),
        fd_array: address(&maps),
        ..ProgLoad::default()
    };
    // The log costs time and memory, and can be too small: only a refusal asks for it.
    if let Ok(fd) = bpf_fd(&mut attr) {
        return Ok(fd);
    }
    let mut log = vec![0; LOG_BYTES];
    attr.log_level = 1;
    attr.log_size = log.len() as u32;
    attr.log_buf = log.as_mut_ptr().expose_provenance() as u64;
    match bpf_fd(&mut attr) {
        Ok(fd) => Ok(fd),
        Err(source) => Err(LoadError {
            name: name.to_owned(),
            log: text(&log),
            source,
        }),
    }
}

/// A program of the XDP hook. It is never attached to a device here: it makes frames.
#[derive(Debug)]
pub struct FrameSource {
    fd: OwnedFd,
}

impl FrameSource {
    /// Loads `code`, which gets each frame as `struct xdp_md` and returns what is to become of it.
    ///
    /// # Errors
    /// As of [`Program::load`].
    pub fn load(name: &str, code: &[Insn]) -> Result<FrameSource, LoadError> {
        load(PROG_TYPE_XDP, name, code, &[]).map(|fd| FrameSource { fd })
    }

    /// Hands `count` frames to the program, and what it redirects to a device of this thread's
    /// namespace is really sent there (`BPF_F_TEST_XDP_LIVE_FRAMES`): the fastest source of small
    /// frames that a process has. The memory of frames is used again, with what receivers wrote
    /// into them: only the first ones look like `frame`. The peer of a veth must have GRO switched
    /// on, or a program of its own.
    ///
    /// # Errors
    /// EINVAL before Linux 5.18.
    pub fn send(&self, frame: &[u8], count: u32) -> Result<(), SyscallError> {
        let mut attr = ProgTestRun {
            prog_fd: self.fd.as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_in: address(frame),
            repeat: count,
            flags: TEST_LIVE_FRAMES,
            batch_size: LIVE_BATCH,
            ..ProgTestRun::default()
        };
        bpf(&mut attr).map(drop)
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn address<T>(slice: &[T]) -> u64 {
    slice.as_ptr().expose_provenance() as u64
}

fn text(log: &[u8]) -> String {
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    String::from_utf8_lossy(&log[..end]).trim_end().to_owned()
}

const PROG_TYPE_SCHED_CLS: u32 = 3;
const PROG_TYPE_XDP: u32 = 6;
const TEST_LIVE_FRAMES: u32 = 1 << 1;
/// Frames handed over at a time; as a device's budget of one poll.
const LIVE_BATCH: u32 = 64;
const TEST_GROWTH: usize = 256;
const LOG_BYTES: usize = 256 * 1024;
/// None of the kernel functions we call is for GPL programs only.
const LICENSE: &[u8] = b"Apache-2.0\0";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::bpf::{Assembler, Cond, HashMap, Helper, MapIndex, Reg::*, Size};

    #[test]
    fn a_program_looks_into_its_map() {
        let map = HashMap::<4, 4>::create("test", 8).unwrap();
        let mut asm = Assembler::new();
        let missing = asm.label("missing");
        asm.load(Size::Word, R1, R1, 0); // skb->len
        asm.store(Size::Word, R10, -4, R1);
        asm.load_map(R1, MapIndex(0));
        asm.mov(R2, R10);
        asm.alu(crate::sys::bpf::Alu::Add, R2, -4);
        asm.call(Helper::MapLookup);
        asm.jump_if(R0, Cond::Eq, 0, missing);
        asm.load(Size::Word, R0, R0, 0);
        asm.exit();
        asm.bind(missing);
        asm.mov(R0, -1);
        asm.exit();
        let code = asm.finish().unwrap();
        let program = Program::load("test", &code, &[map.as_fd()]).unwrap();
        map.insert(&64u32.to_ne_bytes(), &7u32.to_ne_bytes())
            .unwrap();
        assert_eq!(program.test_run(&[0; 64]).unwrap(), 7);
        assert_eq!(program.test_run(&[0; 65]).unwrap(), -1);
        assert!(program.test_run(&[0; 13]).is_err());
    }

    #[test]
    fn a_refusal_says_why() {
        let mut asm = Assembler::new();
        asm.load(Size::Word, R0, R1, 4096);
        asm.exit();
        let error = Program::load("bad", &asm.finish().unwrap(), &[]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("BPF program \"bad\" was refused: bpf(BPF_PROG_LOAD)")
        );
        assert!(
            error.log.contains("invalid bpf_context access"),
            "{}",
            error.log
        );
    }
}
