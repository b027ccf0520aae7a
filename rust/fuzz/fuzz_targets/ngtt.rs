//! Any chunking of a stream gives the same frames and the same error, and nothing is longer than the limit. The first
//! bytes of an input say how the rest is cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smok_core::ngtt::{Frame, FrameParser, HEADER, TooLong, encode};

const LIMIT: usize = 1000;
const SIZES: usize = 4;

fn parse<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<TooLong>) {
    let mut parser = FrameParser::new(LIMIT);
    let mut frames = Vec::new();
    for chunk in chunks {
        let _ = parser.feed(chunk, &mut frames);
    }
    (frames, parser.error())
}

fn cut<'a>(mut rest: &'a [u8], sizes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    sizes.iter().cycle().map_while(move |size| {
        let (chunk, after) = rest
            .split_at_checked(usize::from(*size).max(1))
            .unwrap_or((rest, &[]));
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

fuzz_target!(|input: &[u8]| {
    let Some((sizes, stream)) = input.split_at_checked(SIZES) else {
        return;
    };
    let whole = parse([stream].into_iter());
    assert_eq!(parse(stream.chunks(1)), whole);
    assert_eq!(parse(cut(stream, sizes)), whole);
    let (frames, error) = whole;
    assert!(frames.iter().all(|frame| frame.data.len() <= LIMIT));
    // The frames are the beginning of the stream, and all of it that can be told apart.
    let read: Vec<u8> = frames
        .iter()
        .flat_map(|frame| encode(frame.tid, frame.kind, &frame.data).unwrap_or_default())
        .collect();
    assert!(stream.starts_with(&read));
    assert!(error.is_some() || stream.len() - read.len() < HEADER + LIMIT);
});
