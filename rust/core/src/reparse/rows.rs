//! Joins the samples of several pathpoints into rows, a batch at a time.
//!
//! The rows: each timestamp at which any pathpoint has a sample, once all pathpoints have one, with the latest sample of each
//! at that time. Of samples with the same timestamp the last one counts.
//!
//! Every step makes one row and moves every column past its timestamp. Which columns have a sample then is as good as random,
//! so a column moves by what the comparison gives instead of branching on it.

use std::hint::select_unpredictable;

use super::samples::Column;

/// The rows of a batch, and where they find their values.
pub(super) struct Rows<'a> {
    cursors: Vec<Cursor<'a>>,
    /// How many rows the batch has.
    pub(super) count: usize,
    /// Whether each column has one sample for each row.
    aligned: bool,
    /// The timestamps of the last batch that was not aligned.
    times: Vec<i64>,
    /// For each column, the samples that its rows take.
    samples: Vec<Vec<usize>>,
}

/// The samples of one column that the rows of a batch take.
#[derive(Clone, Copy)]
pub(super) enum Pick<'a> {
    /// One after the other, beginning with this.
    Run(usize),
    /// These, which never fall.
    Each(&'a [usize]),
}

impl Pick<'_> {
    /// The sample that a row takes.
    pub(super) fn sample(self, row: usize) -> usize {
        match self {
            Pick::Run(first) => first + row,
            Pick::Each(samples) => samples.get(row).copied().unwrap_or(usize::MAX),
        }
    }
}

impl<'a> Rows<'a> {
    /// Only rows before `until`, if that is given. They begin when every column has a sample; if one has none, there are no
    /// rows.
    pub(super) fn new(columns: &[Column<'a>], until: Option<i64>) -> Option<Self> {
        let timestamps = columns.iter().map(|column| match until {
            Some(until) => {
                let end = column.timestamps.partition_point(|at| *at < until);
                column.timestamps.get(..end).unwrap_or_default()
            }
            None => column.timestamps,
        });
        let firsts = timestamps.clone().map(<[_]>::first);
        let start = *firsts.collect::<Option<Vec<_>>>()?.into_iter().max()?;
        let cursors = timestamps.map(|timestamps| {
            let earlier = timestamps.partition_point(|at| *at < start);
            Cursor::new(timestamps, earlier)
        });
        Some(Self {
            cursors: cursors.collect(),
            count: 0,
            aligned: false,
            times: Vec::new(),
            samples: vec![Vec::new(); columns.len()],
        })
    }

    /// The samples that the rows of the batch take of a column.
    pub(super) fn pick(&self, column: usize) -> Option<Pick<'_>> {
        if self.aligned {
            let next = self.cursors.get(column)?.next;
            return Some(Pick::Run(next.saturating_sub(self.count)));
        }
        let samples = self.samples.get(column)?.get(..self.count)?;
        Some(Pick::Each(samples))
    }

    /// The samples that the rows of the batch take of each column.
    pub(super) fn picks(&self) -> impl Iterator<Item = Pick<'_>> {
        (0..self.cursors.len()).filter_map(|column| self.pick(column))
    }

    /// Makes the next batch and adds its timestamps to the series; false when there are no more rows.
    pub(super) fn next_batch(&mut self, most: usize, timestamps: &mut Vec<i64>) -> bool {
        if let Some(shared) = self.shared(most) {
            timestamps.extend_from_slice(shared);
            for cursor in &mut self.cursors {
                *cursor = Cursor::new(cursor.timestamps, cursor.next + shared.len());
            }
            self.aligned = true;
            self.count = shared.len();
        } else {
            self.aligned = false;
            self.count = self.join(most);
            timestamps.extend_from_slice(self.times.get(..self.count).unwrap_or_default());
        }
        self.count > 0
    }

    /// The timestamps of a whole batch, if all columns have the same ones, each once.
    fn shared(&self, count: usize) -> Option<&'a [i64]> {
        let mut batches = self.cursors.iter().map(|cursor| {
            let end = cursor.next.checked_add(count)?;
            cursor.timestamps.get(cursor.next..end)
        });
        let first = batches.next()??;
        let mut pairs = first.iter().zip(first.get(1..)?);
        // A timestamp that follows the batch may repeat its last one.
        let after = self
            .cursors
            .iter()
            .all(|cursor| cursor.timestamps.get(cursor.next + count) != first.last());
        (after && batches.all(|batch| batch == Some(first)) && pairs.all(|(a, b)| a < b))
            .then_some(first)
    }

    /// Makes a batch of the next timestamps of any columns and returns how many there are.
    fn join(&mut self, most: usize) -> usize {
        self.times.resize(most, 0);
        for samples in &mut self.samples {
            samples.resize(most, 0);
        }
        match self.cursors.as_mut_slice() {
            // Two cursors by value stay in registers, which was measured at two thirds of the time.
            [first, second] => {
                let mut pair = [*first, *second];
                let count = join(&mut pair, &mut self.times, &mut self.samples);
                [*first, *second] = pair;
                count
            }
            cursors => join(cursors, &mut self.times, &mut self.samples),
        }
    }
}

/// Fills the rows' timestamps and for each cursor their samples, as far as they reach, and returns how many rows there are.
#[inline(always)]
fn join(cursors: &mut [Cursor<'_>], times: &mut [i64], samples: &mut [Vec<usize>]) -> usize {
    for (row, time) in times.iter_mut().enumerate() {
        let heads = cursors.iter().map(|cursor| cursor.head);
        let now = heads.fold(i64::MAX, i64::min);
        if now == i64::MAX && cursors.iter().all(Cursor::is_at_end) {
            return row;
        }
        *time = now;
        for (cursor, samples) in cursors.iter_mut().zip(samples.iter_mut()) {
            let sample = cursor.pass(now);
            if let Some(place) = samples.get_mut(row) {
                *place = sample;
            }
        }
    }
    times.len()
}

/// A column on its way through the rows.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    timestamps: &'a [i64],
    /// The first sample that is later than the rows so far.
    next: usize,
    /// Its timestamp; the latest time there is if there is no such sample.
    head: i64,
    /// The timestamp after that, read before it is needed.
    after: i64,
}

impl<'a> Cursor<'a> {
    fn new(timestamps: &'a [i64], next: usize) -> Self {
        let mut cursor = Self {
            timestamps,
            next,
            head: i64::MAX,
            after: i64::MAX,
        };
        cursor.head = cursor.time(next);
        cursor.after = cursor.time(next + 1);
        cursor
    }

    fn is_at_end(&self) -> bool {
        self.next >= self.timestamps.len()
    }

    fn time(&self, sample: usize) -> i64 {
        self.timestamps.get(sample).copied().unwrap_or(i64::MAX)
    }

    /// Moves past this time, which is later than what was passed before; returns the latest sample then.
    #[inline]
    fn pass(&mut self, now: i64) -> usize {
        let due = self.head <= now;
        self.next = (self.next + usize::from(due)).min(self.timestamps.len());
        self.head = select_unpredictable(due, self.after, self.head);
        self.after = self.time(self.next + 1);
        while self.head == now && !self.is_at_end() {
            *self = Self::new(self.timestamps, self.next + 1);
        }
        // Every column has a sample by now, so there is one before the next.
        self.next.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::super::samples::Values;
    use super::*;

    /// For each row its timestamp and the samples that it takes.
    type Table = Vec<(i64, Vec<usize>)>;

    fn made(columns: &[Vec<i64>], until: Option<i64>, most: usize) -> Table {
        let columns: Vec<Column<'_>> = columns
            .iter()
            .map(|timestamps| Column {
                timestamps,
                values: Values::Ints(timestamps),
            })
            .collect();
        let mut table = Table::new();
        let Some(mut rows) = Rows::new(&columns, until) else {
            return table;
        };
        let mut timestamps = Vec::new();
        while rows.next_batch(most, &mut timestamps) {
            assert!(rows.count <= most);
            for row in 0..rows.count {
                let samples = rows.picks().map(|pick| pick.sample(row)).collect();
                table.push((timestamps[table.len()], samples));
            }
        }
        assert_eq!(timestamps.len(), table.len());
        table
    }

    /// The same from the definition of rows.
    fn defined(columns: &[Vec<i64>], until: Option<i64>) -> Table {
        let before: Vec<BTreeMap<i64, usize>> = columns
            .iter()
            .map(|timestamps| (0..).zip(timestamps))
            .map(|samples| samples.map(|(sample, at)| (*at, sample)).collect())
            .collect();
        let times: BTreeSet<i64> = columns.iter().flatten().copied().collect();
        times
            .into_iter()
            .filter(|time| until.is_none_or(|until| *time < until))
            .filter_map(|time| {
                let latest = before.iter().map(|samples| samples.range(..=time).last());
                let samples = latest.map(|latest| latest.map(|(_, sample)| *sample));
                Some((time, samples.collect::<Option<_>>()?))
            })
            .collect()
    }

    fn timestamps() -> impl Strategy<Value = Vec<i64>> {
        let ends = prop::sample::select(vec![i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX]);
        let timestamp = prop_oneof![9 => 0..30_i64, 1 => ends];
        prop::collection::vec(timestamp, 0..30).prop_map(|mut timestamps| {
            timestamps.sort_unstable();
            timestamps
        })
    }

    proptest! {
        #[test]
        fn rows_are_what_their_definition_says(
            columns in prop::collection::vec(timestamps(), 1..5),
            until in prop::option::of(prop_oneof![0..30_i64, Just(i64::MIN), Just(i64::MAX)]),
            most in 1..40_usize,
        ) {
            prop_assert_eq!(made(&columns, until, most), defined(&columns, until));
        }

        #[test]
        fn columns_that_are_alike_for_a_while_make_the_same_rows(
            shared in timestamps(),
            more in prop::collection::vec(0..3_usize, 1..4),
            most in 1..10_usize,
        ) {
            let columns: Vec<Vec<i64>> = more
                .iter()
                .map(|more| {
                    let last = shared.last().copied().unwrap_or_default();
                    let repeated = std::iter::repeat_n(last, *more);
                    shared.iter().copied().chain(repeated).collect()
                })
                .collect();
            prop_assert_eq!(made(&columns, None, most), defined(&columns, None));
        }
    }
}
