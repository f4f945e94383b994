// SPDX-License-Identifier: GPL-2.0

//! The way from the table's root to a slot, as the writer walks it.

use crate::node::{Nodes, NODE_BITS};
use crate::slot::{Child, Content, Slot};
use crate::sync::{AtomicU64, Ordering};
use crate::table::{Hints, MAX_LEVELS};

/// A slot, and the links that lead to it.
///
/// # Invariants
///
/// `words[0]` is the link to the root; each of `words[1..=depth]` is a slot in
/// the node that the one before links to. The last is the path's slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path<'a> {
    words: [&'a AtomicU64; MAX_LEVELS + 1],
    depth: usize,
    shift: u32,
}

impl<'a> Path<'a> {
    /// The path that is only the link to the root.
    pub(crate) fn new<N: Nodes>(hints: &Hints<'a, N>) -> Self {
        Self {
            words: [&hints.top.root; MAX_LEVELS + 1],
            depth: 0,
            shift: hints.shape.root_shift().wrapping_add(NODE_BITS),
        }
    }

    #[inline]
    fn word(&self) -> &'a AtomicU64 {
        let [root, ..] = &self.words;
        self.words.get(self.depth).unwrap_or(root)
    }

    /// The link to the node that the slot is in; `None` for the root's own.
    #[inline]
    fn link(&self) -> Option<&'a AtomicU64> {
        self.words.get(self.depth.checked_sub(1)?).copied()
    }

    /// What the slot holds.
    #[inline]
    pub(crate) fn slot(&self) -> Slot {
        Slot(self.word().load(Ordering::Relaxed))
    }

    /// Writes the slot.
    #[inline]
    pub(crate) fn store(&self, slot: Slot) {
        self.word().store(slot.0, Ordering::Release);
    }

    /// log2 of the frames that the slot spans.
    #[inline]
    pub(crate) const fn shift(&self) -> u32 {
        self.shift
    }

    /// The first frame of those with `gfn` that the slot spans.
    #[inline]
    pub(crate) fn start(&self, gfn: u64) -> u64 {
        gfn.wrapping_shr(self.shift).wrapping_shl(self.shift)
    }

    /// The first frame after them.
    #[inline]
    pub(crate) fn end(&self, gfn: u64) -> u64 {
        self.start(gfn)
            .saturating_add(1u64.wrapping_shl(self.shift))
    }

    /// What is known of the node that the slot is in.
    #[inline]
    pub(crate) fn parent(&self) -> Option<Child> {
        Some(Child(self.link()?.load(Ordering::Relaxed)))
    }

    /// One slot of that node more, or less, is in use.
    #[inline]
    pub(crate) fn count(&self, more: bool) {
        if let (Some(link), Some(node)) = (self.link(), self.parent()) {
            debug_assert!(more || node.used() > 0, "an empty node became emptier");
            let used = if more {
                node.used().saturating_add(1)
            } else {
                node.used().saturating_sub(1)
            };
            link.store(node.with(node.id(), used).0, Ordering::Release);
        }
    }

    /// That node has been cleaned.
    pub(crate) fn set_cleaned(&self, now_ms: u64) {
        if let (Some(link), Some(node)) = (self.link(), self.parent()) {
            let node = Child::new(node.id(), node.used(), now_ms);
            link.store(node.0, Ordering::Release);
        }
    }

    /// Goes on to the frame's slot in the node that the slot links to.
    pub(crate) fn descend<N: Nodes>(&mut self, hints: &Hints<'a, N>, gfn: u64) -> Option<()> {
        let Content::Child(child) = self.slot().content() else {
            return None;
        };
        let shift = self.shift.checked_sub(NODE_BITS)?;
        let next = self.depth.wrapping_add(1);
        *self.words.get_mut(next)? = hints.place(child, gfn, shift)?;
        (self.depth, self.shift) = (next, shift);
        Some(())
    }

    /// Goes to the frame's slot in the same node.
    #[inline]
    pub(crate) fn step<N: Nodes>(&mut self, hints: &Hints<'a, N>, gfn: u64) -> Option<()> {
        let place = hints.place(self.parent()?, gfn, self.shift)?;
        *self.words.get_mut(self.depth)? = place;
        Some(())
    }

    /// Goes back to the link to the node that the slot is in; stays at the root's.
    pub(crate) fn ascend(&mut self) {
        if let Some(depth) = self.depth.checked_sub(1) {
            self.depth = depth;
            self.shift = self.shift.saturating_add(NODE_BITS);
        }
    }
}
