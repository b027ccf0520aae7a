//! The clock that is wrong when the machine boots, and set later.

use std::sync::Arc;

use parking_lot::Mutex;

use super::faulty::Faulty;
use super::{archived, contents, int, upload};
use crate::buffer::boot::Clock;
use crate::buffer::frame::Boot;
use crate::buffer::{Buffer, Event, Options};
use crate::clock::Moment;
use crate::pathpoint::Kind;
use crate::value::{Reading, Sample, Value};

const PLENTY: usize = 1 << 20;

/// A machine that boots at this time, in ms since the epoch.
const BOOTED: i64 = 1_700_000_000_000;

#[derive(Clone)]
struct Machine(Arc<Mutex<Clocks>>);

#[derive(Clone, Copy)]
struct Clocks {
    boot: u32,
    /// Milliseconds since the boot.
    uptime: i64,
    /// How far the wall clock is off.
    off: i64,
    steps: u32,
}

impl Machine {
    fn new(off: i64) -> Self {
        let (boot, uptime, steps) = (1, 60_000, 0);
        Machine(Arc::new(Mutex::new(Clocks {
            boot,
            uptime,
            off,
            steps,
        })))
    }

    fn open(&self, disk: &Faulty) -> Buffer {
        let clock = Box::new(self.clone());
        Buffer::with(Box::new(disk.clone()), clock, Options::default()).unwrap()
    }

    fn pass(&self, milliseconds: i64) {
        self.0.lock().uptime += milliseconds;
    }

    /// The wall clock is off by this much from now on.
    fn set_clock(&self, off: i64) {
        let mut clocks = self.0.lock();
        clocks.off = off;
        clocks.steps += 1;
    }

    /// Reads a value a second later. Gives it with its true time.
    fn read(&self, buffer: &Buffer, value: i64) -> Sample {
        self.pass(1_000);
        let series = buffer.series("W1", Kind::Unsigned16);
        series.record_now(self.now(), Reading::Value(Value::Int(value)));
        int(BOOTED + self.0.lock().uptime, value)
    }
}

impl Clock for Machine {
    fn now(&self) -> Moment {
        let clocks = self.0.lock();
        Moment {
            monotonic: u64::try_from(clocks.uptime).unwrap() * 1_000_000,
            wall: BOOTED + clocks.uptime + clocks.off,
            steps: clocks.steps,
        }
    }

    fn boot(&self) -> Option<Boot> {
        let clocks = self.0.lock();
        Some(Boot {
            id: clocks.boot,
            offset: BOOTED + clocks.off,
        })
    }
}

fn everything(buffer: &Buffer) -> Vec<Sample> {
    archived(buffer, "W1", i64::MIN, i64::MAX)
}

fn latest(buffer: &Buffer) -> Sample {
    buffer.find("W1").unwrap().latest().unwrap()
}

fn said(samples: &[Sample]) -> Vec<(String, i64, String)> {
    let value = |sample: &Sample| match &sample.reading {
        Reading::Value(value) => value.to_string(),
        Reading::Failed(reason) => reason.code().to_owned(),
    };
    let samples = samples.iter();
    samples
        .map(|sample| ("W1".to_owned(), sample.timestamp, value(sample)))
        .collect()
}

#[test]
fn what_was_stamped_by_a_clock_that_was_behind_moves_once_it_is_set() {
    for off in [-400_000_000_000, 400_000_000_000] {
        let (machine, disk) = (Machine::new(off), Faulty::new(1));
        let buffer = machine.open(&disk);
        let mut truth: Vec<Sample> = (0..5).map(|value| machine.read(&buffer, value)).collect();
        assert_eq!(latest(&buffer).timestamp, truth[4].timestamp + off);
        buffer.flush().unwrap(); // some are on the disk, some are not
        truth.extend((5..8).map(|value| machine.read(&buffer, value)));
        machine.set_clock(0);
        truth.push(machine.read(&buffer, 8));
        assert_eq!(buffer.take_events(), [Event::ClockSet(-off)]);
        assert_eq!(everything(&buffer), truth);
        assert_eq!(latest(&buffer), truth[8]);
        assert_eq!(
            contents(&upload(&buffer, PLENTY).unwrap().body),
            said(&truth)
        );
    }
}

#[test]
fn stamps_move_in_later_processes_of_the_same_boot_and_of_later_ones() {
    let (machine, disk) = (Machine::new(-400_000_000_000), Faulty::new(1));
    let buffer = machine.open(&disk);
    let mut truth = vec![machine.read(&buffer, 1)];
    buffer.close().unwrap();
    let buffer = machine.open(&disk);
    truth.push(machine.read(&buffer, 2));
    machine.set_clock(0);
    truth.push(machine.read(&buffer, 3));
    buffer.close().unwrap();
    let buffer = machine.open(&disk);
    truth.push(machine.read(&buffer, 4));
    // The clock was set in this boot: whatever happens to it now moves nothing.
    machine.set_clock(-5_000);
    truth.push(Sample {
        timestamp: truth[3].timestamp + 1,
        ..machine.read(&buffer, 5)
    });
    assert_eq!(everything(&buffer), truth);
    buffer.close().unwrap();
    {
        let mut clocks = machine.0.lock();
        (clocks.boot, clocks.off) = (2, 0);
    }
    let buffer = machine.open(&disk);
    assert_eq!(latest(&buffer), truth[4]);
    assert_eq!(everything(&buffer), truth);
    assert_eq!(
        contents(&upload(&buffer, PLENTY).unwrap().body),
        said(&truth)
    );
}

#[test]
fn a_boot_in_which_the_clock_was_never_set_stays_as_it_was() {
    let (machine, disk) = (Machine::new(-400_000_000_000), Faulty::new(1));
    let buffer = machine.open(&disk);
    let before = machine.read(&buffer, 1);
    buffer.close().unwrap();
    machine.0.lock().boot = 2;
    let buffer = machine.open(&disk);
    let after = machine.read(&buffer, 2);
    machine.set_clock(0);
    let truth = [
        int(before.timestamp - 400_000_000_000, 1),
        after,
        machine.read(&buffer, 3),
    ];
    assert_eq!(everything(&buffer), truth);
}

#[test]
fn timestamps_of_the_users_are_left_alone() {
    let (machine, disk) = (Machine::new(-400_000_000_000), Faulty::new(1));
    let buffer = machine.open(&disk);
    let first = machine.read(&buffer, 1);
    let given = int(machine.now().wall + 7, 2);
    let series = buffer.find("W1").unwrap();
    series.record(given.clone()).unwrap();
    machine.set_clock(0);
    let last = machine.read(&buffer, 3);
    // In the order of recording.
    assert_eq!(everything(&buffer), [first, given, last]);
}

#[test]
fn what_is_acknowledged_before_the_clock_is_set_is_not_sent_again() {
    let (machine, disk) = (Machine::new(400_000_000_000), Faulty::new(1));
    let buffer = machine.open(&disk);
    machine.read(&buffer, 1);
    let out = upload(&buffer, PLENTY).unwrap();
    buffer.acknowledge(out.token);
    machine.set_clock(0);
    let truth = machine.read(&buffer, 2);
    let out = upload(&buffer, PLENTY).unwrap();
    assert_eq!(contents(&out.body), said(&[truth]));
    buffer.acknowledge(out.token);
    let buffer = machine.open(&disk);
    assert!(upload(&buffer, PLENTY).is_none());
}

#[test]
fn only_segments_that_may_have_samples_of_a_time_are_read_before_and_after_the_clock_is_set() {
    let off = -400_000_000_000;
    let (machine, disk) = (Machine::new(off), Faulty::new(1));
    let buffer = machine.open(&disk);
    let truth = machine.read(&buffer, 1);
    buffer.flush().unwrap();
    let may_have = |time: i64| {
        let log = buffer.shared.log.lock();
        let mut segments = log.segments.values();
        segments.any(|segment| segment.may_have(time - 1, time + 1, &log.boots))
    };
    let stamped = truth.timestamp + off;
    assert!(may_have(stamped) && !may_have(stamped + 10_000));
    machine.set_clock(0);
    machine.read(&buffer, 2);
    assert!(may_have(truth.timestamp) && !may_have(truth.timestamp + 10_000));
    // Timestamps of the user's may be there that do not move.
    assert!(may_have(stamped));
}

#[test]
fn the_last_boots_are_remembered_whatever_their_ids() {
    let mut boots = super::super::boot::Boots::default();
    for number in 0..100 {
        boots.set(1_000 - number, i64::from(number));
    }
    assert_eq!(boots.offset(1_000), None);
    assert_eq!(boots.offset(901), Some(99));
    assert_eq!(boots.iter().len(), 64);
}
