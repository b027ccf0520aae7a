//! Runs code on single values.
//!
//! The stack holds [`Word`]s, and numbers that fit them take a short way. For anything else the words become
//! [`Operand`]s and take the long way, which knows all the rules. (A stack of operands was measured at three times the
//! time: they are too large for registers.)

use super::arithmetic::{Binary, Unary, binary, unary};
use super::compare::{Comparison, compare};
use super::error::{EvaluationError, Fallible, invalid};
use super::functions::{Function, call};
use super::op::{Op, SliceParts};
use super::operand::{Operand, narrow};
use super::text::{self, Budget};
use super::word::{View, Word};

/// Room for intermediate values, kept between evaluations so that they need no allocation.
#[derive(Debug, Default)]
pub struct Stack {
    words: Vec<Word>,
    /// What does not fit a word; only grows during an evaluation.
    spilled: Vec<Operand>,
    /// The arguments of the function that is called.
    arguments: Vec<Operand>,
}

/// Runs code whose result is a pathpoint's value: an integer has to fit one.
pub(super) fn evaluate(
    code: &[Op],
    constants: &[Operand],
    variables: &[Operand],
    stack: &mut Stack,
    budget: &mut Budget,
) -> Fallible<Operand> {
    let mut machine = Machine { stack, budget };
    // The result is built where it stays: to move what was just written costs as much as to compute it.
    let word = machine.run(code, constants, variables)?;
    match word.view() {
        View::Bool(bool) => Ok(Operand::Bool(bool)),
        View::Int(int) => Ok(Operand::Int(int.into())),
        View::Float(float) => Ok(Operand::Float(float)),
        View::Spilled(_) => match machine.operand(word) {
            Operand::Int(int) => Ok(Operand::Int(narrow(int)?.into())),
            text => Ok(text),
        },
    }
}

/// Runs code; an integer in the result is as wide as it comes.
pub(super) fn run(
    code: &[Op],
    constants: &[Operand],
    variables: &[Operand],
    stack: &mut Stack,
    budget: &mut Budget,
) -> Fallible<Operand> {
    let mut machine = Machine { stack, budget };
    let word = machine.run(code, constants, variables)?;
    Ok(machine.operand(word))
}

/// The stack and what works on its top. Each step tells how many operations to skip.
struct Machine<'s> {
    stack: &'s mut Stack,
    budget: &'s mut Budget,
}

impl Machine<'_> {
    /// Runs code and takes its result.
    fn run(&mut self, code: &[Op], constants: &[Operand], variables: &[Operand]) -> Fallible<Word> {
        self.stack.words.clear();
        self.stack.spilled.clear();
        let mut rest = code.iter();
        while let Some(op) = rest.next() {
            let skipped = match *op {
                Op::Constant(index) => self.load(constants.get(usize::from(index)))?,
                Op::Load(slot) => self.load(variables.get(usize::from(slot)))?,
                Op::Unary(op) => self.unary(op)?,
                Op::Binary(op) => self.binary(op)?,
                Op::Compare(op) => self.compare(op)?,
                Op::Chain(op, distance) => self.chain(op, distance)?,
                Op::Unless(distance) => {
                    let condition = self.pop()?;
                    if self.is_true(condition) { 0 } else { distance }
                }
                Op::Skip(distance) => distance,
                Op::SkipIfFalse(distance) => self.keep_if(false, distance)?,
                Op::SkipIfTrue(distance) => self.keep_if(true, distance)?,
                Op::Select | Op::And | Op::Or | Op::EndChain => 0,
                Op::Call(function, count) => self.call(function, count.into())?,
                Op::Index => self.index()?,
                Op::Slice(parts) => self.slice(parts)?,
            };
            if let Some(last) = skipped.checked_sub(1) {
                rest.nth(usize::from(last));
            }
        }
        self.pop()
    }

    #[inline]
    fn pop(&mut self) -> Fallible<Word> {
        self.stack.words.pop().ok_or_else(missing)
    }

    #[inline]
    fn push(&mut self, word: Word) -> Fallible<u16> {
        self.stack.words.push(word);
        Ok(0)
    }

    #[inline]
    fn push_operand(&mut self, operand: &Operand) -> Fallible<u16> {
        let word = Word::new(operand).unwrap_or_else(|| self.spill(operand));
        self.push(word)
    }

    #[cold]
    fn spill(&mut self, operand: &Operand) -> Word {
        let index = self.stack.spilled.len() as u64;
        self.stack.spilled.push(operand.clone());
        Word::spilled(index)
    }

    fn operand(&self, word: Word) -> Operand {
        match word.view() {
            View::Bool(bool) => Operand::Bool(bool),
            View::Int(int) => Operand::Int(int.into()),
            View::Float(float) => Operand::Float(float),
            // Whatever was spilled during this evaluation is still there.
            View::Spilled(index) => usize::try_from(index)
                .ok()
                .and_then(|index| self.stack.spilled.get(index).cloned())
                .unwrap_or(Operand::Bool(false)),
        }
    }

    fn is_true(&self, word: Word) -> bool {
        word.is_true()
            .unwrap_or_else(|| self.operand(word).is_true())
    }

    #[inline]
    fn load(&mut self, operand: Option<&Operand>) -> Fallible<u16> {
        self.push_operand(operand.ok_or_else(missing)?)
    }

    fn unary(&mut self, op: Unary) -> Fallible<u16> {
        let word = self.pop()?;
        let result = unary(op, &self.operand(word))?;
        self.push_operand(&result)
    }

    #[inline]
    fn binary(&mut self, op: Binary) -> Fallible<u16> {
        let (right, left) = (self.pop()?, self.pop()?);
        if let Some(result) = Word::binary(op, left, right) {
            return self.push(result);
        }
        let result = binary(op, &self.operand(left), &self.operand(right), self.budget)?;
        self.push_operand(&result)
    }

    #[inline]
    fn holds(&mut self, op: Comparison, left: Word, right: Word) -> Fallible<bool> {
        match Word::compare(op, left, right) {
            Some(holds) => Ok(holds),
            None => compare(op, &self.operand(left), &self.operand(right), self.budget),
        }
    }

    #[inline]
    fn compare(&mut self, op: Comparison) -> Fallible<u16> {
        let (right, left) = (self.pop()?, self.pop()?);
        let holds = self.holds(op, left, right)?;
        self.push(Word::bool(holds))
    }

    fn chain(&mut self, op: Comparison, distance: u16) -> Fallible<u16> {
        let (right, left) = (self.pop()?, self.pop()?);
        if self.holds(op, left, right)? {
            return self.push(right);
        }
        self.push(Word::bool(false))?;
        Ok(distance)
    }

    /// Keeps the operand and skips if it is as true as wanted, else takes it.
    fn keep_if(&mut self, wanted: bool, distance: u16) -> Fallible<u16> {
        let word = self.pop()?;
        if self.is_true(word) != wanted {
            return Ok(0);
        }
        self.push(word)?;
        Ok(distance)
    }

    fn call(&mut self, function: Function, count: usize) -> Fallible<u16> {
        if let (Some(better), 2) = (function.better(), count) {
            let (right, left) = (self.pop()?, self.pop()?);
            let best = if self.holds(better, right, left)? {
                right
            } else {
                left
            };
            return self.push(best);
        }
        let start = self
            .stack
            .words
            .len()
            .checked_sub(count)
            .ok_or_else(missing)?;
        let mut arguments = std::mem::take(&mut self.stack.arguments);
        arguments.clear();
        let words = self.stack.words.get(start..).unwrap_or_default();
        arguments.extend(words.iter().map(|word| self.operand(*word)));
        self.stack.words.truncate(start);
        let result = call(function, &arguments, self.budget);
        self.stack.arguments = arguments;
        self.push_operand(&result?)
    }

    fn index(&mut self) -> Fallible<u16> {
        let (position, whole) = (self.pop()?, self.pop()?);
        let letter = text::index(&self.operand(whole), &self.operand(position), self.budget)?;
        self.push_operand(&letter)
    }

    fn slice(&mut self, parts: SliceParts) -> Fallible<u16> {
        let step = self.part(parts.step)?;
        let stop = self.part(parts.stop)?;
        let start = self.part(parts.start)?;
        let whole = self.pop()?;
        let bounds = [start.as_ref(), stop.as_ref(), step.as_ref()];
        let sliced = text::slice(&self.operand(whole), bounds, self.budget)?;
        self.push_operand(&sliced)
    }

    /// Takes a part of a slice, if it is there.
    fn part(&mut self, wanted: bool) -> Fallible<Option<Operand>> {
        if !wanted {
            return Ok(None);
        }
        let word = self.pop()?;
        Ok(Some(self.operand(word)))
    }
}

/// There are fewer values than variables; the parser emits no other code that could find the stack empty.
#[cold]
fn missing() -> EvaluationError {
    invalid("the expression has more variables than values were given")
}
