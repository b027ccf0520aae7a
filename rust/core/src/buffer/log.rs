//! The log: all frames with samples, in the order of their numbers.
//!
//! Its end, the *tail*, is in memory: frames that are not durable yet, and the last ones that are.
//! What is before the tail is in segments only. There are two rows of segments, one for each
//! [`Level`](super::Level), so that what is kept for good does not keep the rest from being forgotten.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::boot::Boots;
use super::cursor;
use super::frame::Boot;
use super::stored::{Segment, Stored};

/// How many bytes of durable frames the tail keeps, so that what is uploaded soon after it was
/// recorded is not read back from the disk.
const CACHE: usize = 256 << 10;

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
