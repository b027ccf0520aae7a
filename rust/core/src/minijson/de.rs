//! MiniJSON for serde, so that what is read from JSON is read from MiniJSON by the same code.
//!
//! For visitors that take what comes: no type is asked for or converted. serde knows no integers of
//! any length, so those beyond 64 bits come as the nearest double, as they do from most readers of
//! JSON. Keys come as the values they are.

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::{DecodingError, Reader, Token};

/// Why data cannot be read as what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no MiniJSON.
    #[error(transparent)]
    Decoding(#[from] DecodingError),
    /// It is MiniJSON of something else.
    #[error("{0}")]
    Unfit(String),
}

impl de::Error for Error {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Error::Unfit(message.to_string())
    }
}

/// Read one value that is all of the data.
pub fn from_slice<'de, T: Deserialize<'de>>(data: &'de [u8]) -> Result<T, Error> {
    let mut reader = Reader::new(data);
    let value = T::deserialize(Value {
        reader: &mut reader,
        depth: 0,
    })?;
    reader.finish()?;
    Ok(value)
}

struct Value<'r, 'de> {
    reader: &'r mut Reader<'de>,
    depth: usize,
}

impl<'de> Deserializer<'de> for Value<'_, 'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Value { reader, depth } = self;
        match reader.token(depth)? {
            Token::Null => visitor.visit_unit(),
            Token::Bool(bool) => visitor.visit_bool(bool),
            Token::Int(int) => visitor.visit_i64(int),
            Token::BigInt(bytes) => visitor.visit_f64(nearest_double(bytes)),
            Token::Float(float) => visitor.visit_f64(float),
            Token::Text(text) => visitor.visit_borrowed_str(text),
            Token::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Token::List(count) => {
                let mut items = Items {
                    reader,
                    depth: depth + 1,
                    left: count,
                    text_keys: false,
                };
                let value = visitor.visit_seq(&mut items)?;
                items.finish()?;
                Ok(value)
            }
            token @ (Token::Object(count) | Token::Map(count)) => {
                let text_keys = matches!(token, Token::Object(_));
                let mut entries = Items {
                    reader,
                    depth: depth + 1,
                    left: count,
                    text_keys,
                };
                let value = visitor.visit_map(&mut entries)?;
                entries.finish()?;
                Ok(value)
            }
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

/// What is left of a container.
struct Items<'r, 'de> {
    reader: &'r mut Reader<'de>,
    depth: usize,
    left: usize,
    text_keys: bool,
}

impl<'de> Items<'_, 'de> {
    fn value<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(Value {
            reader: self.reader,
            depth: self.depth,
        })
    }

    fn finish(&self) -> Result<(), Error> {
        if self.left > 0 {
            return Err(Error::Unfit(format!(
                "{} more items than asked for",
                self.left
            )));
        }
        Ok(())
    }

    /// Whether another item follows, which is then taken for read.
    fn advance(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        if self.advance() {
            self.value(seed).map(Some)
        } else {
            Ok(None)
        }
    }
}

impl<'de> MapAccess<'de> for Items<'_, 'de> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        if !self.advance() {
            return Ok(None);
        }
        if self.text_keys {
            let key = BorrowedStrDeserializer::new(self.reader.key()?);
            seed.deserialize(key).map(Some)
        } else {
            self.value(seed).map(Some)
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        self.value(seed)
    }
}

/// The double nearest to an integer in big-endian two's complement without redundant sign bytes.
fn nearest_double(bytes: &[u8]) -> f64 {
    let (head, tail) = bytes
        .split_at_checked(size_of::<i128>())
        .unwrap_or((bytes, &[]));
    let sign = if head.first().is_some_and(|&byte| byte >= 0x80) {
        -1
    } else {
        0
    };
    let head = head
        .iter()
        .fold(sign, |value: i128, &byte| value << 8 | i128::from(byte));
    // With a tail the head has more than 100 significant bits: all that the tail can do is to break
    // a tie.
    let sticky = i128::from(tail.iter().any(|&byte| byte != 0));
    let exponent = i32::try_from(tail.len() * 8).unwrap_or(i32::MAX);
    (head | sticky) as f64 * 2_f64.powi(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_and_anything_else_is_an_error() {
        assert_eq!(
            from_slice::<(i64, String)>(b"\x42\x03\x07\x81a"),
            Ok((7, "a".to_owned()))
        );
        for (data, error) in [
            (
                &b"\x41\x03\x07"[..],
                "invalid length 1, expected a tuple of size 2",
            ),
            (b"\x43\x03\x07\x81a\x08", "1 more items than asked for"),
            (
                b"\x42\x81a\x81a",
                "invalid type: string \"a\", expected i64",
            ),
            (
                b"\x42\x03\x07\x81",
                "the data ends inside a value at byte 3",
            ),
            (b"\x42\x03\x07\x81a\x08", "data after the value at byte 5"),
        ] {
            assert_eq!(
                from_slice::<(i64, String)>(data).unwrap_err().to_string(),
                error
            );
        }
    }
}
