//! The log: all frames with samples, in the order of their numbers.
//!
//! Its end, the *tail*, is in memory: frames that are not durable yet, and the last ones that are.
//! What is before the tail is in segments only. There are two rows of segments, one for each
//! [`Level`], so that what is kept for good does not keep the rest from being forgotten. Each
//! segment names the series in it by itself: damage to one costs nothing of another.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::Arc;

use super::block::Block;
use super::boot::Boots;
use super::frame::{self, Boot, DataHead, Found, Frame, Use};
use super::series::{Level, Series};
use super::wire::{Corrupt, Input};
use super::{Names, Shared};
use super::{cursor, segment};

/// How many bytes of durable frames the tail keeps, so that what is uploaded soon after it was
/// recorded is not read back from the disk.
const CACHE: usize = 256 << 10;

/// A frame of samples in memory.
pub(super) struct Stored {
    pub level: Level,
    pub seq: u64,
    pub base: i64,
    pub head: DataHead,
    /// The content; the blocks begin at `blocks`.
    pub content: Vec<u8>,
    pub blocks: usize,
}

impl Stored {
    /// The frame for a segment.
    pub fn frame(&self) -> Frame<'_> {
        Frame {
            use_: Use::Data,
            seq: self.seq,
            base: self.base,
            content: &self.content,
        }
    }
}

/// What is known about a segment without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub name: String,
    pub level: Level,
    pub first_seq: u64,
    /// Frames that other segments have and that do not count here: when a write fails, nobody knows
    /// what of it is in the file, and the same frames are written to another one.
    pub repeats: Arc<BTreeSet<u64>>,
    /// The number of its last frame.
    pub last_seq: u64,
    pub bytes: u64,
    pub samples: u64,
    /// The lowest and the highest timestamp in it, as they were recorded.
    pub lowest: i64,
    pub highest: i64,
    /// The boots in which frames of it were recorded before the clock was set, with the lowest and
    /// the highest offset that these note.
    pub unset_clocks: BTreeMap<u32, (i64, i64)>,
}

impl Segment {
    /// A segment without frames.
    pub fn empty(level: Level, first_seq: u64) -> Self {
        Segment {
            name: segment_name(level, first_seq),
            level,
            first_seq,
            repeats: Arc::default(),
            last_seq: first_seq,
            bytes: 0,
            samples: 0,
            lowest: i64::MAX,
            highest: i64::MIN,
            unset_clocks: BTreeMap::new(),
        }
    }

    /// Whether a frame with this number is the segment's and may follow.
    pub fn may_add(&self, seq: u64) -> bool {
        !self.repeats.contains(&seq) && (seq > self.last_seq || self.samples == 0)
    }

    /// Takes account of a frame.
    pub fn add(&mut self, seq: u64, base: i64, head: &DataHead) {
        self.last_seq = seq;
        self.samples += head.samples;
        self.lowest = self.lowest.min(base);
        self.highest = self.highest.max(base.saturating_add_unsigned(head.span));
        if let Some(boot) = head.unset_clock {
            let known = self.unset_clocks.entry(boot.id);
            let (least, most) = known.or_insert((boot.offset, boot.offset));
            *least = boot.offset.min(*least);
            *most = boot.offset.max(*most);
        }
    }

    /// By how much stamps of it are moved at least and at most, in ms.
    pub fn shifts(&self, boots: &Boots) -> (i64, i64) {
        let (mut least, mut most) = (0, 0);
        for (id, (lowest, highest)) in &self.unset_clocks {
            if let Some(offset) = boots.offset(*id) {
                least = least.min(offset.saturating_sub(*highest));
                most = most.max(offset.saturating_sub(*lowest));
            }
        }
        (least, most)
    }

    /// No sample of it is older than the first or newer than the second of these times.
    pub fn times(&self, boots: &Boots) -> (i64, i64) {
        let (least, most) = self.shifts(boots);
        let oldest = self.lowest.saturating_add(least);
        (oldest, self.highest.saturating_add(most))
    }

    /// Whether it may have samples between these times, both included.
    pub fn may_have(&self, start: i64, stop: i64, boots: &Boots) -> bool {
        let (oldest, newest) = self.times(boots);
        oldest <= stop && newest >= start
    }
}

/// The name of a segment's file.
pub(super) fn segment_name(level: Level, first_seq: u64) -> String {
    let level = match level {
        Level::Permanent => "permanent",
        Level::Trend => "trend",
    };
    format!("{level}-{first_seq:020}.segment")
}

/// The highest number that a name may have, so that those after it can be counted.
const HIGHEST: u64 = 1 << 62;

/// What a segment's name says.
pub(super) fn parse_segment_name(name: &str) -> Option<(Level, u64)> {
    let (level, number) = name.strip_suffix(".segment")?.split_once('-')?;
    let level = match level {
        "permanent" => Level::Permanent,
        "trend" => Level::Trend,
        _ => return None,
    };
    let number = number.parse().ok().filter(|number| *number <= HIGHEST)?;
    Some((level, number))
}

/// See the module's comment. The figures are in samples.
#[derive(Default)]
pub(super) struct Log {
    pub tail: VecDeque<Arc<Stored>>,
    tail_bytes: usize,
    /// How many frames at the end of the tail are not durable.
    pub volatile: usize,
    pub volatile_bytes: usize,
    /// By first number.
    pub segments: BTreeMap<u64, Segment>,
    pub next_seq: u64,
    /// The server has all frames before this one, or they were given up.
    pub low: u64,
    /// `low`, as far as it is durable.
    pub durable_low: u64,
    pub recorded: u64,
    pub acknowledged: u64,
    pub pending: u64,
    pub dropped: u64,
    /// The offset of the clock in each boot in which it was set.
    pub boots: Boots,
    /// What of this the file `cursor` does not say yet.
    pub changes: cursor::Changes,
}

impl Log {
    /// An empty log, whose first frame will have this number.
    pub fn starting_at(next_seq: u64) -> Self {
        Log {
            next_seq,
            ..Log::default()
        }
    }

    /// The number of the first frame of the tail.
    pub fn tail_from(&self) -> u64 {
        self.tail.front().map_or(self.next_seq, |frame| frame.seq)
    }

    /// The number of the first of the newest frames, which have about `bytes` of content.
    pub fn newest_from(&self, bytes: usize) -> u64 {
        let mut sum = 0;
        let newest = self.tail.iter().rev().take_while(|frame| {
            let has_room = sum < bytes;
            sum += frame.content.len();
            has_room
        });
        newest.last().map_or(self.next_seq, |frame| frame.seq)
    }

    /// Adds a new frame.
    pub fn push(&mut self, frame: Stored) {
        self.recorded += frame.head.samples;
        self.pending += frame.head.samples;
        self.tail_bytes += frame.content.len();
        self.volatile_bytes += frame.content.len();
        self.volatile += 1;
        self.next_seq = frame.seq + 1;
        self.tail.push_back(Arc::new(frame));
    }

    /// The frames that are not durable.
    pub fn volatile(&self) -> Vec<Arc<Stored>> {
        let durable = self.tail.len() - self.volatile;
        self.tail.range(durable..).cloned().collect()
    }

    /// Notes that the first `count` of the volatile frames are durable.
    pub fn made_durable(&mut self, count: usize, keep: bool) {
        let first = self.tail.len() - self.volatile;
        let durable = self.tail.range(first..).take(count);
        self.volatile_bytes -= durable.map(|frame| frame.content.len()).sum::<usize>();
        self.volatile -= count;
        let keep = if keep { CACHE } else { 0 };
        while self.tail_bytes > keep && self.tail.len() > self.volatile {
            if let Some(frame) = self.tail.pop_front() {
                self.tail_bytes -= frame.content.len();
            }
        }
    }

    /// Takes the oldest volatile frame out for which `wanted` holds.
    pub fn give_up_volatile(&mut self, wanted: impl Fn(&Stored) -> bool) -> Option<Arc<Stored>> {
        let first = self.tail.len() - self.volatile;
        let index = first + self.tail.range(first..).position(|frame| wanted(frame))?;
        let frame = self.tail.remove(index)?;
        self.tail_bytes -= frame.content.len();
        self.volatile_bytes -= frame.content.len();
        self.volatile -= 1;
        Some(frame)
    }

    /// Takes a segment out, and what the tail has of it.
    pub fn forget(&mut self, segment: &Segment) {
        self.segments.remove(&segment.first_seq);
        let mut durable = self.tail.len() - self.volatile;
        let tail_bytes = &mut self.tail_bytes;
        self.tail.retain(|frame| {
            let is_durable = durable > 0;
            durable = durable.saturating_sub(1);
            let numbers = segment.first_seq..=segment.last_seq;
            let is_in_it = frame.level == segment.level && numbers.contains(&frame.seq);
            if is_durable && is_in_it {
                *tail_bytes -= frame.content.len();
            }
            !(is_durable && is_in_it)
        });
    }

    /// Samples in segments and frames.
    pub fn kept(&self) -> u64 {
        let first = self.tail.len() - self.volatile;
        let volatile = self.tail.range(first..).map(|frame| frame.head.samples);
        let segments = self.segments.values().map(|segment| segment.samples);
        segments.chain(volatile).sum()
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.bytes).sum()
    }

    /// By how much stamps of a boot have to be moved, in ms.
    pub fn shift(&self, recorded: Option<Boot>) -> i64 {
        recorded
            .and_then(|boot| Some(self.boots.offset(boot.id)?.saturating_sub(boot.offset)))
            .unwrap_or(0)
    }
}

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
