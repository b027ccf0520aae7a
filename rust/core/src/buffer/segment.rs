//! Segments: files of frames.
//!
//! A segment is written once, from its head on: names of series before the first frame that needs
//! them, and the frames. When it has reached its size and all of that is durable, an index ends it,
//! which repeats the names and says what is in it, so that a start need not read it all. The index is left out where it would
//! be longer than an eighth of the rest; it is a shortcut, never the only place where something
//! stands.

use std::collections::BTreeMap;

use super::frame::{self, DataHead, Found, Frame, Use};
use super::series::{Level, Position};
use super::stored::{Segment, Stored};
use super::wire::{Corrupt, Input, put_int, put_text, put_uint};
use super::{Names, block::Block};

/// The version of the format, in the head of a segment.
pub const VERSION: u64 = 1;

/// The last bytes of a finished segment: where the index begins, and a mark.
pub(super) const TRAILER: u64 = 8;
const MARK: [u8; 4] = *b"SMKE";

/// From which length on a file is none of a buffer's: a segment ends with the frame that fills it.
pub(super) const TOO_LONG: u64 = 64 << 20;

/// How many bytes of names one frame has, about.
const NAMES: usize = 1 << 20;

/// What a segment has of one series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub name: String,
    pub samples: u64,
    pub first: Position,
    pub last: Position,
    /// Whether the clock stamped the last one, and what it said when it had not been set.
    pub last_stamped: bool,
}

/// What a segment has in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inventory {
    pub segment: Segment,
    /// By id within the segment; ordered, as the index is.
    pub series: BTreeMap<u64, Content>,
    /// Samples whose pathpoint's name is lost.
    pub nameless: u64,
    /// Ranges of bytes that are no frames.
    pub damage: Vec<(usize, usize)>,
    /// Where the file should end, if what follows is no frame.
    pub torn_at: Option<usize>,
    /// Whether an index ends it.
    pub finished: bool,
    /// How long the file is, as far as that is durable.
    pub durable: u64,
}

impl Inventory {
    /// Of a segment that is to be written.
    pub fn new(segment: Segment) -> Self {
        Inventory {
            segment,
            series: BTreeMap::new(),
            nameless: 0,
            damage: Vec::new(),
            torn_at: None,
            finished: false,
            durable: 0,
        }
    }

    /// From the index and the trailer of a segment; `None` if they make no sense.
    pub fn from_index(segment: &Segment, index: &[u8]) -> Option<Self> {
        let frame = frame::parse(index)?;
        if frame.use_ != Use::Index || frame.seq != segment.first_seq {
            return None;
        }
        let mut inventory = Inventory::new(segment.clone());
        inventory.read_index(&mut Input::new(frame.content)).ok()?;
        inventory.finished = true;
        Some(inventory)
    }

    fn read_index(&mut self, input: &mut Input<'_>) -> Result<(), Corrupt> {
        let segment = &mut self.segment;
        segment.last_seq = segment
            .first_seq
            .checked_add(input.uint()?)
            .ok_or(Corrupt)?;
        segment.samples = input.uint()?;
        segment.lowest = input.int()?;
        segment.highest = input.int()?;
        for _ in 0..input.uint()? {
            let id = u32::try_from(input.uint()?).map_err(|_| Corrupt)?;
            segment
                .unset_clocks
                .insert(id, (input.int()?, input.int()?));
        }
        let mut id = 0u64;
        for _ in 0..input.uint()? {
            id = id.checked_add(input.uint()?).ok_or(Corrupt)?;
            let name = input.text()?.to_owned();
            let samples = input.uint()?;
            let mut position = || {
                Ok(Position {
                    seq: segment.first_seq.wrapping_add(input.uint()?),
                    timestamp: segment.lowest.wrapping_add(input.int()?),
                })
            };
            let (first, last) = (position()?, position()?);
            let last_stamped = input.byte()? != 0;
            let content = Content {
                name,
                samples,
                first,
                last,
                last_stamped,
            };
            self.series.insert(id, content);
        }
        Ok(())
    }

    /// Appends the index and the trailer.
    pub fn write_index(&self, out: &mut Vec<u8>) {
        let segment = &self.segment;
        let mut content = Vec::new();
        put_uint(&mut content, segment.last_seq - segment.first_seq);
        put_uint(&mut content, segment.samples);
        put_int(&mut content, segment.lowest);
        put_int(&mut content, segment.highest);
        put_uint(&mut content, segment.unset_clocks.len() as u64);
        for (id, (least, most)) in &segment.unset_clocks {
            put_uint(&mut content, (*id).into());
            put_int(&mut content, *least);
            put_int(&mut content, *most);
        }
        put_uint(&mut content, self.series.len() as u64);
        let mut before = 0;
        for (id, series) in &self.series {
            put_uint(&mut content, id - before);
            before = *id;
            put_text(&mut content, &series.name);
            put_uint(&mut content, series.samples);
            for position in [series.first, series.last] {
                put_uint(&mut content, position.seq.wrapping_sub(segment.first_seq));
                put_int(
                    &mut content,
                    position.timestamp.wrapping_sub(segment.lowest),
                );
            }
            content.push(series.last_stamped.into());
        }
        if content.len() as u64 > segment.bytes / 8 {
            return;
        }
        let start = out.len();
        let frame = Frame {
            use_: Use::Index,
            seq: segment.first_seq,
            base: segment.lowest,
            content: &content,
        };
        frame.write(out);
        let length = u32::try_from(out.len() - start).unwrap_or(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&MARK);
    }

    /// Of a segment whose index cannot be used: all its frames are looked at.
    pub fn from_frames(segment: &Segment, bytes: &[u8]) -> Self {
        let mut inventory = Inventory::new(segment.clone());
        let mut ids = BTreeMap::new();
        for found in frame::scan(bytes) {
            if let Found::Frame(_, frame) = found {
                ids.extend(names(&frame));
            }
        }
        let mut ends = Ends::default();
        for found in frame::scan(bytes) {
            match found {
                Found::Frame(at, frame) => {
                    ends.pass(&frame);
                    let end = at + frame.len();
                    if frame.use_ == Use::Data
                        && inventory.segment.may_add(frame.seq)
                        && inventory.add_frame(&frame, &ids).is_err()
                    {
                        inventory.damage.push((at, end));
                    }
                }
                Found::Damage(start, end) => inventory.damage.push((start, end)),
                Found::End(_) if ends.with_trailer() => inventory.finished = true,
                Found::End(start) => inventory.torn_at = Some(start),
            }
        }
        // Nobody can get at them.
        inventory.segment.samples -= inventory.nameless.min(inventory.segment.samples);
        inventory
    }

    fn add_frame(
        &mut self,
        frame: &Frame<'_>,
        names: &BTreeMap<u64, String>,
    ) -> Result<(), Corrupt> {
        let mut input = Input::new(frame.content);
        let head = DataHead::read(&mut input)?;
        let mut id = 0;
        let mut blocks = Vec::new();
        while !input.is_empty() {
            let block = Block::read(&mut input, id, frame.base)?;
            id = block.id;
            blocks.push((block.range()?, block));
        }
        for (range, block) in blocks {
            match names.get(&block.id) {
                Some(name) => self.add_block(frame.seq, &block, range, name),
                None => self.nameless += block.count as u64,
            }
        }
        self.segment.add(frame.seq, frame.base, &head);
        Ok(())
    }

    fn add_block(&mut self, seq: u64, block: &Block<'_>, (first, last): (i64, i64), name: &str) {
        let at = |timestamp| Position { seq, timestamp };
        let content = self.series.entry(block.id).or_insert_with(|| Content {
            name: name.to_owned(),
            samples: 0,
            first: at(first),
            last: at(last),
            last_stamped: block.stamped,
        });
        content.samples += block.count as u64;
        content.last = at(last);
        content.last_stamped = block.stamped;
    }

    /// Takes account of a frame that is written, and appends it; before it the names that the
    /// segment does not have yet.
    pub fn write(&mut self, stored: &Stored, names: &Names, out: &mut Vec<u8>) {
        let before = out.len();
        if self.segment.bytes == 0 && out.is_empty() {
            self.write_head(out);
        }
        let mut fresh = Vec::new();
        let mut put = |fresh: &mut Vec<u8>| {
            if !fresh.is_empty() {
                let frame = Frame {
                    use_: Use::Names,
                    seq: stored.seq,
                    base: 0,
                    content: fresh,
                };
                frame.write(out);
                fresh.clear();
            }
        };
        let mut input = Input::new(stored.content.get(stored.blocks..).unwrap_or_default());
        let mut id = 0;
        while let Ok(block) = Block::read(&mut input, id, stored.base) {
            id = block.id;
            let (Ok(range), Some(series)) = (block.range(), names.by_id(id)) else {
                continue;
            };
            if !self.series.contains_key(&id) {
                put_uint(&mut fresh, id);
                put_text(&mut fresh, series.name());
                if fresh.len() > NAMES {
                    put(&mut fresh);
                }
            }
            self.add_block(stored.seq, &block, range, series.name());
        }
        put(&mut fresh);
        stored.frame().write(out);
        self.segment.add(stored.seq, stored.base, &stored.head);
        self.segment.bytes += (out.len() - before) as u64;
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        let mut content = Vec::new();
        put_uint(&mut content, VERSION);
        let frame = Frame {
            use_: Use::Head,
            seq: self.segment.first_seq,
            base: 0,
            content: &content,
        };
        frame.write(out);
    }
}

/// How long the index is, if these are the last bytes of a finished segment.
pub(super) fn index_length(trailer: &[u8]) -> Option<u64> {
    let length: [u8; 4] = trailer.strip_suffix(&MARK)?.try_into().ok()?;
    Some(u32::from_le_bytes(length).into())
}

/// The numbers of the frames of samples in a segment.
pub(super) fn numbers(bytes: &[u8]) -> impl Iterator<Item = u64> {
    frame::scan(bytes).filter_map(|found| match found {
        Found::Frame(_, frame) if frame.use_ == Use::Data => Some(frame.seq),
        _ => None,
    })
}

/// Tells whether a segment ends as it should.
#[derive(Default)]
pub(super) struct Ends {
    index: bool,
}

impl Ends {
    /// Takes account of the next frame.
    pub fn pass(&mut self, frame: &Frame<'_>) {
        self.index = frame.use_ == Use::Index;
    }

    /// Whether what follows the last frame is a trailer and no damage.
    pub fn with_trailer(&self) -> bool {
        self.index
    }
}

/// The names of series that a frame of names or an index gives; whatever makes no sense ends it.
pub(super) fn names(frame: &Frame<'_>) -> Vec<(u64, String)> {
    let mut input = Input::new(frame.content);
    match frame.use_ {
        Use::Names => std::iter::from_fn(|| Some((input.uint().ok()?, input.text().ok()?)))
            .map(|(id, name)| (id, name.to_owned()))
            .collect(),
        Use::Index => {
            let mut inventory = Inventory::new(Segment::empty(Level::Trend, frame.seq));
            match inventory.read_index(&mut input) {
                Ok(()) => inventory
                    .series
                    .into_iter()
                    .map(|(id, content)| (id, content.name))
                    .collect(),
                Err(Corrupt) => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}
