//! One pathpoint's samples.
//!
//! Timestamps rise strictly within a series: a sample that is not newer than the latest one is
//! refused, and what is read while the wall clock stands still or was set back is stamped one
//! millisecond after it. Only when the clock is set for the first time since the machine booted do
//! the stamps that it gave before move with it; see the parent module.
//!
//! New samples gather in the *head*; the buffer seals heads into frames. The latest sample is kept
//! apart, so that it outlives every cap.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Shared;
use crate::clock::{self, Moment};
use crate::pathpoint::Kind;
use crate::value::{Reading, Sample};

/// The sample is not newer than the latest one of its pathpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timestamp {given} is not newer than the latest one, {latest}")]
pub struct NotNewer {
    /// The timestamp that was refused, in milliseconds since the epoch.
    pub given: i64,
    /// The timestamp of the latest sample, in milliseconds since the epoch.
    pub latest: i64,
}

/// How many nanoseconds after a recall that found nothing the next one is tried: it may have read
/// the whole disk.
const RECALL_AGAIN: u64 = 60_000_000_000;

/// How long samples are kept once the server has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For good, within the caps.
    Permanent = 0,
    /// For a time, two weeks by default.
    #[default]
    Trend = 1,
}

/// Both levels.
pub(super) const LEVELS: [Level; 2] = [Level::Permanent, Level::Trend];

/// Where a sample stands in the order of recording: its frame, and its stamp as it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub seq: u64,
    pub timestamp: i64,
}

impl Position {
    /// Before every sample.
    pub const START: Position = Position {
        seq: 0,
        timestamp: i64::MIN,
    };
}

/// One pathpoint's samples; see the module's comment.
pub struct Series {
    name: Arc<str>,
    kind: Kind,
    pub(super) id: u64,
    shared: Arc<Shared>,
    level: AtomicU8,
    /// Monotonic nanoseconds of the last sample, 0 before the first.
    recorded_at: AtomicU64,
    /// The same of the last sample that came while no poll was outstanding.
    unpolled_at: AtomicU64,
    /// A poll was asked for and has not ended.
    poll_outstanding: AtomicBool,
    pub(super) data: Mutex<Data>,
}

/// Samples of the head that follow each other and got their stamps in the same way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub stamped: bool,
    pub count: usize,
}

/// What of a series is not in frames yet.
#[derive(Default)]
pub(super) struct Head {
    pub samples: Vec<Sample>,
    pub runs: Vec<Run>,
}

pub(super) struct Data {
    /// The latest sample, if it is in memory.
    pub latest: Option<Sample>,
    /// Its timestamp.
    pub newest: Option<i64>,
    /// Whether the clock gave that.
    pub stamped: bool,
    pub head: Head,
    /// Samples recorded, since ever if they are still kept.
    pub recorded: u64,
    /// Samples that the server does not have.
    pub waiting: u64,
    /// Of the last sample in a frame.
    pub last: Position,
    /// Of the last one that the server has, or that was given up.
    pub acknowledged: Position,
    /// No frame before this one has a sample that the server lacks.
    pub waiting_from: u64,
    /// Before this monotonic nanosecond the latest sample is not looked for on the disk again.
    recall_from: u64,
}

impl Series {
    pub(super) fn new(name: Arc<str>, kind: Kind, id: u64, shared: Arc<Shared>) -> Self {
        Series {
            name,
            kind,
            id,
            shared,
            level: AtomicU8::new(Level::default() as u8),
            recorded_at: AtomicU64::new(0),
            unpolled_at: AtomicU64::new(0),
            poll_outstanding: AtomicBool::new(false),
            data: Mutex::new(Data {
                latest: None,
                newest: None,
                stamped: false,
                head: Head::default(),
                recorded: 0,
                waiting: 0,
                last: Position::START,
                acknowledged: Position::START,
                waiting_from: u64::MAX,
                recall_from: 0,
            }),
        }
    }

    /// The pathpoint's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The type of the pathpoint's values.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How long samples are kept that come from now on.
    #[must_use]
    pub fn level(&self) -> Level {
        if self.level.load(Ordering::Relaxed) == Level::Permanent as u8 {
            Level::Permanent
        } else {
            Level::Trend
        }
    }

    /// Changes how long samples are kept that come from now on.
    pub fn set_level(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    /// Records a sample with a timestamp of the user's.
    ///
    /// # Errors
    /// [`NotNewer`] if its timestamp is not above that of the latest one; that is counted.
    pub fn record(self: &Arc<Self>, sample: Sample) -> Result<(), NotNewer> {
        let mut data = self.data.lock();
        if let Some(latest) = data.newest
            && sample.timestamp <= latest
        {
            drop(data);
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
            return Err(NotNewer {
                given: sample.timestamp,
                latest,
            });
        }
        self.push(&mut data, sample, false);
        let unsealed = self.shared.add_unsealed(1);
        drop(data);
        self.read_finished(clock::monotonic());
        self.shared.note_unsealed(unsealed);
        Ok(())
    }

    /// Records samples with timestamps of the user's, oldest first; those that are not newer than
    /// the ones before are refused and counted. Returns how many were recorded.
    pub fn record_all(self: &Arc<Self>, samples: impl IntoIterator<Item = Sample>) -> u64 {
        let mut samples = samples.into_iter();
        let mut recorded = 0;
        loop {
            let mut data = self.data.lock();
            let (mut count, mut refused) = (0, 0);
            for sample in samples.by_ref().take(self.shared.options.frame_samples()) {
                if data.newest.is_none_or(|latest| sample.timestamp > latest) {
                    self.push(&mut data, sample, false);
                    count += 1;
                } else {
                    refused += 1;
                }
            }
            let unsealed = self.shared.add_unsealed(count);
            drop(data);
            if count + refused == 0 {
                break;
            }
            self.shared.refused.fetch_add(refused, Ordering::Relaxed);
            self.read_finished(clock::monotonic());
            self.shared.note_unsealed(unsealed);
            recorded += count;
        }
        recorded
    }

    /// Records what was read just now. When the wall clock stands still or was set back, the sample
    /// is stamped one millisecond after the latest one. Returns the stamp, in milliseconds since
    /// the epoch.
    pub fn record_now(self: &Arc<Self>, moment: Moment, reading: Reading) -> i64 {
        let moment = self.shared.look_at_clock(moment);
        let mut data = self.data.lock();
        let timestamp = data.stamp(moment);
        self.push(&mut data, Sample { timestamp, reading }, true);
        let unsealed = self.shared.add_unsealed(1);
        drop(data);
        self.read_finished(moment.monotonic);
        self.shared.note_unsealed(unsealed);
        timestamp
    }

    /// The stamp that [`Series::record_now`] would give.
    #[must_use]
    pub fn stamp(&self, moment: Moment) -> i64 {
        self.data.lock().stamp(moment)
    }

    /// Sets the latest sample without recording anything: what a store of the user's own remembers
    /// from before. No-op if a newer one is known.
    pub fn remember(&self, sample: Sample) {
        let mut data = self.data.lock();
        if data.newest.is_none_or(|newest| newest < sample.timestamp) {
            data.newest = Some(sample.timestamp);
            data.latest = Some(sample);
        }
    }

    /// The latest sample; read from the disk at the first call after a start.
    #[must_use]
    #[inline]
    pub fn latest(self: &Arc<Self>) -> Option<Sample> {
        self.look_at_latest(Clone::clone)
    }

    /// Calls `look` with the latest sample where it is, with the series locked; what would be a
    /// copy otherwise takes as long as an expression over it.
    #[inline]
    pub fn look_at_latest<T>(self: &Arc<Self>, look: impl FnOnce(&Sample) -> T) -> Option<T> {
        let data = self.data.lock();
        if let Some(latest) = &data.latest {
            return Some(look(latest));
        }
        let is_worth_it = data.newest.is_some() && clock::monotonic() >= data.recall_from;
        drop(data);
        let recalled = if is_worth_it { self.recall() } else { None };
        recalled.as_ref().map(look)
    }

    /// Reads the latest sample from the disk.
    #[cold]
    fn recall(self: &Arc<Self>) -> Option<Sample> {
        let recalled = self.shared.recall(self);
        let mut data = self.data.lock();
        if recalled.is_none() {
            data.recall_from = clock::monotonic().saturating_add(RECALL_AGAIN);
        }
        if data.latest.is_none() {
            data.latest = recalled;
        }
        data.latest.clone()
    }

    /// How many samples are known to have been recorded, and how many of them the server has or a
    /// cap has cost.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let data = self.data.lock();
        (
            data.recorded,
            data.recorded - data.waiting.min(data.recorded),
        )
    }

    /// Monotonic nanoseconds of the last sample; `None` before the first.
    #[must_use]
    pub fn recorded_at(&self) -> Option<u64> {
        Some(self.recorded_at.load(Ordering::Relaxed)).filter(|&at| at > 0)
    }

    /// Monotonic nanoseconds of the last sample that came from elsewhere than a poll; `None` before
    /// the first.
    #[must_use]
    pub fn unpolled_at(&self) -> Option<u64> {
        Some(self.unpolled_at.load(Ordering::Relaxed)).filter(|&at| at > 0)
    }

    /// Notes that a poll was asked for. False if the one before has not ended.
    pub fn begin_poll(&self) -> bool {
        !self.poll_outstanding.swap(true, Ordering::AcqRel)
    }

    /// Notes that a read ended without giving a sample.
    pub fn end_poll(&self) {
        self.poll_outstanding.store(false, Ordering::Release);
    }

    fn read_finished(&self, monotonic: u64) {
        let monotonic = monotonic.max(1);
        self.recorded_at.store(monotonic, Ordering::Relaxed);
        if !self.poll_outstanding.swap(false, Ordering::AcqRel) {
            self.unpolled_at.store(monotonic, Ordering::Relaxed);
        }
    }

    fn push(self: &Arc<Self>, data: &mut Data, sample: Sample, stamped: bool) {
        data.newest = Some(sample.timestamp);
        data.stamped = stamped;
        data.recorded += 1;
        if self.shared.keeps_samples {
            if data.head.samples.is_empty() {
                self.shared.dirty.lock().push(Arc::clone(self));
            }
            data.waiting += 1;
            data.head.push(sample.clone(), stamped);
        }
        data.latest = Some(sample);
    }
}

impl Head {
    fn push(&mut self, sample: Sample, stamped: bool) {
        match self.runs.last_mut() {
            Some(run) if run.stamped == stamped => run.count += 1,
            _ => self.runs.push(Run { stamped, count: 1 }),
        }
        self.samples.push(sample);
    }

    /// The samples, each run on its own.
    pub fn runs(&self) -> impl Iterator<Item = (bool, &[Sample])> {
        let mut rest = self.samples.as_slice();
        self.runs.iter().map(move |run| {
            let (samples, later) = rest.split_at_checked(run.count).unwrap_or((rest, &[]));
            rest = later;
            (run.stamped, samples)
        })
    }

    /// Forgets the samples, and gives back what room is out of proportion.
    pub fn clear(&mut self) {
        self.samples.clear();
        self.samples.shrink_to(64);
        self.runs.clear();
    }
}

impl Data {
    /// The time of a sample taken at this moment: above that of the latest one.
    fn stamp(&self, moment: Moment) -> i64 {
        let earliest = self
            .newest
            .map_or(i64::MIN, |newest| newest.saturating_add(1));
        moment.wall.max(earliest)
    }

    /// Notes that samples up to this one are in a frame.
    pub fn sealed(&mut self, last: Position) {
        self.waiting_from = self.waiting_from.min(last.seq);
        self.last = last;
    }

    /// Gives the room of a head back that was sealed, if nothing has come since.
    pub fn give_back(&mut self, head: Head) {
        if self.head.samples.is_empty() {
            self.head = head;
        }
    }

    /// Moves the stamps that the clock gave to the latest sample and those in the head.
    pub fn shift(&mut self, by: i64) {
        let mut samples = self.head.samples.iter_mut();
        for run in &self.head.runs {
            for sample in samples.by_ref().take(run.count) {
                if run.stamped {
                    sample.timestamp = sample.timestamp.saturating_add(by);
                }
            }
        }
        if self.stamped {
            self.newest = self.newest.map(|newest| newest.saturating_add(by));
            if let Some(latest) = &mut self.latest {
                latest.timestamp = latest.timestamp.saturating_add(by);
            }
        }
    }

    /// Notes that the server has `count` more samples, or that they were given up: all up to this
    /// one.
    pub fn acknowledge(&mut self, up_to: Position, count: u64) {
        self.acknowledged = self.acknowledged.max(up_to);
        self.waiting = self.waiting.saturating_sub(count);
        self.waiting_from = if self.last <= self.acknowledged {
            u64::MAX
        } else {
            self.waiting_from.max(up_to.seq)
        };
    }
}
