//! Orders: what the server may ask of a device, and how it asks.
//!
//! The server sends a list of sections, in JSON or MiniJSON, each a list of orders. Decoding is
//! tolerant: an order that makes no sense costs that order alone, and is told of in
//! [`Decoded::problems`]. Both formats are read by the same visitors, so they cannot disagree.

use std::borrow::Cow;
use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::minijson;
use crate::value::Value;

mod encode;
mod visit;

pub use encode::encode_section;

use visit::{Body, Lone, Scalar};

/// The longest wait, in seconds: 2⁶³ nanoseconds, what clocks and condition variables can count.
pub const MAX_WAIT: f64 = 9_223_372_036.0;

/// How hard to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdviseLevel {
    /// Best effort.
    Advise,
    /// Nearly guaranteed, if need be by blocking the pipeline.
    Force,
}

impl AdviseLevel {
    /// The level with this number on the wire.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        match number {
            0 => Some(AdviseLevel::Advise),
            1 => Some(AdviseLevel::Force),
            _ => None,
        }
    }

    /// How many times a read is tried.
    #[must_use]
    pub fn read_tries(self) -> Tries {
        Tries::new(match self {
            AdviseLevel::Advise => 3,
            AdviseLevel::Force => 20,
        })
    }

    /// How many times a write is tried.
    #[must_use]
    pub fn write_tries(self) -> Tries {
        Tries::new(match self {
            AdviseLevel::Advise => 1,
            AdviseLevel::Force => 10,
        })
    }
}

/// How many times something is still to be tried.
#[derive(Debug)]
pub struct Tries(AtomicU32);

impl Tries {
    fn new(tries: u32) -> Self {
        Tries(AtomicU32::new(tries))
    }

    /// How many times a message is tried.
    #[must_use]
    pub fn of_message() -> Self {
        Tries::new(3)
    }

    /// Count a try that failed, and tell whether there is another.
    pub fn fail(&self) -> bool {
        let left = |tries: u32| Some(tries.saturating_sub(1));
        let before = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        before.is_ok_and(|before| before > 1)
    }

    /// How many tries are left.
    pub fn left(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whether a write that goes stale at a time, in seconds since the epoch, is still to be done now.
#[must_use]
pub fn is_valid(stale_after: Option<f64>, now: f64) -> bool {
    stale_after.is_none_or(|stale_after| stale_after > now)
}

/// Whether a number of seconds can be waited for.
#[must_use]
pub fn is_wait(seconds: f64) -> bool {
    (0.0..=MAX_WAIT).contains(&seconds)
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Order<'a> {
    /// Read a pathpoint.
    Read {
        /// Its name.
        path: Cow<'a, str>,
        /// How hard to try.
        advise: AdviseLevel,
    },
    /// Write a value to a pathpoint.
    Write {
        /// Its name.
        path: Cow<'a, str>,
        /// What to write; floats are finite.
        value: Value,
        /// How hard to try.
        advise: AdviseLevel,
        /// When it is too late for it, in seconds since the epoch.
        stale_after: Option<f64>,
    },
    /// Tell the server that this message arrived.
    Message {
        /// The message's identifier.
        uuid: Cow<'a, str>,
    },
    /// Wait.
    Wait {
        /// How long, see [`is_wait`].
        seconds: f64,
    },
    /// Something that the device's program defines.
    Sysctl {
        /// What to do.
        op_type: Cow<'a, str>,
        /// What to do it with.
        op_args: Cow<'a, str>,
    },
}

/// The kinds of orders, by their names on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderType {
    /// `read`
    Read,
    /// `write`
    Write,
    /// `message`
    Message,
    /// `wait`
    Wait,
    /// `sysctl`
    Sysctl,
}

/// Why something is no order, or no section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// It is something else than an object.
    #[error("not an object")]
    NotAnObject,
    /// It lacks a field.
    #[error("no {0}")]
    Missing(&'static str),
    /// A field holds something else than it must.
    #[error("{0} is not {1}")]
    Wrong(&'static str, &'static str),
    /// Nobody knows this type.
    #[error("unknown type {0:?}")]
    UnknownType(String),
}

/// The fields of an order, as they came; those that did not come are null, which means the same.
#[derive(Clone, Debug, Default, PartialEq)]
struct Fields<'a> {
    order_type: Scalar<'a>,
    path: Scalar<'a>,
    value: Scalar<'a>,
    advise: Scalar<'a>,
    stale_after: Scalar<'a>,
    uuid: Scalar<'a>,
    time: Scalar<'a>,
    op_type: Scalar<'a>,
    op_args: Scalar<'a>,
}

impl<'a> Fields<'a> {
    /// The order that the fields describe; they are taken for it.
    fn take_order(&mut self) -> Result<Order<'a>, OrderError> {
        let order_type = match &self.order_type {
            Scalar::Text(name) => match &**name {
                "read" => OrderType::Read,
                "write" => OrderType::Write,
                "message" => OrderType::Message,
                "wait" => OrderType::Wait,
                "sysctl" => OrderType::Sysctl,
                unknown => {
                    return Err(OrderError::UnknownType(unknown.chars().take(40).collect()));
                }
            },
            Scalar::Null => return Err(OrderError::Missing("type")),
            _ => return Err(OrderError::Wrong("type", "a text")),
        };
        self.take_order_of(order_type)
    }

    /// The order of this type that the fields describe, whatever type they say it is.
    fn take_order_of(&mut self, order_type: OrderType) -> Result<Order<'a>, OrderError> {
        Ok(match order_type {
            OrderType::Read => Order::Read {
                path: text("path", &mut self.path)?,
                advise: advise(&self.advise)?,
            },
            OrderType::Write => Order::Write {
                path: text("path", &mut self.path)?,
                value: value(&self.value)?,
                advise: advise(&self.advise)?,
                stale_after: stale_after(&self.stale_after)?,
            },
            OrderType::Message => Order::Message {
                uuid: text("uuid", &mut self.uuid)?,
            },
            OrderType::Wait => Order::Wait {
                seconds: seconds(&self.time)?,
            },
            OrderType::Sysctl => Order::Sysctl {
                op_type: text("op_type", &mut self.op_type)?,
                op_args: text("op_args", &mut self.op_args)?,
            },
        })
    }
}

fn text<'a>(name: &'static str, field: &mut Scalar<'a>) -> Result<Cow<'a, str>, OrderError> {
    match field {
        Scalar::Text(text) => Ok(mem::take(text)),
        Scalar::Null => Err(OrderError::Missing(name)),
        _ => Err(OrderError::Wrong(name, "a text")),
    }
}

fn advise(field: &Scalar<'_>) -> Result<AdviseLevel, OrderError> {
    let level = match field {
        Scalar::Null => Some(AdviseLevel::Advise),
        Scalar::Int(number) => AdviseLevel::from_number(*number),
        _ => None,
    };
    level.ok_or(OrderError::Wrong("advise", "0 or 1"))
}

fn value(field: &Scalar<'_>) -> Result<Value, OrderError> {
    match field {
        Scalar::False => Ok(Value::Int(0)),
        Scalar::True => Ok(Value::Int(1)),
        Scalar::Int(int) => Ok(Value::Int(*int)),
        Scalar::Float(float) if float.is_finite() => Ok(Value::Float(*float)),
        Scalar::Text(text) => Ok(Value::Text(text.as_ref().into())),
        Scalar::Null => Err(OrderError::Missing("value")),
        _ => Err(OrderError::Wrong("value", "a finite number or a text")),
    }
}

fn stale_after(field: &Scalar<'_>) -> Result<Option<f64>, OrderError> {
    match field {
        Scalar::Null => Ok(None),
        field => match field.number() {
            Some(seconds) if seconds.is_finite() => Ok(Some(seconds)),
            _ => Err(OrderError::Wrong("stale_after", "a finite number")),
        },
    }
}

fn seconds(field: &Scalar<'_>) -> Result<f64, OrderError> {
    match field.number() {
        Some(seconds) if is_wait(seconds) => Ok(seconds),
        None if *field == Scalar::Null => Err(OrderError::Missing("time")),
        _ => Err(OrderError::Wrong("time", "a number of seconds, 0 or more")),
    }
}

/// Whether a section may be joined with its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It may be joined with neighbours that may be joined too.
    Joinable,
    /// All that came before is finished first.
    CannotJoin,
}

impl Disposition {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Disposition::Joinable => 0,
            Disposition::CannotJoin => 1,
        }
    }
}

/// Orders that belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct Section<'a> {
    /// What to do, in this order.
    pub orders: Vec<Order<'a>>,
    /// Whether it may be joined.
    pub disposition: Disposition,
}

/// What a body came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON in UTF-8.
    Json,
    /// MiniJSON.
    MiniJson,
}

/// The sections of a body, and what had to be left out of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded<'a> {
    /// The sections.
    pub sections: Vec<Section<'a>>,
    /// A line of text for each problem.
    pub problems: Vec<String>,
}

/// Why a body holds no sections at all.
#[derive(Debug, thiserror::Error)]
pub enum DecodingError {
    /// It is JSON to be, but not in UTF-8.
    #[error("no JSON: {0}")]
    NotUtf8(#[from] std::str::Utf8Error),
    /// It is no JSON.
    #[error("no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It is no MiniJSON.
    #[error("no MiniJSON: {0}")]
    MiniJson(#[from] minijson::DeserializeError),
    /// It is something else than a list.
    #[error("not a list of sections")]
    NotAList,
}

/// Decode the list of sections that the server sends.
pub fn decode_sections(body: &[u8], format: Format) -> Result<Decoded<'_>, DecodingError> {
    let Body(decoded) = match format {
        Format::Json => serde_json::from_str(std::str::from_utf8(body)?)?,
        Format::MiniJson => minijson::from_slice(body)?,
    };
    decoded.ok_or(DecodingError::NotAList)
}

/// Read one order of a known type from MiniJSON, whatever type it says it is.
pub fn decode_order(
    order_type: OrderType,
    data: &[u8],
) -> Result<Result<Order<'_>, OrderError>, minijson::DeserializeError> {
    let Lone(fields) = minijson::from_slice(data)?;
    Ok(fields.and_then(|mut fields| fields.take_order_of(order_type)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(body: &str) -> Decoded<'_> {
        decode_sections(body.as_bytes(), Format::Json).unwrap()
    }

    #[test]
    fn the_texts_of_orders_are_borrowed_from_the_body() {
        let decoded = json(r#"[{"orders": [{"path": "W1", "type": "read", "advise": 1}]}]"#);
        let [section] = &decoded.sections[..] else {
            panic!("{decoded:?}")
        };
        assert_eq!(section.disposition, Disposition::Joinable);
        assert!(matches!(
            section.orders[..],
            [Order::Read {
                path: Cow::Borrowed("W1"),
                advise: AdviseLevel::Force
            }]
        ));
    }

    #[test]
    fn what_makes_no_sense_is_told_of_and_left_out() {
        let decoded = json(r#"[{"orders": [{"type": "wait", "time": 1}, {}, [[]]]}, 5]"#);
        assert_eq!(decoded.sections.len(), 1);
        assert_eq!(decoded.sections[0].orders, [Order::Wait { seconds: 1.0 }]);
        assert_eq!(
            decoded.problems,
            [
                "order 1 of section 0 skipped: no type",
                "order 2 of section 0 skipped: not an object",
                "section 1 skipped: not an object",
            ]
        );
    }

    #[test]
    fn a_body_is_a_list_in_its_format() {
        let decode = |body, format| decode_sections(body, format).unwrap_err();
        assert!(matches!(
            decode(b"{}", Format::Json),
            DecodingError::NotAList
        ));
        assert!(matches!(
            decode(b"\x50", Format::MiniJson),
            DecodingError::NotAList
        ));
        assert!(matches!(decode(b"[", Format::Json), DecodingError::Json(_)));
        assert!(matches!(
            decode(b"\"\xff\"", Format::Json),
            DecodingError::NotUtf8(_)
        ));
        assert!(matches!(
            decode(b"\x41", Format::MiniJson),
            DecodingError::MiniJson(_)
        ));
    }

    #[test]
    fn a_failed_try_is_counted_until_none_is_left() {
        let tries = AdviseLevel::Advise.read_tries();
        assert_eq!(
            [tries.fail(), tries.fail(), tries.fail(), tries.fail()],
            [true, true, false, false]
        );
        assert_eq!(tries.left(), 0);
    }
}
