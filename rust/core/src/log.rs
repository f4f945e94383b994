// SPDX-License-Identifier: GPL-2.0

//! The flush log: one per VM, through which ageing tells vCPUs what to drop.
//!
//! Appending is O(1) however many vCPUs there are; each vCPU serves what lies
//! between its cursor and the head, directly before it enters the guest.
//!
//! # Words
//!
//! `head` counts positions ever reserved. `full` and `context` are 1 + the
//! position of the last FULL or CONTEXT entry; these entries need no slot, so
//! they work without a session and without memory. A gVA entry of position
//! `pos` is one word in slot `pos % size`: the gVA's page and, in the low 12
//! bits, a tag of the lap `pos / size`. One load tells whether a slot holds
//! the entry of a position; if not, it is not yet written or, as head tells
//! then, overwritten.
//!
//! # Invariants
//!
//! - An accessed bit is cleared before the position of its entry is reserved.
//!   So whoever reads a head and then flushes has served all entries below.
//! - `full` (`context`) covers an entry *before* head covers it: whoever reads
//!   a head and then `full` knows all FULL entries below that head. With the
//!   opposite order a context flush between the two could swallow a FULL.
//! - head, full and context never decrease, also over module loads.
//! - A cursor is written by its vCPU's thread only; all below it is served.
//! - Every append writes a slot if there is one, FULL and CONTEXT only the
//!   tag: so what a slot holds is never older than one lap, and a tag that
//!   recurs after 4,095 laps cannot be taken for an entry.
//!
//! In the examples, `vm` is the storage of a small VM: `tests/doc/vm.rs`.

use crate::addr::{Gva, PAGE_SIZE};
use crate::cast;
use crate::sync::{AtomicU64, Ordering};

mod drain;
pub use drain::{Done, Drained, Escalation, Flusher, Scope};

/// Tags run from 1 to this; 0 marks a slot that was never written.
const TAGS: u64 = PAGE_SIZE - 1;

/// A VM's log, as far as one call needs it.
///
/// ```
/// use gvahint_core::{log::Log, sync::AtomicU64};
/// let [head, full, context, cursor] = [const { AtomicU64::new(0) }; 4];
/// let ring = [const { AtomicU64::new(0) }; 256];
/// let log = Log::new(&head, &full, &context, &ring);
/// // One log, any number of vCPUs, each with a cursor.
/// log.append_context();
/// assert!(log.pending(&cursor));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Log<'a> {
    head: &'a AtomicU64,
    full: &'a AtomicU64,
    context: &'a AtomicU64,
    slots: &'a [AtomicU64],
}

impl<'a> Log<'a> {
    /// The three words live as long as the VM and start at 0. `slots` is the
    /// ring: zeroed when it is new, a power of two of slots, or empty (also
    /// what any other length is taken for).
    ///
    /// ```
    /// use gvahint_core::{log::Log, sync::AtomicU64};
    /// let [head, full, context] = [const { AtomicU64::new(0) }; 3];
    /// let ring = [const { AtomicU64::new(0) }; 10];
    /// // No power of two: as if there were none.
    /// assert_eq!(Log::new(&head, &full, &context, &ring).size(), 0);
    /// assert_eq!(Log::new(&head, &full, &context, &ring[..8]).size(), 8);
    /// ```
    pub fn new(
        head: &'a AtomicU64,
        full: &'a AtomicU64,
        context: &'a AtomicU64,
        slots: &'a [AtomicU64],
    ) -> Self {
        let slots = if slots.len().is_power_of_two() {
            slots
        } else {
            &[]
        };
        Self {
            head,
            full,
            context,
            slots,
        }
    }

    /// Slots in the ring.
    ///
    /// ```
    /// # let vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// // Whatever was appended: it is the ring's, not what waits in it.
    /// vm.log().append_context();
    /// assert_eq!(vm.log().size(), 8);
    /// ```
    #[inline]
    pub fn size(&self) -> u64 {
        cast::u64_from_usize(self.slots.len())
    }

    /// The slot of a position and the tag that its entry carries there.
    #[inline]
    fn slot(&self, pos: u64) -> Option<(&'a AtomicU64, u64)> {
        let slot = self.slots.get(self.place(pos))?;
        Some((slot, self.tag(pos)))
    }

    /// Where in the ring a position's slot is.
    #[inline]
    fn place(&self, pos: u64) -> usize {
        cast::usize_from_u64(pos & self.size().wrapping_sub(1))
    }

    /// The tag of a position's lap.
    #[inline]
    fn tag(&self, pos: u64) -> u64 {
        let lap = pos.wrapping_shr(self.size().trailing_zeros());
        (lap % TAGS).wrapping_add(1)
    }

    /// Appends a gVA; `false` if there is no ring and so nothing was done.
    ///
    /// Call it after the accessed bit was cleared.
    ///
    /// ```
    /// use gvahint_core::{addr::{Gva, VaBits}, log::Log, sync::AtomicU64};
    /// let [head, full, context] = [const { AtomicU64::new(0) }; 3];
    /// // Without a ring the caller has to find something else.
    /// let log = Log::new(&head, &full, &context, &[]);
    /// assert!(!log.append_gva(Gva::new(0x7000, VaBits::Bits48).unwrap()));
    /// assert_eq!(log.start(), 0);
    /// ```
    #[inline]
    pub fn append_gva(&self, gva: Gva) -> bool {
        if self.slots.is_empty() {
            return false;
        }
        let pos = self.head.fetch_add(1, Ordering::AcqRel);
        if self.publish(pos, gva.page().raw()) {
            self.append_mark(self.context);
        }
        true
    }

    /// Appends a CONTEXT entry. Call it after the accessed bits were cleared.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::addr::{Gva, VaBits};
    /// // It serves the gVAs beside it, before or behind.
    /// let gva = Gva::new(0x7000, VaBits::Bits48).unwrap();
    /// vm.log().append_gva(gva);
    /// vm.log().append_context();
    /// vm.log().append_gva(gva);
    /// assert_eq!(vm.drain().gvas, 0);
    /// assert_eq!(vm.cpu.dropped, ["context"]);
    /// ```
    pub fn append_context(&self) {
        self.append_mark(self.context);
    }

    /// Appends a FULL entry. Call it after the accessed bits were cleared.
    ///
    /// ```
    /// use gvahint_core::{log::Log, sync::AtomicU64};
    /// let [head, full, context, cursor] = [const { AtomicU64::new(0) }; 4];
    /// // Needs no ring: there may be no session, and no memory for one.
    /// let log = Log::new(&head, &full, &context, &[]);
    /// log.append_full();
    /// assert!(log.pending(&cursor));
    /// ```
    pub fn append_full(&self) {
        self.append_mark(self.full);
    }

    fn append_mark(&self, mark: &AtomicU64) {
        let mut late = self.publish(self.reserve(mark), 0);
        // Each round means that others appended a whole lap meanwhile.
        while late {
            late = self.publish(self.reserve(self.context), 0);
        }
    }

    /// Raises the mark, then reserves the position below it.
    fn reserve(&self, mark: &AtomicU64) -> u64 {
        let mut pos = self.head.load(Ordering::Relaxed);
        loop {
            let next = pos.wrapping_add(1);
            mark.fetch_max(next, Ordering::AcqRel);
            match self
                .head
                .compare_exchange(pos, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return pos,
                // Another producer got on.
                Err(now) => pos = now,
            }
        }
    }

    /// Writes the slot of a reserved position. `true`: we were held up for a
    /// whole lap and have hidden a later entry; a CONTEXT entry serves it.
    #[must_use]
    fn publish(&self, pos: u64, page: u64) -> bool {
        let Some((slot, tag)) = self.slot(pos) else {
            return false;
        };
        is_newer(slot.swap(page | tag, Ordering::AcqRel), tag)
    }

    /// Makes every vCPU that lags do one full flush.
    ///
    /// For a module that (re)attaches or has put another ring in place: call
    /// it once nobody appends to the old ring any more.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::addr::{Gva, VaBits};
    /// vm.log().append_gva(Gva::new(0x7000, VaBits::Bits48).unwrap());
    /// vm.log().resync();
    /// let _ = vm.drain();
    /// assert_eq!(vm.cpu.dropped, ["full"]);
    /// // Who lags by nothing is spared.
    /// vm.log().resync();
    /// assert!(!vm.log().pending(&vm.cursor));
    /// ```
    pub fn resync(&self) {
        let head = self.head.load(Ordering::Acquire);
        self.full.fetch_max(head, Ordering::AcqRel);
    }

    /// Whether a vCPU with this cursor has something to drain.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// vm.log().append_context();
    /// assert!(vm.log().pending(&vm.cursor));
    /// let _ = vm.drain();
    /// assert!(!vm.log().pending(&vm.cursor));
    /// ```
    #[inline]
    pub fn pending(&self, cursor: &AtomicU64) -> bool {
        self.head.load(Ordering::Acquire) != cursor.load(Ordering::Relaxed)
    }

    /// Whether a gVA was appended since the last CONTEXT or FULL entry. Who appends
    /// after this was asked sees all that was stored before it was.
    ///
    /// ```
    /// # let vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::addr::{Gva, VaBits};
    /// assert!(!vm.log().ends_with_gvas());
    /// vm.log().append_gva(Gva::new(0x7000, VaBits::Bits48).unwrap());
    /// assert!(vm.log().ends_with_gvas());
    /// vm.log().append_context();
    /// assert!(!vm.log().ends_with_gvas());
    /// ```
    pub fn ends_with_gvas(&self) -> bool {
        // Written to, so that this comes either before such an append or after it.
        let head = self.head.fetch_add(0, Ordering::AcqRel);
        let marks = [self.full, self.context];
        // One that is raised and not reserved yet comes after what was stored.
        marks.iter().all(|mark| mark.load(Ordering::Relaxed) < head)
    }

    /// A cursor for a vCPU that has no translations yet.
    ///
    /// ```
    /// # let vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::sync::AtomicU64;
    /// vm.log().append_full();
    /// // A vCPU that is created now has nothing to drop.
    /// let hotplugged = AtomicU64::new(vm.log().start());
    /// assert!(!vm.log().pending(&hotplugged));
    /// assert!(vm.log().pending(&vm.cursor));
    /// ```
    pub fn start(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }
}

/// Whether a slot's word is of a later lap than `tag`, given that it is less
/// than half of the tags away.
#[inline]
fn is_newer(word: u64, tag: u64) -> bool {
    let ahead = (word & TAGS).wrapping_add(TAGS).wrapping_sub(tag) % TAGS;
    word & TAGS != 0 && ahead != 0 && ahead <= TAGS / 2
}

#[cfg(test)]
mod interrupted;
#[cfg(test)]
mod tests;
