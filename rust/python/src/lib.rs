//! `smok_fast._core`: the Python face of `smok-core`, one file per core module.

use pyo3::prelude::*;

mod buffer;
mod callback;
mod errors;
mod executor;
mod minijson;
mod modbus;
mod order;
mod pathpoint;
mod queue;
mod reparse;
mod schedule;
mod value;

/// The native core of smok_fast. Use the modules of `smok_fast` instead of this one.
#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use crate::minijson::{DecodingError, EncodingError, MiniJSONError, dumps, loads};
    #[pymodule_export]
    use crate::order::{
        MessageOrder, Order, ReadOrder, SysctlOrder, WaitOrder, WriteOrder, decode_sections,
    };
}
