//! Reads the log: frames from segments and from the tail, in the order of their numbers.
//!
//! Each segment names the series in it by itself: damage to one costs nothing of another.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::Arc;

use super::block::Block;
use super::frame::{self, DataHead, Found, Use};
use super::log::Log;
use super::series::{Level, Series};
use super::stored::{Segment, Stored};
use super::wire::{Corrupt, Input};
use super::{Names, Shared, segment};

/// A segment in memory.
pub(super) struct Loaded {
    bytes: Vec<u8>,
    /// Where the contents of its data frames are.
    frames: Vec<(u64, i64, std::ops::Range<usize>)>,
    names: Arc<HashMap<u64, Arc<Series>>>,
    /// Where bytes are that are no frames.
    damage: Vec<(usize, usize)>,
}

impl Loaded {
    fn new(bytes: Vec<u8>, segment: &Segment, shared: &Shared) -> Self {
        let mut frames = Vec::new();
        let mut names = HashMap::new();
        let mut damage = Vec::new();
        let mut before = 0;
        let mut ends = segment::Ends::default();
        for found in frame::scan(&bytes) {
            match found {
                Found::Frame(at, frame) => {
                    ends.pass(&frame);
                    if frame.use_ == Use::Data
                        && (before + 1..=segment.last_seq).contains(&frame.seq)
                        && !segment.repeats.contains(&frame.seq)
                    {
                        before = frame.seq;
                        let start = at + frame::HEADER;
                        let content = start..start + frame.content.len();
                        frames.push((frame.seq, frame.base, content));
                    }
                    for (id, name) in segment::names(&frame) {
                        if let Some(series) = shared.names.by_name(&name) {
                            names.insert(id, series);
                        }
                    }
                }
                Found::Damage(start, end) => damage.push((start, end)),
                Found::End(_) if ends.with_trailer() => {}
                Found::End(start) => damage.push((start, bytes.len())),
            }
        }
        Loaded {
            bytes,
            frames,
            names: Arc::new(names),
            damage,
        }
    }

    /// Its frames.
    pub fn pieces(this: &Arc<Self>) -> impl DoubleEndedIterator<Item = Piece> {
        (0..this.frames.len()).map(|index| Piece::Loaded(Arc::clone(this), index))
    }

    /// The bytes that are no frames, and where they begin.
    pub fn damaged(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.damage
            .iter()
            .filter_map(|(start, end)| Some((*start, self.bytes.get(*start..*end)?)))
    }

    fn frame(&self, index: usize) -> Option<(u64, i64, &[u8])> {
        let (seq, base, content) = self.frames.get(index)?;
        Some((*seq, *base, self.bytes.get(content.clone())?))
    }
}

/// A frame that a [`Walk`] has come to.
pub(super) enum Piece {
    Stored(Arc<Stored>),
    Loaded(Arc<Loaded>, usize),
}

impl Piece {
    pub fn seq(&self) -> u64 {
        match self {
            Piece::Stored(frame) => frame.seq,
            Piece::Loaded(segment, index) => segment.frame(*index).map_or(0, |(seq, ..)| seq),
        }
    }

    fn parts(&self) -> Result<(i64, DataHead, Input<'_>), Corrupt> {
        match self {
            Piece::Stored(frame) => {
                let blocks = frame.content.get(frame.blocks..).ok_or(Corrupt)?;
                Ok((frame.base, frame.head, Input::new(blocks)))
            }
            Piece::Loaded(segment, index) => {
                let (_, base, content) = segment.frame(*index).ok_or(Corrupt)?;
                let mut input = Input::new(content);
                let head = DataHead::read(&mut input)?;
                Ok((base, head, input))
            }
        }
    }

    /// What its header says.
    pub fn head(&self) -> Result<(i64, DataHead), Corrupt> {
        self.parts().map(|(base, head, _)| (base, head))
    }

    /// Calls `each` with every block and its series; blocks of series whose name is lost are left
    /// out. Ends early when `each` gives false.
    pub fn for_each_block(
        &self,
        names: &Names,
        mut each: impl FnMut(&Arc<Series>, Block<'_>) -> Result<bool, Corrupt>,
    ) -> Result<(), Corrupt> {
        let (base, _, mut input) = self.parts()?;
        let mut id = 0;
        while !input.is_empty() {
            let block = Block::read(&mut input, id, base)?;
            id = block.id;
            let more = match self {
                Piece::Stored(_) => match names.by_id(id) {
                    Some(series) => each(&series, block)?,
                    None => true,
                },
                Piece::Loaded(segment, _) => match segment.names.get(&id) {
                    Some(series) => each(series, block)?,
                    None => true,
                },
            };
            if !more {
                break;
            }
        }
        Ok(())
    }
}

/// Reads the log from some frame on, one segment of each level in memory at a time.
pub(super) struct Walk {
    from: u64,
    /// Where the tail begins: what segments have from there on is passed over.
    until: u64,
    /// The number of the frame after the last one.
    end: u64,
    /// One for each level, and more where numbers of segments overlap.
    rows: Vec<Row>,
    tail: VecDeque<Arc<Stored>>,
    /// The last frame of the segments that were passed over since they cannot be read.
    pub failed_up_to: Option<u64>,
}

/// Segments whose frames follow each other.
struct Row {
    segments: VecDeque<Segment>,
    current: Option<(Arc<Loaded>, usize)>,
}

impl Row {
    /// Whether a segment may follow.
    fn admits(&self, segment: &Segment) -> bool {
        let last = self.segments.back();
        last.is_some_and(|last| last.level == segment.level && last.last_seq < segment.first_seq)
    }
}

/// The segments that were read last, by level, so that the next walk need not read them again.
#[derive(Default)]
pub(super) struct Cache([Option<(u64, u64, Arc<Loaded>)>; 2]);

impl Walk {
    /// Starts at frame `from`, in those segments that `wanted` admits.
    pub fn new(log: &Log, from: u64, wanted: impl Fn(&Segment) -> bool) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        let until = log.tail_from();
        for segment in log.segments.range(..until).map(|(_, segment)| segment) {
            if segment.last_seq < from || segment.samples == 0 || !wanted(segment) {
                continue;
            }
            match rows.iter_mut().find(|row| row.admits(segment)) {
                Some(row) => row.segments.push_back(segment.clone()),
                None => rows.push(Row {
                    segments: [segment.clone()].into(),
                    current: None,
                }),
            }
        }
        Walk {
            from,
            until,
            end: log.next_seq,
            rows,
            tail: log
                .tail
                .iter()
                .filter(|frame| frame.seq >= from)
                .cloned()
                .collect(),
            failed_up_to: None,
        }
    }

    /// The number of the frame after the last one.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The next frame.
    pub fn next(&mut self, shared: &Shared, cache: &mut Cache) -> Option<Piece> {
        let heads = (0..self.rows.len())
            .filter_map(|row| Some((self.peek(row, shared, cache)?, row)))
            .min();
        let Some((_, row)) = heads else {
            return self.tail.pop_front().map(Piece::Stored);
        };
        let (loaded, index) = self.rows.get_mut(row)?.current.as_mut()?;
        let piece = Piece::Loaded(Arc::clone(loaded), *index);
        *index += 1;
        Some(piece)
    }

    /// The number of the next frame of a row of segments.
    fn peek(&mut self, row: usize, shared: &Shared, cache: &mut Cache) -> Option<u64> {
        let row = self.rows.get_mut(row)?;
        loop {
            if let Some((loaded, index)) = &mut row.current {
                while let Some((seq, ..)) = loaded.frames.get(*index) {
                    if *seq >= self.from && *seq < self.until {
                        return Some(*seq);
                    }
                    *index += 1;
                }
                row.current = None;
            }
            let segment = row.segments.pop_front()?;
            match cache.load(&segment, shared) {
                Ok(loaded) => row.current = Some((loaded, 0)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(_) => {
                    let last = segment.last_seq.min(self.until.saturating_sub(1));
                    self.failed_up_to = self.failed_up_to.max(Some(last));
                }
            }
        }
    }
}

impl Cache {
    /// A segment's frames.
    ///
    /// # Errors
    /// It is gone, [`ErrorKind::NotFound`], or cannot be read, which is told.
    pub fn load(&mut self, segment: &Segment, shared: &Shared) -> io::Result<Arc<Loaded>> {
        let [permanent, trend] = &mut self.0;
        let slot = match segment.level {
            Level::Permanent => permanent,
            Level::Trend => trend,
        };
        if let Some((first_seq, bytes, loaded)) = slot
            && (*first_seq, *bytes) == (segment.first_seq, segment.bytes)
        {
            return Ok(Arc::clone(loaded));
        }
        let (bytes, _) = shared
            .read_segment(segment)
            .inspect_err(|error| shared.note_unreadable(segment, error))?;
        let loaded = Arc::new(Loaded::new(bytes, segment, shared));
        shared.note_damage(segment, &loaded);
        *slot = Some((segment.first_seq, segment.bytes, Arc::clone(&loaded)));
        Ok(loaded)
    }
}
