//! `smok_fast._core`: the Python face of `smok-core`, one file per core module.

use pyo3::prelude::*;

mod arrays;
mod buffer;
mod callback;
mod decoded;
mod errors;
mod executor;
mod inspect;
mod minijson;
mod modbus;
mod ngtt;
mod numbers;
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
    use super::buffer::{Buffer, SampleIterator};
    #[pymodule_export]
    use super::decoded::{
        DecodedOrders, change_anything, decode_sections, encode_section, longest_wait,
    };
    #[pymodule_export]
    use super::executor::{OrderRunner, record_result, record_results};
    #[pymodule_export]
    use super::inspect::{BufferVerification, SampleSweep};
    #[pymodule_export]
    use super::minijson::{DecodingError, EncodingError, MiniJSONError, dumps, loads};
    #[pymodule_export]
    use super::modbus::{
        ModbusBlock, ModbusClient, ModbusPlanner, ModbusQuery, ModbusRequest, ModbusServer,
        RegisterName,
    };
    #[pymodule_export]
    use super::ngtt::{NGTTDecoder, encode_ngtt_frame};
    #[pymodule_export]
    use super::order::{MessageOrder, Order, ReadOrder, SysctlOrder, WaitOrder, WriteOrder};
    #[pymodule_export]
    use super::pathpoint::PathpointCore;
    #[pymodule_export]
    use super::queue::OrderQueue;
    #[pymodule_export]
    use super::reparse::{Computation, Expression};
    #[pymodule_export]
    use super::schedule::ArchiveSchedule;
}
