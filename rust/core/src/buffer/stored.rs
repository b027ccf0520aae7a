//! What the log is made of: frames in memory, and what is known about segments without reading them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::boot::Boots;
use super::frame::{DataHead, Frame, Use};
use super::series::Level;

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
