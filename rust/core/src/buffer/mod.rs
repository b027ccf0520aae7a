//! The buffer: samples from their recording until the server has acknowledged them, and then as an
//! archive.
//!
//! This one lives in memory. Its invariants:
//!
//! - A sample is acknowledged only by the token of the upload that carried it; whatever ends
//!   otherwise is sent again.
//! - At most one upload is out at a time. One that failed for lack of a link is sent again byte for
//!   byte.
//! - An upload that the server refused is not sent again as it was: the next ones are half as large
//!   and start with other pathpoints, so that what the server objects to ends up alone and holds up
//!   nothing but its own pathpoint.
//! - Within a pathpoint samples leave in the order of their recording.
//! - At most `capacity` samples are kept. Beyond it the oldest acknowledged ones go first; an
//!   unacknowledged one goes only when there are no others, and is counted.
//!
//! Locks are taken in the order: series, then queue. No lock is held while waiting.

mod series;
mod upload;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};

pub use series::{NotNewer, Series};
pub use upload::{Refusal, Upload};

use crate::pathpoint::Kind;

/// How many samples a buffer in memory keeps unless told otherwise: two weeks of 50 pathpoints a
/// minute, 32 MiB.
pub const DEFAULT_CAPACITY: u64 = 1_000_000;

/// The figures of a buffer; samples are counted since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Pathpoints known.
    pub pathpoints: u64,
    /// Samples recorded.
    pub recorded: u64,
    /// Samples acknowledged by the server.
    pub acknowledged: u64,
    /// Samples that wait for their upload, those on the way included.
    pub pending: u64,
    /// Samples kept, acknowledged ones included.
    pub kept: u64,
    /// Unacknowledged samples that the cap has cost.
    pub dropped: u64,
}

/// See the module's comment.
pub struct Buffer {
    shared: Arc<Shared>,
    series: RwLock<HashMap<Arc<str>, Arc<Series>>>,
    upload: Mutex<upload::State>,
}

/// What the buffer and its series have in common.
pub(crate) struct Shared {
    capacity: u64,
    recorded: AtomicU64,
    acknowledged: AtomicU64,
    kept: AtomicU64,
    dropped: AtomicU64,
    queue: Mutex<UploadQueue>,
    changed: Condvar,
}

/// The series that have something to upload, each once.
#[derive(Default)]
struct UploadQueue {
    waiting: VecDeque<Arc<Series>>,
    /// A sample came for which this buffer has no room of its own.
    stored_elsewhere: bool,
    woken: bool,
}

impl UploadQueue {
    fn has_data(&self) -> bool {
        self.stored_elsewhere || !self.waiting.is_empty()
    }
}

impl Buffer {
    /// A buffer that keeps at most `capacity` samples. With 0 it keeps the latest value of each
    /// pathpoint and nothing to upload, for devices whose samples are stored by someone else.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Buffer {
            shared: Arc::new(Shared {
                capacity,
                recorded: AtomicU64::new(0),
                acknowledged: AtomicU64::new(0),
                kept: AtomicU64::new(0),
                dropped: AtomicU64::new(0),
                queue: Mutex::default(),
                changed: Condvar::new(),
            }),
            series: RwLock::default(),
            upload: Mutex::default(),
        }
    }

    /// The series of a pathpoint, made on first use.
    pub fn series(&self, name: &str, kind: Kind) -> Arc<Series> {
        if let Some(series) = self.find(name) {
            return series;
        }
        let name: Arc<str> = name.into();
        let mut all = self.series.write();
        let series = all
            .entry(Arc::clone(&name))
            .or_insert_with(|| Arc::new(Series::new(name, kind, Arc::clone(&self.shared))));
        Arc::clone(series)
    }

    /// The series of a pathpoint, if there is one.
    pub fn find(&self, name: &str) -> Option<Arc<Series>> {
        self.series.read().get(name).cloned()
    }

    /// Waits until someone calls [`Buffer::wake`] or, with `for_data`, until there is something to
    /// upload; at most this long. Returns whether there is something to upload. A buffer without
    /// capacity says so after each new sample, since whoever stores them uploads them.
    pub fn wait(&self, timeout: Duration, for_data: bool) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        let mut queue = self.shared.queue.lock();
        while !(queue.woken || for_data && queue.has_data()) {
            match deadline {
                None => self.shared.changed.wait(&mut queue),
                Some(deadline) => {
                    if self
                        .shared
                        .changed
                        .wait_until(&mut queue, deadline)
                        .timed_out()
                    {
                        break;
                    }
                }
            }
        }
        queue.woken = false;
        let data = queue.has_data();
        queue.stored_elsewhere &= !for_data;
        data
    }

    /// Ends the present wait, or else the next one.
    pub fn wake(&self) {
        self.shared.queue.lock().woken = true;
        self.shared.changed.notify_all();
    }

    /// The figures of this buffer.
    pub fn statistics(&self) -> Statistics {
        let recorded = self.shared.recorded.load(Ordering::Relaxed);
        let acknowledged = self.shared.acknowledged.load(Ordering::Relaxed);
        let all: Vec<_> = self.series.read().values().cloned().collect();
        Statistics {
            pathpoints: all.len() as u64,
            recorded,
            acknowledged,
            pending: all
                .iter()
                .map(|series| series.data.lock().pending_count())
                .sum(),
            kept: self.shared.kept.load(Ordering::Relaxed),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
        }
    }

    /// Brings the buffer back under its capacity, if it is above. Cheap when it is not; to be
    /// called now and then by whoever uploads.
    pub fn make_room(&self) {
        let kept = self.shared.kept.load(Ordering::Relaxed);
        if kept <= self.shared.capacity {
            return;
        }
        // An eighth of slack, so that a full buffer is swept once in many samples and not at each.
        let excess = kept - (self.shared.capacity - self.shared.capacity / 8);
        let all: Vec<_> = self.series.read().values().cloned().collect();
        let freed = self.forget_oldest(&all, excess, true);
        if freed < excess {
            self.forget_oldest(&all, excess - freed, false);
        }
    }

    /// Forgets about `excess` of the oldest samples over all series; returns how many.
    fn forget_oldest(&self, all: &[Arc<Series>], excess: u64, only_acknowledged: bool) -> u64 {
        let cutoff = cutoff(all, excess, only_acknowledged);
        let mut freed = 0;
        for series in all {
            let mut data = series.data.lock();
            let (older, acknowledged) = data.older_than(cutoff);
            let count = if only_acknowledged {
                acknowledged
            } else {
                older
            };
            data.forget(count);
            freed += count as u64;
            self.shared
                .dropped
                .fetch_add((count - acknowledged.min(count)) as u64, Ordering::Relaxed);
        }
        self.shared.kept.fetch_sub(freed, Ordering::Relaxed);
        freed
    }
}

/// The timestamp before which about `excess` samples lie, found by halving the span that the series
/// cover.
fn cutoff(all: &[Arc<Series>], excess: u64, only_acknowledged: bool) -> i64 {
    let before = |timestamp: i64| -> u64 {
        let count = |series: &Arc<Series>| {
            let (older, acknowledged) = series.data.lock().older_than(timestamp);
            if only_acknowledged {
                acknowledged
            } else {
                older
            }
        };
        all.iter().map(|series| count(series) as u64).sum()
    };
    let oldest = all
        .iter()
        .filter_map(|series| series.data.lock().oldest())
        .min();
    let newest = all
        .iter()
        .filter_map(|series| series.latest())
        .map(|latest| latest.timestamp)
        .max();
    let (mut low, mut high) = (oldest.unwrap_or(0), newest.unwrap_or(0).saturating_add(1));
    while low < high {
        let middle = low.midpoint(high);
        if before(middle) >= excess {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    high
}

impl Shared {
    fn keeps_samples(&self) -> bool {
        self.capacity > 0
    }

    fn count_recorded(&self) {
        self.recorded.fetch_add(1, Ordering::Relaxed);
        if self.keeps_samples() {
            self.kept.fetch_add(1, Ordering::Relaxed);
        } else {
            self.announce(|queue| queue.stored_elsewhere = true);
        }
    }

    fn enqueue(&self, series: Arc<Series>) {
        self.announce(|queue| queue.waiting.push_back(series));
    }

    /// Changes the upload queue, and wakes who waits for data if there was none before.
    fn announce(&self, change: impl FnOnce(&mut UploadQueue)) {
        let mut queue = self.queue.lock();
        let first = !queue.has_data();
        change(&mut queue);
        drop(queue);
        if first {
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests;
