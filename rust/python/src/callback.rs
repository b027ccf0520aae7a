//! The one place that calls code of the user's.
//!
//! No lock is held here, and nothing that the code raises goes further than to whoever is told
//! about it.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;
use pyo3::{ffi, intern};

/// Calls `target.name(argument)`.
///
/// This is the one call that is made for every read. In the stable ABI of Python 3.11 PyO3's
/// `call_method1` makes a bound method and a tuple for it; `PyObject_CallMethodObjArgs` makes
/// neither.
#[allow(unsafe_code)] // measured: see above
pub fn call_method1<'py>(
    target: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    argument: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = target.py();
    // SAFETY: all pointers are to live objects, the list of arguments ends with a null pointer, and
    // the result is an owned reference, or null with an exception set.
    unsafe {
        let null = std::ptr::null_mut::<ffi::PyObject>();
        let result = ffi::PyObject_CallMethodObjArgs(
            target.as_ptr(),
            name.as_ptr(),
            argument.as_ptr(),
            null,
        );
        Bound::from_owned_ptr_or_err(py, result)
    }
}

/// Tells the user's log about something that went wrong around a pathpoint:
/// `smok_fast.pathpoint.reports.<name>(…)`.
pub fn report<'py>(
    py: Python<'py>,
    name: &str,
    arguments: (&Bound<'py, PyAny>, &Bound<'py, PyAny>),
) {
    static MODULE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let reported = MODULE
        .get_or_try_init(py, || {
            py.import("smok_fast.pathpoint.reports")
                .map(|module| module.into_any().unbind())
        })
        .and_then(|module| module.bind(py).call_method1(name, arguments).map(drop));
    if let Err(error) = reported {
        error.write_unraisable(py, Some(arguments.0));
    }
}

fn report_error(name: &str, pathpoint: &Bound<'_, PyAny>, error: PyErr) {
    let py = pathpoint.py();
    // Before Python 3.12 it is into_value() that gives an exception its traceback.
    let error = error.into_value(py).into_bound(py);
    report(py, name, (pathpoint, error.as_any()));
}

/// Tells a store of the user's about a new sample.
pub fn store_sample<'py>(
    pathpoint: &Bound<'py, PyAny>,
    store: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    timestamp: i64,
    reading: &Bound<'py, PyAny>,
) {
    let py = pathpoint.py();
    if let Err(error) = store.call_method1(intern!(py, "on_new_data"), (name, timestamp, reading)) {
        report_error("store_failed", pathpoint, error);
    }
}

/// Gives what was read to a `set_new_value` of the user's.
pub fn set_new_value<'py>(
    pathpoint: &Bound<'py, PyAny>,
    timestamp: i64,
    reading: &Bound<'py, PyAny>,
) {
    let py = pathpoint.py();
    if let Err(error) = pathpoint.call_method1(intern!(py, "set_new_value"), (timestamp, reading)) {
        report_error("set_new_value_raised", pathpoint, error);
    }
}

/// Tells the user that a pathpoint has a new value.
pub fn changed<'py>(pathpoint: &Bound<'py, PyAny>, callable: &Bound<'py, PyAny>) {
    if let Err(error) = callable.call1((pathpoint,)) {
        report_error("change_callback_failed", pathpoint, error);
    }
}
