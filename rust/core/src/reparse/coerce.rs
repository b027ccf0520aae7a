//! Makes the result of an expression a value of the pathpoint's type, as `to_type` does in Python.

use super::error::Fallible;
use super::functions::{Function, call};
use super::operand::Operand;
use super::text::Budget;
use crate::pathpoint::Kind;

/// The value as a pathpoint of this type has it: 16-bit integers are clipped to their range.
pub(super) fn coerce(value: Operand, kind: Kind) -> Fallible<Operand> {
    let convert = |function| call(function, std::slice::from_ref(&value), &mut Budget::new());
    let clipped = |low, high| match convert(Function::Int)? {
        Operand::Int(int) => Ok(Operand::Int(int.clamp(low, high))),
        other => Ok(other),
    };
    match (kind, &value) {
        (Kind::Single | Kind::Double, Operand::Float(_)) | (Kind::Text, Operand::Text(_)) => {
            Ok(value)
        }
        (Kind::Single | Kind::Double, _) => convert(Function::Float),
        (Kind::Text, _) => convert(Function::Str),
        (Kind::Unsigned16, _) => clipped(0, 65_535),
        (Kind::Signed16, _) => clipped(-32_768, 32_767),
        (Kind::Binary, _) => Ok(Operand::Bool(convert(Function::Int)? != Operand::Int(0))),
    }
}
