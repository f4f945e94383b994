// SPDX-License-Identifier: GPL-2.0

//! Pages that turn from page tables, or from what may have been some, into data,
//! and the other way round.
//!
//! No flush of gVAs drops what the CPU keeps of its own walks: a guest-physical
//! mapping, which leads to the page's next owner, too, and sets no accessed bit
//! (SDM, "Information That May Be Cached"). So between a page's end as a page
//! table and the first time that it is aged as data, everything has to be flushed
//! once. Its end is at the latest when the guest reports what it is now. And once
//! after it became a page table and was aged as data all the same, until the
//! guest said so: with a leaf of 2M, 511 other pages stay idle by that.

use crate::sync::{AtomicU64, Ordering};
use crate::table::Hints;

/// Whether such a flush is due.
#[derive(Debug)]
pub(crate) struct Turned {
    /// How often something turned.
    count: AtomicU64,
    /// How often it had when everything was last flushed.
    flushed: AtomicU64,
}

impl Turned {
    pub(crate) const fn new() -> Self {
        Self {
            count: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
        }
    }

    /// Something turns. Said before it becomes data, so that who finds it covered finds
    /// a flush due; and after it became something else, so that no earlier flush counts.
    #[inline]
    pub(crate) fn turn(&self) {
        self.count.fetch_add(1, Ordering::Release);
    }

    /// Whether something turned since everything was last flushed.
    #[inline]
    pub(crate) fn owes_full(&self) -> bool {
        let flushed = self.flushed.load(Ordering::Acquire);
        self.count.load(Ordering::Acquire) != flushed
    }

    /// Has everything flushed. What turns meanwhile may come too late for that.
    pub(crate) fn settle(&self, flush_all: impl FnOnce()) {
        let count = self.count.load(Ordering::Acquire);
        flush_all();
        // Somebody else may know of more; a flush too many does no harm.
        self.flushed.store(count, Ordering::Release);
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
        self.top.turned.owes_full()
    }
}
