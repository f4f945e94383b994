// SPDX-License-Identifier: GPL-2.0

//! What an operator can choose.
//!
//! Values are small and `Copy`; the cells beside them hold one for readers in
//! atomic context, which must not wait for whoever writes sysfs.

use crate::sync::{AtomicU32, Ordering};

pub use crate::tunables::{OutOfRange, Tunable, Tunables, TunablesCell};

named_enum! {
    /// What is dropped for the pages that a notifier call aged.
    pub enum Flush {
        /// What an unpatched KVM does.
        Default = 0 => "default",
        /// Nothing.
        None = 1 => "none",
        /// The gVAs that the guest reported.
        Hint = 2 => "hint",
        /// Each vCPU's whole VPID context.
        Context = 3 => "context",
        /// Everything that hangs on the VM's EPT.
        Invept = 4 => "invept",
    }
}

named_enum! {
    /// What [`Flush::Hint`] does for a page without a complete hint.
    pub enum Uncovered {
        /// One FULL entry per notifier call.
        Full = 0 => "full",
        /// Nothing; such a page may look idle.
        None = 1 => "none",
    }
}

named_enum! {
    /// When vCPUs are made to drain the log.
    pub enum Timing {
        /// They are kicked at the end of each notifier call.
        Now = 0 => "now",
        /// They are kicked once per `batch_pages` aged pages.
        Batched = 1 => "batched",
        /// They drain at their next VM entry.
        Deferred = 2 => "deferred",
    }
}

named_enum! {
    /// When the gVA in a linear range (the guest's direct map) is dropped too.
    pub enum LinearAlias {
        /// Only for pages that have no other gVA.
        Auto = 0 => "auto",
        /// For every page, in addition to its other gVAs.
        Always = 1 => "always",
        /// Never; pages without another gVA are uncovered.
        Never = 2 => "never",
    }
}

/// The three knobs of one notifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What is dropped.
    pub flush: Flush,
    /// What happens without a hint.
    pub uncovered: Uncovered,
    /// When it is dropped.
    pub timing: Timing,
}

impl Policy {
    /// Default of `clear_flush_young`.
    pub const CLEAR_FLUSH_YOUNG: Self = Self {
        flush: Flush::Hint,
        uncovered: Uncovered::Full,
        timing: Timing::Batched,
    };
    /// Default of `clear_young`.
    pub const CLEAR_YOUNG: Self = Self {
        flush: Flush::Hint,
        uncovered: Uncovered::Full,
        timing: Timing::Deferred,
    };
}

/// The knobs that a VM sets for itself; `None` inherits the global one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Override {
    /// What is dropped.
    pub flush: Option<Flush>,
    /// What happens without a hint.
    pub uncovered: Option<Uncovered>,
    /// When it is dropped.
    pub timing: Option<Timing>,
}

impl Override {
    /// Everything inherited.
    pub const INHERIT: Self = Self {
        flush: None,
        uncovered: None,
        timing: None,
    };

    /// What holds for the VM when `global` holds for all.
    pub fn over(self, global: Policy) -> Policy {
        Policy {
            flush: self.flush.unwrap_or(global.flush),
            uncovered: self.uncovered.unwrap_or(global.uncovered),
            timing: self.timing.unwrap_or(global.timing),
        }
    }
}

/// Marks a knob that is not set; no enumeration has that number.
const UNSET: u8 = 0xff;

/// An [`Override`] that can be read at any time, whole.
///
/// The global policy of a notifier is one too, with everything set.
#[derive(Debug)]
pub struct PolicyCell(AtomicU32);

impl PolicyCell {
    /// Everything inherited.
    pub const fn inherit() -> Self {
        Self(AtomicU32::new(u32::from_le_bytes([UNSET, UNSET, UNSET, 0])))
    }

    /// Everything set.
    pub const fn new(policy: Policy) -> Self {
        Self(AtomicU32::new(u32::from_le_bytes([
            policy.flush.to_u8(),
            policy.uncovered.to_u8(),
            policy.timing.to_u8(),
            0,
        ])))
    }

    /// What is set.
    pub fn load(&self) -> Override {
        let [flush, uncovered, timing, _] = self.0.load(Ordering::Relaxed).to_le_bytes();
        Override {
            flush: Flush::from_u8(flush),
            uncovered: Uncovered::from_u8(uncovered),
            timing: Timing::from_u8(timing),
        }
    }

    /// Sets all three. Callers that change one knob serialise themselves.
    pub fn store(&self, value: Override) {
        let word = u32::from_le_bytes([
            value.flush.map_or(UNSET, Flush::to_u8),
            value.uncovered.map_or(UNSET, Uncovered::to_u8),
            value.timing.map_or(UNSET, Timing::to_u8),
            0,
        ]);
        self.0.store(word, Ordering::Relaxed);
    }
}
