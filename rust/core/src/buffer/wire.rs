//! Integers as the buffer's files have them: LEB128, signed ones zigzagged first.
//!
//! Reading never panics and never allocates by what the input claims.

/// The bytes do not say what they should: a frame whose check sum is right was written by something
/// else, or by a defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the content makes no sense")]
pub struct Corrupt;

/// Appends an unsigned integer.
#[inline]
pub fn put_uint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Appends a signed integer.
#[inline]
pub fn put_int(out: &mut Vec<u8>, value: i64) {
    put_uint(out, zigzag(value));
}

/// How many bytes [`put_int`] takes for this.
pub fn int_len(value: i64) -> usize {
    uint_len(zigzag(value))
}

/// How many bytes [`put_uint`] takes for this.
pub fn uint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

/// Appends a text after its length.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_uint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Bytes that are read from the front.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    /// Reads these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Input { bytes }
    }

    /// Whether all has been read.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next byte.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, Corrupt> {
        let (&first, rest) = self.bytes.split_first().ok_or(Corrupt)?;
        self.bytes = rest;
        Ok(first)
    }

    /// An unsigned integer.
    #[inline]
    pub fn uint(&mut self) -> Result<u64, Corrupt> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Corrupt);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Corrupt)
    }

    /// An unsigned integer that is a number of things in memory.
    pub fn length(&mut self) -> Result<usize, Corrupt> {
        usize::try_from(self.uint()?).map_err(|_| Corrupt)
    }

    /// A signed integer.
    #[inline]
    pub fn int(&mut self) -> Result<i64, Corrupt> {
        let value = self.uint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Corrupt> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(Corrupt)?;
        self.bytes = rest;
        Ok(taken)
    }

    /// A text.
    pub fn text(&mut self) -> Result<&'a str, Corrupt> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| Corrupt)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_come_back(int: i64, uint: u64) {
            let mut out = Vec::new();
            put_int(&mut out, int);
            prop_assert_eq!(out.len(), int_len(int));
            put_uint(&mut out, uint);
            prop_assert_eq!(out.len(), int_len(int) + uint_len(uint));
            let mut input = Input::new(&out);
            prop_assert_eq!(input.int(), Ok(int));
            prop_assert_eq!(input.uint(), Ok(uint));
            prop_assert!(input.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..16)) {
            let mut input = Input::new(&bytes);
            while input.uint().is_ok() {}
            let _ = Input::new(&bytes).text();
        }
    }
}
