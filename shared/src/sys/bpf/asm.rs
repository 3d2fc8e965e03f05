//! A small assembler: instructions in order, jumps to labels.
//!
//! ```
//! use shared::sys::bpf::{Assembler, Cond, Reg::*, Size};
//!
//! let mut asm = Assembler::new();
//! let not_host = asm.label("not host");
//! asm.load(Size::Word, R1, R1, 4); // skb->pkt_type
//! asm.mov(R0, 0);
//! asm.jump_if(R1, Cond::Ne, 0, not_host);
//! asm.mov(R0, 1);
//! asm.bind(not_host);
//! asm.exit();
//! assert_eq!(asm.finish()?.len(), 5);
//! # Ok::<(), shared::sys::bpf::AssembleError>(())
//! ```

use super::insn::{Alu, Cond, Helper, Insn, MapIndex, Operand, Reg, Size};

/// A place in the program that jumps can name before it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

/// Why a program is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    /// A jump to nowhere.
    #[error("label {name:?} is jumped to and never bound")]
    Unbound {
        /// The label.
        name: &'static str,
    },
    /// Two places of one name.
    #[error("label {name:?} is bound twice")]
    BoundTwice {
        /// The label.
        name: &'static str,
    },
    /// An offset has 16 bits.
    #[error("the jump to label {name:?} is too long")]
    TooFar {
        /// The label.
        name: &'static str,
    },
}

/// A program in the making.
#[derive(Debug, Default)]
pub struct Assembler {
    code: Vec<Insn>,
    labels: Vec<Place>,
    jumps: Vec<(usize, Label)>,
    bound_twice: Option<Label>,
}

#[derive(Debug)]
struct Place {
    name: &'static str,
    at: Option<usize>,
}

impl Assembler {
    /// An empty program.
    pub fn new() -> Assembler {
        Assembler::default()
    }

    /// A label to jump to; `name` is for errors.
    pub fn label(&mut self, name: &'static str) -> Label {
        self.labels.push(Place { name, at: None });
        Label(self.labels.len() - 1)
    }

    /// The next instruction is what `label` means.
    pub fn bind(&mut self, label: Label) {
        let here = self.code.len();
        if self.labels[label.0].at.replace(here).is_some() {
            self.bound_twice = Some(label);
        }
    }

    /// `destination = operand`.
    pub fn mov(&mut self, destination: Reg, operand: impl Into<Operand>) {
        self.alu(Alu::Mov, destination, operand);
    }

    /// `destination = destination op operand`.
    pub fn alu(&mut self, op: Alu, destination: Reg, operand: impl Into<Operand>) {
        self.code.push(Insn::alu(op, destination, operand.into()));
    }

    /// `destination = *(size *)(base + offset)`.
    pub fn load(&mut self, size: Size, destination: Reg, base: Reg, offset: i16) {
        self.code.push(Insn::load(size, destination, base, offset));
    }

    /// `*(size *)(base + offset) = operand`.
    pub fn store(&mut self, size: Size, base: Reg, offset: i16, operand: impl Into<Operand>) {
        self.code
            .push(Insn::store(size, base, offset, operand.into()));
    }

    /// `destination = map`, the argument of map functions.
    pub fn load_map(&mut self, destination: Reg, map: MapIndex) {
        self.code.extend(Insn::load_map(destination, map));
    }

    /// Go to `label`.
    pub fn jump(&mut self, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.code.push(Insn::jump(0));
    }

    /// Go to `label` when `register cond operand`.
    pub fn jump_if(
        &mut self,
        register: Reg,
        cond: Cond,
        operand: impl Into<Operand>,
        label: Label,
    ) {
        self.jumps.push((self.code.len(), label));
        self.code
            .push(Insn::jump_if(cond, register, operand.into(), 0));
    }

    /// Call a kernel function; arguments in `R1` to `R5`, result in `R0`.
    pub fn call(&mut self, helper: Helper) {
        self.code.push(Insn::call(helper));
    }

    /// Leave the program with the result in `R0`.
    pub fn exit(&mut self) {
        self.code.push(Insn::exit());
    }

    /// The program with every jump resolved.
    ///
    /// # Errors
    /// A label that is jumped to and not bound, or bound twice, or out of reach.
    pub fn finish(mut self) -> Result<Vec<Insn>, AssembleError> {
        if let Some(label) = self.bound_twice {
            let name = self.labels[label.0].name;
            return Err(AssembleError::BoundTwice { name });
        }
        for (jump, label) in self.jumps {
            let Place { name, at } = self.labels[label.0];
            let target = at.ok_or(AssembleError::Unbound { name })?;
            // An offset of 0 is the instruction after the jump.
            let distance = target as i64 - jump as i64 - 1;
            self.code[jump].offset =
                i16::try_from(distance).map_err(|_| AssembleError::TooFar { name })?;
        }
        Ok(self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::Reg::{R0, R1};
    use super::*;

    #[test]
    fn jumps_forward_and_back() {
        let mut asm = Assembler::new();
        let (top, out) = (asm.label("top"), asm.label("out"));
        asm.bind(top);
        asm.jump_if(R1, Cond::Eq, 0, out);
        asm.alu(Alu::Sub, R1, 1);
        asm.jump(top);
        asm.bind(out);
        asm.exit();
        assert_eq!(
            asm.finish().unwrap(),
            [
                Insn::jump_if(Cond::Eq, R1, 0.into(), 2),
                Insn::alu(Alu::Sub, R1, 1.into()),
                Insn::jump(-3),
                Insn::exit(),
            ]
        );
    }

    #[test]
    fn labels_are_bound_once_and_within_reach() {
        let mut asm = Assembler::new();
        let nowhere = asm.label("nowhere");
        asm.jump(nowhere);
        let error = asm.finish().unwrap_err();
        assert_eq!(error, AssembleError::Unbound { name: "nowhere" });

        let mut asm = Assembler::new();
        let twice = asm.label("twice");
        asm.bind(twice);
        asm.bind(twice);
        let error = asm.finish().unwrap_err();
        assert_eq!(error, AssembleError::BoundTwice { name: "twice" });

        let mut asm = Assembler::new();
        let far = asm.label("far");
        asm.jump(far);
        for _ in 0..=i16::MAX {
            asm.mov(R0, 0);
        }
        asm.bind(far);
        let error = asm.finish().unwrap_err();
        assert_eq!(error, AssembleError::TooFar { name: "far" });
    }

    #[test]
    fn an_unused_label_need_not_be_bound() {
        let mut asm = Assembler::new();
        asm.label("unused");
        asm.exit();
        assert_eq!(asm.finish().unwrap(), [Insn::exit()]);
    }
}
