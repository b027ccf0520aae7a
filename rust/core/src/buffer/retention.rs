//! What is forgotten, and when.
//!
//! Whole segments are, one after the other, the oldest first: those of level TREND that the server
//! has once they are old; and for a cap or for want of space, those that the server has before those
//! that it has not, and TREND before PERMANENT. "Has" means that the durable cursor says so. What
//! the server has not is counted when it goes.

use std::io;

use super::commit::Writer;
use super::log::Log;
use super::series::Level;
use super::stored::Segment;
use super::walk::{Cache, Loaded, Piece};
use super::{Event, Shared};

/// How many bytes of damaged segments are set aside at most.
const MOST_SET_ASIDE: u64 = 16 << 20;

impl Shared {
    /// Forgets what is old, or above a cap.
    pub(super) fn retain(&self, writer: &Writer, now: i64) {
        while let Some(segment) = self.surplus(writer, now) {
            self.forget(&segment);
        }
    }

    fn surplus(&self, writer: &Writer, now: i64) -> Option<Segment> {
        let log = self.log.lock();
        let trend_for = i64::try_from(self.options.trend_for.as_millis()).unwrap_or(i64::MAX);
        let limit = now.saturating_sub(trend_for);
        let mut finished = finished(&log, writer);
        let old = finished.find(|segment| {
            let (_, newest) = segment.times(&log.boots);
            segment.level == Level::Trend && has(&log, segment) && newest < limit
        });
        if old.is_some() {
            return old.cloned();
        }
        if log.bytes() > self.options.max_bytes || log.kept() > self.options.max_samples {
            return least_needed(&log, writer, true);
        }
        None
    }

    /// An error if there is no room on the disk besides the reserve.
    pub(super) fn check_reserve(&self) -> io::Result<()> {
        match self.storage.free() {
            Some(free) if free < self.options.reserve_bytes => Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!(
                    "{free} bytes are free, of which {} are left to others",
                    self.options.reserve_bytes
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Forgets something so that the next try to write may succeed. False if there is nothing to
    /// forget: what the server has not is kept while there is room in memory.
    pub(super) fn make_space(&self, writer: &Writer) -> bool {
        let victim = {
            let log = self.log.lock();
            let is_pressing = log.volatile_bytes > self.options.memory_bytes / 2;
            least_needed(&log, writer, is_pressing)
        };
        victim.is_some_and(|segment| {
            self.forget(&segment);
            true
        })
    }

    /// Gives up frames in memory that are above its cap.
    pub(super) fn bound_memory(&self) {
        loop {
            let mut log = self.log.lock();
            if log.volatile_bytes <= self.options.memory_bytes {
                return;
            }
            let low = log.low;
            let frame = None
                .or_else(|| log.give_up_volatile(|frame| frame.seq < low))
                .or_else(|| log.give_up_volatile(|frame| frame.level == Level::Trend))
                .or_else(|| log.give_up_volatile(|_| true));
            drop(log);
            if let Some(frame) = frame {
                self.count_dropped(&Piece::Stored(frame));
            }
        }
    }

    fn forget(&self, segment: &Segment) {
        self.count_dropped_of(segment);
        self.log.lock().forget(segment);
        if let Err(error) = self.storage.remove(&segment.name) {
            // It comes back at the next start, and is forgotten then.
            self.tell(Event::Failed(format!("{}: {error}", segment.name)));
        }
    }

    fn count_dropped_of(&self, segment: &Segment) {
        if segment.last_seq < self.log.lock().low {
            return;
        }
        let Ok(loaded) = Cache::default().load(segment, self) else {
            return;
        };
        for piece in Loaded::pieces(&loaded) {
            self.count_dropped(&piece);
        }
    }

    /// Counts what the server lacks of a frame as dropped.
    fn count_dropped(&self, piece: &Piece) {
        let seq = piece.seq();
        if seq < self.log.lock().low {
            return;
        }
        let mut dropped = 0;
        // What makes no sense has no samples to count.
        let _ = piece.for_each_block(&self.names, |series, block| {
            let acknowledged = series.data.lock().acknowledged;
            let lacking = block.lacking(seq, acknowledged)?;
            let mut data = series.data.lock();
            data.waiting = data.waiting.saturating_sub(lacking);
            dropped += lacking;
            Ok(true)
        });
        let mut log = self.log.lock();
        log.dropped += dropped;
        log.pending = log.pending.saturating_sub(dropped);
        drop(log);
        if dropped > 0 {
            self.tell(Event::Dropping);
        }
    }

    /// A segment has bytes that are no frames: they are set aside, once.
    pub(super) fn note_damage(&self, segment: &Segment, loaded: &Loaded) {
        for (start, bytes) in loaded.damaged() {
            let length = bytes.len() as u64;
            let set_aside = {
                let mut damage = self.damage.lock();
                let known = damage.insert((segment.name.clone(), start), length);
                let sum: u64 = damage.values().sum();
                known.is_none() && sum <= MOST_SET_ASIDE
            };
            if set_aside {
                self.set_aside(&segment.name, start, bytes);
                self.tell(Event::Damaged(segment.name.clone(), length));
            }
        }
    }

    /// Keeps damaged bytes in a file of their own, if that can be.
    fn set_aside(&self, segment: &str, start: usize, bytes: &[u8]) {
        let stem = segment.trim_end_matches(".segment");
        // The bytes are in the segment too, as long as that is kept.
        let _ = self
            .storage
            .replace(&format!("{stem}-{start}.damaged"), bytes);
    }

    /// A segment could not be read. If it is gone, somebody has forgotten it meanwhile.
    pub(super) fn note_unreadable(&self, segment: &Segment, error: &io::Error) {
        if error.kind() != io::ErrorKind::NotFound {
            self.tell(Event::Unreadable(format!("{}: {error}", segment.name)));
        }
    }
}

/// Whether the server has all of a segment, durably so.
fn has(log: &Log, segment: &Segment) -> bool {
    segment.last_seq < log.durable_low
}

/// The segments that are not being written.
fn finished<'a>(log: &'a Log, writer: &'a Writer) -> impl Iterator<Item = &'a Segment> {
    log.segments.values().filter(|segment| {
        let mut active = writer.active.iter().flatten();
        !active.any(|inventory| inventory.segment.first_seq == segment.first_seq)
    })
}

/// The segment that is missed least.
fn least_needed(log: &Log, writer: &Writer, even_if_lacking: bool) -> Option<Segment> {
    finished(log, writer)
        .filter(|segment| even_if_lacking || has(log, segment))
        .min_by_key(|segment| {
            let permanent = segment.level == Level::Permanent;
            (!has(log, segment), permanent, segment.first_seq)
        })
        .cloned()
}
