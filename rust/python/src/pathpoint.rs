//! `PathpointCore`: what a Python `Pathpoint` is made of, so that reading and recording need no
//! Python bookkeeping.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyUserWarning, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};
use smok_core::buffer::{Buffer as CoreBuffer, NotNewer, Series};
use smok_core::clock::{self, Moment};
use smok_core::pathpoint::{Kind, is_reparse};
use smok_core::value::{Reading, Reason, Sample};

use crate::arrays::Columns;
use crate::buffer::{self, Buffer, commit_if_each_call};
use crate::reparse::Computation;
use crate::value::Given;
use crate::{callback, errors, value};

const NANOS: f64 = 1e9;

/// The native part of a pathpoint. Every method may be called by any thread.
#[pyclass(frozen, subclass, weakref, module = "smok_fast._core")]
pub struct PathpointCore {
    identity: OnceLock<Identity>,
    attachment: OnceLock<Attachment>,
    /// Of a pathpoint that is computed from others.
    computation: OnceLock<Py<Computation>>,
    callable_on_change: Mutex<Option<Py<PyAny>>>,
    /// Nanoseconds between two reads at least; 0 for no limit.
    read_no_often_than: AtomicU64,
    read_group: Mutex<Option<Py<PyAny>>>,
    /// Which read was begun last: what `begin_read` was given.
    last_read: AtomicU64,
    /// A `StorageLevel`.
    storage_level: Mutex<Option<Py<PyAny>>>,
}

struct Identity {
    name: Py<PyString>,
    reparse: bool,
}

/// What a pathpoint gets from the device that it is registered with.
struct Attachment {
    series: Arc<Series>,
    buffer: Arc<CoreBuffer>,
    /// Where samples go instead of the native buffer: a `BasePathpointDatabase` of the user's.
    store: Option<Py<PyAny>>,
    overrides: Overrides,
}

/// Which methods the user's class replaces, so that they have to be called.
#[derive(Clone, Copy)]
pub struct Overrides {
    pub can_read: bool,
    pub set_new_value: bool,
}

impl PathpointCore {
    fn identity(&self) -> PyResult<&Identity> {
        self.identity.get().ok_or_else(|| {
            PyRuntimeError::new_err(
                "Pathpoint.__init__ was not called: call super().__init__(device, name, …)",
            )
        })
    }

    fn attachment(&self, py: Python<'_>) -> PyResult<&Attachment> {
        self.attachment
            .get()
            .ok_or_else(|| errors::not_attached(py))
    }

    /// The series that holds this pathpoint's samples.
    pub fn series(&self, py: Python<'_>) -> PyResult<&Arc<Series>> {
        Ok(&self.attachment(py)?.series)
    }

    /// Which methods the user's class replaces.
    pub fn overrides(&self, py: Python<'_>) -> PyResult<Overrides> {
        Ok(self.attachment(py)?.overrides)
    }

    /// What computes the value from others, if it is computed.
    pub fn computation(&self) -> Option<&Py<Computation>> {
        self.computation.get()
    }

    /// Whether the pathpoint is computed from others.
    pub fn is_reparse(&self) -> PyResult<bool> {
        Ok(self.identity()?.reparse)
    }

    /// The read group that reads this pathpoint, if there is one.
    pub fn read_group<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.read_group
            .lock()
            .as_ref()
            .map(|group| group.bind(py).clone())
    }

    /// Notes that a read begins.
    ///
    /// `batch` stands for what is read together. Returns false if it was begun already in the same
    /// batch, and is tried as hard.
    pub fn begin_read(&self, batch: u64, forced: bool) -> bool {
        let read = batch << 1 | u64::from(forced);
        let last = self.last_read.load(Ordering::Relaxed);
        if last >> 1 == batch && last >= read {
            return false;
        }
        self.last_read.store(read, Ordering::Relaxed);
        true
    }

    /// Notes that a read ended without giving a sample.
    pub fn end_poll(&self, py: Python<'_>) -> PyResult<()> {
        self.series(py).map(|series| series.end_poll())
    }

    /// Whether the last sample is old enough for another read.
    pub fn is_readable(&self) -> bool {
        let interval = self.read_no_often_than.load(Ordering::Relaxed);
        let recorded = self
            .attachment
            .get()
            .and_then(|attachment| attachment.series.recorded_at());
        match recorded {
            Some(recorded) if interval > 0 => {
                clock::monotonic() > recorded.saturating_add(interval)
            }
            _ => true,
        }
    }

    /// Records what a read has given at this moment; something that the pathpoint cannot hold is a
    /// failure with reason TYPE.
    pub fn record_read(
        slf: &Bound<'_, Self>,
        object: &Bound<'_, PyAny>,
        moment: Moment,
    ) -> PyResult<Recorded> {
        let py = slf.py();
        let attachment = slf.get().attachment(py)?;
        let reading = admit(slf, attachment.series.kind(), object)?;
        let has_failed = matches!(reading, Reading::Failed(_));
        let mut told = true;
        if attachment.overrides.set_new_value {
            let timestamp = attachment.series.stamp(moment);
            let object = value::reading_to_python(py, &reading, timestamp)?;
            callback::set_new_value(slf.as_any(), timestamp, &object);
            attachment.series.end_poll();
        } else if attachment.store.is_none() {
            attachment.series.record_now(moment, reading);
            commit_if_each_call(py, &attachment.buffer);
            told = Self::announce(slf);
        } else {
            let timestamp = attachment.series.record_now(moment, reading.clone());
            Self::hand_over(slf, attachment, timestamp, &reading)?;
            Self::announce(slf);
        }
        Ok(Recorded { has_failed, told })
    }

    /// Gives a sample to the user's store.
    fn hand_over(
        slf: &Bound<'_, Self>,
        attachment: &Attachment,
        timestamp: i64,
        reading: &Reading,
    ) -> PyResult<()> {
        let py = slf.py();
        if let Some(store) = &attachment.store {
            let object = value::reading_to_python(py, reading, timestamp)?;
            let name = slf.get().identity()?.name.bind(py);
            callback::store_sample(slf.as_any(), store.bind(py), name, timestamp, &object);
        }
        Ok(())
    }

    /// Records samples, and gives each to the user's store.
    fn record_and_hand_over(
        slf: &Bound<'_, Self>,
        attachment: &Attachment,
        samples: impl Iterator<Item = Sample>,
    ) -> PyResult<u64> {
        let mut recorded = 0;
        for sample in samples {
            let (timestamp, reading) = (sample.timestamp, sample.reading.clone());
            if attachment.series.record(sample).is_ok() {
                Self::hand_over(slf, attachment, timestamp, &reading)?;
                recorded += 1;
            }
        }
        Ok(recorded)
    }

    /// Calls `callable_on_change`. Returns whether there is one.
    fn announce(slf: &Bound<'_, Self>) -> bool {
        let py = slf.py();
        let callable = slf
            .get()
            .callable_on_change
            .lock()
            .as_ref()
            .map(|callable| callable.clone_ref(py));
        if let Some(callable) = &callable {
            callback::changed(slf.as_any(), callable.bind(py));
        }
        callable.is_some()
    }
}

/// What has become of a reading.
pub struct Recorded {
    /// Whether it was a failure.
    pub has_failed: bool,
    /// Whether code of the user's was called with it.
    pub told: bool,
}

/// Sets a slot, and drops what was in it only after the lock: that may run code of the user's.
fn replace(slot: &Mutex<Option<Py<PyAny>>>, object: Option<Bound<'_, PyAny>>) {
    let old = std::mem::replace(&mut *slot.lock(), object.map(Bound::unbind));
    drop(old);
}

// Nanoseconds of uptime fit a double to the microsecond for centuries.
#[allow(clippy::cast_precision_loss)]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / NANOS
}

/// What Python's `time.monotonic()` was when the core's monotonic clock was 0.
fn origin(py: Python<'_>) -> PyResult<f64> {
    static ORIGIN: PyOnceLock<f64> = PyOnceLock::new();
    let origin = ORIGIN.get_or_try_init(py, || {
        let now: f64 = py.import("time")?.call_method0("monotonic")?.extract()?;
        PyResult::Ok(now - seconds(clock::monotonic()))
    })?;
    Ok(*origin)
}

/// What a Python object says about the pathpoint; something that it cannot hold is logged and is a
/// TYPE failure.
fn admit(
    slf: &Bound<'_, PathpointCore>,
    kind: Kind,
    object: &Bound<'_, PyAny>,
) -> PyResult<Reading> {
    Ok(match value::reading(object, kind)? {
        Given::Reading(reading) => reading,
        Given::WrongType => {
            callback::report(slf.py(), "wrong_type", (slf.as_any(), object));
            Reading::Failed(Reason::Type)
        }
    })
}

#[pymethods]
impl PathpointCore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        PathpointCore {
            identity: OnceLock::new(),
            attachment: OnceLock::new(),
            computation: OnceLock::new(),
            callable_on_change: Mutex::new(None),
            read_no_often_than: AtomicU64::new(0),
            read_group: Mutex::new(None),
            last_read: AtomicU64::new(0),
            storage_level: Mutex::new(None),
        }
    }

    /// Set the name, once.
    ///
    /// :raises ValueError: the name declares no type
    fn _identify(&self, name: Bound<'_, PyString>) -> PyResult<()> {
        let text = name.to_cow()?;
        if Kind::of_name(&text).is_none() {
            return Err(PyValueError::new_err(format!(
                "pathpoint name {text:?} declares no type: it must start with B, W, w, f, d, u, or r and one of these"
            )));
        }
        let reparse = is_reparse(&text);
        drop(text);
        let identity = Identity {
            name: name.unbind(),
            reparse,
        };
        self.identity
            .set(identity)
            .map_err(|_| PyRuntimeError::new_err("the pathpoint has a name already"))
    }

    /// Attach the pathpoint to a device's buffer, once.
    ///
    /// :param buffer: the device's buffer
    /// :param store: a BasePathpointDatabase that gets the samples instead, or None
    /// :param can_read: whether the class replaces can_read
    /// :param set_new_value: whether the class replaces set_new_value
    /// :raises RuntimeError: it is attached already
    fn _attach(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, Buffer>,
        store: Option<Py<PyAny>>,
        can_read: bool,
        set_new_value: bool,
    ) -> PyResult<()> {
        let name = self.identity()?.name.bind(py).to_cow()?;
        let attachment = Attachment {
            series: buffer.get().series(&name)?,
            buffer: Arc::clone(&buffer.get().core),
            store,
            overrides: Overrides {
                can_read,
                set_new_value,
            },
        };
        self.attachment.set(attachment).map_err(|_| {
            PyRuntimeError::new_err("the pathpoint is attached to a device already")
        })?;
        match self.get_storage_level(py) {
            Some(level) => self.set_storage_level(level.bind(py)),
            None => Ok(()),
        }
    }

    /// Have `get` compute the value, once.
    ///
    /// :param computation: what computes it
    /// :raises RuntimeError: it is computed already
    fn _compute_by(&self, computation: Py<Computation>) -> PyResult<()> {
        self.computation
            .set(computation)
            .map_err(|_| PyRuntimeError::new_err("the pathpoint is computed already"))
    }

    /// Take over what a store remembers from before: a sample that is not recorded again.
    fn _remember(
        &self,
        py: Python<'_>,
        timestamp: &Bound<'_, PyAny>,
        object: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let series = self.series(py)?;
        if let Given::Reading(reading) = value::reading(object, series.kind())? {
            series.remember(Sample {
                timestamp: value::timestamp(timestamp)?,
                reading,
            });
        }
        Ok(())
    }

    /// Note that a read ended without giving a value.
    fn _end_poll(&self) {
        if let Some(attachment) = self.attachment.get() {
            attachment.series.end_poll();
        }
    }

    #[getter]
    fn name(&self, py: Python<'_>) -> PyResult<Py<PyString>> {
        Ok(self.identity()?.name.clone_ref(py))
    }

    #[getter]
    fn current_timestamp(&self) -> Option<i64> {
        self.attachment
            .get()?
            .series
            .latest()
            .map(|sample| sample.timestamp)
    }

    #[getter]
    fn current_value<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let latest = self
            .attachment
            .get()
            .and_then(|attachment| attachment.series.latest());
        latest
            .map(|sample| value::reading_to_python(py, &sample.reading, sample.timestamp))
            .transpose()
    }

    /// When the last sample came, in seconds of time.monotonic(); 0 before the first.
    #[getter]
    fn last_read(&self, py: Python<'_>) -> PyResult<f64> {
        let recorded = self
            .attachment
            .get()
            .and_then(|attachment| attachment.series.recorded_at());
        match recorded {
            Some(nanos) => Ok(seconds(nanos) + origin(py)?),
            None => Ok(0.0),
        }
    }

    #[getter]
    fn callable_on_change(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.callable_on_change
            .lock()
            .as_ref()
            .map(|callable| callable.clone_ref(py))
    }

    #[setter]
    fn set_callable_on_change(&self, callable: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        if let Some(callable) = &callable
            && !callable.is_callable()
        {
            return Err(PyTypeError::new_err(
                "callable_on_change must be a callable or None",
            ));
        }
        replace(&self.callable_on_change, callable);
        Ok(())
    }

    #[getter(read_group)]
    fn get_read_group(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.read_group(py).map(Bound::unbind)
    }

    #[setter]
    fn set_read_group(&self, group: Option<Bound<'_, PyAny>>) {
        replace(&self.read_group, group);
    }

    #[getter(storage_level)]
    fn get_storage_level(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.storage_level
            .lock()
            .as_ref()
            .map(|level| level.clone_ref(py))
    }

    #[setter]
    fn set_storage_level(&self, level: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Some(attachment) = self.attachment.get() {
            attachment.series.set_level(buffer::level(level)?);
        }
        replace(&self.storage_level, Some(level.clone()));
        Ok(())
    }

    #[getter]
    fn read_no_often_than(&self) -> Option<f64> {
        let nanos = self.read_no_often_than.load(Ordering::Relaxed);
        (nanos > 0).then(|| seconds(nanos))
    }

    #[setter]
    fn set_read_no_often_than(&self, seconds: Option<f64>) {
        let interval = seconds.map_or(0, |seconds| clock::nanos(crate::queue::duration(seconds)));
        self.read_no_often_than.store(interval, Ordering::Relaxed);
    }

    /// Whether the pathpoint may be read now. Called by OrderExecutorThread before each read.
    ///
    /// :return: whether read_no_often_than seconds have passed since the last value
    fn can_read(&self) -> bool {
        self.is_readable()
    }

    /// The latest value. May be called by any thread.
    ///
    /// :return: (milliseconds since the epoch, value)
    /// :raises NotReadedError: it has not been read yet
    /// :raises OperationFailedError: the last read failed
    /// :raises InstanceNotReady: it is attached to no device
    fn get<'py>(&self, py: Python<'py>) -> PyResult<(i64, Bound<'py, PyAny>)> {
        if let Some(computation) = self.computation() {
            return computation.get().compute(py);
        }
        let Some(sample) = self.series(py)?.latest() else {
            return Err(errors::not_read(py));
        };
        let object = value::reading_to_python(py, &sample.reading, sample.timestamp)?;
        match sample.reading {
            Reading::Value(_) => Ok((sample.timestamp, object)),
            Reading::Failed(_) => Err(PyErr::from_value(object)),
        }
    }

    /// Record a value that came by itself, not from a read. May be called by any thread.
    ///
    /// ``set_new_value(timestamp, value)`` or ``set_new_value(OperationFailedError(...))``. A
    /// timestamp that is not above the current one is ignored with a UserWarning; a value that the
    /// pathpoint cannot hold is logged, and is a failure with reason TYPE.
    ///
    /// :param timestamp: milliseconds since the epoch
    /// :param value: the value, or an OperationFailedError
    /// :raises InstanceNotReady: it is attached to no device
    #[pyo3(signature = (*args))]
    fn set_new_value(slf: &Bound<'_, Self>, args: &Bound<'_, PyTuple>) -> PyResult<()> {
        let py = slf.py();
        let attachment = slf.get().attachment(py)?;
        let (timestamp, object) = match args.len() {
            1 if errors::is_failure(&args.get_item(0)?)? => {
                let error = args.get_item(0)?;
                (error.getattr(intern!(py, "timestamp"))?, error)
            }
            2 => (args.get_item(0)?, args.get_item(1)?),
            _ => {
                return Err(PyTypeError::new_err(
                    "expected (timestamp, value) or (OperationFailedError)",
                ));
            }
        };
        let timestamp = value::timestamp(&timestamp)?;
        let reading = admit(slf, attachment.series.kind(), &object)?;
        let kept = attachment.store.is_some().then(|| reading.clone());
        match attachment.series.record(Sample { timestamp, reading }) {
            Ok(()) => {}
            Err(NotNewer { given, latest }) => {
                let text =
                    format!("timestamp {given} is not above the current one, {latest}: ignored\0");
                let text =
                    std::ffi::CString::from_vec_with_nul(text.into_bytes()).unwrap_or_default();
                return PyErr::warn(py, &py.get_type::<PyUserWarning>(), &text, 1);
            }
        }
        if let Some(reading) = kept {
            Self::hand_over(slf, attachment, timestamp, &reading)?;
        }
        commit_if_each_call(py, &attachment.buffer);
        Self::announce(slf);
        Ok(())
    }

    /// Record many values at once. May be called by any thread.
    ///
    /// Those that are not newer than the ones before are left out and counted; a value that the
    /// pathpoint cannot hold is logged, and is a failure with reason TYPE.
    ///
    /// :param timestamps: milliseconds since the epoch, rising: a buffer of format ``q``, such as
    ///     ``array.array("q")`` or a NumPy array of int64, or a sequence of int
    /// :param values: as many values: a buffer of format ``q`` or ``d``, or a sequence of values and
    ///     OperationFailedErrors
    /// :return: how many were recorded
    /// :raises ValueError: there are not as many values as timestamps
    /// :raises InstanceNotReady: it is attached to no device
    fn set_new_values(
        slf: &Bound<'_, Self>,
        timestamps: &Bound<'_, PyAny>,
        values: &Bound<'_, PyAny>,
    ) -> PyResult<u64> {
        let py = slf.py();
        let attachment = slf.get().attachment(py)?;
        let kind = attachment.series.kind();
        let columns = Columns::read(timestamps, values, |object| admit(slf, kind, object))?;
        let recorded = if attachment.store.is_some() {
            Self::record_and_hand_over(slf, attachment, columns.samples(kind))?
        } else {
            py.detach(|| attachment.series.record_all(columns.samples(kind)))
        };
        commit_if_each_call(py, &attachment.buffer);
        if recorded > 0 {
            Self::announce(slf);
        }
        Ok(recorded)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let class = slf.get_type().name()?.to_string();
        Ok(format!(
            "{class}({:?})",
            slf.get().identity()?.name.bind(slf.py()).to_cow()?
        ))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for slot in [
            &self.callable_on_change,
            &self.read_group,
            &self.storage_level,
        ] {
            if let Some(slot) = slot.try_lock() {
                visit.call(&*slot)?;
            }
        }
        if let Some(attachment) = self.attachment.get() {
            visit.call(&attachment.store)?;
        }
        visit.call(self.computation.get())?;
        Ok(())
    }

    fn __clear__(&self) {
        replace(&self.callable_on_change, None);
        replace(&self.read_group, None);
        replace(&self.storage_level, None);
    }
}
