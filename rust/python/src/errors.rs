//! The one place that maps errors between the core and Python.

use std::io;

use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use smok_core::queue::Closed;
use smok_core::reparse::{EvaluationError, SyntaxError};
use smok_core::value::Reason;

fn exception<'py>(
    py: Python<'py>,
    cell: &PyOnceLock<Py<PyType>>,
    name: &str,
) -> PyResult<Bound<'py, PyType>> {
    cell.import(py, "smok_fast.exceptions", name).cloned()
}

fn operation_failed_error(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    exception(py, &TYPE, "OperationFailedError")
}

fn not_readed_error(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    exception(py, &TYPE, "NotReadedError")
}

fn instance_not_ready(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    exception(py, &TYPE, "InstanceNotReady")
}

/// An `OperationFailedError` instance with this reason and time.
pub fn failure(py: Python<'_>, reason: Reason, timestamp: i64) -> PyResult<Bound<'_, PyAny>> {
    operation_failed_error(py)?.call1((failure_reason(py, reason)?, timestamp))
}

/// A member of `OperationFailedReason`.
fn failure_reason(py: Python<'_>, reason: Reason) -> PyResult<Bound<'_, PyAny>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    exception(py, &TYPE, "OperationFailedReason")?.call1((reason.code(),))
}

/// Whether this is an `OperationFailedError`.
pub fn is_failure(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    object.is_instance(operation_failed_error(object.py())?.as_any())
}

/// The reason that an `OperationFailedError` gives. `None` for any other object, for one without an
/// `OperationFailedReason`, and so for a `NotReadedError`, which is nothing that a read may report.
pub fn reason_of(object: &Bound<'_, PyAny>) -> PyResult<Option<Reason>> {
    let py = object.py();
    if !is_failure(object)? {
        return Ok(None);
    }
    // Whatever else than an OperationFailedReason the user put there is no reason.
    let code = object
        .getattr(intern!(py, "reason"))
        .and_then(|reason| reason.getattr(intern!(py, "value")))
        .and_then(|code| code.extract::<String>());
    Ok(code.ok().and_then(|code| Reason::from_code(&code)))
}

/// A `ReparseError` instance; its time is now if none is given.
pub fn reparse_failure<'py>(
    py: Python<'py>,
    error: &EvaluationError,
    timestamp: Option<i64>,
) -> PyResult<Bound<'py, PyAny>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let reason = failure_reason(py, error.reason())?;
    exception(py, &TYPE, "ReparseError")?.call1((error.to_string(), reason, timestamp))
}

/// The error of an expression that has no value; its time is now if none is given.
pub fn reparse(py: Python<'_>, error: &EvaluationError, timestamp: Option<i64>) -> PyErr {
    match reparse_failure(py, error, timestamp) {
        Ok(instance) => PyErr::from_value(instance),
        Err(error) => error,
    }
}

/// The error of a text that is no expression.
pub fn reparse_syntax(py: Python<'_>, text: &str, error: &SyntaxError) -> PyErr {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let arguments = (&error.message, text, error.position, &error.caret);
    match exception(py, &TYPE, "ReparseSyntaxError").and_then(|class| class.call1(arguments)) {
        Ok(instance) => PyErr::from_value(instance),
        Err(error) => error,
    }
}

/// The error of a value that was not read yet.
pub fn not_read(py: Python<'_>) -> PyErr {
    match not_readed_error(py).and_then(|class| class.call0()) {
        Ok(instance) => PyErr::from_value(instance),
        Err(error) => error,
    }
}

/// The error of a pathpoint that is attached to no device.
pub fn not_attached(py: Python<'_>) -> PyErr {
    const MESSAGE: &str =
        "attach this pathpoint to a device first, with SMOKDevice.register_pathpoint";
    match instance_not_ready(py).and_then(|class| class.call1((MESSAGE,))) {
        Ok(instance) => PyErr::from_value(instance),
        Err(error) => error,
    }
}

/// The error of a queue that was closed.
pub fn closed(error: Closed) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}

/// What the system refused: an `OSError` with its `errno`, if it has one.
pub fn system(error: io::Error) -> PyErr {
    let Some(code) = error.raw_os_error() else {
        return error.into();
    };
    let text = error.to_string();
    let text = text.trim_end_matches(&format!(" (os error {code})"));
    PyOSError::new_err((code, text.to_owned()))
}
