//! Samples of one series between two times, in the order of recording.

use std::cmp::Reverse;
use std::sync::Arc;
use std::vec;

use super::block::{Block, Columns};
use super::series::Series;
use super::stored::Segment;
use super::walk::{Cache, Loaded, Piece, Walk};
use super::wire::Corrupt;
use super::{Buffer, Handle, Shared};
use crate::value::Sample;

/// Reads an archive piece by piece: at most a segment of each level is in memory. It has what was
/// recorded when it was made; what is forgotten meanwhile may be missing.
pub struct Archive {
    shared: Arc<Handle>,
    series: Arc<Series>,
    start: i64,
    stop: i64,
    walk: Walk,
    cache: Cache,
    columns: Columns,
    head: Option<Vec<Sample>>,
}

impl Buffer {
    /// The samples of a series with `start <= timestamp <= stop`.
    pub fn archive(&self, series: &Arc<Series>, start: i64, stop: i64) -> Archive {
        let log = self.shared.log.lock();
        let walk = Walk::new(&log, 0, |segment| segment.may_have(start, stop, &log.boots));
        let head = series.data.lock().head.samples.clone();
        Archive {
            shared: Arc::clone(&self.shared),
            series: Arc::clone(series),
            start,
            stop,
            walk,
            cache: Cache::default(),
            columns: Columns::default(),
            head: Some(head),
        }
    }
}

impl Archive {
    /// The next samples, never none; `None` at the end.
    pub fn next_samples(&mut self) -> Option<Vec<Sample>> {
        let mut samples = Vec::new();
        while let Some(piece) = self.walk.next(&self.shared, &mut self.cache) {
            // What makes no sense in spite of its sums is left out.
            let _ = self.read(&piece, &mut samples);
            self.keep_wanted(&mut samples);
            if !samples.is_empty() {
                return Some(samples);
            }
        }
        let mut head = self.head.take()?;
        self.keep_wanted(&mut head);
        (!head.is_empty()).then_some(head)
    }

    fn read(&mut self, piece: &Piece, samples: &mut Vec<Sample>) -> Result<(), Corrupt> {
        let (base, head) = piece.head()?;
        let shift = self.shared.log.lock().shift(head.unset_clock);
        if base.saturating_add(shift.min(0)) > self.stop {
            return Ok(());
        }
        let (columns, id) = (&mut self.columns, self.series.id);
        piece.for_each_block(&self.shared.names, |series, block| {
            if series.id == id {
                decode(&block, shift, columns, samples)?;
            }
            Ok(true)
        })
    }

    fn keep_wanted(&self, samples: &mut Vec<Sample>) {
        let wanted = self.start..=self.stop;
        samples.retain(|sample| wanted.contains(&sample.timestamp));
    }
}

/// Appends the samples of a block, with stamps of the clock moved by `shift`.
pub(super) fn decode(
    block: &Block<'_>,
    shift: i64,
    columns: &mut Columns,
    samples: &mut Vec<Sample>,
) -> Result<(), Corrupt> {
    let before = samples.len();
    block.decode(columns, samples)?;
    if block.stamped && shift != 0 {
        for sample in samples.iter_mut().skip(before) {
            sample.timestamp = sample.timestamp.saturating_add(shift);
        }
    }
    Ok(())
}

impl Iterator for Archive {
    type Item = vec::IntoIter<Sample>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_samples().map(Vec::into_iter)
    }
}

impl Shared {
    /// The last sample of a series that is in a frame and can be read.
    pub(super) fn recall(&self, series: &Series) -> Option<Sample> {
        let last = series.data.lock().last.seq;
        let (tail, mut segments) = {
            let log = self.log.lock();
            let segments = log.segments.range(..=last).map(|(_, segment)| segment);
            let segments: Vec<Segment> = segments.cloned().collect();
            let tail: Vec<_> = log.tail.iter().rev().cloned().collect();
            (tail, segments)
        };
        let in_tail = tail
            .into_iter()
            .find_map(|frame| self.last_in(&Piece::Stored(frame), series));
        if in_tail.is_some() {
            return in_tail;
        }
        // Those of the two levels, and those that repeat frames, overlap.
        segments.sort_unstable_by_key(|segment| Reverse(segment.last_seq));
        let mut found: Option<(u64, Sample)> = None;
        for segment in segments {
            let newest = found.as_ref().map_or(0, |(seq, _)| *seq);
            if newest > segment.last_seq {
                break;
            }
            let Ok(loaded) = self.recalled.lock().load(&segment, self) else {
                continue;
            };
            let in_segment = Loaded::pieces(&loaded)
                .rev()
                .take_while(|piece| piece.seq() > newest)
                .find_map(|piece| Some((piece.seq(), self.last_in(&piece, series)?)));
            found = in_segment.or(found);
        }
        found.map(|(_, sample)| sample)
    }

    /// The last sample of a series in a frame.
    fn last_in(&self, piece: &Piece, series: &Series) -> Option<Sample> {
        let (_, head) = piece.head().ok()?;
        let shift = self.log.lock().shift(head.unset_clock);
        let mut found = None;
        let mut samples = Vec::new();
        // Blocks before the one that makes no sense are good.
        let _ = piece.for_each_block(&self.names, |other, block| {
            if other.id == series.id {
                samples.clear();
                decode(&block, shift, &mut Columns::default(), &mut samples)?;
                found = samples.pop();
            }
            Ok(true)
        });
        found
    }
}
