//! What can be wrong with an expression: its text ([`SyntaxError`]), the values it meets ([`EvaluationError`]), or that there
//! are none ([`Failure`]).

use std::borrow::Cow;

use super::quote::is_printable;
use crate::value::Reason;

/// Most characters of the expression shown above the caret.
const EXCERPT: usize = 60;

/// The text is not an expression of this language.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (column {})", position + 1)]
pub struct SyntaxError {
    /// What is wrong.
    pub message: String,
    /// Where: how many characters come before it.
    pub position: usize,
    /// The text, or the part of it that matters, and in a second line a caret at the position.
    pub caret: String,
}

impl SyntaxError {
    /// An error at a byte offset of the text.
    pub(super) fn new(message: String, text: &str, offset: usize) -> Self {
        let position = text
            .char_indices()
            .take_while(|&(at, _)| at < offset)
            .count();
        let first = position.saturating_sub(EXCERPT / 2);
        let excerpt: String = text
            .chars()
            .skip(first)
            .take(EXCERPT)
            .map(|letter| if is_printable(letter) { letter } else { ' ' })
            .collect();
        let caret = format!("{excerpt}\n{:>width$}", '^', width = position - first + 1);
        Self {
            message,
            position,
            caret,
        }
    }
}

/// The expression has no result for these values.
///
/// The message is CPython's where CPython fails as well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.1)]
pub struct EvaluationError(Box<(Reason, Cow<'static, str>)>);

impl EvaluationError {
    /// `Type` when a value has the wrong type, `Invalid` for a division by zero, a domain or a limit.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.0.0
    }
}

/// Why a row has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A pathpoint could not be read.
    Read(Reason),
    /// The expression has no value for what was read.
    Evaluation(EvaluationError),
}

impl Failure {
    /// The reason that the server is told.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Failure::Read(reason) => *reason,
            Failure::Evaluation(error) => error.reason(),
        }
    }
}

/// The result of an operation.
pub(super) type Fallible<T> = Result<T, EvaluationError>;

/// A value has the wrong type.
#[cold]
pub(super) fn type_error(message: impl Into<Cow<'static, str>>) -> EvaluationError {
    EvaluationError(Box::new((Reason::Type, message.into())))
}

/// The types are right, but there is no result.
#[cold]
pub(super) fn invalid(message: impl Into<Cow<'static, str>>) -> EvaluationError {
    EvaluationError(Box::new((Reason::Invalid, message.into())))
}
