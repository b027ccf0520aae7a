//! Columns of integers, each in the shortest of four forms:
//!
//! | tag | form | content |
//! |---|---|---|
//! | 0 | equal | the value |
//! | 1 | range | the least value, then each value less that, packed |
//! | 2 | steps | the first value, the least step, then each step less that, packed |
//! | 3 | runs | number of runs; for each its difference to the one before, and its length less 1 |
//!
//! Packed integers stand in groups of 128: a byte for the width in bits, then the bits, little
//! endian. Differences are modulo 2^64, so every column has every form but for length.

use super::wire::{Corrupt, Input, int_len, put_int, put_uint, uint_len};

const EQUAL: u8 = 0;
const RANGE: u8 = 1;
const STEPS: u8 = 2;
const RUNS: u8 = 3;

/// How many integers share a width.
const GROUP: usize = 128;

/// Appends a column.
pub fn encode(values: &[i64], out: &mut Vec<u8>) {
    let Some((&first, rest)) = values.split_first() else {
        return;
    };
    let runs = Runs::of(values);
    if runs.count == 1 {
        out.push(EQUAL);
        put_int(out, first);
        return;
    }
    let least = values.iter().copied().min().unwrap_or(first);
    let offsets = || values.iter().map(|value| distance(least, *value));
    let least_step = least_step(values);
    let steps = || {
        let before = values.iter();
        before
            .zip(rest)
            .map(|(before, value)| distance(least_step, value.wrapping_sub(*before)))
    };
    let range_bytes = int_len(least) + packed_len(offsets());
    let steps_bytes = int_len(first) + int_len(least_step) + packed_len(steps());
    if runs.bytes <= range_bytes.min(steps_bytes) {
        out.push(RUNS);
        put_runs(values, runs.count, out);
    } else if range_bytes <= steps_bytes {
        out.push(RANGE);
        put_int(out, least);
        pack(offsets(), out);
    } else {
        out.push(STEPS);
        put_int(out, first);
        put_int(out, least_step);
        pack(steps(), out);
    }
}

/// Reads a column of `count` integers.
pub fn decode(input: &mut Input<'_>, count: usize, out: &mut Vec<i64>) -> Result<(), Corrupt> {
    if count == 0 {
        return Ok(());
    }
    match input.byte()? {
        EQUAL => {
            let value = input.int()?;
            out.resize(out.len() + count, value);
        }
        RANGE => {
            let least = input.int()?;
            unpack(input, count, |offset| {
                out.push(least.wrapping_add(offset.cast_signed()));
            })?;
        }
        STEPS => {
            let mut value = input.int()?;
            let least_step = input.int()?;
            out.push(value);
            unpack(input, count - 1, |offset| {
                value = value
                    .wrapping_add(least_step)
                    .wrapping_add(offset.cast_signed());
                out.push(value);
            })?;
        }
        RUNS => get_runs(input, count, out)?,
        _ => return Err(Corrupt),
    }
    Ok(())
}

/// How far `value` is above `least`, modulo 2^64.
fn distance(least: i64, value: i64) -> u64 {
    value.wrapping_sub(least).cast_unsigned()
}

fn least_step(values: &[i64]) -> i64 {
    let steps = values.iter().zip(values.iter().skip(1));
    let steps = steps.map(|(before, value)| value.wrapping_sub(*before));
    steps.min().unwrap_or(0)
}

/// The runs of equal values of a column, and how long they are when written.
struct Runs {
    count: usize,
    bytes: usize,
}

impl Runs {
    fn of(values: &[i64]) -> Runs {
        let mut count = 0;
        let mut bytes = 0;
        for_each_run(values, |difference, length| {
            count += 1;
            bytes += int_len(difference) + uint_len(length - 1);
        });
        bytes += uint_len(count as u64);
        Runs { count, bytes }
    }
}

/// Calls `each` with every run's difference to the one before and its length.
fn for_each_run(values: &[i64], mut each: impl FnMut(i64, u64)) {
    let mut before = 0i64;
    for run in values.chunk_by(|a, b| a == b) {
        let value = run.first().copied().unwrap_or_default();
        each(value.wrapping_sub(before), run.len() as u64);
        before = value;
    }
}

fn put_runs(values: &[i64], count: usize, out: &mut Vec<u8>) {
    put_uint(out, count as u64);
    for_each_run(values, |difference, length| {
        put_int(out, difference);
        put_uint(out, length - 1);
    });
}

fn get_runs(input: &mut Input<'_>, count: usize, out: &mut Vec<i64>) -> Result<(), Corrupt> {
    let runs = input.uint()?;
    let mut value = 0i64;
    let mut left = count;
    for _ in 0..runs {
        value = value.wrapping_add(input.int()?);
        let length = input.length()?.checked_add(1).ok_or(Corrupt)?;
        left = left.checked_sub(length).ok_or(Corrupt)?;
        out.resize(out.len() + length, value);
    }
    if left == 0 { Ok(()) } else { Err(Corrupt) }
}

/// The bits that the widest of these takes.
fn width(bits: u64) -> u32 {
    64 - bits.leading_zeros()
}

/// Calls `each` with the common width and the number of every group.
fn for_each_group(values: impl Iterator<Item = u64>, mut each: impl FnMut(u32, usize)) {
    let (mut bits, mut count) = (0, 0);
    for value in values {
        bits |= value;
        count += 1;
        if count == GROUP {
            each(width(bits), count);
            (bits, count) = (0, 0);
        }
    }
    if count > 0 {
        each(width(bits), count);
    }
}

fn packed_len(values: impl Iterator<Item = u64>) -> usize {
    let mut bytes = 0;
    for_each_group(values, |width, count| {
        bytes += 1 + (width as usize * count).div_ceil(8);
    });
    bytes
}

fn pack(values: impl Iterator<Item = u64> + Clone, out: &mut Vec<u8>) {
    let mut written = values.clone();
    for_each_group(values, |width, count| {
        #[allow(clippy::cast_possible_truncation)] // at most 64
        out.push(width as u8);
        let (mut bits, mut have) = (0u128, 0);
        for value in written.by_ref().take(count) {
            bits |= u128::from(value) << have;
            have += width;
            if have >= 64 {
                #[allow(clippy::cast_possible_truncation)] // the lower half
                out.extend_from_slice(&(bits as u64).to_le_bytes());
                bits >>= 64;
                have -= 64;
            }
        }
        let rest = bits.to_le_bytes();
        out.extend(rest.iter().take(have.div_ceil(8) as usize));
    });
}

fn unpack(
    input: &mut Input<'_>,
    mut count: usize,
    mut each: impl FnMut(u64),
) -> Result<(), Corrupt> {
    while count > 0 {
        let group = count.min(GROUP);
        let width = u32::from(input.byte()?);
        if width > 64 {
            return Err(Corrupt);
        }
        let mask = u64::MAX.checked_shr(64 - width).unwrap_or(0);
        let mut words = input
            .take((width as usize * group).div_ceil(8))?
            .chunks(8)
            .map(|chunk| {
                let mut word = [0; 8];
                word.iter_mut()
                    .zip(chunk)
                    .for_each(|(to, from)| *to = *from);
                u64::from_le_bytes(word)
            });
        let (mut bits, mut have) = (0u128, 0);
        for _ in 0..group {
            if have < width {
                bits |= u128::from(words.next().unwrap_or(0)) << have;
                have += 64;
            }
            #[allow(clippy::cast_possible_truncation)] // masked
            each(bits as u64 & mask);
            bits >>= width;
            have -= width;
        }
        count -= group;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(values: &[i64]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(values, &mut out);
        out
    }

    fn back(bytes: &[u8], count: usize) -> Result<Vec<i64>, Corrupt> {
        let mut out = Vec::new();
        let mut input = Input::new(bytes);
        decode(&mut input, count, &mut out)?;
        assert!(input.is_empty());
        Ok(out)
    }

    #[test]
    fn each_form_is_as_short_as_it_should_be() {
        assert_eq!(bytes(&[7; 1000]), [EQUAL, 14]);
        let ramp: Vec<i64> = (0..1000).map(|index| 50 + 3 * index).collect();
        assert_eq!(bytes(&ramp).len(), 1 + 1 + 1 + 8);
        let noise: Vec<i64> = (0..128).map(|index| 1000 + index * 37 % 16).collect();
        assert_eq!(bytes(&noise).len(), 1 + 2 + 1 + 64);
        let steps: Vec<i64> = (0..1000).map(|index| index / 250 * 9_999).collect();
        assert_eq!(bytes(&steps)[0], RUNS);
        assert!(bytes(&steps).len() < 25);
    }

    fn column() -> impl Strategy<Value = Vec<i64>> {
        prop_oneof![
            prop::collection::vec(any::<i64>(), 1..300),
            prop::collection::vec(-5..5i64, 1..600),
            prop::collection::vec(prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(0)], 1..40),
            (any::<i64>(), prop::collection::vec(0..40i64, 1..600)).prop_map(|(start, steps)| {
                steps
                    .iter()
                    .scan(start, |at, step| {
                        *at = at.wrapping_add(*step);
                        Some(*at)
                    })
                    .collect()
            }),
        ]
    }

    proptest! {
        #[test]
        fn columns_come_back(values in column()) {
            prop_assert_eq!(back(&bytes(&values), values.len()), Ok(values));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), count in 0..600usize) {
            let mut out = Vec::new();
            let _ = decode(&mut Input::new(&bytes), count, &mut out);
            prop_assert!(out.len() <= count);
        }
    }
}
