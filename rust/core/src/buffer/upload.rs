//! Upload bodies: what waits is turned into one MiniJSON document, and the answer into a cursor.
//!
//! The body is `[{"path": …, "values": [[ms, value], [false, ms, reason], …]}, …]`, as `POST
//! /v1/device/pathpoints` takes it. See the invariants in the parent module.
//!
//! # What goes first
//!
//! The log is uploaded from its old end on. With [`Policy::FreshFirst`] half of each body goes first
//! to the newest frames of the log, for those series that lack nothing before them: while a backlog is on its
//! way, pathpoints without one stay current. A series that has a backlog never jumps it.
//!
//! # What cannot be read
//!
//! A segment that cannot be read is tried again for a time: so long the old end of the log stays where
//! it is, and what may have samples in that segment waits. The others go on.
//!
//! # What the server rejects
//!
//! After a rejection the next uploads carry half as many series, until one is alone. That one is
//! *suspect*: it goes in uploads of its own from then on, in turn with those of the others, and half
//! as many samples after each rejection. Once the server rejects one sample alone, the caller sets
//! it aside. A series of which [`STRIKES`] samples were set aside in a row is poison as a whole: a
//! whole upload of it is to be set aside if it is rejected.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::block::{Block, Columns};
use super::series::{Position, Series};
use super::walk::{Cache, Piece, Walk};
use super::wire::Corrupt;
use super::{Buffer, Event, Shared};
use crate::minijson::{EncodingError, Writer};
use crate::value::{Reading, Value};

/// The bytes that a body's own header and the header of each pathpoint can take at most, names
/// aside.
const HEADERS: usize = 32;

/// Which part of an upload's bytes the newest frames have that are fresh: so much of registers, as
/// frames have it, fills about half of the upload.
const FRESH: usize = 32;

/// How many bytes a sample of a register takes.
const USUAL_SAMPLE: usize = 12;

/// How many samples in a row have to be set aside until a series counts as poison.
const STRIKES: u32 = 8;

/// With how many samples an upload of a suspect series may be set aside, and above how many that
/// the server takes it is no suspect any more.
const SUSPECT_SAMPLES: u64 = 1_000;

/// Why there is no upload.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// A text is longer than MiniJSON can say.
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    /// What waits cannot be read now.
    #[error("samples that wait cannot be read now")]
    Unreadable,
}

/// Which samples are uploaded first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Those of series without a backlog, in turn with the oldest.
    FreshFirst,
    /// The oldest.
    OldestFirst,
}

/// Why an upload was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The server could not be reached, or had a problem of its own: the same upload is tried
    /// again.
    NotDelivered,
    /// The server refused the content: smaller uploads are tried.
    Rejected,
}

/// One upload that is out.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The MiniJSON body.
    pub body: Arc<Vec<u8>>,
    /// What to acknowledge or refuse it with.
    pub token: u64,
    /// How many samples it carries.
    pub samples: u64,
    /// Whether it is to be set aside if the server rejects it: there is nothing smaller to try.
    pub is_last_try: bool,
}

#[derive(Default)]
pub(super) struct State {
    out: Option<Out>,
    last_token: u64,
    /// The most series for the next upload, after the server has rejected some.
    most_series: Option<usize>,
    suspects: VecDeque<Suspect>,
    /// Whose turn it is.
    suspects_next: bool,
    cache: Cache,
    unreadable_since: Option<Instant>,
}

/// A series of which the server has rejected an upload that carried nothing else.
struct Suspect {
    series: Arc<Series>,
    most_samples: u64,
    /// How many samples were set aside in a row.
    strikes: u32,
}

struct Out {
    upload: Upload,
    parts: Vec<Part>,
    /// All frames below this one are done with once it is acknowledged.
    low: u64,
    /// It carries the first of the suspects alone.
    is_suspect: bool,
}

/// One series' share of an upload.
struct Part {
    series: Arc<Series>,
    /// Its last sample.
    up_to: Position,
    values: Vec<u8>,
    samples: u64,
}

impl Buffer {
    /// The next upload, of about `max_bytes` at most (one sample is sent in any case); the same one
    /// again while it is neither acknowledged nor rejected. `None` if there is nothing to upload.
    ///
    /// # Errors
    /// See [`UploadError`].
    pub fn next_upload(&self, max_bytes: usize) -> Result<Option<Upload>, UploadError> {
        let mut state = self.shared.upload.lock();
        if state.out.is_none() {
            self.shared.seal();
            state.out = self.shared.collect(&mut state, max_bytes)?;
        }
        Ok(state.out.as_ref().map(|out| out.upload.clone()))
    }

    /// The server has the samples of this upload. When this returns, that is durable, or the disk
    /// does not work. False if it is not the one that is out.
    pub fn acknowledge(&self, token: u64) -> bool {
        let mut state = self.shared.upload.lock();
        let Some(out) = state.out.take_if(|out| out.upload.token == token) else {
            return false;
        };
        state.most_series = state.most_series.and_then(|most| most.checked_mul(2));
        if out.is_suspect {
            state.clear_suspect();
        }
        self.shared.done_with(&out, true);
        true
    }

    /// The samples of this upload are kept elsewhere, since the server rejects them: they are not
    /// sent again. False if it is not the one that is out.
    pub fn set_aside(&self, token: u64) -> bool {
        let mut state = self.shared.upload.lock();
        let Some(out) = state.out.take_if(|out| out.upload.token == token) else {
            return false;
        };
        if let Some(suspect) = state.suspects.front_mut().filter(|_| out.is_suspect) {
            suspect.strikes += 1;
            if suspect.strikes >= STRIKES {
                suspect.most_samples = SUSPECT_SAMPLES;
            }
        }
        self.shared.done_with(&out, false);
        true
    }

    /// The server does not have the samples of this upload: they are sent again. False if it is not
    /// the one that is out.
    pub fn refuse(&self, token: u64, refusal: Refusal) -> bool {
        let mut state = self.shared.upload.lock();
        let is_out = state
            .out
            .as_ref()
            .is_some_and(|out| out.upload.token == token);
        if is_out && refusal == Refusal::Rejected {
            state.reject();
        }
        is_out
    }
}

impl State {
    /// Takes account of whether a segment could not be read.
    fn note_unreadable(&mut self, has_failed: bool) {
        if !has_failed {
            self.unreadable_since = None;
        } else if self.unreadable_since.is_none() {
            self.unreadable_since = Some(Instant::now());
        }
    }

    /// Makes the next uploads smaller.
    fn reject(&mut self) {
        let Some(out) = self.out.take() else { return };
        let half = (out.upload.samples / 2).max(1);
        if out.is_suspect {
            if let Some(suspect) = self.suspects.front_mut() {
                suspect.most_samples = half;
            }
        } else if let [part] = out.parts.as_slice() {
            self.suspects.push_back(Suspect {
                series: Arc::clone(&part.series),
                most_samples: half,
                strikes: 0,
            });
            self.suspects_next = true;
        } else {
            self.most_series = Some(out.parts.len() / 2);
        }
    }

    /// The server has taken an upload of the first suspect.
    fn clear_suspect(&mut self) {
        let Some(mut suspect) = self.suspects.pop_front() else {
            return;
        };
        suspect.strikes = 0;
        suspect.most_samples *= 4;
        if suspect.most_samples < SUSPECT_SAMPLES {
            self.suspects.push_back(suspect);
        }
    }

    fn is_suspect(&self, series: &Series) -> bool {
        self.suspects
            .iter()
            .any(|suspect| suspect.series.id == series.id)
    }
}

impl Shared {
    fn collect(&self, state: &mut State, max_bytes: usize) -> Result<Option<Out>, UploadError> {
        state.suspects_next = !state.suspects_next && !state.suspects.is_empty();
        if state.suspects_next
            && let Some(out) = self.collect_suspect(state, max_bytes)?
        {
            return Ok(Some(out));
        }
        let found = self.collect_others(state, max_bytes)?;
        if found.is_none() && !state.suspects.is_empty() {
            return self.collect_suspect(state, max_bytes);
        }
        Ok(found)
    }

    /// An upload of the first suspect that has something to upload; those that have not are
    /// suspects no more.
    fn collect_suspect(
        &self,
        state: &mut State,
        max_bytes: usize,
    ) -> Result<Option<Out>, UploadError> {
        while let Some(suspect) = state.suspects.front() {
            let series = Arc::clone(&suspect.series);
            let mut body = Body::new(max_bytes, suspect.most_samples, 1);
            let is_poison = suspect.strikes >= STRIKES;
            let from = {
                let log = self.log.lock();
                series.data.lock().waiting_from.max(log.low)
            };
            let only = |other: &Series| other.id == series.id;
            self.walk(from, &mut state.cache, &mut body, only)?;
            if body.samples > 0 {
                let low = self.log.lock().low;
                let mut out = body.finish(state, low)?;
                out.is_suspect = true;
                out.upload.is_last_try = is_poison || out.upload.samples == 1;
                return Ok(Some(out));
            }
            state.suspects.pop_front();
        }
        Ok(None)
    }

    fn collect_others(
        &self,
        state: &mut State,
        max_bytes: usize,
    ) -> Result<Option<Out>, UploadError> {
        let mut body = Body::new(max_bytes, u64::MAX, state.most_series.unwrap_or(usize::MAX));
        body.waits_for_unreadable = state
            .unreadable_since
            .is_none_or(|since| since.elapsed() < self.options.unreadable_for);
        let (low, fresh_from) = {
            let log = self.log.lock();
            (log.low, log.newest_from(max_bytes / FRESH))
        };
        let mut cache = std::mem::take(&mut state.cache);
        if self.options.policy == Policy::FreshFirst && low < fresh_from {
            body.max_bytes = max_bytes / 2;
            let fresh = |series: &Series| {
                series.data.lock().waiting_from >= fresh_from && !state.is_suspect(series)
            };
            self.walk(fresh_from, &mut cache, &mut body, fresh)?;
            body.max_bytes = max_bytes;
            body.is_full = false;
        }
        let any = |series: &Series| !state.is_suspect(series);
        let walked = self.walk(low, &mut cache, &mut body, any)?;
        state.cache = cache;
        state.note_unreadable(walked.has_failed);
        let waits = walked.has_failed && body.waits_for_unreadable;
        let low = if waits { low } else { walked.done_below };
        if body.samples > 0 {
            return Ok(Some(body.finish(state, low)?));
        }
        if waits {
            return Err(UploadError::Unreadable);
        }
        self.nothing_waits(low, state);
        Ok(None)
    }

    /// Puts what waits from frame `from` on into a body, of the series that `wanted` admits.
    fn walk(
        &self,
        from: u64,
        cache: &mut Cache,
        body: &mut Body,
        wanted: impl Fn(&Series) -> bool,
    ) -> Result<Walked, EncodingError> {
        let mut walk = Walk::new(&self.log.lock(), from, |_| true);
        let mut done_below = from;
        let mut is_whole = true;
        let mut error = None;
        while !body.is_full {
            let Some(piece) = walk.next(self, cache) else {
                if is_whole {
                    done_below = walk.end();
                }
                break;
            };
            if is_whole {
                done_below = piece.seq();
            }
            let shift = piece
                .head()
                .map_or(0, |(_, head)| self.log.lock().shift(head.unset_clock));
            // A frame that makes no sense in spite of its sums has nothing to upload.
            let failed_up_to = walk.failed_up_to.filter(|_| body.waits_for_unreadable);
            let _ = piece.for_each_block(&self.names, |series, block| {
                let added = if wanted(series) && !may_wait_below(series, failed_up_to) {
                    body.add(&piece, series, &block, shift)?
                } else {
                    Ok(!body.waits(&piece, series, &block)?)
                };
                match added {
                    Ok(all) => is_whole &= all,
                    Err(failure) => error = Some(failure),
                }
                Ok(!body.is_full && error.is_none())
            });
            if let Some(error) = error {
                return Err(error);
            }
            if is_whole {
                done_below = piece.seq() + 1;
            }
        }
        Ok(Walked {
            done_below,
            has_failed: walk.failed_up_to.is_some(),
        })
    }

    /// The whole log was looked at, and nothing waits in it: what the figures say beside that could
    /// not be read.
    fn nothing_waits(&self, low: u64, state: &State) {
        let mut log = self.log.lock();
        if low > log.low {
            log.low = low;
            log.changes.other = true;
        }
        if state.suspects.is_empty() && log.low == log.next_seq && log.pending > 0 {
            self.tell(Event::Lost(log.pending));
            log.dropped += log.pending;
            log.pending = 0;
            for series in self.names.all() {
                let mut data = series.data.lock();
                data.waiting = data.head.samples.len() as u64;
            }
        }
    }

    /// Takes account of an upload that the server has, or that was set aside.
    fn done_with(&self, out: &Out, acknowledged: bool) {
        let mut log = self.log.lock();
        for part in &out.parts {
            let mut data = part.series.data.lock();
            data.acknowledge(part.up_to, part.samples);
            drop(data);
            let series = Arc::clone(&part.series);
            log.changes.positions.insert(series.id, series);
        }
        log.low = log.low.max(out.low);
        log.changes.other = true;
        log.pending = log.pending.saturating_sub(out.upload.samples);
        if acknowledged {
            log.acknowledged += out.upload.samples;
        }
        drop(log);
        // The committing thread tries again.
        let saved = self.save_cursor(&mut self.writer.lock().cursor);
        if let Err(error) = saved {
            self.note_trouble(&Err(error));
        }
    }
}

/// What a walk through the log has come to.
struct Walked {
    /// The first frame of which something is left out.
    done_below: u64,
    /// Whether a segment was passed over since it cannot be read.
    has_failed: bool,
}

/// Whether a series may lack something up to a frame.
fn may_wait_below(series: &Series, seq: Option<u64>) -> bool {
    seq.is_some_and(|seq| series.data.lock().waiting_from <= seq)
}

/// A body under construction.
struct Body {
    parts: Vec<Part>,
    /// Where the series stand in `parts`, by their ids.
    index: HashMap<u64, usize>,
    max_bytes: usize,
    most_samples: u64,
    most_series: usize,
    bytes: usize,
    samples: u64,
    is_full: bool,
    /// Whether series wait that may have samples in a segment that cannot be read.
    waits_for_unreadable: bool,
    columns: Columns,
}

impl Body {
    fn new(max_bytes: usize, most_samples: u64, most_series: usize) -> Self {
        Body {
            parts: Vec::new(),
            index: HashMap::new(),
            max_bytes,
            most_samples,
            most_series,
            bytes: 0,
            samples: 0,
            is_full: false,
            waits_for_unreadable: true,
            columns: Columns::default(),
        }
    }

    /// Up to where a series needs nothing: the server has it, or this body.
    fn has(&self, series: &Series) -> Position {
        let acknowledged = series.data.lock().acknowledged;
        let part = self
            .index
            .get(&series.id)
            .and_then(|at| self.parts.get(*at));
        part.map_or(acknowledged, |part| part.up_to.max(acknowledged))
    }

    /// Whether some of a block waits.
    fn waits(&self, piece: &Piece, series: &Series, block: &Block<'_>) -> Result<bool, Corrupt> {
        let (_, last) = block.range()?;
        Ok(self.has(series) < at(piece, last))
    }

    /// Adds what of a block waits, as far as there is room; whether that was all of it.
    fn add(
        &mut self,
        piece: &Piece,
        series: &Arc<Series>,
        block: &Block<'_>,
        shift: i64,
    ) -> Result<Result<bool, EncodingError>, Corrupt> {
        let (_, last) = block.range()?;
        let has = self.has(series);
        if has >= at(piece, last) {
            return Ok(Ok(true));
        }
        let shift = if block.stamped { shift } else { 0 };
        let seq = piece.seq();
        let (max_bytes, most_samples) = (self.max_bytes, self.most_samples);
        let (mut bytes, mut count) = (self.bytes, self.samples);
        let mut columns = std::mem::take(&mut self.columns);
        let Some(part) = self.part(series) else {
            self.is_full = true;
            return Ok(Ok(false));
        };
        if part.samples == 0 {
            bytes += HEADERS + series.name().len();
        }
        part.values.reserve(block.count * USUAL_SAMPLE);
        let mut all = Ok(true);
        let visited = block.visit(&mut columns, |timestamp, reading| {
            let position = Position { seq, timestamp };
            if position <= has || !matches!(all, Ok(true)) {
                return;
            }
            let before = part.values.len();
            let stamp = timestamp.saturating_add(shift);
            if let Err(error) = write_sample(&mut part.values, stamp, &reading) {
                part.values.truncate(before);
                all = Err(error);
                return;
            }
            let more = part.values.len() - before;
            if count == most_samples || bytes + more > max_bytes && count > 0 {
                part.values.truncate(before);
                all = Ok(false);
                return;
            }
            bytes += more;
            count += 1;
            part.samples += 1;
            part.up_to = position;
        });
        let is_empty = part.samples == 0;
        if is_empty {
            self.parts.pop();
            self.index.remove(&series.id);
        } else {
            self.bytes = bytes;
        }
        self.columns = columns;
        self.samples = count;
        self.is_full = matches!(all, Ok(false));
        visited.map(|()| all)
    }

    /// The share of a series; `None` if there are as many as may be.
    fn part(&mut self, series: &Arc<Series>) -> Option<&mut Part> {
        let next = self.parts.len();
        let at = match self.index.get(&series.id) {
            Some(at) => *at,
            None if next == self.most_series => return None,
            None => {
                self.index.insert(series.id, next);
                self.parts.push(Part {
                    series: Arc::clone(series),
                    up_to: Position::START,
                    values: Vec::new(),
                    samples: 0,
                });
                next
            }
        };
        self.parts.get_mut(at)
    }

    fn finish(self, state: &mut State, low: u64) -> Result<Out, EncodingError> {
        let mut body = Vec::with_capacity(self.bytes + HEADERS);
        Writer::new(&mut body).list_header(self.parts.len())?;
        let mut parts = self.parts;
        for part in &mut parts {
            let mut entry = Writer::new(&mut body);
            entry.object_header(2)?;
            entry.key("path")?;
            entry.text(part.series.name())?;
            entry.key("values")?;
            entry.list_header(usize::try_from(part.samples).unwrap_or(usize::MAX))?;
            body.append(&mut part.values);
        }
        state.last_token += 1;
        Ok(Out {
            upload: Upload {
                body: Arc::new(body),
                token: state.last_token,
                samples: self.samples,
                is_last_try: false,
            },
            parts,
            low,
            is_suspect: false,
        })
    }
}

fn at(piece: &Piece, timestamp: i64) -> Position {
    Position {
        seq: piece.seq(),
        timestamp,
    }
}

fn write_sample(out: &mut Vec<u8>, timestamp: i64, reading: &Reading) -> Result<(), EncodingError> {
    let mut writer = Writer::new(out);
    match reading {
        Reading::Value(value) => {
            writer.pair(timestamp);
            match value {
                Value::Int(int) => writer.int(*int),
                Value::Float(float) => writer.float(*float),
                Value::Text(text) => writer.text(text)?,
            }
        }
        Reading::Failed(reason) => {
            writer.list_header(3)?;
            writer.bool(false);
            writer.int(timestamp);
            writer.text(reason.code())?;
        }
    }
    Ok(())
}
