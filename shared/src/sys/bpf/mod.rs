//! BPF without a compiler: programs are assembled at run time and handed to the kernel by bpf(2).
//!
//! [`insn`], [`asm`] and [`skb`] are plain data and pure functions; [`map`], [`program`] and [`tcx`] own
//! descriptors; [`syscall`] is the one place that makes the call.

pub mod asm;
pub mod insn;
pub mod map;
pub mod program;
pub mod skb;
mod syscall;
pub mod tcx;

pub use asm::{AssembleError, Assembler, Label};
pub use insn::{Alu, Cond, Helper, Insn, MapIndex, Operand, Reg, Size};
pub use map::HashMap;
pub use program::{FrameSource, LoadError, Program};
pub use tcx::TcxLink;
