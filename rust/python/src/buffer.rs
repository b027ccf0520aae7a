//! `Buffer`: the core's buffer.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use smok_core::buffer::{
    Archive, Buffer as Core, DEFAULT_CAPACITY, Event, Level, Options, Policy, Refusal, Series,
    UploadError,
};
use smok_core::pathpoint::Kind;
use smok_core::value::{Reading, Sample, Value};

use crate::inspect::SampleSweep;
use crate::numbers::Numbers;
use crate::queue::duration;
use crate::{errors, value};

/// Body, token, number of samples, whether it is the last try.
type PyUpload<'py> = (Bound<'py, PyBytes>, u64, u64, bool);

/// Names that are longer are no pathpoints'.
const LONGEST_NAME: usize = 16 << 10;

/// Samples from their recording until the server has them. Every method may be called by any
/// thread.
#[pyclass(frozen, module = "smok_fast._core")]
pub struct Buffer {
    pub(crate) core: Arc<Core>,
}

impl Buffer {
    /// The series of a pathpoint with this name.
    pub(crate) fn series(&self, name: &str) -> PyResult<Arc<Series>> {
        let kind = Kind::of_name(name).ok_or_else(|| {
            PyValueError::new_err(format!("pathpoint name {name:?} declares no type"))
        })?;
        if name.len() > LONGEST_NAME {
            return Err(PyValueError::new_err(format!(
                "a pathpoint name of {} bytes is too long",
                name.len()
            )));
        }
        Ok(self.core.series(name, kind))
    }
}

/// Commits after a call that has recorded, if the buffer is to do so. What cannot be written stays
/// in memory, and the buffer's events tell of it.
pub(crate) fn commit_if_each_call(py: Python<'_>, buffer: &Core) {
    if buffer.commits_each_call() {
        let _ = py.detach(|| buffer.flush());
    }
}

#[pymethods]
impl Buffer {
    /// A buffer in memory.
    ///
    /// :param capacity: how many samples are kept at most; with 0, only the latest value of each
    ///     pathpoint is
    #[new]
    #[pyo3(signature = (capacity = DEFAULT_CAPACITY))]
    fn new(capacity: u64) -> Self {
        Buffer {
            core: Arc::new(Core::new(capacity)),
        }
    }

    /// Open the buffer in a folder, or make one.
    ///
    /// :param folder: path of the folder
    /// :param durability: seconds of recording that a power cut may cost; with 0, each call commits
    /// :param segment_bytes: about how long a segment becomes
    /// :param max_bytes: how long all segments may be together
    /// :param reserve_bytes: how many bytes of the disk are left to others
    /// :param trend_for: for how many seconds samples of level TREND are kept once the server has
    ///     them
    /// :param memory_bytes: how many bytes wait in memory while the disk does not work
    /// :param oldest_first: whether the oldest samples are uploaded before fresh ones
    /// :raises BlockingIOError: another process has it open
    #[staticmethod]
    #[allow(clippy::too_many_arguments, clippy::needless_pass_by_value)] // as Python calls it
    #[pyo3(signature = (folder, *, durability, segment_bytes, max_bytes, reserve_bytes, trend_for, memory_bytes, oldest_first))]
    fn open(
        py: Python<'_>,
        folder: PathBuf,
        durability: f64,
        segment_bytes: u64,
        max_bytes: u64,
        reserve_bytes: u64,
        trend_for: f64,
        memory_bytes: usize,
        oldest_first: bool,
    ) -> PyResult<Self> {
        let options = Options {
            durability: duration(durability),
            segment_bytes,
            max_bytes,
            reserve_bytes,
            trend_for: duration(trend_for),
            memory_bytes,
            policy: if oldest_first {
                Policy::OldestFirst
            } else {
                Policy::FreshFirst
            },
            ..Options::default()
        };
        let core = py
            .detach(|| Core::open(&folder, options))
            .map_err(errors::system)?;
        Ok(Buffer {
            core: Arc::new(core),
        })
    }

    /// Look at the buffer in a folder, which somebody else may be writing to; nothing is changed.
    ///
    /// :param folder: path of the folder
    /// :raises OSError: the folder cannot be read
    #[staticmethod]
    #[allow(clippy::needless_pass_by_value)] // PyO3 makes one for the call
    fn look_at(py: Python<'_>, folder: PathBuf) -> PyResult<Self> {
        let core = py
            .detach(|| Core::look_at(&folder))
            .map_err(errors::system)?;
        Ok(Buffer {
            core: Arc::new(core),
        })
    }

    /// Record a sample of a pathpoint.
    ///
    /// :param name: the pathpoint's name
    /// :param timestamp: milliseconds since the epoch
    /// :param reading: a value, or an OperationFailedError
    /// :return: False if the timestamp is not above that of the latest sample: then nothing was
    ///     recorded
    /// :raises ValueError: the name declares no type, or the value is none that the pathpoint can
    ///     hold
    fn record(
        &self,
        py: Python<'_>,
        name: &str,
        timestamp: &Bound<'_, PyAny>,
        reading: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let series = self.series(name)?;
        let value::Given::Reading(given) = value::reading(reading, series.kind())? else {
            return Err(PyValueError::new_err(format!(
                "{name} cannot hold {reading:?}"
            )));
        };
        let recorded = series.record(Sample {
            timestamp: value::timestamp(timestamp)?,
            reading: given,
        });
        commit_if_each_call(py, &self.core);
        Ok(recorded.is_ok())
    }

    /// The latest sample of a pathpoint as (ms, value or OperationFailedError); None before the
    /// first.
    fn latest<'py>(
        &self,
        py: Python<'py>,
        name: &str,
    ) -> PyResult<Option<(i64, Bound<'py, PyAny>)>> {
        let latest = self.core.find(name).and_then(|series| series.latest());
        latest.map(|sample| to_python(py, &sample)).transpose()
    }

    /// How many samples of a pathpoint are known to have been recorded, and how many of them are
    /// done with.
    fn counts(&self, name: &str) -> (u64, u64) {
        self.core
            .find(name)
            .map_or((0, 0), |series| series.counts())
    }

    /// Names of all pathpoints that have samples.
    fn names(&self) -> Vec<String> {
        self.core.names().iter().map(ToString::to_string).collect()
    }

    /// The samples of a pathpoint with start <= timestamp <= stop, in the order of recording.
    ///
    /// :param name: the pathpoint's name
    /// :param start: milliseconds since the epoch, None for the oldest
    /// :param stop: milliseconds since the epoch, None for the newest
    /// :return: an iterator of (ms, value or OperationFailedError)
    #[pyo3(signature = (name, start = None, stop = None))]
    fn range(
        &self,
        name: &str,
        start: Option<&Bound<'_, PyAny>>,
        stop: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<SampleIterator> {
        Ok(SampleIterator {
            state: parking_lot::Mutex::new(State {
                archive: self.archive(name, start, stop)?,
                samples: Vec::new().into_iter(),
            }),
        })
    }

    /// The same as two columns.
    ///
    /// :param name: the pathpoint's name
    /// :param start: milliseconds since the epoch, None for the oldest
    /// :param stop: milliseconds since the epoch, None for the newest
    /// :param exact: rather give a list of values and OperationFailedErrors than a number that stands
    ///     for something else
    /// :return: timestamps and values as buffers of 64-bit integers and of doubles, or of integers
    ///     if all values are; a failed read is NaN. Exact ones that are neither all integers nor all
    ///     floats are a list
    /// :raises TypeError: the pathpoint holds texts, and the columns are not to be exact
    #[pyo3(signature = (name, start = None, stop = None, *, exact = false))]
    fn columns<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        start: Option<&Bound<'_, PyAny>>,
        stop: Option<&Bound<'_, PyAny>>,
        exact: bool,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        if Kind::of_name(name) == Some(Kind::Text) && !exact {
            return Err(PyTypeError::new_err(format!("{name} holds texts")));
        }
        let archive = self.archive(name, start, stop)?;
        let columns = py.detach(|| Columns::of(archive, exact));
        columns.into_python(py)
    }

    /// The samples of many pathpoints with start <= timestamp <= stop, in the order of recording:
    /// everything is read once.
    ///
    /// :param names: names of pathpoints, None for all
    /// :param start: milliseconds since the epoch, None for the oldest
    /// :param stop: milliseconds since the epoch, None for the newest
    /// :return: an iterator of lists of (name, [(ms, value or OperationFailedError), …])
    #[allow(clippy::needless_pass_by_value)] // PyO3 makes one for the call
    #[pyo3(signature = (names = None, start = None, stop = None))]
    fn sweep(
        &self,
        names: Option<Vec<String>>,
        start: Option<&Bound<'_, PyAny>>,
        stop: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<SampleSweep> {
        let (start, stop) = times(start, stop)?;
        let series: Option<Vec<_>> = names.map(|names| {
            let known = names.iter().filter_map(|name| self.core.find(name));
            known.collect()
        });
        let sweep = self.core.sweep(series.as_deref(), start, stop);
        Ok(SampleSweep::new(sweep))
    }

    /// What is kept of each pathpoint, in no order.
    ///
    /// :return: (name, samples kept, samples that the server lacks, timestamp of the first one,
    ///     timestamp of the last one), timestamps in milliseconds since the epoch
    fn survey(&self, py: Python<'_>) -> Vec<(String, u64, u64, i64, i64)> {
        let holdings = py.detach(|| self.core.survey()).into_iter();
        holdings
            .map(|holding| {
                let name = holding.name.to_string();
                let (first, last) = (holding.first, holding.last);
                (name, holding.samples, holding.pending, first, last)
            })
            .collect()
    }

    /// The next upload; the same one again while it is neither acknowledged nor rejected.
    ///
    /// :param max_bytes: about how long the body may be; one sample is sent in any case
    /// :return: (MiniJSON body, token, number of samples, whether it is to be set aside if the
    ///     server rejects it), or None if there is nothing to upload
    /// :raises OSError: what waits cannot be read now
    /// :raises ValueError: a text is longer than MiniJSON can say
    fn next_upload<'py>(
        &self,
        py: Python<'py>,
        max_bytes: usize,
    ) -> PyResult<Option<PyUpload<'py>>> {
        let upload =
            py.detach(|| self.core.next_upload(max_bytes))
                .map_err(|error| match error {
                    UploadError::Encoding(error) => PyValueError::new_err(error.to_string()),
                    UploadError::Unreadable => PyOSError::new_err(error.to_string()),
                })?;
        Ok(upload.map(|upload| {
            let body = PyBytes::new(py, &upload.body);
            (body, upload.token, upload.samples, upload.is_last_try)
        }))
    }

    /// Note that the server has the samples of an upload; durable when it returns.
    ///
    /// :return: False if that upload is not the one that is out
    fn acknowledge(&self, py: Python<'_>, token: u64) -> bool {
        py.detach(|| self.core.acknowledge(token))
    }

    /// Note that the samples of an upload are kept elsewhere since the server rejects them; durable
    /// when it returns.
    ///
    /// :return: False if that upload is not the one that is out
    fn set_aside(&self, py: Python<'_>, token: u64) -> bool {
        py.detach(|| self.core.set_aside(token))
    }

    /// Note that the server does not have the samples of an upload.
    ///
    /// :param rejected: whether it refused the content, so that smaller uploads are to be tried;
    ///     otherwise the same one is tried again
    /// :return: False if that upload is not the one that is out
    #[pyo3(signature = (token, rejected = false))]
    fn refuse(&self, py: Python<'_>, token: u64, rejected: bool) -> bool {
        let refusal = if rejected {
            Refusal::Rejected
        } else {
            Refusal::NotDelivered
        };
        py.detach(|| self.core.refuse(token, refusal))
    }

    /// Wait without the GIL until wake() or, with for_data, until there is something to upload.
    ///
    /// :param timeout: seconds to wait at most
    /// :param for_data: whether data ends the wait
    /// :return: whether there is something to upload
    #[pyo3(signature = (timeout, for_data = true))]
    fn wait(&self, py: Python<'_>, timeout: f64, for_data: bool) -> bool {
        py.detach(|| self.core.wait(duration(timeout), for_data))
    }

    /// End the present wait(), or else the next one.
    fn wake(&self) {
        self.core.wake();
    }

    /// Return once everything that was recorded before is durable.
    ///
    /// :raises OSError: it is not; it stays in memory, and is tried again later
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.core.flush()).map_err(errors::system)
    }

    /// Make durable what is not, end the buffer's thread, and give the folder back.
    ///
    /// :raises OSError: something could not be made durable
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.core.close()).map_err(errors::system)
    }

    /// What happened that people should be told about, since the last call.
    ///
    /// :return: (what, detail): ``failed`` and why, ``recovered``, ``dropping``, ``damaged`` and
    ///     where, ``unreadable`` and why, ``lost`` and how many samples, ``clock`` and by how many
    ///     milliseconds stamps move
    fn take_events(&self) -> Vec<(&'static str, String)> {
        let events = self.core.take_events().into_iter();
        events
            .map(|event| match event {
                Event::Failed(why) => ("failed", why),
                Event::Recovered => ("recovered", String::new()),
                Event::Dropping => ("dropping", String::new()),
                Event::Damaged(segment, bytes) => {
                    ("damaged", format!("{bytes} bytes of {segment}"))
                }
                Event::Unreadable(why) => ("unreadable", why),
                Event::Lost(count) => ("lost", count.to_string()),
                Event::ClockSet(shift) => ("clock", shift.to_string()),
            })
            .collect()
    }

    /// What was found when it was opened: segments, samples, pending, truncated_bytes,
    /// quarantined_bytes, nameless_samples, cursor_damaged_bytes, problems.
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let report = self.core.report();
        let dict = PyDict::new(py);
        dict.set_item("segments", report.segments)?;
        dict.set_item("samples", report.samples)?;
        dict.set_item("pending", report.pending)?;
        dict.set_item("truncated_bytes", report.truncated_bytes)?;
        dict.set_item("quarantined_bytes", report.quarantined_bytes)?;
        dict.set_item("nameless_samples", report.nameless_samples)?;
        dict.set_item("cursor_damaged_bytes", report.cursor_damaged_bytes)?;
        dict.set_item("problems", &report.problems)?;
        Ok(dict)
    }

    /// The figures of the buffer; see smok_fast.extras.BufferStatistics.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let figures = py.detach(|| self.core.statistics());
        let dict = PyDict::new(py);
        for (name, figure) in [
            ("pathpoints", figures.pathpoints),
            ("recorded", figures.recorded),
            ("acknowledged", figures.acknowledged),
            ("pending", figures.pending),
            ("kept", figures.kept),
            ("dropped", figures.dropped),
            ("refused", figures.refused),
            ("volatile", figures.volatile),
            ("segments", figures.segments),
            ("bytes", figures.bytes),
            ("volatile_bytes", figures.volatile_bytes),
            ("written_bytes", figures.written_bytes),
            ("damaged_bytes", figures.damaged_bytes),
        ] {
            dict.set_item(name, figure)?;
        }
        dict.set_item("trouble", figures.trouble)?;
        Ok(dict)
    }
}

impl Buffer {
    fn archive(
        &self,
        name: &str,
        start: Option<&Bound<'_, PyAny>>,
        stop: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Archive>> {
        let (start, stop) = times(start, stop)?;
        let series = self.core.find(name);
        Ok(series.map(|series| self.core.archive(&series, start, stop)))
    }
}

/// Bounds of what is wanted of an archive.
fn times(
    start: Option<&Bound<'_, PyAny>>,
    stop: Option<&Bound<'_, PyAny>>,
) -> PyResult<(i64, i64)> {
    let start = start.map_or(Ok(i64::MIN), value::timestamp)?;
    let stop = stop.map_or(Ok(i64::MAX), value::timestamp)?;
    Ok((start, stop))
}

/// The level that a `StorageLevel` stands for.
pub(crate) fn level(object: &Bound<'_, PyAny>) -> PyResult<Level> {
    let level: i64 = object.extract()?;
    Ok(if level == 0 {
        Level::Permanent
    } else {
        Level::Trend
    })
}

/// Samples of a pathpoint, in columns.
struct Columns {
    timestamps: Vec<i64>,
    values: Values,
}

enum Values {
    /// All are integers.
    Ints(Vec<i64>),
    /// All are floats, or are to be.
    Floats(Vec<f64>),
    /// Anything, kept as it is.
    Readings(Vec<Reading>),
}

impl Columns {
    fn of(archive: Option<Archive>, exact: bool) -> Self {
        let mut timestamps = Vec::new();
        let mut values = Values::Ints(Vec::new());
        for sample in archive.into_iter().flatten().flatten() {
            timestamps.push(sample.timestamp);
            values = values.with(sample.reading, exact);
        }
        Columns { timestamps, values }
    }

    fn into_python(self, py: Python<'_>) -> PyResult<(Bound<'_, PyAny>, Bound<'_, PyAny>)> {
        let values = match self.values {
            Values::Ints(ints) => Numbers::from(ints).view(py)?,
            Values::Floats(floats) => Numbers::from(floats).view(py)?,
            Values::Readings(readings) => {
                let list = PyList::empty(py);
                for (reading, timestamp) in readings.iter().zip(&self.timestamps) {
                    list.append(value::reading_to_python(py, reading, *timestamp)?)?;
                }
                list.into_any()
            }
        };
        Ok((Numbers::from(self.timestamps).view(py)?, values))
    }
}

impl Values {
    #[inline]
    fn with(mut self, reading: Reading, exact: bool) -> Self {
        match (&mut self, reading) {
            (Values::Ints(ints), Reading::Value(Value::Int(int))) => ints.push(int),
            (Values::Floats(floats), Reading::Value(Value::Float(float))) => floats.push(float),
            (Values::Floats(floats), reading) if !exact => floats.push(as_float(&reading)),
            (Values::Readings(readings), reading) => readings.push(reading),
            (_, reading) => return self.widened(&reading, exact).with(reading, exact),
        }
        self
    }

    /// The same with room for a reading that does not fit.
    #[cold]
    fn widened(self, reading: &Reading, exact: bool) -> Self {
        match self {
            Values::Ints(ints) if !exact => {
                let values = ints.into_iter().map(Value::Int).map(Reading::Value);
                Values::Floats(values.map(|value| as_float(&value)).collect())
            }
            Values::Ints(ints)
                if ints.is_empty() && matches!(reading, Reading::Value(Value::Float(_))) =>
            {
                Values::Floats(Vec::new())
            }
            Values::Ints(ints) => {
                let values = ints.into_iter().map(Value::Int);
                Values::Readings(values.map(Reading::Value).collect())
            }
            Values::Floats(floats) => {
                let values = floats.into_iter().map(Value::Float);
                Values::Readings(values.map(Reading::Value).collect())
            }
            Values::Readings(_) => self,
        }
    }
}

/// A number as a float, and what is none as NaN.
#[allow(
    clippy::cast_precision_loss,
    reason = "an integer among floats becomes one, as documented"
)]
fn as_float(reading: &Reading) -> f64 {
    match reading {
        Reading::Value(Value::Int(int)) => *int as f64,
        Reading::Value(Value::Float(float)) => *float,
        Reading::Value(Value::Text(_)) | Reading::Failed(_) => f64::NAN,
    }
}

struct State {
    archive: Option<Archive>,
    samples: std::vec::IntoIter<Sample>,
}

impl State {
    fn next(&mut self) -> Option<Sample> {
        loop {
            if let Some(sample) = self.samples.next() {
                return Some(sample);
            }
            self.samples = self.archive.as_mut()?.next_samples()?.into_iter();
        }
    }
}

/// Samples of one pathpoint, fetched from the buffer in pieces.
#[pyclass(frozen, module = "smok_fast._core")]
pub struct SampleIterator {
    state: parking_lot::Mutex<State>,
}

#[pymethods]
impl SampleIterator {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<(i64, Bound<'py, PyAny>)>> {
        let sample = py.detach(|| self.state.lock().next());
        sample.map(|sample| to_python(py, &sample)).transpose()
    }
}

fn to_python<'py>(py: Python<'py>, sample: &Sample) -> PyResult<(i64, Bound<'py, PyAny>)> {
    let reading = value::reading_to_python(py, &sample.reading, sample.timestamp)?;
    Ok((sample.timestamp, reading))
}
