//! What is known about the wall clock in this boot of the machine and in those before.

use super::frame::Boot;
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
    pub boot: Option<Boot>,
    /// It was set since the machine booted, or nobody can tell.
    pub is_set: bool,
    /// How many steps were taken account of.
    pub steps: u32,
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
    pub fn recall(&mut self, boots: &Boots) {
        let id = self.boot.map(|boot| boot.id);
        self.is_set |= id.is_some_and(|id| boots.offset(id).is_some());
    }

    /// The boot, unless the clock was set in it.
    pub fn unset(&self) -> Option<Boot> {
        if self.is_set { None } else { self.boot }
    }
}
