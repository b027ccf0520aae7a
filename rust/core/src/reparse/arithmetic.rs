//! Python's arithmetic on operands.
//!
//! Integers are exact or an overflow error. Floats follow CPython's `floatobject.c` to the sign of zero; the messages are
//! those of CPython 3.11.

use super::compare::unsupported;
use super::error::{Fallible, invalid, type_error};
use super::operand::{Number, Operand};
use super::text::{self, Budget};

/// An operator with two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
    BitAnd,
    BitOr,
    BitXor,
    ShiftLeft,
    ShiftRight,
}

impl Binary {
    /// The operator as it is written.
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Binary::Add => "+",
            Binary::Subtract => "-",
            Binary::Multiply => "*",
            Binary::Divide => "/",
            Binary::FloorDivide => "//",
            Binary::Modulo => "%",
            Binary::Power => "**",
            Binary::BitAnd => "&",
            Binary::BitOr => "|",
            Binary::BitXor => "^",
            Binary::ShiftLeft => "<<",
            Binary::ShiftRight => ">>",
        }
    }
}

/// An operator with one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unary {
    Positive,
    Negative,
    Invert,
    Not,
}

impl Unary {
    /// The operator as it is written.
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Unary::Positive => "+",
            Unary::Negative => "-",
            Unary::Invert => "~",
            Unary::Not => "not",
        }
    }
}

/// The largest magnitude up to which every integer is a float.
const EXACT_IN_FLOAT: u128 = 1 << f64::MANTISSA_DIGITS;

const OVERFLOW: &str = "an integer on the way does not fit 128 bits";

/// `left op right`
pub(super) fn binary(
    op: Binary,
    left: &Operand,
    right: &Operand,
    budget: &mut Budget,
) -> Fallible<Operand> {
    use Operand::{Bool, Text};
    match (op, left, right) {
        (Binary::Add, Text(left), Text(right)) => text::concatenate(left, right, budget),
        (Binary::Multiply, Text(text), count) | (Binary::Multiply, count, Text(text)) => {
            text::repeat(text, count, budget)
        }
        (Binary::BitAnd, Bool(left), Bool(right)) => Ok(Bool(left & right)),
        (Binary::BitOr, Bool(left), Bool(right)) => Ok(Bool(left | right)),
        (Binary::BitXor, Bool(left), Bool(right)) => Ok(Bool(left ^ right)),
        _ => match (left.number(), right.number()) {
            (Some(Number::Int(left)), Some(Number::Int(right))) => integers(op, left, right),
            (Some(l), Some(r)) => match floats(op, l.to_float(), r.to_float()) {
                Some(result) => result.map(Operand::Float),
                None => Err(unsupported(op.symbol(), left, right)),
            },
            _ => Err(not_numbers(op, left, right)),
        },
    }
}

/// `op operand`
pub(super) fn unary(op: Unary, operand: &Operand) -> Fallible<Operand> {
    let bad_operand = || {
        let (symbol, name) = (op.symbol(), operand.type_name());
        type_error(format!("bad operand type for unary {symbol}: '{name}'"))
    };
    Ok(match (op, operand.number()) {
        (Unary::Not, _) => Operand::Bool(!operand.is_true()),
        (Unary::Positive, Some(Number::Int(int))) => Operand::Int(int),
        (Unary::Positive, Some(Number::Float(float))) => Operand::Float(float),
        (Unary::Negative, Some(Number::Int(int))) => {
            Operand::Int(int.checked_neg().ok_or_else(|| invalid(OVERFLOW))?)
        }
        (Unary::Negative, Some(Number::Float(float))) => Operand::Float(-float),
        (Unary::Invert, Some(Number::Int(int))) => Operand::Int(!int),
        _ => return Err(bad_operand()),
    })
}

/// `abs(operand)`, for a number that came out of a subtraction or a division.
pub(super) fn absolute(operand: Operand) -> Fallible<Operand> {
    Ok(match operand {
        Operand::Int(int) => Operand::Int(int.checked_abs().ok_or_else(|| invalid(OVERFLOW))?),
        Operand::Float(float) => Operand::Float(float.abs()),
        other => other,
    })
}

#[cold]
fn not_numbers(op: Binary, left: &Operand, right: &Operand) -> super::EvaluationError {
    match (op, left) {
        (Binary::Add, Operand::Text(_)) => type_error(format!(
            "can only concatenate str (not \"{}\") to str",
            right.type_name()
        )),
        (Binary::Modulo, Operand::Text(_)) => {
            type_error("text formatting with % is not part of the expression language")
        }
        _ => unsupported(op.symbol(), left, right),
    }
}

fn integers(op: Binary, left: i128, right: i128) -> Fallible<Operand> {
    let exact = match op {
        Binary::Add => left.checked_add(right),
        Binary::Subtract => left.checked_sub(right),
        Binary::Multiply => multiply(left, right),
        Binary::Divide if right == 0 => return Err(invalid("division by zero")),
        Binary::Divide => return Ok(Operand::Float(divide(left, right))),
        Binary::FloorDivide if right == 0 => {
            return Err(invalid("integer division or modulo by zero"));
        }
        Binary::FloorDivide => floor_divide(left, right),
        Binary::Modulo if right == 0 => return Err(invalid("integer modulo by zero")),
        Binary::Modulo => modulo(left, right),
        Binary::Power if right < 0 => {
            let (left, right) = (Number::Int(left).to_float(), Number::Int(right).to_float());
            return power_of_float(left, right).map(Operand::Float);
        }
        Binary::Power => power(left, right),
        Binary::BitAnd => Some(left & right),
        Binary::BitOr => Some(left | right),
        Binary::BitXor => Some(left ^ right),
        Binary::ShiftLeft | Binary::ShiftRight if right < 0 => {
            return Err(invalid("negative shift count"));
        }
        Binary::ShiftLeft => shift_left(left, right),
        Binary::ShiftRight => {
            Some(left >> u32::try_from(right).map_or(127, |count| count.min(127)))
        }
    };
    exact.map(Operand::Int).ok_or_else(|| invalid(OVERFLOW))
}

/// Multiplication and division of what fits 64 bits is done there: 128 bits cost several times as much.
fn both_64(left: i128, right: i128) -> Option<(i64, i64)> {
    Some((i64::try_from(left).ok()?, i64::try_from(right).ok()?))
}

fn multiply(left: i128, right: i128) -> Option<i128> {
    match both_64(left, right) {
        Some((left, right)) => Some(i128::from(left) * i128::from(right)),
        None => left.checked_mul(right),
    }
}

/// Division rounded down; the divisor is not zero.
fn floor_divide(left: i128, right: i128) -> Option<i128> {
    if let Some((left, right)) = both_64(left, right)
        && let (Some(quotient), Some(rest)) = (left.checked_div(right), left.checked_rem(right))
    {
        let down = rest != 0 && (rest < 0) != (right < 0);
        return Some(i128::from(quotient) - i128::from(down));
    }
    let (quotient, rest) = (left.checked_div(right)?, left.checked_rem(right)?);
    let down = rest != 0 && (rest < 0) != (right < 0);
    Some(quotient - i128::from(down))
}

/// What [`floor_divide`] leaves, with the sign of the divisor; the divisor is not zero.
fn modulo(left: i128, right: i128) -> Option<i128> {
    let rest = match both_64(left, right) {
        Some((left, right)) => left.wrapping_rem(right).into(),
        None => left.wrapping_rem(right),
    };
    if rest != 0 && (rest < 0) != (right < 0) {
        rest.checked_add(right)
    } else {
        Some(rest)
    }
}

/// `base ** exponent` for an exponent that is not negative.
fn power(base: i128, exponent: i128) -> Option<i128> {
    match (base, u32::try_from(exponent)) {
        (_, Ok(exponent)) => base.checked_pow(exponent),
        (0 | 1, Err(_)) => Some(base),
        (-1, Err(_)) => Some(if exponent % 2 == 0 { 1 } else { -1 }),
        _ => None,
    }
}

fn shift_left(left: i128, count: i128) -> Option<i128> {
    if left == 0 {
        return Some(0);
    }
    let count = u32::try_from(count)
        .ok()
        .filter(|&count| count < i128::BITS)?;
    let shifted = left << count;
    (shifted >> count == left).then_some(shifted)
}

/// The quotient of two integers, correctly rounded; the divisor is not zero.
#[allow(
    clippy::cast_precision_loss,
    reason = "exact in the first branch, the one rounding in the second"
)]
fn divide(left: i128, right: i128) -> f64 {
    let (mut rest, divisor) = (left.unsigned_abs(), right.unsigned_abs());
    if rest <= EXACT_IN_FLOAT && divisor <= EXACT_IN_FLOAT {
        return left as f64 / right as f64;
    }
    let mut quotient = rest / divisor;
    rest %= divisor;
    let mut shift: u32 = 0;
    while rest != 0 && quotient < 1 << 64 {
        rest <<= 1;
        quotient <<= 1;
        if rest >= divisor {
            rest -= divisor;
            quotient |= 1;
        }
        shift += 1;
    }
    // More than 64 bits, of which the last one says whether anything follows: rounding them is rounding the quotient.
    let rounded = (quotient | u128::from(rest != 0)) as f64;
    let scale = f64::from_bits(u64::from(1023 - shift) << (f64::MANTISSA_DIGITS - 1));
    if (left < 0) == (right < 0) {
        rounded * scale
    } else {
        -rounded * scale
    }
}

/// `left op right`; nothing for the operators that floats do not have.
fn floats(op: Binary, left: f64, right: f64) -> Option<Fallible<f64>> {
    Some(match op {
        Binary::Add => Ok(left + right),
        Binary::Subtract => Ok(left - right),
        Binary::Multiply => Ok(left * right),
        Binary::Divide if right == 0.0 => Err(invalid("float division by zero")),
        Binary::Divide => Ok(left / right),
        Binary::FloorDivide if right == 0.0 => Err(invalid("float floor division by zero")),
        Binary::FloorDivide => Ok(divide_floats(left, right).0),
        Binary::Modulo if right == 0.0 => Err(invalid("float modulo")),
        Binary::Modulo => Ok(divide_floats(left, right).1),
        Binary::Power => power_of_float(left, right),
        _ => return None,
    })
}

/// Floor quotient and modulus, as CPython's `float_divmod` computes them; the divisor is not zero.
fn divide_floats(left: f64, right: f64) -> (f64, f64) {
    let mut modulus = left % right;
    let mut quotient = (left - modulus) / right;
    if modulus == 0.0 {
        modulus = 0.0_f64.copysign(right);
    } else if (right < 0.0) != (modulus < 0.0) {
        modulus += right;
        quotient -= 1.0;
    }
    if quotient == 0.0 {
        return (0.0_f64.copysign(left / right), modulus);
    }
    let floor = quotient.floor();
    (
        if quotient - floor > 0.5 {
            floor + 1.0
        } else {
            floor
        },
        modulus,
    )
}

/// `base ** exponent`, with the special cases of CPython's `float_pow`.
#[allow(clippy::float_cmp, reason = "the special cases are exact values")]
fn power_of_float(base: f64, exponent: f64) -> Fallible<f64> {
    let finite = base.is_finite() && exponent.is_finite();
    if finite && base == 0.0 && exponent < 0.0 {
        return Err(invalid("0.0 cannot be raised to a negative power"));
    }
    if finite && base < 0.0 && exponent != exponent.floor() {
        return Err(invalid(if base.abs().powf(exponent).is_infinite() {
            "complex exponentiation"
        } else {
            "a negative number to a fractional power is a complex number"
        }));
    }
    let result = base.powf(exponent);
    if finite && result.is_infinite() {
        return Err(invalid("(34, 'Numerical result out of range')"));
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quotient_of_integers_is_rounded_once() {
        // Rounding the operands first gives 1.0 for the first two.
        assert_eq!(divide((1 << 53) + 1, 1 << 53).to_bits(), 1.0_f64.to_bits());
        assert_eq!(
            divide((1 << 54) + 6, 1 << 54).to_bits(),
            (1.0 + 2.0 * f64::EPSILON).to_bits()
        );
        assert_eq!(
            divide(i128::MAX, i128::MAX - 1).to_bits(),
            1.0_f64.to_bits()
        );
        assert_eq!(divide(i128::MIN, 1), -(2.0_f64.powi(127)));
        assert_eq!(divide(1, i128::MIN), -(2.0_f64.powi(-127)));
        assert_eq!(divide(i128::MIN, 3), -5.671_372_782_015_641e37);
        assert_eq!(divide(10_i128.pow(30), 10_i128.pow(29)), 10.0);
    }

    #[test]
    fn integers_overflow_into_errors() {
        for (op, left, right) in [
            (Binary::Add, i128::MAX, 1),
            (Binary::Subtract, i128::MIN, 1),
            (Binary::Multiply, i128::MAX, 2),
            (Binary::FloorDivide, i128::MIN, -1),
            (Binary::Power, 2, 127),
            (Binary::Power, 10, i128::MAX),
            (Binary::ShiftLeft, 1, 127),
            (Binary::ShiftLeft, 1, i128::MAX),
        ] {
            assert!(integers(op, left, right).is_err(), "{left} {op:?} {right}");
        }
        assert_eq!(
            integers(Binary::ShiftLeft, -1, 127),
            Ok(Operand::Int(i128::MIN))
        );
        assert_eq!(integers(Binary::Power, -1, i128::MAX), Ok(Operand::Int(-1)));
        assert_eq!(
            integers(Binary::ShiftRight, -5, i128::MAX),
            Ok(Operand::Int(-1))
        );
        assert_eq!(integers(Binary::Modulo, i128::MIN, -1), Ok(Operand::Int(0)));
        assert_eq!(
            integers(Binary::FloorDivide, i64::MIN.into(), -1),
            Ok(Operand::Int(1 << 63))
        );
    }

    #[test]
    fn floats_divide_down_with_the_sign_of_the_divisor() {
        for (left, right, quotient, modulus) in [
            (7.5, -2.0, -4.0, -0.5),
            (-7.5, 2.0, -4.0, 0.5),
            (-0.0, 2.0, -0.0, 0.0),
            (4.0, -2.0, -2.0, -0.0),
            (1.0, f64::INFINITY, 0.0, 1.0),
            (-1.0, f64::INFINITY, -1.0, f64::INFINITY),
        ] {
            let divided = divide_floats(left, right);
            let bits = (divided.0.to_bits(), divided.1.to_bits());
            assert_eq!(
                bits,
                (f64::to_bits(quotient), f64::to_bits(modulus)),
                "{left} {right}"
            );
        }
    }
}
