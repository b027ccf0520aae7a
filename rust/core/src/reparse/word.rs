//! Operands that need no more than 64 bits.
//!
//! The short way of an operation is here: numbers that fit a word, and results that do. Where it gives nothing, the words
//! have to become operands and go through [`arithmetic`](super::arithmetic) and [`compare`](super::compare).

use super::arithmetic::Binary;
use super::compare::Comparison;
use super::operand::Operand;

/// An operand, or where to find it.
///
/// Not an enum, so that it travels in two registers: an enum goes through memory, which was measured at twice the time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    kind: Kind,
    bits: u64,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Bool,
    Int,
    Float,
    Spilled,
}

/// What a word holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum View {
    Bool(bool),
    Int(i64),
    Float(f64),
    /// A text or a wider integer, at this index of what was spilled.
    Spilled(u64),
}

impl Word {
    #[inline]
    pub(super) fn bool(bool: bool) -> Self {
        Self {
            kind: Kind::Bool,
            bits: bool.into(),
        }
    }

    #[inline]
    pub(super) fn int(int: i64) -> Self {
        Self {
            kind: Kind::Int,
            bits: int.cast_unsigned(),
        }
    }

    #[inline]
    pub(super) fn float(float: f64) -> Self {
        Self {
            kind: Kind::Float,
            bits: float.to_bits(),
        }
    }

    #[inline]
    pub(super) const fn spilled(index: u64) -> Self {
        Self {
            kind: Kind::Spilled,
            bits: index,
        }
    }

    #[inline]
    pub(super) fn view(self) -> View {
        match self.kind {
            Kind::Bool => View::Bool(self.bits != 0),
            Kind::Int => View::Int(self.bits.cast_signed()),
            Kind::Float => View::Float(f64::from_bits(self.bits)),
            Kind::Spilled => View::Spilled(self.bits),
        }
    }

    /// The operand as a word, if it fits.
    #[inline]
    pub(super) fn new(operand: &Operand) -> Option<Self> {
        match operand {
            Operand::Bool(bool) => Some(Word::bool(*bool)),
            Operand::Int(int) => i64::try_from(*int).ok().map(Word::int),
            Operand::Float(float) => Some(Word::float(*float)),
            Operand::Text(_) => None,
        }
    }

    /// The word as an operand, unless it was spilled.
    #[inline]
    pub(super) fn operand(self) -> Option<Operand> {
        match self.view() {
            View::Bool(bool) => Some(Operand::Bool(bool)),
            View::Int(int) => Some(Operand::Int(int.into())),
            View::Float(float) => Some(Operand::Float(float)),
            View::Spilled(_) => None,
        }
    }

    /// Python's truth of the word, unless it was spilled.
    #[inline]
    pub(super) fn is_true(self) -> Option<bool> {
        match self.view() {
            View::Bool(bool) => Some(bool),
            View::Int(int) => Some(int != 0),
            View::Float(float) => Some(float != 0.0),
            View::Spilled(_) => None,
        }
    }

    /// `left op right`
    #[inline]
    pub(super) fn binary(op: Binary, left: Self, right: Self) -> Option<Self> {
        use View::{Bool, Float, Int};
        match (left.view(), right.view()) {
            (Float(left), Float(right)) => floats(op, left, right),
            (Int(left), Int(right)) => integers(op, left, right),
            (Float(left), Int(right)) => floats(op, left, exact(right)?),
            (Int(left), Float(right)) => floats(op, exact(left)?, right),
            (Bool(left), Int(right)) => integers(op, left.into(), right),
            (Int(left), Bool(right)) => integers(op, left, right.into()),
            _ => None,
        }
    }

    /// `left op right`
    #[inline]
    pub(super) fn compare(op: Comparison, left: Self, right: Self) -> Option<bool> {
        use View::{Float, Int};
        if matches!(op, Comparison::In | Comparison::NotIn) {
            return None;
        }
        let order = match (left.view(), right.view()) {
            (Float(left), Float(right)) => left.partial_cmp(&right),
            (Int(left), Int(right)) => Some(left.cmp(&right)),
            (Float(left), Int(right)) => left.partial_cmp(&exact(right)?),
            (Int(left), Float(right)) => exact(left)?.partial_cmp(&right),
            _ => return None,
        };
        Some(op.holds(order))
    }
}

#[inline]
fn integers(op: Binary, left: i64, right: i64) -> Option<Word> {
    match op {
        Binary::Add => left.checked_add(right).map(Word::int),
        Binary::Subtract => left.checked_sub(right).map(Word::int),
        Binary::Multiply => left.checked_mul(right).map(Word::int),
        Binary::Divide => floats(op, exact(left)?, exact(right)?),
        _ => None,
    }
}

#[inline]
fn floats(op: Binary, left: f64, right: f64) -> Option<Word> {
    Some(Word::float(match op {
        Binary::Add => left + right,
        Binary::Subtract => left - right,
        Binary::Multiply => left * right,
        Binary::Divide if right != 0.0 => left / right,
        _ => return None,
    }))
}

/// The integer as a float, if that loses nothing.
#[inline]
#[allow(
    clippy::cast_precision_loss,
    reason = "there is none within the bounds"
)]
pub(super) fn exact(int: i64) -> Option<f64> {
    (int.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS).then_some(int as f64)
}
