//! The samples of a pathpoint over time, as an expression takes them.

use super::error::Failure;
use super::operand::Operand;
use crate::value::{Reading, Reason};

/// The samples of one pathpoint. The timestamps never fall; there are as many as values.
#[derive(Clone, Copy, Debug)]
pub struct Column<'a> {
    /// When the samples were taken, in milliseconds since the epoch.
    pub timestamps: &'a [i64],
    /// What was read.
    pub values: Values<'a>,
}

/// A piece of a column.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// The samples.
    pub samples: Column<'a>,
    /// Whether they are the last ones.
    pub complete: bool,
}

/// The values of a column.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// All are integers.
    Ints(&'a [i64]),
    /// All are floats.
    Floats(&'a [f64]),
    /// Anything.
    Readings(&'a [Reading]),
}

impl Values<'_> {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Values::Ints(ints) => ints.len(),
            Values::Floats(floats) => floats.len(),
            Values::Readings(readings) => readings.len(),
        }
    }

    /// One of them, if it could be read.
    pub(super) fn operand(&self, index: usize) -> Result<Operand, Failure> {
        let missing = || Failure::Read(Reason::Invalid);
        match self {
            Values::Ints(ints) => ints.get(index).map(|int| Operand::Int((*int).into())),
            Values::Floats(floats) => floats.get(index).map(|float| Operand::Float(*float)),
            Values::Readings(readings) => match readings.get(index) {
                Some(Reading::Failed(reason)) => return Err(Failure::Read(*reason)),
                Some(Reading::Value(value)) => Some(value.into()),
                None => None,
            },
        }
        .ok_or_else(missing)
    }
}
