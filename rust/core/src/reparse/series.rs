//! Evaluates a program over time series.
//!
//! The samples are joined into [`rows`](super::rows), and these are evaluated in [`columns`](super::columns), a batch at a
//! time; what the columns cannot settle (text, wide integers, errors) is evaluated by itself, so every row is what
//! [`Program::evaluate`] gives for it. If a read failed, so did the row.
//!
//! Samples may come in pieces. A row is made once no later sample can belong to it: before the last timestamp of each piece
//! that more samples follow. What is kept of a piece begins with the latest sample that the next rows can take, so that they
//! begin where these ended and nothing else has to be remembered.

use super::columns::{self, Lane};
use super::error::{EvaluationError, Failure, invalid};
use super::evaluate::Stack;
use super::operand::Operand;
use super::program::Program;
use super::rows::Rows;
use super::samples::{Column, Piece};
use crate::pathpoint::Kind;

/// Most rows evaluated together: few enough that the columns in use stay in the fastest cache.
const BATCH: usize = 1024;

/// Most cells held at once, which makes batches of expressions with many operands smaller.
const CELLS: usize = 65_536;

/// Most bytes of text in the results of a series; the texts after these are failures.
const MAX_SERIES_TEXT: usize = 64 * 1024 * 1024;

/// The result of one row.
pub type Outcome = Result<Operand, Failure>;

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
        let lengths = columns
            .iter()
            .map(|column| (column.timestamps.len(), column.values.len()));
        let mut evaluator = SeriesEvaluator::new(self, kind, lengths)?;
        let pieces = columns.iter().map(|column| Piece {
            samples: *column,
            complete: true,
        });
        evaluator.advance(&pieces.collect::<Vec<_>>())?;
        Ok(evaluator.finish())
    }
}

/// Evaluates a program over samples that come in pieces, so that not all have to be at hand at once.
pub struct SeriesEvaluator<'a> {
    program: &'a Program,
    kind: Option<Kind>,
    /// How many columns there are.
    columns: usize,
    /// For how many rows to reserve memory.
    expected: usize,
    /// How many bytes of text there are among the results.
    text: usize,
    series: Series,
}

impl<'a> SeriesEvaluator<'a> {
    /// Begins a series; the results become values of a pathpoint's type if one is given. `lengths` are how many timestamps
    /// and how many values each column has in all.
    ///
    /// # Errors
    ///
    /// [`SeriesError`] when the columns do not fit the program.
    pub fn new(
        program: &'a Program,
        kind: Option<Kind>,
        lengths: impl ExactSizeIterator<Item = (usize, usize)>,
    ) -> Result<Self, SeriesError> {
        let (expected, columns) = (program.variables().len(), lengths.len());
        if expected != columns {
            return Err(SeriesError::ColumnCount {
                expected,
                given: columns,
            });
        }
        let (mut sum, mut longest) = (0_usize, 0);
        for (column, (timestamps, values)) in lengths.enumerate() {
            check_length(column, timestamps, values)?;
            sum = sum.saturating_add(timestamps);
            longest = timestamps.max(longest);
        }
        Ok(Self {
            program,
            kind,
            columns,
            // As many as there are when two columns never coincide.
            expected: sum.min(longest.saturating_mul(2)),
            text: 0,
            series: Series::default(),
        })
    }

    /// Adds the rows that no later sample can change. The next pieces have to begin with what is still needed of these.
    ///
    /// Returns how many samples of each piece are not needed any more. That is all but one of at least one of the incomplete
    /// pieces; when there is none, all rows have been made.
    ///
    /// # Errors
    ///
    /// [`SeriesError`] when the pieces do not fit the program, or their timestamps are out of order.
    pub fn advance(&mut self, pieces: &[Piece<'_>]) -> Result<Vec<usize>, SeriesError> {
        let columns: Vec<Column<'_>> = pieces.iter().map(|piece| piece.samples).collect();
        self.check(&columns)?;
        let incomplete = pieces.iter().filter(|piece| !piece.complete);
        let until = incomplete
            .map(|piece| piece.samples.timestamps.last().copied().unwrap_or(i64::MIN))
            .min();
        if let Some(rows) = Rows::new(&columns, until) {
            self.evaluate(&columns, rows);
        }
        let done = columns.iter().map(|column| match until {
            Some(until) => {
                let later = column.timestamps.partition_point(|at| *at <= until);
                later.saturating_sub(1)
            }
            None => column.timestamps.len(),
        });
        Ok(done.collect())
    }

    /// The series, once all rows have been made.
    #[must_use]
    pub fn finish(mut self) -> Series {
        self.series.timestamps.shrink_to_fit();
        self.series.results.shrink_to_fit();
        self.series
    }

    fn check(&self, columns: &[Column<'_>]) -> Result<(), SeriesError> {
        let (expected, given) = (self.columns, columns.len());
        if expected != given {
            return Err(SeriesError::ColumnCount { expected, given });
        }
        for (column, samples) in columns.iter().enumerate() {
            check_length(column, samples.timestamps.len(), samples.values.len())?;
            if !samples.timestamps.is_sorted() {
                return Err(SeriesError::Unsorted { column });
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, columns: &[Column<'_>], mut rows: Rows<'_>) {
        let Series {
            timestamps,
            results,
        } = &mut self.series;
        if timestamps.is_empty() {
            timestamps.reserve(self.expected);
        }
        let mut scalar = Scalar {
            program: self.program,
            kind: self.kind,
            columns,
            variables: Vec::new(),
            stack: Stack::default(),
            text: &mut self.text,
        };
        let depth = columns::depth(&self.program.code).max(columns.len());
        let batch = (CELLS / depth.max(1)).clamp(1, BATCH);
        while rows.next_batch(batch, timestamps) {
            let lane = columns::run(self.program, self.kind, columns, &rows);
            results.extend(lane, &rows, &mut scalar, self.expected);
        }
    }
}

fn check_length(column: usize, timestamps: usize, values: usize) -> Result<(), SeriesError> {
    if timestamps == values {
        return Ok(());
    }
    Err(SeriesError::Length {
        column,
        timestamps,
        values,
    })
}

/// Evaluates single rows.
struct Scalar<'a> {
    program: &'a Program,
    kind: Option<Kind>,
    columns: &'a [Column<'a>],
    variables: Vec<Operand>,
    stack: Stack,
    /// How many bytes of text there were in all rows.
    text: &'a mut usize,
}

impl Scalar<'_> {
    fn row(&mut self, rows: &Rows<'_>, row: usize) -> Outcome {
        self.variables.clear();
        for (column, pick) in self.columns.iter().zip(rows.picks()) {
            self.variables
                .push(column.values.operand(pick.sample(row))?);
        }
        let (variables, stack) = (&self.variables, &mut self.stack);
        let result = match self.kind {
            Some(kind) => self.program.evaluate_as(kind, variables, stack),
            None => self.program.evaluate(variables, stack),
        };
        result
            .and_then(|operand| self.bounded(operand))
            .map_err(Failure::Evaluation)
    }

    fn bounded(&mut self, operand: Operand) -> Result<Operand, EvaluationError> {
        if let Operand::Text(text) = &operand {
            *self.text = self.text.saturating_add(text.len());
            if *self.text > MAX_SERIES_TEXT {
                return Err(invalid(format!(
                    "the texts of the series are more than {MAX_SERIES_TEXT} bytes"
                )));
            }
        }
        Ok(operand)
    }
}

impl Results {
    /// Adds the results of a batch; `expected` is how many there will be.
    fn extend(
        &mut self,
        lane: Lane<'_>,
        rows: &Rows<'_>,
        scalar: &mut Scalar<'_>,
        expected: usize,
    ) {
        if self.is_empty() {
            *self = match lane {
                Lane::Ints(_) => Results::Ints(Vec::with_capacity(expected)),
                Lane::Floats(_) => Results::Floats(Vec::with_capacity(expected)),
                _ => Results::Mixed(Vec::with_capacity(expected)),
            };
        }
        match (&mut *self, lane) {
            (Results::Ints(all), Lane::Ints(ints)) => {
                all.extend_from_slice(&ints.slice(rows.count));
            }
            (Results::Floats(all), Lane::Floats(floats)) => {
                all.extend_from_slice(&floats.slice(rows.count));
            }
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

    fn shrink_to_fit(&mut self) {
        match self {
            Results::Ints(ints) => ints.shrink_to_fit(),
            Results::Floats(floats) => floats.shrink_to_fit(),
            Results::Mixed(outcomes) => outcomes.shrink_to_fit(),
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
    use proptest::prelude::*;

    use super::super::samples::{Entry, Values};
    use super::*;
    use crate::value::Reason;

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
        let entries = [Err(Reason::Timeout), Ok(Operand::Int(1))];
        let columns = [
            Column {
                timestamps: &[1, 2],
                values: Values::Entries(&entries),
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

    /// Evaluates the columns with pieces of no more than so many samples.
    fn in_pieces(program: &Program, columns: &[Column<'_>], most: usize) -> Series {
        let lengths = columns
            .iter()
            .map(|column| (column.timestamps.len(), column.values.len()));
        let mut evaluator = SeriesEvaluator::new(program, None, lengths).unwrap();
        let mut begins = vec![0; columns.len()];
        loop {
            let pieces: Vec<Piece<'_>> = columns
                .iter()
                .zip(&begins)
                .map(|(column, &begin)| {
                    let end = column.timestamps.len().min(begin + most);
                    let values = match column.values {
                        Values::Ints(ints) => Values::Ints(&ints[begin..end]),
                        Values::Floats(floats) => Values::Floats(&floats[begin..end]),
                        Values::Entries(entries) => Values::Entries(&entries[begin..end]),
                    };
                    let samples = Column {
                        timestamps: &column.timestamps[begin..end],
                        values,
                    };
                    let complete = end == column.timestamps.len();
                    Piece { samples, complete }
                })
                .collect();
            let done = evaluator.advance(&pieces).unwrap();
            if pieces.iter().all(|piece| piece.complete) {
                return evaluator.finish();
            }
            let moved = pieces
                .iter()
                .zip(&done)
                .any(|(piece, &done)| !piece.complete && done + 1 == piece.samples.values.len());
            assert!(moved, "{pieces:?} {done:?}");
            for (begin, done) in begins.iter_mut().zip(done) {
                *begin += done;
            }
        }
    }

    fn timestamps() -> impl Strategy<Value = Vec<i64>> {
        prop::collection::vec(0..60_i64, 0..40).prop_map(|mut timestamps| {
            timestamps.sort_unstable();
            timestamps
        })
    }

    proptest! {
        #[test]
        fn pieces_make_the_same_series_as_the_whole(
            timestamps in prop::collection::vec(timestamps(), 3),
            most in 2..20_usize,
        ) {
            let [first, second, third] = timestamps.as_slice() else { unreachable!() };
            let ints: Vec<i64> = (1..).take(first.len()).collect();
            let floats: Vec<f64> = (1..).take(second.len()).map(|int: i32| int.into()).collect();
            let entries: Vec<Entry> = (1..)
                .take(third.len())
                .map(|int| match int % 10 {
                    0 => Err(Reason::Timeout),
                    1 => Ok(Operand::Text("text".into())),
                    2 => Ok(Operand::Bool(true)),
                    _ => Ok(Operand::Int(int)),
                })
                .collect();
            let columns = [
                Column { timestamps: first, values: Values::Ints(&ints) },
                Column { timestamps: second, values: Values::Floats(&floats) },
                Column { timestamps: third, values: Values::Entries(&entries) },
            ];
            for (text, count) in [("{a}*1000", 1), ("{a}*1000+{b}", 2), ("{a}*1000+{b}/{c}", 3)] {
                let program = Program::parse(text).unwrap();
                let whole = program.evaluate_series(&columns[..count], None).unwrap();
                prop_assert_eq!(in_pieces(&program, &columns[..count], most), whole);
            }
        }
    }

    #[test]
    fn pieces_have_to_fit() {
        let program = Program::parse("{a}").unwrap();
        let piece = |timestamps: &'static [i64], complete| Piece {
            samples: Column {
                timestamps,
                values: Values::Ints(&[0, 0]),
            },
            complete,
        };
        let new = |lengths: &[(usize, usize)]| {
            SeriesEvaluator::new(&program, None, lengths.iter().copied())
        };
        assert!(matches!(
            new(&[(2, 2), (2, 2)]),
            Err(SeriesError::ColumnCount { .. })
        ));
        assert!(matches!(new(&[(2, 1)]), Err(SeriesError::Length { .. })));
        let mut evaluator = new(&[(3, 3)]).unwrap();
        assert_eq!(evaluator.advance(&[piece(&[1, 5], false)]), Ok(vec![1]));
        let falling = evaluator.advance(&[piece(&[5, 4], true)]);
        assert_eq!(falling, Err(SeriesError::Unsorted { column: 0 }));
        let short = evaluator.advance(&[piece(&[5], true)]);
        assert!(matches!(short, Err(SeriesError::Length { .. })));
    }
}
