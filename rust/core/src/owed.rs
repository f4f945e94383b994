// SPDX-License-Identifier: GPL-2.0

//! Flushes that reports make due: two debts of a table, each paid by one flush.
//!
//! # Of everything: pages that turn
//!
//! From page tables, or from what may have been some, into data, and the other
//! way round. No flush of gVAs drops what the CPU keeps of its own walks: a
//! guest-physical mapping, which leads to the page's next owner, too, and sets
//! no accessed bit (SDM, "Information That May Be Cached"). So between a page's
//! end as a page table and the first time that it is aged as data, everything
//! has to be flushed once. Its end is at the latest when the guest reports what
//! it is now. And once after it became a page table and was aged as data all the
//! same, until the guest said so: with a leaf of 2M, 511 other pages stay idle by
//! that.
//!
//! # Of the context: pages that moved
//!
//! Between a change of a page's gVAs and the report of it, the page may be aged
//! by those that it had. What leads to it now is not dropped, so its accessed bit
//! stays clear however often it is used; and what is not found young is never
//! dropped again. So once the guest has told, its contexts are flushed: at once
//! if anything was aged by gVAs since they were last, else by the next notifier
//! call that does so.

use crate::counters::{Counter, Counters};
use crate::log::Log;
use crate::sync::{AtomicU64, Ordering};
use crate::table::Hints;

/// Whether a flush is due.
#[derive(Debug)]
pub(crate) struct Owed {
    /// How often something happened that it is due for.
    count: AtomicU64,
    /// How often it had at the last such flush.
    paid: AtomicU64,
}

impl Owed {
    pub(crate) const fn new() -> Self {
        Self {
            count: AtomicU64::new(0),
            paid: AtomicU64::new(0),
        }
    }

    /// One is due. Of what turns into data that is said before it does, so that who
    /// finds it covered finds a flush due; of all else after the change, so that no
    /// earlier flush counts.
    #[inline]
    pub(crate) fn incur(&self) {
        self.count.fetch_add(1, Ordering::Release);
    }

    /// Whether one is due.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        let paid = self.paid.load(Ordering::Acquire);
        self.count.load(Ordering::Acquire) != paid
    }

    /// Flushes. What happens meanwhile may come too late for that.
    pub(crate) fn pay(&self, flush: impl FnOnce()) {
        let count = self.count.load(Ordering::Acquire);
        flush();
        // Somebody else may know of more; a flush too many does no harm.
        self.paid.store(count, Ordering::Release);
    }
}

impl<N> Hints<'_, N> {
    /// Whether a page turned into data or from it, since everything was last flushed, that
    /// may have been a page table: it is aged right after one more flush of everything.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::plan::flush_all;
    /// vm.report(&[5 | 3 << 46]).answer().unwrap(); // frame 5 is a page table
    /// assert!(!vm.hints().owes_full());
    /// vm.map(5, 0, &[0x7000]);
    /// assert!(vm.hints().owes_full());
    /// flush_all(vm.log(), Some(&vm.hints()), &vm.counters);
    /// // What it is now it was already: data under other gVAs.
    /// vm.map(5, 0, &[0x8000, 0x9000]);
    /// assert!(!vm.hints().owes_full());
    /// ```
    #[inline]
    pub fn owes_full(&self) -> bool {
        self.top.turned.is_due()
    }

    /// Whether a page's gVAs were reported to be others, since the contexts were last flushed,
    /// than those by which it may have been aged meanwhile.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// vm.map(5, 0, &[0x7000]);
    /// vm.map(5, 0, &[0x7000]);
    /// assert!(!vm.hints().owes_context());
    /// vm.map(5, 0, &[0x8000]);
    /// assert!(vm.hints().owes_context());
    /// ```
    #[inline]
    pub fn owes_context(&self) -> bool {
        self.top.moved.is_due()
    }
}

/// A REPORT ends. Has every vCPU flush its context at its next entry, and returns `true`, if pages
/// may have been aged by gVAs of which it has told that they were others by then.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::addr::{Gva, VaBits};
/// use gvahint_core::owed::reported;
/// vm.map(5, 0, &[0x7000]);
/// vm.map(5, 0, &[0x8000]);
/// // Nothing was aged by then: the next call that does so flushes.
/// assert!(!reported(vm.log(), &vm.hints(), &vm.counters) && vm.hints().owes_context());
/// vm.log().append_gva(Gva::new(0x8000, VaBits::Bits48).unwrap());
/// assert!(reported(vm.log(), &vm.hints(), &vm.counters) && !vm.hints().owes_context());
/// let _ = vm.drain();
/// assert_eq!(vm.cpu.dropped, ["context"]);
/// ```
pub fn reported<N>(log: Log<'_>, hints: &Hints<'_, N>, counters: &Counters) -> bool {
    // What is appended after this look finds the debt when its call ends.
    if !hints.owes_context() || !log.ends_with_gvas() {
        return false;
    }
    append_moved(log, hints, counters);
    true
}

/// The flush of contexts that is due.
pub(crate) fn append_moved<N>(log: Log<'_>, hints: &Hints<'_, N>, counters: &Counters) {
    append_context(log, Some(hints), counters);
    counters.add(Counter::Moved, 1);
}

/// Has every vCPU flush its context at its next entry, whatever for.
pub(crate) fn append_context<N>(log: Log<'_>, hints: Option<&Hints<'_, N>>, counters: &Counters) {
    let append = || log.append_context();
    match hints {
        Some(hints) => hints.top.moved.pay(append),
        None => append(),
    }
    counters.add(Counter::AppendedContext, 1);
}
