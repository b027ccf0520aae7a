//! The samples of a pathpoint over time, as an expression takes them.

use super::error::Failure;
use super::operand::Operand;
use crate::value::Reason;

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

/// What was read, or why nothing was.
pub type Entry = Result<Operand, Reason>;

/// The values of a column.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// All are integers.
    Ints(&'a [i64]),
    /// All are floats.
    Floats(&'a [f64]),
    /// Anything.
    Entries(&'a [Entry]),
}

impl Values<'_> {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Values::Ints(ints) => ints.len(),
            Values::Floats(floats) => floats.len(),
            Values::Entries(entries) => entries.len(),
        }
    }

    /// One of them, if it could be read.
    pub(super) fn operand(&self, index: usize) -> Result<Operand, Failure> {
        let entry = match self {
            Values::Ints(ints) => ints.get(index).map(|int| Ok(Operand::Int((*int).into()))),
            Values::Floats(floats) => floats.get(index).map(|float| Ok(Operand::Float(*float))),
            Values::Entries(entries) => entries.get(index).cloned(),
        };
        entry.unwrap_or(Err(Reason::Invalid)).map_err(Failure::Read)
    }
}
