//! The two clocks of a device.
//!
//! Intervals are measured on the monotonic clock, as nanoseconds since the process first asked.
//! Wall time is only for stamping samples. Asking the system for both on every read costs more than
//! storing the value, so the difference between the two is measured again only every [`REFRESH`]: a
//! step of the wall clock is noticed at most that late.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a measured difference between the two clocks is used.
const REFRESH: Duration = Duration::from_millis(10);

static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::new);

struct Clock {
    origin: Instant,
    /// Wall time minus monotonic time, in microseconds.
    difference: AtomicI64,
    /// Monotonic nanoseconds of the last measurement.
    measured: AtomicU64,
}

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Nanoseconds on the monotonic clock.
    pub monotonic: u64,
    /// Milliseconds since the epoch.
    pub wall: i64,
}

impl Clock {
    fn new() -> Self {
        let clock = Clock {
            origin: Instant::now(),
            difference: AtomicI64::new(0),
            measured: AtomicU64::new(0),
        };
        clock.measure(0);
        clock
    }

    fn measure(&self, monotonic: u64) {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let wall = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
        self.difference
            .store(wall.saturating_sub(micros(monotonic)), Ordering::Relaxed);
        self.measured.store(monotonic, Ordering::Relaxed);
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
        CLOCK.measure(monotonic);
    }
    let micros = micros(monotonic).saturating_add(CLOCK.difference.load(Ordering::Relaxed));
    Moment {
        monotonic,
        wall: micros.div_euclid(1_000),
    }
}

/// A duration in nanoseconds; centuries are cut off.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
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
    fn the_monotonic_side_never_runs_backwards() {
        let readings: Vec<u64> = (0..1_000).map(|_| now().monotonic).collect();
        assert!(readings.is_sorted());
    }
}
