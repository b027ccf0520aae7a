//! Values between Python and the core.

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyString};
use smok_core::pathpoint::Kind;
use smok_core::value::{Reading, Value};

/// What a Python object says about a pathpoint.
pub enum Given {
    /// A value that the pathpoint can hold, or an `OperationFailedError`.
    Reading(Reading),
    /// Something that a pathpoint of this type cannot hold.
    WrongType,
}

/// Reads a value or an `OperationFailedError`.
pub fn reading(object: &Bound<'_, PyAny>, kind: Kind) -> PyResult<Given> {
    if let Some(value) = value(object) {
        let admitted = kind.admits(&value);
        return Ok(if admitted {
            Given::Reading(Reading::Value(value))
        } else {
            Given::WrongType
        });
    }
    Ok(match crate::errors::reason_of(object)? {
        Some(reason) => Given::Reading(Reading::Failed(reason)),
        None => Given::WrongType,
    })
}

/// Reads a number or a text; anything that Python itself takes for an integer or a float counts as
/// one.
pub fn value(object: &Bound<'_, PyAny>) -> Option<Value> {
    if object.is_exact_instance_of::<PyInt>() || object.is_instance_of::<PyBool>() {
        return object.extract().ok().map(Value::Int);
    }
    if let Ok(float) = object.cast_exact::<PyFloat>() {
        return Some(Value::Float(float.value()));
    }
    if let Ok(text) = object.cast::<PyString>() {
        return text
            .to_cow()
            .ok()
            .map(|text| Value::Text(text.as_ref().into()));
    }
    match object.extract() {
        Ok(int) => Some(Value::Int(int)),
        // An integer out of range must not be rounded to a float.
        Err(error) if error.is_instance_of::<PyOverflowError>(object.py()) => None,
        Err(_) => object.extract().ok().map(Value::Float),
    }
}

/// A value as a Python object.
pub fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Int(int) => int.into_pyobject(py)?.into_any(),
        Value::Float(float) => float.into_pyobject(py)?.into_any(),
        Value::Text(text) => PyString::new(py, text).into_any(),
    })
}

/// A value, or the `OperationFailedError` that stands for it.
pub fn reading_to_python<'py>(
    py: Python<'py>,
    reading: &Reading,
    timestamp: i64,
) -> PyResult<Bound<'py, PyAny>> {
    match reading {
        Reading::Value(value) => to_python(py, value),
        Reading::Failed(reason) => crate::errors::failure(py, *reason, timestamp),
    }
}

/// The farthest timestamp from the epoch, in milliseconds: over a hundred thousand years, and
/// exact as a float.
const FARTHEST: i64 = 4_000_000_000_000_000;

/// A timestamp in milliseconds since the epoch, given as an int or a float.
pub fn timestamp(object: &Bound<'_, PyAny>) -> PyResult<i64> {
    let milliseconds = match object.cast_exact::<PyInt>() {
        Ok(int) => int.extract().ok(),
        Err(_) => whole(object.extract::<f64>()?),
    };
    milliseconds
        .filter(|milliseconds| is_time(*milliseconds))
        .ok_or_else(|| no_time(object))
}

/// Whether a timestamp is within bounds.
pub fn is_time(milliseconds: i64) -> bool {
    milliseconds.unsigned_abs() <= FARTHEST.unsigned_abs()
}

/// The error of what is no timestamp.
pub fn no_time(what: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(format!("{what} is no time in milliseconds"))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // exact within the bounds
fn whole(float: f64) -> Option<i64> {
    (float.abs() <= FARTHEST as f64).then(|| float.floor() as i64)
}
