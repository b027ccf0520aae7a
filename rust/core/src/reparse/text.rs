//! Python's operations on `str`, and its conversions between text and numbers.
//!
//! Positions count code points. Everything that reads or makes text pays for its bytes from the evaluation's [`Budget`],
//! before it does the work.

use std::sync::Arc;

use super::error::{Fallible, invalid, type_error};
use super::operand::Operand;
use super::quote::quoted;
use super::{MAX_LONG_FLOATS, MAX_TEXT};

/// Most significant digits of a number that is read as a float by a few multiplications; one with more may take forty times
/// as long.
pub(super) const QUICK_DIGITS: usize = 19;

/// What reading one with more counts for, besides its bytes, so that an evaluation reads no more of them than a text may have.
const SLOW_FLOAT: usize = MAX_TEXT / MAX_LONG_FLOATS;

/// How much text an evaluation may still handle, together with those of the expressions inside it.
#[derive(Debug)]
pub struct Budget(usize);

/// What one evaluation has.
impl Default for Budget {
    fn default() -> Self {
        Self(MAX_TEXT)
    }
}

impl Budget {
    /// Takes this many bytes.
    pub(super) fn spend(&mut self, bytes: usize) -> Fallible<()> {
        self.0 = self.0.checked_sub(bytes).ok_or_else(|| {
            invalid(format!(
                "the expression handles more than {MAX_TEXT} bytes of text"
            ))
        })?;
        Ok(())
    }
}

fn text(text: impl Into<Arc<str>>) -> Operand {
    Operand::Text(text.into())
}

/// `left + right`
pub(super) fn concatenate(left: &str, right: &str, budget: &mut Budget) -> Fallible<Operand> {
    budget.spend(left.len().saturating_add(right.len()))?;
    Ok(text([left, right].concat()))
}

/// `text * count`
pub(super) fn repeat(repeated: &str, count: &Operand, budget: &mut Budget) -> Fallible<Operand> {
    let Some(count) = count.index() else {
        let name = count.type_name();
        return Err(type_error(format!(
            "can't multiply sequence by non-int of type '{name}'"
        )));
    };
    let count = i64::try_from(count)
        .map_err(|_| invalid("cannot fit 'int' into an index-sized integer"))?;
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    budget.spend(repeated.len().saturating_mul(count))?;
    // An empty text stays empty, however often.
    Ok(text(if repeated.is_empty() {
        String::new()
    } else {
        repeated.repeat(count)
    }))
}

/// `whole[position]`
pub(super) fn index(whole: &Operand, position: &Operand, budget: &mut Budget) -> Fallible<Operand> {
    let whole = subscriptable(whole)?;
    let Some(position) = position.index() else {
        let name = position.type_name();
        return Err(type_error(format!(
            "string indices must be integers, not '{name}'"
        )));
    };
    let position = i64::try_from(position)
        .map_err(|_| invalid("cannot fit 'int' into an index-sized integer"))?;
    budget.spend(whole.len())?;
    let distance = usize::try_from(position.unsigned_abs()).unwrap_or(usize::MAX);
    let found = match distance.checked_sub(1) {
        Some(before_end) if position < 0 => whole.chars().nth_back(before_end),
        _ => whole.chars().nth(distance),
    };
    let found = found.ok_or_else(|| invalid("string index out of range"))?;
    Ok(text(found.encode_utf8(&mut [0; 4]) as &str))
}

/// `whole[start:stop:step]`, where each part may be left out.
pub(super) fn slice(
    whole: &Operand,
    [start, stop, step]: [Option<&Operand>; 3],
    budget: &mut Budget,
) -> Fallible<Operand> {
    let whole = subscriptable(whole)?;
    let part = |part: Option<&Operand>| match part.map(Operand::index) {
        None => Ok(None),
        Some(Some(index)) => Ok(Some(index)),
        Some(None) => Err(type_error(
            "slice indices must be integers or None or have an __index__ method",
        )),
    };
    let step = part(step)?.unwrap_or(1);
    if step == 0 {
        return Err(invalid("slice step cannot be zero"));
    }
    let (start, stop) = (part(start)?, part(stop)?);
    budget.spend(whole.len())?;
    let letters: Vec<char> = whole.chars().collect();
    let length = i128::try_from(letters.len()).unwrap_or(i128::MAX);
    // A step backwards may stop before the first letter, at -1.
    let (lowest, highest) = if step > 0 {
        (0, length)
    } else {
        (-1, length - 1)
    };
    let bound = |index: i128| {
        let index = if index < 0 {
            index.saturating_add(length)
        } else {
            index
        };
        index.clamp(lowest, highest)
    };
    let (first, last) = if step > 0 {
        (lowest, highest)
    } else {
        (highest, lowest)
    };
    let mut at = start.map_or(first, bound);
    let stop = stop.map_or(last, bound);
    let mut sliced = String::new();
    while if step > 0 { at < stop } else { at > stop } {
        sliced.extend(usize::try_from(at).ok().and_then(|at| letters.get(at)));
        at = at.saturating_add(step);
    }
    Ok(text(sliced))
}

fn subscriptable(operand: &Operand) -> Fallible<&Arc<str>> {
    match operand {
        Operand::Text(text) => Ok(text),
        other => Err(type_error(format!(
            "'{}' object is not subscriptable",
            other.type_name()
        ))),
    }
}

/// `str(operand)`
pub(super) fn from_operand(operand: &Operand, budget: &mut Budget) -> Fallible<Operand> {
    let made = match operand {
        Operand::Bool(true) => "True".into(),
        Operand::Bool(false) => "False".into(),
        Operand::Int(int) => int.to_string(),
        Operand::Float(float) => float_repr(*float),
        Operand::Text(_) => return Ok(operand.clone()),
    };
    budget.spend(made.len())?;
    Ok(text(made))
}

/// `repr(float)`: the shortest digits that read back as the same float, laid out as Python does.
fn float_repr(float: f64) -> String {
    if float.is_nan() {
        return "nan".into();
    }
    if float.is_infinite() {
        return if float > 0.0 {
            "inf".into()
        } else {
            "-inf".into()
        };
    }
    let scientific = shortest(float);
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    match exponent.parse::<i32>() {
        Ok(exponent @ -4..16) => positional(digits, exponent),
        Ok(exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        Err(_) => scientific,
    }
}

/// The shortest digits that read back as the same float, and of those the closest ones. Rust finds
/// the former; where two are as close, Python takes the even one.
fn shortest(float: f64) -> String {
    let short = format!("{float:e}");
    let places = short
        .split_once('.')
        .and_then(|(_, rest)| rest.find('e'))
        .unwrap_or(0);
    let closest = format!("{float:.places$e}");
    if closest.parse() == Ok(float) {
        closest
    } else {
        short
    }
}

/// Digits such as `-1.25` times ten to the power of the exponent, without an exponent.
fn positional(digits: &str, exponent: i32) -> String {
    let (sign, unsigned) = match digits.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", digits),
    };
    let digits = unsigned.replace('.', "");
    match usize::try_from(exponent) {
        Ok(exponent) => {
            let padded = format!("{digits:0<width$}", width = exponent + 2);
            let (whole, fraction) = padded.split_at(exponent + 1);
            format!("{sign}{whole}.{fraction}")
        }
        Err(_) => {
            let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
            format!("{sign}0.{zeros}{digits}")
        }
    }
}

/// `int(text, base)`
pub(super) fn to_integer(source: &str, base: u32, budget: &mut Budget) -> Fallible<Operand> {
    budget.spend(source.len())?;
    let refused = || {
        invalid(format!(
            "invalid literal for int() with base {base}: {}",
            quoted(source)
        ))
    };
    let (negative, unsigned) = signed(source.trim());
    let prefix = unsigned.get(..2).map(str::to_ascii_lowercase);
    let prefixed = match (prefix.as_deref(), base) {
        (Some("0x"), 0 | 16) => Some(16),
        (Some("0o"), 0 | 8) => Some(8),
        (Some("0b"), 0 | 2) => Some(2),
        _ => None,
    };
    // An underscore may follow the prefix.
    let (radix, digits) = match (prefixed, unsigned.get(2..)) {
        (Some(radix), Some(digits)) => (radix, digits.strip_prefix('_').unwrap_or(digits)),
        _ => (if base == 0 { 10 } else { base }, unsigned),
    };
    let digits =
        without_underscores(digits, |letter| letter.is_digit(radix)).ok_or_else(refused)?;
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err(refused());
    }
    let significant = digits.trim_start_matches('0');
    if base == 0 && prefixed.is_none() && digits.len() > 1 && digits.starts_with('0') {
        // Base 0 reads literals, where only zeros may lead zeros.
        return if significant.is_empty() {
            Ok(Operand::Int(0))
        } else {
            Err(refused())
        };
    }
    if significant.is_empty() {
        return Ok(Operand::Int(0));
    }
    let magnitude = i128::from_str_radix(significant, radix)
        .map_err(|_| invalid("the integer in the text does not fit 128 bits"))?;
    Ok(Operand::Int(if negative { -magnitude } else { magnitude }))
}

/// `float(text)`
pub(super) fn to_float(source: &str, budget: &mut Budget) -> Fallible<Operand> {
    budget.spend(source.len())?;
    if is_slow_float(source) {
        budget.spend(SLOW_FLOAT)?;
    }
    without_underscores(source.trim(), |letter| letter.is_ascii_digit())
        .and_then(|number| number.parse().ok())
        .map(Operand::Float)
        .ok_or_else(|| {
            invalid(format!(
                "could not convert string to float: {}",
                quoted(source)
            ))
        })
}

/// Whether a number has more digits than can be read quickly.
pub(super) fn is_slow_float(number: &str) -> bool {
    let mantissa = number.split(['e', 'E']).next().unwrap_or(number);
    let digits = mantissa.bytes().filter(u8::is_ascii_digit);
    digits.skip_while(|digit| *digit == b'0').count() > QUICK_DIGITS
}

/// Whether there is a minus, and what follows the sign.
fn signed(source: &str) -> (bool, &str) {
    match source.strip_prefix('-') {
        Some(unsigned) => (true, unsigned),
        None => (false, source.strip_prefix('+').unwrap_or(source)),
    }
}

/// The number's text without its underscores, each of which has to stand between two digits.
fn without_underscores(number: &str, is_digit: impl Fn(char) -> bool) -> Option<String> {
    let mut kept = String::with_capacity(number.len());
    let mut letters = number.chars().peekable();
    let mut after_digit = false;
    while let Some(letter) = letters.next() {
        if letter == '_' {
            if !after_digit || !letters.peek().copied().is_some_and(&is_digit) {
                return None;
            }
        } else {
            kept.push(letter);
        }
        after_digit = is_digit(letter);
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_read_as_in_python_ties_between_shortest_digits_included() {
        let expected = [
            (0.25 + 562_949_953_421_312.0, "562949953421312.2"),
            (0.75 + 562_949_953_421_312.0, "562949953421312.8"),
            (0.1, "0.1"),
            (-0.0, "-0.0"),
            (100.0, "100.0"),
            (-1.25, "-1.25"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (-1.5e300, "-1.5e+300"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (float, text) in expected {
            assert_eq!(float_repr(float), text);
        }
    }

    #[test]
    fn text_is_paid_for_before_it_is_made() {
        let mut budget = Budget::default();
        assert!(repeat("ab", &Operand::Int(1 << 40), &mut budget).is_err());
        assert!(repeat("", &Operand::Int(1 << 40), &mut budget).is_ok());
        assert!(repeat("a", &Operand::Int(40_000), &mut budget).is_ok());
        assert!(repeat("a", &Operand::Int(40_000), &mut budget).is_err());
    }
}
