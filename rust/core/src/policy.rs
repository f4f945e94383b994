// SPDX-License-Identifier: GPL-2.0

//! What an operator can choose.
//!
//! Values are small and `Copy`; the cells beside them hold one for readers in
//! atomic context, which must not wait for whoever writes sysfs.

use crate::sync::{AtomicU32, Ordering};

pub use crate::tunables::{OutOfRange, Tunable, Tunables, TunablesCell};

named_enum! {
    /// What is dropped for the pages that a notifier call aged.
    ///
    /// ```
    /// use gvahint_core::policy::Flush;
    /// // What the file takes; in this order they are numbered.
    /// let names: Vec<_> = Flush::ALL.iter().map(|flush| flush.name()).collect();
    /// assert_eq!(names, ["default", "none", "hint", "context", "invept"]);
    /// ```
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

impl Flush {
    /// Whether it makes pages look young again that `before` left idle however often they are touched.
    ///
    /// ```
    /// use gvahint_core::policy::Flush;
    /// // An unpatched KVM drops none: the pages look idle however often they are touched.
    /// assert!(Flush::Hint.catches_up_with(Flush::Default));
    /// // Hints may be incomplete, and a CPU may keep what has no gVA.
    /// assert!(Flush::Context.catches_up_with(Flush::Hint));
    /// // Page tables are kept young under hint, or dropped in full; of those a context drops nothing.
    /// assert!(Flush::Hint.catches_up_with(Flush::Context));
    /// assert!(!Flush::Hint.catches_up_with(Flush::Invept) && !Flush::None.catches_up_with(Flush::Default));
    /// ```
    pub const fn catches_up_with(self, before: Self) -> bool {
        match self {
            Flush::Default | Flush::None => false,
            Flush::Hint => !matches!(before, Flush::Hint | Flush::Invept),
            Flush::Context => !matches!(before, Flush::Context | Flush::Invept),
            Flush::Invept => !matches!(before, Flush::Invept),
        }
    }
}

named_enum! {
    /// What [`Flush::Hint`] does for a page without a complete hint.
    ///
    /// ```
    /// # let vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::{addr::{Gfn, Level}, plan::*, policy::*, sync::AtomicU32};
    /// let env = vm.env(Policy { uncovered: Uncovered::None, ..Policy::CLEAR_YOUNG });
    /// let mut pass = Pass::default();
    /// aged(&mut pass, &env, Gfn::new(5).unwrap(), Level::L4K, 1_000);
    /// // Nothing is known of frame 5, and nothing is done for it.
    /// let outcome = finish(&mut pass, &env, 0, &AtomicU32::new(0));
    /// assert_eq!((outcome.kick, env.log.start()), (Kick::No, 0));
    /// ```
    pub enum Uncovered {
        /// One FULL entry per notifier call.
        Full = 0 => "full",
        /// Nothing; such a page may look idle. But one CONTEXT entry for those whose hint is too old.
        None = 1 => "none",
    }
}

named_enum! {
    /// When vCPUs are made to drain the log.
    ///
    /// ```
    /// use gvahint_core::policy::{Policy, Timing};
    /// // Nobody waits for the flush of an aged page, so no default kicks at once.
    /// assert_ne!(Policy::CLEAR_YOUNG.timing, Timing::Now);
    /// assert_ne!(Policy::CLEAR_FLUSH_YOUNG.timing, Timing::Now);
    /// ```
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
    ///
    /// ```
    /// use gvahint_core::policy::{LinearAlias, Tunables};
    /// // Nobody proves that the kernel leaves a mapped page alone.
    /// assert_eq!(Tunables::DEFAULT.linear_alias, LinearAlias::Always);
    /// assert_eq!(LinearAlias::parse(b"auto"), Some(LinearAlias::Auto));
    /// ```
    pub enum LinearAlias {
        /// For every page, in addition to its other gVAs.
        Always = 0 => "always",
        /// Only for pages that have no other gVA.
        Auto = 1 => "auto",
        /// Never; pages without another gVA are uncovered.
        Never = 2 => "never",
    }
}

named_enum! {
    /// What a VM of the host's own has shown about dropping single gVAs on its CPUs
    /// (`gvahintctl calibrate`).
    ///
    /// ```
    /// use gvahint_core::policy::{Calibration, Tunables};
    /// // Nobody has looked: hints are trusted.
    /// assert_eq!(Tunables::DEFAULT.calibration, Calibration::Uncalibrated);
    /// assert_eq!(Calibration::parse(b"failed-invept"), Some(Calibration::FailedInvept));
    /// ```
    pub enum Calibration {
        /// Nothing yet.
        Uncalibrated = 0 => "uncalibrated",
        /// Accessed bits come back.
        Passed = 1 => "passed",
        /// They do not, but after a flush of the context they do.
        FailedContext = 2 => "failed-context",
        /// Only INVEPT brings them back.
        FailedInvept = 3 => "failed-invept",
    }
}

impl Calibration {
    /// What [`Flush::Hint`] stands for on such a host, if not for itself.
    ///
    /// ```
    /// use gvahint_core::policy::{Calibration, Flush};
    /// assert_eq!(Calibration::Passed.instead(), None);
    /// assert_eq!(Calibration::FailedContext.instead(), Some(Flush::Context));
    /// ```
    pub const fn instead(self) -> Option<Flush> {
        match self {
            Calibration::Uncalibrated | Calibration::Passed => None,
            Calibration::FailedContext => Some(Flush::Context),
            Calibration::FailedInvept => Some(Flush::Invept),
        }
    }
}

/// The three knobs of one notifier.
///
/// ```
/// use gvahint_core::policy::{Policy, Timing};
/// // The two notifiers differ in when, not in what: only `clear_flush_young`'s
/// // callers expect a flush soon.
/// let deferred = Policy { timing: Timing::Deferred, ..Policy::CLEAR_FLUSH_YOUNG };
/// assert_eq!(deferred, Policy::CLEAR_YOUNG);
/// ```
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
///
/// ```
/// use gvahint_core::policy::{Flush, Override, Policy};
/// let vm = Override { flush: Some(Flush::Invept), ..Override::INHERIT };
/// assert_eq!(vm.over(Policy::CLEAR_YOUNG).flush, Flush::Invept);
/// assert_eq!(vm.over(Policy::CLEAR_YOUNG).timing, Policy::CLEAR_YOUNG.timing);
/// ```
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
    ///
    /// ```
    /// use gvahint_core::policy::{Override, Policy};
    /// // What is inherited follows the global policy.
    /// for global in [Policy::CLEAR_YOUNG, Policy::CLEAR_FLUSH_YOUNG] {
    ///     assert_eq!(Override::INHERIT.over(global), global);
    /// }
    /// ```
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
///
/// ```
/// use gvahint_core::policy::{Flush, Override, Policy, PolicyCell};
/// let (global, vm) = (PolicyCell::new(Policy::CLEAR_YOUNG), PolicyCell::inherit());
/// vm.store(Override { flush: Some(Flush::None), ..Override::INHERIT });
/// let policy = vm.load().over(global.load().over(Policy::CLEAR_YOUNG));
/// assert_eq!(policy, Policy { flush: Flush::None, ..Policy::CLEAR_YOUNG });
/// ```
#[derive(Debug)]
pub struct PolicyCell(AtomicU32);

impl PolicyCell {
    /// Everything inherited.
    ///
    /// ```
    /// use gvahint_core::policy::{Override, PolicyCell};
    /// static VM: PolicyCell = PolicyCell::inherit();
    /// assert_eq!(VM.load(), Override::INHERIT);
    /// ```
    pub const fn inherit() -> Self {
        Self(AtomicU32::new(u32::from_le_bytes([UNSET, UNSET, UNSET, 0])))
    }

    /// Everything set.
    ///
    /// ```
    /// use gvahint_core::policy::{Override, Policy, PolicyCell};
    /// static GLOBAL: PolicyCell = PolicyCell::new(Policy::CLEAR_YOUNG);
    /// // Nothing is left to inherit.
    /// assert_eq!(GLOBAL.load().over(Policy::CLEAR_FLUSH_YOUNG), Policy::CLEAR_YOUNG);
    /// ```
    pub const fn new(policy: Policy) -> Self {
        Self(AtomicU32::new(u32::from_le_bytes([
            policy.flush.to_u8(),
            policy.uncovered.to_u8(),
            policy.timing.to_u8(),
            0,
        ])))
    }

    /// What is set.
    ///
    /// ```
    /// use gvahint_core::policy::{Policy, PolicyCell, Timing};
    /// let loaded = PolicyCell::new(Policy::CLEAR_YOUNG).load();
    /// assert_eq!(loaded.timing, Some(Timing::Deferred));
    /// ```
    pub fn load(&self) -> Override {
        let [flush, uncovered, timing, _] = self.0.load(Ordering::Relaxed).to_le_bytes();
        Override {
            flush: Flush::from_u8(flush),
            uncovered: Uncovered::from_u8(uncovered),
            timing: Timing::from_u8(timing),
        }
    }

    /// Sets all three. Callers that change one knob serialise themselves.
    ///
    /// ```
    /// use gvahint_core::policy::{Override, PolicyCell, Timing};
    /// let cell = PolicyCell::inherit();
    /// let timing = Some(Timing::Now);
    /// // To change one knob, keep the others.
    /// cell.store(Override { timing, ..cell.load() });
    /// assert_eq!(cell.load(), Override { timing, ..Override::INHERIT });
    /// ```
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
