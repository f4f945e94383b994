// SPDX-License-Identifier: GPL-2.0
//! What the reporter's thread shares with sysfs: settings, statistics, where it stands.

use core::sync::atomic::{AtomicU64, AtomicU8, Ordering};
use gvahint_core::reporter::canary::Verdict;
use gvahint_core::reporter::state::State;
use gvahint_core::reporter::stats::Stats;
use kernel::prelude::*;

/// A number that operators set.
pub(crate) struct Setting {
    value: AtomicU64,
    min: u64,
    max: u64,
}

impl Setting {
    const fn new(value: u64, min: u64, max: u64) -> Self {
        Self {
            value: AtomicU64::new(value),
            min,
            max,
        }
    }

    /// The number.
    pub(crate) fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }

    /// Changes it, unless that is out of range.
    pub(crate) fn set(&self, value: u64) -> Result {
        if !(self.min..=self.max).contains(&value) {
            return Err(EINVAL);
        }
        self.value.store(value, Ordering::Relaxed);
        Ok(())
    }
}

/// What operators set.
pub(crate) struct Settings {
    /// 0: the host is not told anything.
    pub(crate) enabled: Setting,
    /// Rate of the sweep: 1 GiB in 4 seconds.
    pub(crate) pages_per_second: Setting,
    /// Between two rounds of the thread.
    pub(crate) min_poll_ms: Setting,
    /// The same, while the host wants nothing; at most what the host asks for.
    pub(crate) max_poll_ms: Setting,
    /// Between two canaries; 0: none.
    pub(crate) canary_ms: Setting,
}

/// All of it.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) stats: Stats,
    state: AtomicU8,
    canary: AtomicU8,
}

impl Shared {
    /// Before anything happened.
    pub(crate) const fn new() -> Self {
        Self {
            settings: Settings {
                enabled: Setting::new(1, 0, 1),
                pages_per_second: Setting::new(65_536, 256, 1 << 30),
                min_poll_ms: Setting::new(10, 1, 1_000),
                max_poll_ms: Setting::new(2_000, 1, 60_000),
                canary_ms: Setting::new(60_000, 0, 3_600_000),
            },
            stats: Stats::new(),
            state: AtomicU8::new(State::Dormant.to_u8()),
            canary: AtomicU8::new(Verdict::Untried.to_u8()),
        }
    }

    /// Where the reporter stands.
    pub(crate) fn state(&self) -> Option<State> {
        State::from_u8(self.state.load(Ordering::Relaxed))
    }

    /// What the canaries of its session have told.
    pub(crate) fn canary(&self) -> Option<Verdict> {
        Verdict::from_u8(self.canary.load(Ordering::Relaxed))
    }

    /// For the thread, after each round.
    pub(crate) fn show(&self, state: State, canary: Verdict) {
        self.state.store(state.to_u8(), Ordering::Relaxed);
        self.canary.store(canary.to_u8(), Ordering::Relaxed);
    }
}
