//! Heads into frames.
//!
//! A frame never spans a step of the clock, holds samples of one level, and ends once it has
//! [`CONTENT`] bytes or as many samples as the options say. While it happens the log is locked, so
//! that whoever reads finds each sample either in a head or in a frame.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Shared;
use super::block::{self, MOST_SAMPLES, Scratch};
use super::frame::{Boot, DataHead};
use super::log::Log;
use super::series::{Head, LEVELS, Level, Position, Series};
use super::stored::Stored;
use crate::value::{Reading, Sample, Value};

/// Once a frame has this many bytes, the next one begins.
const CONTENT: usize = 64 << 10;

/// A frame under construction.
struct Draft<'a> {
    log: &'a mut Log,
    level: Level,
    base: i64,
    unset_clock: Option<Boot>,
    blocks: Vec<u8>,
    samples: u64,
    highest: i64,
    last_id: u64,
}

impl Draft<'_> {
    /// Adds a block.
    fn add(&mut self, series: &Series, stamped: bool, samples: &[Sample], scratch: &mut Scratch) {
        let id_step = series.id - self.last_id;
        self.last_id = series.id;
        block::encode(
            id_step,
            stamped,
            samples,
            self.base,
            scratch,
            &mut self.blocks,
        );
        self.samples += samples.len() as u64;
        let last = samples.last().map_or(self.base, |sample| sample.timestamp);
        self.highest = self.highest.max(last);
        series.data.lock().sealed(Position {
            seq: self.log.next_seq,
            timestamp: last,
        });
    }

    /// Puts the frame into the log; the next one is empty.
    fn finish(&mut self) {
        if self.samples == 0 {
            return;
        }
        let head = DataHead {
            samples: self.samples,
            span: self.highest.wrapping_sub(self.base).cast_unsigned(),
            unset_clock: self.unset_clock,
        };
        let mut content = Vec::with_capacity(self.blocks.len() + 24);
        head.write(&mut content);
        let blocks = content.len();
        content.append(&mut self.blocks);
        self.log.push(Stored {
            level: self.level,
            seq: self.log.next_seq,
            base: self.base,
            head,
            content,
            blocks,
        });
        (self.samples, self.highest, self.last_id) = (0, i64::MIN, 0);
    }
}

impl Shared {
    /// Puts what is in the heads into frames.
    pub(super) fn seal(&self) {
        let mut log = self.log.lock();
        self.seal_into(&mut log);
    }

    /// The same for who holds the log.
    pub(super) fn seal_into(&self, log: &mut Log) {
        let mut dirty = mem::take(&mut *self.dirty.lock());
        dirty.sort_unstable_by_key(|series| series.id);
        let unset_clock = self.unset_clock();
        let mut scratch = Scratch::default();
        let mut rows = LEVELS.map(|level| (level, Vec::new()));
        for series in &dirty {
            let head = mem::take(&mut series.data.lock().head);
            if let Some((_, heads)) = rows.get_mut(series.level() as usize) {
                heads.push((series, head));
            }
        }
        for (level, heads) in rows {
            self.seal_level(level, heads, unset_clock, &mut scratch, log);
        }
    }

    fn seal_level(
        &self,
        level: Level,
        heads: Vec<(&Arc<Series>, Head)>,
        unset_clock: Option<Boot>,
        scratch: &mut Scratch,
        log: &mut Log,
    ) {
        let oldest = heads.iter().filter_map(|(_, head)| head.samples.first());
        let Some(base) = oldest.map(|sample| sample.timestamp).min() else {
            return;
        };
        let most = self.options.frame_samples();
        let mut draft = Draft {
            log,
            level,
            base,
            unset_clock,
            blocks: Vec::new(),
            samples: 0,
            highest: i64::MIN,
            last_id: 0,
        };
        let mut sealed = 0;
        for (series, mut head) in heads {
            for (stamped, samples) in head.runs() {
                for part in parts(samples, MOST_SAMPLES.min(most)) {
                    let count = part.len() as u64;
                    if draft.blocks.len() >= CONTENT || draft.samples + count > most as u64 {
                        draft.finish();
                    }
                    draft.add(series, stamped, part, scratch);
                    sealed += count;
                }
            }
            head.clear();
            series.data.lock().give_back(head);
        }
        draft.finish();
        self.unsealed.fetch_sub(sealed, Ordering::Relaxed);
    }
}

/// Runs of samples that make a block each: at most so many, and texts of about [`CONTENT`] bytes.
fn parts(mut samples: &[Sample], most: usize) -> impl Iterator<Item = &[Sample]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fitting = samples.iter().take(most).take_while(|sample| {
            let has_room = bytes < CONTENT;
            if let Reading::Value(Value::Text(text)) = &sample.reading {
                bytes += text.len();
            }
            has_room
        });
        let (part, rest) = samples.split_at_checked(fitting.count())?;
        samples = rest;
        (!part.is_empty()).then_some(part)
    })
}
