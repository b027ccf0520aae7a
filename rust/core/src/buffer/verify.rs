//! Reads every byte of a buffer's files and says what is wrong with them; changes nothing.
//!
//! Invariants:
//!
//! - The buffer may be in use. What its writer was in the middle of is no damage: the end of the
//!   newest segment of a level, and of the cursor, may be torn, and segments may go.
//! - Each file is judged by itself, from the bytes that it has when it is read.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::io::{self, ErrorKind};
use std::mem;
use std::path::Path;

use super::block::{Block, Columns};
use super::cursor::{self, Cursor};
use super::frame::{self, DataHead, Found, Frame, Use};
use super::segment::{self, Inventory, TRAILER, VERSION, index_length};
use super::storage::{Disk, Storage};
use super::stored::{Segment, parse_segment_name, segment_name};
use super::wire::{Corrupt, Input};
use crate::pathpoint::Kind;

/// What was found in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileCheck {
    /// Its name in the folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Frames that are what was written.
    pub frames: u64,
    /// Samples in them, without those that an earlier file has.
    pub samples: u64,
    /// Samples in them of which nobody knows the pathpoint.
    pub nameless: u64,
    /// Samples that the index lists, but that are in no frame.
    pub missing: u64,
    /// Ranges of bytes that are not what was written.
    pub damage: Vec<(u64, u64)>,
    /// Bytes at the end of a write that did not finish.
    pub torn: u64,
    /// Why it could not be read.
    pub error: Option<String>,
}

impl FileCheck {
    /// Whether nothing is wrong. A torn end is usual after a power cut and while somebody writes.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty() && self.nameless == 0 && self.missing == 0 && self.error.is_none()
    }

    fn lose(&mut self, start: usize, end: usize) {
        let (start, end) = (start as u64, end as u64);
        match self.damage.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => self.damage.push((start, end)),
        }
    }
}

/// A file that is still to be read.
struct Pending {
    name: String,
    bytes: u64,
    /// What its name says, for a segment.
    segment: Option<Place>,
}

/// Where a segment stands among those of its level.
struct Place {
    segment: Segment,
    is_newest: bool,
}

/// Checks a buffer's files one after the other; an iterator, with at most one file in memory.
pub struct Verification {
    storage: Box<dyn Storage>,
    files: VecDeque<Pending>,
    /// The numbers of the frames read so far, by level.
    seen: [BTreeSet<u64>; 2],
}

impl Verification {
    /// Of the buffer in a folder.
    ///
    /// # Errors
    /// Those of listing the folder.
    pub fn of(folder: &Path) -> io::Result<Self> {
        Verification::on(Box::new(Disk::read_only(folder)))
    }

    pub(super) fn on(storage: Box<dyn Storage>) -> io::Result<Self> {
        let listed = storage.list()?;
        Ok(Verification {
            storage,
            files: files(listed),
            seen: Default::default(),
        })
    }

    /// How long all files are together that are still to be read.
    #[must_use]
    pub fn bytes_left(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

impl Iterator for Verification {
    type Item = FileCheck;

    fn next(&mut self) -> Option<FileCheck> {
        loop {
            let file = self.files.pop_front()?;
            // What the writer has added since is read as well: a segment that is not the newest any
            // more has been finished.
            let (bytes, error) = match self.storage.read(&file.name, 0, usize::MAX) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => (Vec::new(), Some(error.to_string())),
                Ok(bytes) => (bytes, None),
            };
            let mut check = match file.segment {
                Some(place) => self.check_segment(&place, &bytes),
                None => check_cursor(&bytes),
            };
            check.name = file.name;
            check.bytes = bytes.len() as u64;
            check.error = error;
            return Some(check);
        }
    }
}

/// The cursor and the segments, by their first numbers.
fn files(listed: Vec<(String, u64)>) -> VecDeque<Pending> {
    let mut segments = Vec::new();
    let mut cursor = None;
    for (name, bytes) in listed {
        if let Some((level, first_seq)) = parse_segment_name(&name)
            && segment_name(level, first_seq) == name
        {
            segments.push((first_seq, level, name, bytes));
        } else if name == cursor::FILE {
            cursor = Some(Pending {
                name,
                bytes,
                segment: None,
            });
        }
    }
    segments.sort_unstable();
    let mut is_newest = [true, true];
    let mut files = VecDeque::new();
    for (first_seq, level, name, bytes) in segments.into_iter().rev() {
        let is_newest = is_newest.get_mut(level as usize).map(mem::take);
        let place = Place {
            segment: Segment::empty(level, first_seq),
            is_newest: is_newest.unwrap_or(false),
        };
        files.push_front(Pending {
            name,
            bytes,
            segment: Some(place),
        });
    }
    cursor
        .into_iter()
        .for_each(|cursor| files.push_front(cursor));
    files
}

fn check_cursor(bytes: &[u8]) -> FileCheck {
    let mut check = FileCheck::default();
    for found in frame::scan(bytes) {
        match found {
            Found::Frame(at, frame) => {
                let damaged =
                    Cursor::read(bytes.get(at..at + frame.len()).unwrap_or_default()).damaged;
                if damaged == 0 {
                    check.frames += 1;
                } else {
                    check.lose(at, at + frame.len());
                }
            }
            Found::Damage(start, end) => check.lose(start, end),
            Found::End(start) => check.torn = (bytes.len() - start) as u64,
        }
    }
    check
}

impl Verification {
    fn check_segment(&mut self, place: &Place, bytes: &[u8]) -> FileCheck {
        match self.seen.get_mut(place.segment.level as usize) {
            Some(seen) => check_segment(place, bytes, seen),
            None => FileCheck::default(),
        }
    }
}

/// Samples in frames that were `seen` before do not count again.
fn check_segment(place: &Place, bytes: &[u8], seen: &mut BTreeSet<u64>) -> FileCheck {
    let mut check = FileCheck::default();
    let known = known_ids(bytes);
    let mut columns = Columns::default();
    let mut last = None;
    let mut repeated = 0;
    // The index, if it was the last frame, and where it is.
    let mut index: Option<(Inventory, usize, usize)> = None;
    for found in frame::scan(bytes) {
        match found {
            Found::Frame(at, frame) => {
                let end = at + frame.len();
                index = None;
                let contents = match frame.use_ {
                    Use::Head => check_head(&frame, &place.segment),
                    Use::Names => check_names(&frame),
                    Use::Data if last < Some(frame.seq) => {
                        count(&frame, &known, &mut columns).map(|(named, nameless)| {
                            last = Some(frame.seq);
                            if seen.insert(frame.seq) {
                                check.samples += named;
                                check.nameless += nameless;
                            } else {
                                repeated += named + nameless;
                            }
                        })
                    }
                    Use::Index => {
                        let whole = bytes.get(at..end).unwrap_or_default();
                        let read = Inventory::from_index(&place.segment, whole);
                        index = read.map(|inventory| (inventory, at, end));
                        index.as_ref().map(|_| ()).ok_or(Corrupt)
                    }
                    Use::Data | Use::Cursor => Err(Corrupt),
                };
                match contents {
                    Ok(()) => check.frames += 1,
                    Err(Corrupt) => check.lose(at, end),
                }
            }
            Found::Damage(start, end) => check.lose(start, end),
            Found::End(start) => {
                let index = index.as_ref().map(|(_, at, end)| (*at, *end));
                check_end(place, bytes, start, index, &mut check);
            }
        }
    }
    if let Some((inventory, at, end)) = index {
        let found = check.samples + check.nameless + repeated;
        check.missing = inventory.segment.samples.saturating_sub(found);
        if inventory.segment.samples < found {
            check.lose(at, end);
        }
    }
    check
}

/// The ids of series whose names are in the file and declare a type.
fn known_ids(bytes: &[u8]) -> HashSet<u64> {
    let mut known = HashSet::new();
    for found in frame::scan(bytes) {
        if let Found::Frame(_, frame) = found {
            let names = segment::names(&frame).into_iter();
            known.extend(
                names
                    .filter(|(_, name)| Kind::of_name(name).is_some())
                    .map(|(id, _)| id),
            );
        }
    }
    known
}

fn check_head(frame: &Frame<'_>, segment: &Segment) -> Result<(), Corrupt> {
    let version = Input::new(frame.content).uint()?;
    let is_right = version == VERSION && frame.seq == segment.first_seq;
    is_right.then_some(()).ok_or(Corrupt)
}

fn check_names(frame: &Frame<'_>) -> Result<(), Corrupt> {
    let mut input = Input::new(frame.content);
    while !input.is_empty() {
        input.uint()?;
        input.text()?;
    }
    Ok(())
}

/// Decodes every sample of a frame. Returns how many have a known series, and how many have not.
fn count(
    frame: &Frame<'_>,
    known: &HashSet<u64>,
    columns: &mut Columns,
) -> Result<(u64, u64), Corrupt> {
    let mut input = Input::new(frame.content);
    let head = DataHead::read(&mut input)?;
    let (mut named, mut nameless) = (0u64, 0u64);
    let mut samples = Vec::new();
    let mut id = 0;
    while !input.is_empty() {
        let block = Block::read(&mut input, id, frame.base)?;
        id = block.id;
        samples.clear();
        block.decode(columns, &mut samples)?;
        if samples.len() != block.count {
            return Err(Corrupt);
        }
        let count = if known.contains(&id) {
            &mut named
        } else {
            &mut nameless
        };
        *count += block.count as u64;
    }
    if named + nameless != head.samples {
        return Err(Corrupt);
    }
    Ok((named, nameless))
}

/// Judges what stands behind the last frame.
fn check_end(
    place: &Place,
    bytes: &[u8],
    start: usize,
    index: Option<(usize, usize)>,
    check: &mut FileCheck,
) {
    let rest = bytes.get(start..).unwrap_or_default();
    let rest_bytes = rest.len() as u64;
    let trailer = bytes.last_chunk::<8>();
    let index_bytes = trailer.and_then(|trailer| index_length(trailer));
    let is_torn = match index {
        Some((at, end)) if end == start => {
            if rest_bytes == TRAILER && index_bytes == Some((end - at) as u64) {
                return;
            }
            rest_bytes < TRAILER
        }
        // With a trailer at its end it was finished, and what stands before that was an index.
        _ => place.is_newest && index_bytes.is_none(),
    };
    if is_torn {
        check.torn = rest_bytes;
    } else {
        check.lose(start, bytes.len());
    }
}
