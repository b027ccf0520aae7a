//! Names of pathpoints and the types that they declare.
//!
//! The first letter of a name is the type of its values. A name that starts with `r` is a reparse
//! pathpoint: its second letter is the type, the rest is an expression over other pathpoints.

use crate::value::Value;

/// How many bytes a text may have at most.
pub const LONGEST_TEXT: usize = 1 << 20;

/// The type of a pathpoint's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `B`: 0 or 1.
    Binary,
    /// `W`: unsigned 16-bit.
    Unsigned16,
    /// `w`: signed 16-bit.
    Signed16,
    /// `f`: IEEE 754 single.
    Single,
    /// `d`: IEEE 754 double.
    Double,
    /// `u`: Unicode text.
    Text,
}

impl Kind {
    /// The type with this letter.
    #[must_use]
    pub fn from_letter(letter: char) -> Option<Self> {
        Some(match letter {
            'B' => Kind::Binary,
            'W' => Kind::Unsigned16,
            'w' => Kind::Signed16,
            'f' => Kind::Single,
            'd' => Kind::Double,
            'u' => Kind::Text,
            _ => return None,
        })
    }

    /// The letter that declares this type.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Kind::Binary => 'B',
            Kind::Unsigned16 => 'W',
            Kind::Signed16 => 'w',
            Kind::Single => 'f',
            Kind::Double => 'd',
            Kind::Text => 'u',
        }
    }

    /// The type that a pathpoint's name declares, native or reparse.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let mut letters = name.chars();
        match letters.next()? {
            'r' => Kind::from_letter(letters.next()?),
            letter => Kind::from_letter(letter),
        }
    }

    /// Whether a pathpoint of this type can hold the value: text in `u` (of up to
    /// [`LONGEST_TEXT`] bytes) and numbers elsewhere. Numbers are kept as they are; NaN and the infinities are numbers to no SMOK server, so no
    /// pathpoint holds them.
    #[must_use]
    pub fn admits(self, value: &Value) -> bool {
        match value {
            Value::Text(text) => self == Kind::Text && text.len() <= LONGEST_TEXT,
            Value::Int(_) => self != Kind::Text,
            Value::Float(float) => self != Kind::Text && float.is_finite(),
        }
    }
}

/// Whether this is the name of a reparse pathpoint.
#[must_use]
pub fn is_reparse(name: &str) -> bool {
    name.starts_with('r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_declares_its_type_by_its_first_letter_or_by_the_second_after_r() {
        assert_eq!(Kind::of_name("W1r4002"), Some(Kind::Unsigned16));
        assert_eq!(Kind::of_name("rf{W1r1}/10"), Some(Kind::Single));
        for name in ["", "r", "x1", "rx{W1}", "ż"] {
            assert_eq!(Kind::of_name(name), None, "{name:?}");
        }
        for kind in "BWwfdu".chars().filter_map(Kind::from_letter) {
            assert_eq!(Kind::from_letter(kind.letter()), Some(kind));
        }
    }

    #[test]
    fn text_is_for_u_and_numbers_are_for_the_rest() {
        let text = Value::Text("on".into());
        assert!(Kind::Text.admits(&text) && !Kind::Double.admits(&text));
        assert!(Kind::Binary.admits(&Value::Int(1)) && !Kind::Text.admits(&Value::Int(1)));
        assert!(Kind::Unsigned16.admits(&Value::Float(21.5)));
        assert!(!Kind::Double.admits(&Value::Float(f64::NAN)));
    }
}
