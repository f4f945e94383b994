// SPDX-License-Identifier: GPL-2.0
//! What operators set, for all VMs and for one.
//!
//! Read in atomic context: one relaxed load per policy, one per number.  A policy's three knobs are
//! one word, so that no pass sees half of a change.

use core::fmt;
use gvahint_core::policy::{Policy, PolicyCell, TunablesCell};

/// Which of the two notifiers.
#[derive(Clone, Copy)]
pub(crate) enum Which {
    /// page_idle, DAMON, MGLRU.
    ClearYoung,
    /// Classic reclaim.
    ClearFlushYoung,
}

impl Which {
    /// The policy that holds at load.
    const fn default(self) -> Policy {
        match self {
            Which::ClearYoung => Policy::CLEAR_YOUNG,
            Which::ClearFlushYoung => Policy::CLEAR_FLUSH_YOUNG,
        }
    }
}

static CLEAR_YOUNG: PolicyCell = PolicyCell::new(Which::ClearYoung.default());
static CLEAR_FLUSH_YOUNG: PolicyCell = PolicyCell::new(Which::ClearFlushYoung.default());

/// The parameters that are no policy.
pub(crate) static TUNABLES: TunablesCell = TunablesCell::new();

/// The policy of VMs that don't override it; everything is set.
pub(crate) fn global(which: Which) -> &'static PolicyCell {
    match which {
        Which::ClearYoung => &CLEAR_YOUNG,
        Which::ClearFlushYoung => &CLEAR_FLUSH_YOUNG,
    }
}

/// What holds for VMs that override nothing.
pub(crate) fn policy(which: Which) -> Policy {
    global(which).load().over(which.default())
}

/// What one VM overrides.
pub(crate) struct Overrides {
    clear_young: PolicyCell,
    clear_flush_young: PolicyCell,
}

impl Overrides {
    /// Nothing.
    pub(crate) const fn none() -> Self {
        Self {
            clear_young: PolicyCell::inherit(),
            clear_flush_young: PolicyCell::inherit(),
        }
    }

    /// The overrides for one notifier.
    pub(crate) fn of(&self, which: Which) -> &PolicyCell {
        match which {
            Which::ClearYoung => &self.clear_young,
            Which::ClearFlushYoung => &self.clear_flush_young,
        }
    }

    /// What holds for this VM now.
    pub(crate) fn policy(&self, which: Which) -> Policy {
        self.of(which).load().over(policy(which))
    }
}

/// The global policies in one line.
pub(crate) struct Summary;

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (separator, name, which) in [
            ("", "clear_flush_young", Which::ClearFlushYoung),
            (", ", "clear_young", Which::ClearYoung),
        ] {
            let Policy {
                flush,
                uncovered,
                timing,
            } = policy(which);
            let (flush, uncovered, timing) = (flush.name(), uncovered.name(), timing.name());
            write!(f, "{separator}{name} {flush} {uncovered} {timing}")?;
        }
        Ok(())
    }
}
