//! What expressions compute with: Python's `bool`, `int`, `float` and `str`.

use std::sync::Arc;

use super::error::{EvaluationError, invalid};
use crate::value::Value;

/// What integers are below: 2 ** 127.
pub(super) const INT_LIMIT: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;

/// A value during evaluation.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// `bool`
    Bool(bool),
    /// `int`, exact as far as it goes; a result fits 64 bits.
    Int(i128),
    /// `float`
    Float(f64),
    /// `str`
    Text(Arc<str>),
}

/// An operand that is a number; `True` and `False` count as 1 and 0.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    /// The number as a float, rounded to nearest as CPython does.
    #[allow(clippy::cast_precision_loss, reason = "the rounding is the point")]
    pub(super) fn to_float(self) -> f64 {
        match self {
            Number::Int(int) => int as f64,
            Number::Float(float) => float,
        }
    }
}

impl Operand {
    /// The operand as a number; nothing for a text.
    #[inline]
    pub(super) fn number(&self) -> Option<Number> {
        match *self {
            Operand::Bool(bool) => Some(Number::Int(bool.into())),
            Operand::Int(int) => Some(Number::Int(int)),
            Operand::Float(float) => Some(Number::Float(float)),
            Operand::Text(_) => None,
        }
    }

    /// The operand as an integer, as Python's `__index__` gives it: `bool` and `int` only.
    pub(super) fn index(&self) -> Option<i128> {
        match *self {
            Operand::Bool(bool) => Some(bool.into()),
            Operand::Int(int) => Some(int),
            Operand::Float(_) | Operand::Text(_) => None,
        }
    }

    /// Whether Python takes the operand as true.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Operand::Bool(bool) => *bool,
            Operand::Int(int) => *int != 0,
            Operand::Float(float) => *float != 0.0,
            Operand::Text(text) => !text.is_empty(),
        }
    }

    /// Python's name of the operand's type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Operand::Bool(_) => "bool",
            Operand::Int(_) => "int",
            Operand::Float(_) => "float",
            Operand::Text(_) => "str",
        }
    }
}

impl From<&Value> for Operand {
    fn from(value: &Value) -> Self {
        match value {
            Value::Int(int) => Operand::Int((*int).into()),
            Value::Float(float) => Operand::Float(*float),
            Value::Text(text) => Operand::Text(text.clone()),
        }
    }
}

/// A result as a pathpoint holds it, with 0 and 1 for booleans. What an evaluation gives always fits.
impl TryFrom<Operand> for Value {
    type Error = EvaluationError;

    fn try_from(operand: Operand) -> Result<Self, EvaluationError> {
        Ok(match operand {
            Operand::Bool(bool) => Value::Int(bool.into()),
            Operand::Int(int) => Value::Int(narrow(int)?),
            Operand::Float(float) => Value::Float(float),
            Operand::Text(text) => Value::Text(text),
        })
    }
}

/// An integer result, which has to fit what a pathpoint can hold.
pub(super) fn narrow(int: i128) -> Result<i64, EvaluationError> {
    i64::try_from(int).map_err(|_| invalid("the integer result does not fit 64 bits"))
}
