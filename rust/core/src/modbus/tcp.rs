//! Frames of MODBUS TCP: the MBAP header and a PDU.
//!
//! A header is the transaction identifier, the protocol identifier (0), the length of what follows it, each a big-endian
//! word, and the unit identifier, which that length counts.
//!
//! Invariants of [`FrameParser`]: any chunking of the same bytes gives the same frames; it holds at most one frame's
//! bytes; a header that cannot be one is an error as soon as it is complete, and the error is for good, since nothing
//! says where the next frame begins.
//!
//! Source: MODBUS Messaging on TCP/IP Implementation Guide V1.0b, section 3.1.3.

use super::pdu::MAX_PDU;

/// Bytes in front of the PDU.
pub const HEADER: usize = 7;
/// The longest frame.
pub const MAX_FRAME: usize = HEADER + MAX_PDU;
/// The header without the unit identifier, which its length field counts.
const PREFIX: usize = HEADER - 1;
/// The length field of a frame whose PDU is one byte long.
const MIN_LENGTH: u16 = 2;
/// The length field of the longest frame.
const MAX_LENGTH: u16 = 254;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which request this belongs to.
    pub transaction: u16,
    /// Which unit is asked, or answers.
    pub unit: u8,
    /// The PDU, 1 to 253 bytes.
    pub pdu: Vec<u8>,
}

/// The bytes are not MODBUS TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Another protocol identifier than 0.
    #[error("protocol identifier {0} instead of 0")]
    Protocol(u16),
    /// A length that no frame has.
    #[error("length {0} in the header, a frame has 2 to 254")]
    Length(u16),
}

/// A frame around the PDU that `write_pdu` appends.
pub fn encode_frame(transaction: u16, unit: u8, write_pdu: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = Vec::with_capacity(MAX_FRAME);
    frame.extend_from_slice(&transaction.to_be_bytes());
    frame.extend_from_slice(&[0; PREFIX - 2]);
    frame.push(unit);
    write_pdu(&mut frame);
    let length = u16::try_from(frame.len() - PREFIX).unwrap_or(u16::MAX);
    if let Some(field) = frame.get_mut(PREFIX - 2..PREFIX) {
        field.copy_from_slice(&length.to_be_bytes());
    }
    frame
}

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub struct FrameParser {
    /// The beginning of a frame that is not complete yet.
    partial: Vec<u8>,
    error: Option<FrameError>,
}

impl FrameParser {
    /// A parser at the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Take the next bytes of the stream and append the frames that they complete to `frames`.
    ///
    /// # Errors
    /// The stream is not MODBUS TCP. Frames in front of the fault are in `frames`; everything after it is refused.
    pub fn feed(&mut self, mut bytes: &[u8], frames: &mut Vec<Frame>) -> Result<(), FrameError> {
        loop {
            if let Some(error) = self.error {
                return Err(error);
            }
            let missing = self.frame_length().saturating_sub(self.partial.len());
            let (taken, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
            self.partial.extend_from_slice(taken);
            bytes = rest;
            if taken.len() < missing {
                return Ok(());
            }
            if self.partial.len() == PREFIX {
                self.error = self.header_error();
            } else {
                frames.extend(self.take_frame());
            }
        }
    }

    /// Whether the next byte can only begin a new frame: nothing is left over, nothing was wrong.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        self.partial.is_empty() && self.error.is_none()
    }

    /// What is wrong with the stream, if anything is.
    #[must_use]
    pub fn error(&self) -> Option<FrameError> {
        self.error
    }

    /// Length of the frame, as far as its bytes tell: that of the prefix until the prefix is complete.
    fn frame_length(&self) -> usize {
        match self.partial.get(..PREFIX) {
            Some(&[_, _, _, _, high, low]) => PREFIX + usize::from(u16::from_be_bytes([high, low])),
            _ => PREFIX,
        }
    }

    fn header_error(&self) -> Option<FrameError> {
        let &[_, _, protocol_high, protocol_low, length_high, length_low] =
            self.partial.first_chunk::<PREFIX>()?;
        let protocol = u16::from_be_bytes([protocol_high, protocol_low]);
        let length = u16::from_be_bytes([length_high, length_low]);
        if protocol != 0 {
            Some(FrameError::Protocol(protocol))
        } else if !(MIN_LENGTH..=MAX_LENGTH).contains(&length) {
            Some(FrameError::Length(length))
        } else {
            None
        }
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let (&[transaction_high, transaction_low, _, _, _, _, unit], pdu) =
            self.partial.split_first_chunk::<HEADER>()?;
        let frame = Frame {
            transaction: u16::from_be_bytes([transaction_high, transaction_low]),
            unit,
            pdu: pdu.to_vec(),
        };
        self.partial.clear();
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANSWER: [u8; 13] = [0, 1, 0, 0, 0, 7, 1, 3, 4, 0, 1, 0, 2];

    fn feed(chunks: &[&[u8]]) -> (Vec<Frame>, FrameParser) {
        let mut parser = FrameParser::new();
        let mut frames = Vec::new();
        for chunk in chunks {
            let _ = parser.feed(chunk, &mut frames);
        }
        (frames, parser)
    }

    #[test]
    fn a_frame_is_what_was_encoded() {
        let bytes = encode_frame(1, 1, |out| out.extend_from_slice(&[3, 4, 0, 1, 0, 2]));
        assert_eq!(bytes, ANSWER);
        let (frames, parser) = feed(&[&bytes]);
        assert_eq!(
            frames,
            [Frame {
                transaction: 1,
                unit: 1,
                pdu: vec![3, 4, 0, 1, 0, 2]
            }]
        );
        assert!(parser.is_between_frames());
    }

    #[test]
    fn a_header_that_cannot_be_one_is_an_error_at_its_sixth_byte_and_for_good() {
        for (header, error) in [
            ([0, 1, 0, 0, 0, 1], FrameError::Length(1)),
            ([0, 1, 0, 0, 0, 0], FrameError::Length(0)),
            ([0, 1, 0, 0, 0, 255], FrameError::Length(255)),
            ([0, 1, 0, 0, 255, 255], FrameError::Length(65535)),
            ([0, 1, 1, 0, 0, 7], FrameError::Protocol(256)),
        ] {
            let (frames, mut parser) = feed(&[&ANSWER, &header[..5]]);
            assert_eq!((frames.len(), parser.error()), (1, None));
            let mut frames = Vec::new();
            assert_eq!(parser.feed(&header[5..], &mut frames), Err(error));
            assert_eq!(parser.feed(&ANSWER, &mut frames), Err(error));
            assert!(frames.is_empty() && !parser.is_between_frames());
        }
    }

    #[test]
    fn frames_in_front_of_a_fault_are_kept() {
        let (frames, parser) = feed(&[&[&ANSWER[..], &[0, 1, 0, 0, 255, 255, 0, 0]].concat()]);
        assert_eq!(frames.len(), 1);
        assert_eq!(parser.error(), Some(FrameError::Length(65535)));
    }

    fn frame() -> impl Strategy<Value = Frame> {
        (
            any::<u16>(),
            any::<u8>(),
            prop::collection::vec(any::<u8>(), 1..=MAX_PDU),
        )
            .prop_map(|(transaction, unit, pdu)| Frame {
                transaction,
                unit,
                pdu,
            })
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_frames(
            frames in prop::collection::vec(frame(), 0..5),
            sizes in prop::collection::vec(1..300_usize, 1..20),
        ) {
            let stream: Vec<u8> = frames
                .iter()
                .flat_map(|frame| {
                    encode_frame(frame.transaction, frame.unit, |out| out.extend_from_slice(&frame.pdu))
                })
                .collect();
            let bytewise: Vec<&[u8]> = stream.chunks(1).collect();
            prop_assert_eq!(&feed(&bytewise).0, &frames);
            let mut rest = stream.as_slice();
            let mut chunks = Vec::new();
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, after) = rest.split_at((*size).min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            let (parsed, parser) = feed(&chunks);
            prop_assert_eq!(parsed, frames);
            prop_assert!(parser.is_between_frames());
        }

        #[test]
        fn hostile_bytes_never_fill_the_buffer(chunks in prop::collection::vec(
            prop::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..600), 0..8,
        )) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            prop_assert!(feed(&chunks).1.partial.len() < MAX_FRAME);
        }
    }
}
