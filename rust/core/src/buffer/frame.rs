//! Frames: what every file of the buffer is made of.
//!
//! A frame is a header of 32 bytes and its content, all little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0–3 | `SMK` and a letter: `H` head of a segment, `N` names, `D` data, `I` index, `C` cursor |
//! | 4–7 | length of the content |
//! | 8–15 | sequence number; data frames are numbered in the order of recording |
//! | 16–23 | base: the lowest timestamp in it, in ms since the epoch |
//! | 24–27 | CRC-32 of the content |
//! | 28–31 | CRC-32 of the header up to here |
//!
//! Invariants:
//!
//! - A frame counts only if both sums are right; then it is what was written.
//! - Whatever stands between two such frames is damage, and is reported as a range of bytes.
//! - What comes after the last such frame is a torn end if nothing else is known.

use super::wire::{Corrupt, Input};

/// Bytes of a header.
pub const HEADER: usize = 32;

/// What a content may be long at most: one text of the longest kind and what goes with it.
pub const MOST_CONTENT: usize = 4 << 20;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// The first one of a segment.
    Head,
    /// Names of series.
    Names,
    /// Samples.
    Data,
    /// What a finished segment has in it.
    Index,
    /// What the server has.
    Cursor,
}

impl Use {
    fn letter(self) -> u8 {
        match self {
            Use::Head => b'H',
            Use::Names => b'N',
            Use::Data => b'D',
            Use::Index => b'I',
            Use::Cursor => b'C',
        }
    }

    fn from_letter(letter: u8) -> Option<Self> {
        [Use::Head, Use::Names, Use::Data, Use::Index, Use::Cursor]
            .into_iter()
            .find(|known| known.letter() == letter)
    }
}

/// A frame in the bytes that it was found in.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// What it is for.
    pub use_: Use,
    /// Its number.
    pub seq: u64,
    /// The lowest timestamp in it.
    pub base: i64,
    /// The content.
    pub content: &'a [u8],
}

impl Frame<'_> {
    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let header = out.len();
        out.extend_from_slice(b"SMK");
        out.push(self.use_.letter());
        let length = u32::try_from(self.content.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&self.base.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(self.content).to_le_bytes());
        let sum = crc32fast::hash(out.get(header..).unwrap_or_default());
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(self.content);
    }

    /// The length of it all.
    pub fn len(&self) -> usize {
        HEADER + self.content.len()
    }
}

/// The frame at the start of these bytes, if there is a whole one.
pub fn parse(bytes: &[u8]) -> Option<Frame<'_>> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let letter = *header.strip_prefix(b"SMK")?.first()?;
    let (summed, sum) = header.split_at_checked(HEADER - 4)?;
    if crc32fast::hash(summed).to_le_bytes() != sum {
        return None;
    }
    let mut fields = Input::new(header);
    fields.take(4).ok()?;
    let length = usize::try_from(u32::from_le_bytes(array(&mut fields)?)).ok()?;
    let seq = u64::from_le_bytes(array(&mut fields)?);
    let base = i64::from_le_bytes(array(&mut fields)?);
    let content_sum = u32::from_le_bytes(array(&mut fields)?);
    let content = rest.get(..length)?;
    if length > MOST_CONTENT || crc32fast::hash(content) != content_sum {
        return None;
    }
    Some(Frame {
        use_: Use::from_letter(letter)?,
        seq,
        base,
        content,
    })
}

fn array<const N: usize>(input: &mut Input<'_>) -> Option<[u8; N]> {
    input.take(N).ok()?.try_into().ok()
}

/// What [`scan`] finds.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// A frame, and where it begins.
    Frame(usize, Frame<'a>),
    /// Bytes between frames that are none: where they begin and end.
    Damage(usize, usize),
    /// Bytes behind the last frame that are none, and where they begin.
    End(usize),
}

/// All frames of a file.
pub fn scan(bytes: &[u8]) -> impl Iterator<Item = Found<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        if let Some(frame) = parse(rest) {
            let start = at;
            at += frame.len();
            return Some(Found::Frame(start, frame));
        }
        let start = at;
        at = next_frame(bytes, at + 1).unwrap_or(bytes.len());
        Some(if at == bytes.len() {
            Found::End(start)
        } else {
            Found::Damage(start, at)
        })
    })
}

/// Where the next whole frame begins.
fn next_frame(bytes: &[u8], from: usize) -> Option<usize> {
    let candidates = bytes.get(from..)?.windows(3).enumerate();
    candidates
        .filter(|(_, window)| window == b"SMK")
        .map(|(offset, _)| from + offset)
        .find(|at| bytes.get(*at..).and_then(parse).is_some())
}

/// What follows the common header of a data frame, before its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHead {
    /// How many samples it has.
    pub samples: u64,
    /// The highest timestamp in it, less the base.
    pub span: u64,
    /// Which boot it was recorded in and what the clock said then, if the clock had not been set
    /// in that boot.
    pub unset_clock: Option<Boot>,
}

/// A boot of the machine, and what its wall clock was ahead of the time since then, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// A digest of the kernel's boot id.
    pub id: u32,
    /// Wall time less time since the boot.
    pub offset: i64,
}

impl DataHead {
    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        use super::wire::{put_int, put_uint};
        put_uint(out, self.samples);
        put_uint(out, self.span);
        match self.unset_clock {
            None => out.push(0),
            Some(boot) => {
                out.push(1);
                put_uint(out, boot.id.into());
                put_int(out, boot.offset);
            }
        }
    }

    /// Reads it.
    pub fn read(input: &mut Input<'_>) -> Result<Self, Corrupt> {
        let (samples, span) = (input.uint()?, input.uint()?);
        let unset_clock = match input.byte()? {
            0 => None,
            1 => Some(Boot {
                id: u32::try_from(input.uint()?).map_err(|_| Corrupt)?,
                offset: input.int()?,
            }),
            _ => return Err(Corrupt),
        };
        Ok(DataHead {
            samples,
            span,
            unset_clock,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(seq: u64, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let use_ = Use::Data;
        Frame {
            use_,
            seq,
            base: -5,
            content,
        }
        .write(&mut out);
        out
    }

    fn numbers(bytes: &[u8]) -> (Vec<u64>, usize) {
        let (mut numbers, mut lost) = (Vec::new(), 0);
        for found in scan(bytes) {
            match found {
                Found::Frame(_, frame) => numbers.push(frame.seq),
                Found::Damage(start, end) => lost += end - start,
                Found::End(start) => lost += bytes.len() - start,
            }
        }
        (numbers, lost)
    }

    #[test]
    fn frames_come_back_and_damage_costs_only_the_frame_it_hits() {
        let frames: Vec<Vec<u8>> = [1u8, 2, 3].map(|seq| frame(seq.into(), &[seq; 5])).into();
        let bytes = frames.concat();
        assert_eq!(numbers(&bytes), (vec![1, 2, 3], 0));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x20;
            let hit = (at / frames[0].len()) as u64 + 1;
            let left: Vec<u64> = (1..=3).filter(|seq| *seq != hit).collect();
            assert_eq!(numbers(&damaged), (left, frames[0].len()), "byte {at}");
            let whole = (at / frames[0].len()) as u64;
            assert_eq!(numbers(&bytes[..at]).0, (1..=whole).collect::<Vec<_>>());
        }
    }
}
