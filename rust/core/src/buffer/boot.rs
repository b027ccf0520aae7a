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
use crate::clock::{self, Moment};

/// Where the time comes from; the tests have their own.
pub(crate) trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Moment;
    /// The present boot, and how far the wall clock is ahead of it; `None` if nobody can tell.
    fn boot(&self) -> Option<Boot>;
}

/// How many boots are remembered.
const MOST: usize = 64;

/// How far the clock turned out to be ahead of the last boots in which it was set, the oldest
/// first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Boots(Vec<(u32, i64)>);

impl Boots {
    /// What is known about a boot, in ms.
    pub fn offset(&self, id: u32) -> Option<i64> {
        let found = self.0.iter().find(|(known, _)| *known == id);
        found.map(|(_, offset)| *offset)
    }

    /// Remembers a boot.
    pub fn set(&mut self, id: u32, offset: i64) {
        self.0.retain(|(known, _)| *known != id);
        self.0.push((id, offset));
        let surplus = self.0.len().saturating_sub(MOST);
        self.0.drain(..surplus);
    }

    /// Ids and offsets.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u32, i64)> {
        self.0.iter().copied()
    }
}

/// The clocks of the system.
pub(crate) struct System;

impl Clock for System {
    fn now(&self) -> Moment {
        clock::now()
    }

    fn boot(&self) -> Option<Boot> {
        Some(Boot {
            id: clock::boot_id()?,
            offset: clock::ahead_of_boot(),
        })
    }
}

/// What is known about the wall clock.
pub(super) struct State {
    /// As of before the last step.
    boot: Option<Boot>,
    /// It was set since the machine booted, or nobody can tell.
    is_set: bool,
    /// How many steps were taken account of.
    steps: u32,
}

impl State {
    pub fn new(clock: &dyn Clock) -> Self {
        let boot = clock.boot();
        State {
            is_set: boot.is_none(),
            boot,
            steps: clock.now().steps,
        }
    }

    /// Takes over what an earlier process has seen in this boot.
    pub fn recall(&mut self, log: &Log) {
        let id = self.boot.map(|boot| boot.id);
        self.is_set |= id.is_some_and(|id| log.boots.offset(id).is_some());
    }

    fn unset(&self) -> Option<Boot> {
        if self.is_set { None } else { self.boot }
    }
}

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
