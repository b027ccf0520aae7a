//! Requests and answers: the protocol data unit (PDU), without the framing of a transport.
//!
//! Invariants: a [`Request`] is within the limits of the specification from its construction on, so encoding it cannot
//! fail; an [`Answer`] has been checked against its request, byte counts and echoes included.
//!
//! Source: MODBUS Application Protocol Specification V1.1b3, sections 6.1 to 6.6, 6.11, 6.12 and 7.

use std::fmt;

/// The longest PDU.
pub const MAX_PDU: usize = 253;

/// Coils or discrete inputs in one read.
pub const MAX_READ_BITS: u16 = 2000;
/// Registers in one read.
pub const MAX_READ_REGISTERS: u16 = 125;
/// Coils in one write.
pub const MAX_WRITE_BITS: u16 = 1968;
/// Registers in one write.
pub const MAX_WRITE_REGISTERS: u16 = 123;

const WRITE_COIL: u8 = 5;
const WRITE_REGISTER: u8 = 6;
const WRITE_COILS: u8 = 15;
const WRITE_REGISTERS: u8 = 16;
/// Set in the function code of an answer that is an exception.
const EXCEPTION_FLAG: u8 = 0x80;
const COIL_ON: u16 = 0xFF00;
const COIL_OFF: u16 = 0;

/// The four tables of a MODBUS unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Bits that can be written.
    Coils,
    /// Bits that can only be read.
    DiscreteInputs,
    /// 16-bit registers that can be written.
    HoldingRegisters,
    /// 16-bit registers that can only be read.
    InputRegisters,
}

impl Table {
    /// The table that this function code reads.
    #[must_use]
    pub fn from_read_function(function: u8) -> Option<Self> {
        Some(match function {
            1 => Table::Coils,
            2 => Table::DiscreteInputs,
            3 => Table::HoldingRegisters,
            4 => Table::InputRegisters,
            _ => return None,
        })
    }

    /// The code of the function that reads it.
    #[must_use]
    pub fn read_function(self) -> u8 {
        match self {
            Table::Coils => 1,
            Table::DiscreteInputs => 2,
            Table::HoldingRegisters => 3,
            Table::InputRegisters => 4,
        }
    }

    /// Whether it holds bits instead of registers.
    #[must_use]
    pub fn holds_bits(self) -> bool {
        matches!(self, Table::Coils | Table::DiscreteInputs)
    }

    /// Whether MODBUS has functions that write it.
    #[must_use]
    pub fn is_writable(self) -> bool {
        matches!(self, Table::Coils | Table::HoldingRegisters)
    }

    /// How many elements one request may read.
    #[must_use]
    pub fn max_read(self) -> u16 {
        if self.holds_bits() {
            MAX_READ_BITS
        } else {
            MAX_READ_REGISTERS
        }
    }
}

/// What a request does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Read elements of a table (functions 1 to 4).
    Read {
        /// The table to read.
        table: Table,
        /// How many elements.
        count: u16,
    },
    /// Write one coil (function 5).
    WriteCoil(bool),
    /// Write one holding register (function 6).
    WriteRegister(u16),
    /// Write consecutive coils (function 15).
    WriteCoils(Vec<bool>),
    /// Write consecutive holding registers (function 16).
    WriteRegisters(Vec<u16>),
}

/// Why there can be no such request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// None or too many elements.
    #[error("function {function} takes 1 to {max} elements, not {count}")]
    Count {
        /// The function code.
        function: u8,
        /// How many were wanted.
        count: usize,
        /// How many there may be.
        max: u16,
    },
    /// Elements past the last address.
    #[error("{count} elements from address {address} on go past the last address, 65535")]
    Address {
        /// The first address.
        address: u16,
        /// How many were wanted.
        count: u16,
    },
}

/// The code with which a server refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExceptionCode(pub u8);

impl ExceptionCode {
    /// The function is unknown to the server.
    pub const ILLEGAL_FUNCTION: Self = Self(1);
    /// The server has no such address, or not all of them.
    pub const ILLEGAL_DATA_ADDRESS: Self = Self(2);
    /// A field of the request has a value that it cannot have.
    pub const ILLEGAL_DATA_VALUE: Self = Self(3);

    /// The name that the specification gives to it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            1 => "illegal function",
            2 => "illegal data address",
            3 => "illegal data value",
            4 => "server device failure",
            5 => "acknowledge",
            6 => "server device busy",
            8 => "memory parity error",
            10 => "gateway path unavailable",
            11 => "gateway target device failed to respond",
            _ => "unknown",
        }
    }
}

impl fmt::Display for ExceptionCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exception {} ({})", self.0, self.name())
    }
}

/// Why an answer cannot be the answer to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadResponse {
    /// It has no byte at all.
    #[error("the answer is empty")]
    Empty,
    /// It answers another function.
    #[error("the answer is to function {got}, the request was function {expected}")]
    Function {
        /// The function of the request.
        expected: u8,
        /// The first byte of the answer.
        got: u8,
    },
    /// It is longer or shorter than this answer is.
    #[error("the answer has {got} bytes instead of {expected}")]
    Length {
        /// Length of the right answer.
        expected: usize,
        /// Length of this one.
        got: usize,
    },
    /// It announces another amount of data than was asked for.
    #[error("the answer announces {got} bytes of data instead of {expected}")]
    ByteCount {
        /// Bytes that were asked for.
        expected: usize,
        /// Bytes that it announces.
        got: u8,
    },
    /// It confirms another write.
    #[error("the answer does not repeat the address and the value of the write")]
    Echo,
}

/// Why a request has no value as its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The server refused it.
    #[error("{0}")]
    Exception(ExceptionCode),
    /// The answer is not one to this request.
    #[error(transparent)]
    Bad(#[from] BadResponse),
}

/// What a server answered, as it came: nothing is copied before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The values of coils or discrete inputs.
    Bits(Bits<'a>),
    /// The values of registers.
    Registers(Registers<'a>),
    /// The write is done.
    Written,
}

/// Bits of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> Bits<'a> {
    /// The bits in the order of their addresses.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = bool> + use<'a> {
        let bytes = self.bytes;
        (0..self.count).map(move |bit| bit_of(bytes, bit))
    }
}

/// Registers of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers<'a> {
    bytes: &'a [u8],
}

impl<'a> Registers<'a> {
    /// The registers in the order of their addresses.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u16> + use<'a> {
        self.bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|pair| u16::from_be_bytes(*pair))
    }
}

/// What a server has to say to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values<'a> {
    /// The values of coils or discrete inputs.
    Bits(&'a [bool]),
    /// The values of registers.
    Registers(&'a [u16]),
    /// The write is done.
    Written,
}

/// A server's values do not fit the request that they should answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the values are not of the kind or the number that function {function} asks for")]
pub struct AnswerError {
    /// The function of the request.
    pub function: u8,
}

/// A request that the specification allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    address: u16,
    operation: Operation,
}

impl Request {
    /// A request for elements from `address` on (counted from 0, as on the wire).
    ///
    /// # Errors
    /// There are none or too many elements for one request, or addresses past 65535.
    pub fn new(address: u16, operation: Operation) -> Result<Self, LimitError> {
        let request = Self { address, operation };
        let (count, max) = match &request.operation {
            Operation::Read { table, count } => (usize::from(*count), table.max_read()),
            Operation::WriteCoil(_) | Operation::WriteRegister(_) => (1, 1),
            Operation::WriteCoils(values) => (values.len(), MAX_WRITE_BITS),
            Operation::WriteRegisters(values) => (values.len(), MAX_WRITE_REGISTERS),
        };
        let function = request.function();
        let small = u16::try_from(count)
            .ok()
            .filter(|count| (1..=max).contains(count));
        let Some(count) = small else {
            return Err(LimitError::Count {
                function,
                count,
                max,
            });
        };
        if u32::from(address) + u32::from(count) > 0x1_0000 {
            return Err(LimitError::Address { address, count });
        }
        Ok(request)
    }

    /// The first address.
    #[must_use]
    pub fn address(&self) -> u16 {
        self.address
    }

    /// What it does.
    #[must_use]
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// The function code.
    #[must_use]
    pub fn function(&self) -> u8 {
        match &self.operation {
            Operation::Read { table, .. } => table.read_function(),
            Operation::WriteCoil(_) => WRITE_COIL,
            Operation::WriteRegister(_) => WRITE_REGISTER,
            Operation::WriteCoils(_) => WRITE_COILS,
            Operation::WriteRegisters(_) => WRITE_REGISTERS,
        }
    }

    /// How many elements it reads or writes.
    #[must_use]
    pub fn count(&self) -> u16 {
        match &self.operation {
            Operation::Read { count, .. } => *count,
            Operation::WriteCoil(_) | Operation::WriteRegister(_) => 1,
            Operation::WriteCoils(values) => saturated(values.len()),
            Operation::WriteRegisters(values) => saturated(values.len()),
        }
    }

    /// Append the request's PDU to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.function());
        out.extend_from_slice(&self.address.to_be_bytes());
        match &self.operation {
            Operation::Read { count, .. } => out.extend_from_slice(&count.to_be_bytes()),
            Operation::WriteCoil(on) => out.extend_from_slice(&coil_word(*on).to_be_bytes()),
            Operation::WriteRegister(value) => out.extend_from_slice(&value.to_be_bytes()),
            Operation::WriteCoils(values) => {
                out.extend_from_slice(&self.count().to_be_bytes());
                push_bits(values, out);
            }
            Operation::WriteRegisters(values) => {
                out.extend_from_slice(&self.count().to_be_bytes());
                push_registers(values, out);
            }
        }
    }

    /// Decode a request's PDU, as a server does.
    ///
    /// # Errors
    /// The exception with which the specification answers it: 1 for another function, 3 for a length, a count or a
    /// value that no such request has, 2 for addresses past 65535.
    pub fn decode(pdu: &[u8]) -> Result<Self, ExceptionCode> {
        let (&function, body) = pdu.split_first().ok_or(ExceptionCode::ILLEGAL_FUNCTION)?;
        let known = matches!(function, 1..=WRITE_REGISTER | WRITE_COILS | WRITE_REGISTERS);
        if !known {
            return Err(ExceptionCode::ILLEGAL_FUNCTION);
        }
        let (address, operation) =
            decode_body(function, body).ok_or(ExceptionCode::ILLEGAL_DATA_VALUE)?;
        Self::new(address, operation).map_err(|error| match error {
            LimitError::Count { .. } => ExceptionCode::ILLEGAL_DATA_VALUE,
            LimitError::Address { .. } => ExceptionCode::ILLEGAL_DATA_ADDRESS,
        })
    }

    /// Decode the PDU of the answer to this request, as a client does.
    ///
    /// # Errors
    /// The server refused the request, or this is no answer to it.
    pub fn decode_response<'a>(&self, pdu: &'a [u8]) -> Result<Answer<'a>, ResponseError> {
        let expected = self.function();
        let (&got, body) = pdu.split_first().ok_or(BadResponse::Empty)?;
        if got == expected | EXCEPTION_FLAG {
            return Err(match body {
                [code] => ResponseError::Exception(ExceptionCode(*code)),
                _ => BadResponse::Length {
                    expected: 2,
                    got: pdu.len(),
                }
                .into(),
            });
        }
        if got != expected {
            return Err(BadResponse::Function { expected, got }.into());
        }
        match &self.operation {
            Operation::Read { table, count } => decode_values(*table, usize::from(*count), body),
            Operation::WriteCoil(on) => self.check_echo(coil_word(*on), body),
            Operation::WriteRegister(value) => self.check_echo(*value, body),
            Operation::WriteCoils(_) | Operation::WriteRegisters(_) => {
                self.check_echo(self.count(), body)
            }
        }
    }

    /// Append the PDU that answers this request to `out`, as a server does.
    ///
    /// # Errors
    /// The values are not what the request asks for; `out` is as it was.
    pub fn encode_response(
        &self,
        values: Values<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), AnswerError> {
        let function = self.function();
        let echo = |word: u16, out: &mut Vec<u8>| {
            out.push(function);
            out.extend_from_slice(&self.address.to_be_bytes());
            out.extend_from_slice(&word.to_be_bytes());
        };
        match (&self.operation, values) {
            (Operation::Read { table, count }, Values::Bits(bits))
                if table.holds_bits() && bits.len() == usize::from(*count) =>
            {
                out.push(function);
                push_bits(bits, out);
            }
            (Operation::Read { table, count }, Values::Registers(registers))
                if !table.holds_bits() && registers.len() == usize::from(*count) =>
            {
                out.push(function);
                push_registers(registers, out);
            }
            (Operation::WriteCoil(on), Values::Written) => echo(coil_word(*on), out),
            (Operation::WriteRegister(value), Values::Written) => echo(*value, out),
            (Operation::WriteCoils(_) | Operation::WriteRegisters(_), Values::Written) => {
                echo(self.count(), out);
            }
            _ => return Err(AnswerError { function }),
        }
        Ok(())
    }

    /// Check the four bytes with which a write is confirmed.
    fn check_echo<'a>(&self, word: u16, body: &[u8]) -> Result<Answer<'a>, ResponseError> {
        let [address_high, address_low, word_high, word_low] = *body else {
            return Err(BadResponse::Length {
                expected: 5,
                got: body.len() + 1,
            }
            .into());
        };
        let address = u16::from_be_bytes([address_high, address_low]);
        if address != self.address || u16::from_be_bytes([word_high, word_low]) != word {
            return Err(BadResponse::Echo.into());
        }
        Ok(Answer::Written)
    }
}

/// The PDU with which a server refuses a request.
#[must_use]
pub fn encode_exception(function: u8, code: ExceptionCode) -> [u8; 2] {
    [function | EXCEPTION_FLAG, code.0]
}

/// Everything behind the function code of a request, None if its length or a value is impossible.
fn decode_body(function: u8, body: &[u8]) -> Option<(u16, Operation)> {
    let (address, rest) = split_word(body)?;
    let (word, data) = split_word(rest)?;
    let operation = match function {
        WRITE_COILS | WRITE_REGISTERS => {
            let (&byte_count, data) = data.split_first()?;
            let count = usize::from(word);
            let expected = if function == WRITE_COILS {
                count.div_ceil(8)
            } else {
                count * 2
            };
            if data.len() != expected || usize::from(byte_count) != expected {
                return None;
            }
            if function == WRITE_COILS {
                Operation::WriteCoils(Bits { bytes: data, count }.iter().collect())
            } else {
                Operation::WriteRegisters(Registers { bytes: data }.iter().collect())
            }
        }
        _ if !data.is_empty() => return None,
        WRITE_COIL => Operation::WriteCoil(match word {
            COIL_ON => true,
            COIL_OFF => false,
            _ => return None,
        }),
        WRITE_REGISTER => Operation::WriteRegister(word),
        _ => Operation::Read {
            table: Table::from_read_function(function)?,
            count: word,
        },
    };
    Some((address, operation))
}

/// The values behind the function code of an answer to a read.
fn decode_values(table: Table, count: usize, body: &[u8]) -> Result<Answer<'_>, ResponseError> {
    let expected = if table.holds_bits() {
        count.div_ceil(8)
    } else {
        count * 2
    };
    let whole = 2 + expected;
    let Some((&byte_count, bytes)) = body.split_first() else {
        return Err(BadResponse::Length {
            expected: whole,
            got: 1,
        }
        .into());
    };
    if usize::from(byte_count) != expected {
        return Err(BadResponse::ByteCount {
            expected,
            got: byte_count,
        }
        .into());
    }
    if bytes.len() != expected {
        return Err(BadResponse::Length {
            expected: whole,
            got: 2 + bytes.len(),
        }
        .into());
    }
    Ok(if table.holds_bits() {
        Answer::Bits(Bits { bytes, count })
    } else {
        Answer::Registers(Registers { bytes })
    })
}

fn coil_word(on: bool) -> u16 {
    if on { COIL_ON } else { COIL_OFF }
}

/// Append a byte count and the bits, the first one lowest, the last byte filled up with zeros.
fn push_bits(bits: &[bool], out: &mut Vec<u8>) {
    out.push(byte_count(bits.len().div_ceil(8)));
    out.extend(bits.chunks(8).map(|chunk| {
        chunk
            .iter()
            .rev()
            .fold(0, |byte, &bit| byte << 1 | u8::from(bit))
    }));
}

/// Append a byte count and the registers.
fn push_registers(registers: &[u16], out: &mut Vec<u8>) {
    out.push(byte_count(registers.len() * 2));
    out.extend(registers.iter().flat_map(|register| register.to_be_bytes()));
}

/// The limits of the specification keep it within one byte.
fn byte_count(bytes: usize) -> u8 {
    u8::try_from(bytes).unwrap_or(u8::MAX)
}

/// The limits of the specification keep it within a word.
fn saturated(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

fn bit_of(bytes: &[u8], bit: usize) -> bool {
    bytes
        .get(bit / 8)
        .is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
}

fn split_word(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (word, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*word), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(address: u16, operation: Operation) -> Request {
        Request::new(address, operation).unwrap()
    }

    fn encoded(request: &Request) -> Vec<u8> {
        let mut pdu = Vec::new();
        request.encode(&mut pdu);
        pdu
    }

    fn bad(request: &Request, pdu: &[u8]) -> BadResponse {
        match request.decode_response(pdu) {
            Err(ResponseError::Bad(bad)) => bad,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_examples_of_the_specification_encode_and_decode() {
        let ten_coils = [1, 0, 1, 1, 0, 0, 1, 1, 1, 0].map(|bit| bit == 1).to_vec();
        for (request, pdu) in [
            (
                request(19, read(Table::Coils, 19)),
                vec![1, 0, 0x13, 0, 0x13],
            ),
            (
                request(196, read(Table::DiscreteInputs, 22)),
                vec![2, 0, 0xC4, 0, 0x16],
            ),
            (
                request(107, read(Table::HoldingRegisters, 3)),
                vec![3, 0, 0x6B, 0, 3],
            ),
            (
                request(8, read(Table::InputRegisters, 1)),
                vec![4, 0, 8, 0, 1],
            ),
            (
                request(172, Operation::WriteCoil(true)),
                vec![5, 0, 0xAC, 0xFF, 0],
            ),
            (request(1, Operation::WriteRegister(3)), vec![6, 0, 1, 0, 3]),
            (
                request(19, Operation::WriteCoils(ten_coils)),
                vec![15, 0, 0x13, 0, 10, 2, 0xCD, 1],
            ),
            (
                request(1, Operation::WriteRegisters(vec![10, 0x102])),
                vec![16, 0, 1, 0, 2, 4, 0, 10, 1, 2],
            ),
        ] {
            assert_eq!(encoded(&request), pdu);
            assert_eq!(Request::decode(&pdu), Ok(request));
        }
    }

    fn read(table: Table, count: u16) -> Operation {
        Operation::Read { table, count }
    }

    #[test]
    fn limits_are_those_of_the_specification() {
        for (operation, max) in [
            (read(Table::Coils, 2000), read(Table::Coils, 2001)),
            (
                read(Table::InputRegisters, 125),
                read(Table::InputRegisters, 126),
            ),
            (
                Operation::WriteCoils(vec![true; 1968]),
                Operation::WriteCoils(vec![true; 1969]),
            ),
            (
                Operation::WriteRegisters(vec![1; 123]),
                Operation::WriteRegisters(vec![1; 124]),
            ),
        ] {
            assert!(encoded(&request(0, operation)).len() <= MAX_PDU);
            assert!(matches!(
                Request::new(0, max),
                Err(LimitError::Count { .. })
            ));
        }
        assert!(Request::new(0, read(Table::Coils, 0)).is_err());
        assert!(Request::new(0, Operation::WriteRegisters(vec![])).is_err());
        assert!(Request::new(65535, Operation::WriteRegister(1)).is_ok());
        let past = Request::new(65535, read(Table::HoldingRegisters, 2));
        assert_eq!(
            past,
            Err(LimitError::Address {
                address: 65535,
                count: 2
            })
        );
    }

    #[test]
    fn a_request_that_cannot_be_one_is_refused_with_the_code_that_the_specification_gives() {
        let value = ExceptionCode::ILLEGAL_DATA_VALUE;
        for (pdu, code) in [
            (&[][..], ExceptionCode::ILLEGAL_FUNCTION),
            (&[0x2B, 14, 1, 0], ExceptionCode::ILLEGAL_FUNCTION),
            (&[0x83, 0, 0, 0, 1], ExceptionCode::ILLEGAL_FUNCTION),
            (&[3], value),
            (&[3, 0, 0, 0], value),
            (&[3, 0, 0, 0, 1, 0], value),
            (&[3, 0, 0, 0, 0], value),
            (&[3, 0, 0, 0, 126], value),
            (&[3, 0xFF, 0xFF, 0, 2], ExceptionCode::ILLEGAL_DATA_ADDRESS),
            (&[5, 0, 0, 1, 0], value),
            (&[15, 0, 0, 0, 16, 1, 0xFF], value),
            (&[16, 0, 0, 0, 1, 4, 0, 10, 0, 11], value),
            (&[16, 0, 0, 0, 0, 0], value),
            (&[16, 0, 0, 0, 1], value),
        ] {
            assert_eq!(Request::decode(pdu), Err(code), "{pdu:?}");
        }
    }

    #[test]
    fn an_answer_is_checked_against_its_request() {
        let two = request(0, read(Table::HoldingRegisters, 2));
        assert!(two.decode_response(&[3, 4, 0, 1, 0, 2]).is_ok());
        assert_eq!(bad(&two, &[]), BadResponse::Empty);
        assert_eq!(
            bad(&two, &[3]),
            BadResponse::Length {
                expected: 6,
                got: 1
            }
        );
        assert_eq!(
            bad(&two, &[3, 2, 0, 1]),
            BadResponse::ByteCount {
                expected: 4,
                got: 2
            }
        );
        assert_eq!(
            bad(&two, &[3, 4, 0, 1]),
            BadResponse::Length {
                expected: 6,
                got: 4
            }
        );
        assert_eq!(
            bad(&two, &[3, 4, 0, 1, 0, 2, 0]),
            BadResponse::Length {
                expected: 6,
                got: 7
            }
        );
        assert_eq!(
            bad(&two, &[4, 4, 0, 1, 0, 2]),
            BadResponse::Function {
                expected: 3,
                got: 4
            }
        );
        assert_eq!(
            bad(&two, &[0x84, 2]),
            BadResponse::Function {
                expected: 3,
                got: 0x84
            }
        );
        assert_eq!(
            bad(&two, &[0x83]),
            BadResponse::Length {
                expected: 2,
                got: 1
            }
        );
        let refused = two.decode_response(&[0x83, 2]);
        assert_eq!(
            refused,
            Err(ResponseError::Exception(
                ExceptionCode::ILLEGAL_DATA_ADDRESS
            ))
        );

        let write = request(7, Operation::WriteRegister(9));
        assert_eq!(write.decode_response(&[6, 0, 7, 0, 9]), Ok(Answer::Written));
        assert_eq!(bad(&write, &[6, 0, 7, 0, 8]), BadResponse::Echo);
        assert_eq!(bad(&write, &[6, 0, 6, 0, 9]), BadResponse::Echo);
        assert_eq!(
            bad(&write, &[6, 0, 7]),
            BadResponse::Length {
                expected: 5,
                got: 3
            }
        );
        let many = request(7, Operation::WriteCoils(vec![true; 3]));
        assert_eq!(many.decode_response(&[15, 0, 7, 0, 3]), Ok(Answer::Written));
        assert_eq!(bad(&many, &[15, 0, 7, 0, 4]), BadResponse::Echo);
    }

    #[test]
    fn padding_bits_are_ignored_and_sent_as_zeros() {
        let three = request(0, read(Table::Coils, 3));
        let Ok(Answer::Bits(bits)) = three.decode_response(&[1, 1, 0xFD]) else {
            panic!()
        };
        assert_eq!(bits.iter().collect::<Vec<_>>(), [true, false, true]);
        let mut pdu = Vec::new();
        three
            .encode_response(Values::Bits(&[true, false, true]), &mut pdu)
            .unwrap();
        assert_eq!(pdu, [1, 1, 5]);
    }

    #[test]
    fn values_that_do_not_fit_the_request_are_no_answer() {
        let two = request(0, read(Table::HoldingRegisters, 2));
        let mut pdu = Vec::new();
        for values in [
            Values::Registers(&[1]),
            Values::Bits(&[true; 2]),
            Values::Written,
        ] {
            assert_eq!(
                two.encode_response(values, &mut pdu),
                Err(AnswerError { function: 3 })
            );
        }
        assert!(pdu.is_empty());
        assert_eq!(
            encode_exception(3, ExceptionCode::ILLEGAL_DATA_ADDRESS),
            [0x83, 2]
        );
    }

    fn any_request() -> impl Strategy<Value = Request> {
        let table = prop::sample::select(vec![
            Table::Coils,
            Table::DiscreteInputs,
            Table::HoldingRegisters,
            Table::InputRegisters,
        ]);
        let operation = prop_oneof![
            (table, 1..=2000_u16)
                .prop_map(|(table, count)| read(table, count.min(table.max_read()))),
            any::<bool>().prop_map(Operation::WriteCoil),
            any::<u16>().prop_map(Operation::WriteRegister),
            prop::collection::vec(any::<bool>(), 1..=1968).prop_map(Operation::WriteCoils),
            prop::collection::vec(any::<u16>(), 1..=123).prop_map(Operation::WriteRegisters),
        ];
        (0..63000_u16, operation).prop_map(|(address, operation)| request(address, operation))
    }

    proptest! {
        #[test]
        fn a_server_decodes_what_a_client_encodes(request in any_request()) {
            let pdu = encoded(&request);
            prop_assert!(pdu.len() <= MAX_PDU);
            prop_assert_eq!(Request::decode(&pdu), Ok(request));
        }

        #[test]
        fn a_client_decodes_what_a_server_encodes(
            request in any_request(), words in prop::collection::vec(any::<u16>(), 2000),
        ) {
            let registers = &words[..usize::from(request.count())];
            let bits: Vec<bool> = registers.iter().map(|word| word % 2 == 1).collect();
            let values = match request.operation() {
                Operation::Read { table, .. } if table.holds_bits() => Values::Bits(&bits),
                Operation::Read { .. } => Values::Registers(registers),
                _ => Values::Written,
            };
            let mut pdu = Vec::new();
            request.encode_response(values, &mut pdu).unwrap();
            prop_assert!(pdu.len() <= MAX_PDU);
            match request.decode_response(&pdu).unwrap() {
                Answer::Bits(answer) => prop_assert_eq!(answer.iter().collect::<Vec<_>>(), bits),
                Answer::Registers(answer) => {
                    prop_assert_eq!(answer.iter().collect::<Vec<_>>(), registers);
                }
                Answer::Written => prop_assert_eq!(values, Values::Written),
            }
        }

        #[test]
        fn hostile_pdus_are_decoded_or_refused(
            pdu in prop::collection::vec(any::<u8>(), 0..300), request in any_request(),
        ) {
            if let Ok(decoded) = Request::decode(&pdu) {
                prop_assert_eq!(encoded(&decoded).len(), pdu.len());
            }
            let _ = request.decode_response(&pdu);
        }
    }
}
