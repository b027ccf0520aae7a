//! The start: what is on the disk becomes the log again.
//!
//! The index of a segment is believed, since it has a check sum; where there is none its frames are
//! read. Nothing here fails but for another process's lock: what cannot be read is reported and
//! passed over.
//!
//! Segments that cannot be read now may be read at the next start, and are as they were then: no
//! frame of this run has a number of theirs, and the cursor stays as it is; see
//! `Shared::has_unseen_segments`.
//!
//! After the death of a process files have content that was never synced, and a power cut may still
//! take it. So what might be such is synced before anybody relies on it.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Shared;
use super::cursor::{self, Cursor};
use super::segment::{self, Content, Inventory, TOO_LONG, TRAILER, index_length};
use super::series::{LEVELS, Series};
use super::stored::{Segment, parse_segment_name};
use super::walk::{Cache, Loaded};
use crate::clock;

/// More frames than a segment can have that was not read, and the other level meanwhile.
const UNSEEN_NUMBERS: u64 = 1 << 32;

/// What was found at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BufferReport {
    /// Segments found.
    pub segments: u64,
    /// Samples in them.
    pub samples: u64,
    /// Samples of those that the server lacks.
    pub pending: u64,
    /// Bytes of torn ends, which were cut off.
    pub truncated_bytes: u64,
    /// Bytes that are no frames, or samples of which nobody knows the pathpoint; they are set
    /// aside.
    pub quarantined_bytes: u64,
    /// Samples in good frames of which nobody knows the pathpoint.
    pub nameless_samples: u64,
    /// Bytes of the cursor that make no sense: some samples may be sent again.
    pub cursor_damaged_bytes: u64,
    /// What could not be read or written, in words.
    pub problems: Vec<String>,
}

impl Shared {
    /// Takes over what is on the disk.
    pub(super) fn recover(self: &Arc<Self>) -> io::Result<BufferReport> {
        let mut report = BufferReport::default();
        if let Err(error) = self.storage.prepare() {
            if error.kind() == ErrorKind::WouldBlock {
                return Err(error);
            }
            self.start_without_disk(&error, &mut report);
        }
        let files = self.storage.list().unwrap_or_else(|error| {
            // Most likely it is why the disk cannot be used, too.
            if self.trouble.lock().is_none() {
                report.problems.push(format!("the folder: {error}"));
            }
            Vec::new()
        });
        let is_unknown = self.trouble.lock().is_some() && files.is_empty();
        self.has_unseen.store(is_unknown, Ordering::Relaxed);
        let cursor = self.read_cursor(&files, &mut report);
        let inventories = self.inventories(&files, &mut report);
        self.take_over(&cursor, &inventories, &mut report);
        self.make_sure(&inventories, &mut report);
        self.resume(inventories);
        report.pending = self.log.lock().pending;
        Ok(report)
    }

    /// The folder cannot be used now, but maybe later: numbers of frames must not repeat those of
    /// segments that nobody has seen.
    fn start_without_disk(&self, error: &io::Error, report: &mut BufferReport) {
        report.problems.push(format!("the folder: {error}"));
        *self.trouble.lock() = Some(error.to_string());
        let seconds = u64::try_from(clock::now().wall / 1_000).unwrap_or(0);
        self.log.lock().next_seq = seconds << 24;
    }

    fn read_cursor(&self, files: &[(String, u64)], report: &mut BufferReport) -> Cursor {
        let Some((name, length)) = files.iter().find(|(name, _)| name == cursor::FILE) else {
            return Cursor::default();
        };
        let length = usize::try_from(*length).unwrap_or(usize::MAX);
        match self.storage.read(name, 0, length) {
            Ok(bytes) => {
                let cursor = Cursor::read(&bytes);
                report.cursor_damaged_bytes = cursor.damaged as u64;
                cursor
            }
            Err(error) => {
                report.problems.push(format!("{name}: {error}"));
                Cursor::default()
            }
        }
    }

    /// What the segments have in them, by first number.
    fn inventories(&self, files: &[(String, u64)], report: &mut BufferReport) -> Vec<Inventory> {
        let mut segments: Vec<Segment> = files
            .iter()
            .filter_map(|(name, length)| {
                let (level, first_seq) = parse_segment_name(name)?;
                let mut segment = Segment::empty(level, first_seq);
                segment.bytes = *length;
                (segment.name == *name).then_some(segment)
            })
            .collect();
        segments.retain(|segment| {
            let is_ours = segment.bytes < TOO_LONG;
            if !is_ours {
                let problem = format!(
                    "{}: {} bytes are too long for one",
                    segment.name, segment.bytes
                );
                report.problems.push(problem);
                self.pass(segment.first_seq.saturating_add(1));
            }
            is_ours
        });
        segments.sort_unstable_by_key(|segment| segment.first_seq);
        let mut inventories = Vec::new();
        for level in LEVELS {
            let mut found: Vec<Segment> = Vec::new();
            for segment in segments.iter_mut().filter(|segment| segment.level == level) {
                segment.repeats = self.repeats(segment, &found).into();
                match self.inventory(segment, report) {
                    Ok(inventory) => {
                        found.push(inventory.segment.clone());
                        inventories.push(inventory);
                    }
                    // Whoever writes may have forgotten it while a reader looks.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => {
                        report.problems.push(format!("{}: {error}", segment.name));
                        self.has_unseen.store(true, Ordering::Relaxed);
                        self.pass(segment.first_seq.saturating_add(UNSEEN_NUMBERS));
                    }
                }
            }
        }
        inventories.sort_unstable_by_key(|inventory| inventory.segment.first_seq);
        inventories
    }

    /// The numbers of the frames that segments before this one have and that may be in it too.
    fn repeats(&self, segment: &Segment, before: &[Segment]) -> BTreeSet<u64> {
        let overlapping = before
            .iter()
            .filter(|other| other.samples > 0 && other.last_seq >= segment.first_seq);
        let mut numbers = BTreeSet::new();
        for other in overlapping {
            let length = usize::try_from(other.bytes).unwrap_or(usize::MAX);
            // It was read just now; if it cannot be any more, it repeats nothing.
            let bytes = self
                .storage
                .read(&other.name, 0, length)
                .unwrap_or_default();
            numbers.extend(segment::numbers(&bytes));
        }
        numbers
    }

    fn inventory(&self, segment: &Segment, report: &mut BufferReport) -> io::Result<Inventory> {
        if segment.repeats.is_empty()
            && let Ok(Some(mut inventory)) = self.indexed(segment)
        {
            inventory.durable = segment.bytes;
            return Ok(inventory);
        }
        let (bytes, is_whole) = self.read_segment(segment)?;
        let mut inventory = Inventory::from_frames(segment, &bytes);
        if !is_whole {
            let problem = format!("{}: a part of it cannot be read", segment.name);
            report.problems.push(problem);
        } else if let Some(end) = inventory.torn_at {
            report.truncated_bytes += (bytes.len() - end) as u64;
            inventory.segment.bytes = end as u64;
            // A reader must not change anything, and a disk that cannot be written may be back
            // later: nothing is appended to a file with a torn end.
            if self.storage.truncate(&segment.name, end as u64).is_ok() {
                inventory.torn_at = None;
            }
        }
        inventory.durable = inventory.segment.bytes;
        for (start, end) in &inventory.damage {
            report.quarantined_bytes += (end - start) as u64;
        }
        report.nameless_samples += inventory.nameless;
        Ok(inventory)
    }

    /// The bytes of a segment, and whether that is all of them: what a worn out disk has lost is
    /// zeros.
    pub(super) fn read_segment(&self, segment: &Segment) -> io::Result<(Vec<u8>, bool)> {
        let length = usize::try_from(segment.bytes).unwrap_or(usize::MAX);
        match self.storage.read(&segment.name, 0, length) {
            Ok(bytes) => Ok((bytes, true)),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(error),
            Err(_) => Ok((self.storage.salvage(&segment.name, length)?, false)),
        }
    }

    /// Has the numbers of new frames begin with this one, or later.
    fn pass(&self, seq: u64) {
        let mut log = self.log.lock();
        log.next_seq = log.next_seq.max(seq);
    }

    /// What the index of a segment says, if it has one.
    pub(super) fn indexed(&self, segment: &Segment) -> io::Result<Option<Inventory>> {
        let read = |length: u64| {
            let offset = segment.bytes.saturating_sub(length);
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            self.storage.read(&segment.name, offset, length)
        };
        Ok(match index_length(&read(TRAILER)?) {
            Some(length) => Inventory::from_index(segment, &read(length + TRAILER)?),
            None => None,
        })
    }

    fn take_over(
        self: &Arc<Self>,
        cursor: &Cursor,
        inventories: &[Inventory],
        report: &mut BufferReport,
    ) {
        // The newest ids are kept, so that the newest segments can be continued.
        for inventory in inventories.iter().rev() {
            for (id, content) in &inventory.series {
                self.recovered_series(&content.name, *id);
            }
        }
        for (name, position) in &cursor.positions {
            if let Some(series) = self.names.by_name(name) {
                series.data.lock().acknowledged = *position;
            }
        }
        let mut pending = 0;
        let mut unsure = Vec::new();
        for inventory in inventories {
            report.segments += 1;
            report.samples += inventory.segment.samples;
            let is_moved = inventory.segment.shifts(&cursor.boots) != (0, 0);
            for content in inventory.series.values() {
                let Some(series) = self.names.by_name(&content.name) else {
                    continue;
                };
                pending += self.take_over_series(&series, content, cursor.low);
                if is_moved && content.last_stamped {
                    unsure.push(series);
                }
            }
        }
        {
            let mut log = self.log.lock();
            let last = inventories
                .iter()
                .map(|inventory| inventory.segment.last_seq + 1);
            let further = cursor.positions.values().map(|position| position.seq + 1);
            let next = last.chain(further).max().unwrap_or(0).max(cursor.low);
            log.next_seq = log.next_seq.max(next);
            log.low = cursor.low;
            log.changes.other = true;
            log.boots.clone_from(&cursor.boots);
            log.pending = pending;
            for inventory in inventories {
                let segment = inventory.segment.clone();
                log.segments.insert(segment.first_seq, segment);
            }
            self.clock_state.lock().recall(&log.boots);
        }
        for inventory in inventories {
            self.count_partly_acknowledged(inventory, cursor.low);
        }
        for series in unsure {
            if let Some(recalled) = self.recall(&series) {
                series.data.lock().newest = Some(recalled.timestamp);
            }
        }
    }

    /// Notes what a segment has of a series. Returns how many of its samples the server lacks, as
    /// far as that can be told without looking at them: if it may have some of them, none.
    fn take_over_series(&self, series: &Series, content: &Content, low: u64) -> u64 {
        let mut data = series.data.lock();
        data.recorded += content.samples;
        if content.last >= data.last {
            data.last = content.last;
            data.newest = data.newest.max(Some(content.last.timestamp));
            data.stamped = content.last_stamped;
        }
        if content.last.seq < low || content.last <= data.acknowledged {
            return 0;
        }
        data.waiting_from = data.waiting_from.min(content.first.seq.max(low));
        if content.first.seq < low || content.first <= data.acknowledged {
            return 0;
        }
        data.waiting += content.samples;
        content.samples
    }

    /// Adds to the figures the samples of those series of which the server has a part of what is in
    /// this segment.
    fn count_partly_acknowledged(&self, inventory: &Inventory, low: u64) {
        let mut partly = HashMap::new();
        for content in inventory.series.values() {
            let Some(series) = self.names.by_name(&content.name) else {
                continue;
            };
            let acknowledged = series.data.lock().acknowledged;
            let lacks_last = content.last.seq >= low && content.last > acknowledged;
            let lacks_first = content.first.seq >= low && content.first > acknowledged;
            if lacks_last && !lacks_first {
                partly.insert(series.id, acknowledged);
            }
        }
        if partly.is_empty() {
            return;
        }
        let Ok(loaded) = Cache::default().load(&inventory.segment, self) else {
            return;
        };
        for piece in Loaded::pieces(&loaded).filter(|piece| piece.seq() >= low) {
            // What makes no sense in spite of its sums does not count.
            let _ = piece.for_each_block(&self.names, |series, block| {
                if let Some(acknowledged) = partly.get(&series.id) {
                    let lacking = block.lacking(piece.seq(), *acknowledged)?;
                    let mut data = series.data.lock();
                    data.waiting += lacking;
                    self.log.lock().pending += lacking;
                }
                Ok(true)
            });
        }
    }

    /// Makes durable what a process that died may have left without.
    fn make_sure(&self, inventories: &[Inventory], report: &mut BufferReport) {
        if self.storage.is_read_only() || self.trouble.lock().is_some() {
            return;
        }
        let mut last_of_level = [None, None];
        for (index, inventory) in inventories.iter().enumerate() {
            if let Some(last) = last_of_level.get_mut(inventory.segment.level as usize) {
                *last = Some(index);
            }
        }
        let doubtful = inventories.iter().enumerate().filter(|(index, inventory)| {
            !inventory.finished || last_of_level.contains(&Some(*index))
        });
        let mut names: Vec<&str> = doubtful
            .map(|(_, inventory)| inventory.segment.name.as_str())
            .collect();
        names.push(cursor::FILE);
        for name in names {
            match self.storage.sync(name) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    report.problems.push(format!("{name}: {error}"));
                }
                _ => self.storage.close(name),
            }
        }
        if let Err(error) = self.storage.sync_folder()
            && error.kind() != ErrorKind::NotFound
        {
            report.problems.push(format!("the folder: {error}"));
        }
    }

    /// Continues the last segment of each level, if nothing is wrong with it.
    fn resume(&self, inventories: Vec<Inventory>) {
        let mut writer = self.writer.lock();
        for inventory in inventories {
            let segment = &inventory.segment;
            let ids_agree = inventory.series.iter().all(|(id, content)| {
                let series = self.names.by_name(&content.name);
                series.is_some_and(|series| series.id == *id)
            });
            let is_sound = inventory.damage.is_empty()
                && inventory.nameless == 0
                && inventory.torn_at.is_none()
                // Its index would leave out what it repeats, which counts once the other is gone.
                && segment.repeats.is_empty()
                && segment.bytes > 0;
            if let Some(active) = writer.active.get_mut(segment.level as usize) {
                let can_go_on = is_sound && ids_agree && !inventory.finished;
                *active = can_go_on.then_some(inventory);
            }
        }
    }
}
