//! The two clocks of a device.
//!
//! Intervals are measured on the monotonic clock, as nanoseconds since the process first asked.
//! Wall time is only for stamping samples. Asking the system for both on every read costs more than
//! storing the value, so the difference between the two is measured again only every [`REFRESH`]: a
//! step of the wall clock is noticed at most that late, and counted.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a measured difference between the two clocks is used.
const REFRESH: Duration = Duration::from_millis(10);

/// How long one measurement may take: a thread that is put off in the middle of it would stamp
/// samples with a time that lies that far off.
const MEASURED_WITHIN: Duration = Duration::from_micros(200);

/// How often a measurement that took longer is repeated.
const MOST_MEASUREMENTS: u32 = 10;

/// From how many microseconds on the wall clock was set rather than slewed: time synchronisation
/// slews what is less than 128 ms off, or than a second.
const STEP: u64 = 1_000_000;

static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::new);

struct Clock {
    origin: Instant,
    /// Wall time minus monotonic time, in microseconds.
    difference: AtomicI64,
    /// Monotonic nanoseconds of the last measurement.
    measured: AtomicU64,
    steps: AtomicU32,
}

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Nanoseconds on the monotonic clock.
    pub monotonic: u64,
    /// Milliseconds since the epoch.
    pub wall: i64,
    /// How often the wall clock had been set since the process first asked.
    pub steps: u32,
}

impl Clock {
    fn new() -> Self {
        let clock = Clock {
            origin: Instant::now(),
            difference: AtomicI64::new(0),
            measured: AtomicU64::new(0),
            steps: AtomicU32::new(0),
        };
        clock.measure();
        clock.steps.store(0, Ordering::Relaxed);
        clock
    }

    fn measure(&self) {
        let (difference, measured) = difference(|| nanos(self.origin.elapsed()), system);
        let before = self.difference.swap(difference, Ordering::Relaxed);
        if difference.abs_diff(before) >= STEP {
            self.steps.fetch_add(1, Ordering::Release);
        }
        self.measured.store(measured, Ordering::Relaxed);
    }
}

/// Microseconds since the epoch, as the system has them.
fn system() -> i64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}

/// Wall microseconds minus monotonic ones, and the monotonic nanoseconds at which that held.
fn difference(monotonic: impl Fn() -> u64, wall: impl Fn() -> i64) -> (i64, u64) {
    let mut tries = 1;
    loop {
        let (before, wall, after) = (monotonic(), wall(), monotonic());
        if after.saturating_sub(before) <= nanos(MEASURED_WITHIN) || tries == MOST_MEASUREMENTS {
            return (wall.saturating_sub(micros(after)), after);
        }
        tries += 1;
    }
}

fn micros(nanos: u64) -> i64 {
    i64::try_from(nanos / 1_000).unwrap_or(i64::MAX)
}

/// Nanoseconds on the monotonic clock.
#[must_use]
pub fn monotonic() -> u64 {
    nanos(CLOCK.origin.elapsed())
}

/// The present moment.
#[must_use]
pub fn now() -> Moment {
    let monotonic = monotonic();
    if monotonic.saturating_sub(CLOCK.measured.load(Ordering::Relaxed)) >= nanos(REFRESH) {
        CLOCK.measure();
    }
    let steps = CLOCK.steps.load(Ordering::Acquire);
    let micros = micros(monotonic).saturating_add(CLOCK.difference.load(Ordering::Relaxed));
    Moment {
        monotonic,
        wall: micros.div_euclid(1_000),
        steps,
    }
}

/// By how many milliseconds the wall clock is ahead of the time since the machine booted.
#[must_use]
pub fn ahead_of_boot() -> i64 {
    let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let since_boot = since_boot.tv_sec * 1_000 + since_boot.tv_nsec / 1_000_000;
    system() / 1_000 - since_boot
}

/// What tells this boot of the machine from others; `None` where the kernel does not say.
#[must_use]
pub fn boot_id() -> Option<u32> {
    let id = std::fs::read("/proc/sys/kernel/random/boot_id").ok()?;
    Some(crc32fast::hash(&id))
}

/// A duration in nanoseconds; centuries are cut off.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_wall_side_agrees_with_the_system() {
        let system = || {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            i64::try_from(since_epoch.as_millis()).unwrap()
        };
        let (before, between, after) = (system(), now().wall, system());
        assert!(
            before - 11 <= between && between <= after + 11,
            "{before} {between} {after}"
        );
    }

    #[test]
    fn a_thread_that_is_put_off_in_the_middle_of_measuring_does_not_spoil_the_wall_side() {
        let monotonic = Cell::new(0);
        let calls = Cell::new(0);
        let wall = || {
            calls.set(calls.get() + 1);
            let wall = 1_000_000 + i64::try_from(monotonic.get() / 1_000).unwrap();
            let put_off = if calls.get() == 1 {
                3_000_000_000
            } else {
                1_000
            };
            monotonic.set(monotonic.get() + put_off);
            wall
        };
        let (difference, measured) = difference(|| monotonic.get(), wall);
        assert_eq!((difference, measured), (999_999, 3_000_001_000));
    }

    #[test]
    fn the_monotonic_side_never_runs_backwards() {
        let readings: Vec<u64> = (0..1_000).map(|_| now().monotonic).collect();
        assert!(readings.is_sorted());
    }
}
