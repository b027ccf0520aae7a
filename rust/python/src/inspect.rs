//! What tools that look at a buffer read: `SampleSweep` and `BufferVerification`.

use std::path::PathBuf;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use smok_core::buffer::{Sweep, Swept, Verification};

use crate::value::reading_to_python;

/// Name of a pathpoint, and samples of it.
type PySwept<'py> = (String, Bound<'py, PyList>);

/// Samples of many pathpoints in the order of recording, fetched from the buffer in pieces.
#[pyclass(frozen, module = "smok_fast._core")]
pub struct SampleSweep {
    sweep: Mutex<Sweep>,
}

impl SampleSweep {
    pub fn new(sweep: Sweep) -> Self {
        SampleSweep {
            sweep: Mutex::new(sweep),
        }
    }
}

#[pymethods]
impl SampleSweep {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// The next samples, maybe none: for each pathpoint that has some its name and a list of (ms,
    /// value or OperationFailedError).
    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Vec<PySwept<'py>>>> {
        let swept = py.detach(|| self.sweep.lock().next_samples());
        let parts = swept.map(|parts| parts.iter().map(|part| part_to_python(py, part)).collect());
        parts.transpose()
    }

    /// Bytes of segments that have been read, roughly, and of all that are to be.
    fn progress(&self) -> (u64, u64) {
        self.sweep.lock().progress()
    }

    /// How many frames made no sense in spite of their check sums, so that samples were left out.
    #[getter]
    fn corrupt(&self) -> u64 {
        self.sweep.lock().corrupt()
    }
}

fn part_to_python<'py>(py: Python<'py>, (series, samples): &Swept) -> PyResult<PySwept<'py>> {
    let list = PyList::empty(py);
    for sample in samples {
        let reading = reading_to_python(py, &sample.reading, sample.timestamp)?;
        list.append((sample.timestamp, reading))?;
    }
    Ok((series.name().to_string(), list))
}

/// Checks the files of a buffer one after the other. The buffer may be in use; nothing is changed.
///
/// :param folder: path of the buffer's folder
/// :raises OSError: the folder cannot be read
#[pyclass(frozen, module = "smok_fast._core")]
pub struct BufferVerification {
    verification: Mutex<Verification>,
}

#[pymethods]
impl BufferVerification {
    #[new]
    #[allow(clippy::needless_pass_by_value)] // PyO3 makes one for the call
    fn new(py: Python<'_>, folder: PathBuf) -> PyResult<Self> {
        let verification = py.detach(|| Verification::of(&folder))?;
        Ok(BufferVerification {
            verification: Mutex::new(verification),
        })
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// The next file's name, bytes, frames, samples, nameless, missing, damage, torn and error; see
    /// smok_fast.cli.buffer_verify.FileCheck.
    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(check) = py.detach(|| self.verification.lock().next()) else {
            return Ok(None);
        };
        let dict = PyDict::new(py);
        dict.set_item("name", check.name)?;
        dict.set_item("bytes", check.bytes)?;
        dict.set_item("frames", check.frames)?;
        dict.set_item("samples", check.samples)?;
        dict.set_item("nameless", check.nameless)?;
        dict.set_item("missing", check.missing)?;
        dict.set_item("damage", check.damage)?;
        dict.set_item("torn", check.torn)?;
        dict.set_item("error", check.error)?;
        Ok(Some(dict))
    }

    /// How long all files are together that are still to be read.
    fn bytes_left(&self) -> u64 {
        self.verification.lock().bytes_left()
    }
}
