//! Samples of many series in the order of recording: each frame is read once, where an
//! [`Archive`](super::Archive) of each series would read them all again.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::archive::decode;
use super::block::Columns;
use super::series::Series;
use super::walk::{Cache, Piece, Walk};
use super::wire::Corrupt;
use super::{Buffer, Handle};
use crate::value::Sample;

/// Reads a buffer frame by frame: at most a segment of each level is in memory. It has what was
/// recorded when it was made; what is forgotten meanwhile may be missing.
pub struct Sweep {
    shared: Arc<Handle>,
    /// Ids of the wanted series; `None` for all.
    wanted: Option<HashSet<u64>>,
    start: i64,
    stop: i64,
    walk: Walk,
    cache: Cache,
    columns: Columns,
    /// First numbers and lengths of the segments that it has not come to.
    ahead: VecDeque<(u64, u64)>,
    total_bytes: u64,
    done_bytes: u64,
    corrupt: u64,
}

/// Some samples of one series.
pub type Swept = (Arc<Series>, Vec<Sample>);

impl Buffer {
    /// The samples with `start <= timestamp <= stop` of these series, or of all.
    #[must_use]
    pub fn sweep(&self, series: Option<&[Arc<Series>]>, start: i64, stop: i64) -> Sweep {
        self.shared.seal();
        let log = self.shared.log.lock();
        let ahead: VecDeque<_> = log
            .segments
            .values()
            .filter(|segment| segment.may_have(start, stop, &log.boots))
            .map(|segment| (segment.first_seq, segment.bytes))
            .collect();
        Sweep {
            shared: Arc::clone(&self.shared),
            wanted: series.map(|series| series.iter().map(|series| series.id).collect()),
            start,
            stop,
            walk: Walk::new(&log, 0, |segment| segment.may_have(start, stop, &log.boots)),
            cache: Cache::default(),
            columns: Columns::default(),
            total_bytes: ahead.iter().map(|(_, bytes)| bytes).sum(),
            done_bytes: 0,
            ahead,
            corrupt: 0,
        }
    }
}

impl Sweep {
    /// The samples of the next frame, which may have none that are wanted; `None` at the end.
    pub fn next_samples(&mut self) -> Option<Vec<Swept>> {
        let Some(piece) = self.walk.next(&self.shared, &mut self.cache) else {
            self.done_bytes = self.total_bytes;
            return None;
        };
        self.note_progress(piece.seq());
        let mut swept = Vec::new();
        if self.read(&piece, &mut swept).is_err() {
            self.corrupt += 1;
        }
        Some(swept)
    }

    /// Bytes of segments that have been read, roughly, and of all that are to be.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        (self.done_bytes, self.total_bytes)
    }

    /// Frames met so far that make no sense in spite of their sums; what follows the first such
    /// block in them was left out.
    #[must_use]
    pub fn corrupt(&self) -> u64 {
        self.corrupt
    }

    fn note_progress(&mut self, seq: u64) {
        while let Some((first_seq, bytes)) = self.ahead.front()
            && *first_seq < seq
        {
            self.done_bytes += bytes;
            self.ahead.pop_front();
        }
    }

    fn read(&mut self, piece: &Piece, swept: &mut Vec<Swept>) -> Result<(), Corrupt> {
        let (base, head) = piece.head()?;
        let shift = self.shared.log.lock().shift(head.unset_clock);
        if base.saturating_add(shift.min(0)) > self.stop {
            return Ok(());
        }
        let (wanted, columns) = (&self.wanted, &mut self.columns);
        let times = self.start..=self.stop;
        piece.for_each_block(&self.shared.names, |series, block| {
            if wanted.as_ref().is_none_or(|ids| ids.contains(&series.id)) {
                let mut samples = Vec::with_capacity(block.count);
                decode(&block, shift, columns, &mut samples)?;
                samples.retain(|sample| times.contains(&sample.timestamp));
                if !samples.is_empty() {
                    swept.push((Arc::clone(series), samples));
                }
            }
            Ok(true)
        })
    }
}
