//! MODBUS requests, both sides of a MODBUS TCP connection, and the planner of reads.

use std::collections::BTreeSet;

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyTuple, PyType};

use smok_core::modbus::client::{Client, ClientError};
use smok_core::modbus::pdu::{
    Answer, ExceptionCode, Operation, Request, Table, Values, encode_exception,
};
use smok_core::modbus::planner::{self, Cut, Item};
use smok_core::modbus::tcp::{Frame, FrameParser, encode_frame};

/// An integer of a request, or a ValueError that names it.
fn integer<'py, T>(value: &Bound<'py, PyAny>, what: &str, max: u16) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py, Error = PyErr>,
{
    value.extract::<T>().map_err(|error| {
        if error.is_instance_of::<PyOverflowError>(value.py()) {
            PyValueError::new_err(format!("{what} must be 0 to {max}, not {value}"))
        } else {
            error
        }
    })
}

/// The values of any iterable. A tuple lends its items without counting references, which makes 125 registers a third
/// cheaper than iterating over a list does.
fn tuple<'py>(values: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    Ok(values
        .py()
        .get_type::<PyTuple>()
        .call1((values,))?
        .cast_into()?)
}

fn words(values: &Bound<'_, PyAny>) -> PyResult<Vec<u16>> {
    let values = tuple(values)?;
    let mut words = Vec::with_capacity(values.len());
    for value in values.iter_borrowed() {
        words.push(integer(&value, "a register", u16::MAX)?);
    }
    Ok(words)
}

fn bits(values: &Bound<'_, PyAny>) -> PyResult<Vec<bool>> {
    tuple(values)?
        .iter_borrowed()
        .map(|value| value.is_truthy())
        .collect()
}

fn table(function: u8) -> PyResult<Table> {
    Table::from_read_function(function)
        .ok_or_else(|| PyValueError::new_err(format!("function {function} reads no table")))
}

/// A request to one unit, within the limits of the MODBUS specification.
#[pyclass(frozen, module = "smok_fast._core")]
pub struct ModbusRequest {
    #[pyo3(get)]
    unit: u8,
    request: Request,
}

#[pymethods]
impl ModbusRequest {
    #[new]
    fn new(
        unit: &Bound<'_, PyAny>,
        function: u8,
        address: &Bound<'_, PyAny>,
        argument: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let operation = match function {
            1..=4 => Operation::Read {
                table: table(function)?,
                count: integer(argument, "a count", u16::MAX)?,
            },
            5 => Operation::WriteCoil(argument.is_truthy()?),
            6 => Operation::WriteRegister(integer(argument, "a register", u16::MAX)?),
            15 => Operation::WriteCoils(bits(argument)?),
            16 => Operation::WriteRegisters(words(argument)?),
            _ => {
                return Err(PyValueError::new_err(format!(
                    "function {function} is not supported"
                )));
            }
        };
        let request = Request::new(integer(address, "an address", u16::MAX)?, operation)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self {
            unit: integer(unit, "a unit", u8::MAX.into())?,
            request,
        })
    }

    #[getter]
    fn function(&self) -> u8 {
        self.request.function()
    }

    #[getter]
    fn address(&self) -> u16 {
        self.request.address()
    }

    #[getter]
    fn count(&self) -> u16 {
        self.request.count()
    }

    #[getter]
    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        match self.request.operation() {
            Operation::Read { .. } => Ok(PyList::empty(py)),
            Operation::WriteCoil(on) => PyList::new(py, [on]),
            Operation::WriteRegister(value) => PyList::new(py, [value]),
            Operation::WriteCoils(values) => PyList::new(py, values),
            Operation::WriteRegisters(values) => PyList::new(py, values),
        }
    }

    fn __repr__(&self) -> String {
        format!(
            "<ModbusRequest: function {}, unit {}, address {}, count {}>",
            self.function(),
            self.unit,
            self.address(),
            self.count()
        )
    }
}

/// The client's side of a MODBUS TCP connection.
#[pyclass(module = "smok_fast._core")]
pub struct ModbusClient {
    client: Client,
}

#[pymethods]
impl ModbusClient {
    #[new]
    fn new() -> Self {
        Self {
            client: Client::new(),
        }
    }

    fn begin<'py>(&mut self, py: Python<'py>, request: &ModbusRequest) -> Bound<'py, PyBytes> {
        PyBytes::new(
            py,
            &self.client.begin(request.unit, request.request.clone()),
        )
    }

    fn feed<'py>(&mut self, py: Python<'py>, data: &[u8]) -> PyResult<Option<Bound<'py, PyList>>> {
        match self.client.feed(data) {
            Ok(None) => Ok(None),
            Ok(Some(Answer::Bits(bits))) => PyList::new(py, bits.iter()).map(Some),
            Ok(Some(Answer::Registers(registers))) => PyList::new(py, registers.iter()).map(Some),
            Ok(Some(Answer::Written)) => Ok(Some(PyList::empty(py))),
            Err(error) => Err(client_error(py, error)),
        }
    }

    fn reset(&mut self) {
        self.client.reset();
    }

    #[getter]
    fn is_between_frames(&self) -> bool {
        self.client.is_between_frames()
    }

    #[getter]
    fn stale(&self) -> u64 {
        self.client.ignored().stale
    }

    #[getter]
    fn other_unit(&self) -> u64 {
        self.client.ignored().other_unit
    }
}

/// The exception of `smok_fast.modbus` for this error.
fn client_error(py: Python<'_>, error: ClientError) -> PyErr {
    static EXCEPTION: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static BAD: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static FRAME: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let (class, name) = match error {
        ClientError::Exception(_) => (&EXCEPTION, "ExceptionResponseError"),
        ClientError::Bad(_) => (&BAD, "BadResponseError"),
        ClientError::Frame(_) => (&FRAME, "FrameError"),
    };
    match class.import(py, "smok_fast.modbus.exceptions", name) {
        Ok(class) => match error {
            ClientError::Exception(code) => PyErr::from_type(class.clone(), (code.0, code.name())),
            _ => PyErr::from_type(class.clone(), (error.to_string(),)),
        },
        Err(error) => error,
    }
}

/// The server's side of a MODBUS TCP connection.
#[pyclass(module = "smok_fast._core")]
pub struct ModbusServer {
    parser: FrameParser,
}

#[pymethods]
impl ModbusServer {
    #[new]
    fn new() -> Self {
        Self {
            parser: FrameParser::new(),
        }
    }

    fn feed(&mut self, data: &[u8]) -> Vec<ModbusQuery> {
        let mut frames = Vec::new();
        // A fault is not lost: it stays in the parser, where `error` shows it.
        let _ = self.parser.feed(data, &mut frames);
        frames.into_iter().map(ModbusQuery::from).collect()
    }

    #[getter]
    fn error(&self) -> Option<String> {
        self.parser.error().map(|error| error.to_string())
    }
}

/// A request that a server received, and the way to answer it.
#[pyclass(frozen, module = "smok_fast._core")]
pub struct ModbusQuery {
    transaction: u16,
    #[pyo3(get)]
    unit: u8,
    #[pyo3(get)]
    function: u8,
    decoded: Result<Request, ExceptionCode>,
}

impl From<Frame> for ModbusQuery {
    fn from(frame: Frame) -> Self {
        Self {
            transaction: frame.transaction,
            unit: frame.unit,
            function: frame.pdu.first().copied().unwrap_or_default(),
            decoded: Request::decode(&frame.pdu),
        }
    }
}

#[pymethods]
impl ModbusQuery {
    #[getter]
    fn request(&self) -> Option<ModbusRequest> {
        let request = self.decoded.as_ref().ok()?.clone();
        Some(ModbusRequest {
            unit: self.unit,
            request,
        })
    }

    #[getter]
    fn refusal(&self) -> Option<u8> {
        self.decoded.as_ref().err().map(|code| code.0)
    }

    fn answer<'py>(&self, values: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let request = self
            .decoded
            .as_ref()
            .map_err(|code| PyValueError::new_err(format!("to be refused with {code}")))?;
        let mut answered = Ok(());
        let frame = match request.operation() {
            Operation::Read { table, .. } if table.holds_bits() => {
                let bits = bits(values)?;
                self.frame(|out| answered = request.encode_response(Values::Bits(&bits), out))
            }
            Operation::Read { .. } => {
                let words = words(values)?;
                self.frame(|out| answered = request.encode_response(Values::Registers(&words), out))
            }
            _ => self.frame(|out| answered = request.encode_response(Values::Written, out)),
        };
        answered.map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(PyBytes::new(values.py(), &frame))
    }

    fn refuse<'py>(&self, py: Python<'py>, code: u8) -> Bound<'py, PyBytes> {
        let pdu = encode_exception(self.function, ExceptionCode(code));
        PyBytes::new(py, &self.frame(|out| out.extend_from_slice(&pdu)))
    }
}

impl ModbusQuery {
    fn frame(&self, write_pdu: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        encode_frame(self.transaction, self.unit, write_pdu)
    }
}

/// Plan the reading of items, each (unit, function, address, count), without spanning cuts, each
/// (unit, function, address). Returns requests, each with the places of its items in the list.
#[pyfunction]
pub fn modbus_plan(
    items: Vec<(u8, u8, u16, u16)>,
    max_gap: u16,
    cuts: Vec<(u8, u8, u16)>,
) -> PyResult<Vec<(ModbusRequest, Vec<usize>)>> {
    let invalid =
        |error: smok_core::modbus::pdu::LimitError| PyValueError::new_err(error.to_string());
    let items = items
        .into_iter()
        .map(|(unit, function, address, count)| {
            Item::new(unit, table(function)?, address, count).map_err(invalid)
        })
        .collect::<PyResult<Vec<_>>>()?;
    let cuts = cuts
        .into_iter()
        .map(|(unit, function, address)| {
            Ok(Cut {
                unit,
                table: table(function)?,
                address,
            })
        })
        .collect::<PyResult<BTreeSet<_>>>()?;
    planner::plan(&items, max_gap, &cuts)
        .into_iter()
        .map(|block| {
            let operation = Operation::Read {
                table: block.table,
                count: block.count,
            };
            let request = Request::new(block.address, operation).map_err(invalid)?;
            Ok((
                ModbusRequest {
                    unit: block.unit,
                    request,
                },
                block.items,
            ))
        })
        .collect()
}
