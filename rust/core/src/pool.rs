// SPDX-License-Identifier: GPL-2.0

//! The nodes of a table that are in no use: those handed in, and those that
//! wait to be taken back.
//!
//! Both lists run through the nodes' first words. A node in the first was
//! never seen by a reader since it was handed in; readers may still be in a
//! node of the second, and take what they find there for an uncovered page.
//!
//! In the examples, `vm` is the storage of a small VM: `tests/doc/vm.rs`.

use crate::node::{Nodes, MAX_NODE};
use crate::slot::Slot;
use crate::sync::Ordering;

/// Nodes that applying one set takes at most: those of a path, one for cells.
pub const NODES_PER_SET: u32 = 8;

/// Versions of cells, so that no slot that names one looks like another.
pub(crate) const VERSIONS: u32 = 1 << 15;
/// So many new ones without a grace period are too many: half of all, which
/// leaves room for those of the call that brings it there.
const STALE_VERSIONS: u32 = VERSIONS / 2;

/// How many frames of a VM with `pages` of memory may be kept young as page
/// tables: a guest must not make itself unreclaimable.
///
/// ```
/// use gvahint_core::pool::keep_quota;
/// // A page in 256: 4 MiB of 1 GiB.
/// assert_eq!(keep_quota(1 << 18), 1 << 10);
/// assert_eq!(keep_quota(255), 0);
/// ```
pub const fn keep_quota(pages: u64) -> u64 {
    pages / 256
}

/// What only the writer needs to know of a table; lives as long as its nodes,
/// in what serialises writers.
///
/// ```
/// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
/// vm.map(5, 0, &[0x7000]);
/// vm.writer().clear();
/// // What a hint took waits until no reader can be in it any more.
/// assert_eq!((vm.state.held(), vm.state.retired()), (16, 3));
/// while vm.state.take_back(&vm.nodes).is_some() {}
/// assert_eq!((vm.state.held(), vm.state.retired()), (13, 0));
/// ```
///
/// # Invariants
///
/// `held` nodes were handed in and not taken back; each of them is in the
/// tree, holds cells or the linear ranges, or is in one of the two lists.
#[derive(Debug, Default)]
pub struct WriterState {
    first_free: u32,
    free: u32,
    first_retired: u32,
    retired: u32,
    held: u32,
    exhausted: bool,
    /// First node with a free cell.
    pub(crate) cells: u32,
    /// Of the last cell.
    version: u32,
    /// How many of them since the last grace period.
    fresh_versions: u32,
    /// Sets taken over without their gVAs, since it was last asked.
    pub(crate) shortened: u64,
    /// Frames with a hint.
    pub(crate) hints: u64,
    /// Of these, frames that are kept young; each is counted once.
    kept: u64,
    /// How many of them there may be.
    keep_quota: u64,
}

impl WriterState {
    /// For an empty table.
    ///
    /// ```
    /// use gvahint_core::pool::{WriterState, NODES_PER_SET};
    /// // Whatever the first set needs, it has to be handed in before.
    /// assert_eq!(WriterState::new().wanted(), NODES_PER_SET);
    /// ```
    pub const fn new() -> Self {
        Self {
            first_free: 0,
            free: 0,
            first_retired: 0,
            retired: 0,
            held: 0,
            exhausted: false,
            cells: 0,
            version: 0,
            fresh_versions: 0,
            shortened: 0,
            hints: 0,
            kept: 0,
            keep_quota: 0,
        }
    }

    /// Frames with a hint of any kind; also those that have aged and were not
    /// cleaned up yet.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// // One word of the table, 2^18 frames.
    /// vm.map(0, 18, &[0x4000_0000 | 18]);
    /// assert_eq!(vm.state.hints(), 1 << 18);
    /// ```
    pub const fn hints(&self) -> u64 {
        self.hints
    }

    /// Sets of several gVAs for which there was no room, since this was last
    /// called: their pages count as mapped anywhere.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// // A node of cells is good for 63 sets, and there are no more than 16 nodes.
    /// vm.state.set_exhausted(true);
    /// (0..1_000).for_each(|gfn| vm.map(gfn, 0, &[0x7000, 0x8000]));
    /// assert_eq!(vm.state.take_shortened(), 244);
    /// assert_eq!(vm.state.take_shortened(), 0);
    /// // A flush of the context serves them.
    /// assert_eq!(vm.lookup(999), Ok(vec![]));
    /// ```
    pub fn take_shortened(&mut self) -> u64 {
        core::mem::take(&mut self.shortened)
    }

    /// How many frames that serve as page tables may be kept young: more of
    /// them are uncovered. Those that are kept already stay.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// // 8 frames are page tables, says the guest.
    /// vm.state.set_keep_quota(6);
    /// vm.report(&[8 | 3 << 40 | 3 << 46]).answer().unwrap();
    /// assert_eq!(vm.state.kept(), 6);
    /// ```
    pub fn set_keep_quota(&mut self, frames: u64) {
        self.keep_quota = frames;
    }

    /// Frames that are kept young; also those whose hint has aged and was not
    /// cleaned up yet.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// vm.state.set_keep_quota(1);
    /// vm.report(&[5 | 3 << 46]).answer().unwrap();
    /// assert_eq!(vm.state.kept(), 1);
    /// // What makes room for the next is that the frame becomes anything else.
    /// vm.map(5, 0, &[0x7000]);
    /// assert_eq!(vm.state.kept(), 0);
    /// ```
    pub const fn kept(&self) -> u64 {
        self.kept
    }

    /// Whether `frames` more may be kept once `less` are no longer.
    pub(crate) fn may_keep(&self, frames: u64, less: u64) -> bool {
        self.kept.saturating_sub(less).saturating_add(frames) <= self.keep_quota
    }

    /// So many frames more are kept.
    pub(crate) fn keep(&mut self, frames: u64) {
        self.kept = self.kept.saturating_add(frames);
    }

    /// So many are no longer.
    pub(crate) fn unkeep(&mut self, frames: u64) {
        debug_assert!(self.kept >= frames, "a kept frame was not counted");
        self.kept = self.kept.saturating_sub(frames);
    }

    /// Nodes that the table holds, used or not.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// let before = vm.state.held();
    /// vm.map(5, 0, &[0x7000]);
    /// // What the VM is charged with does not depend on what is in use.
    /// assert_eq!((before, vm.state.held()), (16, 16));
    /// ```
    pub const fn held(&self) -> u32 {
        self.held
    }

    /// Nodes that wait to be taken back.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// vm.map(5, 0, &[0x7000]);
    /// vm.map(6, 0, &[0x8000]);
    /// vm.writer().revoke(5, 1);
    /// // The node is still needed; with its last hint, all three levels go.
    /// assert_eq!(vm.state.retired(), 0);
    /// vm.writer().revoke(6, 1);
    /// assert_eq!(vm.state.retired(), 3);
    /// ```
    pub const fn retired(&self) -> u32 {
        self.retired
    }

    /// How many nodes to hand in before the next set; 0 if there are enough,
    /// or if it was said that there are no more.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// // Each of these takes 2 of 16 nodes, the first one the root, too.
    /// for gib in 0..4 {
    ///     vm.map(gib << 18, 0, &[0x7000]);
    /// }
    /// // 7 are left: a further set might be one short.
    /// assert_eq!(vm.state.wanted(), 1);
    /// ```
    pub const fn wanted(&self) -> u32 {
        if self.exhausted {
            0
        } else {
            NODES_PER_SET.saturating_sub(self.free)
        }
    }

    /// Says whether there are no more nodes to be had: sets that need one are
    /// refused then.
    ///
    /// ```
    /// use gvahint_core::pool::WriterState;
    /// let mut state = WriterState::new();
    /// // At the limit nothing is asked for, so that reports go on.
    /// state.set_exhausted(true);
    /// assert_eq!(state.wanted(), 0);
    /// ```
    pub fn set_exhausted(&mut self, exhausted: bool) {
        self.exhausted = exhausted;
    }

    /// Whether a grace period has to pass before the next REPORT, even if no
    /// node waits for one: a lookup under way must never find a version again.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// // Sets of one gVA have no cell, and no version.
    /// (0..1 << 14).for_each(|_| vm.map(5, 0, &[0x7000]));
    /// assert!(!vm.state.needs_grace());
    /// (0..1 << 14).for_each(|_| vm.map(5, 0, &[0x7000, 0x8000]));
    /// assert!(vm.state.needs_grace());
    /// ```
    pub const fn needs_grace(&self) -> bool {
        self.fresh_versions >= STALE_VERSIONS
    }

    /// Every lookup that was under way has ended since the last REPORT.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// (0..1 << 14).for_each(|_| vm.map(5, 0, &[0x7000, 0x8000]));
    /// // The same number of new cells may follow.
    /// vm.state.grace_passed();
    /// assert!(!vm.state.needs_grace());
    /// ```
    pub fn grace_passed(&mut self) {
        self.fresh_versions = 0;
    }

    /// The version for a new cell; `None` if it might be seen twice.
    pub(crate) fn next_version(&mut self) -> Option<u32> {
        if self.fresh_versions >= VERSIONS.saturating_sub(1) {
            return None;
        }
        self.fresh_versions = self.fresh_versions.saturating_add(1);
        self.version = self.version.wrapping_add(1) % VERSIONS;
        Some(self.version)
    }

    /// Hands in a node, zeroed: `false` if there is none of that number.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::pool::WriterState;
    /// let mut state = WriterState::new();
    /// // It has to be found under its number by then.
    /// assert!(state.hand_in(&vm.nodes, 16) && !state.hand_in(&vm.nodes, 17));
    /// assert_eq!(state.held(), 1);
    /// ```
    pub fn hand_in<N: Nodes>(&mut self, nodes: &N, id: u32) -> bool {
        let first = match nodes.node(id) {
            Some([first, ..]) if id <= MAX_NODE => first,
            _ => return false,
        };
        first.store(u64::from(self.first_free), Ordering::Release);
        self.first_free = id;
        self.free = self.free.saturating_add(1);
        self.held = self.held.saturating_add(1);
        self.check();
        true
    }

    /// Takes back a node that is out of use. It may be used otherwise once
    /// every lookup that is under way has ended.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// // Not those that were handed in and wait for a set.
    /// assert_eq!(vm.state.take_back(&vm.nodes), None);
    /// vm.map(5, 0, &[0x7000]);
    /// vm.writer().clear();
    /// assert!(vm.state.take_back(&vm.nodes).is_some());
    /// ```
    pub fn take_back<N: Nodes>(&mut self, nodes: &N) -> Option<u32> {
        let id = self.first_retired;
        let [first, ..] = nodes.node(id)?;
        self.first_retired = Slot(first.load(Ordering::Relaxed)).next_retired();
        self.retired = self.retired.saturating_sub(1);
        self.held = self.held.saturating_sub(1);
        self.check();
        Some(id)
    }

    /// A zeroed node, if there is one.
    pub(crate) fn take_node<N: Nodes>(&mut self, nodes: &N) -> Option<u32> {
        let id = self.first_free;
        let [first, ..] = nodes.node(id)?;
        self.first_free = crate::cast::low_u32(first.load(Ordering::Relaxed));
        first.store(0, Ordering::Relaxed);
        self.free = self.free.saturating_sub(1);
        Some(id)
    }

    /// Lets go of a node that nothing leads to any more.
    pub(crate) fn retire<N: Nodes>(&mut self, nodes: &N, id: u32) {
        if let Some([first, ..]) = nodes.node(id) {
            first.store(Slot::retired(self.first_retired).0, Ordering::Release);
            self.first_retired = id;
            self.retired = self.retired.saturating_add(1);
            self.check();
        }
    }

    /// A part of the invariants.
    fn check(&self) {
        let listed = self.free.saturating_add(self.retired);
        debug_assert!(listed <= self.held, "more nodes than were handed in");
        debug_assert!((self.free == 0) == (self.first_free == 0));
        debug_assert!((self.retired == 0) == (self.first_retired == 0));
    }
}
