//! Upload bodies: what waits is turned into one MiniJSON document, and the answer into cursors.
//!
//! The body is `[{"path": …, "values": [[ms, value], [false, ms, reason], …]}, …]`, as `POST
//! /v1/device/pathpoints` takes it. See the invariants in the parent module.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Buffer, Series};
use crate::minijson::{EncodingError, Writer};
use crate::value::{Reading, Sample, Value};

/// The bytes that a body's own header and the header of each pathpoint can take at most, names
/// aside.
const HEADERS: usize = 32;

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
    pub body: Arc<[u8]>,
    /// What to acknowledge or refuse it with.
    pub token: u64,
    /// How many samples it carries.
    pub samples: u64,
}

#[derive(Default)]
pub(super) struct State {
    out: Option<Out>,
    last_token: u64,
    /// The most samples for the next upload, after the server has rejected some.
    most_samples: Option<u64>,
}

struct Out {
    upload: Upload,
    parts: Vec<Part>,
}

/// One pathpoint's share of an upload.
struct Part {
    series: Arc<Series>,
    /// The number of the first sample that is not in it.
    up_to: u64,
}

impl Buffer {
    /// The next upload, of about `max_bytes` at most (one sample is sent in any case); the same one
    /// again while it is neither acknowledged nor rejected. `None` if there is nothing to upload.
    ///
    /// # Errors
    /// [`EncodingError`] if a text is longer than MiniJSON can say.
    pub fn next_upload(&self, max_bytes: usize) -> Result<Option<Upload>, EncodingError> {
        let mut state = self.upload.lock();
        if state.out.is_none() {
            state.out = self.collect(&mut state, max_bytes)?;
        }
        Ok(state.out.as_ref().map(|out| out.upload.clone()))
    }

    fn collect(&self, state: &mut State, max_bytes: usize) -> Result<Option<Out>, EncodingError> {
        let mut budget = Budget {
            bytes: max_bytes,
            samples: state.most_samples.unwrap_or(u64::MAX),
        };
        let mut body = Body::default();
        let mut parts = Vec::new();
        let waiting = self.shared.queue.lock().waiting.len();
        for _ in 0..waiting {
            let Some(series) = self.shared.queue.lock().waiting.pop_front() else {
                break;
            };
            match body.add(&series, &mut budget) {
                Ok(Some(up_to)) => parts.push(Part { series, up_to }),
                Ok(None) => self.requeue(&series),
                Err(error) => {
                    self.requeue(&series);
                    self.requeue_all(&parts);
                    return Err(error);
                }
            }
            if budget.is_spent() {
                break;
            }
        }
        if parts.is_empty() {
            return Ok(None);
        }
        state.last_token += 1;
        let samples = body.samples;
        let body = body.finish(parts.len())?;
        Ok(Some(Out {
            upload: Upload {
                samples,
                body,
                token: state.last_token,
            },
            parts,
        }))
    }

    /// The server has the samples of this upload. False if it is not the one that is out.
    pub fn acknowledge(&self, token: u64) -> bool {
        let mut state = self.upload.lock();
        let Some(out) = state.out.take_if(|out| out.upload.token == token) else {
            return false;
        };
        state.most_samples = state.most_samples.and_then(|most| most.checked_mul(2));
        drop(state);
        for part in &out.parts {
            part.series.data.lock().acknowledge(part.up_to);
            self.requeue(&part.series);
        }
        self.shared
            .acknowledged
            .fetch_add(out.upload.samples, Ordering::Relaxed);
        self.make_room();
        true
    }

    /// The server does not have the samples of this upload. False if it is not the one that is out.
    pub fn refuse(&self, token: u64, refusal: Refusal) -> bool {
        let mut state = self.upload.lock();
        if state
            .out
            .as_ref()
            .is_none_or(|out| out.upload.token != token)
        {
            return false;
        }
        if refusal == Refusal::Rejected
            && let Some(out) = state.out.take()
        {
            state.most_samples = Some((out.upload.samples / 2).max(1));
            self.requeue_all(&out.parts);
        }
        true
    }

    fn requeue_all(&self, parts: &[Part]) {
        for part in parts {
            self.requeue(&part.series);
        }
    }

    /// Puts a series at the end of the upload queue, or notes that it has nothing to upload.
    fn requeue(&self, series: &Arc<Series>) {
        let mut data = series.data.lock();
        data.queued = data.pending_count() > 0;
        if data.queued {
            self.shared.enqueue(Arc::clone(series));
        }
    }
}

struct Budget {
    bytes: usize,
    samples: u64,
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.bytes == 0 || self.samples == 0
    }
}

/// A body under construction.
#[derive(Default)]
struct Body {
    entries: Vec<u8>,
    values: Vec<u8>,
    samples: u64,
}

impl Body {
    /// Adds as many of the series' pending samples as the budget allows. Returns the number of the
    /// first one that was left out, or `None` if none was added.
    fn add(&mut self, series: &Series, budget: &mut Budget) -> Result<Option<u64>, EncodingError> {
        let overhead = series.name().len() + HEADERS;
        let mut count = 0;
        self.values.clear();
        let data = series.data.lock();
        let (first, pending) = data.pending();
        for sample in pending {
            if count == budget.samples {
                break;
            }
            let before = self.values.len();
            write_sample(&mut Writer::new(&mut self.values), sample)?;
            let alone = self.samples == 0 && count == 0;
            if self.values.len() + overhead > budget.bytes && !alone {
                self.values.truncate(before);
                budget.bytes = 0;
                break;
            }
            count += 1;
        }
        drop(data);
        if count == 0 {
            return Ok(None);
        }
        let mut entry = Writer::new(&mut self.entries);
        entry.object_header(2)?;
        entry.key("path")?;
        entry.text(series.name())?;
        entry.key("values")?;
        entry.list_header(usize::try_from(count).unwrap_or(usize::MAX))?;
        self.entries.extend_from_slice(&self.values);
        budget.bytes = budget.bytes.saturating_sub(self.values.len() + overhead);
        budget.samples -= count;
        self.samples += count;
        Ok(Some(first + count))
    }

    fn finish(self, pathpoints: usize) -> Result<Arc<[u8]>, EncodingError> {
        let mut body = Vec::with_capacity(self.entries.len() + HEADERS);
        Writer::new(&mut body).list_header(pathpoints)?;
        body.extend_from_slice(&self.entries);
        Ok(body.into())
    }
}

fn write_sample(writer: &mut Writer<'_>, sample: &Sample) -> Result<(), EncodingError> {
    match &sample.reading {
        Reading::Value(value) => {
            writer.list_header(2)?;
            writer.int(sample.timestamp);
            match value {
                Value::Int(int) => writer.int(*int),
                Value::Float(float) => writer.float(*float),
                Value::Text(text) => writer.text(text)?,
            }
        }
        Reading::Failed(reason) => {
            writer.list_header(3)?;
            writer.bool(false);
            writer.int(sample.timestamp);
            writer.text(reason.code())?;
        }
    }
    Ok(())
}
