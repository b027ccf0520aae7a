mod boot;
mod damage;
mod faulty;
mod look;
mod model;

use proptest::prelude::*;

use super::*;
use crate::clock::Moment;
use crate::minijson::{self, Doc};
use crate::value::{Reading, Reason, Sample, Value};

const PLENTY: usize = 1 << 20;

fn int(timestamp: i64, int: i64) -> Sample {
    Sample {
        timestamp,
        reading: Reading::Value(Value::Int(int)),
    }
}

fn record(buffer: &Buffer, name: &str, sample: Sample) {
    let kind = Kind::of_name(name).unwrap();
    buffer.series(name, kind).record(sample).unwrap();
}

/// What a buffer has of a pathpoint between two times.
fn archived(buffer: &Buffer, name: &str, start: i64, stop: i64) -> Vec<Sample> {
    let series = buffer.find(name).unwrap();
    buffer.archive(&series, start, stop).flatten().collect()
}

fn upload(buffer: &Buffer, max_bytes: usize) -> Option<Upload> {
    buffer.next_upload(max_bytes).unwrap()
}

/// A sample as the server sees it: path, timestamp, value or error code.
type Said = (String, i64, String);

/// What a body says.
fn contents(body: &[u8]) -> Vec<Said> {
    let Doc::List(entries) = minijson::decode(body).unwrap() else {
        panic!("no list")
    };
    let mut contents = Vec::new();
    for entry in entries {
        let Doc::Object(fields) = entry else {
            panic!("no object")
        };
        let [(path_key, Doc::Text(path)), (values_key, Doc::List(values))] = &fields[..] else {
            panic!("{fields:?}")
        };
        assert_eq!((path_key.as_ref(), values_key.as_ref()), ("path", "values"));
        for value in values {
            let Doc::List(value) = value else {
                panic!("no list")
            };
            let (timestamp, said) = match &value[..] {
                [Doc::Int(timestamp), Doc::Int(int)] => (timestamp, int.to_string()),
                [Doc::Int(timestamp), Doc::Float(float)] => (timestamp, float.to_string()),
                [Doc::Int(timestamp), Doc::Text(text)] => (timestamp, text.to_string()),
                [Doc::Bool(false), Doc::Int(timestamp), Doc::Text(code)] => {
                    (timestamp, code.to_string())
                }
                other => panic!("{other:?}"),
            };
            contents.push((path.to_string(), *timestamp, said));
        }
    }
    contents
}

#[test]
fn a_body_carries_every_kind_of_reading() {
    let buffer = Buffer::new(DEFAULT_CAPACITY);
    record(&buffer, "W1", int(1_700_000_000_000, 65_535));
    let float = Reading::Value(Value::Float(0.1));
    record(
        &buffer,
        "d1",
        Sample {
            timestamp: 1,
            reading: float,
        },
    );
    let text = Reading::Value(Value::Text("zażółć".into()));
    record(
        &buffer,
        "u1",
        Sample {
            timestamp: 2,
            reading: text,
        },
    );
    record(
        &buffer,
        "w1",
        Sample {
            timestamp: 3,
            reading: Reading::Failed(Reason::Timeout),
        },
    );
    let upload = upload(&buffer, PLENTY).unwrap();
    assert_eq!(upload.samples, 4);
    let expected = [
        ("W1", 1_700_000_000_000, "65535"),
        ("d1", 1, "0.1"),
        ("u1", 2, "zażółć"),
        ("w1", 3, "timeout"),
    ];
    let expected = expected.map(|(path, timestamp, said)| (path.into(), timestamp, said.into()));
    assert_eq!(contents(&upload.body), expected);
}

#[test]
fn a_register_sample_takes_at_most_eleven_bytes_on_the_wire() {
    let buffer = Buffer::new(DEFAULT_CAPACITY);
    for number in 0..10_000 {
        record(&buffer, "W1", int(1_700_000_000_000 + number, 40_000));
    }
    let upload = upload(&buffer, PLENTY).unwrap();
    assert_eq!(upload.samples, 10_000);
    assert!(upload.body.len() <= 120_100, "{}", upload.body.len());
}

#[test]
fn a_sample_that_is_not_newer_is_refused() {
    let buffer = Buffer::new(DEFAULT_CAPACITY);
    let series = buffer.series("W1", Kind::Unsigned16);
    series.record(int(10, 1)).unwrap();
    assert_eq!(
        series.record(int(10, 2)),
        Err(NotNewer {
            given: 10,
            latest: 10
        })
    );
    assert_eq!(
        series.record(int(9, 2)),
        Err(NotNewer {
            given: 9,
            latest: 10
        })
    );
    assert_eq!(series.latest(), Some(int(10, 1)));
    assert_eq!(buffer.statistics().recorded, 1);
}

#[test]
fn reads_are_stamped_upwards_while_the_wall_clock_is_set_back() {
    let buffer = Buffer::new(DEFAULT_CAPACITY);
    let series = buffer.series("W1", Kind::Unsigned16);
    let stamps = [1_000, 1_000, 400, 2_000].map(|wall| {
        series.record_now(
            Moment {
                monotonic: 1,
                wall,
                steps: clock::now().steps,
            },
            Reading::Value(Value::Int(wall)),
        )
    });
    assert_eq!(stamps, [1_000, 1_001, 1_002, 2_000]);
}

#[test]
fn an_upload_is_the_same_until_it_is_acknowledged() {
    let buffer = Buffer::new(DEFAULT_CAPACITY);
    record(&buffer, "W1", int(1, 1));
    let first = upload(&buffer, PLENTY).unwrap();
    record(&buffer, "W1", int(2, 2));
    record(&buffer, "W2", int(2, 2));
    assert!(buffer.refuse(first.token, Refusal::NotDelivered));
    let again = upload(&buffer, PLENTY).unwrap();
    assert_eq!((&first.body, first.token), (&again.body, again.token));
    assert!(buffer.acknowledge(again.token));
    assert!(!buffer.acknowledge(again.token));
    let rest = upload(&buffer, PLENTY).unwrap();
    assert_eq!(contents(&rest.body).len(), 2);
    assert!(buffer.acknowledge(rest.token));
    assert!(upload(&buffer, PLENTY).is_none());
    let figures = buffer.statistics();
    assert_eq!(
        (figures.recorded, figures.acknowledged, figures.pending),
        (3, 3, 0)
    );
}

#[test]
fn a_token_that_is_not_out_changes_nothing() {
    let buffer = Buffer::new(DEFAULT_CAPACITY);
    record(&buffer, "W1", int(1, 1));
    let out = upload(&buffer, PLENTY).unwrap();
    assert!(!buffer.acknowledge(out.token + 1));
    assert!(!buffer.refuse(out.token + 1, Refusal::Rejected));
    assert_eq!(buffer.statistics().pending, 1);
}

/// Uploads all there is to a server that rejects some; returns what it took, what was set aside,
/// and how many uploads that took.
fn upload_all(buffer: &Buffer, rejects: impl Fn(&Said) -> bool) -> (Vec<Said>, Vec<Said>, usize) {
    let (mut taken, mut set_aside) = (Vec::new(), Vec::new());
    for uploads in 0.. {
        let Some(out) = upload(buffer, PLENTY) else {
            return (taken, set_aside, uploads);
        };
        let said = contents(&out.body);
        assert_eq!(said.len() as u64, out.samples);
        if !said.iter().any(&rejects) {
            taken.extend(said);
            assert!(buffer.acknowledge(out.token));
        } else if out.is_last_try {
            set_aside.extend(said);
            assert!(buffer.set_aside(out.token));
        } else {
            assert!(buffer.refuse(out.token, Refusal::Rejected));
        }
    }
    unreachable!()
}

#[test]
fn a_sample_that_the_server_rejects_ends_up_alone_and_the_rest_gets_through() {
    let buffer = Buffer::new(DEFAULT_CAPACITY);
    for number in 0..100 {
        record(&buffer, "W1", int(number, number));
        record(&buffer, "W2", int(number, number));
    }
    let poison = ("W1".into(), 42, "42".into());
    let (taken, set_aside, uploads) = upload_all(&buffer, |sample| *sample == poison);
    assert_eq!((taken.len(), set_aside), (199, vec![poison]));
    assert!(uploads < 30, "{uploads}");
    let of_w1 = taken.iter().filter(|(path, ..)| path == "W1");
    assert!(of_w1.is_sorted_by_key(|(_, timestamp, _)| timestamp));
    assert_eq!(buffer.statistics().pending, 0);
}

#[test]
fn a_pathpoint_that_the_server_rejects_is_set_aside_without_a_call_for_each_sample() {
    let buffer = Buffer::new(DEFAULT_CAPACITY);
    for number in 0..5_000 {
        for name in ["W1", "W2", "W3"] {
            record(&buffer, name, int(number, number));
        }
    }
    let (taken, set_aside, uploads) = upload_all(&buffer, |(path, ..)| path == "W2");
    assert_eq!((taken.len(), set_aside.len()), (10_000, 5_000));
    assert!(uploads < 60, "{uploads}");
    assert_eq!(buffer.statistics().pending, 0);
}

#[test]
fn one_sample_is_sent_however_small_the_limit() {
    let buffer = Buffer::new(DEFAULT_CAPACITY);
    let text = Reading::Value(Value::Text("x".repeat(1_000).into()));
    record(
        &buffer,
        "u1",
        Sample {
            timestamp: 1,
            reading: text,
        },
    );
    record(&buffer, "W1", int(1, 1));
    let first = upload(&buffer, 10).unwrap();
    assert_eq!(first.samples, 1);
    buffer.acknowledge(first.token);
    assert_eq!(
        contents(&upload(&buffer, 10).unwrap().body),
        [("W1".into(), 1, "1".into())]
    );
}

#[test]
fn an_archive_is_bounded_on_both_ends() {
    let buffer = Buffer::new(DEFAULT_CAPACITY);
    for number in 1..=5 {
        record(&buffer, "W1", int(number, number));
        if number == 3 {
            upload(&buffer, PLENTY).unwrap(); // what was recorded so far is in a frame now
        }
    }
    assert_eq!(
        archived(&buffer, "W1", 2, 4),
        [int(2, 2), int(3, 3), int(4, 4)]
    );
    assert_eq!(archived(&buffer, "W1", i64::MIN, i64::MAX).len(), 5);
    assert!(archived(&buffer, "W1", 6, i64::MAX).is_empty());
}

#[test]
fn a_full_buffer_forgets_what_the_server_has_and_then_the_oldest() {
    let start = clock::now().wall;
    let buffer = Buffer::new(80);
    let figures = || {
        buffer.flush().unwrap();
        let figures = buffer.statistics();
        (figures.kept, figures.dropped, figures.pending)
    };
    for number in 0..50 {
        record(&buffer, "W1", int(start + number, number));
    }
    let out = upload(&buffer, PLENTY).unwrap();
    buffer.acknowledge(out.token);
    for number in 0..50 {
        record(&buffer, "W2", int(start + number, number));
    }
    assert_eq!(figures(), (80, 0, 50));
    for number in 50..100 {
        record(&buffer, "W2", int(start + number, number));
    }
    assert_eq!(figures(), (80, 20, 80));
    assert_eq!(
        archived(&buffer, "W2", i64::MIN, i64::MAX)[0],
        int(start + 20, 20)
    );
    assert_eq!(archived(&buffer, "W1", i64::MIN, i64::MAX), []);
    let series = buffer.find("W1").unwrap();
    assert_eq!(series.latest(), Some(int(start + 49, 49)));
    assert_eq!(buffer.take_events(), [Event::Dropping]);
}

#[test]
fn without_capacity_only_the_latest_value_is_known() {
    let buffer = Buffer::new(0);
    record(&buffer, "W1", int(1, 1));
    record(&buffer, "W1", int(2, 2));
    buffer.flush().unwrap();
    assert!(upload(&buffer, PLENTY).is_none());
    let series = buffer.series("W1", Kind::Unsigned16);
    assert_eq!(series.latest(), Some(int(2, 2)));
    assert!(archived(&buffer, "W1", i64::MIN, i64::MAX).is_empty());
}

#[test]
fn waiting_ends_when_there_is_something_to_upload_or_someone_wakes() {
    let long = Duration::from_secs(3_600);
    let buffer = Buffer::new(DEFAULT_CAPACITY);
    assert!(!buffer.wait(Duration::ZERO, true));
    buffer.wake();
    assert!(!buffer.wait(long, true));
    record(&buffer, "W1", int(1, 1));
    assert!(buffer.wait(long, true));
    assert!(buffer.wait(Duration::ZERO, false));
}

#[test]
fn samples_that_are_stored_elsewhere_are_announced_too() {
    let buffer = Buffer::new(0);
    record(&buffer, "W1", int(1, 1));
    assert!(buffer.wait(Duration::from_secs(3_600), true));
    assert!(!buffer.wait(Duration::ZERO, true));
}

#[test]
fn long_texts_do_not_make_a_frame_that_cannot_be_read() {
    let disk = faulty::Faulty::new(1);
    let open = || Buffer::on(Box::new(disk.clone()), Options::default()).unwrap();
    let buffer = open();
    let start = clock::now().wall;
    let sample = |number: u8| Sample {
        timestamp: start + i64::from(number),
        reading: Reading::Value(Value::Text(
            char::from(b'a' + number).to_string().repeat(1 << 20).into(),
        )),
    };
    for number in 0..5 {
        record(&buffer, "u1", sample(number));
    }
    buffer.close().unwrap();
    let all: Vec<Sample> = (0..5).map(sample).collect();
    assert!(archived(&open(), "u1", i64::MIN, i64::MAX) == all);
}

#[test]
fn what_a_cap_costs_of_a_series_does_not_count_as_sent_what_it_has_elsewhere() {
    let disk = faulty::Faulty::new(1);
    let options = Options {
        segment_bytes: 500,
        max_bytes: 8_000,
        ..Options::default()
    };
    let buffer = Buffer::on(Box::new(disk), options).unwrap();
    let start = clock::now().wall;
    let series = buffer.series("W1", Kind::Unsigned16);
    series.set_level(Level::Permanent);
    for number in 0..10 {
        record(&buffer, "W1", int(start + number, number));
    }
    buffer.flush().unwrap();
    series.set_level(Level::Trend);
    for number in 10..5_000 {
        record(&buffer, "W1", int(start + number, number * 7_919 % 65_536));
        if number % 100 == 0 {
            buffer.flush().unwrap();
        }
    }
    assert!(buffer.statistics().dropped > 1_000);
    let (taken, _, _) = upload_all(&buffer, |_| false);
    assert_eq!(taken.iter().filter(|said| said.1 < start + 10).count(), 10);
    let dropped = buffer.statistics().dropped;
    assert_eq!(taken.len() as u64 + dropped, 5_000);
}

#[test]
fn samples_that_are_sealed_while_others_record_are_counted_right() {
    let buffer = Buffer::new(DEFAULT_CAPACITY);
    let names = ["W1", "W2", "W3"];
    let count = 150_000;
    std::thread::scope(|scope| {
        for name in names {
            let buffer = &buffer;
            scope.spawn(move || (0..count).for_each(|number| record(buffer, name, int(number, 1))));
        }
        while buffer.statistics().recorded < 3 * count.unsigned_abs() {
            buffer.flush().unwrap();
        }
    });
    let figures = buffer.statistics();
    assert_eq!((figures.recorded, figures.pending), (450_000, 450_000));
    assert_eq!(archived(&buffer, "W2", i64::MIN, i64::MAX).len(), 150_000);
}

#[test]
fn a_pathpoint_without_a_backlog_goes_before_the_backlog_of_others_even_if_that_is_in_memory() {
    for (policy, comes_first) in [(Policy::FreshFirst, true), (Policy::OldestFirst, false)] {
        let options = Options {
            policy,
            ..Options::default()
        };
        let disk = Box::new(faulty::Faulty::new(1));
        let buffer = Buffer::on(disk, options).unwrap();
        for number in 0..20_000 {
            record(&buffer, "W1", int(number, number * 7_919 % 65_536));
            if number % 100 == 0 {
                buffer.flush().unwrap();
            }
        }
        buffer.flush().unwrap();
        record(&buffer, "W2", int(1, 1));
        let out = upload(&buffer, 10_000).unwrap();
        let said = contents(&out.body);
        assert_eq!(said.iter().any(|(path, ..)| path == "W2"), comes_first);
        assert!(
            said.iter().any(|(path, ..)| path == "W1"),
            "the backlog goes on"
        );
    }
}

#[test]
fn a_backlog_is_not_jumped_that_came_after_a_start_without_any() {
    let disk = faulty::Faulty::new(1);
    let open = || Buffer::on(Box::new(disk.clone()), Options::default()).unwrap();
    let buffer = open();
    record(&buffer, "W1", int(1, 1));
    let out = upload(&buffer, PLENTY).unwrap();
    assert!(buffer.acknowledge(out.token));
    buffer.close().unwrap();
    drop(buffer);
    let buffer = open();
    for timestamp in 2..100 {
        record(&buffer, "W1", int(timestamp, timestamp));
        buffer.flush().unwrap();
    }
    let out = upload(&buffer, 500).unwrap();
    let first = contents(&out.body).remove(0);
    assert_eq!(first, ("W1".into(), 2, "2".into()));
}

#[test]
fn a_buffer_is_freed_with_the_last_that_holds_it() {
    let disk = faulty::Faulty::new(1);
    let open = || Buffer::on(Box::new(disk.clone()), Options::default()).unwrap();
    let buffer = open();
    record(&buffer, "W1", int(1, 1));
    let _ = upload(&buffer, PLENTY).unwrap();
    record(&buffer, "W1", int(2, 2));
    let series = buffer.find("W1").unwrap();
    let archive = buffer.archive(&series, i64::MIN, i64::MAX);
    buffer.flush().unwrap();
    drop((buffer, series));
    let found = archive.flatten().count();
    assert_eq!(found, 2, "an archive goes on without its buffer");
    assert_eq!(std::sync::Arc::strong_count(&disk.0), 1);

    let buffer = open();
    let latest = buffer.find("W1").unwrap().latest();
    assert_eq!(latest, Some(int(2, 2)), "read from the disk");
    drop(buffer);
    assert_eq!(std::sync::Arc::strong_count(&disk.0), 1);
}

#[test]
fn a_segment_that_cannot_be_read_at_the_start_is_as_it_was_at_the_next() {
    let disk = faulty::Faulty::new(1);
    let open = || Buffer::on(Box::new(disk.clone()), Options::default()).unwrap();
    let buffer = open();
    record(&buffer, "W1", int(1, 1));
    buffer.close().unwrap();
    let name = disk
        .contents()
        .into_keys()
        .find(|name| name.ends_with(".segment"));
    disk.0.lock().unreadable.extend(name);

    let buffer = open();
    assert_eq!(buffer.report().problems.len(), 1, "{:?}", buffer.report());
    record(&buffer, "W1", int(2, 2));
    record(&buffer, "W2", int(2, 2));
    buffer.flush().unwrap();
    let out = upload(&buffer, PLENTY).unwrap();
    assert_eq!(out.samples, 2);
    assert!(buffer.acknowledge(out.token));
    buffer.close().unwrap();
    disk.0.lock().unreadable.clear();

    let buffer = open();
    assert_eq!(buffer.report().problems, Vec::<String>::new());
    assert_eq!(
        archived(&buffer, "W1", i64::MIN, i64::MAX),
        [int(1, 1), int(2, 2)]
    );
    let said = contents(&upload(&buffer, PLENTY).unwrap().body);
    assert_eq!(said.first().unwrap(), &("W1".into(), 1, "1".into()));
}

#[test]
fn a_file_that_is_too_long_for_a_segment_is_left_alone() {
    let name = "trend-00000000000000000007.segment";
    let long = vec![0; 64 << 20];
    let disk = faulty::Faulty::with([(name.to_owned(), long)].into());
    let open = || Buffer::on(Box::new(disk.clone()), Options::default()).unwrap();
    let buffer = open();
    assert!(
        buffer.report().problems[0].contains("too long"),
        "{:?}",
        buffer.report()
    );
    record(&buffer, "W1", int(1, 1));
    let out = upload(&buffer, PLENTY).unwrap();
    assert!(buffer.acknowledge(out.token));
    buffer.close().unwrap();
    assert_eq!(disk.contents()[name].len(), 64 << 20);
    let buffer = open();
    assert_eq!(archived(&buffer, "W1", i64::MIN, i64::MAX), [int(1, 1)]);
    assert!(upload(&buffer, PLENTY).is_none());
}

#[test]
fn what_waits_in_a_segment_that_cannot_be_read_for_a_while_is_sent_after_that() {
    let disk = faulty::Faulty::new(1);
    let options = Options {
        segment_bytes: 1,
        ..Options::default()
    };
    let open = || Buffer::on(Box::new(disk.clone()), options.clone()).unwrap();
    let buffer = open();
    for (timestamp, name) in [(1, "W1"), (2, "W2"), (3, "W3"), (4, "W2")] {
        record(&buffer, name, int(timestamp, 0));
        buffer.flush().unwrap();
    }
    buffer.close().unwrap();
    let second = disk
        .contents()
        .into_keys()
        .filter(|name| name.ends_with(".segment"))
        .nth(1);

    let buffer = open();
    disk.0.lock().unreadable.extend(second);
    let out = upload(&buffer, PLENTY).unwrap();
    assert_eq!(out.samples, 2);
    assert!(buffer.acknowledge(out.token));
    for _ in 0..2 {
        assert_eq!(
            buffer.next_upload(PLENTY).unwrap_err(),
            UploadError::Unreadable
        );
        assert_eq!(buffer.statistics().pending, 2);
    }
    disk.0.lock().unreadable.clear();
    let out = upload(&buffer, PLENTY).unwrap();
    let late = [("W2".into(), 2, "0".into()), ("W2".into(), 4, "0".into())];
    assert_eq!(contents(&out.body), late);
    assert!(buffer.acknowledge(out.token));
    assert!(upload(&buffer, PLENTY).is_none());
    assert_eq!(buffer.statistics().pending, 0);
}

/// Segments of level TREND cannot be read from now on.
fn hide_segments(disk: &faulty::Faulty) {
    let names = disk.contents().into_keys();
    let hidden = names.filter(|name| name.starts_with("trend")).collect();
    disk.0.lock().unreadable = hidden;
}

#[test]
fn what_waits_behind_a_segment_that_cannot_be_read_goes_on_after_a_time() {
    let disk = faulty::Faulty::new(1);
    let options = Options {
        unreadable_for: Duration::ZERO,
        ..Options::default()
    };
    let open = || Buffer::on(Box::new(disk.clone()), options.clone()).unwrap();
    let buffer = open();
    buffer
        .series("W9", Kind::Unsigned16)
        .set_level(Level::Permanent);
    // Numbers of the two levels alternate.
    for timestamp in 1..=3 {
        record(&buffer, "W1", int(timestamp, 0));
        record(&buffer, "W9", int(timestamp, 0));
        buffer.flush().unwrap();
    }
    buffer.close().unwrap();

    let buffer = open();
    hide_segments(&disk);
    record(&buffer, "W1", int(4, 0));
    let mut said = Vec::new();
    for _ in 0..10 {
        if let Ok(Some(out)) = buffer.next_upload(PLENTY) {
            said.extend(contents(&out.body));
            assert!(buffer.acknowledge(out.token));
        }
    }
    let mut paths: Vec<_> = said
        .iter()
        .map(|(path, at, _)| (path.as_str(), *at))
        .collect();
    paths.sort_unstable();
    assert_eq!(paths, [("W1", 4), ("W9", 1), ("W9", 2), ("W9", 3)]);
    assert_eq!(buffer.statistics().pending, 0);
    assert!(buffer.take_events().contains(&Event::Lost(3)));
}

#[test]
fn what_is_in_memory_does_not_wait_for_a_file_that_cannot_be_read() {
    let disk = faulty::Faulty::new(1);
    let buffer = Buffer::on(Box::new(disk.clone()), Options::default()).unwrap();
    for timestamp in 1..=3 {
        record(&buffer, "W1", int(timestamp, 0));
        buffer.flush().unwrap();
    }
    hide_segments(&disk);
    let out = upload(&buffer, PLENTY).unwrap();
    assert_eq!(out.samples, 3);
    assert!(buffer.acknowledge(out.token));
    assert!(upload(&buffer, PLENTY).is_none());
}

#[test]
fn a_latest_sample_that_cannot_be_read_is_not_looked_for_at_each_look() {
    let disk = faulty::Faulty::new(1);
    let open = || Buffer::on(Box::new(disk.clone()), Options::default()).unwrap();
    let buffer = open();
    record(&buffer, "W1", int(1, 1));
    buffer.close().unwrap();
    let buffer = open();
    let series = buffer.find("W1").unwrap();
    hide_segments(&disk);
    assert_eq!(series.latest(), None);
    disk.0.lock().unreadable.clear();
    assert_eq!(series.latest(), None, "it is too early for another try");
    record(&buffer, "W1", int(2, 2));
    assert_eq!(series.latest(), Some(int(2, 2)));
}

#[test]
fn files_with_numbers_that_no_segment_has_are_left_alone() {
    let names = [u64::MAX, u64::MAX - 1, (1 << 62) + 1];
    let files = names.map(|number| (format!("trend-{number:020}.segment"), vec![0; 100]));
    let disk = faulty::Faulty::with(files.clone().into());
    let buffer = Buffer::on(Box::new(disk.clone()), Options::default()).unwrap();
    record(&buffer, "W1", int(1, 1));
    buffer.close().unwrap();
    for (name, content) in files {
        assert_eq!(disk.contents()[&name], content);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Record(u8),
    Upload(usize),
    Acknowledge,
    NotDelivered,
    Reject,
    Seal,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3u8).prop_map(Step::Record),
        2 => (20..400usize).prop_map(Step::Upload),
        1 => Just(Step::Acknowledge),
        1 => Just(Step::NotDelivered),
        1 => Just(Step::Reject),
        1 => Just(Step::Seal),
    ]
}

proptest! {
    /// Whatever the order of events: what was recorded is delivered once, in order, and nothing
    /// else is.
    #[test]
    fn everything_recorded_is_acknowledged_once_and_in_order(steps in prop::collection::vec(step(), 0..200)) {
        let names = ["W1", "w2", "B3"];
        let buffer = Buffer::new(DEFAULT_CAPACITY);
        let mut recorded = [0i64; 3];
        let mut delivered: Vec<(String, i64, String)> = Vec::new();
        let mut out: Option<Upload> = None;
        let finish = Step::Upload(PLENTY);
        let drain = std::iter::repeat_n([Step::Acknowledge, finish], 700).flatten();
        for step in steps.into_iter().chain(drain) {
            match step {
                Step::Record(which) => {
                    let count = &mut recorded[usize::from(which)];
                    *count += 1;
                    record(&buffer, names[usize::from(which)], int(*count, *count));
                }
                Step::Upload(bytes) => {
                    let next = upload(&buffer, bytes);
                    if let (Some(before), Some(now)) = (&out, &next) {
                        prop_assert_eq!(&before.body, &now.body);
                    }
                    out = next;
                }
                Step::Acknowledge => {
                    if let Some(out) = out.take() {
                        prop_assert!(buffer.acknowledge(out.token));
                        delivered.extend(contents(&out.body));
                    }
                }
                Step::NotDelivered => {
                    if let Some(out) = &out {
                        prop_assert!(buffer.refuse(out.token, Refusal::NotDelivered));
                    }
                }
                Step::Reject => {
                    if let Some(out) = out.take() {
                        prop_assert!(buffer.refuse(out.token, Refusal::Rejected));
                    }
                }
                Step::Seal => buffer.flush().unwrap(),
            }
        }
        for (name, count) in names.iter().zip(recorded) {
            let got: Vec<i64> =
                delivered.iter().filter(|(path, ..)| path == name).map(|&(_, timestamp, _)| timestamp).collect();
            prop_assert_eq!(got, (1..=count).collect::<Vec<_>>());
        }
        prop_assert_eq!(buffer.statistics().pending, 0);
    }
}

/// How many cases a model test tries: more if the environment says so.
fn cases(usual: u32) -> u32 {
    let times = std::env::var("SMOK_MODEL_TIMES").ok();
    usual * times.and_then(|times| times.parse().ok()).unwrap_or(1)
}
