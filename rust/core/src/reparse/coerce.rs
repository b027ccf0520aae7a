//! Makes the result of an expression a value of the pathpoint's type, as `to_type` does in Python.

use super::error::Fallible;
use super::functions::{Function, call};
use super::operand::Operand;
use super::text::Budget;
use crate::pathpoint::Kind;

/// The value as a pathpoint of this type has it: 16-bit integers are clipped to their range.
pub(super) fn coerce(value: Operand, kind: Kind) -> Fallible<Operand> {
    match (kind, &value) {
        (Kind::Single | Kind::Double, Operand::Float(_)) | (Kind::Text, Operand::Text(_)) => {
            Ok(value)
        }
        (Kind::Single | Kind::Double, _) => convert(Function::Float, value),
        (Kind::Text, _) => convert(Function::Str, value),
        (Kind::Unsigned16, _) => clipped(value, 0, 65_535),
        (Kind::Signed16, _) => clipped(value, -32_768, 32_767),
        (Kind::Binary, _) => Ok(Operand::Bool(clipped(value, -1, 1)? != Operand::Int(0))),
    }
}

/// The value as an integer, clipped to this range.
fn clipped(value: Operand, low: i32, high: i32) -> Fallible<Operand> {
    // A float is clipped first, since any of them is in range then, but for what is no number.
    let value = match value {
        Operand::Int(int) => return Ok(Operand::Int(int.clamp(low.into(), high.into()))),
        Operand::Float(float) if float.is_finite() => {
            Operand::Float(float.clamp(low.into(), high.into()))
        }
        other => other,
    };
    match convert(Function::Int, value)? {
        Operand::Int(int) => Ok(Operand::Int(int.clamp(low.into(), high.into()))),
        other => Ok(other),
    }
}

fn convert(function: Function, value: Operand) -> Fallible<Operand> {
    call(function, &[value], &mut Budget::new())
}
