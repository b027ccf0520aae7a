//! The orders as Python objects.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};
use pyo3::{PyClass, ffi};
use smok_core::order::{
    AdviseLevel, Order as CoreOrder, OrderError, OrderType, Tries, decode_order, is_valid, is_wait,
};

use crate::minijson::{EncodingError, decoding_error, encode};
use crate::value;

/// What an order does to a pathpoint.
pub enum Access<'py> {
    /// It reads it.
    Read {
        path: Bound<'py, PyString>,
        advise: AdviseLevel,
    },
    /// It writes to it.
    Write {
        path: Bound<'py, PyString>,
        value: Bound<'py, PyAny>,
        advise: AdviseLevel,
        /// When it is too late for it, in seconds since the epoch.
        stale_after: Option<f64>,
    },
}

/// Base class of all orders.
#[pyclass(frozen, subclass, module = "smok_fast.pathpoint.orders")]
pub struct Order;

#[pymethods]
impl Order {
    #[new]
    fn new() -> Self {
        Order
    }
}

/// An order to read a pathpoint.
///
/// :param pathpoint: its name
/// :param advise: how hard to try: 3 times for ADVISE, 20 times for FORCE
/// :raises ValueError: there is no such advise level
#[pyclass(frozen, extends = Order, module = "smok_fast.pathpoint.orders")]
pub struct ReadOrder {
    pathpoint: Py<PyString>,
    advise: AdviseLevel,
    tries: Tries,
}

impl ReadOrder {
    fn make(pathpoint: Py<PyString>, advise: AdviseLevel) -> PyClassInitializer<Self> {
        with_base(ReadOrder {
            pathpoint,
            advise,
            tries: advise.read_tries(),
        })
    }

    /// What it does.
    pub fn access<'py>(&self, py: Python<'py>) -> Access<'py> {
        Access::Read {
            path: self.pathpoint.bind(py).clone(),
            advise: self.advise,
        }
    }
}

#[pymethods]
impl ReadOrder {
    #[new]
    fn new(
        pathpoint: Py<PyString>,
        advise: &Bound<'_, PyAny>,
    ) -> PyResult<PyClassInitializer<Self>> {
        Ok(Self::make(pathpoint, advise_from(advise)?))
    }

    /// Build it from what the server sends.
    ///
    /// :raises KeyError: a field is missing
    /// :raises ValueError: a field makes no sense
    #[classmethod]
    fn from_json<'py>(
        _cls: &Bound<'py, PyType>,
        dct: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        from_json(OrderType::Read, dct)
    }

    /// Count a try that failed.
    ///
    /// :return: whether to try again
    fn fail(&self) -> bool {
        self.tries.fail()
    }

    /// The name of the pathpoint to read.
    #[getter]
    fn pathpoint(&self, py: Python<'_>) -> Py<PyString> {
        self.pathpoint.clone_ref(py)
    }

    /// How hard to try.
    #[getter(advise)]
    fn get_advise<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        advise_level(py, self.advise)
    }

    /// How many tries are left.
    #[getter]
    fn repeat_count(&self) -> u32 {
        self.tries.left()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let advise = advise_name(self.advise);
        Ok(format!(
            "ReadOrder({}, {advise})",
            self.pathpoint.bind(py).repr()?
        ))
    }
}

/// An order to write a value to a pathpoint.
///
/// :param pathpoint: its name
/// :param value: what to write; kept as it is given, coerced when it is written
/// :param advise: how hard to try: once for ADVISE, 10 times for FORCE
/// :param stale_after: when it is too late for it, in seconds since the epoch; never by default
/// :raises ValueError: there is no such advise level
#[pyclass(frozen, extends = Order, module = "smok_fast.pathpoint.orders")]
pub struct WriteOrder {
    pathpoint: Py<PyString>,
    value: Py<PyAny>,
    advise: AdviseLevel,
    stale_after: Option<f64>,
    tries: Tries,
}

impl WriteOrder {
    fn make(
        pathpoint: Py<PyString>,
        value: Py<PyAny>,
        advise: AdviseLevel,
        stale_after: Option<f64>,
    ) -> PyClassInitializer<Self> {
        let tries = advise.write_tries();
        with_base(WriteOrder {
            pathpoint,
            value,
            advise,
            stale_after,
            tries,
        })
    }

    /// What it does.
    pub fn access<'py>(&self, py: Python<'py>) -> Access<'py> {
        Access::Write {
            path: self.pathpoint.bind(py).clone(),
            value: self.value.bind(py).clone(),
            advise: self.advise,
            stale_after: self.stale_after,
        }
    }
}

#[pymethods]
impl WriteOrder {
    #[new]
    #[pyo3(signature = (pathpoint, value, advise, stale_after = None))]
    fn new(
        pathpoint: Py<PyString>,
        value: Py<PyAny>,
        advise: &Bound<'_, PyAny>,
        stale_after: Option<f64>,
    ) -> PyResult<PyClassInitializer<Self>> {
        Ok(Self::make(
            pathpoint,
            value,
            advise_from(advise)?,
            stale_after,
        ))
    }

    /// Build it from what the server sends.
    ///
    /// :raises KeyError: a field is missing
    /// :raises ValueError: a field makes no sense
    #[classmethod]
    fn from_json<'py>(
        _cls: &Bound<'py, PyType>,
        dct: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        from_json(OrderType::Write, dct)
    }

    /// Count a try that failed.
    ///
    /// :return: whether to try again
    fn fail(&self) -> bool {
        self.tries.fail()
    }

    /// Whether it is not too late for it.
    fn is_valid(&self) -> bool {
        is_valid_now(self.stale_after)
    }

    /// The name of the pathpoint to write to.
    #[getter]
    fn pathpoint(&self, py: Python<'_>) -> Py<PyString> {
        self.pathpoint.clone_ref(py)
    }

    /// What to write.
    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.value.bind(py).clone()
    }

    /// How hard to try.
    #[getter(advise)]
    fn get_advise<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        advise_level(py, self.advise)
    }

    /// When it is too late for it, in seconds since the epoch; None for never.
    #[getter]
    fn stale_after(&self) -> Option<f64> {
        self.stale_after
    }

    /// How many tries are left.
    #[getter]
    fn repeat_count(&self) -> u32 {
        self.tries.left()
    }

    // A value may be any object, and so a part of a cycle.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.value)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let path = self.pathpoint.bind(py).repr()?;
        let value = self.value.bind(py).repr()?;
        let advise = advise_name(self.advise);
        let stale_after = match self.stale_after {
            Some(seconds) => format!("{seconds:?}"),
            None => "None".to_owned(),
        };
        Ok(format!(
            "WriteOrder({path}, {value}, {advise}, {stale_after})"
        ))
    }
}

/// An order to tell the server that a message arrived. It is tried 3 times.
///
/// :param uuid: the message's identifier
#[pyclass(frozen, extends = Order, module = "smok_fast.pathpoint.orders")]
pub struct MessageOrder {
    uuid: Py<PyString>,
    tries: Tries,
}

impl MessageOrder {
    fn make(uuid: Py<PyString>) -> PyClassInitializer<Self> {
        with_base(MessageOrder {
            uuid,
            tries: Tries::of_message(),
        })
    }
}

#[pymethods]
impl MessageOrder {
    #[new]
    fn new(uuid: Py<PyString>) -> PyClassInitializer<Self> {
        Self::make(uuid)
    }

    /// Build it from what the server sends.
    ///
    /// :raises KeyError: a field is missing
    /// :raises ValueError: a field makes no sense
    #[classmethod]
    fn from_json<'py>(
        _cls: &Bound<'py, PyType>,
        dct: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        from_json(OrderType::Message, dct)
    }

    /// Count a try that failed.
    ///
    /// :return: whether to try again
    fn fail(&self) -> bool {
        self.tries.fail()
    }

    /// The message's identifier.
    #[getter]
    fn uuid(&self, py: Python<'_>) -> Py<PyString> {
        self.uuid.clone_ref(py)
    }

    /// How many tries are left.
    #[getter]
    fn times_retry(&self) -> u32 {
        self.tries.left()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("MessageOrder({})", self.uuid.bind(py).repr()?))
    }
}

/// An order to wait. Of several in one section the longest counts.
///
/// :param period: how long, in seconds
/// :raises ValueError: it is negative, not a number, or longer than a clock can count (292 years)
#[pyclass(frozen, extends = Order, module = "smok_fast.pathpoint.orders")]
pub struct WaitOrder {
    period: f64,
}

#[pymethods]
impl WaitOrder {
    #[new]
    fn new(period: f64) -> PyResult<PyClassInitializer<Self>> {
        if !is_wait(period) {
            return Err(PyValueError::new_err(format!(
                "cannot wait for {period} seconds"
            )));
        }
        Ok(with_base(WaitOrder { period }))
    }

    /// Build it from what the server sends.
    ///
    /// :raises KeyError: a field is missing
    /// :raises ValueError: a field makes no sense
    #[classmethod]
    fn from_json<'py>(
        _cls: &Bound<'py, PyType>,
        dct: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        from_json(OrderType::Wait, dct)
    }

    /// How long to wait, in seconds.
    #[getter]
    pub fn period(&self) -> f64 {
        self.period
    }

    fn __repr__(&self) -> String {
        format!("WaitOrder({:?})", self.period)
    }
}

/// An order that the device's program defines the meaning of.
///
/// :param op_type: what to do
/// :param op_args: what to do it with
#[pyclass(frozen, extends = Order, module = "smok_fast.pathpoint.orders")]
pub struct SysctlOrder {
    op_type: Py<PyString>,
    op_args: Py<PyString>,
}

impl SysctlOrder {
    fn make(op_type: Py<PyString>, op_args: Py<PyString>) -> PyClassInitializer<Self> {
        with_base(SysctlOrder { op_type, op_args })
    }
}

#[pymethods]
impl SysctlOrder {
    #[new]
    fn new(op_type: Py<PyString>, op_args: Py<PyString>) -> PyClassInitializer<Self> {
        Self::make(op_type, op_args)
    }

    /// Build it from what the server sends.
    ///
    /// :raises KeyError: a field is missing
    /// :raises ValueError: a field makes no sense
    #[classmethod]
    fn from_json<'py>(
        _cls: &Bound<'py, PyType>,
        dct: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        from_json(OrderType::Sysctl, dct)
    }

    /// What to do.
    #[getter]
    fn op_type(&self, py: Python<'_>) -> Py<PyString> {
        self.op_type.clone_ref(py)
    }

    /// What to do it with.
    #[getter]
    fn op_args(&self, py: Python<'_>) -> Py<PyString> {
        self.op_args.clone_ref(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let (op_type, op_args) = (self.op_type.bind(py).repr()?, self.op_args.bind(py).repr()?);
        Ok(format!("SysctlOrder({op_type}, {op_args})"))
    }
}

fn with_base<T: PyClass<BaseType = Order>>(order: T) -> PyClassInitializer<T> {
    PyClassInitializer::from(Order).add_subclass(order)
}

/// The Python member of an advise level.
pub fn advise_level(py: Python<'_>, advise: AdviseLevel) -> PyResult<Bound<'_, PyAny>> {
    static LEVELS: PyOnceLock<(Py<PyAny>, Py<PyAny>)> = PyOnceLock::new();
    let (lenient, force) = LEVELS.get_or_try_init(py, || -> PyResult<_> {
        let levels = py
            .import("smok_fast.pathpoint.orders")?
            .getattr("AdviseLevel")?;
        Ok((
            levels.getattr("ADVISE")?.unbind(),
            levels.getattr("FORCE")?.unbind(),
        ))
    })?;
    Ok(match advise {
        AdviseLevel::Advise => lenient.bind(py).clone(),
        AdviseLevel::Force => force.bind(py).clone(),
    })
}

fn advise_name(advise: AdviseLevel) -> &'static str {
    match advise {
        AdviseLevel::Advise => "AdviseLevel.ADVISE",
        AdviseLevel::Force => "AdviseLevel.FORCE",
    }
}

fn advise_from(object: &Bound<'_, PyAny>) -> PyResult<AdviseLevel> {
    object
        .extract()
        .ok()
        .and_then(AdviseLevel::from_number)
        .ok_or_else(|| {
            PyValueError::new_err("advise must be AdviseLevel.ADVISE or AdviseLevel.FORCE")
        })
}

/// Whether a write that goes stale at a time, in seconds since the epoch, is still to be done.
pub fn is_valid_now(stale_after: Option<f64>) -> bool {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    is_valid(stale_after, now.as_secs_f64())
}

/// An order of the core as a Python object.
pub fn to_python<'py>(py: Python<'py>, order: &CoreOrder<'_>) -> PyResult<Bound<'py, PyAny>> {
    let text = |text: &str| PyString::new(py, text).unbind();
    match order {
        CoreOrder::Read { path, advise } => leaf(py, ReadOrder::make(text(path), *advise)),
        CoreOrder::Write {
            path,
            value,
            advise,
            stale_after,
        } => {
            let value = value::to_python(py, value)?.unbind();
            let order = WriteOrder::make(text(path), value, *advise, *stale_after);
            leaf(py, order)
        }
        CoreOrder::Message { uuid } => leaf(py, MessageOrder::make(text(uuid))),
        CoreOrder::Wait { seconds } => leaf(py, with_base(WaitOrder { period: *seconds })),
        CoreOrder::Sysctl { op_type, op_args } => {
            leaf(py, SysctlOrder::make(text(op_type), text(op_args)))
        }
    }
}

/// A new object that holds nothing but texts and numbers, so that it cannot be a part of a cycle.
///
/// The garbage collector need not look at it, which took a quarter of the time where thousands of
/// orders become objects (measured); PyO3 has all classes be looked at.
#[allow(unsafe_code)] // measured: see above
fn leaf<T: PyClass>(
    py: Python<'_>,
    object: impl Into<PyClassInitializer<T>>,
) -> PyResult<Bound<'_, PyAny>> {
    let object = Bound::new(py, object)?.into_any();
    // SAFETY: it is a live object of a class that the garbage collector tracks, and nobody else has
    // seen it yet.
    unsafe { ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) };
    Ok(object)
}

/// An order of the core that says the same as a Python object.
///
/// # Errors
/// `EncodingError` if the value of a write is neither a number nor a text, `TypeError` if it is no
/// order that the server sends.
pub fn from_python(order: &Bound<'_, PyAny>) -> PyResult<CoreOrder<'static>> {
    let py = order.py();
    let text = |text: &Py<PyString>| -> PyResult<_> {
        Ok(Cow::Owned(text.bind(py).to_cow()?.into_owned()))
    };
    if let Ok(read) = order.cast::<ReadOrder>() {
        let read = read.get();
        return Ok(CoreOrder::Read {
            path: text(&read.pathpoint)?,
            advise: read.advise,
        });
    }
    if let Ok(write) = order.cast::<WriteOrder>() {
        let write = write.get();
        let value = value::value(write.value.bind(py));
        return Ok(CoreOrder::Write {
            path: text(&write.pathpoint)?,
            value: value.ok_or_else(|| EncodingError::new_err("neither a number nor a text"))?,
            advise: write.advise,
            stale_after: write.stale_after,
        });
    }
    if let Ok(message) = order.cast::<MessageOrder>() {
        let uuid = text(&message.get().uuid)?;
        return Ok(CoreOrder::Message { uuid });
    }
    if let Ok(wait) = order.cast::<WaitOrder>() {
        let seconds = wait.get().period;
        return Ok(CoreOrder::Wait { seconds });
    }
    if let Ok(sysctl) = order.cast::<SysctlOrder>() {
        let sysctl = sysctl.get();
        return Ok(CoreOrder::Sysctl {
            op_type: text(&sysctl.op_type)?,
            op_args: text(&sysctl.op_args)?,
        });
    }
    let what = format!("the server sends no {}", order.repr()?);
    Err(PyTypeError::new_err(what))
}

/// The order of this type that a dict describes, read by the same rules as a body of the server's.
fn from_json<'py>(order_type: OrderType, dct: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    match decode_order(order_type, &encode(dct)?).map_err(decoding_error)? {
        Ok(order) => to_python(dct.py(), &order),
        Err(OrderError::Missing(field)) => Err(PyKeyError::new_err(field)),
        Err(error) => Err(PyValueError::new_err(error.to_string())),
    }
}
