//! MiniJSON, the binary JSON of the SMOK protocol: a pull reader, a document and a writer.
//!
//! Numbers are big endian and a value is a tag byte and its data; the tags are in [`tag`]. The reader takes every valid
//! form, the writer picks the shortest one. What the reader guarantees, whatever the bytes are:
//!
//! * No value is deeper than [`MAX_DEPTH`] containers, so a recursive caller needs a bounded stack.
//! * The values that were announced and not read yet never outnumber the bytes that are left, since each takes at least
//!   one. A caller may therefore allocate by the counts it is given: all of them together stay within the input's size.
//! * Every byte is looked at once, and texts and bytes are borrowed from the input.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// How many containers a value may be inside of.
pub const MAX_DEPTH: usize = 128;

/// The tag bytes. Those with a `_N` hold their count in their low bits.
mod tag {
    pub const TEXT_8: u8 = 0;
    pub const INT_32: u8 = 1;
    pub const INT_16: u8 = 2;
    pub const INT_8: u8 = 3;
    pub const UINT_32: u8 = 4;
    pub const UINT_16: u8 = 5;
    pub const UINT_8: u8 = 6;
    pub const LIST_8: u8 = 7;
    pub const NULL: u8 = 8;
    pub const SINGLE: u8 = 9;
    pub const DOUBLE: u8 = 10;
    pub const OBJECT_8: u8 = 11;
    pub const UINT_24: u8 = 12;
    pub const TEXT_16: u8 = 13;
    pub const TEXT_32: u8 = 14;
    pub const LIST_16: u8 = 15;
    pub const LIST_32: u8 = 16;
    pub const OBJECT_16: u8 = 17;
    pub const OBJECT_32: u8 = 18;
    pub const MAP_32: u8 = 19;
    pub const MAP_8: u8 = 20;
    /// Read only: the historical C decoder takes its count for 32 bits wide, so it is never written.
    pub const MAP_16: u8 = 21;
    pub const TRUE: u8 = 22;
    pub const FALSE: u8 = 23;
    pub const INT_N: u8 = 24;
    pub const BYTES_8: u8 = 25;
    pub const BYTES_16: u8 = 26;
    pub const BYTES_32: u8 = 27;
    pub const SHORT_LIST: u8 = 0x40;
    pub const SHORT_OBJECT: u8 = 0x50;
    pub const SHORT_MAP: u8 = 0x60;
    pub const SHORT_TEXT: u8 = 0x80;
}

/// Why bytes are no MiniJSON, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{flaw} at byte {offset}")]
pub struct DecodingError {
    /// What is wrong.
    pub flaw: Flaw,
    /// The offset of the value, the key or the byte that is wrong.
    pub offset: usize,
}

/// What is wrong with bytes that are no MiniJSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The data ends inside a value.
    #[error("the data ends inside a value")]
    Truncated,
    /// A container announces more than the data can hold.
    #[error("more items announced than the data can hold")]
    TooMany,
    /// More than [`MAX_DEPTH`] containers inside each other.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// No such tag.
    #[error("unknown tag {0:#04x}")]
    UnknownTag(u8),
    /// A text or a key is not UTF-8.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// Data after the value.
    #[error("data after the value")]
    Trailing,
}

/// What a MiniJSON value starts with: all of it, or the header of a container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// Null.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A wider integer: big-endian two's complement, without redundant sign bytes.
    BigInt(&'a [u8]),
    /// A float of either precision.
    Float(f64),
    /// A text.
    Text(&'a str),
    /// Raw bytes.
    Bytes(&'a [u8]),
    /// So many values follow.
    List(usize),
    /// So many pairs of a [`Reader::key`] and a value follow.
    Object(usize),
    /// So many pairs of two values follow.
    Map(usize),
}

/// Reads MiniJSON token by token.
#[derive(Debug)]
pub struct Reader<'a> {
    data: &'a [u8],
    offset: usize,
    /// Values and keys that were announced and not read yet.
    owed: usize,
}

impl<'a> Reader<'a> {
    /// A reader of one value that starts at the first byte.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        Reader {
            data,
            offset: 0,
            owed: 1,
        }
    }

    /// Read the next value, or the header of it if it is a container.
    ///
    /// `depth` is the number of containers that this value is inside of.
    #[inline]
    pub fn token(&mut self, depth: usize) -> Result<Token<'a>, DecodingError> {
        let start = self.offset;
        self.owed = self.owed.saturating_sub(1);
        let tag = self.byte(start)?;
        let token = match tag {
            tag::SHORT_TEXT.. => Token::Text(self.text(usize::from(tag & 0x7f), start)?),
            tag::SHORT_LIST..=0x4f => Token::List(self.count(usize::from(tag & 15), 1, start)?),
            tag::SHORT_OBJECT..=0x5f => {
                Token::Object(self.count(usize::from(tag & 15), 2, start)?)
            }
            tag::SHORT_MAP..=0x6f => Token::Map(self.count(usize::from(tag & 15), 2, start)?),
            tag::NULL => Token::Null,
            tag::TRUE => Token::Bool(true),
            tag::FALSE => Token::Bool(false),
            tag::INT_8 => Token::Int(i8::from_be_bytes(self.array(start)?).into()),
            tag::INT_16 => Token::Int(i16::from_be_bytes(self.array(start)?).into()),
            tag::INT_32 => Token::Int(i32::from_be_bytes(self.array(start)?).into()),
            tag::UINT_8 => Token::Int(u8::from_be_bytes(self.array(start)?).into()),
            tag::UINT_16 => Token::Int(u16::from_be_bytes(self.array(start)?).into()),
            tag::UINT_24 => {
                let [high, middle, low] = self.array(start)?;
                Token::Int(u32::from_be_bytes([0, high, middle, low]).into())
            }
            tag::UINT_32 => Token::Int(u32::from_be_bytes(self.array(start)?).into()),
            tag::INT_N => {
                let length = self.size_8(start)?;
                integer(self.slice(length, start)?)
            }
            tag::SINGLE => Token::Float(f32::from_be_bytes(self.array(start)?).into()),
            tag::DOUBLE => Token::Float(f64::from_be_bytes(self.array(start)?)),
            tag::TEXT_8 | tag::TEXT_16 | tag::TEXT_32 => {
                let length = self.size(tag, [tag::TEXT_8, tag::TEXT_16], start)?;
                Token::Text(self.text(length, start)?)
            }
            tag::BYTES_8 | tag::BYTES_16 | tag::BYTES_32 => {
                let length = self.size(tag, [tag::BYTES_8, tag::BYTES_16], start)?;
                Token::Bytes(self.slice(length, start)?)
            }
            tag::LIST_8 | tag::LIST_16 | tag::LIST_32 => {
                let count = self.size(tag, [tag::LIST_8, tag::LIST_16], start)?;
                Token::List(self.count(count, 1, start)?)
            }
            tag::OBJECT_8 | tag::OBJECT_16 | tag::OBJECT_32 => {
                let count = self.size(tag, [tag::OBJECT_8, tag::OBJECT_16], start)?;
                Token::Object(self.count(count, 2, start)?)
            }
            tag::MAP_8 | tag::MAP_16 | tag::MAP_32 => {
                let count = self.size(tag, [tag::MAP_8, tag::MAP_16], start)?;
                Token::Map(self.count(count, 2, start)?)
            }
            unknown => {
                return Err(DecodingError {
                    flaw: Flaw::UnknownTag(unknown),
                    offset: start,
                });
            }
        };
        match token {
            Token::List(_) | Token::Object(_) | Token::Map(_) if depth >= MAX_DEPTH => {
                Err(DecodingError {
                    flaw: Flaw::TooDeep,
                    offset: start,
                })
            }
            token => Ok(token),
        }
    }

    /// Read the next key of an object.
    #[inline]
    pub fn key(&mut self) -> Result<&'a str, DecodingError> {
        let start = self.offset;
        self.owed = self.owed.saturating_sub(1);
        let length = self.size_8(start)?;
        self.text(length, start)
    }

    /// Check that nothing follows the value that was read.
    pub fn finish(&self) -> Result<(), DecodingError> {
        if self.offset < self.data.len() {
            return Err(DecodingError {
                flaw: Flaw::Trailing,
                offset: self.offset,
            });
        }
        Ok(())
    }

    #[inline]
    fn slice(&mut self, length: usize, start: usize) -> Result<&'a [u8], DecodingError> {
        let rest = self.data.get(self.offset..).unwrap_or_default();
        let Some((taken, _)) = rest.split_at_checked(length) else {
            return Err(DecodingError {
                flaw: Flaw::Truncated,
                offset: start,
            });
        };
        self.offset += length;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self, start: usize) -> Result<[u8; N], DecodingError> {
        let rest = self.data.get(self.offset..).unwrap_or_default();
        let Some((taken, _)) = rest.split_first_chunk() else {
            return Err(DecodingError {
                flaw: Flaw::Truncated,
                offset: start,
            });
        };
        self.offset += N;
        Ok(*taken)
    }

    #[inline]
    fn byte(&mut self, start: usize) -> Result<u8, DecodingError> {
        let [byte] = self.array(start)?;
        Ok(byte)
    }

    #[inline]
    fn size_8(&mut self, start: usize) -> Result<usize, DecodingError> {
        self.byte(start).map(usize::from)
    }

    /// The length or count after a tag, of 8 or 16 bits if the tag is the first or second given, else of 32 bits.
    fn size(&mut self, tag: u8, narrow: [u8; 2], start: usize) -> Result<usize, DecodingError> {
        let [in_8, in_16] = narrow;
        if tag == in_8 {
            self.size_8(start)
        } else if tag == in_16 {
            Ok(u16::from_be_bytes(self.array(start)?).into())
        } else {
            let size = u32::from_be_bytes(self.array(start)?);
            usize::try_from(size).map_err(|_| DecodingError {
                flaw: Flaw::TooMany,
                offset: start,
            })
        }
    }

    #[inline]
    fn text(&mut self, length: usize, start: usize) -> Result<&'a str, DecodingError> {
        std::str::from_utf8(self.slice(length, start)?).map_err(|_| DecodingError {
            flaw: Flaw::NotUtf8,
            offset: start,
        })
    }

    /// Announce `count` items of `parts` values or keys each.
    #[inline]
    fn count(&mut self, count: usize, parts: usize, start: usize) -> Result<usize, DecodingError> {
        let owed = count.saturating_mul(parts).saturating_add(self.owed);
        if owed > self.data.len() - self.offset {
            return Err(DecodingError {
                flaw: Flaw::TooMany,
                offset: start,
            });
        }
        self.owed = owed;
        Ok(count)
    }
}

/// The token of an integer in big-endian two's complement of any length; no bytes at all are 0.
fn integer(bytes: &[u8]) -> Token<'_> {
    let bytes = without_redundant_signs(bytes);
    if bytes.len() > size_of::<i64>() {
        return Token::BigInt(bytes);
    }
    let sign = if bytes.first().is_some_and(|&byte| byte >= 0x80) {
        -1
    } else {
        0
    };
    Token::Int(
        bytes
            .iter()
            .fold(sign, |value, &byte| value << 8 | i64::from(byte)),
    )
}

/// The shortest two's complement of the same integer.
fn without_redundant_signs(mut bytes: &[u8]) -> &[u8] {
    while let [sign, rest @ ..] = bytes
        && let [next, ..] = rest
        && (*sign == 0 && *next < 0x80 || *sign == 0xff && *next >= 0x80)
    {
        bytes = rest;
    }
    bytes
}

/// A whole document, its texts and bytes borrowed from the input where they can be.
#[derive(Clone, Debug, PartialEq)]
pub enum Doc<'a> {
    /// Null.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A wider integer: big-endian two's complement, without redundant sign bytes.
    BigInt(Cow<'a, [u8]>),
    /// A float.
    Float(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// Raw bytes.
    Bytes(Cow<'a, [u8]>),
    /// Values.
    List(Vec<Doc<'a>>),
    /// Pairs of a text and a value, as they came: a key may come more than once.
    Object(Vec<(Cow<'a, str>, Doc<'a>)>),
    /// Pairs of values.
    Map(Vec<(Doc<'a>, Doc<'a>)>),
}

/// Decode one value that is all of the data.
pub fn decode(data: &[u8]) -> Result<Doc<'_>, DecodingError> {
    let mut reader = Reader::new(data);
    let doc = read(&mut reader, 0)?;
    reader.finish()?;
    Ok(doc)
}

fn read<'a>(reader: &mut Reader<'a>, depth: usize) -> Result<Doc<'a>, DecodingError> {
    Ok(match reader.token(depth)? {
        Token::Null => Doc::Null,
        Token::Bool(bool) => Doc::Bool(bool),
        Token::Int(int) => Doc::Int(int),
        Token::BigInt(bytes) => Doc::BigInt(bytes.into()),
        Token::Float(float) => Doc::Float(float),
        Token::Text(text) => Doc::Text(text.into()),
        Token::Bytes(bytes) => Doc::Bytes(bytes.into()),
        Token::List(count) => Doc::List(collect(count, || read(reader, depth + 1))?),
        Token::Object(count) => Doc::Object(collect(count, || {
            Ok((reader.key()?.into(), read(reader, depth + 1)?))
        })?),
        Token::Map(count) => Doc::Map(collect(count, || {
            Ok((read(reader, depth + 1)?, read(reader, depth + 1)?))
        })?),
    })
}

fn collect<T>(
    count: usize,
    mut item: impl FnMut() -> Result<T, DecodingError>,
) -> Result<Vec<T>, DecodingError> {
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        items.push(item()?);
    }
    Ok(items)
}

/// For reading other formats, such as JSON, into the same documents. Objects must have texts as keys.
impl<'de: 'a, 'a> Deserialize<'de> for Doc<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocVisitor)
    }
}

struct DocVisitor;

impl<'de> Visitor<'de> for DocVisitor {
    type Value = Doc<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Doc<'de>, E> {
        Ok(Doc::Null)
    }

    fn visit_bool<E>(self, bool: bool) -> Result<Doc<'de>, E> {
        Ok(Doc::Bool(bool))
    }

    fn visit_i64<E>(self, int: i64) -> Result<Doc<'de>, E> {
        Ok(Doc::Int(int))
    }

    fn visit_u64<E>(self, int: u64) -> Result<Doc<'de>, E> {
        Ok(match i64::try_from(int) {
            Ok(int) => Doc::Int(int),
            Err(_) => {
                let [.., b7, b6, b5, b4, b3, b2, b1, b0] = u128::from(int).to_be_bytes();
                Doc::BigInt(vec![0, b7, b6, b5, b4, b3, b2, b1, b0].into())
            }
        })
    }

    fn visit_f64<E>(self, float: f64) -> Result<Doc<'de>, E> {
        Ok(Doc::Float(float))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Doc<'de>, E> {
        Ok(Doc::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Doc<'de>, E> {
        Ok(Doc::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Doc<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Doc::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Doc<'de>, A::Error> {
        let mut object = Vec::new();
        while let Some((key, value)) = entries.next_entry()? {
            let Doc::Text(key) = key else {
                return Err(A::Error::custom("a key that is no text"));
            };
            object.push((key, value));
        }
        Ok(Doc::Object(object))
    }
}

/// Why something has no MiniJSON form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodingError {
    /// The key of a string-keyed object has more than 255 bytes.
    #[error("a key of {0} bytes does not fit a string-keyed object")]
    KeyTooLong(usize),
    /// An integer has more than 255 bytes.
    #[error("an integer of {0} bytes is longer than 255")]
    IntTooLong(usize),
    /// A text, bytes or a container has more than 2³²−1 bytes or items.
    #[error("a length of {0} does not fit 32 bits")]
    TooLong(usize),
}

/// Appends MiniJSON to a vector, each value in its shortest form.
///
/// A value that cannot be written leaves the vector as it was. The caller sees to it that a header is followed by as
/// many items as it says.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// A writer that appends to `out`.
    #[must_use]
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Writer { out }
    }

    /// Write null.
    #[inline]
    pub fn null(&mut self) {
        self.out.push(tag::NULL);
    }

    /// Write true or false.
    #[inline]
    pub fn bool(&mut self, bool: bool) {
        self.out.push(if bool { tag::TRUE } else { tag::FALSE });
    }

    /// Write an integer.
    #[inline]
    pub fn int(&mut self, int: i64) {
        let [b7, b6, b5, b4, b3, b2, b1, b0] = int.to_be_bytes();
        match int {
            -0x80..=0x7f => self.put([tag::INT_8, b0]),
            0x80..=0xff => self.put([tag::UINT_8, b0]),
            -0x8000..=0x7fff => self.put([tag::INT_16, b1, b0]),
            0x8000..=0xffff => self.put([tag::UINT_16, b1, b0]),
            0x1_0000..=0xff_ffff => self.put([tag::UINT_24, b2, b1, b0]),
            -0x8000_0000..=0x7fff_ffff => self.put([tag::INT_32, b3, b2, b1, b0]),
            0x8000_0000..=0xffff_ffff => self.put([tag::UINT_32, b3, b2, b1, b0]),
            -0x80_0000_0000..=0x7f_ffff_ffff => self.put([tag::INT_N, 5, b4, b3, b2, b1, b0]),
            -0x8000_0000_0000..=0x7fff_ffff_ffff => {
                self.put([tag::INT_N, 6, b5, b4, b3, b2, b1, b0]);
            }
            -0x80_0000_0000_0000..=0x7f_ffff_ffff_ffff => {
                self.put([tag::INT_N, 7, b6, b5, b4, b3, b2, b1, b0]);
            }
            _ => self.put([tag::INT_N, 8, b7, b6, b5, b4, b3, b2, b1, b0]),
        }
    }

    /// Write an integer that is given as big-endian two's complement of any length.
    pub fn big_int(&mut self, bytes: &[u8]) -> Result<(), EncodingError> {
        match integer(bytes) {
            Token::Int(int) => self.int(int),
            _ => {
                let bytes = without_redundant_signs(bytes);
                let length = u8::try_from(bytes.len())
                    .map_err(|_| EncodingError::IntTooLong(bytes.len()))?;
                self.put([tag::INT_N, length]);
                self.out.extend_from_slice(bytes);
            }
        }
        Ok(())
    }

    /// Write a float: as a single if that is exact, else as a double. NaN is a single, its payload is not kept.
    #[inline]
    pub fn float(&mut self, float: f64) {
        #[allow(clippy::cast_possible_truncation)] // whether it is exact is looked at below
        let single = float as f32;
        if f64::from(single) == float || float.is_nan() {
            let [b3, b2, b1, b0] = single.to_be_bytes();
            self.put([tag::SINGLE, b3, b2, b1, b0]);
        } else {
            let [b7, b6, b5, b4, b3, b2, b1, b0] = float.to_be_bytes();
            self.put([tag::DOUBLE, b7, b6, b5, b4, b3, b2, b1, b0]);
        }
    }

    /// Write a text.
    #[inline]
    pub fn text(&mut self, text: &str) -> Result<(), EncodingError> {
        match u8::try_from(text.len()) {
            Ok(length @ ..0x80) => self.out.push(tag::SHORT_TEXT | length),
            _ => self.size(text.len(), [tag::TEXT_8, tag::TEXT_16, tag::TEXT_32])?,
        }
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// Write raw bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), EncodingError> {
        self.size(bytes.len(), [tag::BYTES_8, tag::BYTES_16, tag::BYTES_32])?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// Announce a list; `count` values must follow.
    #[inline]
    pub fn list_header(&mut self, count: usize) -> Result<(), EncodingError> {
        self.header(
            count,
            tag::SHORT_LIST,
            [tag::LIST_8, tag::LIST_16, tag::LIST_32],
        )
    }

    /// Announce a string-keyed object; `count` pairs of a [`Writer::key`] and a value must follow.
    #[inline]
    pub fn object_header(&mut self, count: usize) -> Result<(), EncodingError> {
        self.header(
            count,
            tag::SHORT_OBJECT,
            [tag::OBJECT_8, tag::OBJECT_16, tag::OBJECT_32],
        )
    }

    /// Write the key of an entry of a string-keyed object.
    #[inline]
    pub fn key(&mut self, key: &str) -> Result<(), EncodingError> {
        let length = u8::try_from(key.len()).map_err(|_| EncodingError::KeyTooLong(key.len()))?;
        self.out.push(length);
        self.out.extend_from_slice(key.as_bytes());
        Ok(())
    }

    /// Announce a value-keyed object; `count` pairs of values must follow.
    #[inline]
    pub fn map_header(&mut self, count: usize) -> Result<(), EncodingError> {
        self.header(
            count,
            tag::SHORT_MAP,
            [tag::MAP_8, tag::MAP_32, tag::MAP_32],
        )
    }

    #[inline]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.out.extend_from_slice(&bytes);
    }

    #[inline]
    fn header(&mut self, count: usize, short: u8, tags: [u8; 3]) -> Result<(), EncodingError> {
        match u8::try_from(count) {
            Ok(count @ ..16) => self.out.push(short | count),
            _ => self.size(count, tags)?,
        }
        Ok(())
    }

    /// A size in the narrowest of 8, 16 and 32 bits that has a tag of its own.
    fn size(&mut self, size: usize, tags: [u8; 3]) -> Result<(), EncodingError> {
        let [in_8, in_16, in_32] = tags;
        if let Ok(size) = u8::try_from(size) {
            self.put([in_8, size]);
        } else if let Ok(size) = u16::try_from(size)
            && in_16 != in_32
        {
            let [high, low] = size.to_be_bytes();
            self.put([in_16, high, low]);
        } else {
            let size = u32::try_from(size).map_err(|_| EncodingError::TooLong(size))?;
            let [b3, b2, b1, b0] = size.to_be_bytes();
            self.put([in_32, b3, b2, b1, b0]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(doc: &Doc<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out), doc).unwrap();
        out
    }

    fn write(writer: &mut Writer<'_>, doc: &Doc<'_>) -> Result<(), EncodingError> {
        match doc {
            Doc::Null => writer.null(),
            Doc::Bool(bool) => writer.bool(*bool),
            Doc::Int(int) => writer.int(*int),
            Doc::BigInt(bytes) => writer.big_int(bytes)?,
            Doc::Float(float) => writer.float(*float),
            Doc::Text(text) => writer.text(text)?,
            Doc::Bytes(bytes) => writer.bytes(bytes)?,
            Doc::List(items) => {
                writer.list_header(items.len())?;
                items.iter().try_for_each(|item| write(writer, item))?;
            }
            Doc::Object(entries) => {
                writer.object_header(entries.len())?;
                for (key, value) in entries {
                    writer.key(key)?;
                    write(writer, value)?;
                }
            }
            Doc::Map(entries) => {
                writer.map_header(entries.len())?;
                for (key, value) in entries {
                    write(writer, key)?;
                    write(writer, value)?;
                }
            }
        }
        Ok(())
    }

    fn docs() -> impl Strategy<Value = Doc<'static>> {
        let scalars = prop_oneof![
            Just(Doc::Null),
            any::<bool>().prop_map(Doc::Bool),
            any::<i64>().prop_map(Doc::Int),
            (0..64, any::<i64>()).prop_map(|(bits, int)| Doc::Int(int >> bits)),
            (1..=0x7f_u8, prop::collection::vec(any::<u8>(), 8..254)).prop_map(|(first, rest)| {
                Doc::BigInt([&[first], rest.as_slice()].concat().into())
            }),
            prop::num::f64::NORMAL.prop_map(Doc::Float),
            prop::num::f32::NORMAL.prop_map(|single| Doc::Float(single.into())),
            "\\PC{0,200}".prop_map(|text| Doc::Text(text.into())),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| Doc::Bytes(bytes.into())),
        ];
        scalars.prop_recursive(4, 64, 20, |inner| {
            let key = "\\PC{0,60}".prop_map(Cow::from);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Doc::List),
                prop::collection::vec((key, inner.clone()), 0..20).prop_map(Doc::Object),
                prop::collection::vec((inner.clone(), inner), 0..20).prop_map(Doc::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was(doc in docs()) {
            let data = encode(&doc);
            prop_assert_eq!(decode(&data), Ok(doc));
        }

        #[test]
        fn garbage_is_refused_or_read(data in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(doc) = decode(&data) {
                prop_assert!(encode(&doc).len() <= data.len());
            }
        }
    }

    #[test]
    fn a_timestamp_in_milliseconds_takes_eight_bytes() {
        assert_eq!(
            encode(&Doc::Int(1_700_000_000_000)),
            b"\x18\x06\x01\x8b\xcf\xe5\x68\x00"
        );
    }

    #[test]
    fn what_cannot_be_written_leaves_the_bytes_as_they_were() {
        let mut out = vec![1, 2];
        let mut writer = Writer::new(&mut out);
        assert_eq!(
            writer.key(&"k".repeat(256)),
            Err(EncodingError::KeyTooLong(256))
        );
        assert_eq!(
            writer.big_int(&[1; 256]),
            Err(EncodingError::IntTooLong(256))
        );
        assert_eq!(
            writer.list_header(1 << 32),
            Err(EncodingError::TooLong(1 << 32))
        );
        assert_eq!(
            writer.map_header(1 << 32),
            Err(EncodingError::TooLong(1 << 32))
        );
        assert_eq!(out, [1, 2]);
    }

    #[test]
    fn a_document_borrows_its_texts() {
        let data = *b"\x82ab";
        assert!(matches!(decode(&data), Ok(Doc::Text(Cow::Borrowed("ab")))));
    }

    #[test]
    fn json_is_read_into_the_same_documents() {
        let json = r#"{"a": [null, true, -1, 1.5, "\n", 18446744073709551615]}"#;
        let doc: Doc<'_> = serde_json::from_str(json).unwrap();
        let big = Doc::BigInt([&[0][..], &[0xff; 8]].concat().into());
        let items = vec![
            Doc::Null,
            Doc::Bool(true),
            Doc::Int(-1),
            Doc::Float(1.5),
            Doc::Text("\n".into()),
            big,
        ];
        assert_eq!(doc, Doc::Object(vec![("a".into(), Doc::List(items))]));
    }
}
