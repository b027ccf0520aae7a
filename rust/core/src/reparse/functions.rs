//! The functions that expressions may call. There are no others.

use super::arithmetic::{Binary, absolute, binary};
use super::compare::{Comparison, compare};
use super::error::{Fallible, invalid, type_error};
use super::operand::{INT_LIMIT, Operand};
use super::text::{self, Budget};

/// A function of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Min,
    Max,
    Int,
    Float,
    Str,
    Bool,
    Deviation,
    RelativeDeviation,
    Ked,
    Negz,
    Huba505,
    MkInt32,
    MkFlt,
    Kty81,
    Pt1000,
}

/// Every function with its name and with the fewest and the most arguments that it takes.
const FUNCTIONS: [(Function, &str, usize, usize); 15] = [
    (Function::Min, "min", 1, usize::MAX),
    (Function::Max, "max", 1, usize::MAX),
    (Function::Int, "int", 0, 2),
    (Function::Float, "float", 0, 1),
    (Function::Str, "str", 0, 1),
    (Function::Bool, "bool", 0, 1),
    (Function::Deviation, "D", 2, 2),
    (Function::RelativeDeviation, "d", 2, 2),
    (Function::Ked, "ked", 2, 2),
    (Function::Negz, "negz", 1, 1),
    (Function::Huba505, "huba505", 1, 1),
    (Function::MkInt32, "mkint32", 2, 2),
    (Function::MkFlt, "mkflt", 2, 2),
    (Function::Kty81, "kty81", 1, 1),
    (Function::Pt1000, "pt1000", 1, 1),
];

impl Function {
    /// The function with this name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        FUNCTIONS.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// The names of all functions.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        FUNCTIONS.iter().map(|row| row.1)
    }

    /// The function's name.
    pub(super) fn name(self) -> &'static str {
        FUNCTIONS
            .iter()
            .find(|row| row.0 == self)
            .map_or("", |row| row.1)
    }

    /// For `min` and `max`, what a later argument has to be to be taken instead of an earlier one.
    pub(super) fn better(self) -> Option<Comparison> {
        match self {
            Function::Min => Some(Comparison::Less),
            Function::Max => Some(Comparison::Greater),
            _ => None,
        }
    }

    /// What is wrong with calling the function with so many arguments, if anything is.
    pub(super) fn check_arity(self, given: usize) -> Result<(), String> {
        let Some(&(_, name, fewest, most)) = FUNCTIONS.iter().find(|row| row.0 == self) else {
            return Ok(());
        };
        let (bound, count) = match (fewest, most) {
            _ if (fewest..=most).contains(&given) => return Ok(()),
            (_, usize::MAX) => ("at least ", fewest),
            _ if fewest == most => ("", fewest),
            _ => ("at most ", most),
        };
        let plural = if count == 1 { "" } else { "s" };
        Err(format!(
            "{name} expected {bound}{count} argument{plural}, got {given}"
        ))
    }
}

/// Calls a function; the parser has checked how many arguments there are.
pub(super) fn call(
    function: Function,
    arguments: &[Operand],
    budget: &mut Budget,
) -> Fallible<Operand> {
    match (function, arguments) {
        (Function::Min, _) => extreme(Comparison::Less, arguments, budget),
        (Function::Max, _) => extreme(Comparison::Greater, arguments, budget),
        (Function::Int, []) => Ok(Operand::Int(0)),
        (Function::Int, [operand]) => integer(operand, budget),
        (Function::Int, [operand, base]) => integer_of_base(operand, base, budget),
        (Function::Float, []) => Ok(Operand::Float(0.0)),
        (Function::Float, [Operand::Text(text)]) => text::to_float(text, budget),
        (Function::Float, [operand]) => to_float(operand).map(Operand::Float),
        (Function::Str, []) => Ok(Operand::Text("".into())),
        (Function::Str, [operand]) => text::from_operand(operand, budget),
        (Function::Bool, []) => Ok(Operand::Bool(false)),
        (Function::Bool, [operand]) => Ok(Operand::Bool(operand.is_true())),
        (Function::Deviation, [real, reference]) => deviation(real, reference, budget),
        (Function::RelativeDeviation, [real, reference]) => {
            relative_deviation(real, reference, budget)
        }
        (Function::Ked, [real, reference]) => {
            if compare(Comparison::Less, real, &Operand::Int(20), budget)? {
                return Ok(Operand::Int(0));
            }
            relative_deviation(real, reference, budget)
        }
        (Function::Negz, [operand]) => {
            let negative = compare(Comparison::Less, operand, &Operand::Int(0), budget)?;
            Ok(if negative {
                Operand::Int(0)
            } else {
                operand.clone()
            })
        }
        (Function::Huba505, [volts]) => huba505(volts, budget),
        (Function::MkInt32, [high, low]) => {
            let word = (u32::from(register(high)?) << 16) | u32::from(register(low)?);
            Ok(Operand::Int(word.cast_signed().into()))
        }
        (Function::MkFlt, [high, low]) => {
            let ([a, b], [c, d]) = (register(high)?.to_be_bytes(), register(low)?.to_be_bytes());
            Ok(Operand::Float(f32::from_le_bytes([a, b, c, d]).into()))
        }
        (Function::Kty81, [ohms]) => kty81(ohms, budget),
        (Function::Pt1000, [ohms]) => pt1000(ohms, budget),
        _ => Err(type_error(format!(
            "{} does not take these arguments",
            function.name()
        ))),
    }
}

/// `min` and `max`: the first argument that no later one is `better` than; of a lone text, its least or greatest letter.
fn extreme(better: Comparison, arguments: &[Operand], budget: &mut Budget) -> Fallible<Operand> {
    let name = if better == Comparison::Less {
        "min"
    } else {
        "max"
    };
    let (first, rest) = match arguments {
        [Operand::Text(text)] => {
            budget.spend(text.len())?;
            let letters = text.chars();
            let letter = if name == "min" {
                letters.min()
            } else {
                letters.max()
            };
            let letter =
                letter.ok_or_else(|| invalid(format!("{name}() arg is an empty sequence")))?;
            return Ok(Operand::Text(
                (letter.encode_utf8(&mut [0; 4]) as &str).into(),
            ));
        }
        [first, rest @ ..] if !rest.is_empty() => (first, rest),
        _ => {
            let name = arguments.first().map_or("", Operand::type_name);
            return Err(type_error(format!("'{name}' object is not iterable")));
        }
    };
    let mut best = first;
    for candidate in rest {
        if compare(better, candidate, best, budget)? {
            best = candidate;
        }
    }
    Ok(best.clone())
}

/// `int(operand)`
fn integer(operand: &Operand, budget: &mut Budget) -> Fallible<Operand> {
    let float = match operand {
        Operand::Text(text) => return text::to_integer(text, 10, budget),
        Operand::Float(float) => *float,
        Operand::Bool(bool) => return Ok(Operand::Int((*bool).into())),
        Operand::Int(int) => return Ok(Operand::Int(*int)),
    };
    if float.is_nan() {
        Err(invalid("cannot convert float NaN to integer"))
    } else if float.is_infinite() {
        Err(invalid("cannot convert float infinity to integer"))
    } else if float.abs() >= INT_LIMIT {
        Err(invalid("an integer on the way does not fit 128 bits"))
    } else {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "truncation is what int() is for"
        )]
        Ok(Operand::Int(float as i128))
    }
}

/// `int(text, base)`
fn integer_of_base(operand: &Operand, base: &Operand, budget: &mut Budget) -> Fallible<Operand> {
    let Some(base) = base.index() else {
        let name = base.type_name();
        return Err(type_error(format!(
            "'{name}' object cannot be interpreted as an integer"
        )));
    };
    let base = u32::try_from(base)
        .ok()
        .filter(|base| matches!(base, 0 | 2..=36))
        .ok_or_else(|| invalid("int() base must be >= 2 and <= 36, or 0"))?;
    match operand {
        Operand::Text(text) => text::to_integer(text, base, budget),
        _ => Err(type_error(
            "int() can't convert non-string with explicit base",
        )),
    }
}

/// A number as a float; what is a text is turned away by the operation that it would have met.
fn to_float(operand: &Operand) -> Fallible<f64> {
    match operand.number() {
        Some(number) => Ok(number.to_float()),
        None => Err(type_error("must be real number, not str")),
    }
}

fn deviation(real: &Operand, reference: &Operand, budget: &mut Budget) -> Fallible<Operand> {
    absolute(binary(Binary::Subtract, reference, real, budget)?)
}

fn relative_deviation(
    real: &Operand,
    reference: &Operand,
    budget: &mut Budget,
) -> Fallible<Operand> {
    let deviation = deviation(real, reference, budget)?;
    absolute(binary(Binary::Divide, &deviation, real, budget)?)
}

/// Pressure in bar of a HUBA 505 transducer: 0.5 V is 0 bar, 3.5 V is 4 bar.
fn huba505(volts: &Operand, budget: &mut Budget) -> Fallible<Operand> {
    let over = binary(Binary::Subtract, volts, &Operand::Float(0.5), budget)?;
    let pressure = 4.0 * to_float(&over)? / 3.0;
    known(pressure, "pressure")?;
    Ok(if pressure > 0.0 {
        Operand::Float(pressure)
    } else {
        Operand::Int(0)
    })
}

/// A 16-bit register's content.
fn register(operand: &Operand) -> Fallible<u16> {
    let Some(word) = operand.index() else {
        return Err(type_error("required argument is not an integer"));
    };
    u16::try_from(word).map_err(|_| invalid("'H' format requires 0 <= number <= 65535"))
}

/// NaN stands for no measurement, and no sensor's curve turns it into one.
fn known(float: f64, quantity: &str) -> Fallible<()> {
    if float.is_nan() {
        return Err(invalid(format!("cannot convert float NaN to a {quantity}")));
    }
    Ok(())
}

/// A KTY81 sensor's temperature in °C and its resistance in ohms, as SMOK defines them.
const KTY81: [(f64, f64); 16] = [
    (-40.0, 1136.0),
    (-20.0, 1250.0),
    (-10.0, 1372.0),
    (0.0, 1500.0),
    (10.0, 1634.0),
    (20.0, 1774.0),
    (25.0, 1922.0),
    (30.0, 2000.0),
    (40.0, 2078.0),
    (50.0, 2240.0),
    (60.0, 2410.0),
    (70.0, 2590.0),
    (80.0, 2780.0),
    (90.0, 2978.0),
    (100.0, 3182.0),
    (110.0, 3392.0),
];

/// °C of a KTY81 sensor. The ends are those of deployed devices: the last point of the table is never reached.
fn kty81(ohms: &Operand, budget: &mut Budget) -> Fallible<Operand> {
    if compare(Comparison::LessEqual, ohms, &Operand::Int(1136), budget)? {
        return Ok(Operand::Int(-40));
    }
    if compare(Comparison::GreaterEqual, ohms, &Operand::Int(3276), budget)? {
        return Ok(Operand::Float(94.4));
    }
    let ohms = to_float(ohms)?;
    known(ohms, "temperature")?;
    Ok(Operand::Float(interpolate(&KTY81, ohms)))
}

/// A PT100 sensor's temperature in °C and its resistance in ohms, as SMOK defines them.
const PT100: [(f64, f64); 36] = [
    (-50.0, 80.31),
    (-45.0, 82.29),
    (-40.0, 84.27),
    (-35.0, 86.25),
    (-30.0, 88.22),
    (-25.0, 90.19),
    (-20.0, 92.16),
    (-15.0, 94.12),
    (-10.0, 96.09),
    (-5.0, 98.04),
    (0.0, 100.0),
    (5.0, 101.95),
    (10.0, 103.9),
    (15.0, 105.85),
    (20.0, 107.79),
    (25.0, 109.73),
    (30.0, 111.67),
    (35.0, 113.61),
    (40.0, 115.54),
    (45.0, 117.47),
    (50.0, 119.4),
    (55.0, 121.32),
    (60.0, 123.24),
    (65.0, 125.16),
    (70.0, 127.07),
    (75.0, 128.98),
    (80.0, 130.89),
    (85.0, 132.8),
    (90.0, 134.7),
    (95.0, 136.6),
    (100.0, 138.5),
    (105.0, 140.39),
    (110.0, 142.29),
    (150.0, 157.31),
    (200.0, 175.84),
    (250.0, 195.84),
];

/// °C of a PT1000 sensor, whose resistance is ten times that of a PT100.
fn pt1000(ohms: &Operand, budget: &mut Budget) -> Fallible<Operand> {
    let tenth = to_float(&binary(
        Binary::Divide,
        ohms,
        &Operand::Float(10.0),
        budget,
    )?)?;
    known(tenth, "temperature")?;
    Ok(match PT100 {
        [(_, lowest), ..] if tenth <= lowest => Operand::Int(-50),
        [.., (_, highest)] if tenth >= highest => Operand::Int(250),
        _ => Operand::Float(interpolate(&PT100, tenth)),
    })
}

/// The temperature at a resistance within the curve, on the line between the two points around it.
fn interpolate(curve: &[(f64, f64)], ohms: f64) -> f64 {
    let above = curve.partition_point(|point| point.1 <= ohms);
    match curve.get(above.saturating_sub(1)..) {
        Some([(low, low_ohms), (high, high_ohms), ..]) => {
            low + (ohms - low_ohms) * (high - low) / (high_ohms - low_ohms)
        }
        Some([(last, _), ..]) => *last,
        _ => f64::NAN,
    }
}
