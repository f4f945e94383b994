// SPDX-License-Identifier: GPL-2.0

//! The vCPU's side of the log: what a drain serves, and what serves a drain.

use super::{Log, TAGS};
use crate::addr::Gva;
use crate::sync::{AtomicU64, Ordering};

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

impl Log<'_> {
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

fn done(done: Done, gvas: u32, why: Option<Escalation>) -> Drained {
    Drained {
        gvas,
        done,
        why,
        unpublished: false,
    }
}
