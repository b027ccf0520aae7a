//! Frames into segments, and segments onto the disk.
//!
//! Either all frames of a portion become durable and are published to the log, or none: then the
//! files are cut back to what is known to be in them, left alone from then on, and everything is
//! written again to new ones.

use std::io::{self, ErrorKind};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::segment::{Inventory, TOO_LONG};
use super::series::LEVELS;
use super::stored::{Segment, Stored};
use super::{Event, Shared, cursor};
use crate::clock;

/// About how many bytes of frames are written at a time.
const PORTION: usize = 1 << 20;

/// The shortest pause between two commits of the thread.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// The longest pause between two tries on a disk that does not work.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Whoever holds it may write.
#[derive(Default)]
pub(super) struct Writer {
    /// The segments that are being written, by level.
    pub active: [Option<Inventory>; 2],
    pub cursor: cursor::File,
}

impl Shared {
    /// Makes durable what is not: once it returns, all that was recorded before the call.
    pub(super) fn commit(&self, now: i64) -> io::Result<()> {
        let mut writer = self.writer.lock();
        self.seal();
        if self.storage.is_read_only() || self.is_released.load(Ordering::Acquire) {
            self.bound_memory();
            return self.nothing_to_write();
        }
        let mut written = self.write(&mut writer, now);
        while is_for_want_of_space(&written) && self.make_space(&writer) {
            written = self.write(&mut writer, now);
        }
        self.note_trouble(&written);
        self.bound_memory();
        written
    }

    /// A buffer that must not write has no trouble unless it would have to.
    fn nothing_to_write(&self) -> io::Result<()> {
        if self.log.lock().volatile == 0 {
            return Ok(());
        }
        let closed = "the buffer is closed, or open for reading only";
        Err(io::Error::new(ErrorKind::NotConnected, closed))
    }

    fn write(&self, writer: &mut Writer, now: i64) -> io::Result<()> {
        self.storage.prepare()?;
        self.save_cursor(&mut writer.cursor)?;
        loop {
            let frames = self.log.lock().volatile();
            let Some(portion) = portion(&frames) else {
                break;
            };
            self.write_portion(writer, portion)?;
        }
        self.retain(writer, now);
        Ok(())
    }

    fn write_portion(&self, writer: &mut Writer, frames: &[Arc<Stored>]) -> io::Result<()> {
        self.check_reserve()?;
        let mut published = Vec::new();
        for level in LEVELS {
            let frames = frames.iter().filter(|frame| frame.level == level);
            let Some(active) = writer.active.get_mut(level as usize) else {
                continue;
            };
            if let Err(error) = self.write_row(active, frames, &mut published) {
                self.abandon(writer, &published);
                return Err(error);
            }
        }
        let mut log = self.log.lock();
        for segment in published {
            log.segments.insert(segment.first_seq, segment);
        }
        log.made_durable(frames.len(), !self.storage.is_memory());
        Ok(())
    }

    /// Appends frames of one level; adds the segments that they are in to `published`.
    fn write_row<'a>(
        &self,
        active: &mut Option<Inventory>,
        frames: impl Iterator<Item = &'a Arc<Stored>>,
        published: &mut Vec<Segment>,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        for frame in frames {
            let inventory = active
                .get_or_insert_with(|| Inventory::new(Segment::empty(frame.level, frame.seq)));
            inventory.write(frame, &self.names, &mut bytes);
            if self.is_full(&inventory.segment) {
                // A start believes an index, so what that describes has to be durable before.
                self.put(inventory, &mut bytes, published)?;
                inventory.write_index(&mut bytes);
                self.put(inventory, &mut bytes, published)?;
                self.storage.close(&inventory.segment.name);
                *active = None;
            }
        }
        match active {
            Some(inventory) => self.put(inventory, &mut bytes, published),
            None => Ok(()),
        }
    }

    fn is_full(&self, segment: &Segment) -> bool {
        let options = &self.options;
        segment.bytes
            >= options
                .segment_bytes
                .min(options.max_bytes / 8)
                .min(TOO_LONG / 2)
            || segment.samples >= options.max_samples / 8
    }

    /// Appends bytes, if there are any, to the segment that is being written, and makes them
    /// durable.
    fn put(
        &self,
        inventory: &mut Inventory,
        bytes: &mut Vec<u8>,
        published: &mut Vec<Segment>,
    ) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let segment = &mut inventory.segment;
        let start = inventory.durable;
        inventory.durable += bytes.len() as u64;
        segment.bytes = inventory.durable;
        published.push(segment.clone());
        self.storage.append(&segment.name, start, bytes)?;
        self.storage.sync(&segment.name)?;
        if start == 0 {
            self.storage.sync_folder()?;
        }
        self.count_written(bytes.len());
        bytes.clear();
        Ok(())
    }

    /// Leaves the segments that were being written alone, cut back to what is known to be durable.
    fn abandon(&self, writer: &mut Writer, doubtful: &[Segment]) {
        let active = writer.active.iter_mut().filter_map(Option::take);
        let active: Vec<_> = active.map(|inventory| inventory.segment).collect();
        for segment in active.iter().chain(doubtful) {
            let durable = self.log.lock().segments.get(&segment.first_seq).cloned();
            // What cannot be cut off now counts once all the same: see `Segment::repeats`.
            let _ = match durable {
                Some(durable) => self.storage.truncate(&segment.name, durable.bytes),
                None => self.storage.remove(&segment.name),
            };
            self.storage.close(&segment.name);
        }
    }

    pub(super) fn count_written(&self, bytes: usize) {
        self.written_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn note_trouble(&self, written: &io::Result<()>) {
        let now = written.as_ref().err().map(ToString::to_string);
        let before = mem::replace(&mut *self.trouble.lock(), now.clone());
        match (before, now) {
            (None, Some(error)) => {
                self.tell(Event::Failed(error));
                // It is to try again.
                self.thread.wake(|_| {});
            }
            (Some(_), None) => self.tell(Event::Recovered),
            _ => {}
        }
    }

    /// What the buffer's thread does until the buffer is closed.
    pub(super) fn commit_now_and_then(&self) {
        let usual = self.options.durability.max(SHORTEST_PAUSE);
        let mut pause = usual;
        loop {
            self.wait_for_samples();
            self.pause(pause);
            if self.closed.load(Ordering::Acquire) {
                return;
            }
            pause = match self.commit(clock::now().wall) {
                Ok(()) => usual,
                Err(_) => pause
                    .saturating_mul(2)
                    .clamp(Duration::from_secs(1), LONGEST_PAUSE),
            };
        }
    }

    /// Waits until there is something that is not durable.
    fn wait_for_samples(&self) {
        let mut woken = self.thread.woken.lock();
        while !(woken.by_data || woken.by_hand || self.trouble.lock().is_some()) {
            self.thread.changed.wait(&mut woken);
        }
        woken.by_data = false;
    }

    /// Lets samples gather for a time, unless they are many already.
    fn pause(&self, pause: Duration) {
        let deadline = Instant::now().checked_add(pause);
        let mut woken = self.thread.woken.lock();
        while !woken.by_hand {
            let Some(deadline) = deadline else {
                self.thread.changed.wait(&mut woken);
                continue;
            };
            let waited = self.thread.changed.wait_until(&mut woken, deadline);
            if waited.timed_out() {
                break;
            }
        }
        woken.by_hand = self.closed.load(Ordering::Acquire);
    }
}

fn is_for_want_of_space(written: &io::Result<()>) -> bool {
    written.as_ref().is_err_and(|error| {
        matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded
        )
    })
}

/// The first of these frames, about [`PORTION`] bytes of them.
fn portion(frames: &[Arc<Stored>]) -> Option<&[Arc<Stored>]> {
    let mut bytes = 0;
    let count = frames
        .iter()
        .take_while(|frame| {
            let has_room = bytes < PORTION;
            bytes += frame.content.len();
            has_room
        })
        .count();
    frames.get(..count).filter(|portion| !portion.is_empty())
}
