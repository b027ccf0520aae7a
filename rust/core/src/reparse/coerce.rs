//! Makes the result of an expression a value of the pathpoint's type, as `to_type` does in Python.

use super::error::Fallible;
use super::functions::{Function, call};
use super::operand::Operand;
use super::text::Budget;
use super::word::{View, Word};
use crate::pathpoint::Kind;

/// The value as a pathpoint of this type has it: 16-bit integers are clipped to their range.
pub(super) fn coerce(value: Operand, kind: Kind, budget: &mut Budget) -> Fallible<Operand> {
    let mut convert = |function| call(function, std::slice::from_ref(&value), budget);
    match (kind, &value) {
        (Kind::Single | Kind::Double, Operand::Float(_)) | (Kind::Text, Operand::Text(_)) => {
            Ok(value)
        }
        (Kind::Single | Kind::Double, _) => convert(Function::Float),
        (Kind::Text, _) => convert(Function::Str),
        (Kind::Unsigned16, _) => clip(&value, 0, 65_535, budget),
        (Kind::Signed16, _) => clip(&value, -32_768, 32_767, budget),
        (Kind::Binary, _) => Ok(Operand::Bool(
            clip(&value, -1, 1, budget)? != Operand::Int(0),
        )),
    }
}

/// The value as an integer, towards zero, within a range.
fn clip(value: &Operand, low: i32, high: i32, budget: &mut Budget) -> Fallible<Operand> {
    if let Operand::Float(float) = value
        && float.is_finite()
    {
        // Clipped first, since the integer may be of any size.
        let clipped = float.clamp(low.into(), high.into());
        #[allow(clippy::cast_possible_truncation, reason = "the fraction is what goes")]
        return Ok(Operand::Int(clipped as i128));
    }
    match call(Function::Int, std::slice::from_ref(value), budget)? {
        Operand::Int(int) => Ok(Operand::Int(int.clamp(low.into(), high.into()))),
        other => Ok(other),
    }
}

/// The same for a number, unless it takes more than words.
#[inline]
#[allow(clippy::cast_precision_loss, reason = "as Python's float does")]
pub(super) fn coerce_word(word: Word, kind: Kind) -> Option<Word> {
    match (kind, word.view()) {
        (Kind::Single | Kind::Double, View::Float(_)) => Some(word),
        (Kind::Single | Kind::Double, View::Int(int)) => Some(Word::float(int as f64)),
        (Kind::Unsigned16, View::Int(int)) => Some(Word::int(int.clamp(0, 65_535))),
        (Kind::Signed16, View::Int(int)) => Some(Word::int(int.clamp(-32_768, 32_767))),
        _ => Word::new(&coerce(word.operand()?, kind, &mut Budget::default()).ok()?),
    }
}
