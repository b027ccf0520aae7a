//! Whole documents.

use std::borrow::Cow;

use super::{DecodingError, Reader, Token};

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
