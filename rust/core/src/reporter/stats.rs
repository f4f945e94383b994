// SPDX-License-Identifier: GPL-2.0

//! What a reporter did, by name.

use crate::sync::{AtomicU64, Ordering};
use crate::wire::Errno;

named_enum! {
    /// The counters, by their names under `stats/`.
    ///
    /// ```
    /// use gvahint_core::reporter::stats::Stat;
    /// assert_eq!(Stat::PagesMapped.name(), "pages_mapped");
    /// ```
    pub enum Stat {
        /// HELLO calls that succeeded.
        Hello = 0 => "hello",
        /// LINEAR calls that succeeded.
        Linear = 1 => "linear",
        /// Ranges in the last of these (a level).
        LinearRanges = 2 => "linear_ranges",
        /// REPORT calls that succeeded.
        Reports = 3 => "reports",
        /// Sets that the host took.
        Sets = 4 => "sets",
        /// Sets that the host refused.
        SetsRefused = 5 => "sets_refused",
        /// Pages reported with their gVAs.
        PagesMapped = 6 => "pages_mapped",
        /// Pages reported as reached through the linear ranges only.
        PagesKernel = 7 => "pages_kernel",
        /// Pages reported as page tables.
        PagesPageTable = 8 => "pages_page_table",
        /// Pages reported as having too many gVAs.
        PagesTooMany = 9 => "pages_too_many",
        /// Pages revoked.
        Revoked = 10 => "revoked",
        /// Pages that changed while they were looked at.
        Changed = 11 => "changed",
        /// Pages of which a lock was not to be had.
        Busy = 12 => "busy",
        /// Busy pages that were given up.
        GivenUp = 13 => "given_up",
        /// Not reported: no memory of the kernel's.
        UnknownOffline = 14 => "unknown_offline",
        /// Not reported: poisoned, or reserved and below 1 MiB.
        UnknownReserved = 15 => "unknown_reserved",
        /// Not reported: free, or a later page of something that is in use.
        UnknownFree = 16 => "unknown_free",
        /// Not reported: of a sort that nothing is known of.
        UnknownOther = 17 => "unknown_other",
        /// Reported without its gVAs: references that nothing explains.
        AnywhereRefs = 18 => "anywhere_refs",
        /// Reported without its gVAs: fewer mappings found than there are.
        AnywhereMapcount = 19 => "anywhere_mapcount",
        /// Reported without its gVAs: a device has it for now.
        AnywhereDevice = 20 => "anywhere_device",
        /// WANTED calls that succeeded.
        Wanted = 21 => "wanted",
        /// Pages that these asked for.
        WantedPages = 22 => "wanted_pages",
        /// Pages that the sweep looked at.
        Swept = 23 => "swept",
        /// Sweeps that came to the end.
        Sweeps = 24 => "sweeps",
        /// How long the last one took, in ms (a level).
        SweepMs = 25 => "sweep_ms",
        /// Sessions that the host ended, or did not answer in any more.
        SessionsLost = 26 => "sessions_lost",
        /// Calls answered with KVM_EPERM.
        ErrorPerm = 27 => "error_eperm",
        /// Calls answered with KVM_E2BIG.
        ErrorTooBig = 28 => "error_e2big",
        /// Calls answered with KVM_EFAULT.
        ErrorFault = 29 => "error_efault",
        /// Calls answered with KVM_EINVAL.
        ErrorInval = 30 => "error_einval",
        /// Calls answered with KVM_EOPNOTSUPP.
        ErrorOpNotSupp = 31 => "error_eopnotsupp",
        /// Calls answered with GVAHINT_ESTALE.
        ErrorStale = 32 => "error_estale",
        /// Calls answered with KVM_ENOSYS.
        ErrorNoSys = 33 => "error_enosys",
        /// Calls answered with anything else below 0.
        ErrorOther = 34 => "error_other",
        /// Canaries that came back.
        CanaryOk = 35 => "canary_ok",
        /// Canaries that did not.
        CanaryLost = 36 => "canary_lost",
        /// Canaries that told nothing, or were refused.
        CanaryInconclusive = 37 => "canary_inconclusive",
        /// Reported without its gVAs: free.
        AnywhereFree = 38 => "anywhere_free",
        /// Reported without its gVAs: a process's, and about to be mapped.
        AnywhereOther = 39 => "anywhere_other",
        /// Reported without its gVAs: the kernel's image, or taken when it booted.
        AnywhereReserved = 40 => "anywhere_reserved",
        /// Reported without its gVAs: those changed, or it was freed.
        AnywhereChanged = 41 => "anywhere_changed",
        /// Steps of a sweep that were shorter because the guest was short of memory.
        SweepYields = 42 => "sweep_yields",
    }
}

impl Stat {
    /// What counts that error.
    ///
    /// ```
    /// use gvahint_core::reporter::stats::Stat;
    /// use gvahint_core::wire::Errno;
    /// assert_eq!(Stat::of_error(Some(Errno::Stale)), Stat::ErrorStale);
    /// ```
    pub const fn of_error(errno: Option<Errno>) -> Self {
        match errno {
            Some(Errno::Perm) => Stat::ErrorPerm,
            Some(Errno::TooBig) => Stat::ErrorTooBig,
            Some(Errno::Fault) => Stat::ErrorFault,
            Some(Errno::Inval) => Stat::ErrorInval,
            Some(Errno::OpNotSupp) => Stat::ErrorOpNotSupp,
            Some(Errno::Stale) => Stat::ErrorStale,
            Some(Errno::NoSys) => Stat::ErrorNoSys,
            None => Stat::ErrorOther,
        }
    }
}

/// All counters. One thread counts, others read.
///
/// ```
/// use gvahint_core::reporter::stats::{Stat, Stats};
/// let stats = Stats::new();
/// stats.add(Stat::Sets, 3);
/// assert_eq!(stats.get(Stat::Sets), 3);
/// ```
#[derive(Debug)]
pub struct Stats([AtomicU64; Stat::ALL.len()]);

impl Default for Stats {
    fn default() -> Self {
        Self::new()
    }
}

impl Stats {
    /// All zero.
    ///
    /// ```
    /// use gvahint_core::reporter::stats::{Stat, Stats};
    /// assert_eq!(Stats::new().get(Stat::Hello), 0);
    /// ```
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; Stat::ALL.len()])
    }

    /// Adds `n` events.
    ///
    /// ```
    /// use gvahint_core::reporter::stats::{Stat, Stats};
    /// let stats = Stats::new();
    /// stats.add(Stat::Sets, 3);
    /// stats.add(Stat::Sets, 4);
    /// assert_eq!(stats.get(Stat::Sets), 7);
    /// ```
    pub fn add(&self, stat: Stat, n: u64) {
        if let Some(cell) = self.0.get(usize::from(stat.to_u8())) {
            cell.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Sets a level.
    ///
    /// ```
    /// use gvahint_core::reporter::stats::{Stat, Stats};
    /// let stats = Stats::new();
    /// stats.set(Stat::SweepMs, 3);
    /// stats.set(Stat::SweepMs, 4);
    /// assert_eq!(stats.get(Stat::SweepMs), 4);
    /// ```
    pub fn set(&self, stat: Stat, value: u64) {
        if let Some(cell) = self.0.get(usize::from(stat.to_u8())) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// The count so far.
    ///
    /// ```
    /// use gvahint_core::reporter::stats::{Stat, Stats};
    /// let stats = Stats::new();
    /// stats.add(Stat::Busy, 1);
    /// assert_eq!(stats.get(Stat::Busy), 1);
    /// ```
    pub fn get(&self, stat: Stat) -> u64 {
        let cell = self.0.get(usize::from(stat.to_u8()));
        cell.map_or(0, |cell| cell.load(Ordering::Relaxed))
    }
}
