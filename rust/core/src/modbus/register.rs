//! Where the value of a MODBUS pathpoint lies, and how it is laid out there.
//!
//! A name is `<type><unit><table><address>`, as `W1r4002`: unit 1, holding register 4002. The address is that of the
//! request, counted from 0. Tables: `r` holding registers, `i` input registers, `l` input registers too, of which two
//! make a float, `f` coils, `d` discrete inputs.
//!
//! `W`, `w` and `B` are one register or bit, `f` is two registers and `d` four, the most significant one first.
//!
//! Invariant: a [`Register`] can be read with one request.

use super::pdu::{LimitError, Operation, Request, Table};
use crate::pathpoint::Kind;
use crate::value::Value;

/// Why there is no such register.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It does not have the form of a name.
    #[error("not the name of a register: <type><unit><table><address>, as W1r4002")]
    Form,
    /// There is no such type, or registers cannot hold it.
    #[error("registers have the types B, W, w, f and d, not {0}")]
    Kind(char),
    /// There is no such table.
    #[error("the tables are r, i, l, f and d, there is no {0}")]
    Table(char),
    /// The table does not hold values of this type.
    #[error("table {table} holds no values of type {kind}")]
    KindInTable {
        /// The letter of the table.
        table: char,
        /// The letter of the type.
        kind: char,
    },
    /// There is no such unit.
    #[error("a unit is 0 to 255, not {0}")]
    Unit(u32),
    /// There is no such address.
    #[error("an address is 0 to 65535, not {0}")]
    Address(u32),
    /// The value would reach past the last address.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

/// Why a value cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Clients cannot write this table.
    #[error("the table can only be read")]
    ReadOnly,
    /// It is not of the type, or out of its range.
    #[error("the type cannot hold the value")]
    Value,
}

/// Where a value lies, and of which type it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Register {
    kind: Kind,
    unit: u8,
    table: Table,
    address: u16,
}

impl Register {
    /// The register that a name means.
    ///
    /// # Errors
    /// It is not the name of a register.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        let mut letters = name.chars();
        let kind_letter = letter(letters.next())?;
        let (unit, rest) = number(letters.as_str(), 3)?;
        let mut letters = rest.chars();
        let table_letter = letter(letters.next())?;
        let (address, rest) = number(letters.as_str(), 5)?;
        if !rest.is_empty() {
            return Err(NameError::Form);
        }
        let kind = Kind::from_letter(kind_letter)
            .filter(|kind| *kind != Kind::Text)
            .ok_or(NameError::Kind(kind_letter))?;
        let table = match table_letter {
            'r' => Table::HoldingRegisters,
            'i' | 'l' => Table::InputRegisters,
            'f' => Table::Coils,
            'd' => Table::DiscreteInputs,
            _ => return Err(NameError::Table(table_letter)),
        };
        let fits = match table_letter {
            'l' => kind == Kind::Single,
            _ => !table.holds_bits() || words_of(kind) == 1,
        };
        if !fits {
            return Err(NameError::KindInTable {
                table: table_letter,
                kind: kind_letter,
            });
        }
        let unit = u8::try_from(unit).map_err(|_| NameError::Unit(unit))?;
        let address = u16::try_from(address).map_err(|_| NameError::Address(address))?;
        Request::new(
            address,
            Operation::Read {
                table,
                count: words_of(kind),
            },
        )?;
        Ok(Self {
            kind,
            unit,
            table,
            address,
        })
    }

    /// The type of the value.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The unit.
    #[must_use]
    pub fn unit(&self) -> u8 {
        self.unit
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> Table {
        self.table
    }

    /// The first address.
    #[must_use]
    pub fn address(&self) -> u16 {
        self.address
    }

    /// How many registers or bits hold the value.
    #[must_use]
    pub fn count(&self) -> u16 {
        words_of(self.kind)
    }

    /// One past the last address.
    #[must_use]
    pub fn end(&self) -> u32 {
        u32::from(self.address) + u32::from(self.count())
    }

    /// The value that these registers or bits hold; None if they are not as many as they should be, or a float that is
    /// NaN or infinite, which no pathpoint can be.
    #[must_use]
    pub fn decode(&self, words: &[u16]) -> Option<Value> {
        let float = match (self.kind, words) {
            (Kind::Binary, [word]) => return Some(Value::Int(i64::from(*word != 0))),
            (Kind::Unsigned16, [word]) => return Some(Value::Int(i64::from(*word))),
            (Kind::Signed16, [word]) => return Some(Value::Int(i64::from(word.cast_signed()))),
            (Kind::Single, [high, low]) => {
                f64::from(f32::from_bits(u32::from(*high) << 16 | u32::from(*low)))
            }
            (Kind::Double, [_, _, _, _]) => f64::from_bits(
                words
                    .iter()
                    .fold(0, |bits, word| bits << 16 | u64::from(*word)),
            ),
            _ => return None,
        };
        float.is_finite().then_some(Value::Float(float))
    }

    /// The registers or bits that hold this value; None if the type cannot hold it.
    #[must_use]
    pub fn encode(&self, value: &Value) -> Option<Vec<u16>> {
        if self.table.holds_bits() || self.kind == Kind::Binary {
            return Some(vec![u16::from(match value {
                Value::Int(int) => *int != 0,
                Value::Float(float) => *float != 0.0,
                Value::Text(_) => return None,
            })]);
        }
        match (self.kind, value) {
            (Kind::Unsigned16, Value::Int(int)) => Some(vec![u16::try_from(*int).ok()?]),
            (Kind::Signed16, Value::Int(int)) => {
                Some(vec![i16::try_from(*int).ok()?.cast_unsigned()])
            }
            (Kind::Single, _) => {
                // Rounding to a single is what writing to this type means.
                #[allow(clippy::cast_possible_truncation)]
                let single = float_of(value)? as f32;
                single.is_finite().then(|| words(&single.to_be_bytes()))
            }
            (Kind::Double, _) => {
                let double = float_of(value)?;
                double.is_finite().then(|| words(&double.to_be_bytes()))
            }
            _ => None,
        }
    }

    /// The request that writes this value: function 5 for a coil, 6 for one register, 16 for several.
    ///
    /// # Errors
    /// The table cannot be written, or the type cannot hold the value.
    pub fn write_request(&self, value: &Value) -> Result<Request, WriteError> {
        if !self.table.is_writable() {
            return Err(WriteError::ReadOnly);
        }
        let words = self.encode(value).ok_or(WriteError::Value)?;
        let operation = match words.as_slice() {
            [bit] if self.table.holds_bits() => Operation::WriteCoil(*bit != 0),
            [word] => Operation::WriteRegister(*word),
            _ => Operation::WriteRegisters(words),
        };
        Request::new(self.address, operation).map_err(|_| WriteError::Value)
    }
}

/// How many registers or bits hold a value of this type.
fn words_of(kind: Kind) -> u16 {
    match kind {
        Kind::Single => 2,
        Kind::Double => 4,
        Kind::Binary | Kind::Unsigned16 | Kind::Signed16 | Kind::Text => 1,
    }
}

fn letter(char: Option<char>) -> Result<char, NameError> {
    char.filter(char::is_ascii_alphabetic)
        .ok_or(NameError::Form)
}

/// A decimal number of up to so many digits, and what is behind it.
fn number(text: &str, digits: usize) -> Result<(u32, &str), NameError> {
    let end = text
        .find(|char: char| !char.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(end).ok_or(NameError::Form)?;
    if number.len() > digits {
        return Err(NameError::Form);
    }
    Ok((number.parse().map_err(|_| NameError::Form)?, rest))
}

// A pathpoint's integers are far below 2^53, where doubles begin to lose them.
fn float_of(value: &Value) -> Option<f64> {
    match value {
        Value::Int(int) => Some(*int as f64),
        Value::Float(float) => Some(*float),
        Value::Text(_) => None,
    }
}

fn words(bytes: &[u8]) -> Vec<u16> {
    bytes
        .as_chunks::<2>()
        .0
        .iter()
        .map(|pair| u16::from_be_bytes(*pair))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn register(name: &str) -> Register {
        Register::parse(name).unwrap()
    }

    #[test]
    fn a_name_says_type_unit_table_and_address() {
        for (name, kind, unit, table, address, count) in [
            (
                "W1r4002",
                Kind::Unsigned16,
                1,
                Table::HoldingRegisters,
                4002,
                1,
            ),
            ("w247r0", Kind::Signed16, 247, Table::HoldingRegisters, 0, 1),
            (
                "B0r65535",
                Kind::Binary,
                0,
                Table::HoldingRegisters,
                65535,
                1,
            ),
            (
                "d255i65532",
                Kind::Double,
                255,
                Table::InputRegisters,
                65532,
                4,
            ),
            ("f1l100", Kind::Single, 1, Table::InputRegisters, 100, 2),
            ("B1f7", Kind::Binary, 1, Table::Coils, 7, 1),
            ("W1d007", Kind::Unsigned16, 1, Table::DiscreteInputs, 7, 1),
        ] {
            let expected = Register {
                kind,
                unit,
                table,
                address,
            };
            assert_eq!(Register::parse(name), Ok(expected), "{name}");
            assert_eq!(expected.count(), count);
            assert_eq!(expected.end(), u32::from(address) + u32::from(count));
        }
    }

    #[test]
    fn what_is_no_name_of_a_register_is_refused_with_the_reason() {
        for (name, error) in [
            ("", NameError::Form),
            ("W1", NameError::Form),
            ("W1r", NameError::Form),
            ("Wr1", NameError::Form),
            ("W1r-4", NameError::Form),
            ("W1r4002 ", NameError::Form),
            ("W1r123456", NameError::Form),
            ("W1r\u{664}", NameError::Form),
            ("ż1r1", NameError::Form),
            ("rW{W1r1}", NameError::Form),
            ("u1r1", NameError::Kind('u')),
            ("x1r1", NameError::Kind('x')),
            ("W1x1", NameError::Table('x')),
            ("W256r1", NameError::Unit(256)),
            ("W1r65536", NameError::Address(65536)),
            (
                "f1r65535",
                LimitError::Address {
                    address: 65535,
                    count: 2,
                }
                .into(),
            ),
            (
                "W1l1",
                NameError::KindInTable {
                    table: 'l',
                    kind: 'W',
                },
            ),
            (
                "f1f1",
                NameError::KindInTable {
                    table: 'f',
                    kind: 'f',
                },
            ),
            (
                "d1d1",
                NameError::KindInTable {
                    table: 'd',
                    kind: 'd',
                },
            ),
        ] {
            assert_eq!(Register::parse(name), Err(error), "{name}");
        }
    }

    #[test]
    fn the_most_significant_register_comes_first() {
        for (name, words, value) in [
            ("W1r0", &[0xFFFE_u16][..], Value::Int(65534)),
            ("w1r0", &[0xFFFE], Value::Int(-2)),
            ("B1r0", &[0x0100], Value::Int(1)),
            ("B1f0", &[0], Value::Int(0)),
            ("f1r0", &[0x3FC0, 0], Value::Float(1.5)),
            ("d1r0", &[0xBFF8, 0, 0, 0], Value::Float(-1.5)),
        ] {
            assert_eq!(register(name).decode(words), Some(value), "{name}");
        }
        assert_eq!(register("f1r0").decode(&[0x7F80, 0]), None);
        assert_eq!(register("d1r0").decode(&[0x7FF8, 0, 0, 0]), None);
        assert_eq!(register("f1r0").decode(&[0]), None);
        assert_eq!(register("W1r0").decode(&[]), None);
    }

    #[test]
    fn what_the_type_cannot_hold_is_not_encoded() {
        for (name, value) in [
            ("W1r0", Value::Int(65536)),
            ("W1r0", Value::Int(-1)),
            ("W1r0", Value::Float(7.0)),
            ("w1r0", Value::Int(32768)),
            ("f1r0", Value::Float(1e39)),
            ("f1r0", Value::Float(f64::NAN)),
            ("d1r0", Value::Float(f64::INFINITY)),
            ("d1r0", Value::Text("1".into())),
            ("B1f0", Value::Text("1".into())),
        ] {
            assert_eq!(register(name).encode(&value), None, "{name} {value:?}");
        }
    }

    #[test]
    fn a_write_uses_the_function_for_one_or_for_several() {
        for (name, value, operation) in [
            ("B1f3", Value::Int(1), Operation::WriteCoil(true)),
            ("W1f3", Value::Float(0.0), Operation::WriteCoil(false)),
            ("w1r3", Value::Int(-1), Operation::WriteRegister(65535)),
            ("B1r3", Value::Int(7), Operation::WriteRegister(1)),
            (
                "f1r3",
                Value::Float(1.5),
                Operation::WriteRegisters(vec![0x3FC0, 0]),
            ),
            (
                "d1r3",
                Value::Int(1),
                Operation::WriteRegisters(vec![0x3FF0, 0, 0, 0]),
            ),
        ] {
            let request = register(name).write_request(&value).unwrap();
            assert_eq!((request.address(), request.operation()), (3, &operation));
        }
        for name in ["W1i0", "f1l0", "B1d0"] {
            let refused = register(name).write_request(&Value::Int(1));
            assert_eq!(refused, Err(WriteError::ReadOnly));
        }
        let refused = register("W1r0").write_request(&Value::Int(-1));
        assert_eq!(refused, Err(WriteError::Value));
    }

    proptest! {
        #[test]
        fn any_text_is_a_register_or_an_error(name in "[BWwfdux]?[0-9]{0,4}[rilfdx]?[0-9]{0,6}|.*") {
            if let Ok(register) = Register::parse(&name) {
                prop_assert!(register.end() <= 0x1_0000);
            }
        }

        #[test]
        fn what_is_encoded_decodes_to_the_same(word in any::<u16>(), double in any::<f64>()) {
            for (name, value) in [
                ("W1r0", Value::Int(word.into())),
                ("w1r0", Value::Int(word.cast_signed().into())),
                ("f1r0", Value::Float(f64::from(word) / 8.0)),
                ("d1r0", Value::Float(double)),
            ] {
                let register = register(name);
                if let Some(words) = register.encode(&value) {
                    prop_assert_eq!(words.len(), usize::from(register.count()));
                    prop_assert_eq!(register.decode(&words), Some(value));
                } else {
                    prop_assert!(!double.is_finite());
                }
            }
        }
    }
}
