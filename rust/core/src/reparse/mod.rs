//! Reparse expressions: Python's expression syntax over pathpoints, compiled once and evaluated without Python.
//!
//! Text goes through [`lexer`] and [`parser`] into a [`Program`] (postfix code, constants folded, pathpoints by slot), which
//! [`evaluate`] runs on single values and [`series`] on time series: samples joined into [`rows`], in [`columns`] where it can.
//!
//! Invariants:
//!
//! - What comes out equals what CPython's `eval` gives, value and type, or it is an error; never another value.
//!   Integers are exact on the way as long as they fit 128 bits with their sign, and have to fit 64 bits at the end.
//! - An expression comes from the network, so its cost is bounded: [`MAX_LENGTH`] bytes of text, parsed in linear time,
//!   [`MAX_DEPTH`] levels of nesting, [`MAX_BRACES`] levels of braces with [`MAX_REPARSE`] expressions in them,
//!   [`MAX_TEXT`] bytes of text handled per evaluation. For a present value theirs are included; of a series each
//!   expression is evaluated by itself.
//! - There are no names but the listed functions, no attributes and no statements, so there is nothing to escape to.
//!
//! Differences from CPython, errors here: integers beyond the above, complex results, `%` with a text on its left
//! (formatting), `is`, `None`, lone surrogates, `'\N{…}'`, line breaks inside a text, comments, backslashes at the end of a
//! line, functions that are not called at once (`(max)(1, 2)`), and in `int()`/`float()` digits other than ASCII. Braces
//! inside a text literal are refused, since braces hold pathpoints everywhere; `'\x7b'` writes one. Line breaks between
//! tokens are spaces here, as they are for CPython inside parentheses.

mod arithmetic;
mod coerce;
mod columns;
mod compare;
mod error;
mod evaluate;
mod explain;
mod functions;
mod lexer;
mod op;
mod operand;
mod parser;
mod program;
mod quote;
mod rows;
mod samples;
mod series;
mod text;
mod word;

pub use error::{EvaluationError, Failure, SyntaxError};
pub use evaluate::Stack;
pub use operand::Operand;
pub use program::Program;
pub use samples::{Column, Entry, Piece, Values};
pub use series::{Outcome, Results, Series, SeriesError, SeriesEvaluator};
pub use text::Budget;

/// Longest expression, in bytes.
pub const MAX_LENGTH: usize = 4096;
/// Deepest nesting of parentheses, calls, indices, unary operators and powers.
pub const MAX_DEPTH: usize = 64;
/// Deepest nesting of braces, that is of reparse pathpoints inside reparse pathpoints.
pub const MAX_BRACES: usize = 16;
/// Most reparse pathpoints written inside a reparse pathpoint, at any depth: each is a pathpoint of its own. Of those that
/// stand in it directly, the same one is counted once.
pub const MAX_REPARSE: usize = 64;
/// Most bytes of text that one evaluation may read or make.
pub const MAX_TEXT: usize = 65_536;
/// Most floats with so many digits that reading one takes microseconds: together a third of a millisecond.
const MAX_LONG_FLOATS: usize = 32;
