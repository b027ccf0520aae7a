//! The clock before it is right.
//!
//! A gateway without a battery for its clock boots at some time in the past, or at a wrong one, and
//! is right once it has asked a time server: then the wall clock *steps*. Until the first step after
//! a boot each frame notes the boot and how far the wall clock was ahead of the time since then.
//! The step says how far it really is, and that is remembered in the cursor; from then on the stamps
//! that the clock gave in such frames are read as moved by the difference. Stamps of the user's are
//! left alone, and so is everything after the first step.

use std::sync::atomic::Ordering;

use super::frame::Boot;
use super::log::Log;
use super::{Event, Shared};
use crate::clock::Moment;

impl Shared {
    /// What a frame notes about the clock. Slewing moves the offset over time, so it is measured
    /// anew; after a step it is that from before.
    pub(super) fn unset_clock(&self) -> Option<Boot> {
        let mut state = self.clock_state.lock();
        if !state.is_set && self.clock.now().steps == state.steps {
            state.boot = self.clock.boot();
        }
        state.unset()
    }

    /// Notices that the wall clock was set. Returns the moment at which to stamp.
    pub(super) fn look_at_clock(&self, moment: Moment) -> Moment {
        if self.clock_steps.load(Ordering::Acquire) == moment.steps {
            return moment;
        }
        let mut log = self.log.lock();
        let now = self.clock.now();
        if self.clock_steps.load(Ordering::Acquire) != now.steps {
            self.take_step(&mut log, now.steps);
            self.clock_steps.store(now.steps, Ordering::Release);
        }
        now
    }

    /// The wall clock was set. The first time in a boot, the stamps that it gave before move along.
    fn take_step(&self, log: &mut Log, steps: u32) {
        self.seal_into(log);
        let (before, now) = {
            let mut state = self.clock_state.lock();
            let before = state.unset();
            state.boot = self.clock.boot();
            state.is_set = true;
            state.steps = steps;
            (before, state.boot)
        };
        let (Some(before), Some(now)) = (before, now) else {
            return;
        };
        log.boots.set(now.id, now.offset);
        log.changes.other = true;
        let shift = now.offset.saturating_sub(before.offset);
        for series in self.names.all() {
            series.data.lock().shift(shift);
        }
        self.tell(Event::ClockSet(shift));
    }
}
