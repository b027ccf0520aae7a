//! `Buffer`: the core's buffer.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use smok_core::buffer::{Buffer as Core, DEFAULT_CAPACITY, Refusal, Series};
use smok_core::pathpoint::Kind;
use smok_core::value::Sample;

use crate::queue::duration;
use crate::value;

/// How many samples an iterator fetches under the lock at once.
const CHUNK: usize = 1_024;

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
        Ok(self.core.series(name, kind))
    }
}

#[pymethods]
impl Buffer {
    /// :param capacity: how many samples are kept at most; with 0, only the latest value of each
    ///     pathpoint is
    #[new]
    #[pyo3(signature = (capacity = DEFAULT_CAPACITY))]
    fn new(capacity: u64) -> Self {
        Buffer {
            core: Arc::new(Core::new(capacity)),
        }
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
        self.core.make_room();
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

    /// How many samples of a pathpoint were recorded, and how many of them are done with.
    fn counts(&self, name: &str) -> (u64, u64) {
        self.core
            .find(name)
            .map_or((0, 0), |series| series.counts())
    }

    /// The samples of a pathpoint with start <= timestamp <= stop, in time order.
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
            series: self.core.find(name),
            state: parking_lot::Mutex::new(Cursor {
                next: start.map_or(Ok(i64::MIN), value::timestamp)?,
                chunk: Vec::new().into_iter(),
            }),
            stop: stop.map_or(Ok(i64::MAX), value::timestamp)?,
        })
    }

    /// The next upload; the same one again while it is neither acknowledged nor rejected.
    ///
    /// :param max_bytes: about how long the body may be; one sample is sent in any case
    /// :return: (MiniJSON body, token, number of samples), or None if there is nothing to upload
    /// :raises ValueError: a text is longer than MiniJSON can say
    fn next_upload<'py>(
        &self,
        py: Python<'py>,
        max_bytes: usize,
    ) -> PyResult<Option<(Bound<'py, PyBytes>, u64, u64)>> {
        let upload = py
            .detach(|| self.core.next_upload(max_bytes))
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(upload.map(|upload| (PyBytes::new(py, &upload.body), upload.token, upload.samples)))
    }

    /// Note that the server has the samples of an upload.
    ///
    /// :return: False if that upload is not the one that is out
    fn acknowledge(&self, py: Python<'_>, token: u64) -> bool {
        py.detach(|| self.core.acknowledge(token))
    }

    /// Note that the server does not have the samples of an upload.
    ///
    /// :param rejected: whether it refused the content, so that smaller uploads are to be tried;
    ///     otherwise the same one is tried again
    /// :return: False if that upload is not the one that is out
    #[pyo3(signature = (token, rejected = false))]
    fn refuse(&self, token: u64, rejected: bool) -> bool {
        let refusal = if rejected {
            Refusal::Rejected
        } else {
            Refusal::NotDelivered
        };
        self.core.refuse(token, refusal)
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

    /// The figures of the buffer: pathpoints, and samples recorded, acknowledged, pending, kept and
    /// dropped.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let figures = py.detach(|| self.core.statistics());
        let dict = PyDict::new(py);
        dict.set_item("pathpoints", figures.pathpoints)?;
        dict.set_item("recorded", figures.recorded)?;
        dict.set_item("acknowledged", figures.acknowledged)?;
        dict.set_item("pending", figures.pending)?;
        dict.set_item("kept", figures.kept)?;
        dict.set_item("dropped", figures.dropped)?;
        Ok(dict)
    }
}

struct Cursor {
    next: i64,
    chunk: std::vec::IntoIter<Sample>,
}

/// Samples of one pathpoint, fetched from the buffer in pieces.
#[pyclass(frozen, module = "smok_fast._core")]
pub struct SampleIterator {
    series: Option<Arc<Series>>,
    state: parking_lot::Mutex<Cursor>,
    stop: i64,
}

#[pymethods]
impl SampleIterator {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<(i64, Bound<'py, PyAny>)>> {
        let Some(series) = &self.series else {
            return Ok(None);
        };
        let sample = {
            let mut cursor = self.state.lock();
            if cursor.chunk.len() == 0 {
                cursor.chunk = series.range(cursor.next, self.stop, CHUNK).into_iter();
            }
            let sample = cursor.chunk.next();
            if let Some(sample) = &sample {
                cursor.next = sample.timestamp.saturating_add(1);
            }
            sample
        };
        sample.map(|sample| to_python(py, &sample)).transpose()
    }
}

fn to_python<'py>(py: Python<'py>, sample: &Sample) -> PyResult<(i64, Bound<'py, PyAny>)> {
    let reading = value::reading_to_python(py, &sample.reading, sample.timestamp)?;
    Ok((sample.timestamp, reading))
}
