//! Evaluates a program over time series.
//!
//! The rows of the result: each timestamp at which any pathpoint has a sample, once all pathpoints have one, with the
//! latest sample of each at that time. Of samples with the same timestamp the last one counts. Rows are evaluated in
//! [`columns`](super::columns), a batch at a time; what the columns cannot settle (text, wide integers, errors) is evaluated
//! by itself, so every row is what [`Program::evaluate`] gives for it. If a read failed, so did the row.

use super::columns::{self, Lane};
use super::error::EvaluationError;
use super::evaluate::Stack;
use super::operand::Operand;
use super::program::Program;
use crate::pathpoint::Kind;
use crate::value::{Reading, Reason};

/// Most rows evaluated together: few enough that the columns in use stay in the fastest cache.
const BATCH: usize = 1024;

/// Most cells held at once, which makes batches of expressions with many operands smaller.
const CELLS: usize = 65_536;

/// The samples of one pathpoint. The timestamps never fall; there are as many as values.
#[derive(Clone, Copy, Debug)]
pub struct Column<'a> {
    /// When the samples were taken, in milliseconds since the epoch.
    pub timestamps: &'a [i64],
    /// What was read.
    pub values: Values<'a>,
}

/// The values of a column.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// All are integers.
    Ints(&'a [i64]),
    /// All are floats.
    Floats(&'a [f64]),
    /// Anything.
    Readings(&'a [Reading]),
}

impl Values<'_> {
    fn len(&self) -> usize {
        match self {
            Values::Ints(ints) => ints.len(),
            Values::Floats(floats) => floats.len(),
            Values::Readings(readings) => readings.len(),
        }
    }

    fn operand(&self, index: usize) -> Result<Operand, Failure> {
        let missing = || Failure::Read(Reason::Invalid);
        match self {
            Values::Ints(ints) => ints.get(index).map(|int| Operand::Int((*int).into())),
            Values::Floats(floats) => floats.get(index).map(|float| Operand::Float(*float)),
            Values::Readings(readings) => match readings.get(index) {
                Some(Reading::Failed(reason)) => return Err(Failure::Read(*reason)),
                Some(Reading::Value(value)) => Some(value.into()),
                None => None,
            },
        }
        .ok_or_else(missing)
    }
}

/// The result of one row.
pub type Outcome = Result<Operand, Failure>;

/// Why a row has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A pathpoint could not be read.
    Read(Reason),
    /// The expression has no value for what was read.
    Evaluation(EvaluationError),
}

impl Failure {
    /// The reason that the server is told.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Failure::Read(reason) => *reason,
            Failure::Evaluation(error) => error.reason(),
        }
    }
}

/// A time series of results.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Milliseconds since the epoch, rising.
    pub timestamps: Vec<i64>,
    /// One result per timestamp.
    pub results: Results,
}

/// The results of a series: numbers of one type, or anything.
#[derive(Clone, Debug, PartialEq)]
pub enum Results {
    /// All are integers.
    Ints(Vec<i64>),
    /// All are floats.
    Floats(Vec<f64>),
    /// Anything.
    Mixed(Vec<Outcome>),
}

impl Default for Results {
    fn default() -> Self {
        Results::Ints(Vec::new())
    }
}

/// The columns do not fit the program or themselves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeriesError {
    /// There have to be as many columns as variables.
    #[error("the expression has {expected} variables, {given} columns were given")]
    ColumnCount {
        /// How many variables the program has.
        expected: usize,
        /// How many columns there are.
        given: usize,
    },
    /// There have to be as many values as timestamps.
    #[error("column {column} has {timestamps} timestamps and {values} values")]
    Length {
        /// Which column.
        column: usize,
        /// How many timestamps it has.
        timestamps: usize,
        /// How many values it has.
        values: usize,
    },
    /// Timestamps must not fall.
    #[error("the timestamps of column {column} fall")]
    Unsorted {
        /// Which column.
        column: usize,
    },
}

impl Program {
    /// The results over time, made values of a pathpoint's type if one is given. A program without variables has none.
    ///
    /// # Errors
    ///
    /// [`SeriesError`] when the columns do not fit the program, or their timestamps are out of order.
    pub fn evaluate_series(
        &self,
        columns: &[Column<'_>],
        kind: Option<Kind>,
    ) -> Result<Series, SeriesError> {
        check(self, columns)?;
        let mut series = Series::default();
        let Some(mut rows) = Rows::new(columns) else {
            return Ok(series);
        };
        series.timestamps.reserve(rows.expected());
        let mut scalar = Scalar {
            program: self,
            kind,
            columns,
            variables: Vec::new(),
            stack: Stack::default(),
        };
        let depth = columns::depth(&self.code).max(columns.len());
        let batch = (CELLS / depth.max(1)).clamp(1, BATCH);
        while rows.next_batch(batch, &mut series.timestamps) {
            let lane = columns::run(self, kind, columns, &rows);
            series.results.extend(lane, &rows, &mut scalar);
        }
        Ok(series)
    }
}

fn check(program: &Program, columns: &[Column<'_>]) -> Result<(), SeriesError> {
    let (expected, given) = (program.variables().len(), columns.len());
    if expected != given {
        return Err(SeriesError::ColumnCount { expected, given });
    }
    for (column, samples) in columns.iter().enumerate() {
        let (timestamps, values) = (samples.timestamps.len(), samples.values.len());
        if timestamps != values {
            return Err(SeriesError::Length {
                column,
                timestamps,
                values,
            });
        }
        if !samples.timestamps.is_sorted() {
            return Err(SeriesError::Unsorted { column });
        }
    }
    Ok(())
}

/// Where the rows of a batch find their values.
pub(super) struct Rows<'a> {
    columns: &'a [Column<'a>],
    /// The first sample of each column that is later than the rows so far.
    next: Vec<usize>,
    /// How many rows the batch has.
    pub(super) count: usize,
    /// For each column, the samples of the batch.
    pub(super) picks: Vec<Pick>,
}

/// The samples of one column that the rows of a batch take.
pub(super) enum Pick {
    /// One after the other, beginning with this.
    Run(usize),
    /// These.
    Each(Vec<usize>),
}

impl Pick {
    /// The latest sample at each time; `next` is the first one that is later.
    fn until(column: &Column<'_>, next: &mut usize, times: &[i64]) -> Self {
        let latest = |time: &i64| {
            while column.timestamps.get(*next).is_some_and(|at| at <= time) {
                *next += 1;
            }
            // Every column has a sample by now, so there is one before the next.
            next.saturating_sub(1)
        };
        Pick::Each(times.iter().map(latest).collect())
    }

    /// The sample that a row takes.
    pub(super) fn sample(&self, row: usize) -> usize {
        match self {
            Pick::Run(first) => first + row,
            Pick::Each(samples) => samples.get(row).copied().unwrap_or(usize::MAX),
        }
    }
}

impl<'a> Rows<'a> {
    /// The rows begin when every column has a sample; if one is empty, there are none.
    fn new(columns: &'a [Column<'a>]) -> Option<Self> {
        let firsts = columns.iter().map(|column| column.timestamps.first());
        let start = *firsts.collect::<Option<Vec<_>>>()?.into_iter().max()?;
        let next = columns
            .iter()
            .map(|column| column.timestamps.partition_point(|&at| at < start));
        Some(Self {
            columns,
            next: next.collect(),
            count: 0,
            picks: Vec::new(),
        })
    }

    /// For how many rows to reserve memory: as many as there are when two columns never coincide.
    fn expected(&self) -> usize {
        let lengths = self.columns.iter().map(|column| column.timestamps.len());
        let longest = lengths.clone().max().unwrap_or_default();
        lengths.sum::<usize>().min(2 * longest)
    }

    /// Makes the next batch and adds its timestamps to the series; false when there are no more rows.
    fn next_batch(&mut self, most: usize, timestamps: &mut Vec<i64>) -> bool {
        if let Some(shared) = self.shared(most) {
            self.count = shared.len();
            self.picks = self.next.iter().map(|next| Pick::Run(*next)).collect();
            self.next.iter_mut().for_each(|next| *next += shared.len());
            timestamps.extend_from_slice(shared);
            return true;
        }
        let before = timestamps.len();
        let columns = self.columns.iter().zip(&self.next);
        let mut heads: Vec<&[i64]> = columns
            .map(|(column, next)| column.timestamps.get(*next..).unwrap_or_default())
            .collect();
        while timestamps.len() < before + most {
            let Some(now) = heads.iter().filter_map(|head| head.first()).min() else {
                break;
            };
            for head in &mut heads {
                while let [first, later @ ..] = head
                    && first == now
                {
                    *head = later;
                }
            }
            timestamps.push(*now);
        }
        let times = timestamps.get(before..).unwrap_or_default();
        self.count = times.len();
        let columns = self.columns.iter().zip(&mut self.next);
        self.picks = columns
            .map(|(column, next)| Pick::until(column, next, times))
            .collect();
        self.count > 0
    }

    /// The timestamps of a whole batch, if all columns have the same ones, each once.
    fn shared(&self, count: usize) -> Option<&'a [i64]> {
        let mut batches = self
            .columns
            .iter()
            .zip(&self.next)
            .map(|(column, next)| column.timestamps.get(*next..next.checked_add(count)?));
        let first = batches.next()??;
        let mut pairs = first.iter().zip(first.get(1..)?);
        // A timestamp that follows the batch may repeat its last one.
        let after = self
            .columns
            .iter()
            .zip(&self.next)
            .all(|(column, next)| column.timestamps.get(next + count) != first.last());
        (after && batches.all(|batch| batch == Some(first)) && pairs.all(|(a, b)| a < b))
            .then_some(first)
    }
}

/// Evaluates single rows.
struct Scalar<'a> {
    program: &'a Program,
    kind: Option<Kind>,
    columns: &'a [Column<'a>],
    variables: Vec<Operand>,
    stack: Stack,
}

impl Scalar<'_> {
    fn row(&mut self, rows: &Rows<'_>, row: usize) -> Outcome {
        self.variables.clear();
        for (column, pick) in self.columns.iter().zip(&rows.picks) {
            self.variables
                .push(column.values.operand(pick.sample(row))?);
        }
        let (variables, stack) = (&self.variables, &mut self.stack);
        let result = match self.kind {
            Some(kind) => self.program.evaluate_as(kind, variables, stack),
            None => self.program.evaluate(variables, stack),
        };
        result.map_err(Failure::Evaluation)
    }
}

impl Results {
    /// Adds the results of a batch.
    fn extend(&mut self, lane: Lane<'_>, rows: &Rows<'_>, scalar: &mut Scalar<'_>) {
        if self.is_empty() {
            *self = match lane {
                Lane::Ints(_) => Results::Ints(Vec::with_capacity(rows.expected())),
                Lane::Floats(_) => Results::Floats(Vec::with_capacity(rows.expected())),
                _ => Results::Mixed(Vec::with_capacity(rows.expected())),
            };
        }
        match (&mut *self, lane) {
            (Results::Ints(all), Lane::Ints(ints)) => all.extend_from_slice(&ints),
            (Results::Floats(all), Lane::Floats(floats)) => all.extend_from_slice(&floats),
            (_, lane) => {
                let mut all = std::mem::take(self).into_outcomes();
                all.extend((0..rows.count).map(|row| {
                    lane.word(row)
                        .operand()
                        .map_or_else(|| scalar.row(rows, row), Ok)
                }));
                *self = Results::Mixed(all);
            }
        }
    }

    /// How many results there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Results::Ints(ints) => ints.len(),
            Results::Floats(floats) => floats.len(),
            Results::Mixed(outcomes) => outcomes.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The results one by one.
    #[must_use]
    pub fn into_outcomes(self) -> Vec<Outcome> {
        match self {
            Results::Ints(ints) => ints
                .into_iter()
                .map(|int| Ok(Operand::Int(int.into())))
                .collect(),
            Results::Floats(floats) => floats
                .into_iter()
                .map(|float| Ok(Operand::Float(float)))
                .collect(),
            Results::Mixed(outcomes) => outcomes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    fn evaluate(text: &str, columns: &[Column<'_>]) -> Result<Series, SeriesError> {
        Program::parse(text).unwrap().evaluate_series(columns, None)
    }

    #[test]
    fn batches_join_without_a_seam() {
        for length in [1, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH] {
            let timestamps: Vec<i64> = (0..).take(length).collect();
            // The second pathpoint misses a sample now and then, so that batches of both kinds alternate.
            let sparse: Vec<i64> = timestamps
                .iter()
                .copied()
                .filter(|at| *at == 0 || at % 1500 != 7)
                .collect();
            let columns = [
                Column {
                    timestamps: &timestamps,
                    values: Values::Ints(&timestamps),
                },
                Column {
                    timestamps: &sparse,
                    values: Values::Ints(&sparse),
                },
            ];
            let series = evaluate("{a}*10000+{b}", &columns).unwrap();
            let latest = |at: &i64| {
                if *at != 0 && at % 1500 == 7 {
                    at - 1
                } else {
                    *at
                }
            };
            let expected = timestamps
                .iter()
                .map(|at| at * 10_000 + latest(at))
                .collect();
            assert_eq!(series.timestamps, timestamps);
            assert_eq!(series.results, Results::Ints(expected));
        }
    }

    #[test]
    fn a_failed_read_fails_its_rows_even_where_its_value_is_not_needed() {
        let readings = [
            Reading::Failed(Reason::Timeout),
            Reading::Value(Value::Int(1)),
        ];
        let columns = [
            Column {
                timestamps: &[1, 2],
                values: Values::Readings(&readings),
            },
            Column {
                timestamps: &[1],
                values: Values::Floats(&[0.0]),
            },
        ];
        let series = evaluate("{a} if {b} else 7", &columns).unwrap();
        let expected = vec![Err(Failure::Read(Reason::Timeout)), Ok(Operand::Int(7))];
        assert_eq!(series.results, Results::Mixed(expected));
    }

    #[test]
    fn columns_have_to_fit() {
        let column = Column {
            timestamps: &[2, 1],
            values: Values::Ints(&[0, 0]),
        };
        assert_eq!(
            evaluate("{a}", &[column]),
            Err(SeriesError::Unsorted { column: 0 })
        );
        let column = Column {
            timestamps: &[2],
            values: Values::Ints(&[0, 0]),
        };
        let error = SeriesError::Length {
            column: 0,
            timestamps: 1,
            values: 2,
        };
        assert_eq!(evaluate("{a}", &[column]), Err(error));
        let error = SeriesError::ColumnCount {
            expected: 2,
            given: 1,
        };
        assert_eq!(evaluate("{a}+{b}", &[column]), Err(error));
    }
}
