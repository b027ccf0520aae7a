//! MiniJSON, the binary JSON of the SMOK protocol: a pull reader, documents, a serde front and a
//! writer.
//!
//! Numbers are big endian and a value is a tag byte and its data; the tags are in [`tag`]. The
//! reader takes every valid form, the writer picks the shortest one. What the reader guarantees,
//! whatever the bytes are:
//!
//! * No value is deeper than [`MAX_DEPTH`] containers, so a recursive caller needs a bounded stack.
//! * The values that were announced and not read yet never outnumber the bytes that are left, since
//!   each takes at least one. A caller may therefore allocate by the counts it is given: all of
//!   them together stay within the input's size.
//! * Every byte is looked at once, and texts and bytes are borrowed from the input.

mod de;
mod doc;
mod reader;
mod writer;

pub use de::{Error as DeserializeError, from_slice};
pub use doc::{Doc, decode};
pub use reader::{Reader, Token};
pub use writer::Writer;

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
    /// Read only: the historical C decoder takes its count for 32 bits wide, so it is never
    /// written.
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

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

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
        fn a_pair_is_a_list_of_two_and_its_first_item(bits: i64, shift in 0..64u32) {
            let first = bits >> shift;
            let (mut at_once, mut apart) = (Vec::new(), Vec::new());
            Writer::new(&mut at_once).pair(first);
            let mut writer = Writer::new(&mut apart);
            writer.list_header(2).unwrap();
            writer.int(first);
            prop_assert_eq!(at_once, apart);
        }

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
}
