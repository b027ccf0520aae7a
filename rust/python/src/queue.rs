//! `OrderQueue`: the core's order queue, holding Python objects.

use std::time::Duration;

use pyo3::prelude::*;
use smok_core::queue::{Lane, OrderQueue as Core};

use crate::errors;

/// What waits for the order executor. Every method may be called by any thread.
#[pyclass(frozen, module = "smok_fast._core")]
pub struct OrderQueue {
    core: Core<Py<PyAny>>,
}

/// A time-out in seconds as a duration: negative ones are none, huge ones are as good as for ever.
pub fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

#[pymethods]
impl OrderQueue {
    #[new]
    fn new() -> Self {
        OrderQueue {
            core: Core::default(),
        }
    }

    /// Put an item at the end of the queue.
    ///
    /// :param item: anything, a Section normally
    /// :param joinable: whether it may be taken together with joinable neighbours
    /// :param poll: whether it is a poll, to be taken only when nothing else waits
    /// :raises RuntimeError: the queue is closed
    #[pyo3(signature = (item, joinable, poll = false))]
    fn put(&self, item: Py<PyAny>, joinable: bool, poll: bool) -> PyResult<()> {
        let lane = if poll { Lane::Polls } else { Lane::Orders };
        self.core.put(item, joinable, lane).map_err(errors::closed)
    }

    /// Take the next items, waiting for them without the GIL.
    ///
    /// :param timeout: seconds to wait at most, None for ever
    /// :return: the items; none when the time ran out, after interrupt(), or when the queue is
    ///     closed and empty
    #[pyo3(signature = (timeout = None))]
    fn take(&self, timeout: Option<&Bound<'_, PyAny>>, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        let taken = self.core.try_take();
        if !taken.is_empty() {
            return Ok(taken); // without a look at the time-out, which costs as much as the taking
        }
        let timeout = timeout.map(PyAnyMethods::extract::<f64>).transpose()?;
        Ok(py.detach(|| self.core.take(timeout.map(duration))))
    }

    /// Take the next polls, waiting for them without the GIL, while orders stay where they are.
    ///
    /// :param timeout: seconds to wait at most, None for ever
    /// :return: as with take()
    #[pyo3(signature = (timeout = None))]
    fn take_polls(&self, py: Python<'_>, timeout: Option<f64>) -> Vec<Py<PyAny>> {
        py.detach(|| self.core.take_polls(timeout.map(duration)))
    }

    /// End the present take() or take_polls(), or else the next one.
    fn interrupt(&self) {
        self.core.interrupt();
    }

    /// Refuse further items and wake everyone who waits.
    fn close(&self) {
        self.core.close();
    }

    fn __len__(&self) -> usize {
        self.core.len()
    }
}
