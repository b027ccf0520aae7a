//! Samples that are given as two columns.

use pyo3::buffer::{Element, PyBuffer};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use smok_core::pathpoint::Kind;
use smok_core::value::{Reading, Reason, Sample, Value};

use crate::value;

/// The content of a buffer, if the object is one with elements of this type.
fn copied<T: Element>(object: &Bound<'_, PyAny>) -> PyResult<Option<Vec<T>>> {
    match PyBuffer::<T>::get(object) {
        Ok(buffer) => buffer.to_vec(object.py()).map(Some),
        Err(_) => Ok(None),
    }
}

fn in_bounds(timestamps: Vec<i64>) -> PyResult<Vec<i64>> {
    match timestamps.iter().find(|time| !value::is_time(**time)) {
        Some(time) => Err(value::no_time(time)),
        None => Ok(timestamps),
    }
}

/// Samples that were given as two columns, copied so that they hold still while the GIL is
/// released.
pub struct Columns {
    timestamps: Vec<i64>,
    readings: Readings,
}

enum Readings {
    Ints(Vec<i64>),
    Floats(Vec<f64>),
    Any(Vec<Reading>),
}

impl Columns {
    /// Reads two columns; `admit` makes a reading of what is in no buffer.
    pub fn read(
        timestamps: &Bound<'_, PyAny>,
        values: &Bound<'_, PyAny>,
        admit: impl Fn(&Bound<'_, PyAny>) -> PyResult<Reading>,
    ) -> PyResult<Self> {
        let timestamps = match copied(timestamps)? {
            Some(timestamps) => in_bounds(timestamps)?,
            None => timestamps
                .try_iter()?
                .map(|timestamp| value::timestamp(&timestamp?))
                .collect::<PyResult<_>>()?,
        };
        let readings = if let Some(floats) = copied(values)? {
            Readings::Floats(floats)
        } else if let Some(ints) = copied(values)? {
            Readings::Ints(ints)
        } else {
            let values = values.try_iter()?;
            Readings::Any(
                values
                    .map(|object| admit(&object?))
                    .collect::<PyResult<_>>()?,
            )
        };
        let columns = Columns {
            timestamps,
            readings,
        };
        let (times, values) = (columns.timestamps.len(), columns.readings.len());
        if times != values {
            return Err(PyValueError::new_err(format!(
                "{times} timestamps were given, and {values} values"
            )));
        }
        Ok(columns)
    }

    /// The samples of a pathpoint of this type; numbers that it cannot hold are TYPE failures.
    pub fn samples(&self, kind: Kind) -> impl Iterator<Item = Sample> {
        let admitted = move |value: Value| {
            if kind.admits(&value) {
                Reading::Value(value)
            } else {
                Reading::Failed(Reason::Type)
            }
        };
        let reading = move |index: usize| match &self.readings {
            Readings::Ints(ints) => ints.get(index).map(|int| admitted(Value::Int(*int))),
            Readings::Floats(floats) => floats
                .get(index)
                .map(|float| admitted(Value::Float(*float))),
            Readings::Any(readings) => readings.get(index).cloned(),
        };
        let timestamps = self.timestamps.iter().enumerate();
        timestamps.filter_map(move |(index, timestamp)| {
            Some(Sample {
                timestamp: *timestamp,
                reading: reading(index)?,
            })
        })
    }
}

impl Readings {
    fn len(&self) -> usize {
        match self {
            Readings::Ints(ints) => ints.len(),
            Readings::Floats(floats) => floats.len(),
            Readings::Any(readings) => readings.len(),
        }
    }
}
