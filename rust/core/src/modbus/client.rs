//! The client's side of a MODBUS TCP connection: which frame answers which request.
//!
//! Invariants: one request is open at a time; only a frame with its transaction identifier and its unit can close it.
//! Every other frame is the late answer of a request that was given up, or noise: counted, and otherwise ignored.
//! A transaction identifier comes again after 65 535 requests; 0 is never used, since devices that lose track send it.
//!
//! Source: MODBUS Messaging on TCP/IP Implementation Guide V1.0b, section 4.4.1 (MODBUS client).

use super::pdu::{Answer, Request, ResponseError};
use super::tcp::{Frame, FrameError, FrameParser, encode_frame};

/// What came back for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    request: Request,
    pdu: Vec<u8>,
}

impl Reply {
    /// The answer.
    ///
    /// # Errors
    /// The server refused the request, or answered something else.
    pub fn answer(&self) -> Result<Answer<'_>, ResponseError> {
        self.request.decode_response(&self.pdu)
    }
}

/// Frames that answered nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    /// Those with another transaction identifier than that of the open request.
    pub stale: u64,
    /// Those with the right transaction identifier and another unit.
    pub other_unit: u64,
}

/// What a client knows about its connection.
#[derive(Debug, Default)]
pub struct Client {
    parser: FrameParser,
    /// Of the last request; 0 before the first.
    transaction: u16,
    open: Option<(u8, Request)>,
    ignored: Ignored,
}

impl Client {
    /// A client in front of its first connection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Open a request, giving up the one that is open, and return the frame to send.
    pub fn begin(&mut self, unit: u8, request: Request) -> Vec<u8> {
        self.transaction = self.transaction.checked_add(1).unwrap_or(1);
        let frame = encode_frame(self.transaction, unit, |out| request.encode(out));
        self.open = Some((unit, request));
        frame
    }

    /// Take the next bytes from the server; Some is what came back for the open request, which it closes.
    ///
    /// # Errors
    /// The stream is not MODBUS TCP, and nothing came back in front of the fault.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<Reply>, FrameError> {
        let mut frames = Vec::new();
        let fed = self.parser.feed(bytes, &mut frames);
        let mut reply = None;
        for frame in frames {
            if let Some(request) = self.close_by(&frame) {
                reply = Some(Reply {
                    request,
                    pdu: frame.pdu,
                });
            }
        }
        if reply.is_none() {
            fed?;
        }
        Ok(reply)
    }

    /// Whether the stream is known to be between two frames. If it is not after an answer or a time-out, the
    /// connection must be closed: what comes next cannot be told from what is left over.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        self.parser.is_between_frames()
    }

    /// Begin a new connection: everything about the old one but the counters is forgotten.
    pub fn reset(&mut self) {
        self.parser = FrameParser::new();
        self.open = None;
    }

    /// How many frames answered nothing, over all connections.
    #[must_use]
    pub fn ignored(&self) -> Ignored {
        self.ignored
    }

    /// The open request, if this frame answers it.
    fn close_by(&mut self, frame: &Frame) -> Option<Request> {
        match &self.open {
            Some((unit, _)) if frame.transaction == self.transaction => {
                if frame.unit == *unit {
                    return self.open.take().map(|(_, request)| request);
                }
                self.ignored.other_unit += 1;
            }
            _ => self.ignored.stale += 1,
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modbus::pdu::{BadResponse, ExceptionCode, Operation, Table};

    fn read_two() -> Request {
        Request::new(
            0,
            Operation::Read {
                table: Table::HoldingRegisters,
                count: 2,
            },
        )
        .unwrap()
    }

    fn answer(transaction: u16, unit: u8) -> Vec<u8> {
        encode_frame(transaction, unit, |out| {
            out.extend_from_slice(&[3, 4, 0, 1, 0, 2]);
        })
    }

    fn values(reply: Option<Reply>) -> Vec<u16> {
        match reply.unwrap().answer() {
            Ok(Answer::Registers(registers)) => registers.iter().collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_closes_its_request_and_the_same_again_is_stale() {
        let mut client = Client::new();
        assert_eq!(
            client.begin(1, read_two()),
            [0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 2]
        );
        let frame = answer(1, 1);
        for byte in &frame[..frame.len() - 1] {
            assert_eq!(client.feed(&[*byte]), Ok(None));
            assert!(!client.is_between_frames());
        }
        assert_eq!(
            values(client.feed(&frame[frame.len() - 1..]).unwrap()),
            [1, 2]
        );
        assert!(client.is_between_frames());
        assert_eq!(client.feed(&frame), Ok(None));
        assert_eq!(
            client.ignored(),
            Ignored {
                stale: 1,
                other_unit: 0
            }
        );
    }

    #[test]
    fn the_late_answer_to_a_request_that_was_given_up_answers_nothing() {
        let mut client = Client::new();
        client.begin(1, read_two());
        client.begin(1, read_two());
        assert_eq!(client.feed(&answer(1, 1)), Ok(None));
        assert_eq!(client.feed(&answer(2, 9)), Ok(None));
        assert_eq!(
            client.ignored(),
            Ignored {
                stale: 1,
                other_unit: 1
            }
        );
        assert_eq!(values(client.feed(&answer(2, 1)).unwrap()), [1, 2]);
    }

    #[test]
    fn an_answer_in_front_of_garbage_counts_and_the_stream_is_known_to_be_broken() {
        let mut client = Client::new();
        client.begin(1, read_two());
        let bytes = [answer(1, 1), vec![0xFF; 300]].concat();
        assert_eq!(values(client.feed(&bytes).unwrap()), [1, 2]);
        assert!(!client.is_between_frames());
        client.begin(1, read_two());
        assert_eq!(
            client.feed(&answer(2, 1)),
            Err(FrameError::Protocol(0xFFFF))
        );
        client.reset();
        assert!(client.is_between_frames());
        client.begin(1, read_two());
        assert_eq!(values(client.feed(&answer(3, 1)).unwrap()), [1, 2]);
    }

    #[test]
    fn refusals_and_wrong_answers_are_errors() {
        let mut client = Client::new();
        client.begin(1, read_two());
        let refusal = encode_frame(1, 1, |out| out.extend_from_slice(&[0x83, 2]));
        let reply = client.feed(&refusal).unwrap().unwrap();
        assert_eq!(
            reply.answer(),
            Err(ResponseError::Exception(ExceptionCode(2)))
        );
        client.begin(1, read_two());
        let other = encode_frame(2, 1, |out| out.extend_from_slice(&[4, 4, 0, 1, 0, 2]));
        let reply = client.feed(&other).unwrap().unwrap();
        let bad = BadResponse::Function {
            expected: 3,
            got: 4,
        };
        assert_eq!(reply.answer(), Err(ResponseError::Bad(bad)));
    }

    #[test]
    fn transaction_identifiers_never_come_back_to_0() {
        let mut client = Client::new();
        for _ in 0..=u16::MAX {
            let frame = client.begin(1, read_two());
            assert_ne!(frame[..2], [0, 0]);
        }
        assert_eq!(client.begin(1, read_two())[..2], [0, 2]);
    }
}
