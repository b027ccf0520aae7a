//! `Expression`: compiled reparse expressions; `Computation`: values of pathpoints that have one.

use std::cell::RefCell;
use std::sync::Arc;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyList, PyString, PyTuple, PyType};
use smok_core::buffer;
use smok_core::clock;
use smok_core::pathpoint::Kind;
use smok_core::reparse::{
    Budget, Column, Entry, EvaluationError, Failure, Operand, Outcome, Piece, Program, Results,
    Series, SeriesError, SeriesEvaluator, Stack, Values,
};
use smok_core::value::Reading;

use crate::numbers::{Numbers, Stream};
use crate::pathpoint::PathpointCore;
use crate::{errors, value};

/// What an evaluation needs, kept for the next one on the same thread.
#[derive(Default)]
struct Scratch {
    variables: Vec<Operand>,
    stack: Stack,
    budget: Budget,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn with_scratch<R>(action: impl FnOnce(&mut Scratch) -> R) -> R {
    SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut scratch) => action(&mut scratch),
        // Within another evaluation, which has asked for a value that is computed, too.
        Err(_) => action(&mut Scratch::default()),
    })
}

/// A reparse expression, compiled.
///
/// The language is that of Python's expressions over int, float and str, and so are the results:
/// see :mod:`smok_fast.sensor.reparse`. Immutable; every method may be called by any thread.
///
/// :param text: the expression, without the ``r`` and the type letter of a pathpoint's name
/// :raises ReparseSyntaxError: the text is no expression of this language, is longer than 4096
///     bytes or nested too deeply
#[pyclass(frozen, module = "smok_fast._core")]
pub struct Expression {
    program: Arc<Program>,
    variables: Py<PyTuple>,
}

#[pymethods]
impl Expression {
    #[new]
    fn new(py: Python<'_>, text: &str) -> PyResult<Self> {
        let program =
            Program::parse(text).map_err(|error| errors::reparse_syntax(py, text, &error))?;
        let variables = PyTuple::new(py, program.variables())?.unbind();
        Ok(Expression {
            program: Arc::new(program),
            variables,
        })
    }

    /// The text of the expression.
    #[getter]
    fn text(&self) -> &str {
        self.program.source()
    }

    /// The names of the pathpoints that it reads, each once, in the order in which values are
    /// given.
    #[getter]
    fn variables<'py>(&self, py: Python<'py>) -> Bound<'py, PyTuple> {
        self.variables.bind(py).clone()
    }

    /// The value of the expression, as Python would compute it.
    ///
    /// :param values: int, float, str or bool for each variable, in their order
    /// :raises ReparseError: there is no value: a division by zero, wrong types, an integer that
    ///     does not fit 64 bits; the message is Python's
    /// :raises TypeError: too few or too many values, or of other types
    #[pyo3(signature = (values, /))]
    fn evaluate<'py>(&self, values: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.run_sequence(values, None)
    }

    /// The value of the expression as a pathpoint has it: made a value of its type, and 16-bit
    /// integers are clipped to their range.
    ///
    /// :param name: the pathpoint's name, which declares the type
    /// :param values: int, float, str or bool for each variable, in their order
    /// :raises ReparseError: there is no value, or none of this type
    /// :raises TypeError: too few or too many values, or of other types
    /// :raises ValueError: the name declares no type
    #[pyo3(signature = (name, values, /))]
    fn evaluate_as<'py>(
        &self,
        name: &str,
        values: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.run_sequence(values, Some(kind_of(name)?))
    }

    /// The same as ``evaluate(values)``, with the values as arguments.
    #[pyo3(signature = (*values))]
    fn __call__<'py>(&self, values: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.run(values, None)
    }

    /// The values of the expression over time.
    ///
    /// There is one at each timestamp of any variable, once all variables have a sample, with the
    /// latest sample of the others at that time. Where a read failed, so did the expression. The
    /// texts among the results are 64 MiB at most: those that follow are failures.
    ///
    /// :param columns: for each variable, in their order, a pair of timestamps (milliseconds since
    ///     the epoch, not falling) and as many values; timestamps as a buffer of format ``q``, such
    ///     as ``array.array("q")``, or as a sequence of int; values as a buffer of format ``q`` or
    ///     ``d``, or as a sequence of int, float, str, bool or OperationFailedError. Buffers are read
    ///     bit by bit and must not change meanwhile; other threads run during that time
    /// :param letter: a pathpoint's type letter, for results that are values of that type, as
    ///     :func:`smok_fast.pathpoint.to_type` makes them
    /// :return: timestamps and as many results: a memoryview where all are int or all are float,
    ///     else a list of int, float, str, bool, OperationFailedError (a failed read) or
    ///     ReparseError
    /// :raises ValueError: the letter declares no type; there is not one column for each variable;
    ///     or a column is not as long as its timestamps, or they fall
    /// :raises TypeError: something else is in the columns
    #[pyo3(signature = (columns, letter = None))]
    fn evaluate_series<'py>(
        &self,
        py: Python<'py>,
        columns: Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
        letter: Option<char>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let kind = letter
            .map(|letter| {
                Kind::from_letter(letter)
                    .ok_or_else(|| PyValueError::new_err(format!("{letter:?} is no type letter")))
            })
            .transpose()?;
        let mut columns: Vec<Samples<'py>> = columns
            .into_iter()
            .map(|(timestamps, values)| Samples::read(&timestamps, &values))
            .collect::<PyResult<_>>()?;
        let series = self.evaluate_columns(py, &mut columns, kind)?;
        let results = match series.results {
            Results::Ints(ints) => Numbers::from(ints).view(py)?,
            Results::Floats(floats) => Numbers::from(floats).view(py)?,
            Results::Mixed(outcomes) => {
                let list = PyList::empty(py);
                for (outcome, timestamp) in outcomes.iter().zip(&series.timestamps) {
                    list.append(outcome_to_python(py, outcome, *timestamp)?)?;
                }
                list.into_any()
            }
        };
        Ok((Numbers::from(series.timestamps).view(py)?, results))
    }

    /// The tree that the text was parsed into: one node a line, its operands indented below it.
    fn explain(&self) -> String {
        self.program.explain()
    }

    fn __repr__<'py>(&self, py: Python<'py>) -> PyResult<String> {
        let text = PyString::new(py, self.program.source()).repr()?;
        Ok(format!("Expression({text})"))
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> (Bound<'py, PyType>, (&str,)) {
        (py.get_type::<Expression>(), (self.program.source(),))
    }
}

impl Expression {
    fn evaluate_columns(
        &self,
        py: Python<'_>,
        columns: &mut [Samples<'_>],
        kind: Option<Kind>,
    ) -> PyResult<Series> {
        let refused = |error: SeriesError| PyValueError::new_err(error.to_string());
        let lengths = columns.iter().map(Samples::lengths);
        let mut evaluator = SeriesEvaluator::new(&self.program, kind, lengths).map_err(refused)?;
        let mut done = vec![0; columns.len()];
        loop {
            for (samples, done) in columns.iter_mut().zip(done) {
                samples.advance(done)?;
            }
            let pieces: Vec<Piece<'_>> = columns.iter().map(Samples::piece).collect();
            done = py.detach(|| evaluator.advance(&pieces)).map_err(refused)?;
            if pieces.iter().all(|piece| piece.complete) {
                return Ok(evaluator.finish());
            }
        }
    }

    #[inline]
    fn run_sequence<'py>(
        &self,
        values: &Bound<'py, PyAny>,
        kind: Option<Kind>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(tuple) = values.cast_exact::<PyTuple>() {
            return self.run(tuple, kind);
        }
        let tuple = values.py().get_type::<PyTuple>().call1((values,))?;
        self.run(&tuple.cast_into()?, kind)
    }

    fn run<'py>(
        &self,
        values: &Bound<'py, PyTuple>,
        kind: Option<Kind>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = values.py();
        let expected = self.program.variables().len();
        if values.len() != expected {
            let given = values.len();
            let message =
                format!("the expression has {expected} variables, {given} values were given");
            return Err(PyTypeError::new_err(message));
        }
        let result = with_scratch(
            |Scratch {
                 variables, stack, ..
             }| {
                variables.clear();
                for value in values.iter_borrowed() {
                    add_plain(&value, variables)?;
                }
                Some(self.compute(py, kind, variables, stack))
            },
        );
        let result = match result {
            Some(result) => result,
            None => {
                let variables: Vec<Operand> = values
                    .iter()
                    .map(|value| operand(&value))
                    .collect::<PyResult<_>>()?;
                self.compute(py, kind, &variables, &mut Stack::default())
            }
        };
        result.unwrap_or_else(|error| Err(errors::reparse(py, &error, None)))
    }

    /// The result as an object. It becomes one at once, because an operand that is moved right
    /// after it was written was measured to cost as much as the evaluation; exceptions are for
    /// later, when nothing is borrowed.
    #[inline]
    fn compute<'py>(
        &self,
        py: Python<'py>,
        kind: Option<Kind>,
        variables: &[Operand],
        stack: &mut Stack,
    ) -> Result<PyResult<Bound<'py, PyAny>>, EvaluationError> {
        if let Some(kind) = kind {
            let result = self.program.evaluate_as(kind, variables, stack);
            return result.map(|result| to_python(py, &result));
        }
        match self.program.evaluate(variables, stack) {
            Ok(ref result) => Ok(to_python(py, result)),
            Err(error) => Err(error),
        }
    }
}

/// The present value of a reparse pathpoint: an expression over the latest values of others.
///
/// Values of native pathpoints are taken from their series, and those of reparse pathpoints are
/// computed, without a Python object in between; together they handle as much text as one expression
/// may. May be called by any thread.
///
/// :param expression: the expression
/// :param name: name of the reparse pathpoint, which declares the type of its values
/// :param pathpoints: the pathpoints of the expression's variables, in their order
/// :raises ValueError: the name declares no type, or there are too few or too many pathpoints
#[pyclass(frozen, module = "smok_fast._core")]
pub struct Computation {
    program: Arc<Program>,
    kind: Kind,
    constituents: Vec<Constituent>,
}

enum Constituent {
    Native(Arc<buffer::Series>),
    /// One that is computed from others.
    Computed(Py<Computation>),
    /// One that has a way of its own to give its value.
    Other(Py<PyAny>),
}

#[pymethods]
impl Computation {
    #[new]
    fn new(
        expression: &Bound<'_, Expression>,
        name: &str,
        pathpoints: Vec<Bound<'_, PathpointCore>>,
    ) -> PyResult<Self> {
        let program = Arc::clone(&expression.get().program);
        let kind = kind_of(name)?;
        if pathpoints.len() != program.variables().len() {
            return Err(PyValueError::new_err(
                "one pathpoint for each variable is needed",
            ));
        }
        let constituents = pathpoints
            .into_iter()
            .map(Constituent::of)
            .collect::<PyResult<_>>()?;
        Ok(Computation {
            program,
            kind,
            constituents,
        })
    }

    /// Compute the value.
    ///
    /// :return: the newest constituent's timestamp in milliseconds since the epoch (now if there
    ///     are none), and the value
    /// :raises NotReadedError: a constituent has not been read yet
    /// :raises OperationFailedError: a constituent's last read failed
    /// :raises ReparseError: the expression has no value for these
    /// :raises TypeError: the ``get`` of a user's class gives something else than milliseconds and a
    ///     value
    /// :raises ValueError: it gives milliseconds out of bounds, or more or less than these two
    pub fn compute<'py>(&self, py: Python<'py>) -> PyResult<(i64, Bound<'py, PyAny>)> {
        with_scratch(|scratch| self.compute_with(py, scratch))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for constituent in &self.constituents {
            match constituent {
                Constituent::Native(_) => {}
                Constituent::Computed(computation) => visit.call(computation)?,
                Constituent::Other(pathpoint) => visit.call(pathpoint)?,
            }
        }
        Ok(())
    }
}

impl Computation {
    fn compute_with<'py>(
        &self,
        py: Python<'py>,
        scratch: &mut Scratch,
    ) -> PyResult<(i64, Bound<'py, PyAny>)> {
        scratch.variables.clear();
        scratch.budget = Budget::default();
        let timestamp = self.add_constituents(py, scratch)?;
        match self.evaluate(0, scratch) {
            Ok(value) => Ok((timestamp, to_python(py, &value)?)),
            Err(error) => Err(errors::reparse(py, &error, Some(timestamp))),
        }
    }

    /// The same as a part of another one: adds the value to the variables, and gives its timestamp.
    fn add_latest(&self, py: Python<'_>, scratch: &mut Scratch) -> PyResult<i64> {
        let start = scratch.variables.len();
        let timestamp = self.add_constituents(py, scratch)?;
        let value = self
            .evaluate(start, scratch)
            .map_err(|error| errors::reparse(py, &error, Some(timestamp)))?;
        scratch.variables.truncate(start);
        scratch.variables.push(value);
        Ok(timestamp)
    }

    /// Adds the latest values of the constituents to the variables, and gives the newest timestamp.
    #[inline]
    fn add_constituents(&self, py: Python<'_>, scratch: &mut Scratch) -> PyResult<i64> {
        let mut newest = None;
        for constituent in &self.constituents {
            let timestamp = constituent.add_latest(py, scratch)?;
            newest = newest.max(Some(timestamp));
        }
        Ok(newest.unwrap_or_else(|| clock::now().wall))
    }

    /// The value for the constituents, which are the variables from `start` on.
    #[inline]
    fn evaluate(&self, start: usize, scratch: &mut Scratch) -> Result<Operand, EvaluationError> {
        let constituents = scratch.variables.get(start..).unwrap_or_default();
        let (budget, stack) = (&mut scratch.budget, &mut scratch.stack);
        self.program
            .evaluate_within(budget, self.kind, constituents, stack)
    }
}

impl Constituent {
    fn of(pathpoint: Bound<'_, PathpointCore>) -> PyResult<Self> {
        let py = pathpoint.py();
        let get = intern!(py, "get");
        let own = pathpoint.get_type().getattr(get)?;
        if own.is(&py.get_type::<PathpointCore>().getattr(get)?) {
            if let Some(computation) = pathpoint.get().computation() {
                return Ok(Constituent::Computed(computation.clone_ref(py)));
            }
            if let Ok(series) = pathpoint.get().series(py) {
                return Ok(Constituent::Native(Arc::clone(series)));
            }
        }
        Ok(Constituent::Other(pathpoint.into_any().unbind()))
    }

    /// Adds the latest value to the variables, and gives its timestamp.
    #[inline]
    fn add_latest(&self, py: Python<'_>, scratch: &mut Scratch) -> PyResult<i64> {
        let variables = &mut scratch.variables;
        match self {
            Constituent::Native(series) => {
                let latest = series.look_at_latest(|sample| match &sample.reading {
                    Reading::Value(value) => {
                        variables.push(Operand::from(value));
                        Ok(sample.timestamp)
                    }
                    Reading::Failed(reason) => Err((*reason, sample.timestamp)),
                });
                match latest {
                    Some(Ok(timestamp)) => Ok(timestamp),
                    Some(Err((reason, timestamp))) => {
                        let failure = errors::failure(py, reason, timestamp)?;
                        Err(PyErr::from_value(failure))
                    }
                    None => Err(errors::not_read(py)),
                }
            }
            Constituent::Computed(computation) => computation.get().add_latest(py, scratch),
            Constituent::Other(pathpoint) => {
                let latest = pathpoint.call_method0(py, intern!(py, "get"))?;
                let (timestamp, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) =
                    latest.extract(py)?;
                if errors::is_failure(&value)? {
                    return Err(PyErr::from_value(value));
                }
                variables.push(operand(&value)?);
                value::timestamp(&timestamp)
            }
        }
    }
}

fn kind_of(name: &str) -> PyResult<Kind> {
    Kind::of_name(name).ok_or_else(|| PyValueError::new_err(format!("{name:?} declares no type")))
}

/// Adds a float or an int of exactly these types, so that no code of theirs runs meanwhile.
#[inline]
fn add_plain(object: &Bound<'_, PyAny>, operands: &mut Vec<Operand>) -> Option<()> {
    if let Ok(float) = object.cast_exact::<PyFloat>() {
        operands.push(Operand::Float(float.value()));
    } else {
        let int: i64 = object.cast_exact::<PyInt>().ok()?.extract().ok()?;
        operands.push(Operand::Int(int.into()));
    }
    Some(())
}

/// Reads a number or a text.
fn operand(object: &Bound<'_, PyAny>) -> PyResult<Operand> {
    known(object).ok_or_else(|| not_a_value(object))
}

fn known(object: &Bound<'_, PyAny>) -> Option<Operand> {
    match object.cast::<PyBool>() {
        Ok(bool) => Some(Operand::Bool(bool.is_true())),
        Err(_) => value::value(object).map(|value| Operand::from(&value)),
    }
}

fn not_a_value(object: &Bound<'_, PyAny>) -> PyErr {
    let name = object.get_type().name();
    let name = name.map_or_else(|_| "this".into(), |name| name.to_string());
    let name = match name.as_str() {
        "int" => "an int beyond 64 bits",
        "str" => "a str with lone surrogates",
        name => name,
    };
    PyTypeError::new_err(format!(
        "an expression takes int (64 bits), float, str or bool, not {name}"
    ))
}

#[inline]
fn to_python<'py>(py: Python<'py>, operand: &Operand) -> PyResult<Bound<'py, PyAny>> {
    Ok(match operand {
        Operand::Float(float) => PyFloat::new(py, *float).into_any(),
        Operand::Int(int) => match i64::try_from(*int) {
            Ok(int) => int.into_pyobject(py)?.into_any(),
            Err(_) => int.into_pyobject(py)?.into_any(),
        },
        Operand::Bool(bool) => PyBool::new(py, *bool).to_owned().into_any(),
        Operand::Text(text) => PyString::new(py, text).into_any(),
    })
}

/// A result, or the exception that stands for it.
fn outcome_to_python<'py>(
    py: Python<'py>,
    outcome: &Outcome,
    timestamp: i64,
) -> PyResult<Bound<'py, PyAny>> {
    match outcome {
        Ok(operand) => to_python(py, operand),
        Err(Failure::Read(reason)) => errors::failure(py, *reason, timestamp),
        Err(Failure::Evaluation(error)) => errors::reparse_failure(py, error, Some(timestamp)),
    }
}

/// The samples of one variable. If there are as many timestamps as values, so there are in each
/// piece.
struct Samples<'py> {
    timestamps: Stream<'py, i64>,
    values: ValueStream<'py>,
}

enum ValueStream<'py> {
    Ints(Stream<'py, i64>),
    Floats(Stream<'py, f64>),
    Entries(Stream<'py, Entry>),
}

impl<'py> Samples<'py> {
    fn read(timestamps: &Bound<'py, PyAny>, values: &Bound<'py, PyAny>) -> PyResult<Self> {
        let timestamps = match Stream::of_buffer(timestamps)? {
            Some(timestamps) => timestamps,
            None => Stream::from(timestamps.extract::<Vec<i64>>()?),
        };
        let values = if let Some(floats) = Stream::of_buffer(values)? {
            ValueStream::Floats(floats)
        } else if let Some(ints) = Stream::of_buffer(values)? {
            ValueStream::Ints(ints)
        } else {
            let entries = values.try_iter()?.map(|object| entry(&object?));
            ValueStream::Entries(entries.collect::<PyResult<Vec<_>>>()?.into())
        };
        Ok(Samples { timestamps, values })
    }

    /// How many timestamps and how many values there are in all.
    fn lengths(&self) -> (usize, usize) {
        let values = match &self.values {
            ValueStream::Ints(ints) => ints.len(),
            ValueStream::Floats(floats) => floats.len(),
            ValueStream::Entries(entries) => entries.len(),
        };
        (self.timestamps.len(), values)
    }

    fn advance(&mut self, done: usize) -> PyResult<()> {
        self.timestamps.advance(done)?;
        match &mut self.values {
            ValueStream::Ints(ints) => ints.advance(done),
            ValueStream::Floats(floats) => floats.advance(done),
            ValueStream::Entries(entries) => entries.advance(done),
        }
    }

    fn piece(&self) -> Piece<'_> {
        let values = match &self.values {
            ValueStream::Ints(ints) => Values::Ints(ints.piece()),
            ValueStream::Floats(floats) => Values::Floats(floats.piece()),
            ValueStream::Entries(entries) => Values::Entries(entries.piece()),
        };
        let samples = Column {
            timestamps: self.timestamps.piece(),
            values,
        };
        Piece {
            samples,
            complete: self.timestamps.is_complete(),
        }
    }
}

fn entry(object: &Bound<'_, PyAny>) -> PyResult<Entry> {
    if let Some(operand) = known(object) {
        return Ok(Ok(operand));
    }
    match errors::reason_of(object)? {
        Some(reason) => Ok(Err(reason)),
        None => Err(not_a_value(object)),
    }
}
