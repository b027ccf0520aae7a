//! A compiled expression: postfix code, its constants, and the pathpoints that it reads, by slot.
//!
//! The code is laid out so that two readers can follow it. [`evaluate`](super::evaluate) takes the jumps, so that only what
//! Python would evaluate is evaluated. [`columns`](super::columns) and [`explain`](super::explain) ignore the jumps and go
//! straight through: where branches meet stands an operation ([`Op::Select`], [`Op::And`], [`Op::Or`], [`Op::EndChain`])
//! that combines them, which the first reader passes over. Jumps are relative and forward only, so a run of code can be
//! moved as a whole and evaluation always ends.

use super::arithmetic::{Binary, Unary};
use super::coerce::coerce;
use super::compare::Comparison;
use super::error::SyntaxError;
use super::evaluate::{self, Stack};
use super::functions::Function;
use super::operand::Operand;
use super::{EvaluationError, explain, parser};
use crate::pathpoint::Kind;

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

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Program {
    pub(super) source: Box<str>,
    pub(super) code: Vec<Op>,
    pub(super) constants: Vec<Operand>,
    pub(super) variables: Vec<Box<str>>,
}

impl Program {
    /// Compiles an expression: what follows the type letter in the name of a reparse pathpoint.
    ///
    /// # Errors
    ///
    /// [`SyntaxError`] when the text is not an expression of this language, or is too long or nested too deeply.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        parser::parse(text, true)
    }

    /// The text that was compiled.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The names of the pathpoints, in the order of their slots, each once.
    pub fn variables(&self) -> impl ExactSizeIterator<Item = &str> {
        self.variables.iter().map(|name| &**name)
    }

    /// The value of the expression for these values of its variables. An integer fits 64 bits.
    ///
    /// Does not allocate unless it meets text or an error, once the stack has been used for an expression of this size.
    ///
    /// # Errors
    ///
    /// [`EvaluationError`] when there is no such value; also when there are fewer values than variables.
    pub fn evaluate(
        &self,
        variables: &[Operand],
        stack: &mut Stack,
    ) -> Result<Operand, EvaluationError> {
        evaluate::evaluate(&self.code, &self.constants, variables, stack)
    }

    /// The same, made a value of a pathpoint's type: 16-bit integers are clipped to their range.
    ///
    /// # Errors
    ///
    /// [`EvaluationError`] when there is no such value, or it cannot become one of this type.
    pub fn evaluate_as(
        &self,
        kind: Kind,
        variables: &[Operand],
        stack: &mut Stack,
    ) -> Result<Operand, EvaluationError> {
        coerce(self.evaluate(variables, stack)?, kind)
    }

    /// The tree that the text was parsed into, one node a line, as it is before constants are folded.
    #[must_use]
    pub fn explain(&self) -> String {
        parser::parse(&self.source, false)
            .map_or_else(|error| error.caret, |raw| explain::tree(&raw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reparse::MAX_LENGTH;

    fn code(text: &str) -> Vec<Op> {
        Program::parse(text).unwrap().code
    }

    #[test]
    fn constants_are_folded() {
        assert_eq!(
            code("2*3+{a}"),
            [Op::Constant(0), Op::Load(0), Op::Binary(Binary::Add)]
        );
        assert_eq!(code("max(1, 2, 3) if True else {a}").len(), 6);
        assert_eq!(code("'abc'[::-1] + str(-2**2)"), [Op::Constant(0)]);
        assert_eq!(
            Program::parse("1+2+3").unwrap().constants,
            [Operand::Int(6)]
        );
    }

    #[test]
    fn what_fails_is_left_for_the_evaluation() {
        assert_eq!(code("1/0").len(), 3);
        assert_eq!(code("{a} or 1/0").len(), 6);
        let program = Program::parse("{a} or 1/0").unwrap();
        let mut stack = Stack::default();
        assert_eq!(
            program.evaluate(&[Operand::Int(5)], &mut stack),
            Ok(Operand::Int(5))
        );
        assert!(program.evaluate(&[Operand::Int(0)], &mut stack).is_err());
    }

    #[test]
    fn a_branch_is_not_mistaken_for_an_operand() {
        assert_eq!(code("(1 if {a} else 2) + 3").len(), 8);
        assert_eq!(code("({a} or 2) + 3").len(), 6);
    }

    #[test]
    fn a_program_takes_a_fraction_of_a_mebibyte() {
        for dense in ["1<", "{a}<", "{a}or ", "-1-", "'a'+", "1 if{a}else "] {
            let text = dense.repeat(MAX_LENGTH / dense.len() - 1) + "1";
            let program = parser::parse(&text, false).unwrap();
            let code = size_of_val(program.code.as_slice());
            let constants = size_of_val(program.constants.as_slice());
            assert!(code + constants < 128 * 1024, "{dense} {code} {constants}");
        }
    }

    #[test]
    fn a_pathpoint_has_one_slot() {
        let program = Program::parse("{b}+{a}*{b}+{rW{a}}").unwrap();
        assert_eq!(program.variables().collect::<Vec<_>>(), ["b", "a", "rW{a}"]);
    }

    #[test]
    fn a_stack_serves_one_expression_after_another() {
        let mut stack = Stack::default();
        let failing = Program::parse("1 + (2 + ('x' + {a}))").unwrap();
        let sum = Program::parse("{a}+{b}").unwrap();
        for _ in 0..3 {
            assert!(failing.evaluate(&[Operand::Int(1)], &mut stack).is_err());
            let values = [Operand::Int(1), Operand::Float(0.5)];
            assert_eq!(sum.evaluate(&values, &mut stack), Ok(Operand::Float(1.5)));
        }
    }

    #[test]
    fn too_few_values_are_an_error() {
        let sum = Program::parse("{a}+{b}").unwrap();
        assert!(
            sum.evaluate(&[Operand::Int(1)], &mut Stack::default())
                .is_err()
        );
    }
}
