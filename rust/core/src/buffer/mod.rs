//! The buffer: samples from their recording until the server has acknowledged them, and then as an
//! archive.
//!
//! # How a sample goes
//!
//! New samples gather in the *heads* of their series ([`series`]). They are *sealed* into *frames*
//! of compressed columns ([`seal`], [`block`], [`frame`]), which are numbered in the order of
//! recording and make up the *log* ([`log`]). A *commit* ([`commit`]) appends frames to *segments*
//! ([`segment`]) and makes them durable: on a thread of the buffer's own every `durability`, or
//! before each call returns if that is zero. *Uploads* ([`upload`]) are built from frames; the
//! *cursor* ([`cursor`]) remembers what the server has. *Retention* ([`retention`]) forgets what is
//! old or too much. A buffer in memory does the same, with files that are in memory.
//!
//! # Files
//!
//! All of them are in one folder and consist of frames, little-endian and with check sums:
//! `trend-N.segment` and `permanent-N.segment`, where N is the number of the first frame; `cursor`;
//! `*.damaged`, bytes of segments that are no frames, set aside; and `lock`, which the one writer
//! holds.
//!
//! # Invariants
//!
//! - It always starts. What cannot be read is set aside and reported; a torn end is cut off.
//! - A sample is acknowledged only by the token of the upload that carried it; whatever ends
//!   otherwise is sent again. An acknowledgement is durable before what it covers is forgotten, and
//!   what it covers is not sent again, unless a segment cannot be read at the start; see [`recovery`].
//! - At most one upload is out at a time. One that failed for lack of a link is sent again byte for
//!   byte. Within a pathpoint samples leave in the order of their recording.
//! - What is not acknowledged is forgotten last, and only for a cap: the oldest first, and what is
//!   to be kept for good after all else. It is counted.
//! - While the disk is full or broken, frames stay in memory, up to a cap, and are written when it
//!   works again. After a failed write nothing is appended to that file any more, since nobody knows
//!   what is in it.
//! - Memory is bounded by the options, whatever is on disk.
//! - Stamps that the clock gave before it was first set in a boot of the machine are read as moved
//!   by that step ([`step`]). Order within a series is that of recording: frame number, then
//!   recorded stamp.
//!
//! Locks are taken in the order: upload, writer, log, clock, dirty, series data. No lock but the
//! first two is held while the disk works, but that of the segments that recalls have read, which is
//! taken alone.

mod archive;
mod block;
mod boot;
mod commit;
mod cursor;
mod frame;
mod ints;
mod log;
mod recovery;
mod retention;
mod seal;
mod segment;
mod series;
mod step;
mod storage;
mod stored;
mod survey;
mod sweep;
mod upload;
mod verify;
mod walk;
mod wire;

use std::collections::HashMap;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};

pub use archive::Archive;
pub use recovery::BufferReport;
pub use series::{Level, NotNewer, Series};
pub use storage::{Disk, Memory, Storage};
pub use survey::Holding;
pub use sweep::{Sweep, Swept};
pub use upload::{Policy, Refusal, Upload, UploadError};
pub use verify::{FileCheck, Verification};

use crate::clock;
use crate::pathpoint::Kind;
use log::Log;

/// How many samples a buffer in memory keeps unless told otherwise: two weeks of 50 pathpoints a
/// minute.
pub const DEFAULT_CAPACITY: u64 = 1_000_000;

/// How many samples heads hold together before they are sealed.
const MOST_UNSEALED: usize = 1 << 16;

/// What a buffer is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much of the time may be lost by a power cut; with zero, each call commits.
    pub durability: Duration,
    /// About how long a segment becomes.
    pub segment_bytes: u64,
    /// How long all segments may be together.
    pub max_bytes: u64,
    /// How many samples are kept at most.
    pub max_samples: u64,
    /// How many bytes of the disk are left to others.
    pub reserve_bytes: u64,
    /// How long samples of level TREND are kept once the server has them.
    pub trend_for: Duration,
    /// How many bytes of frames wait in memory while the disk does not work.
    pub memory_bytes: usize,
    /// Which samples are uploaded first.
    pub policy: Policy,
    /// How long an upload waits for a segment that cannot be read, until its samples count as lost.
    pub unreadable_for: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            durability: Duration::from_secs(1),
            segment_bytes: 1 << 20,
            max_bytes: 1 << 30,
            max_samples: u64::MAX,
            reserve_bytes: 64 << 20,
            trend_for: Duration::from_secs(14 * 24 * 3600),
            memory_bytes: 32 << 20,
            policy: Policy::FreshFirst,
            unreadable_for: Duration::from_secs(3_600),
        }
    }
}

impl Options {
    /// For a buffer in memory that keeps this many samples.
    #[must_use]
    pub fn in_memory(max_samples: u64) -> Self {
        Options {
            segment_bytes: 256 << 10,
            max_bytes: u64::MAX,
            max_samples,
            trend_for: Duration::MAX,
            ..Options::default()
        }
    }

    /// How many samples a frame has at most, so that a cap of few samples can be kept.
    fn frame_samples(&self) -> usize {
        let eighth = usize::try_from(self.max_samples / 8).unwrap_or(usize::MAX);
        eighth.clamp(1, MOST_UNSEALED)
    }
}

/// The figures of a buffer; samples are counted since its start unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Pathpoints known.
    pub pathpoints: u64,
    /// Samples recorded.
    pub recorded: u64,
    /// Samples acknowledged by the server.
    pub acknowledged: u64,
    /// Samples that wait for their upload, from before the start too, those on the way included.
    pub pending: u64,
    /// Samples kept, acknowledged ones included.
    pub kept: u64,
    /// Unacknowledged samples that a cap or damage has cost.
    pub dropped: u64,
    /// Samples refused since their timestamp was not above the latest one.
    pub refused: u64,
    /// Samples that are not durable yet.
    pub volatile: u64,
    /// Segments on disk.
    pub segments: u64,
    /// Their length in bytes.
    pub bytes: u64,
    /// Bytes of frames in memory that are not durable.
    pub volatile_bytes: u64,
    /// Bytes written to disk.
    pub written_bytes: u64,
    /// Bytes of segments that are no frames.
    pub damaged_bytes: u64,
    /// Why nothing can be written, while that is so.
    pub trouble: Option<String>,
}

/// Something that people should be told about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing can be written.
    Failed(String),
    /// Writing works again.
    Recovered,
    /// A cap has cost unacknowledged samples, for the first time since none were lost.
    Dropping,
    /// Bytes of a segment are no frames: the segment, and how many.
    Damaged(String, u64),
    /// What of the samples cannot be read, and why.
    Unreadable(String),
    /// So many samples that the server lacks were not found any more.
    Lost(u64),
    /// The clock was set for the first time since boot: by how many milliseconds stamps move.
    ClockSet(i64),
}

/// See the module's comment.
pub struct Buffer {
    shared: Arc<Handle>,
    thread: Mutex<Option<JoinHandle<()>>>,
    report: BufferReport,
}

/// What a buffer holds, and archives and sweeps that may outlive it: whoever looks for series. These
/// and what knows them hold each other; with the last handle that ends, and all is freed with the
/// last of the series. What is asked of those after that may be unknown.
struct Handle {
    inner: Arc<Shared>,
    /// The process that has opened it.
    process: u32,
}

impl Handle {
    fn new(inner: Arc<Shared>) -> Self {
        Handle {
            inner,
            process: std::process::id(),
        }
    }

    /// Whether this is a child of the process that has opened it. There it has no thread, any lock
    /// may be held for ever, and the files are the parent's.
    fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }
}

impl Deref for Handle {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.inner
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.is_forked() {
            return;
        }
        self.names.forget();
        self.dirty.lock().clear();
        *self.upload.lock() = upload::State::default();
        *self.recalled.lock() = walk::Cache::default();
        self.log.lock().changes.positions.clear();
    }
}

/// What the buffer, its series and its thread have in common.
pub(crate) struct Shared {
    options: Options,
    keeps_samples: bool,
    storage: Box<dyn Storage>,
    names: Names,
    dirty: Mutex<Vec<Arc<Series>>>,
    /// Samples in heads.
    unsealed: AtomicU64,
    refused: AtomicU64,
    log: Mutex<Log>,
    writer: Mutex<commit::Writer>,
    upload: Mutex<upload::State>,
    /// What [`Series::latest`] has read back.
    recalled: Mutex<walk::Cache>,
    clock: Box<dyn boot::Clock>,
    clock_state: Mutex<boot::State>,
    /// How many steps of the clock were taken account of.
    clock_steps: AtomicU32,
    events: Mutex<Vec<Event>>,
    /// Why nothing can be written, while that is so.
    trouble: Mutex<Option<String>>,
    damage: Mutex<HashMap<(String, usize), u64>>,
    waiter: Waiter,
    thread: Waiter,
    closed: AtomicBool,
    /// The folder may be somebody else's.
    is_released: AtomicBool,
    /// The folder may have segments that could not be read at the start.
    has_unseen: AtomicBool,
    written_bytes: AtomicU64,
}

/// How many samples the heads had before some were added, and how many were.
#[derive(Clone, Copy)]
struct Unsealed {
    before: u64,
    count: u64,
}

/// The series by name and by id.
#[derive(Default)]
pub(crate) struct Names {
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    by_name: HashMap<Arc<str>, Arc<Series>>,
    by_id: HashMap<u64, Arc<Series>>,
    next_id: u64,
}

impl Names {
    fn by_name(&self, name: &str) -> Option<Arc<Series>> {
        self.known.read().by_name.get(name).cloned()
    }

    fn by_id(&self, id: u64) -> Option<Arc<Series>> {
        self.known.read().by_id.get(&id).cloned()
    }

    /// All series, in the order of their ids.
    fn all(&self) -> Vec<Arc<Series>> {
        let mut all: Vec<_> = self.known.read().by_id.values().cloned().collect();
        all.sort_unstable_by_key(|series| series.id);
        all
    }

    fn len(&self) -> usize {
        self.known.read().by_id.len()
    }

    fn forget(&self) {
        *self.known.write() = Known::default();
    }

    /// The series with this name; a new one gets this id if nobody else has it.
    fn get_or_make(
        &self,
        name: &str,
        wanted_id: Option<u64>,
        make: impl FnOnce(Arc<str>, u64) -> Series,
    ) -> Arc<Series> {
        let mut known = self.known.write();
        if let Some(series) = known.by_name.get(name) {
            return Arc::clone(series);
        }
        let free = wanted_id.filter(|id| !known.by_id.contains_key(id));
        let id = free.unwrap_or(known.next_id);
        known.next_id = known.next_id.max(id.saturating_add(1));
        let name: Arc<str> = name.into();
        let series = Arc::new(make(Arc::clone(&name), id));
        known.by_name.insert(name, Arc::clone(&series));
        known.by_id.insert(id, Arc::clone(&series));
        series
    }
}

/// Lets one thread wait for what others do.
#[derive(Default)]
struct Waiter {
    woken: Mutex<Woken>,
    changed: Condvar,
}

#[derive(Default)]
struct Woken {
    by_hand: bool,
    by_data: bool,
}

impl Waiter {
    fn wake(&self, change: impl FnOnce(&mut Woken)) {
        change(&mut self.woken.lock());
        self.changed.notify_all();
    }
}

impl Buffer {
    /// A buffer in memory that keeps at most `capacity` samples. With 0 it keeps the latest value
    /// of each pathpoint and nothing to upload, for devices whose samples are stored by someone
    /// else.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        let shared = Shared::new(
            Options::in_memory(capacity.max(1)),
            Box::new(Memory::default()),
            Box::new(boot::System),
            capacity > 0,
        );
        Buffer {
            shared: Arc::new(Handle::new(shared)),
            thread: Mutex::default(),
            report: BufferReport::default(),
        }
    }

    /// Opens the buffer in a folder, or makes one.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if another process has it open. Nothing else: see the
    /// module's invariants.
    pub fn open(folder: &Path, options: Options) -> io::Result<Self> {
        let buffer = Buffer::on(Box::new(Disk::new(folder)), options)?;
        let shared = Arc::clone(&buffer.shared.inner);
        let thread = std::thread::Builder::new().name("SampleWriter".into());
        *buffer.thread.lock() = Some(thread.spawn(move || shared.commit_now_and_then())?);
        Ok(buffer)
    }

    /// Looks at the buffer in a folder that somebody else may be writing to; changes nothing.
    ///
    /// # Errors
    /// Those of reading the folder.
    pub fn look_at(folder: &Path) -> io::Result<Self> {
        Buffer::on(Box::new(Disk::read_only(folder)), Options::default())
    }

    fn on(storage: Box<dyn Storage>, options: Options) -> io::Result<Self> {
        Buffer::with(storage, Box::new(boot::System), options)
    }

    /// The same on any storage and by any clock, without a thread that commits.
    fn with(
        storage: Box<dyn Storage>,
        clock: Box<dyn boot::Clock>,
        options: Options,
    ) -> io::Result<Self> {
        let shared = Handle::new(Shared::new(options, storage, clock, true));
        let report = shared.inner.recover()?;
        Ok(Buffer {
            shared: Arc::new(shared),
            thread: Mutex::default(),
            report,
        })
    }

    /// What was found at the start.
    #[must_use]
    pub fn report(&self) -> &BufferReport {
        &self.report
    }

    /// The series of a pathpoint, made on first use.
    pub fn series(&self, name: &str, kind: Kind) -> Arc<Series> {
        self.shared.inner.series(name, kind)
    }

    /// The series of a pathpoint, if there is one.
    pub fn find(&self, name: &str) -> Option<Arc<Series>> {
        self.shared.names.by_name(name)
    }

    /// Names of all pathpoints known.
    #[must_use]
    pub fn names(&self) -> Vec<Arc<str>> {
        let all = self.shared.names.all();
        all.iter().map(|series| Arc::clone(series.name())).collect()
    }

    /// Returns once everything that was recorded before is durable.
    ///
    /// # Errors
    /// Why it is not. It stays in memory, and is tried again later.
    pub fn flush(&self) -> io::Result<()> {
        self.shared.commit(clock::now().wall)
    }

    /// Whether each call that records is to be followed by [`Buffer::flush`].
    #[must_use]
    pub fn commits_each_call(&self) -> bool {
        self.shared.options.durability.is_zero() && !self.shared.storage.is_memory()
    }

    /// Makes durable what is not, ends the thread, and lets others open the folder. What is
    /// recorded later stays in memory. No-op in a child of the process that has opened it.
    ///
    /// # Errors
    /// Those of [`Buffer::flush`].
    pub fn close(&self) -> io::Result<()> {
        if self.shared.is_forked() {
            return Ok(());
        }
        self.shared.closed.store(true, Ordering::Release);
        self.shared.thread.wake(|woken| woken.by_hand = true);
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
        let flushed = self.flush();
        self.shared.is_released.store(true, Ordering::Release);
        self.shared.storage.release();
        flushed
    }

    /// Waits until someone calls [`Buffer::wake`] or, with `for_data`, until there is something to
    /// upload; at most this long. Returns whether there is something to upload. A buffer without
    /// capacity says so after each new sample, since whoever stores them uploads them.
    pub fn wait(&self, timeout: Duration, for_data: bool) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        let waiter = &self.shared.waiter;
        let mut woken = waiter.woken.lock();
        loop {
            let data = woken.by_data || self.shared.has_data();
            let timed_out = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if woken.by_hand || for_data && data || timed_out {
                woken.by_hand = false;
                woken.by_data &= !for_data;
                return data;
            }
            match deadline {
                None => waiter.changed.wait(&mut woken),
                Some(deadline) => {
                    waiter.changed.wait_until(&mut woken, deadline);
                }
            }
        }
    }

    /// Ends the present wait, or else the next one.
    pub fn wake(&self) {
        self.shared.waiter.wake(|woken| woken.by_hand = true);
    }

    /// What happened that people should be told about, since the last call.
    #[must_use]
    pub fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.shared.events.lock())
    }

    /// The figures of this buffer.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let shared = &self.shared;
        let trouble = shared.trouble.lock().clone();
        let log = shared.log.lock();
        let unsealed = shared.unsealed.load(Ordering::Relaxed);
        let volatile = log.volatile();
        let volatile = volatile.iter().map(|frame| frame.head.samples).sum::<u64>();
        Statistics {
            pathpoints: shared.names.len() as u64,
            recorded: if shared.keeps_samples {
                log.recorded + unsealed
            } else {
                let all = shared.names.all();
                all.iter().map(|series| series.counts().0).sum()
            },
            acknowledged: log.acknowledged,
            pending: log.pending + unsealed,
            kept: log.kept() + unsealed,
            dropped: log.dropped,
            refused: shared.refused.load(Ordering::Relaxed),
            volatile: volatile + unsealed,
            segments: log.segments.len() as u64,
            bytes: log.bytes(),
            volatile_bytes: log.volatile_bytes as u64,
            written_bytes: shared.written_bytes.load(Ordering::Relaxed),
            damaged_bytes: shared.damage.lock().values().sum(),
            trouble,
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Who did not close it has the loss window to answer for; errors have nowhere to go.
        let _ = self.close();
    }
}

impl Shared {
    fn new(
        options: Options,
        storage: Box<dyn Storage>,
        clock: Box<dyn boot::Clock>,
        keeps_samples: bool,
    ) -> Arc<Self> {
        Arc::new(Shared {
            options,
            keeps_samples,
            storage,
            names: Names::default(),
            dirty: Mutex::default(),
            unsealed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            log: Mutex::new(Log::starting_at(1)),
            writer: Mutex::default(),
            upload: Mutex::default(),
            recalled: Mutex::default(),
            clock_steps: AtomicU32::new(clock.now().steps),
            clock_state: Mutex::new(boot::State::new(clock.as_ref())),
            clock,
            events: Mutex::default(),
            trouble: Mutex::default(),
            damage: Mutex::default(),
            waiter: Waiter::default(),
            thread: Waiter::default(),
            closed: AtomicBool::new(false),
            is_released: AtomicBool::new(false),
            has_unseen: AtomicBool::new(false),
            written_bytes: AtomicU64::new(0),
        })
    }

    fn series(self: &Arc<Self>, name: &str, kind: Kind) -> Arc<Series> {
        if let Some(series) = self.names.by_name(name) {
            return series;
        }
        let make = |name, id| Series::new(name, kind, id, Arc::clone(self));
        self.names.get_or_make(name, None, make)
    }

    /// The series that has this name, and if it can this id, in a file; `None` if the name declares
    /// no type.
    fn recovered_series(self: &Arc<Self>, name: &str, id: u64) -> Option<Arc<Series>> {
        let kind = Kind::of_name(name)?;
        let make = |name, id| Series::new(name, kind, id, Arc::clone(self));
        Some(self.names.get_or_make(name, Some(id), make))
    }

    fn has_data(&self) -> bool {
        self.keeps_samples
            && (self.unsealed.load(Ordering::Relaxed) > 0 || self.log.lock().pending > 0)
    }

    /// Counts samples that were added to a head. Called with the series locked, so that whoever
    /// seals them finds them counted.
    fn add_unsealed(&self, count: u64) -> Unsealed {
        let before = if self.keeps_samples {
            self.unsealed.fetch_add(count, Ordering::Relaxed)
        } else {
            0
        };
        Unsealed { before, count }
    }

    /// Does what there is to do about samples that were added to a head. Called with nothing locked.
    fn note_unsealed(&self, unsealed: Unsealed) {
        if !self.keeps_samples {
            self.waiter.wake(|woken| woken.by_data = true);
            return;
        }
        let Unsealed { before, count } = unsealed;
        if before == 0 && count > 0 {
            self.waiter.wake(|_| {});
            // With no loss window whoever records commits.
            if !self.options.durability.is_zero() {
                self.thread.wake(|woken| woken.by_data = true);
            }
        }
        if before + count >= self.options.frame_samples() as u64 {
            self.seal();
            if self.storage.is_memory() || self.closed.load(Ordering::Acquire) {
                // Memory does not fail, and who has closed it was told what is lost from then on.
                let _ = self.commit(clock::now().wall);
            } else {
                self.thread.wake(|woken| woken.by_hand = true);
            }
        }
    }

    fn tell(&self, event: Event) {
        /// Nobody may listen.
        const MOST: usize = 100;
        let mut events = self.events.lock();
        if events.len() < MOST && !events.contains(&event) {
            events.push(event);
        }
    }
}

#[cfg(test)]
mod tests;
