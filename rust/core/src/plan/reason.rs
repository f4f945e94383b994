// SPDX-License-Identifier: GPL-2.0

//! What follows from why a page is uncovered.

use super::Reason;
use crate::counters::Counter;

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
            Reason::LargeLeaf => Counter::UncoveredLargeLeaf,
            Reason::NoSession => Counter::UncoveredNoSession,
            Reason::NoLinear => Counter::UncoveredNoLinear,
            Reason::NoGvaFlush => Counter::UncoveredNoGvaFlush,
            Reason::NoRoom => Counter::UncoveredNoRoom,
            Reason::Race => Counter::UncoveredRace,
            Reason::Degraded => Counter::UncoveredDegraded,
            Reason::Calibration => Counter::UncoveredCalibration,
        }
    }

    /// Whether the guest could cover the page by reporting it.
    pub(super) const fn ends_with_a_report(self) -> bool {
        matches!(
            self,
            Reason::NoHint | Reason::Aged | Reason::LargeLeaf | Reason::Race
        )
    }

    /// Whether no report could cover any page of this VM, so that KVM should do what it
    /// always did. One that has said HELLO and not LINEAR yet is about to report.
    pub(super) const fn is_of_vm(self) -> bool {
        matches!(self, Reason::NoSession | Reason::NoGvaFlush)
    }
}
