//! What the server has, durable in the file `cursor`.
//!
//! A cursor is a number below which every frame is done with, and for series that are further, the
//! position up to which they are. Each frame of the file is a change, and the sum of all counts.
//! When the file has grown, one frame takes the place of all.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::boot::Boots;
use super::frame::{self, Found, Frame, Use};
use super::series::{Position, Series};
use super::stored::parse_segment_name;
use super::wire::{Corrupt, Input, put_int, put_text, put_uint};
use super::{Event, Shared};

/// The file's name.
pub(super) const FILE: &str = "cursor";

/// From which length on the file is written anew.
const LONG: u64 = 256 << 10;

/// How many series one frame is about at most.
const PART: usize = 10_000;

/// What is not in the file yet.
#[derive(Default)]
pub(super) struct Changes {
    /// How far these series are.
    pub positions: HashMap<u64, Arc<Series>>,
    /// `low` or the boots have changed.
    pub other: bool,
}

/// The file, as far as it is known.
#[derive(Default)]
pub(super) struct File {
    /// Its length; `None` if that is not sure, so that it has to be written anew.
    bytes: Option<u64>,
    /// The series that it names.
    named: HashSet<u64>,
}

/// What a cursor file says.
#[derive(Default)]
pub(super) struct Cursor {
    pub low: u64,
    pub boots: Boots,
    /// By name.
    pub positions: HashMap<String, Position>,
    /// Bytes that make no sense.
    pub damaged: usize,
}

impl Cursor {
    pub fn read(bytes: &[u8]) -> Self {
        let mut cursor = Cursor::default();
        let mut names = HashMap::new();
        for found in frame::scan(bytes) {
            match found {
                Found::Frame(_, frame) if frame.use_ == Use::Cursor => {
                    if cursor.add(&frame, &mut names).is_err() {
                        cursor.damaged += frame.len();
                    }
                }
                Found::Frame(_, frame) => cursor.damaged += frame.len(),
                Found::Damage(start, end) => cursor.damaged += end - start,
                Found::End(start) => cursor.damaged += bytes.len() - start,
            }
        }
        cursor
    }

    fn add(&mut self, frame: &Frame<'_>, names: &mut HashMap<u64, String>) -> Result<(), Corrupt> {
        let mut input = Input::new(frame.content);
        self.low = self.low.max(input.uint()?);
        for _ in 0..input.uint()? {
            let id = u32::try_from(input.uint()?).map_err(|_| Corrupt)?;
            self.boots.set(id, input.int()?);
        }
        for _ in 0..input.uint()? {
            names.insert(input.uint()?, input.text()?.to_owned());
        }
        for _ in 0..input.uint()? {
            let id = input.uint()?;
            let position = Position {
                seq: input.uint()?,
                timestamp: input.int()?,
            };
            // A name that was lost with its frame costs that a series is sent again, no more.
            if let Some(name) = names.get(&id) {
                let known = self.positions.entry(name.clone()).or_insert(position);
                *known = position.max(*known);
            }
        }
        Ok(())
    }
}

impl Shared {
    /// Makes durable what the server has. Whoever has the file may write.
    pub(super) fn save_cursor(&self, file: &mut File) -> io::Result<()> {
        if self.is_released.load(Ordering::Acquire) {
            return Ok(());
        }
        let (changes, low, boots) = {
            let mut log = self.log.lock();
            let changes = std::mem::take(&mut log.changes);
            if !changes.other && changes.positions.is_empty() {
                return Ok(());
            }
            (changes, log.low, log.boots.clone())
        };
        let saved = if self.storage.is_memory() {
            Ok(())
        } else {
            self.write_cursor(file, &changes, low, &boots)
        };
        let mut log = self.log.lock();
        if saved.is_ok() {
            log.durable_low = log.durable_low.max(low);
        } else {
            log.changes.other = true;
            log.changes.positions.extend(changes.positions);
        }
        saved
    }

    fn write_cursor(
        &self,
        file: &mut File,
        changes: &Changes,
        low: u64,
        boots: &Boots,
    ) -> io::Result<()> {
        self.storage.prepare()?;
        if self.has_unseen_segments()? {
            return Ok(());
        }
        let mut bytes = Vec::new();
        // Whatever fails from here on leaves the file in doubt.
        match file.bytes.take() {
            Some(length) if length < LONG => {
                let further = further(changes.positions.values(), low);
                write(low, boots, &further, &mut file.named, &mut bytes);
                self.storage.append(FILE, length, &bytes)?;
                self.storage.sync(FILE)?;
                file.bytes = Some(length + bytes.len() as u64);
            }
            _ => {
                file.named.clear();
                let all = self.names.all();
                let further = further(all.iter(), low);
                write(low, boots, &further, &mut file.named, &mut bytes);
                self.storage.replace(FILE, &bytes)?;
                file.bytes = Some(bytes.len() as u64);
            }
        }
        self.count_written(bytes.len());
        Ok(())
    }

    /// Whether the folder has segments of an earlier run that could not be read at the start. What
    /// the server has of those only the cursor of that run says, so it is left alone until the next
    /// start: then samples of this run are sent again.
    fn has_unseen_segments(&self) -> io::Result<bool> {
        if !self.has_unseen.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let files = self.storage.list()?;
        let log = self.log.lock();
        let mut segments = files
            .iter()
            .filter_map(|(name, _)| parse_segment_name(name));
        let unseen = segments.any(|(_, first_seq)| !log.segments.contains_key(&first_seq));
        if unseen {
            let why = "samples of an earlier run have to wait for the next start";
            self.tell(Event::Unreadable(why.into()));
        }
        Ok(unseen)
    }
}

/// Those series that are further than the number below which all is done with.
fn further<'a>(
    series: impl Iterator<Item = &'a Arc<Series>>,
    low: u64,
) -> Vec<(&'a Arc<Series>, Position)> {
    series
        .map(|series| (series, series.data.lock().acknowledged))
        .filter(|(_, position)| position.seq >= low)
        .collect()
}

fn write(
    low: u64,
    boots: &Boots,
    further: &[(&Arc<Series>, Position)],
    named: &mut HashSet<u64>,
    out: &mut Vec<u8>,
) {
    let (first, rest) = further.split_at_checked(PART).unwrap_or((further, &[]));
    write_part(low, boots, first, named, out);
    for part in rest.chunks(PART) {
        write_part(low, &Boots::default(), part, named, out);
    }
}

fn write_part(
    low: u64,
    boots: &Boots,
    further: &[(&Arc<Series>, Position)],
    named: &mut HashSet<u64>,
    out: &mut Vec<u8>,
) {
    let mut content = Vec::new();
    put_uint(&mut content, low);
    put_uint(&mut content, boots.iter().len() as u64);
    for (id, offset) in boots.iter() {
        put_uint(&mut content, id.into());
        put_int(&mut content, offset);
    }
    let fresh: Vec<_> = further
        .iter()
        .filter(|(series, _)| named.insert(series.id))
        .collect();
    put_uint(&mut content, fresh.len() as u64);
    for (series, _) in fresh {
        put_uint(&mut content, series.id);
        put_text(&mut content, series.name());
    }
    put_uint(&mut content, further.len() as u64);
    for (series, position) in further {
        put_uint(&mut content, series.id);
        put_uint(&mut content, position.seq);
        put_int(&mut content, position.timestamp);
    }
    let frame = Frame {
        use_: Use::Cursor,
        seq: low,
        base: 0,
        content: &content,
    };
    frame.write(out);
}
