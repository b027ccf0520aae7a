//! One step of a compiled expression.
//!
//! Code is laid out so that two readers can follow it. [`evaluate`](super::evaluate) takes the jumps, so that only what
//! Python would evaluate is evaluated. [`columns`](super::columns) and [`explain`](super::explain) ignore the jumps and go
//! straight through: where branches meet stands an operation ([`Op::Select`], [`Op::And`], [`Op::Or`], [`Op::EndChain`])
//! that combines them, which the first reader passes over. Jumps are relative and forward only, so a run of code can be
//! moved as a whole and evaluation always ends.

use super::arithmetic::{Binary, Unary};
use super::compare::Comparison;
use super::functions::Function;

/// One step; it takes its operands from the stack and leaves its result there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Pushes a constant.
    Constant(u16),
    /// Pushes the value of a pathpoint.
    Load(u16),
    Unary(Unary),
    Binary(Binary),
    Compare(Comparison),
    /// The first half of `a < b < c`: compares a and b, of which b stays on the stack for the second half. If it does not
    /// hold, leaves False instead and skips so many operations.
    Chain(Comparison, u16),
    /// Joins the two halves of a chain.
    EndChain,
    /// Takes the condition; if it is false, skips so many operations.
    Unless(u16),
    /// Skips so many operations.
    Skip(u16),
    /// Joins condition, then and else.
    Select,
    /// If the operand is false, keeps it and skips so many operations, else takes it.
    SkipIfFalse(u16),
    /// Joins the operands of `and`.
    And,
    /// If the operand is true, keeps it and skips so many operations, else takes it.
    SkipIfTrue(u16),
    /// Joins the operands of `or`.
    Or,
    /// Calls a function with so many arguments.
    Call(Function, u16),
    Index,
    Slice(SliceParts),
}

impl Op {
    /// Whether only a reader that takes the jumps has to look at it.
    pub(super) fn is_jump(self) -> bool {
        matches!(
            self,
            Op::Unless(_) | Op::Skip(_) | Op::SkipIfFalse(_) | Op::SkipIfTrue(_)
        )
    }

    /// How many operands it takes from a reader that does not take the jumps.
    pub(super) fn operands(self) -> usize {
        match self {
            Op::Constant(_) | Op::Load(_) => 0,
            Op::Unless(_) | Op::Skip(_) | Op::SkipIfFalse(_) | Op::SkipIfTrue(_) => 0,
            Op::Unary(_) => 1,
            Op::Binary(_) | Op::Compare(_) | Op::Chain(..) | Op::Index => 2,
            Op::And | Op::Or | Op::EndChain => 2,
            Op::Select => 3,
            Op::Call(_, count) => count.into(),
            Op::Slice(parts) => 1 + parts.count(),
        }
    }
}

/// Which parts of `[start:stop:step]` are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SliceParts {
    pub(super) start: bool,
    pub(super) stop: bool,
    pub(super) step: bool,
}

impl SliceParts {
    /// How many parts there are.
    pub(super) fn count(self) -> usize {
        [self.start, self.stop, self.step]
            .into_iter()
            .filter(|part| *part)
            .count()
    }
}
