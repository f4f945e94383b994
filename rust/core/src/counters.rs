// SPDX-License-Identifier: GPL-2.0

//! What happened, counted per VM.
//!
//! A VM has several copies of its [`Counters`], so that CPUs that count at the
//! same time seldom write to the same cache line; [`Copies`] adds them up.

use crate::cast;
use crate::log::{Done, Drained, Escalation};
use crate::sync::{AtomicU64, Ordering};

named_enum! {
    /// The counters, by their names under `stats/`.
    ///
    /// ```
    /// use gvahint_core::counters::Counter;
    /// // The file's name, and what it counts.
    /// assert_eq!(Counter::parse(b"drained_gva"), Some(Counter::DrainedGva));
    /// ```
    pub enum Counter {
        /// Leaves whose accessed bit was cleared.
        Aged = 0 => "aged",
        /// Of these, under `hint`: those with a complete hint.
        Covered = 1 => "covered",
        /// Of these, under `hint`: those without.
        Uncovered = 2 => "uncovered",
        /// Uncovered: nothing was reported.
        UncoveredNoHint = 3 => "uncovered_no_hint",
        /// Uncovered: the hint is older than `hint_max_age_ms`.
        UncoveredAged = 4 => "uncovered_aged",
        /// Uncovered: reached through the linear ranges only, and these don't count or don't hold it.
        UncoveredKernelOnly = 5 => "uncovered_kernel_only",
        /// Uncovered: a page table.
        UncoveredPageTable = 6 => "uncovered_page_table",
        /// Of the covered: those that only a flush of the context covers.
        CoveredContext = 7 => "covered_context",
        /// Uncovered: the EPT leaf is larger than 4 KiB.
        UncoveredLargeLeaf = 8 => "uncovered_large_leaf",
        /// Uncovered: no session, or its lease lapsed.
        UncoveredNoSession = 9 => "uncovered_no_session",
        /// Uncovered: the guest has not said LINEAR.
        UncoveredNoLinear = 10 => "uncovered_no_linear",
        /// Uncovered: the CPU cannot flush single addresses.
        UncoveredNoGvaFlush = 11 => "uncovered_no_gva_flush",
        /// Uncovered: beyond the table's end, or no log to publish to.
        UncoveredNoRoom = 12 => "uncovered_no_room",
        /// Uncovered: the hint changed while it was read.
        UncoveredRace = 13 => "uncovered_race",
        /// gVA entries appended to the log.
        AppendedGva = 14 => "appended_gva",
        /// CONTEXT entries appended to the log.
        AppendedContext = 15 => "appended_context",
        /// FULL entries appended to the log.
        AppendedFull = 16 => "appended_full",
        /// Drains, of whichever result.
        Drains = 17 => "drains",
        /// gVAs flushed by drains.
        DrainedGva = 18 => "drained_gva",
        /// Drains that ended in a context flush.
        DrainedContext = 19 => "drained_context",
        /// Drains that ended in a full flush.
        DrainedFull = 20 => "drained_full",
        /// Drains that found nothing to do.
        DrainedNothing = 21 => "drained_nothing",
        /// Context flushes because a vCPU lagged beyond the log.
        Lagged = 22 => "lagged",
        /// Context flushes because of more gVAs than `max_gvas_per_entry`.
        TooMany = 23 => "too_many",
        /// Context flushes because entries were overwritten during the drain.
        Overwritten = 24 => "overwritten",
        /// Context flushes because a gVA was refused.
        Refused = 25 => "refused",
        /// Drains that stopped at a slot that was reserved and not yet written.
        Unpublished = 26 => "unpublished",
        /// Flushes by KVM itself that made entries needless.
        Superseded = 27 => "superseded",
        /// Times that the vCPUs were kicked.
        Kicks = 28 => "kicks",
        /// HELLO calls that succeeded.
        Hello = 29 => "hello",
        /// LINEAR calls that succeeded.
        Linear = 30 => "linear",
        /// REPORT calls that succeeded.
        Report = 31 => "report",
        /// BYE calls that succeeded.
        Bye = 32 => "bye",
        /// Calls that were answered with an error.
        Rejected = 33 => "rejected",
        /// Sets taken over into the table.
        SetsApplied = 34 => "sets_applied",
        /// Sets that were malformed or found no room.
        SetsRefused = 35 => "sets_refused",
        /// Pages with a hint now, of any kind (a level, not a count of events).
        Hints = 36 => "hints",
        /// Bytes held for the VM now (a level).
        Bytes = 37 => "bytes",
        /// WANTED calls that succeeded.
        Wanted = 38 => "wanted",
        /// Leaves that WANTED told the guest.
        WantedTold = 39 => "wanted_told",
        /// Times that the accessed bit of a page table, or of a 2M leaf with one, was left set.
        Kept = 40 => "kept",
        /// Pages that are kept young now, as page tables within the quota (a level).
        KeptPages = 41 => "kept_pages",
        /// CANARY calls that succeeded, of either step.
        Canary = 42 => "canary",
        /// Canaries whose accessed bit did not come back.
        CanaryLost = 43 => "canary_lost",
        /// Uncovered: a canary's accessed bit did not come back.
        UncoveredDegraded = 44 => "uncovered_degraded",
        /// Uncovered: the host's calibration failed.
        UncoveredCalibration = 45 => "uncovered_calibration",
        /// Sets taken over without their gVAs, for which there was no room.
        SetsShortened = 46 => "sets_shortened",
        /// Of the FULL entries: a page turned into data, or from it, that may have been a page table.
        Turned = 47 => "turned",
        /// Of the CONTEXT entries: a page's gVAs were reported to be others than those by which it
        /// may have been aged.
        Moved = 48 => "moved",
    }
}

/// One VM's counters, or a copy of them, in cache lines of its own.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::{addr::{Gfn, Level}, counters::Counter, plan::*, policy::Policy};
/// let env = vm.env(Policy::CLEAR_YOUNG);
/// aged(&mut Pass::default(), &env, Gfn::new(5).unwrap(), Level::L4K, 1_000);
/// // Without a hint, and why.
/// assert_eq!(vm.counters.get(Counter::Uncovered), 1);
/// assert_eq!(vm.counters.get(Counter::UncoveredNoHint), 1);
/// ```
#[derive(Debug)]
#[repr(align(64))]
pub struct Counters([AtomicU64; Counter::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

impl Counters {
    /// All zero.
    ///
    /// ```
    /// use gvahint_core::counters::{Counter, Counters};
    /// let counters = Counters::new();
    /// assert!(Counter::ALL.iter().all(|counter| counters.get(*counter) == 0));
    /// ```
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; Counter::ALL.len()])
    }

    fn cell(&self, counter: Counter) -> Option<&AtomicU64> {
        self.0.get(usize::from(counter.to_u8()))
    }

    /// Adds `n` events.
    ///
    /// ```
    /// use gvahint_core::counters::{Counter, Counters};
    /// let counters = Counters::new();
    /// // By shared reference: any number of CPUs at once.
    /// std::thread::scope(|scope| {
    ///     for _ in 0..2 {
    ///         scope.spawn(|| counters.add(Counter::Kicks, 3));
    ///     }
    /// });
    /// assert_eq!(counters.get(Counter::Kicks), 6);
    /// ```
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        if let Some(cell) = self.cell(counter) {
            cell.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// The count so far.
    ///
    /// ```
    /// use gvahint_core::counters::{Counter, Counters};
    /// let counters = Counters::new();
    /// counters.add(Counter::Aged, 2);
    /// // One counter does not imply another: `covered` is counted by itself.
    /// assert_eq!((counters.get(Counter::Aged), counters.get(Counter::Covered)), (2, 0));
    /// ```
    pub fn get(&self, counter: Counter) -> u64 {
        self.cell(counter).map_or(0, |c| c.load(Ordering::Relaxed))
    }

    /// Counts what a drain did.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::counters::{Counter, Counters};
    /// let counters = Counters::new();
    /// // A vCPU that came by in vain is counted, too.
    /// counters.drained(&vm.drain());
    /// assert_eq!(counters.get(Counter::Drains), 1);
    /// assert_eq!(counters.get(Counter::DrainedNothing), 1);
    /// ```
    pub fn drained(&self, drained: &Drained) {
        self.add(Counter::Drains, 1);
        self.add(Counter::DrainedGva, u64::from(drained.gvas));
        match drained.done {
            Done::Nothing => self.add(Counter::DrainedNothing, 1),
            Done::Gvas => {}
            Done::Context => self.add(Counter::DrainedContext, 1),
            Done::Full => self.add(Counter::DrainedFull, 1),
        }
        match drained.why {
            None => {}
            Some(Escalation::Lag) => self.add(Counter::Lagged, 1),
            Some(Escalation::TooMany) => self.add(Counter::TooMany, 1),
            Some(Escalation::Overwritten) => self.add(Counter::Overwritten, 1),
            Some(Escalation::Refused) => self.add(Counter::Refused, 1),
        }
        if drained.unpublished {
            self.add(Counter::Unpublished, 1);
        }
    }
}

/// Copies of one VM's counters.
const COPIES: usize = 16;

/// All copies of one VM's counters.
///
/// ```
/// use gvahint_core::counters::{Copies, Counter};
/// static VM: Copies = Copies::new();
/// // Each CPU counts in its own copy; one and the same event in one only.
/// VM.on(3).add(Counter::Drains, 1);
/// VM.on(4).add(Counter::Drains, 1);
/// assert_eq!((VM.on(3).get(Counter::Drains), VM.get(Counter::Drains)), (1, 2));
/// ```
#[derive(Debug)]
pub struct Copies([Counters; COPIES]);

impl Default for Copies {
    fn default() -> Self {
        Self::new()
    }
}

impl Copies {
    /// All zero.
    ///
    /// ```
    /// use gvahint_core::counters::{Copies, Counter};
    /// assert!(Counter::ALL.iter().all(|counter| Copies::new().get(*counter) == 0));
    /// ```
    pub const fn new() -> Self {
        Self([const { Counters::new() }; COPIES])
    }

    /// The copy for whoever runs on that CPU; several CPUs may share one.
    ///
    /// ```
    /// use gvahint_core::counters::{Copies, Counter};
    /// let vm = Copies::new();
    /// // Any number is a CPU's.
    /// vm.on(u32::MAX).add(Counter::Kicks, 1);
    /// assert_eq!(vm.get(Counter::Kicks), 1);
    /// ```
    #[inline]
    pub fn on(&self, cpu: u32) -> &Counters {
        let [first, ..] = &self.0;
        let index = cast::usize_from_u32(cpu) % COPIES;
        self.0.get(index).unwrap_or(first)
    }

    /// The count so far.
    ///
    /// ```
    /// use gvahint_core::counters::{Copies, Counter};
    /// let vm = Copies::new();
    /// // More CPUs than copies: some share one, and none is counted twice.
    /// (0..100).for_each(|cpu| vm.on(cpu).add(Counter::Aged, 1));
    /// assert_eq!(vm.get(Counter::Aged), 100);
    /// ```
    pub fn get(&self, counter: Counter) -> u64 {
        let counts = self.0.iter().map(|copy| copy.get(counter));
        counts.fold(0, u64::wrapping_add)
    }

    /// Sets a level ([`Counter::Hints`], [`Counter::Bytes`]), which only one
    /// place at a time does, and nobody adds to.
    ///
    /// ```
    /// use gvahint_core::counters::{Copies, Counter};
    /// let vm = Copies::new();
    /// // Replaces, also by less.
    /// vm.set(Counter::Bytes, 8192);
    /// vm.set(Counter::Bytes, 4096);
    /// assert_eq!(vm.get(Counter::Bytes), 4096);
    /// ```
    pub fn set(&self, counter: Counter, value: u64) {
        if let Some(cell) = self.on(0).cell(counter) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// Covered pages in ten-thousandths of those for which a hint was asked;
    /// `None` if there was none.
    ///
    /// ```
    /// use gvahint_core::counters::{Copies, Counter};
    /// let counters = Copies::new();
    /// assert_eq!(counters.coverage(), None);
    /// counters.on(0).add(Counter::Covered, 2);
    /// counters.on(1).add(Counter::Uncovered, 1);
    /// assert_eq!(counters.coverage(), Some(6_666)); // 66.66 %
    /// ```
    pub fn coverage(&self) -> Option<u32> {
        let mut covered = self.get(Counter::Covered);
        let mut asked = covered.saturating_add(self.get(Counter::Uncovered));
        // The kernel has no 128-bit division; so large, low bits don't matter.
        while asked >> 50 != 0 {
            covered >>= 1;
            asked >>= 1;
        }
        let parts = covered.saturating_mul(10_000).checked_div(asked)?;
        Some(cast::low_u32(parts))
    }
}
