//! Frames of NGTT, the protocol by which the server pushes orders.
//!
//! A frame is a header of three big-endian numbers, the length of the data (32 bits), the transaction ID (16 bits) and
//! the type (16 bits), and then the data.
//!
//! Invariants of [`FrameParser`]: any chunking of the same bytes gives the same frames, and the same error at the same
//! byte; it holds at most one frame, and of that no more than has arrived, whatever the header announces; longer data
//! than it accepts is an error as soon as the header is complete, and the error is for good, since nothing says where the
//! next frame begins. Types are not judged: a frame of an unknown one is a frame, and those after it can be read.

use std::mem;

/// Bytes in front of the data.
pub const HEADER: usize = 8;
/// The longest data that is usually accepted: an order of tens of thousands of writes fits.
pub const MAX_DATA: usize = 1 << 20;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which transaction this belongs to.
    pub tid: u16,
    /// What it is, as a number: see PROTOCOL's table of types.
    pub kind: u16,
    /// What it carries, MiniJSON or nothing.
    pub data: Vec<u8>,
}

/// The data of a frame is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame with {size} bytes of data, the limit is {limit}")]
pub struct TooLong {
    /// How many bytes it has.
    pub size: usize,
    /// How many are accepted.
    pub limit: usize,
}

/// The bytes of a frame.
///
/// # Errors
/// The data is longer than 2³²−1 bytes.
pub fn encode(tid: u16, kind: u16, data: &[u8]) -> Result<Vec<u8>, TooLong> {
    let size = u32::try_from(data.len()).map_err(|_| TooLong {
        size: data.len(),
        limit: usize::try_from(u32::MAX).unwrap_or(usize::MAX),
    })?;
    let mut frame = Vec::with_capacity(HEADER + data.len());
    frame.extend_from_slice(&size.to_be_bytes());
    frame.extend_from_slice(&tid.to_be_bytes());
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(data);
    Ok(frame)
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub struct FrameParser {
    /// The beginning of a frame that is not complete yet.
    partial: Vec<u8>,
    limit: usize,
    error: Option<TooLong>,
}

impl FrameParser {
    /// A parser at the beginning of a stream.
    ///
    /// `limit` is the longest data that it accepts, in bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            partial: Vec::new(),
            limit,
            error: None,
        }
    }

    /// Take the next bytes of the stream and append the frames that they complete to `frames`.
    ///
    /// # Errors
    /// A frame is too long. Those in front of it are in `frames`; everything after it is refused.
    pub fn feed(&mut self, mut bytes: &[u8], frames: &mut Vec<Frame>) -> Result<(), TooLong> {
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
            match self.data_length() {
                Some(size) if size > self.limit => self.refuse(size),
                Some(size) if self.partial.len() == HEADER + size => frames.extend(self.take()),
                _ => {}
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
    pub fn error(&self) -> Option<TooLong> {
        self.error
    }

    /// Length of the data, once the header says it.
    fn data_length(&self) -> Option<usize> {
        let &[a, b, c, d, ..] = self.partial.first_chunk::<HEADER>()?;
        Some(usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX))
    }

    /// Length of the frame, as far as its bytes tell: that of the header until the header is complete.
    fn frame_length(&self) -> usize {
        HEADER.saturating_add(self.data_length().unwrap_or(0))
    }

    fn refuse(&mut self, size: usize) {
        self.error = Some(TooLong {
            size,
            limit: self.limit,
        });
        self.partial = Vec::new();
    }

    fn take(&mut self) -> Option<Frame> {
        // The memory goes with the frame, so that a long one leaves nothing behind.
        let mut data = mem::take(&mut self.partial);
        let &[_, _, _, _, tid_high, tid_low, kind_high, kind_low] = data.first_chunk::<HEADER>()?;
        data.drain(..HEADER);
        Some(Frame {
            tid: u16::from_be_bytes([tid_high, tid_low]),
            kind: u16::from_be_bytes([kind_high, kind_low]),
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PING: [u8; 10] = [0, 0, 0, 2, 0, 1, 0, 0, 0x41, 0x4c];

    fn encoded(frame: &Frame) -> Vec<u8> {
        encode(frame.tid, frame.kind, &frame.data).unwrap()
    }

    fn feed(limit: usize, chunks: &[&[u8]]) -> (Vec<Frame>, FrameParser) {
        let mut parser = FrameParser::new(limit);
        let mut frames = Vec::new();
        for chunk in chunks {
            let _ = parser.feed(chunk, &mut frames);
        }
        (frames, parser)
    }

    #[test]
    fn a_ping_is_what_the_protocol_says() {
        let frame = Frame {
            tid: 1,
            kind: 0,
            data: b"AL".to_vec(),
        };
        assert_eq!(encoded(&frame), PING);
        let (frames, parser) = feed(MAX_DATA, &[&PING]);
        assert_eq!(frames, [frame]);
        assert!(parser.is_between_frames());
    }

    #[test]
    fn many_frames_come_at_once_and_the_rest_waits() {
        let empty = encode(2, 99, &[]).unwrap();
        let stream = [&PING[..], &empty, &PING[..9]].concat();
        let (frames, mut parser) = feed(MAX_DATA, &[&stream]);
        let kinds: Vec<u16> = frames.iter().map(|frame| frame.kind).collect();
        assert_eq!(kinds, [0, 99]);
        assert!(!parser.is_between_frames());
        let mut frames = Vec::new();
        assert_eq!(parser.feed(&[0x4c], &mut frames), Ok(()));
        assert_eq!(frames.len(), 1);
    }

    #[test]
    fn data_of_the_limit_is_taken_and_one_byte_more_is_an_error_for_good() {
        let longest = encode(1, 1, &[7; 16]).unwrap();
        let (frames, parser) = feed(16, &[&longest]);
        assert_eq!(frames.len(), 1);
        assert_eq!(parser.error(), None);
        let header = [0, 0, 0, 17, 0, 1, 0, 1];
        let (frames, mut parser) = feed(16, &[&longest, &header[..7]]);
        assert_eq!((frames.len(), parser.error()), (1, None));
        let error = TooLong {
            size: 17,
            limit: 16,
        };
        let mut frames = Vec::new();
        assert_eq!(parser.feed(&header[7..], &mut frames), Err(error));
        assert_eq!(parser.feed(&PING, &mut frames), Err(error));
        assert_eq!(parser.error(), Some(error));
        assert!(frames.is_empty() && !parser.is_between_frames());
    }

    #[test]
    fn frames_in_front_of_a_fault_are_kept() {
        let stream = [&PING[..], b"HTTP/1.1 400 Bad Request\r\n"].concat();
        let (frames, parser) = feed(MAX_DATA, &[&stream]);
        assert_eq!(frames.len(), 1);
        assert_eq!(parser.error().map(|error| error.size), Some(0x4854_5450));
    }

    #[test]
    fn no_memory_is_taken_for_what_was_only_announced() {
        let (_, parser) = feed(MAX_DATA, &[&[0, 16, 0, 0, 0, 1, 0, 1, 5]]);
        assert!(parser.partial.capacity() < 64);
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let kind = prop_oneof![0..12_u16, any::<u16>()];
        (
            any::<u16>(),
            kind,
            prop::collection::vec(any::<u8>(), 0..300),
        )
            .prop_map(|(tid, kind, data)| Frame { tid, kind, data })
    }

    fn cut<'a>(mut rest: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
        let mut chunks = Vec::new();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, after) = rest.split_at((*size).min(rest.len()));
            chunks.push(chunk);
            rest = after;
        }
        chunks
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_frames(
            frames in prop::collection::vec(frame(), 0..5),
            sizes in prop::collection::vec(1..300_usize, 1..20),
        ) {
            let stream: Vec<u8> = frames.iter().flat_map(encoded).collect();
            let bytewise: Vec<&[u8]> = stream.chunks(1).collect();
            prop_assert_eq!(&feed(MAX_DATA, &bytewise).0, &frames);
            let (parsed, parser) = feed(MAX_DATA, &cut(&stream, &sizes));
            prop_assert_eq!(parsed, frames);
            prop_assert!(parser.is_between_frames());
        }

        #[test]
        fn any_chunking_of_garbage_gives_the_same_frames_and_error(
            stream in prop::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..600),
            sizes in prop::collection::vec(1..40_usize, 1..20),
        ) {
            let (frames, whole) = feed(64, &[&stream]);
            let (again, parser) = feed(64, &cut(&stream, &sizes));
            prop_assert_eq!(again, frames);
            prop_assert_eq!(parser.error(), whole.error());
            prop_assert!(parser.partial.len() < HEADER + 64);
        }
    }
}
