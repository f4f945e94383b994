// SPDX-License-Identifier: GPL-2.0

//! Why pages are uncovered.

use crate::counters::Counter;

named_enum! {
    /// Why a page is uncovered.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::plan::Reason;
    /// vm.report(&[5 | 4 << 46]).answer().unwrap(); // frame 5: TOO_MANY
    /// assert_eq!(vm.lookup(5), Err(Reason::TooMany));
    /// assert_eq!(vm.lookup(6), Err(Reason::NoHint));
    /// ```
    pub enum Reason {
        /// Nothing was reported, or it was revoked.
        NoHint = 0 => "no_hint",
        /// The hint is older than `hint_max_age_ms`, or may be.
        Aged = 1 => "aged",
        /// Reached through the linear ranges only, and these are not to be
        /// used, or none of them holds it.
        KernelOnly = 2 => "kernel_only",
        /// A page table: the CPU's own walks touch it, no gVA leads there.
        PageTable = 3 => "page_table",
        /// More gVAs than a set, or than a lookup, holds.
        TooMany = 4 => "too_many",
        /// Hints cover an EPT leaf of 2 MiB or 1 GiB in part.
        LargeLeaf = 5 => "large_leaf",
        /// No session, or its lease lapsed.
        NoSession = 6 => "no_session",
        /// The session has not said LINEAR.
        NoLinear = 7 => "no_linear",
        /// The CPU cannot flush single addresses.
        NoGvaFlush = 8 => "no_gva_flush",
        /// Beyond the table, or there is no log to publish to.
        NoRoom = 9 => "no_room",
        /// The hint changed while it was read.
        Race = 10 => "race",
        /// A canary has shown that hints do not work for this VM.
        Degraded = 11 => "degraded",
    }
}

impl Reason {
    /// The counter of pages that were uncovered for this reason.
    ///
    /// ```
    /// use gvahint_core::plan::Reason;
    /// // Each has one of its own, named after it.
    /// for reason in Reason::ALL {
    ///     assert_eq!(reason.counter().name(), format!("uncovered_{}", reason.name()));
    /// }
    /// ```
    pub const fn counter(self) -> Counter {
        match self {
            Reason::NoHint => Counter::UncoveredNoHint,
            Reason::Aged => Counter::UncoveredAged,
            Reason::KernelOnly => Counter::UncoveredKernelOnly,
            Reason::PageTable => Counter::UncoveredPageTable,
            Reason::TooMany => Counter::UncoveredTooMany,
            Reason::LargeLeaf => Counter::UncoveredLargeLeaf,
            Reason::NoSession => Counter::UncoveredNoSession,
            Reason::NoLinear => Counter::UncoveredNoLinear,
            Reason::NoGvaFlush => Counter::UncoveredNoGvaFlush,
            Reason::NoRoom => Counter::UncoveredNoRoom,
            Reason::Race => Counter::UncoveredRace,
            Reason::Degraded => Counter::UncoveredDegraded,
        }
    }

    /// Whether the guest could cover the page by reporting it.
    pub(super) const fn ends_with_a_report(self) -> bool {
        matches!(
            self,
            Reason::NoHint | Reason::Aged | Reason::LargeLeaf | Reason::Race
        )
    }

    /// Whether it holds for the whole VM, so that KVM should do what it always did.
    pub(super) const fn is_of_vm(self) -> bool {
        matches!(
            self,
            Reason::NoSession | Reason::NoLinear | Reason::NoGvaFlush
        )
    }
}
