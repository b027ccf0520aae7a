//! One pathpoint's samples.
//!
//! Timestamps rise strictly within a series: a sample that is not newer than the latest one is
//! refused. Samples are numbered in the order of their recording; those below `acknowledged` are
//! known to the server and stay only as an archive. The latest sample is kept apart, so that it
//! outlives every cap.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

/// One pathpoint's samples; see the module's comment.
pub struct Series {
    name: Arc<str>,
    kind: Kind,
    shared: Arc<Shared>,
    /// Monotonic nanoseconds of the last sample, 0 before the first.
    recorded_at: AtomicU64,
    /// The same of the last sample that came while no poll was outstanding.
    unpolled_at: AtomicU64,
    /// A poll was asked for and has not ended.
    poll_outstanding: AtomicBool,
    pub(super) data: Mutex<Data>,
}

#[derive(Default)]
pub(super) struct Data {
    latest: Option<Sample>,
    samples: VecDeque<Sample>,
    /// The number of `samples[0]`.
    first: u64,
    /// The number of the first sample that the server has not acknowledged.
    acknowledged: u64,
    /// Whether the series stands in the upload queue.
    pub(super) queued: bool,
}

impl Series {
    pub(super) fn new(name: Arc<str>, kind: Kind, shared: Arc<Shared>) -> Self {
        Series {
            name,
            kind,
            shared,
            recorded_at: AtomicU64::new(0),
            unpolled_at: AtomicU64::new(0),
            poll_outstanding: AtomicBool::new(false),
            data: Mutex::default(),
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

    /// Records a sample.
    ///
    /// # Errors
    /// [`NotNewer`] if its timestamp is not above that of the latest one.
    pub fn record(self: &Arc<Self>, sample: Sample) -> Result<(), NotNewer> {
        let mut data = self.data.lock();
        if let Some(latest) = &data.latest
            && sample.timestamp <= latest.timestamp
        {
            return Err(NotNewer {
                given: sample.timestamp,
                latest: latest.timestamp,
            });
        }
        self.push(&mut data, sample);
        drop(data);
        self.read_finished(clock::monotonic());
        self.shared.count_recorded();
        Ok(())
    }

    /// Records what was read just now. When the wall clock stands still or was set back, the sample
    /// is stamped one millisecond after the latest one. Returns the stamp, in milliseconds since
    /// the epoch.
    pub fn record_now(self: &Arc<Self>, moment: Moment, reading: Reading) -> i64 {
        let mut data = self.data.lock();
        let timestamp = data.stamp(moment);
        self.push(&mut data, Sample { timestamp, reading });
        drop(data);
        self.read_finished(moment.monotonic);
        self.shared.count_recorded();
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
        if data
            .latest
            .as_ref()
            .is_none_or(|latest| latest.timestamp < sample.timestamp)
        {
            data.latest = Some(sample);
        }
    }

    /// The latest sample.
    #[must_use]
    pub fn latest(&self) -> Option<Sample> {
        self.data.lock().latest.clone()
    }

    /// At most `most` samples with `start <= timestamp <= stop`, the oldest ones, in time order.
    #[must_use]
    pub fn range(&self, start: i64, stop: i64, most: usize) -> Vec<Sample> {
        let data = self.data.lock();
        let from = data
            .samples
            .partition_point(|sample| sample.timestamp < start);
        data.samples
            .range(from..)
            .take_while(|sample| sample.timestamp <= stop)
            .take(most)
            .cloned()
            .collect()
    }

    /// How many samples were recorded, and how many of them the server has acknowledged or a cap
    /// has cost.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let data = self.data.lock();
        let recorded = data.first + data.samples.len() as u64;
        (recorded, recorded - data.pending_count())
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

    fn push(self: &Arc<Self>, data: &mut Data, sample: Sample) {
        if self.shared.keeps_samples() {
            data.samples.push_back(sample.clone());
            if !data.queued {
                data.queued = true;
                self.shared.enqueue(Arc::clone(self));
            }
        }
        data.latest = Some(sample);
    }
}

impl Data {
    /// The time of a sample taken at this moment: above that of the latest one.
    fn stamp(&self, moment: Moment) -> i64 {
        let earliest = self
            .latest
            .as_ref()
            .map_or(i64::MIN, |latest| latest.timestamp.saturating_add(1));
        moment.wall.max(earliest)
    }

    /// The samples that the server has not acknowledged, and the number of the first of them.
    pub(super) fn pending(&self) -> (u64, impl Iterator<Item = &Sample>) {
        let from = self.acknowledged.max(self.first);
        let skip = usize::try_from(from - self.first)
            .unwrap_or(usize::MAX)
            .min(self.samples.len());
        (from, self.samples.range(skip..))
    }

    pub(super) fn pending_count(&self) -> u64 {
        let recorded = self.first + self.samples.len() as u64;
        recorded - self.acknowledged.max(self.first).min(recorded)
    }

    pub(super) fn acknowledge(&mut self, up_to: u64) {
        self.acknowledged = self.acknowledged.max(up_to);
    }

    /// How many samples are older than this, and how many of them the server has acknowledged.
    pub(super) fn older_than(&self, timestamp: i64) -> (usize, usize) {
        let older = self
            .samples
            .partition_point(|sample| sample.timestamp < timestamp);
        let acknowledged = self.acknowledged.saturating_sub(self.first);
        (
            older,
            older.min(usize::try_from(acknowledged).unwrap_or(usize::MAX)),
        )
    }

    pub(super) fn oldest(&self) -> Option<i64> {
        self.samples.front().map(|sample| sample.timestamp)
    }

    /// Forgets the oldest samples; the latest one stays known.
    pub(super) fn forget(&mut self, count: usize) {
        self.samples.drain(..count);
        self.first += count as u64;
        // The space itself is given back too, or an outage would keep its peak for ever.
        if self.samples.capacity() > 4 * self.samples.len().max(16) {
            self.samples.shrink_to(2 * self.samples.len());
        }
    }
}
