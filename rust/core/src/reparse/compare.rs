//! Python's comparisons, truth and membership on operands.

use std::cmp::Ordering;

use super::error::{EvaluationError, Fallible, type_error};
use super::operand::{INT_LIMIT, Number, Operand};
use super::text::Budget;

/// A comparison operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn,
}

impl Comparison {
    /// The operator as it is written.
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Comparison::Equal => "==",
            Comparison::NotEqual => "!=",
            Comparison::Less => "<",
            Comparison::LessEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterEqual => ">=",
            Comparison::In => "in",
            Comparison::NotIn => "not in",
        }
    }

    /// Whether the operator holds for two operands in this order; NaN has none.
    pub(super) fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Comparison::Equal => order == Some(Ordering::Equal),
            Comparison::NotEqual => order != Some(Ordering::Equal),
            Comparison::Less => order == Some(Ordering::Less),
            Comparison::LessEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Comparison::Greater => order == Some(Ordering::Greater),
            Comparison::GreaterEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            Comparison::In | Comparison::NotIn => false,
        }
    }
}

/// `left op right`
pub(super) fn compare(
    op: Comparison,
    left: &Operand,
    right: &Operand,
    budget: &mut Budget,
) -> Fallible<bool> {
    match op {
        Comparison::In => return contains(right, left, budget),
        Comparison::NotIn => return contains(right, left, budget).map(|found| !found),
        _ => {}
    }
    if let (Operand::Text(left), Operand::Text(right)) = (left, right) {
        budget.spend(left.len().min(right.len()))?;
        // UTF-8 sorts as its code points do.
        return Ok(op.holds(Some(left.cmp(right))));
    }
    match (left.number(), right.number(), op) {
        (Some(left), Some(right), _) => Ok(op.holds(order(left, right))),
        (_, _, Comparison::Equal) => Ok(false),
        (_, _, Comparison::NotEqual) => Ok(true),
        _ => Err(type_error(format!(
            "'{}' not supported between instances of '{}' and '{}'",
            op.symbol(),
            left.type_name(),
            right.type_name()
        ))),
    }
}

/// The order of two numbers, exact between integers and floats of any size.
fn order(left: Number, right: Number) -> Option<Ordering> {
    match (left, right) {
        (Number::Int(left), Number::Int(right)) => Some(left.cmp(&right)),
        (Number::Float(left), Number::Float(right)) => left.partial_cmp(&right),
        (Number::Int(left), Number::Float(right)) => integer_to_float(left, right),
        (Number::Float(left), Number::Int(right)) => {
            integer_to_float(right, left).map(Ordering::reverse)
        }
    }
}

fn integer_to_float(int: i128, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        None
    } else if float >= INT_LIMIT {
        Some(Ordering::Less)
    } else if float < -INT_LIMIT {
        Some(Ordering::Greater)
    } else {
        let whole = float.trunc();
        #[allow(
            clippy::cast_possible_truncation,
            reason = "a whole number within the limits"
        )]
        let order = int.cmp(&(whole as i128));
        // For equal whole parts the fraction decides.
        Some(order.then(whole.partial_cmp(&float)?))
    }
}

/// `part in whole`
fn contains(whole: &Operand, part: &Operand, budget: &mut Budget) -> Fallible<bool> {
    match (whole, part) {
        (Operand::Text(whole), Operand::Text(part)) => {
            budget.spend(whole.len() + part.len())?;
            Ok(whole.contains(&**part))
        }
        (Operand::Text(_), other) => Err(type_error(format!(
            "'in <string>' requires string as left operand, not {}",
            other.type_name()
        ))),
        (other, _) => Err(type_error(format!(
            "argument of type '{}' is not iterable",
            other.type_name()
        ))),
    }
}

/// The operator is not for these types.
#[cold]
pub(super) fn unsupported(symbol: &str, left: &Operand, right: &Operand) -> EvaluationError {
    let symbol = if symbol == "**" {
        "** or pow()"
    } else {
        symbol
    };
    let (left, right) = (left.type_name(), right.type_name());
    type_error(format!(
        "unsupported operand type(s) for {symbol}: '{left}' and '{right}'"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_floats_of_any_size_compare_exactly() {
        for (int, float, expected) in [
            (
                (1 << 53) + 1,
                9_007_199_254_740_992.0,
                Some(Ordering::Greater),
            ),
            (1 << 53, 9_007_199_254_740_992.0, Some(Ordering::Equal)),
            (-1, -1.5, Some(Ordering::Greater)),
            (-2, -1.5, Some(Ordering::Less)),
            (i128::MAX, 2.0_f64.powi(127), Some(Ordering::Less)),
            (i128::MIN, -(2.0_f64.powi(127)), Some(Ordering::Equal)),
            (i128::MAX, f64::INFINITY, Some(Ordering::Less)),
            (i128::MIN, f64::NEG_INFINITY, Some(Ordering::Greater)),
            (0, -0.0, Some(Ordering::Equal)),
            (0, f64::MIN_POSITIVE, Some(Ordering::Less)),
            (0, f64::NAN, None),
        ] {
            assert_eq!(integer_to_float(int, float), expected, "{int} {float}");
        }
    }
}
