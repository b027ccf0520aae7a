//! `ArchiveSchedule`: the core's schedule over pathpoints.

use pyo3::prelude::*;
use pyo3::types::PyString;
use smok_core::clock;
use smok_core::schedule::Schedule;

use crate::pathpoint::PathpointCore;
use crate::queue::duration;

/// Which pathpoints are to be read when. Every method may be called by any thread.
#[pyclass(frozen, module = "smok_fast._core")]
pub struct ArchiveSchedule {
    core: Schedule<std::sync::Arc<str>>,
}

#[pymethods]
impl ArchiveSchedule {
    #[new]
    fn new() -> Self {
        ArchiveSchedule {
            core: Schedule::default(),
        }
    }

    /// Replace the whole list; what stays with the same interval keeps its rhythm.
    ///
    /// :param entries: pathpoints with their intervals in seconds
    /// :raises InstanceNotReady: a pathpoint is attached to no device
    fn replace(
        &self,
        py: Python<'_>,
        entries: Vec<(Bound<'_, PathpointCore>, f64)>,
    ) -> PyResult<()> {
        let mut list = Vec::with_capacity(entries.len());
        for (pathpoint, interval) in entries {
            let series = pathpoint.get().series(py)?;
            list.push((series.clone(), duration(interval), series.name().clone()));
        }
        self.core.replace(clock::monotonic(), list);
        Ok(())
    }

    /// The names of the pathpoints that are due now. Each is due again only when its read has
    /// ended.
    fn due<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyString>> {
        let due = self.core.due(clock::monotonic());
        due.iter().map(|name| PyString::new(py, name)).collect()
    }

    /// Wait without the GIL until something is due, the list changes, or close().
    ///
    /// :param timeout: seconds to wait at most
    fn wait(&self, py: Python<'_>, timeout: f64) {
        py.detach(|| self.core.wait(duration(timeout)));
    }

    /// End the present wait and every later one.
    fn close(&self) {
        self.core.close();
    }

    /// How many polls were left out because the one before had not ended.
    #[getter]
    fn overruns(&self) -> u64 {
        self.core.overruns()
    }

    fn __len__(&self) -> usize {
        self.core.len()
    }
}
