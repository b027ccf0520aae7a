//! What readers of a buffer see: surveys, sweeps, verifications.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::faulty::Faulty;
use super::{archived, int, record, upload};
use crate::buffer::boot::Clock;
use crate::buffer::frame::{self, Boot, Found, Use};
use crate::buffer::{Buffer, FileCheck, Holding, Level, Memory, Options, Storage, Verification};
use crate::clock::{self, Moment};
use crate::pathpoint::Kind;
use crate::value::{Reading, Sample, Value};

const NAMES: [&str; 3] = ["W1", "u2", "d3"];

fn open(disk: &Faulty) -> Buffer {
    let options = Options {
        segment_bytes: 800,
        ..Options::default()
    };
    Buffer::on(Box::new(disk.clone()), options).unwrap()
}

fn number(name: &str, timestamp: i64, number: i32) -> Sample {
    let value = match name {
        "u2" => Value::Text(format!("text {number}").into()),
        "d3" => Value::Float(f64::from(number) / 7.0),
        _ => Value::Int((number * 7919 % 1000).into()),
    };
    let reading = Reading::Value(value);
    Sample { timestamp, reading }
}

/// Several segments of both levels, of which the server has a part.
fn recorded() -> Faulty {
    let disk = Faulty::new(1);
    let buffer = open(&disk);
    buffer.series("u2", Kind::Text).set_level(Level::Permanent);
    let start = clock::now().wall;
    for round in 0..30 {
        for step in 0..20 {
            let step = 20 * round + step;
            for name in NAMES {
                record(&buffer, name, number(name, start + i64::from(step), step));
            }
        }
        buffer.flush().unwrap();
    }
    for _ in 0..3 {
        let out = upload(&buffer, 1_000).unwrap();
        assert!(buffer.acknowledge(out.token));
    }
    // The newest segments have no index, whatever those before have come to.
    for name in NAMES {
        record(&buffer, name, number(name, start + 600, 600));
    }
    buffer.flush().unwrap();
    let contents = disk.contents();
    for level in ["trend", "permanent"] {
        let of_level = contents.keys().filter(|name| name.starts_with(level));
        assert!(of_level.count() > 2);
    }
    disk
}

fn survey(buffer: &Buffer) -> BTreeMap<String, Holding> {
    let holdings = buffer.survey().into_iter();
    holdings
        .map(|holding| (holding.name.to_string(), holding))
        .collect()
}

/// What a sweep gives, by series.
fn swept(
    buffer: &Buffer,
    names: Option<&[&str]>,
    start: i64,
    stop: i64,
) -> BTreeMap<String, Vec<Sample>> {
    let series: Option<Vec<_>> = names.map(|names| {
        names
            .iter()
            .map(|name| buffer.find(name).unwrap())
            .collect()
    });
    let mut sweep = buffer.sweep(series.as_deref(), start, stop);
    let mut swept = BTreeMap::<String, Vec<Sample>>::new();
    let mut before = 0;
    while let Some(parts) = sweep.next_samples() {
        let (done, total) = sweep.progress();
        assert!(before <= done && done <= total);
        before = done;
        for (series, samples) in parts {
            let of_series = swept.entry(series.name().to_string()).or_default();
            of_series.extend(samples);
        }
    }
    let (done, total) = sweep.progress();
    assert_eq!((done, sweep.corrupt()), (total, 0));
    swept
}

/// Checks that a survey and sweeps say the same as the archives.
fn check_against_archives(buffer: &Buffer) {
    let survey = survey(buffer);
    let all = swept(buffer, None, i64::MIN, i64::MAX);
    assert_eq!(
        survey.keys().collect::<Vec<_>>(),
        all.keys().collect::<Vec<_>>()
    );
    for (name, holding) in survey {
        let archive = archived(buffer, &name, i64::MIN, i64::MAX);
        assert_eq!(all[&name], archive, "{name}");
        assert_eq!(holding.samples, archive.len() as u64, "{name}");
        let times = (archive[0].timestamp, archive.last().unwrap().timestamp);
        assert_eq!((holding.first, holding.last), times, "{name}");
        let (recorded, done) = buffer.find(&name).unwrap().counts();
        assert_eq!(holding.pending, recorded - done, "{name}");
    }
}

#[test]
fn a_survey_and_a_sweep_say_what_the_archives_do() {
    let disk = recorded();
    let buffer = open(&disk);
    check_against_archives(&buffer);
    let pending: u64 = buffer.survey().iter().map(|holding| holding.pending).sum();
    assert_eq!(pending, buffer.statistics().pending);
    assert!(pending > 0 && pending < 1_803);
    // What is in heads and in frames that are not durable counts, too.
    disk.0.lock().is_broken = true;
    let next = clock::now().wall + 1_000_000;
    record(&buffer, "W1", int(next, 1));
    buffer.flush().unwrap_err();
    record(&buffer, "W9", int(next, 1));
    check_against_archives(&buffer);
    assert_eq!(survey(&buffer)["W9"].first, next);
}

#[test]
fn a_sweep_keeps_to_its_series_and_times() {
    let buffer = open(&recorded());
    let archive = archived(&buffer, "d3", i64::MIN, i64::MAX);
    let (start, stop) = (archive[100].timestamp, archive[350].timestamp);
    let swept = swept(&buffer, Some(&["d3", "u2"]), start, stop);
    assert_eq!(swept.keys().collect::<Vec<_>>(), ["d3", "u2"]);
    assert_eq!(swept["d3"], archive[100..=350]);
    assert_eq!(swept["u2"], archived(&buffer, "u2", start, stop));
}

/// A clock that is off by so many milliseconds until it is set, once.
#[derive(Clone)]
struct TestClock(i64, Arc<AtomicBool>);

impl Clock for TestClock {
    fn now(&self) -> Moment {
        let is_set = self.1.load(Ordering::Acquire);
        Moment {
            monotonic: 1,
            wall: if is_set { 0 } else { self.0 },
            steps: is_set.into(),
        }
    }

    fn boot(&self) -> Option<Boot> {
        let offset = self.now().wall;
        Some(Boot { id: 1, offset })
    }
}

#[test]
fn stamps_that_moved_since_are_given_as_moved() {
    let disk = Faulty::new(1);
    let clock = TestClock(-7_777, Arc::default());
    let open = || {
        let options = Options {
            segment_bytes: 800,
            ..Options::default()
        };
        Buffer::with(Box::new(disk.clone()), Box::new(clock.clone()), options).unwrap()
    };
    let buffer = open();
    let series = buffer.series("W1", Kind::Unsigned16);
    let by_user = buffer.series("W2", Kind::Unsigned16);
    by_user.record(int(5, 5)).unwrap();
    for number in 0..2_000 {
        let value = Value::Int(number * 7_919 % 65_521);
        series.record_now(clock.now(), Reading::Value(value));
        if number % 200 == 199 {
            buffer.flush().unwrap();
        }
    }
    assert!(buffer.statistics().segments > 3);
    check_against_archives(&buffer);
    clock.1.store(true, Ordering::Release);
    series.record_now(clock.now(), Reading::Value(Value::Int(1)));
    buffer.flush().unwrap();
    for buffer in [open(), buffer] {
        check_against_archives(&buffer);
        let survey = survey(&buffer);
        let times = |name: &str| (survey[name].first, survey[name].last);
        // Each read is stamped a millisecond after the one before, as the clock stands still.
        assert_eq!(times("W1"), (0, 2_000));
        assert_eq!(times("W2"), (5, 5));
    }
}

/// How long the head of a segment is.
const HEAD: usize = 33;

fn verify(disk: &Faulty) -> Vec<FileCheck> {
    Verification::on(Box::new(disk.clone())).unwrap().collect()
}

fn check_of(checks: &[FileCheck], name: &str) -> FileCheck {
    let mut checks = checks.iter();
    checks.find(|check| check.name == name).unwrap().clone()
}

#[test]
fn what_is_sound_is_said_to_be_and_counted() {
    let disk = recorded();
    let checks = verify(&disk);
    assert!(
        checks
            .iter()
            .all(|check| check.is_sound() && check.torn == 0)
    );
    let samples: u64 = checks.iter().map(|check| check.samples).sum();
    assert_eq!(samples, 1_803);
    assert_eq!(checks[0].name, "cursor");
    let sizes = disk.contents();
    for check in &checks {
        assert_eq!(check.bytes, sizes[&check.name].len() as u64);
    }
    let bytes: u64 = checks.iter().map(|check| check.bytes).sum();
    let verification = Verification::on(Box::new(disk)).unwrap();
    assert_eq!(verification.bytes_left(), bytes);
}

/// Names of the newest segment of each level.
fn newest(contents: &BTreeMap<String, Vec<u8>>) -> BTreeSet<String> {
    ["trend", "permanent"]
        .map(|level| {
            let mut names = contents.keys().rev();
            names.find(|name| name.starts_with(level)).unwrap().clone()
        })
        .into()
}

#[test]
fn a_byte_that_is_changed_anywhere_is_found() {
    let contents = recorded().contents();
    let newest = newest(&contents);
    for (name, bytes) in &contents {
        for at in 0..bytes.len() {
            let mut contents = contents.clone();
            contents.get_mut(name).unwrap()[at] ^= 0x10;
            let checks = verify(&Faulty::with(contents));
            let (wrong, right): (Vec<_>, Vec<_>) =
                checks.iter().partition(|check| check.name == *name);
            assert!(
                right
                    .iter()
                    .all(|check| check.is_sound() && check.torn == 0)
            );
            let check = wrong[0];
            let hit = check
                .damage
                .iter()
                .any(|&(start, end)| (start..end).contains(&(at as u64)));
            // At the end of a file that is being written it cannot be told from a torn write.
            let may_be_torn = newest.contains(name) || name == "cursor";
            let is_at_end = at as u64 >= check.bytes - check.torn;
            assert!(hit || may_be_torn && is_at_end, "{name} at {at}: {check:?}");
        }
    }
}

#[test]
fn a_lost_frame_costs_samples_that_the_index_still_counts() {
    let mut contents = recorded().contents();
    let whole = verify(&Faulty::with(contents.clone()));
    let first = contents
        .iter_mut()
        .find(|(name, _)| name.starts_with("trend"));
    let (name, content) = first.unwrap();
    let (name, middle) = (name.clone(), content.len() / 2);
    content[middle] ^= 1;
    let damaged = check_of(&verify(&Faulty::with(contents)), &name);
    assert!(damaged.missing > 0);
    let samples = damaged.samples + damaged.missing;
    assert_eq!(samples, check_of(&whole, &name).samples);
    assert_eq!((damaged.damage.len(), damaged.torn), (1, 0));
}

#[test]
fn names_that_are_lost_leave_samples_nameless() {
    let mut contents = recorded().contents();
    let name = newest(&contents).pop_last().unwrap();
    contents.get_mut(&name).unwrap()[HEAD + 5] ^= 1;
    let check = check_of(&verify(&Faulty::with(contents)), &name);
    assert_eq!(check.damage[0].0, HEAD as u64);
    assert!(check.nameless > 0 && check.samples == 0);
}

#[test]
fn only_the_newest_segments_may_be_cut_off() {
    let contents = recorded().contents();
    let newest = newest(&contents);
    for (name, bytes) in &contents {
        let (mut torn, mut damaged) = (0, 0);
        for length in 0..bytes.len() {
            let mut contents = contents.clone();
            contents.get_mut(name).unwrap().truncate(length);
            let check = check_of(&verify(&Faulty::with(contents)), name);
            torn += usize::from(check.torn > 0);
            damaged += usize::from(!check.is_sound());
        }
        if newest.contains(name) || name == "cursor" {
            assert!(damaged == 0 && torn > bytes.len() / 2, "{name}");
        } else {
            // Cuts between frames leave nothing to see, and those in the trailer nothing lost.
            assert!(torn == 7 && damaged > bytes.len() - 50, "{name}: {damaged}");
        }
    }
}

#[test]
fn an_index_that_is_damaged_is_no_torn_end() {
    let mut contents = recorded().contents();
    let newest = newest(&contents).pop_last().unwrap();
    contents.remove(&newest);
    let (name, content) = contents.pop_last().unwrap();
    let index = frames(&content).len();
    for at in index..content.len() - 8 {
        let mut content = content.clone();
        content[at] ^= 1;
        contents.insert(name.clone(), content.clone());
        let check = check_of(&verify(&Faulty::with(contents.clone())), &name);
        let range = (index as u64, content.len() as u64);
        assert_eq!((check.damage, check.torn), (vec![range], 0));
    }
}

/// A segment without its index.
fn frames(segment: &[u8]) -> Vec<u8> {
    let index = frame::scan(segment).find_map(|found| match found {
        Found::Frame(at, frame) if frame.use_ == Use::Index => Some(at),
        _ => None,
    });
    segment[..index.unwrap()].to_vec()
}

#[test]
fn what_a_later_segment_repeats_is_no_damage_and_counts_once() {
    let mut contents = recorded().contents();
    let before = verify(&Faulty::with(contents.clone()));
    let trends = contents.keys().filter(|name| name.starts_with("trend"));
    let [name, next]: [String; 2] = trends
        .take(2)
        .cloned()
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let both = [
        frames(&contents[&name]),
        frames(&contents[&next])[HEAD..].to_vec(),
    ];
    contents.insert(name.clone(), both.concat());
    let after = verify(&Faulty::with(contents.clone()));
    for check in &after {
        assert!(check.is_sound() && check.torn == 0, "{check:?}");
    }
    let samples = |checks: &[FileCheck], name| check_of(checks, name).samples;
    let sum = samples(&before, &name) + samples(&before, &next);
    assert_eq!(samples(&after, &name), sum);
    assert_eq!(samples(&after, &next), 0);
    let disk = Faulty::with(contents);
    let reader = Buffer::on(Box::new(disk), Options::default()).unwrap();
    let all: u64 = after.iter().map(|check| check.samples).sum();
    assert_eq!(reader.statistics().kept, all);
    check_against_archives(&reader);
}

#[test]
fn files_of_others_are_not_looked_at_and_frames_of_others_are_damage() {
    let mut contents = recorded().contents();
    let names: Vec<String> = contents.keys().cloned().collect();
    for name in [
        "trend-1.segment",
        "trend-x.segment",
        "notes",
        "trend-1-9.damaged",
    ] {
        contents.insert(name.into(), b"nothing of ours".to_vec());
    }
    let segment = names.iter().find(|name| name.starts_with("trend")).unwrap();
    let cursor = contents["cursor"].clone();
    let content = contents.get_mut(segment).unwrap();
    let length = content.len() as u64;
    content.extend_from_slice(&cursor);
    let end = content.len() as u64;
    let checks = verify(&Faulty::with(contents));
    assert_eq!(checks.len(), names.len());
    let unsound: Vec<_> = checks.iter().filter(|check| !check.is_sound()).collect();
    assert_eq!(unsound.len(), 1);
    // The trailer may stand at the end only.
    assert_eq!(unsound[0].damage, [(length - 8, end)]);
}

/// A disk that is only read, and from which some files go once they are listed.
struct Vanishing(Memory, Vec<String>);

impl Storage for Vanishing {
    fn prepare(&self) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let listed = self.0.list();
        self.1.iter().try_for_each(|name| self.0.remove(name))?;
        listed
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.0.read(name, offset, length)
    }

    fn append(&self, _name: &str, _at: u64, _bytes: &[u8]) -> io::Result<()> {
        unreachable!("nothing is written")
    }

    fn sync(&self, _name: &str) -> io::Result<()> {
        unreachable!("nothing is written")
    }

    fn sync_folder(&self) -> io::Result<()> {
        unreachable!("nothing is written")
    }

    fn truncate(&self, _name: &str, _length: u64) -> io::Result<()> {
        unreachable!("nothing is torn")
    }

    fn replace(&self, _name: &str, _bytes: &[u8]) -> io::Result<()> {
        unreachable!("nothing is damaged")
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn free(&self) -> Option<u64> {
        None
    }

    fn is_read_only(&self) -> bool {
        true
    }
}

#[test]
fn segments_that_go_while_a_reader_looks_are_passed_over() {
    let contents = recorded().contents();
    let names = contents.keys().filter(|name| name.starts_with("trend"));
    let gone: Vec<String> = names.take(2).cloned().collect();
    let vanishing = || {
        let memory = Memory::default();
        for (name, bytes) in &contents {
            memory.append(name, 0, bytes).unwrap();
        }
        Box::new(Vanishing(memory, gone.clone()))
    };
    let checks: Vec<_> = Verification::on(vanishing()).unwrap().collect();
    assert_eq!(checks.len(), contents.len() - gone.len());
    assert!(checks.iter().all(FileCheck::is_sound));

    let reader = Buffer::on(vanishing(), Options::default()).unwrap();
    assert_eq!(reader.report().problems, [""; 0]);
    assert_eq!(reader.statistics().segments, contents.len() as u64 - 3);
    check_against_archives(&reader);
    assert_eq!(reader.take_events(), []);
}
