//! What a pathpoint can hold.
//!
//! A [`Reading`] is a value or the reason for which there is none; a failed read is never a value.
//! A [`Sample`] is a reading and the millisecond at which it was taken.

use std::fmt;
use std::sync::Arc;

/// A value: an integer, a float or a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An integer; booleans are 0 and 1.
    Int(i64),
    /// An IEEE 754 double.
    Float(f64),
    /// A text, shared rather than copied.
    Text(Arc<str>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Int(int) => int.fmt(f),
            Value::Float(float) => write!(f, "{float:?}"),
            Value::Text(text) => f.write_str(text),
        }
    }
}

/// Why a read or a write failed; the names are those of the SMOK protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The device answered with a malformed protocol frame.
    Malformed,
    /// The device did not answer in time.
    Timeout,
    /// The device answered that there is no such pathpoint.
    Invalid,
    /// The value does not have the pathpoint's type.
    Type,
}

impl Reason {
    /// The error code that the server understands.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::Timeout => "timeout",
            Reason::Invalid => "invalid",
            Reason::Type => "type",
        }
    }

    /// The reason with this error code.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        [
            Reason::Malformed,
            Reason::Timeout,
            Reason::Invalid,
            Reason::Type,
        ]
        .into_iter()
        .find(|reason| reason.code() == code)
    }
}

/// What a read gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// A value.
    Value(Value),
    /// No value, and why.
    Failed(Reason),
}

/// A reading and when it was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// What was read.
    pub reading: Reading,
}
