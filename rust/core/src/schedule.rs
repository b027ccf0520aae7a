//! The archive schedule: which pathpoints are to be read when.
//!
//! Each pathpoint has its own interval, from 10 ms to days, on the monotonic clock. A pathpoint is
//! due when it is added, and then at multiples of its interval after the first list came, so that
//! pathpoints with the same interval are read together whenever they were added; what was missed
//! while nobody asked is skipped, not made up for. Two things put a read off: a poll that has not
//! ended yet (a dead slave must not pile up polls), and a sample that came from elsewhere less than
//! three quarters of an interval ago (an order, or the user, has read it recently enough): then the
//! next read is an interval after that sample, and the one after it in the common rhythm again.
//!
//! The schedule knows series, not Python objects, and holds its lock for no longer than it takes to
//! look at a heap.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::buffer::Series;
use crate::clock;

/// The shortest interval; a shorter one is lengthened to it.
pub const SHORTEST: Duration = Duration::from_millis(10);

/// The longest interval; a longer one is shortened to it, so that no sum of times can overflow.
pub const LONGEST: Duration = Duration::from_secs(366 * 86_400);

struct Entry<T> {
    series: Arc<Series>,
    item: T,
    interval: u64,
    /// Which of the heap's times for this pathpoint is the valid one.
    due: u64,
}

struct State<T> {
    entries: HashMap<Arc<str>, Entry<T>>,
    times: BinaryHeap<Reverse<(u64, Arc<str>)>>,
    /// What the multiples of all intervals are counted from.
    origin: Option<u64>,
    /// Polls that were due while the one before had not ended.
    overruns: u64,
    changed: bool,
    closed: bool,
}

/// See the module's comment. `T` is what the owner wants back for a pathpoint that is due.
pub struct Schedule<T> {
    state: Mutex<State<T>>,
    wakeup: Condvar,
}

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        Schedule {
            state: Mutex::new(State {
                entries: HashMap::new(),
                times: BinaryHeap::new(),
                origin: None,
                overruns: 0,
                changed: false,
                closed: false,
            }),
            wakeup: Condvar::new(),
        }
    }
}

impl<T: Clone> Schedule<T> {
    /// Replaces the whole list. A pathpoint that stays with the same interval keeps its rhythm, the
    /// others are due at once, which is `monotonic`.
    pub fn replace(
        &self,
        monotonic: u64,
        list: impl IntoIterator<Item = (Arc<Series>, Duration, T)>,
    ) {
        let mut state = self.state.lock();
        state.origin.get_or_insert(monotonic);
        let mut old = std::mem::take(&mut state.entries);
        for (series, interval, item) in list {
            let name = Arc::clone(series.name());
            let interval = clock::nanos(interval.clamp(SHORTEST, LONGEST));
            let due = match old.remove(&name) {
                Some(entry) if entry.interval == interval => entry.due,
                _ => monotonic,
            };
            state.entries.insert(
                name,
                Entry {
                    series,
                    item,
                    interval,
                    due,
                },
            );
        }
        state.times = state
            .entries
            .iter()
            .map(|(name, entry)| Reverse((entry.due, Arc::clone(name))))
            .collect();
        state.changed = true;
        drop(state);
        self.wakeup.notify_all();
    }

    /// Everything that is due at this moment; each is marked as being polled. To be read once each.
    pub fn due(&self, monotonic: u64) -> Vec<T> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let origin = state.origin.unwrap_or(monotonic);
        let mut due = Vec::new();
        while let Some(Reverse((time, _))) = state.times.peek()
            && *time <= monotonic
        {
            let Some(Reverse((time, name))) = state.times.pop() else {
                break;
            };
            let Some(entry) = state
                .entries
                .get_mut(&name)
                .filter(|entry| entry.due == time)
            else {
                continue;
            };
            match entry.check(monotonic, origin) {
                Verdict::Read => due.push(entry.item.clone()),
                Verdict::Overrun => state.overruns += 1,
                Verdict::Fresh => {}
            }
            state.times.push(Reverse((entry.due, name)));
        }
        due
    }

    /// Waits until something is due, the list changes, or the schedule is closed; at most this
    /// long.
    pub fn wait(&self, timeout: Duration) {
        let until = clock::monotonic().saturating_add(clock::nanos(timeout));
        let mut state = self.state.lock();
        while !state.closed && !state.changed {
            let next = state
                .times
                .peek()
                .map_or(until, |Reverse((time, _))| until.min(*time));
            let now = clock::monotonic();
            if next <= now {
                break;
            }
            self.wakeup
                .wait_for(&mut state, Duration::from_nanos(next - now));
        }
        state.changed = false;
    }

    /// Ends the present wait, and every later one.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.wakeup.notify_all();
    }

    /// How many pathpoints are scheduled.
    pub fn len(&self) -> usize {
        self.state.lock().entries.len()
    }

    /// Whether no pathpoint is scheduled.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many polls were put off because the one before had not ended.
    pub fn overruns(&self) -> u64 {
        self.state.lock().overruns
    }
}

enum Verdict {
    Read,
    Fresh,
    Overrun,
}

impl<T> Entry<T> {
    /// Decides about a pathpoint whose time has come, and sets its next time.
    fn check(&mut self, now: u64, origin: u64) -> Verdict {
        // For a quarter of the interval or less it is worth neither leaving the rhythm in which
        // pathpoints are read together, nor reading twice.
        let quarter = self.interval / 4;
        if let Some(recorded) = self.series.unpolled_at() {
            let again = recorded.saturating_add(self.interval);
            if again.saturating_sub(now) > quarter {
                self.due = again;
                return Verdict::Fresh;
            }
        }
        let earliest = now.saturating_add(quarter).saturating_sub(origin);
        let multiples = earliest.div_ceil(self.interval);
        self.due = origin.saturating_add(multiples.saturating_mul(self.interval));
        if self.series.begin_poll() {
            Verdict::Read
        } else {
            Verdict::Overrun
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Buffer;
    use crate::clock::Moment;
    use crate::pathpoint::Kind;
    use crate::value::{Reading, Value};

    const MS: u64 = 1_000_000;

    struct Bench {
        buffer: Buffer,
        schedule: Schedule<&'static str>,
    }

    /// Monotonic nanoseconds, this many milliseconds after the start of a test.
    fn at(ms: u64) -> u64 {
        (ms + 1) * MS
    }

    impl Bench {
        fn new(list: &[(&'static str, u64)]) -> Self {
            let bench = Bench {
                buffer: Buffer::new(1_000),
                schedule: Schedule::default(),
            };
            bench.replace(0, list);
            bench
        }

        fn replace(&self, ms: u64, list: &[(&'static str, u64)]) {
            let entries = list.iter().map(|&(name, ms)| {
                (
                    self.buffer.series(name, Kind::Unsigned16),
                    Duration::from_millis(ms),
                    name,
                )
            });
            self.schedule.replace(at(ms), entries);
        }

        fn due(&self, ms: u64) -> Vec<&'static str> {
            let mut due = self.schedule.due(at(ms));
            due.sort_unstable();
            due
        }

        fn record(&self, name: &str, ms: u64) {
            let moment = Moment {
                steps: crate::clock::now().steps,
                monotonic: at(ms),
                wall: i64::try_from(ms).unwrap(),
            };
            let series = self.buffer.find(name).unwrap();
            series.record_now(moment, Reading::Value(Value::Int(1)));
        }
    }

    #[test]
    fn everything_is_due_at_first_and_then_at_its_interval() {
        let bench = Bench::new(&[("W1", 1_000), ("W2", 60_000)]);
        assert_eq!(bench.due(0), ["W1", "W2"]);
        bench.record("W1", 1);
        bench.record("W2", 1);
        assert!(bench.due(10).is_empty());
        assert_eq!(bench.due(1_000), ["W1"]);
        bench.record("W1", 1_001);
        assert_eq!(bench.due(2_000), ["W1"]);
    }

    #[test]
    fn what_was_missed_is_skipped() {
        let bench = Bench::new(&[("W1", 1_000)]);
        assert_eq!(bench.due(0), ["W1"]);
        bench.record("W1", 0);
        assert_eq!(bench.due(10_000), ["W1"]);
        bench.record("W1", 10_000);
        assert!(bench.due(10_400).is_empty());
        assert_eq!(bench.due(11_000), ["W1"]);
    }

    #[test]
    fn a_poll_that_has_not_ended_is_not_repeated() {
        let bench = Bench::new(&[("W1", 100)]);
        assert_eq!(bench.due(0), ["W1"]);
        assert!(bench.due(100).is_empty());
        assert!(bench.due(200).is_empty());
        assert_eq!(bench.schedule.overruns(), 2);
        bench.buffer.find("W1").unwrap().end_poll();
        assert_eq!(bench.due(300), ["W1"]);
    }

    #[test]
    fn a_read_from_elsewhere_puts_the_poll_off() {
        let bench = Bench::new(&[("W1", 1_000)]);
        assert_eq!(bench.due(0), ["W1"]);
        bench.record("W1", 0);
        bench.record("W1", 900);
        assert!(bench.due(1_000).is_empty());
        assert!(bench.due(1_800).is_empty());
        assert_eq!(bench.due(1_900), ["W1"]);
    }

    #[test]
    fn a_read_from_elsewhere_costs_the_common_rhythm_one_read_only() {
        let bench = Bench::new(&[("W1", 1_000), ("W2", 1_000)]);
        let read = |ms| {
            let due = bench.due(ms);
            for name in &due {
                bench.record(name, ms);
            }
            due
        };
        assert_eq!(read(0), ["W1", "W2"]);
        bench.record("W1", 500);
        assert_eq!(read(1_000), ["W2"]);
        assert_eq!(read(1_500), ["W1"]);
        assert_eq!(read(2_000), ["W1", "W2"]);
        bench.record("W1", 2_900);
        assert_eq!(read(3_000), ["W2"]);
        assert_eq!(read(3_900), ["W1"]);
        assert_eq!(
            read(4_000),
            ["W2"],
            "a tenth of the interval later is too soon"
        );
        assert_eq!(read(5_000), ["W1", "W2"]);
    }

    #[test]
    fn a_poll_that_takes_long_does_not_put_the_next_one_off() {
        let bench = Bench::new(&[("W1", 1_000)]);
        for ms in [0, 1_000, 2_000] {
            assert_eq!(bench.due(ms), ["W1"]);
            bench.record("W1", ms + 400);
        }
    }

    #[test]
    fn a_new_list_keeps_the_rhythm_of_what_stays() {
        let bench = Bench::new(&[("W1", 1_000), ("W2", 1_000), ("W3", 1_000)]);
        assert_eq!(bench.due(0).len(), 3);
        for name in ["W1", "W2", "W3"] {
            bench.record(name, 0);
        }
        bench.replace(300, &[("W1", 1_000), ("W2", 200), ("W4", 1_000)]);
        assert_eq!(bench.schedule.len(), 3);
        assert_eq!(bench.due(300), ["W2", "W4"]);
        bench.record("W2", 300);
        bench.record("W4", 300);
        assert_eq!(bench.due(1_000), ["W1", "W2", "W4"]);
    }

    #[test]
    fn what_is_added_later_is_read_with_what_has_the_same_interval() {
        let bench = Bench::new(&[("W1", 1_000)]);
        assert_eq!(bench.due(0), ["W1"]);
        bench.record("W1", 0);
        bench.replace(900, &[("W1", 1_000), ("W2", 1_000)]);
        assert_eq!(bench.due(900), ["W2"]);
        bench.record("W2", 900);
        assert_eq!(bench.due(1_000), ["W1"], "it was read a moment ago");
        bench.record("W1", 1_000);
        assert_eq!(bench.due(2_000), ["W1", "W2"]);
    }

    #[test]
    fn closing_ends_every_wait() {
        let schedule: Schedule<u32> = Schedule::default();
        schedule.close();
        schedule.wait(Duration::from_secs(3_600));
    }

    #[test]
    fn waiting_ends_when_something_is_due() {
        let bench = Bench::new(&[("W1", 60_000)]);
        bench.schedule.wait(Duration::from_secs(3_600));
        bench.schedule.wait(Duration::from_secs(3_600));
        assert_eq!(bench.schedule.due(clock::monotonic().max(at(0))), ["W1"]);
    }
}
