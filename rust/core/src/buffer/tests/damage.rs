//! Segments that are cut off or changed anywhere.

use super::faulty::Faulty;
use super::{archived, int};
use crate::buffer::{Buffer, Options};
use crate::pathpoint::Kind;
use crate::value::Sample;

fn options() -> Options {
    Options {
        segment_bytes: 700,
        ..Options::default()
    }
}

/// A disk with a few segments, the last one without an index, and what is in it.
fn recorded() -> (Faulty, Vec<Sample>) {
    let disk = Faulty::new(1);
    let buffer = Buffer::on(Box::new(disk.clone()), options()).unwrap();
    let start = crate::clock::now().wall;
    let mut samples = Vec::new();
    for round in 0..24 {
        for number in 0..20 {
            let number = 20 * round + number;
            let sample = int(start + 10 * number, number * 7919 % 1000);
            buffer
                .series("W1", Kind::Unsigned16)
                .record(sample.clone())
                .unwrap();
            samples.push(sample);
        }
        let other = int(start + round, round);
        buffer
            .series("w_other", Kind::Signed16)
            .record(other)
            .unwrap();
        buffer.flush().unwrap();
    }
    (disk, samples)
}

fn is_part(part: &[Sample], whole: &[Sample]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|sample| whole.any(|known| known == sample))
}

/// Opens the buffer on such a disk, checks that it works, and gives what of the samples is left.
fn left(disk: &Faulty, all: &[Sample]) -> (Vec<Sample>, Buffer) {
    let buffer = Buffer::on(Box::new(disk.clone()), options()).unwrap();
    let left = match buffer.find("W1") {
        Some(_) => archived(&buffer, "W1", i64::MIN, i64::MAX),
        None => Vec::new(),
    };
    assert!(is_part(&left, all), "invented or changed");
    let series = buffer.series("W1", Kind::Unsigned16);
    assert_eq!(
        series.latest().as_ref(),
        left.last(),
        "the latest is what is left of them"
    );
    let next = int(all.last().unwrap().timestamp + 1, 5);
    series.record(next.clone()).unwrap();
    buffer.flush().unwrap();
    assert_eq!(archived(&buffer, "W1", next.timestamp, i64::MAX), [next]);
    (left, buffer)
}

#[test]
fn a_segment_that_is_cut_off_anywhere_gives_what_is_before() {
    let (disk, samples) = recorded();
    let contents = disk.contents();
    let segments: Vec<_> = contents
        .keys()
        .filter(|name| name.ends_with(".segment"))
        .collect();
    assert!(segments.len() > 2, "{segments:?}");
    for name in segments {
        let mut before = 0;
        for length in 0..contents[name].len() {
            let mut contents = contents.clone();
            contents.get_mut(name).unwrap().truncate(length);
            let (left, _) = left(&Faulty::with(contents), &samples);
            assert!(left.len() >= before, "{name} cut at {length}");
            before = left.len();
        }
    }
}

#[test]
fn a_byte_that_is_changed_anywhere_costs_a_frame_and_its_bytes_are_set_aside() {
    let (disk, samples) = recorded();
    let contents = disk.contents();
    let last = contents
        .keys()
        .rfind(|name| name.ends_with(".segment"))
        .unwrap();
    for (name, bytes) in contents
        .iter()
        .filter(|(name, _)| name.ends_with(".segment"))
    {
        for at in 0..bytes.len() {
            let mut contents = contents.clone();
            contents.get_mut(name).unwrap()[at] ^= 0x10;
            let disk = Faulty::with(contents);
            let (left, buffer) = left(&disk, &samples);
            // The names of a segment stand once at its start, and again in its index if it has one.
            let is_names = at < 150;
            let lost = samples.len() - left.len();
            assert!(
                lost <= 20 || is_names && name == last,
                "{name} at {at}: {lost} lost"
            );
            let report = buffer.report();
            let figures = buffer.statistics();
            assert!(
                lost == 0
                    || report.quarantined_bytes + report.nameless_samples + report.truncated_bytes
                        > 0
                    || figures.damaged_bytes > 0,
                "{name} at {at}: {lost} lost and nobody knows"
            );
            if figures.damaged_bytes > 0 {
                let set_aside = disk
                    .contents()
                    .into_keys()
                    .any(|name| name.ends_with(".damaged"));
                assert!(set_aside, "{name} at {at}");
            }
        }
    }
}

#[test]
fn a_cursor_that_is_changed_anywhere_loses_nothing() {
    let (disk, samples) = recorded();
    {
        let buffer = Buffer::on(Box::new(disk.clone()), options()).unwrap();
        for _ in 0..4 {
            let out = super::upload(&buffer, 400).unwrap();
            buffer.acknowledge(out.token);
        }
    }
    let contents = disk.contents();
    for at in 0..contents["cursor"].len() {
        let mut contents = contents.clone();
        contents.get_mut("cursor").unwrap()[at] ^= 0x10;
        let (left, buffer) = left(&Faulty::with(contents), &samples);
        assert_eq!(left.len(), samples.len());
        assert!(buffer.statistics().pending > 100);
    }
}
