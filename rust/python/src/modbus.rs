//! MODBUS requests, both sides of a MODBUS TCP connection, registers and the planner of reads.

use parking_lot::Mutex;
use pyo3::PyErrArguments;
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyTuple, PyType};

use smok_core::modbus::client::Client;
use smok_core::modbus::pdu::{
    Answer, ExceptionCode, LimitError, Operation, Request, ResponseError, Table, Values,
    encode_exception,
};
use smok_core::modbus::planner::{Block, Planner};
use smok_core::modbus::register::{Register, WriteError};
use smok_core::modbus::tcp::{Frame, FrameError, FrameParser, encode_frame};

use crate::value;

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
        request(
            integer(unit, "a unit", u8::MAX.into())?,
            Request::new(integer(address, "an address", u16::MAX)?, operation),
        )
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
#[pyclass(frozen, module = "smok_fast._core")]
pub struct ModbusClient {
    client: Mutex<Client>,
}

#[pymethods]
impl ModbusClient {
    #[new]
    fn new() -> Self {
        Self {
            client: Mutex::new(Client::new()),
        }
    }

    fn begin<'py>(&self, py: Python<'py>, request: &ModbusRequest) -> Bound<'py, PyBytes> {
        let frame = self
            .client
            .lock()
            .begin(request.unit, request.request.clone());
        PyBytes::new(py, &frame)
    }

    fn feed<'py>(&self, py: Python<'py>, data: &[u8]) -> PyResult<Option<Bound<'py, PyList>>> {
        let fed = self.client.lock().feed(data);
        let Some(reply) = fed.map_err(|error| frame_error(py, error))? else {
            return Ok(None);
        };
        Ok(Some(match reply.answer() {
            Ok(Answer::Bits(bits)) => PyList::new(py, bits.iter())?,
            Ok(Answer::Registers(registers)) => PyList::new(py, registers.iter())?,
            Ok(Answer::Written) => PyList::empty(py),
            Err(error) => return Err(response_error(py, error)),
        }))
    }

    fn reset(&self) {
        self.client.lock().reset();
    }

    #[getter]
    fn is_between_frames(&self) -> bool {
        self.client.lock().is_between_frames()
    }

    #[getter]
    fn stale(&self) -> u64 {
        self.client.lock().ignored().stale
    }

    #[getter]
    fn other_unit(&self) -> u64 {
        self.client.lock().ignored().other_unit
    }
}

fn frame_error(py: Python<'_>, error: FrameError) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    modbus_error(py, &CLASS, "FrameError", (error.to_string(),))
}

fn response_error(py: Python<'_>, error: ResponseError) -> PyErr {
    static EXCEPTION: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static BAD: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match error {
        ResponseError::Exception(code) => modbus_error(
            py,
            &EXCEPTION,
            "ExceptionResponseError",
            (code.0, code.name()),
        ),
        ResponseError::Bad(bad) => modbus_error(py, &BAD, "BadResponseError", (bad.to_string(),)),
    }
}

/// An exception of `smok_fast.modbus`.
fn modbus_error<A>(
    py: Python<'_>,
    class: &PyOnceLock<Py<PyType>>,
    name: &str,
    arguments: A,
) -> PyErr
where
    A: PyErrArguments + Send + Sync + 'static,
{
    match class.import(py, "smok_fast.modbus.exceptions", name) {
        Ok(class) => PyErr::from_type(class.clone(), arguments),
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

/// What the name of a MODBUS pathpoint says; see :mod:`smok_fast.modbus.names`.
///
/// :param name: name of the pathpoint, as ``W1r4002``
/// :raises ValueError: it is not the name of a register; the message says why
#[pyclass(frozen, eq, hash, module = "smok_fast._core")]
#[derive(PartialEq, Eq, Hash)]
pub struct RegisterName {
    register: Register,
}

#[pymethods]
impl RegisterName {
    #[new]
    fn new(name: &str) -> PyResult<Self> {
        match Register::parse(name) {
            Ok(register) => Ok(Self { register }),
            Err(error) => Err(PyValueError::new_err(format!("{name:?}: {error}"))),
        }
    }

    /// The type letter: B, W, w, f or d.
    #[getter]
    fn r#type(&self) -> char {
        self.register.kind().letter()
    }

    /// Unit identifier.
    #[getter]
    fn unit(&self) -> u8 {
        self.register.unit()
    }

    /// The table, as a :class:`smok_fast.modbus.Table` says it: the code of the function that reads it.
    #[getter]
    fn table(&self) -> u8 {
        self.register.table().read_function()
    }

    /// First address, counted from 0.
    #[getter]
    fn address(&self) -> u16 {
        self.register.address()
    }

    /// How many registers or bits hold the value.
    #[getter]
    fn count(&self) -> u16 {
        self.register.count()
    }

    /// Whether MODBUS has functions that write the table.
    #[getter]
    fn is_writable(&self) -> bool {
        self.register.table().is_writable()
    }

    /// The value that these registers or bits hold.
    ///
    /// :param values: as many as :attr:`count` says
    /// :raises ValueError: they are not, or they are a float that is NaN or infinite, which no pathpoint can be
    fn decode<'py>(&self, values: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match self.register.decode(&words(values)?) {
            Some(decoded) => value::to_python(values.py(), &decoded),
            None => Err(PyValueError::new_err(format!("{values} hold no number"))),
        }
    }

    /// The registers or bits that hold a value.
    ///
    /// :param value: a value of the type
    /// :raises ValueError: the type cannot hold it
    fn encode(&self, value: &Bound<'_, PyAny>) -> PyResult<Vec<u16>> {
        value::value(value)
            .and_then(|value| self.register.encode(&value))
            .ok_or_else(|| cannot_write(value, WriteError::Value))
    }

    /// The request that reads it.
    fn read_request(&self) -> PyResult<ModbusRequest> {
        let (table, count) = (self.register.table(), self.register.count());
        request(
            self.register.unit(),
            Request::new(self.register.address(), Operation::Read { table, count }),
        )
    }

    /// The request that writes a value: function 5 for a coil, 6 for one register, 16 for several.
    ///
    /// :param value: a value of the type
    /// :raises ValueError: the type cannot hold it, or the table can only be read
    fn write_request(&self, value: &Bound<'_, PyAny>) -> PyResult<ModbusRequest> {
        let given = value::value(value).ok_or_else(|| cannot_write(value, WriteError::Value))?;
        match self.register.write_request(&given) {
            Ok(request) => Ok(ModbusRequest {
                unit: self.register.unit(),
                request,
            }),
            Err(error) => Err(cannot_write(value, error)),
        }
    }

    fn __repr__(&self) -> String {
        format!(
            "<RegisterName: type {}, unit {}, table {}, address {}>",
            self.r#type(),
            self.unit(),
            self.table(),
            self.address()
        )
    }
}

fn cannot_write(value: &Bound<'_, PyAny>, error: WriteError) -> PyErr {
    PyValueError::new_err(format!("{value} cannot be written: {error}"))
}

fn request(unit: u8, request: Result<Request, LimitError>) -> PyResult<ModbusRequest> {
    match request {
        Ok(request) => Ok(ModbusRequest { unit, request }),
        Err(error) => Err(PyValueError::new_err(error.to_string())),
    }
}

/// Plans the reading of registers in as few requests as possible.
#[pyclass(module = "smok_fast._core")]
pub struct ModbusPlanner {
    planner: Planner,
}

#[pymethods]
impl ModbusPlanner {
    #[new]
    fn new(max_gap: u16) -> Self {
        Self {
            planner: Planner::new(max_gap),
        }
    }

    fn plan(&self, registers: &Bound<'_, PyList>) -> PyResult<Vec<ModbusBlock>> {
        let registers = registers
            .iter()
            .map(|name| Ok(name.cast::<RegisterName>()?.get().register))
            .collect::<PyResult<Vec<Register>>>()?;
        let blocks = self.planner.plan(&registers);
        Ok(blocks
            .into_iter()
            .map(|block| ModbusBlock { block })
            .collect())
    }

    fn cut_before(&mut self, block: &ModbusBlock) {
        self.planner.cut_before(&block.block);
    }

    fn cut_around(&mut self, block: &ModbusBlock) {
        self.planner.cut_around(&block.block);
    }
}

/// What one request reads.
#[pyclass(frozen, module = "smok_fast._core")]
pub struct ModbusBlock {
    block: Block,
}

#[pymethods]
impl ModbusBlock {
    #[getter]
    fn request(&self) -> PyResult<ModbusRequest> {
        request(self.block.unit, self.block.request())
    }

    #[getter]
    fn indices(&self) -> Vec<usize> {
        self.block
            .members()
            .iter()
            .map(|(index, _)| *index)
            .collect()
    }

    fn decode<'py>(&self, values: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let py = values.py();
        let decoded = self
            .block
            .decode(&words(values)?)
            .map(|decoded| {
                decoded
                    .map(|value| value::to_python(py, &value))
                    .transpose()
            })
            .collect::<PyResult<Vec<_>>>()?;
        PyList::new(py, decoded)
    }

    fn halves(&self) -> Option<(ModbusBlock, ModbusBlock)> {
        let [left, right] = self.block.halves()?;
        Some((ModbusBlock { block: left }, ModbusBlock { block: right }))
    }
}
