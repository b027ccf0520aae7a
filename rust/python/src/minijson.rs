//! MiniJSON straight between Python objects and bytes.
//!
//! Containers are copied before they are walked, so that another thread that changes one meanwhile
//! cannot make a header lie about what follows it.

use pyo3::buffer::PyBuffer;
use pyo3::create_exception;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMemoryView, PyNone, PyString,
    PyTuple,
};
use smok_core::minijson::{MAX_DEPTH, Reader, Token, Writer};

create_exception!(
    smok_fast.minijson,
    MiniJSONError,
    PyValueError,
    "Base class of what goes wrong with MiniJSON."
);
create_exception!(
    smok_fast.minijson,
    EncodingError,
    MiniJSONError,
    "The object has no MiniJSON form; the message says why."
);
create_exception!(
    smok_fast.minijson,
    DecodingError,
    MiniJSONError,
    "The bytes cannot be decoded; the message says why and where."
);

/// How many keys of one document may be integers beyond 64 bits. CPython hashes integers modulo
/// 2⁶¹−1, so a dict of chosen ones takes quadratic time; narrower integers, texts and bytes cannot
/// be chosen so.
const MAX_BIG_KEYS: usize = 1024;

/// An error of the core as an exception.
#[allow(clippy::needless_pass_by_value)] // the signature that map_err wants
pub(crate) fn decoding_error(error: impl ToString) -> PyErr {
    DecodingError::new_err(error.to_string())
}

#[allow(clippy::needless_pass_by_value)] // the signature that map_err wants
pub(crate) fn encoding_error(error: impl ToString) -> PyErr {
    EncodingError::new_err(error.to_string())
}

/// Encode an object as MiniJSON, each value in its shortest form.
///
/// :param obj: see :mod:`smok_fast.minijson` for what can be encoded
/// :raises EncodingError: something in it cannot: its type, a text with a lone surrogate, an
///     integer of more than 255 bytes, or more than 128 containers inside each other, as in a list
///     that contains itself
#[pyfunction]
#[pyo3(signature = (obj, /))]
pub(crate) fn dumps<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(obj.py(), &encode(obj)?))
}

/// An object as MiniJSON.
pub(crate) fn encode(obj: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let mut out = Vec::new();
    write(&mut Writer::new(&mut out), obj, 0)?;
    Ok(out)
}

fn write(writer: &mut Writer<'_>, obj: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
    if let Ok(text) = obj.cast::<PyString>() {
        return writer.text(utf8(text)?).map_err(encoding_error);
    }
    if let Ok(bool) = obj.cast::<PyBool>() {
        writer.bool(bool.is_true());
    } else if let Ok(int) = obj.cast::<PyInt>() {
        write_int(writer, int)?;
    } else if let Ok(float) = obj.cast::<PyFloat>() {
        writer.float(float.value());
    } else if obj.is_none() {
        writer.null();
    } else if let Ok(list) = obj.cast::<PyList>() {
        write_items(writer, &list.to_tuple(), depth)?;
    } else if let Ok(tuple) = obj.cast::<PyTuple>() {
        write_items(writer, tuple, depth)?;
    } else if let Ok(dict) = obj.cast::<PyDict>() {
        write_dict(writer, &dict.items(), depth)?;
    } else if let Ok(bytes) = obj.cast::<PyBytes>() {
        writer.bytes(bytes.as_bytes()).map_err(encoding_error)?;
    } else if let Ok(array) = obj.cast::<PyByteArray>() {
        writer.bytes(&array.to_vec()).map_err(encoding_error)?;
    } else if obj.is_instance_of::<PyMemoryView>() {
        let bytes = obj.call_method0(intern!(obj.py(), "tobytes"))?;
        writer.bytes(bytes.extract()?).map_err(encoding_error)?;
    } else {
        let kind = obj.get_type().name()?;
        return Err(encoding_error(format!("{kind} has no MiniJSON form")));
    }
    Ok(())
}

fn utf8<'a>(text: &'a Bound<'_, PyString>) -> PyResult<&'a str> {
    text.to_str().map_err(encoding_error)
}

fn write_int(writer: &mut Writer<'_>, int: &Bound<'_, PyInt>) -> PyResult<()> {
    if let Ok(int) = int.extract() {
        writer.int(int);
        return Ok(());
    }
    // The methods of int itself: a subclass may have others.
    let py = int.py();
    let class = py.get_type::<PyInt>();
    let bits: usize = class
        .call_method1(intern!(py, "bit_length"), (int,))?
        .extract()?;
    let keywords = PyDict::new(py);
    keywords.set_item(intern!(py, "signed"), true)?;
    let arguments = (int, bits / 8 + 1, intern!(py, "big"));
    let bytes = class.call_method(intern!(py, "to_bytes"), arguments, Some(&keywords))?;
    writer.big_int(bytes.extract()?).map_err(encoding_error)
}

fn check_depth(depth: usize) -> PyResult<()> {
    if depth >= MAX_DEPTH {
        return Err(encoding_error(format!(
            "nested deeper than {MAX_DEPTH} levels"
        )));
    }
    Ok(())
}

fn write_items(writer: &mut Writer<'_>, items: &Bound<'_, PyTuple>, depth: usize) -> PyResult<()> {
    check_depth(depth)?;
    writer.list_header(items.len()).map_err(encoding_error)?;
    items
        .iter_borrowed()
        .try_for_each(|item| write(writer, &item, depth + 1))
}

/// Write the items of a dict: string-keyed if every key can be, else value-keyed.
fn write_dict(writer: &mut Writer<'_>, items: &Bound<'_, PyList>, depth: usize) -> PyResult<()> {
    check_depth(depth)?;
    let mut entries: Vec<(Bound<'_, PyAny>, Bound<'_, PyAny>)> = Vec::with_capacity(items.len());
    for item in items {
        entries.push(item.extract()?);
    }
    let keys: Option<Vec<&str>> = entries.iter().map(|(key, _)| short_text(key)).collect();
    if let Some(keys) = keys {
        writer.object_header(keys.len()).map_err(encoding_error)?;
        for (key, (_, value)) in keys.iter().zip(&entries) {
            writer.key(key).map_err(encoding_error)?;
            write(writer, value, depth + 1)?;
        }
    } else {
        writer.map_header(entries.len()).map_err(encoding_error)?;
        for (key, value) in &entries {
            write(writer, key, depth + 1)?;
            write(writer, value, depth + 1)?;
        }
    }
    Ok(())
}

/// The text that can be the key of a string-keyed object.
fn short_text<'a>(key: &'a Bound<'_, PyAny>) -> Option<&'a str> {
    key.cast::<PyString>()
        .ok()?
        .to_str()
        .ok()
        .filter(|key| key.len() <= 255)
}

/// Decode MiniJSON that is all of the data.
///
/// :param data: bytes, or anything with a buffer of unsigned bytes
/// :raises DecodingError: it is no MiniJSON, or nothing Python can hold: a list or an object as a
///     key, or more than 1024 keys that are integers beyond 64 bits
#[pyfunction]
#[pyo3(signature = (data, /))]
pub(crate) fn loads<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = data.py();
    if let Ok(bytes) = data.cast::<PyBytes>() {
        return load(py, bytes.as_bytes());
    }
    load(py, &PyBuffer::<u8>::get(data)?.to_vec(py)?)
}

fn load<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let mut loader = Loader {
        py,
        reader: Reader::new(data),
        big_keys: 0,
    };
    let object = loader.object(0)?;
    loader.reader.finish().map_err(decoding_error)?;
    Ok(object)
}

struct Loader<'py, 'a> {
    py: Python<'py>,
    reader: Reader<'a>,
    big_keys: usize,
}

impl<'py> Loader<'py, '_> {
    fn object(&mut self, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        Ok(match self.reader.token(depth).map_err(decoding_error)? {
            Token::Null => PyNone::get(py).to_owned().into_any(),
            Token::Bool(bool) => PyBool::new(py, bool).to_owned().into_any(),
            Token::Int(int) => PyInt::new(py, int).into_any(),
            Token::BigInt(bytes) => big_int(py, bytes)?,
            Token::Float(float) => PyFloat::new(py, float).into_any(),
            Token::Text(text) => PyString::new(py, text).into_any(),
            Token::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
            Token::List(count) => {
                let list = PyList::empty(py);
                for _ in 0..count {
                    list.append(self.object(depth + 1)?)?;
                }
                list.into_any()
            }
            Token::Object(count) => {
                let dict = PyDict::new(py);
                for _ in 0..count {
                    let key = self.reader.key().map_err(decoding_error)?;
                    dict.set_item(key, self.object(depth + 1)?)?;
                }
                dict.into_any()
            }
            Token::Map(count) => {
                let dict = PyDict::new(py);
                for _ in 0..count {
                    let key = self.object(depth + 1)?;
                    self.check_key(&key)?;
                    dict.set_item(key, self.object(depth + 1)?)?;
                }
                dict.into_any()
            }
        })
    }

    fn check_key(&mut self, key: &Bound<'py, PyAny>) -> PyResult<()> {
        if key.is_instance_of::<PyList>() || key.is_instance_of::<PyDict>() {
            return Err(decoding_error(
                "a list or an object cannot be a key in Python",
            ));
        }
        if key.is_instance_of::<PyInt>() && key.extract::<i64>().is_err() {
            self.big_keys += 1;
            if self.big_keys > MAX_BIG_KEYS {
                return Err(decoding_error("too many keys are integers beyond 64 bits"));
            }
        }
        Ok(())
    }
}

fn big_int<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let keywords = PyDict::new(py);
    keywords.set_item(intern!(py, "signed"), true)?;
    let arguments = (PyBytes::new(py, bytes), intern!(py, "big"));
    py.get_type::<PyInt>()
        .call_method(intern!(py, "from_bytes"), arguments, Some(&keywords))
}
