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

/// Tags run from 1 to this; 0 marks a slot that was never written.
const TAGS: u64 = PAGE_SIZE - 1;

/// Executes flushes on the vCPU whose thread drains.
///
/// ```
/// # let vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::{addr::*, log::*};
/// /// A CPU that refuses single addresses: one context flush serves the rest.
/// struct Coarse;
/// impl Flusher for Coarse {
///     fn gva(&mut self, _: Gva) -> bool { false }
///     fn context(&mut self) {}
///     fn full(&mut self) {}
/// }
/// vm.log().append_gva(Gva::new(0x7000, VaBits::Bits48).unwrap());
/// let drained = vm.log().drain(&vm.cursor, 4, &mut Coarse);
/// assert_eq!((drained.done, drained.why), (Done::Context, Some(Escalation::Refused)));
/// ```
pub trait Flusher {
    /// Drops one gVA; `false` if it was refused and nothing was done.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::addr::{Gva, VaBits};
    /// // It is handed pages: the log keeps no offset.
    /// vm.log().append_gva(Gva::new(0x7123, VaBits::Bits48).unwrap());
    /// let _ = vm.drain();
    /// assert_eq!(vm.cpu.dropped, ["0x7000"]);
    /// ```
    fn gva(&mut self, gva: Gva) -> bool;
    /// Drops the vCPU's whole VPID context.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// vm.log().append_context();
    /// vm.log().append_context();
    /// // Once serves both.
    /// let _ = vm.drain();
    /// assert_eq!(vm.cpu.dropped, ["context"]);
    /// ```
    fn context(&mut self);
    /// Drops everything that hangs on the VM's current root.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// vm.log().append_context();
    /// vm.log().append_full();
    /// // The stronger one serves both.
    /// let _ = vm.drain();
    /// assert_eq!(vm.cpu.dropped, ["full"]);
    /// ```
    fn full(&mut self);
}

/// The strongest flush of a drain.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::log::Done;
/// vm.log().append_full();
/// assert_eq!(vm.drain().done, Done::Full);
/// assert_eq!(vm.drain().done, Done::Nothing);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// None was executed.
    Nothing,
    /// Single gVAs.
    Gvas,
    /// The VPID context.
    Context,
    /// The root.
    Full,
}

/// Why a drain flushed the context though nobody asked for that.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::{addr::{Gva, VaBits}, log::Escalation};
/// let gva = Gva::new(0x7000, VaBits::Bits48).unwrap();
/// // 5 gVAs where 4 are flushed singly, then 9 in a log of 8 slots.
/// for (gvas, why) in [(5, Escalation::TooMany), (9, Escalation::Lag)] {
///     (0..gvas).for_each(|_| assert!(vm.log().append_gva(gva)));
///     assert_eq!(vm.drain().why, Some(why));
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escalation {
    /// The cursor lagged behind by more than the log holds.
    Lag,
    /// More entries than one VM entry may flush singly.
    TooMany,
    /// Entries were overwritten while they were drained.
    Overwritten,
    /// A gVA was refused.
    Refused,
}

/// What a drain did.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::{addr::{Gva, VaBits}, log::{Done, Drained}};
/// // Two entries for the same gVA are two flushes.
/// let gva = Gva::new(0x7000, VaBits::Bits48).unwrap();
/// assert!(vm.log().append_gva(gva) && vm.log().append_gva(gva));
/// let two = Drained { gvas: 2, done: Done::Gvas, why: None, unpublished: false };
/// assert_eq!(vm.drain(), two);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Drained {
    /// gVAs flushed singly.
    pub gvas: u32,
    /// The strongest flush.
    pub done: Done,
    /// Why the context was flushed instead of gVAs.
    pub why: Option<Escalation>,
    /// It stopped at a slot that was reserved and not yet written.
    pub unpublished: bool,
}

/// What a flush that KVM executes for its own reasons makes needless.
///
/// ```
/// # let vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// use gvahint_core::log::Scope;
/// vm.log().append_full();
/// // A context flush of KVM's own does not serve what asked for INVEPT.
/// assert!(!vm.log().superseded(&vm.cursor, Scope::Context));
/// assert!(vm.log().superseded(&vm.cursor, Scope::Root));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// INVVPID of the vCPU's context: gVA and CONTEXT entries.
    Context,
    /// INVEPT of the current root, or wider: all entries.
    Root,
}

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

    /// Serves what lies between the cursor and the head, on the vCPU's own
    /// thread: gVAs one by one while these are at most `max_gvas` and all
    /// there, otherwise by the one flush that serves everything.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::{addr::{Gva, VaBits}, log::Log};
    /// for page in [0x9000, 0x7000] {
    ///     vm.log().append_gva(Gva::new(page, VaBits::Bits48).unwrap());
    /// }
    /// let log = Log::new(&vm.head, &vm.full, &vm.context, &vm.ring);
    /// // As many as are allowed are flushed one by one, oldest first.
    /// assert_eq!(log.drain(&vm.cursor, 2, &mut vm.cpu).gvas, 2);
    /// assert_eq!(vm.cpu.dropped, ["0x9000", "0x7000"]);
    /// ```
    pub fn drain(&self, cursor: &AtomicU64, max_gvas: u32, f: &mut impl Flusher) -> Drained {
        let start = cursor.load(Ordering::Relaxed);
        // The order of these three loads is the second invariant's other half.
        let head = self.head.load(Ordering::Acquire);
        let full = self.full.load(Ordering::Acquire);
        let context = self.context.load(Ordering::Acquire);
        if head == start {
            return done(Done::Nothing, 0, None);
        }
        // A cursor beyond the head is of no log that we know.
        if full > start || start > head {
            f.full();
            cursor.store(head, Ordering::Relaxed);
            return done(Done::Full, 0, None);
        }
        let lag = head.wrapping_sub(start);
        let why = if context > start {
            None
        } else if lag > self.size() {
            Some(Escalation::Lag)
        } else if lag > u64::from(max_gvas) {
            Some(Escalation::TooMany)
        } else {
            return self.drain_gvas(cursor, start, head, f);
        };
        f.context();
        cursor.store(head, Ordering::Relaxed);
        done(Done::Context, 0, why)
    }

    /// The entries `start..head`, none of them FULL or CONTEXT.
    fn drain_gvas(
        &self,
        cursor: &AtomicU64,
        start: u64,
        head: u64,
        f: &mut impl Flusher,
    ) -> Drained {
        let mut gvas: u32 = 0;
        let mut pos = start;
        let mut why = None;
        let mut unpublished = false;
        let mut tag = self.tag(start);
        while pos != head {
            match self.read(pos, tag) {
                Some(gva) if f.gva(gva) => gvas = gvas.saturating_add(1),
                Some(_) => why = Some(Escalation::Refused),
                None => unpublished = true,
            }
            if why.is_some() || unpublished {
                break;
            }
            pos = pos.wrapping_add(1);
            // A tag is a division: once a lap.
            if self.place(pos) == 0 {
                tag = self.tag(pos);
            }
        }
        // Whoever writes a slot reserved its position before: if a slot was
        // overwritten, head says so by now. Otherwise it is not written yet.
        let now = self.head.load(Ordering::Acquire);
        if why.is_none() && now.wrapping_sub(start) > self.size() {
            why = Some(Escalation::Overwritten);
        }
        if why.is_some() {
            f.context();
            cursor.store(head, Ordering::Relaxed);
            return done(Done::Context, gvas, why);
        }
        cursor.store(pos, Ordering::Relaxed);
        Drained {
            gvas,
            done: if gvas == 0 { Done::Nothing } else { Done::Gvas },
            why: None,
            unpublished,
        }
    }

    /// The entry of a position with that tag, if that is what its slot holds.
    #[inline]
    fn read(&self, pos: u64, tag: u64) -> Option<Gva> {
        let slot = self.slots.get(self.place(pos))?;
        let word = slot.load(Ordering::Acquire);
        (word & TAGS == tag).then(|| Gva::stored(word & !TAGS))
    }

    /// Call it directly *before* a flush of that scope executes, on the
    /// vCPU's own thread: moves the cursor over what the flush serves.
    /// `true` if that was something.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::{addr::{Gva, VaBits}, log::Scope};
    /// vm.log().append_gva(Gva::new(0x7000, VaBits::Bits48).unwrap());
    /// // KVM is about to flush this vCPU's context anyway.
    /// assert!(vm.log().superseded(&vm.cursor, Scope::Context));
    /// let _ = vm.drain();
    /// assert!(vm.cpu.dropped.is_empty());
    /// // Again, there is nothing that it could serve.
    /// assert!(!vm.log().superseded(&vm.cursor, Scope::Context));
    /// ```
    pub fn superseded(&self, cursor: &AtomicU64, scope: Scope) -> bool {
        let start = cursor.load(Ordering::Relaxed);
        let head = self.head.load(Ordering::Acquire);
        let full = self.full.load(Ordering::Acquire);
        if head == start || (scope == Scope::Context && full > start) {
            return false;
        }
        cursor.store(head, Ordering::Relaxed);
        true
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

fn done(done: Done, gvas: u32, why: Option<Escalation>) -> Drained {
    Drained {
        gvas,
        done,
        why,
        unpublished: false,
    }
}
