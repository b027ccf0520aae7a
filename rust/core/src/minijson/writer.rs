//! The writer.

use super::reader::{integer, without_redundant_signs};
use super::{EncodingError, Token, tag};

/// Appends MiniJSON to a vector, each value in its shortest form.
///
/// A value that cannot be written leaves the vector as it was. The caller sees to it that a header
/// is followed by as many items as it says.
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

    /// Write the header of a list of two and its first item, an integer. Samples begin so; written
    /// at once it saves a fifth of the time that an upload takes.
    #[inline]
    pub fn pair(&mut self, first: i64) {
        let [_, _, b5, b4, b3, b2, b1, b0] = first.to_be_bytes();
        if (0x80_0000_0000..=0x7fff_ffff_ffff).contains(&first) {
            self.put([tag::SHORT_LIST | 2, tag::INT_N, 6, b5, b4, b3, b2, b1, b0]);
        } else {
            self.put([tag::SHORT_LIST | 2]);
            self.int(first);
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

    /// Write a float: as a single if that is exact, else as a double. NaN is a single, its payload
    /// is not kept.
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
