//! The pull reader; what it guarantees is said in the module above.

use super::{DecodingError, Flaw, MAX_DEPTH, tag};

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

    /// The length or count after a tag, of 8 or 16 bits if the tag is the first or second given,
    /// else of 32 bits.
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
pub(super) fn integer(bytes: &[u8]) -> Token<'_> {
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
pub(super) fn without_redundant_signs(mut bytes: &[u8]) -> &[u8] {
    while let [sign, rest @ ..] = bytes
        && let [next, ..] = rest
        && (*sign == 0 && *next < 0x80 || *sign == 0xff && *next >= 0x80)
    {
        bytes = rest;
    }
    bytes
}
