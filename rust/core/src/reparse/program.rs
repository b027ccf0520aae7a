//! A compiled expression: postfix code, its constants, and the pathpoints that it reads, by slot.
//!
//! [`parser`](super::parser) makes one, [`explain`](super::explain) shows it, [`series`](super::series) runs it over time.

use super::EvaluationError;
use super::coerce::coerce;
use super::evaluate::{self, Stack};
use super::op::Op;
use super::operand::Operand;
use super::text::Budget;
use crate::pathpoint::Kind;

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Program {
    pub(super) source: Box<str>,
    pub(super) code: Vec<Op>,
    pub(super) constants: Vec<Operand>,
    pub(super) variables: Vec<Box<str>>,
}

impl Program {
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
        let budget = &mut Budget::default();
        evaluate::evaluate(&self.code, &self.constants, variables, stack, budget)
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
        self.evaluate_within(&mut Budget::default(), kind, variables, stack)
    }

    /// The same as a part of a larger evaluation, which has one budget for all its expressions.
    ///
    /// # Errors
    ///
    /// [`EvaluationError`] when there is no such value, it cannot become one of this type, or the budget is spent.
    pub fn evaluate_within(
        &self,
        budget: &mut Budget,
        kind: Kind,
        variables: &[Operand],
        stack: &mut Stack,
    ) -> Result<Operand, EvaluationError> {
        let value = evaluate::evaluate(&self.code, &self.constants, variables, stack, budget)?;
        coerce(value, kind, budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
