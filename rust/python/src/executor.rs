//! The loop over a section's reads and writes.
//!
//! A plain value goes from `on_read` straight into the buffer. Everything else is rare, and is told
//! to the *execution*, a Python object of the order executor's: Futures, failures, exceptions,
//! unknown pathpoints, stale writes, read groups. The loop holds no lock, and ends early when
//! `stop` was called.
//!
//! Whoever blocks in `on_read` or `on_write` for [`NOTICEABLE`] or longer is told of, too. The moment
//! that stamps a sample serves for that, since a look at the clock takes as long as storing a value;
//! so what the loop itself does counts as a part of the call.
//!
//! What is read in one *batch* is read once: a pathpoint notes the number of the batch that it was
//! last read in. A write ends the batch, so that what is read after it is read for sure.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyFloat, PyInt, PyList, PyString, PyType};
use smok_core::clock::{self, Moment};
use smok_core::order::AdviseLevel;

use crate::decoded::{OneOrder, Orders};
use crate::order::{Access, advise_level, is_valid_now};
use crate::pathpoint::{PathpointCore, Recorded};
use crate::{callback, errors};

/// From how many nanoseconds on a call counts as an answer of a bus, instead of as something that was
/// at hand.
const NOTICEABLE: u64 = 100_000;

/// Runs the reads and writes of sections. Called by the order executor thread; `stop` by any.
#[pyclass(frozen, module = "smok_fast._core")]
pub struct OrderRunner {
    stopped: AtomicBool,
    batch: AtomicU64,
}

/// Numbers of batches, which all runners share, since pathpoints may outlive one.
static BATCHES: AtomicU64 = AtomicU64::new(1);

#[pymethods]
impl OrderRunner {
    #[new]
    fn new() -> Self {
        OrderRunner {
            stopped: AtomicBool::new(false),
            batch: AtomicU64::new(0),
        }
    }

    /// Have every pathpoint read anew from here on, although it has just been read.
    fn begin_batch(&self) {
        let batch = BATCHES.fetch_add(1, Ordering::Relaxed);
        self.batch.store(batch, Ordering::Relaxed);
    }

    /// Make the present run() return after the order that it is at, and every later one at once.
    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Run reads and writes until an order of another type, or the end.
    ///
    /// :param orders: the orders of a section: a list, or what was decoded
    /// :param start: index of the first one to run
    /// :param pathpoints: the device's pathpoints by name
    /// :param held: names of the pathpoints that are not to be written to
    /// :param execution: who is told about everything but plain values; see
    ///     smok_fast.threads.execution.Execution
    /// :return: index of the first order that was not run
    fn run(
        &self,
        orders: &Bound<'_, PyAny>,
        start: usize,
        pathpoints: &Bound<'_, PyDict>,
        held: &Bound<'_, PyDict>,
        execution: &Bound<'_, PyAny>,
    ) -> PyResult<usize> {
        let run = Run {
            runner: self,
            pathpoints,
            held,
            execution,
            lap: Cell::new(clock::monotonic()),
        };
        let py = orders.py();
        let orders = Orders::of(orders)?;
        let mut groups = Groups::default();
        let mut index = start;
        while !self.stopped.load(Ordering::Acquire) {
            let Some(order) = orders.get(py, index) else {
                break;
            };
            match order.access(py)? {
                Some(Access::Read { path, advise }) => {
                    run.read(&order, &path, advise, &mut groups)?;
                }
                Some(Access::Write {
                    path,
                    value,
                    advise,
                    stale_after,
                }) => {
                    groups.flush(&run)?;
                    if is_valid_now(stale_after) {
                        run.write(&order, &path, value, advise)?;
                    } else {
                        run.tell(intern!(py, "stale"), (order.object(py)?,))?;
                    }
                }
                None => break,
            }
            index += 1;
        }
        groups.flush(&run)?;
        Ok(index)
    }
}

/// Record the results of a read group.
///
/// :param pathpoints: the pathpoints that were read
/// :param results: for each, a value, an OperationFailedError, or None if it was not read
/// :return: indices of those that failed
#[pyfunction]
pub fn record_results(
    pathpoints: &Bound<'_, PyList>,
    results: &Bound<'_, PyAny>,
) -> PyResult<Vec<usize>> {
    let mut failed = Vec::new();
    for (index, (pathpoint, result)) in pathpoints.iter().zip(results.try_iter()?).enumerate() {
        let pathpoint = pathpoint.cast_into::<PathpointCore>()?;
        if finish_read(&pathpoint, &result?, clock::now())?.has_failed {
            failed.push(index);
        }
    }
    Ok(failed)
}

/// Record the result of one read.
///
/// :param pathpoint: the pathpoint that was read
/// :param result: a value, an OperationFailedError, or None if it was not read
/// :return: whether it failed
#[pyfunction]
pub fn record_result(
    pathpoint: &Bound<'_, PathpointCore>,
    result: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    Ok(finish_read(pathpoint, result, clock::now())?.has_failed)
}

fn finish_read(
    pathpoint: &Bound<'_, PathpointCore>,
    result: &Bound<'_, PyAny>,
    moment: Moment,
) -> PyResult<Recorded> {
    if result.is_none() {
        pathpoint.get().series(pathpoint.py())?.end_poll();
        return Ok(Recorded {
            has_failed: false,
            told: false,
        });
    }
    PathpointCore::record_read(pathpoint, result, moment)
}

/// The reads of one section that belong to read groups, in the order of their coming.
#[derive(Default)]
struct Groups<'py> {
    groups: Vec<(Bound<'py, PyAny>, Bound<'py, PyList>, Bound<'py, PyList>)>,
}

impl<'py> Groups<'py> {
    fn add(
        &mut self,
        group: Bound<'py, PyAny>,
        order: &Bound<'py, PyAny>,
        pathpoint: &Bound<'py, PathpointCore>,
    ) -> PyResult<()> {
        let py = order.py();
        let position = self.groups.iter().position(|(known, ..)| known.is(&group));
        let (_, orders, pathpoints) = match position.and_then(|position| self.groups.get(position))
        {
            Some(known) => known,
            None => {
                self.groups
                    .push((group, PyList::empty(py), PyList::empty(py)));
                let Some(new) = self.groups.last() else {
                    return Ok(());
                };
                new
            }
        };
        orders.append(order)?;
        pathpoints.append(pathpoint)
    }

    fn flush(&mut self, run: &Run<'_, 'py>) -> PyResult<()> {
        for (group, orders, pathpoints) in self.groups.drain(..) {
            let what = intern!(group.py(), "read_group");
            run.tell(what, (&group, orders, pathpoints))?;
        }
        Ok(())
    }
}

/// One call of `OrderRunner.run`.
struct Run<'a, 'py> {
    runner: &'a OrderRunner,
    pathpoints: &'a Bound<'py, PyDict>,
    held: &'a Bound<'py, PyDict>,
    execution: &'a Bound<'py, PyAny>,
    /// When the last call of user code ended, in monotonic nanoseconds.
    lap: Cell<u64>,
}

impl<'py> Run<'_, 'py> {
    fn read(
        &self,
        order: &OneOrder<'_, 'py>,
        path: &Bound<'py, PyString>,
        advise: AdviseLevel,
        groups: &mut Groups<'py>,
    ) -> PyResult<()> {
        let py = path.py();
        let Some(pathpoint) = self.find(order, path)? else {
            return Ok(());
        };
        let core = pathpoint.get();
        let batch = self.runner.batch.load(Ordering::Relaxed);
        if !core.begin_read(batch, advise == AdviseLevel::Force) {
            return self.tell(intern!(py, "read_again"), (&pathpoint,));
        }
        if core.is_reparse()? {
            let arguments = (order.object(py)?, &pathpoint);
            return self.tell(intern!(py, "read_reparse"), arguments);
        }
        match self.can_read(&pathpoint) {
            Ok(true) => {}
            Ok(false) => return core.end_poll(py),
            Err(error) => {
                core.end_poll(py)?;
                return self.raised(order, &pathpoint, error);
            }
        }
        if let Some(group) = core.read_group(py) {
            return groups.add(group, &order.object(py)?, &pathpoint);
        }
        let failed = |order: &OneOrder<'_, 'py>| {
            let arguments = (order.object(py)?, &pathpoint);
            self.tell(intern!(py, "read_failed"), arguments)
        };
        let advise = advise_level(py, advise)?;
        let result = callback::call_method1(pathpoint.as_any(), intern!(py, "on_read"), &advise);
        let moment = clock::now();
        let took = self.took(moment.monotonic);
        match result {
            Ok(result) if is_future(&result)? => {
                let arguments = (order.object(py)?, &pathpoint, result);
                return self.tell(intern!(py, "read_future"), arguments);
            }
            Ok(result) => {
                let recorded = finish_read(&pathpoint, &result, moment)?;
                if recorded.told {
                    self.lap.set(clock::monotonic());
                }
                if recorded.has_failed {
                    failed(order)
                } else {
                    Ok(())
                }
            }
            Err(error) => match errors::reason_of(error.value(py))? {
                Some(_) => {
                    finish_read(&pathpoint, error.value(py), moment)?;
                    failed(order)
                }
                None => {
                    core.end_poll(py)?;
                    self.raised(order, &pathpoint, error)
                }
            },
        }?;
        self.note(&pathpoint, took)
    }

    fn write(
        &self,
        order: &OneOrder<'_, 'py>,
        path: &Bound<'py, PyString>,
        value: Bound<'py, PyAny>,
        advise: AdviseLevel,
    ) -> PyResult<()> {
        let py = path.py();
        let Some(pathpoint) = self.find(order, path)? else {
            return Ok(());
        };
        if pathpoint.get().is_reparse()? {
            return Ok(()); // writing what is derived from other pathpoints does nothing
        }
        if !self.held.is_empty() && self.held.contains(path)? {
            return self.tell(intern!(py, "write_held"), (order.object(py)?,));
        }
        self.runner.begin_batch();
        let arguments = (value, advise_level(py, advise)?);
        let result = pathpoint.call_method1(intern!(py, "on_write"), arguments);
        let took = self.took(clock::monotonic());
        match result {
            Ok(result) if is_future(&result)? => {
                let arguments = (order.object(py)?, &pathpoint, result);
                return self.tell(intern!(py, "write_future"), arguments);
            }
            Ok(_) => Ok(()),
            Err(error) => match errors::reason_of(error.value(py))? {
                Some(_) => {
                    let arguments = (order.object(py)?, &pathpoint, error.value(py));
                    self.tell(intern!(py, "write_failed"), arguments)
                }
                None => self.raised(order, &pathpoint, error),
            },
        }?;
        self.note(&pathpoint, took)
    }

    fn can_read(&self, pathpoint: &Bound<'py, PathpointCore>) -> PyResult<bool> {
        let py = pathpoint.py();
        if !pathpoint.get().overrides(py)?.can_read {
            return Ok(pathpoint.get().is_readable());
        }
        let answer = pathpoint.call_method0(intern!(py, "can_read"));
        self.lap.set(clock::monotonic());
        answer?.is_truthy()
    }

    /// How long ago the last call of user code ended, in nanoseconds, if the present one has ended
    /// at this one.
    fn took(&self, now: u64) -> u64 {
        now.saturating_sub(self.lap.replace(now))
    }

    /// Tells how long a call took, if that is noticeable.
    fn note(&self, pathpoint: &Bound<'py, PathpointCore>, took: u64) -> PyResult<()> {
        if took < NOTICEABLE {
            return Ok(());
        }
        let arguments = (pathpoint, Duration::from_nanos(took).as_secs_f64());
        self.tell(intern!(pathpoint.py(), "took"), arguments)
    }

    /// The pathpoint of an order: one that is known, or one that the execution has made for it.
    fn find(
        &self,
        order: &OneOrder<'_, 'py>,
        path: &Bound<'py, PyString>,
    ) -> PyResult<Option<Bound<'py, PathpointCore>>> {
        let py = path.py();
        let found = match self.pathpoints.get_item(path)? {
            Some(pathpoint) => pathpoint,
            None => {
                let arguments = (order.object(py)?,);
                let found = self.execution.call_method1(intern!(py, "find"), arguments);
                self.lap.set(clock::monotonic());
                found?
            }
        };
        if found.is_none() {
            Ok(None)
        } else {
            Ok(Some(found.cast_into()?))
        }
    }

    fn raised(
        &self,
        order: &OneOrder<'_, 'py>,
        pathpoint: &Bound<'py, PathpointCore>,
        error: PyErr,
    ) -> PyResult<()> {
        let py = pathpoint.py();
        // Before Python 3.12 it is into_value() that gives an exception its traceback.
        let error = error.into_value(py);
        let arguments = (order.object(py)?, pathpoint, error);
        self.tell(intern!(py, "raised"), arguments)
    }

    fn tell<A>(&self, what: &Bound<'py, PyString>, arguments: A) -> PyResult<()>
    where
        A: pyo3::call::PyCallArgs<'py>,
    {
        let told = self.execution.call_method1(what, arguments);
        self.lap.set(clock::monotonic());
        told.map(drop)
    }
}

fn is_future(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    static FUTURE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    if object.is_none()
        || object.is_exact_instance_of::<PyInt>()
        || object.is_exact_instance_of::<PyFloat>()
        || object.is_exact_instance_of::<PyString>()
    {
        return Ok(false);
    }
    object.is_instance(FUTURE.import(object.py(), "concurrent.futures", "Future")?)
}
