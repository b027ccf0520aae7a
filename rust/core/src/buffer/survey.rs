//! What a buffer has of each pathpoint, from the indexes of its segments where they have one.
//!
//! An index has stamps as they were recorded. Whether the first one of a series has moved since
//! stands in its frame, so the segments with those frames are read; the rest need not be.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::boot::Boots;
use super::segment::Inventory;
use super::series::{Position, Series};
use super::stored::Segment;
use super::walk::{Cache, Loaded, Piece};
use super::{Buffer, Shared};

/// What is kept of one pathpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Its name.
    pub name: Arc<str>,
    /// Samples kept.
    pub samples: u64,
    /// Samples that the server lacks.
    pub pending: u64,
    /// The timestamp of the first one, in milliseconds since the epoch.
    pub first: i64,
    /// That of the last one.
    pub last: i64,
}

impl Buffer {
    /// What is kept of each pathpoint, in no order.
    #[must_use]
    pub fn survey(&self) -> Vec<Holding> {
        let shared = &self.shared;
        shared.seal();
        let (segments, volatile, boots) = {
            let log = shared.log.lock();
            let segments: Vec<Segment> = log.segments.values().cloned().collect();
            (segments, log.volatile(), log.boots.clone())
        };
        let mut survey = Survey {
            shared,
            found: HashMap::new(),
            boots,
        };
        for segment in &segments {
            survey.add_segment(segment);
        }
        for frame in volatile {
            survey.add_frame(&Piece::Stored(frame));
        }
        survey.look_up_first(&segments);
        survey.found.into_values().map(Found::holding).collect()
    }
}

/// What is known of one series.
struct Found {
    series: Arc<Series>,
    samples: u64,
    first: Position,
    /// The present timestamp of the first sample; or, if only its segment can tell, the number with
    /// which that begins.
    first_time: Result<i64, u64>,
}

impl Found {
    fn holding(self) -> Holding {
        let data = self.series.data.lock();
        let first = self.first_time.unwrap_or(self.first.timestamp);
        Holding {
            name: Arc::clone(self.series.name()),
            samples: self.samples,
            pending: data.waiting,
            first,
            last: data.newest.unwrap_or(first),
        }
    }
}

struct Survey<'a> {
    shared: &'a Shared,
    /// By id.
    found: HashMap<u64, Found>,
    boots: Boots,
}

impl Survey<'_> {
    fn add_segment(&mut self, segment: &Segment) {
        match self.shared.indexed(segment) {
            Ok(Some(inventory)) if inventory.segment == *segment => self.add_index(&inventory),
            _ => {
                if let Ok(loaded) = Cache::default().load(segment, self.shared) {
                    for piece in Loaded::pieces(&loaded) {
                        self.add_frame(&piece);
                    }
                }
            }
        }
    }

    fn add_index(&mut self, inventory: &Inventory) {
        let segment = &inventory.segment;
        for content in inventory.series.values() {
            if let Some(series) = self.shared.names.by_name(&content.name) {
                let time = if segment.shifts(&self.boots) != (0, 0) {
                    Err(segment.first_seq)
                } else {
                    Ok(content.first.timestamp)
                };
                self.add(&series, content.samples, content.first, time);
            }
        }
    }

    fn add_frame(&mut self, piece: &Piece) {
        let shared = self.shared;
        for_each_first(shared, piece, |series, samples, first, time| {
            self.add(series, samples, first, Ok(time));
        });
    }

    fn add(
        &mut self,
        series: &Arc<Series>,
        samples: u64,
        first: Position,
        first_time: Result<i64, u64>,
    ) {
        let found = self.found.entry(series.id).or_insert_with(|| Found {
            series: Arc::clone(series),
            samples: 0,
            first,
            first_time,
        });
        found.samples = found.samples.saturating_add(samples);
        if first < found.first {
            (found.first, found.first_time) = (first, first_time);
        }
    }

    /// Looks for the present timestamps of first samples where the index could not tell.
    fn look_up_first(&mut self, segments: &[Segment]) {
        let found = self.found.values();
        let wanted: HashSet<u64> = found.filter_map(|found| found.first_time.err()).collect();
        let wanted = |segment: &&Segment| wanted.contains(&segment.first_seq);
        for segment in segments.iter().filter(wanted) {
            let Ok(loaded) = Cache::default().load(segment, self.shared) else {
                continue;
            };
            for piece in Loaded::pieces(&loaded) {
                for_each_first(self.shared, &piece, |series, _, first, time| {
                    if let Some(found) = self.found.get_mut(&series.id)
                        && found.first == first
                    {
                        found.first_time = Ok(time);
                    }
                });
            }
        }
    }
}

/// Calls `each` for every block of a frame: how many samples it has, where the first one stands, and
/// the present timestamp of that.
fn for_each_first(
    shared: &Shared,
    piece: &Piece,
    mut each: impl FnMut(&Arc<Series>, u64, Position, i64),
) {
    let Ok((_, head)) = piece.head() else { return };
    let shift = shared.log.lock().shift(head.unset_clock);
    // What makes no sense in spite of its sums does not count.
    let _ = piece.for_each_block(&shared.names, |series, block| {
        let (timestamp, _) = block.range()?;
        let by = if block.stamped { shift } else { 0 };
        let first = Position {
            seq: piece.seq(),
            timestamp,
        };
        each(
            series,
            block.count as u64,
            first,
            timestamp.saturating_add(by),
        );
        Ok(true)
    });
}
