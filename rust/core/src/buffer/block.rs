//! Blocks: some samples of one pathpoint, in columns.
//!
//! A block is `id, control, …`: the difference of the series' id to the one before in the frame,
//! and a byte of flags. One sample alone follows as `timestamp, value`; several as `count, length
//! of what follows, first timestamp, time to the last, steps of the timestamps, values`. The first
//! timestamp is relative to the frame's base. The control byte:
//!
//! | bits | meaning |
//! |---|---|
//! | 0–2 | class of the readings: 0 integers, 1 floats, 2 texts, 3 failures, 4 mixed |
//! | 3 | stamped by the device's clock, not by the user |
//! | 4 | one sample alone |
//!
//! The forms are chosen for polled registers. A general codec, pco 0.4, took 0.68 bytes a sample in
//! blocks of this length against 0.71, all headers included, and three times as long.
//!
//! Timestamps rise strictly within a block. Values come back exactly as they were: floats bit for
//! bit, integers as integers.

use std::sync::Arc;

use super::ints;
use super::series::Position;
use super::wire::{Corrupt, Input, put_int, put_text, put_uint};
use crate::value::{Reading, Reason, Sample, Value};

/// How many samples one block has at most.
pub const MOST_SAMPLES: usize = 1024;

const CLASS: u8 = 0b0111;
const STAMPED: u8 = 0b1000;
const SINGLE: u8 = 0b1_0000;

const MIXED: u8 = 4;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Int = 0,
    Float = 1,
    Text = 2,
    Failed = 3,
}

const CLASSES: [Class; 4] = [Class::Int, Class::Float, Class::Text, Class::Failed];

impl Class {
    fn of(reading: &Reading) -> Class {
        match reading {
            Reading::Value(Value::Int(_)) => Class::Int,
            Reading::Value(Value::Float(_)) => Class::Float,
            Reading::Value(Value::Text(_)) => Class::Text,
            Reading::Failed(_) => Class::Failed,
        }
    }

    fn from_tag(tag: u8) -> Result<Class, Corrupt> {
        CLASSES.get(usize::from(tag)).copied().ok_or(Corrupt)
    }
}

/// A float column's digits after the point; 7 is singles, 8 doubles.
const MOST_DIGITS: u8 = 6;
const SINGLES: u8 = 7;
const DOUBLES: u8 = 8;

const POWERS: [f64; 7] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];

/// Room for columns, used again from block to block.
#[derive(Default)]
pub struct Scratch {
    ints: Vec<i64>,
    body: Vec<u8>,
}

/// Appends a block.
///
/// `samples` must not be empty, longer than [`MOST_SAMPLES`], or older than `base`.
pub fn encode(
    id_step: u64,
    stamped: bool,
    samples: &[Sample],
    base: i64,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) {
    let Some(first) = samples.first() else {
        return;
    };
    let class = Class::of(&first.reading);
    let uniform = samples
        .iter()
        .all(|sample| Class::of(&sample.reading) == class);
    let control = if uniform { class as u8 } else { MIXED } | if stamped { STAMPED } else { 0 };
    let start = first.timestamp.wrapping_sub(base).cast_unsigned();
    put_uint(out, id_step);
    if samples.len() == 1 {
        out.push(control | SINGLE);
        put_uint(out, start);
        put_single(&first.reading, out);
        return;
    }
    out.push(control);
    put_uint(out, samples.len() as u64);
    let Scratch { ints, body } = scratch;
    body.clear();
    put_uint(body, start);
    let last = samples.last().unwrap_or(first);
    put_uint(
        body,
        last.timestamp.wrapping_sub(first.timestamp).cast_unsigned(),
    );
    ints.clear();
    let later = samples.iter().skip(1);
    ints.extend(
        later
            .zip(samples)
            .map(|(later, sample)| later.timestamp.wrapping_sub(sample.timestamp)),
    );
    ints::encode(ints, body);
    if uniform {
        put_column(class, samples.iter(), ints, body);
    } else {
        put_mixed(samples, ints, body);
    }
    put_uint(out, body.len() as u64);
    out.extend_from_slice(body);
}

fn put_single(reading: &Reading, out: &mut Vec<u8>) {
    match reading {
        Reading::Value(Value::Int(int)) => put_int(out, *int),
        Reading::Value(Value::Float(float)) => put_float(*float, out),
        Reading::Value(Value::Text(text)) => put_text(out, text),
        Reading::Failed(reason) => put_uint(out, reason_tag(*reason).unsigned_abs()),
    }
}

/// One float: as a decimal where that is exact, for 4.5 takes two bytes then.
fn put_float(float: f64, out: &mut Vec<u8>) {
    match (0..=MOST_DIGITS).find_map(|digits| Some((digits, decimal(float, digits)?))) {
        Some((digits, int)) => {
            out.push(digits);
            put_int(out, int);
        }
        None => {
            out.push(DOUBLES);
            out.extend_from_slice(&float.to_bits().to_le_bytes());
        }
    }
}

fn put_mixed(samples: &[Sample], ints: &mut Vec<i64>, out: &mut Vec<u8>) {
    let runs = || samples.chunk_by(|a, b| Class::of(&a.reading) == Class::of(&b.reading));
    put_uint(out, runs().count() as u64);
    for run in runs() {
        let class = run
            .first()
            .map_or(0, |sample| Class::of(&sample.reading) as u8);
        out.push(class);
        put_uint(out, run.len() as u64);
    }
    for class in CLASSES {
        let column = samples
            .iter()
            .filter(move |sample| Class::of(&sample.reading) == class);
        put_column(class, column, ints, out);
    }
}

fn put_column<'a>(
    class: Class,
    samples: impl Iterator<Item = &'a Sample> + Clone,
    ints: &mut Vec<i64>,
    out: &mut Vec<u8>,
) {
    ints.clear();
    match class {
        Class::Int => {
            ints.extend(samples.map(|sample| match sample.reading {
                Reading::Value(Value::Int(int)) => int,
                _ => 0,
            }));
            ints::encode(ints, out);
        }
        Class::Float => {
            let floats = samples.map(|sample| match sample.reading {
                Reading::Value(Value::Float(float)) => float,
                _ => 0.0,
            });
            put_floats(floats, ints, out);
        }
        Class::Text => put_texts(
            samples.map(|sample| match &sample.reading {
                Reading::Value(Value::Text(text)) => text.as_ref(),
                _ => "",
            }),
            out,
        ),
        Class::Failed => {
            ints.extend(samples.map(|sample| match sample.reading {
                Reading::Failed(reason) => reason_tag(reason),
                Reading::Value(_) => 0,
            }));
            ints::encode(ints, out);
        }
    }
}

fn put_floats(floats: impl Iterator<Item = f64> + Clone, ints: &mut Vec<i64>, out: &mut Vec<u8>) {
    let form = if let Some(digits) = common_digits(floats.clone()) {
        ints.extend(floats.map(|float| decimal(float, digits).unwrap_or(0)));
        digits
    } else if floats.clone().all(|float| single(float).is_some()) {
        ints.extend(floats.map(|float| i64::from(ordered_single(float))));
        SINGLES
    } else {
        ints.extend(floats.map(|float| ordered(float.to_bits().cast_signed())));
        DOUBLES
    };
    if !ints.is_empty() {
        out.push(form);
        ints::encode(ints, out);
    }
}

/// With how many digits after the point all of these are exact.
fn common_digits(floats: impl Iterator<Item = f64> + Clone) -> Option<u8> {
    let mut digits = 0;
    for float in floats.clone() {
        while decimal(float, digits).is_none() {
            digits += 1;
            if digits > MOST_DIGITS {
                return None;
            }
        }
    }
    floats
        .into_iter()
        .all(|float| decimal(float, digits).is_some())
        .then_some(digits)
}

/// The float times 10^digits, if that is an integer from which the float comes back bit for bit.
fn decimal(float: f64, digits: u8) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    let power = POWERS.get(usize::from(digits))?;
    let scaled = (float * power).round();
    if scaled.abs() >= EXACT || scaled.is_nan() {
        return None;
    }
    #[allow(clippy::cast_possible_truncation)] // within 2^53
    let int = scaled as i64;
    let back = from_decimal(int, digits).ok()?;
    (back.to_bits() == float.to_bits()).then_some(int)
}

/// The float as a single, if that is exact.
fn single(float: f64) -> Option<f32> {
    #[allow(clippy::cast_possible_truncation)] // whether it is exact is looked at
    let single = float as f32;
    (f64::from(single).to_bits() == float.to_bits()).then_some(single)
}

/// The bits of a single, such that near singles have near integers.
fn ordered_single(float: f64) -> i32 {
    let bits = single(float).unwrap_or(0.0).to_bits().cast_signed();
    if bits < 0 { bits ^ i32::MAX } else { bits }
}

/// The same for the bits of a double; its own inverse.
fn ordered(bits: i64) -> i64 {
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

/// Equal texts that follow each other are written once.
fn put_texts<'a>(texts: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    let mut texts = texts.peekable();
    while let Some(text) = texts.next() {
        let mut more = 0;
        while texts.next_if_eq(&text).is_some() {
            more += 1;
        }
        put_text(out, text);
        put_uint(out, more);
    }
}

const REASONS: [Reason; 4] = [
    Reason::Malformed,
    Reason::Timeout,
    Reason::Invalid,
    Reason::Type,
];

fn reason_tag(reason: Reason) -> i64 {
    match reason {
        Reason::Malformed => 0,
        Reason::Timeout => 1,
        Reason::Invalid => 2,
        Reason::Type => 3,
    }
}

fn reason_from_tag(tag: i64) -> Result<Reason, Corrupt> {
    let index = usize::try_from(tag).map_err(|_| Corrupt)?;
    REASONS.get(index).copied().ok_or(Corrupt)
}

/// A block whose columns were not decoded yet.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// The series' id in the segment.
    pub id: u64,
    /// How many samples it has.
    pub count: usize,
    /// Whether the device's clock stamped them.
    pub stamped: bool,
    control: u8,
    base: i64,
    body: Input<'a>,
}

impl<'a> Block<'a> {
    /// Reads the next block of a frame up to its columns.
    pub fn read(input: &mut Input<'a>, id_before: u64, base: i64) -> Result<Self, Corrupt> {
        let id = id_before.checked_add(input.uint()?).ok_or(Corrupt)?;
        let control = input.byte()?;
        let mut block = Block {
            id,
            count: 1,
            stamped: control & STAMPED != 0,
            control,
            base,
            body: *input,
        };
        if control & SINGLE == 0 {
            block.count = input.length()?;
            if block.count < 2 || block.count > MOST_SAMPLES {
                return Err(Corrupt);
            }
            let length = input.length()?;
            block.body = Input::new(input.take(length)?);
        } else {
            // One sample is as quick to read as to skip.
            let mut skipped = *input;
            skipped.uint()?;
            get_single(control & CLASS, &mut skipped)?;
            *input = skipped;
        }
        Ok(block)
    }

    /// The timestamps of its first and its last sample.
    pub fn range(&self) -> Result<(i64, i64), Corrupt> {
        let mut body = self.body;
        let first = self.start(&mut body)?;
        let span = if self.count == 1 { 0 } else { body.uint()? };
        Ok((first, first.wrapping_add(span.cast_signed())))
    }

    /// How many of its samples are behind a position, if it stands in the frame with this number.
    pub fn lacking(&self, seq: u64, acknowledged: Position) -> Result<u64, Corrupt> {
        let at = |timestamp| Position { seq, timestamp };
        let (first, last) = self.range()?;
        if at(first) > acknowledged {
            return Ok(self.count as u64);
        }
        if at(last) <= acknowledged {
            return Ok(0);
        }
        let mut samples = Vec::new();
        self.decode(&mut Columns::default(), &mut samples)?;
        let behind = samples
            .iter()
            .filter(|sample| at(sample.timestamp) > acknowledged);
        Ok(behind.count() as u64)
    }

    fn start(&self, body: &mut Input<'_>) -> Result<i64, Corrupt> {
        Ok(self.base.wrapping_add(body.uint()?.cast_signed()))
    }

    /// Appends its samples.
    pub fn decode(&self, columns: &mut Columns, out: &mut Vec<Sample>) -> Result<(), Corrupt> {
        self.visit(columns, |timestamp, reading| {
            out.push(Sample { timestamp, reading });
        })
    }

    /// Calls `each` with its samples.
    pub fn visit(
        &self,
        columns: &mut Columns,
        mut each: impl FnMut(i64, Reading),
    ) -> Result<(), Corrupt> {
        let mut body = self.body;
        let mut timestamp = self.start(&mut body)?;
        if self.count == 1 {
            each(timestamp, get_single(self.control & CLASS, &mut body)?);
            return Ok(());
        }
        body.uint()?;
        let Columns { steps, ints } = columns;
        steps.clear();
        ints::decode(&mut body, self.count - 1, steps)?;
        let mut steps = steps.iter();
        let mut push = |reading: Reading| {
            each(timestamp, reading);
            timestamp = timestamp.wrapping_add(steps.next().copied().unwrap_or(0));
        };
        match self.control & CLASS {
            MIXED => get_mixed(&mut body, self.count, ints, &mut push),
            tag => get_column(
                Class::from_tag(tag)?,
                &mut body,
                self.count,
                ints,
                &mut push,
            ),
        }
    }
}

/// Room for decoded columns, used again from block to block.
#[derive(Default)]
pub struct Columns {
    steps: Vec<i64>,
    ints: Vec<i64>,
}

fn get_single(tag: u8, input: &mut Input<'_>) -> Result<Reading, Corrupt> {
    Ok(match Class::from_tag(tag)? {
        Class::Int => Reading::Value(Value::Int(input.int()?)),
        Class::Float => Reading::Value(Value::Float(match input.byte()? {
            DOUBLES => {
                let bytes = input.take(8)?.try_into().map_err(|_| Corrupt)?;
                f64::from_bits(u64::from_le_bytes(bytes))
            }
            digits => from_decimal(input.int()?, digits)?,
        })),
        Class::Text => Reading::Value(Value::Text(input.text()?.into())),
        Class::Failed => Reading::Failed(reason_from_tag(input.uint()?.cast_signed())?),
    })
}

#[allow(clippy::cast_precision_loss)] // what was written is within 2^53
fn from_decimal(int: i64, digits: u8) -> Result<f64, Corrupt> {
    let power = POWERS.get(usize::from(digits)).ok_or(Corrupt)?;
    Ok(int as f64 / power)
}

fn get_column(
    class: Class,
    input: &mut Input<'_>,
    count: usize,
    ints: &mut Vec<i64>,
    push: &mut impl FnMut(Reading),
) -> Result<(), Corrupt> {
    ints.clear();
    match class {
        Class::Int => {
            ints::decode(input, count, ints)?;
            for int in ints {
                push(Reading::Value(Value::Int(*int)));
            }
        }
        Class::Float => get_floats(input, count, ints, push)?,
        Class::Text => {
            let mut left = count;
            while left > 0 {
                let text: Arc<str> = input.text()?.into();
                let run = input.length()?.checked_add(1).ok_or(Corrupt)?;
                left = left.checked_sub(run).ok_or(Corrupt)?;
                for _ in 0..run {
                    push(Reading::Value(Value::Text(Arc::clone(&text))));
                }
            }
        }
        Class::Failed => {
            ints::decode(input, count, ints)?;
            for tag in ints {
                push(Reading::Failed(reason_from_tag(*tag)?));
            }
        }
    }
    Ok(())
}

fn get_floats(
    input: &mut Input<'_>,
    count: usize,
    ints: &mut Vec<i64>,
    push: &mut impl FnMut(Reading),
) -> Result<(), Corrupt> {
    let form = input.byte()?;
    ints::decode(input, count, ints)?;
    let mut push = |float| push(Reading::Value(Value::Float(float)));
    match form {
        SINGLES => {
            for int in ints {
                let ordered = i32::try_from(*int).map_err(|_| Corrupt)?;
                let bits = if ordered < 0 {
                    ordered ^ i32::MAX
                } else {
                    ordered
                };
                push(f64::from(f32::from_bits(bits.cast_unsigned())));
            }
        }
        DOUBLES => {
            for int in ints {
                push(f64::from_bits(ordered(*int).cast_unsigned()));
            }
        }
        digits => {
            for int in ints {
                push(from_decimal(*int, digits)?);
            }
        }
    }
    Ok(())
}

fn get_mixed(
    input: &mut Input<'_>,
    count: usize,
    ints: &mut Vec<i64>,
    push: &mut impl FnMut(Reading),
) -> Result<(), Corrupt> {
    let mut classes = Vec::with_capacity(count);
    for _ in 0..input.uint()? {
        let class = Class::from_tag(input.byte()?)?;
        let run = input.length()?;
        if run > count - classes.len() {
            return Err(Corrupt);
        }
        classes.resize(classes.len() + run, class);
    }
    if classes.len() != count {
        return Err(Corrupt);
    }
    let mut columns: [Vec<Reading>; 4] = Default::default();
    for (class, column) in CLASSES.into_iter().zip(&mut columns) {
        let members = classes.iter().filter(|known| **known == class).count();
        if members > 0 {
            get_column(class, input, members, ints, &mut |reading| {
                column.push(reading);
            })?;
        }
    }
    let mut columns = columns.map(Vec::into_iter);
    for class in classes {
        let column = columns.get_mut(class as usize).ok_or(Corrupt)?;
        push(column.next().ok_or(Corrupt)?);
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(samples: &[Sample], base: i64) -> Vec<u8> {
        let mut out = Vec::new();
        encode(3, true, samples, base, &mut Scratch::default(), &mut out);
        out
    }

    fn decoded(bytes: &[u8], base: i64) -> Result<Vec<Sample>, Corrupt> {
        let mut input = Input::new(bytes);
        let block = Block::read(&mut input, 4, base)?;
        let mut out = Vec::new();
        block.decode(&mut Columns::default(), &mut out)?;
        assert_eq!(
            block.range()?,
            (out[0].timestamp, out[out.len() - 1].timestamp)
        );
        assert_eq!((block.id, block.count, block.stamped), (7, out.len(), true));
        assert!(input.is_empty());
        Ok(out)
    }

    /// Readings as devices have them.
    pub fn reading() -> impl Strategy<Value = Reading> {
        prop_oneof![
            4 => (0..5i64).prop_map(|int| Reading::Value(Value::Int(int))),
            1 => any::<i64>().prop_map(|int| Reading::Value(Value::Int(int))),
            2 => (-9999..9999i32).prop_map(|int| Reading::Value(Value::Float(f64::from(int) / 100.0))),
            1 => any::<f32>().prop_map(|float| Reading::Value(Value::Float(f64::from(float)))),
            1 => any::<f64>().prop_map(|float| Reading::Value(Value::Float(float))),
            1 => "[a-z]{0,3}".prop_map(|text| Reading::Value(Value::Text(text.into()))),
            1 => prop::sample::select(&REASONS[..]).prop_map(Reading::Failed),
        ]
    }

    fn samples() -> impl Strategy<Value = Vec<Sample>> {
        let some = prop_oneof![
            prop::collection::vec(reading(), 1..50),
            (reading(), 1..1025usize).prop_map(|(reading, count)| vec![reading; count]),
            prop::collection::vec(
                (-99..99i32).prop_map(|int| Reading::Value(Value::Float(f64::from(int) / 10.0))),
                1..300
            ),
            prop::collection::vec(
                any::<f32>().prop_map(|float| Reading::Value(Value::Float(float.into()))),
                1..300
            ),
        ];
        (some, 1..10_000i64, prop::collection::vec(1..60_000i64, 8)).prop_map(
            |(readings, start, steps)| {
                let times = steps.into_iter().cycle().scan(start, |at, step| {
                    *at += step;
                    Some(*at)
                });
                times
                    .zip(readings)
                    .map(|(timestamp, reading)| Sample { timestamp, reading })
                    .collect()
            },
        )
    }

    fn same(a: &Sample, b: &Sample) -> bool {
        match (&a.reading, &b.reading) {
            (Reading::Value(Value::Float(x)), Reading::Value(Value::Float(y))) => {
                x.to_bits() == y.to_bits() && a.timestamp == b.timestamp
            }
            _ => a == b,
        }
    }

    proptest! {
        #[test]
        fn samples_come_back_bit_for_bit(samples in samples(), base in 0..10_000i64) {
            let base = base.min(samples[0].timestamp);
            let back = decoded(&encoded(&samples, base), base).unwrap();
            prop_assert_eq!(back.len(), samples.len());
            prop_assert!(back.iter().zip(&samples).all(|(a, b)| same(a, b)), "{:?}", back);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut input = Input::new(&bytes);
            if let Ok(block) = Block::read(&mut input, 0, 0) {
                let mut out = Vec::new();
                let _ = block.decode(&mut Columns::default(), &mut out);
                prop_assert!(out.len() <= MOST_SAMPLES);
            }
        }
    }

    fn floats(floats: impl Iterator<Item = f64>) -> Vec<Sample> {
        let reading = |float| Reading::Value(Value::Float(float));
        let samples = (1..).map(|tick| 1_000 * tick).zip(floats);
        samples
            .map(|(timestamp, float)| Sample {
                timestamp,
                reading: reading(float),
            })
            .collect()
    }

    #[test]
    fn equal_readings_cost_next_to_nothing() {
        assert!(encoded(&floats(std::iter::repeat_n(21.5, 1000)), 0).len() < 20);
    }

    #[test]
    fn what_has_two_digits_takes_no_more_than_its_digits() {
        let values = (0..1000).map(|index| f64::from(2_000 + index * 7919 % 200) / 100.0);
        assert!(encoded(&floats(values), 0).len() < 1100);
    }
}
