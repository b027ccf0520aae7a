//! The buffer against a model of it, on a disk that fails in every way that disks do.
//!
//! The model knows what was recorded, what was reported durable, and what the server has and is
//! durably acknowledged. Whatever happens: no durable sample is lost, none is invented or changed,
//! and none is sent after its durable acknowledgement. Within a pathpoint new samples reach the
//! server in order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::faulty::Faulty;
use super::{Said, contents, upload};
use crate::buffer::block::tests::reading;
use crate::buffer::{Buffer, Level, Options, Policy, Refusal, Upload};
use crate::pathpoint::Kind;
use crate::value::{Reading, Sample};

const NAMES: [&str; 5] = ["W1", "w2", "d3", "u4", "W5"];

#[derive(Clone, Debug)]
enum Step {
    Record(usize, Vec<Reading>),
    Flush,
    Upload(usize),
    Acknowledge,
    NotDelivered,
    Reject,
    ChangeLevel(usize),
    Fail(usize),
    Fill(usize),
    Close,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let which = || 0..NAMES.len();
    prop_oneof![
        8 => (which(), prop::collection::vec(reading(), 1..12)).prop_map(|(which, readings)| Step::Record(which, readings)),
        4 => Just(Step::Flush),
        4 => (20..900usize).prop_map(Step::Upload),
        4 => Just(Step::Acknowledge),
        1 => Just(Step::NotDelivered),
        1 => Just(Step::Reject),
        1 => which().prop_map(Step::ChangeLevel),
        1 => prop_oneof![Just(0), 2..20usize].prop_map(Step::Fail),
        1 => prop_oneof![Just(usize::MAX), 0..4_000usize].prop_map(Step::Fill),
        1 => Just(Step::Close),
        2 => Just(Step::Crash),
    ]
}

/// For what samples are given up.
#[derive(Clone, Copy, Debug)]
enum Retention {
    None,
    Age,
    Bytes,
}

struct Model {
    disk: Faulty,
    options: Options,
    buffer: Buffer,
    /// What is recorded and not known to be lost, by name.
    kept: BTreeMap<&'static str, Vec<Sample>>,
    /// What was given up for space.
    given_up: BTreeMap<&'static str, Vec<Sample>>,
    /// Timestamps of those that are durable.
    durable: BTreeMap<&'static str, BTreeSet<i64>>,
    retention: Retention,
    /// Whether the disk was full.
    was_full: bool,
    /// How many samples that the server lacks were given up since the start.
    dropped: u64,
    /// What the server has, or was set aside.
    arrived: BTreeSet<Said>,
    acknowledged: BTreeSet<Said>,
    /// Acknowledged since the start, which may not be durable yet.
    claimed: BTreeSet<Said>,
    /// The newest sample of each pathpoint that has arrived.
    newest: BTreeMap<String, i64>,
    out: Option<Upload>,
    now: i64,
}

impl Model {
    fn new(seed: u64, policy: Policy, retention: Retention) -> Self {
        let disk = Faulty::new(seed);
        let options = Options {
            segment_bytes: 600,
            policy,
            trend_for: match retention {
                // The stamps are years old.
                Retention::Age => Duration::from_secs(14 * 24 * 3600),
                _ => Duration::MAX,
            },
            max_bytes: match retention {
                Retention::Bytes => 4_000,
                _ => u64::MAX,
            },
            ..Options::default()
        };
        let buffer = Buffer::on(Box::new(disk.clone()), options.clone()).unwrap();
        Model {
            disk,
            options,
            buffer,
            kept: NAMES.map(|name| (name, Vec::new())).into(),
            given_up: NAMES.map(|name| (name, Vec::new())).into(),
            durable: NAMES.map(|name| (name, BTreeSet::new())).into(),
            retention,
            was_full: false,
            dropped: 0,
            arrived: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            claimed: BTreeSet::new(),
            newest: BTreeMap::new(),
            out: None,
            now: 1_700_000_000_000,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Record(which, readings) => self.record(NAMES[which], readings),
            Step::Flush => self.flush(),
            Step::Upload(bytes) => self.upload(bytes),
            Step::Acknowledge => self.answer(|buffer, out| buffer.acknowledge(out.token)),
            Step::NotDelivered => {
                if let Some(out) = &self.out {
                    assert!(self.buffer.refuse(out.token, Refusal::NotDelivered));
                }
            }
            Step::Reject => match &self.out {
                Some(out) if out.is_last_try => {
                    self.answer(|buffer, out| buffer.set_aside(out.token));
                }
                Some(out) => {
                    assert!(self.buffer.refuse(out.token, Refusal::Rejected));
                    self.out = None;
                }
                None => {}
            },
            Step::ChangeLevel(which) => {
                let series = self.series(NAMES[which]);
                let other = match series.level() {
                    Level::Permanent => Level::Trend,
                    Level::Trend => Level::Permanent,
                };
                series.set_level(other);
            }
            Step::Fail(one_of) => self.disk.0.lock().fails_one_of = one_of,
            Step::Fill(capacity) => {
                self.was_full |= capacity < usize::MAX;
                self.disk.0.lock().capacity = capacity;
            }
            Step::Close => {
                if self.buffer.close().is_ok() {
                    self.all_durable();
                }
                self.reopen(false);
            }
            Step::Crash => self.reopen(true),
        }
    }

    fn series(&self, name: &str) -> std::sync::Arc<crate::buffer::Series> {
        self.buffer.series(name, Kind::of_name(name).unwrap())
    }

    fn record(&mut self, name: &'static str, readings: Vec<Reading>) {
        let series = self.series(name);
        for reading in readings {
            self.now += 1 + self.now % 7;
            let sample = Sample {
                timestamp: self.now,
                reading,
            };
            series.record(sample.clone()).unwrap();
            self.kept.get_mut(name).unwrap().push(sample);
        }
    }

    fn flush(&mut self) {
        if self.buffer.flush().is_ok() {
            self.acknowledged.append(&mut self.claimed);
            self.all_durable();
        }
    }

    fn all_durable(&mut self) {
        for (name, samples) in &self.kept {
            let timestamps = samples.iter().map(|sample| sample.timestamp);
            self.durable.insert(name, timestamps.collect());
        }
    }

    fn upload(&mut self, bytes: usize) {
        let next = upload(&self.buffer, bytes);
        if let (Some(before), Some(now)) = (&self.out, &next) {
            assert_eq!(before.body, now.body);
        }
        if let Some(out) = &next {
            for said in contents(&out.body) {
                assert!(!self.acknowledged.contains(&said), "sent again: {said:?}");
                let newest = self.newest.entry(said.0.clone()).or_insert(i64::MIN);
                assert!(
                    said.1 > *newest || self.arrived.contains(&said),
                    "out of order: {said:?}, after {newest}"
                );
            }
        }
        self.out = next;
    }

    fn answer(&mut self, answer: impl Fn(&Buffer, &Upload) -> bool) {
        let Some(out) = self.out.take() else { return };
        assert!(answer(&self.buffer, &out));
        let said = contents(&out.body);
        for (name, timestamp, _) in &said {
            let newest = self.newest.entry(name.clone()).or_insert(*timestamp);
            *newest = (*newest).max(*timestamp);
        }
        self.arrived.extend(said.clone());
        self.claimed.extend(said);
        // The acknowledgement may have failed to become durable; then this says so too.
        self.flush();
    }

    fn archived(&self, name: &str) -> Vec<Sample> {
        let series = self.series(name);
        let archive = self.buffer.archive(&series, i64::MIN, i64::MAX);
        archive.flatten().collect()
    }

    fn check(&mut self) {
        for name in NAMES {
            let found = self.archived(name);
            self.take_note(name, found);
        }
    }

    /// Whether what was kept of a pathpoint is there. What the server has may have been given up
    /// for space if there was none.
    fn take_note(&mut self, name: &'static str, found: Vec<Sample>) {
        let kept = &self.kept[name];
        // A crash may undo that something was given up.
        let mut known = [kept.as_slice(), &self.given_up[name]].concat();
        known.sort_by_key(|sample| sample.timestamp);
        assert!(is_part(&found, &known), "{name}: invented or changed");
        let there: BTreeSet<i64> = found.iter().map(|sample| sample.timestamp).collect();
        let arrived = self.arrived.iter().filter(|(path, ..)| path == name);
        let arrived: BTreeSet<i64> = arrived.map(|(_, timestamp, _)| *timestamp).collect();
        for sample in kept {
            let is_here = there.contains(&sample.timestamp);
            let has_arrived = arrived.contains(&sample.timestamp);
            let is_spared = match self.retention {
                Retention::Bytes => true,
                Retention::Age => has_arrived,
                Retention::None => self.was_full && has_arrived,
            };
            assert!(is_here || is_spared, "{name}: lost {sample:?}");
            self.dropped += u64::from(!is_here && !has_arrived);
        }
        assert!(self.dropped <= self.buffer.statistics().dropped);
        known.retain(|sample| !there.contains(&sample.timestamp));
        self.given_up.insert(name, known);
        let durable = &self.durable[name];
        self.durable.insert(name, durable & &there);
        self.kept.insert(name, found);
    }

    /// Starts anew, after a crash or not, and looks what is there.
    fn reopen(&mut self, crash: bool) {
        self.disk.0.lock().is_broken = true;
        // The old buffer is not asked any more; dropping it must not mend anything.
        let unused = Buffer::new(1);
        drop(std::mem::replace(&mut self.buffer, unused));
        {
            let mut disk = self.disk.0.lock();
            disk.is_broken = false;
            disk.fails_one_of = 0;
            disk.capacity = usize::MAX;
        }
        if crash {
            self.disk.crash();
        }
        self.out = None;
        self.claimed.clear();
        self.dropped = 0;
        self.buffer = Buffer::on(Box::new(self.disk.clone()), self.options.clone()).unwrap();
        for name in NAMES {
            let found = self.archived(name);
            let there: BTreeSet<i64> = found.iter().map(|sample| sample.timestamp).collect();
            // What was not durable may be lost, and only that.
            let durable = &self.durable[name];
            let kept = self.kept.get_mut(name).unwrap();
            kept.retain(|sample| {
                there.contains(&sample.timestamp) || durable.contains(&sample.timestamp)
            });
            let latest = self.buffer.find(name).and_then(|series| series.latest());
            let last: Vec<_> = found.last().cloned().into_iter().collect();
            assert!(same(latest.as_slice(), &last));
            self.take_note(name, found);
            self.durable.insert(name, there);
        }
        let figures = self.buffer.statistics();
        let waiting: usize = self.kept.values().map(Vec::len).sum();
        assert!(figures.pending <= waiting as u64);
        assert_eq!(figures.kept, waiting as u64);
    }

    /// All that is kept reaches the server in the end.
    fn drain(&mut self) {
        {
            let mut disk = self.disk.0.lock();
            disk.fails_one_of = 0;
            disk.capacity = usize::MAX;
        }
        for _ in 0..10_000 {
            self.upload(400);
            if self.out.is_none() {
                break;
            }
            self.answer(|buffer, out| buffer.acknowledge(out.token));
        }
        assert_eq!(self.buffer.statistics().pending, 0);
        self.check();
        for (name, kept) in &self.kept {
            let arrived = self.arrived.iter().filter(|(path, ..)| path == name);
            let arrived: BTreeSet<i64> = arrived.map(|(_, timestamp, _)| *timestamp).collect();
            for sample in kept {
                assert!(arrived.contains(&sample.timestamp), "{name}: not sent");
            }
        }
    }
}

/// Whether these are the same, floats bit for bit.
fn same(a: &[Sample], b: &[Sample]) -> bool {
    // The text of a float tells all floats apart that the wire does.
    format!("{a:?}") == format!("{b:?}")
}

/// Whether `part` is `whole` with some left out.
fn is_part(part: &[Sample], whole: &[Sample]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|sample| {
        whole.any(|known| same(std::slice::from_ref(known), std::slice::from_ref(sample)))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::buffer::tests::cases(400)))]

    #[test]
    fn nothing_durable_is_lost_and_nothing_acknowledged_is_sent_again(
        seed: u64,
        fresh_first: bool,
        retention in prop::sample::select(&[Retention::None, Retention::Age, Retention::Bytes][..]),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let policy = if fresh_first { Policy::FreshFirst } else { Policy::OldestFirst };
        let mut model = Model::new(seed, policy, retention);
        for step in steps {
            model.take(step);
            model.check();
        }
        model.reopen(true);
        model.drain();
    }
}
