// SPDX-License-Identifier: GPL-2.0

//! What goes: hints that are revoked, that are dead, or all of them.

use super::Writer;
use crate::cells;
use crate::node::{Nodes, NODE_BITS, NODE_SLOTS};
use crate::path::Path;
use crate::slot::{Child, Content, Slot, OLDEST_MS};
use crate::sync::Ordering;
use crate::table::Top;

impl<'a, N: Nodes> Writer<'a, N> {
    /// Uncovers `pages` frames from `gfn`, and all frames of a larger hint
    /// that they are part of; never allocates. For what the guest revokes and
    /// for memory that left the memslots. Takes time for the hints there, not
    /// for the frames.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::plan::Reason;
    /// // One frame of a 2M page takes the hint of all 512 along, without a node.
    /// vm.map(512, 9, &[0x4000_0000 | 9]);
    /// vm.writer().revoke(600, 1);
    /// assert_eq!(vm.lookup(512), Err(Reason::NoHint));
    /// // Any range will do, also one beyond the table's end.
    /// vm.writer().revoke(0, u64::MAX);
    /// ```
    pub fn revoke(&mut self, gfn: u64, pages: u64) {
        self.replace_with(gfn, pages, Slot::EMPTY, |content| content != Content::Empty);
    }

    /// Gives up the cells of frames that are data, and stay covered as that.
    pub(super) fn give_up_cells(&mut self, gfn: u64, pages: u64, now_ms: u64) {
        let anywhere = Slot::new(Content::Anywhere, now_ms);
        let has_cells = |content| matches!(content, Content::Cell { .. } | Content::Child(_));
        self.replace_with(gfn, pages, anywhere, has_cells);
    }

    /// Writes `new` over all of a range that is in one slot each, and of which
    /// `which` says so.
    fn replace_with(&mut self, gfn: u64, pages: u64, new: Slot, which: impl Fn(Content) -> bool) {
        self.near = None;
        let end = gfn.saturating_add(pages).min(self.hints.shape.max_gfn());
        let mut at = gfn;
        while at < end {
            let mut path = Path::new(&self.hints);
            let whole = |path: &Path<'_>| path.start(at) >= gfn && path.end(at) <= end;
            while let Content::Child(_) = path.slot().content() {
                if whole(&path) || path.descend(&self.hints, at).is_none() {
                    break;
                }
            }
            at = path.end(at);
            if which(path.slot().content()) {
                self.put(&path, new);
                self.prune(&path);
            }
        }
    }

    /// Uncovers everything, in time for the memory held. The linear ranges stay.
    ///
    /// ```
    /// # let mut vm = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/vm.rs"));
    /// use gvahint_core::{addr::VaBits, linear::LinearList};
    /// let words = [0, 0xffff_8880_0000_0000, 1 << 30, 1 << 30];
    /// let list = LinearList::parse(&words, VaBits::Bits48).unwrap();
    /// vm.writer().set_linear(&list).unwrap();
    /// vm.map(512, 9, &[0x4000_0000 | 9]);
    /// vm.writer().clear();
    /// assert_eq!((vm.writer().hints(), vm.writer().has_linear(&list)), (0, true));
    /// ```
    pub fn clear(&mut self) {
        self.near = None;
        let root = self.hints.top.root.load(Ordering::Relaxed);
        self.begin_epoch(|top| top.root.store(0, Ordering::Release));
        let above = self.hints.shape.root_shift().wrapping_add(NODE_BITS);
        self.forget(Slot(root), above);
    }

    /// Changes what every lookup begins with, by stores with release; readers that are under way
    /// decline.
    pub(super) fn begin_epoch(&self, change: impl FnOnce(&Top)) {
        let top = self.hints.top;
        let epoch = top.epoch.load(Ordering::Relaxed);
        // Stored with release below: who sees any of it sees this before it.
        top.epoch.store(epoch.wrapping_add(1), Ordering::Relaxed);
        change(top);
        top.epoch.store(epoch.wrapping_add(2), Ordering::Release);
    }

    /// Drops the hints that are dead under any setting from the node that the
    /// path ends in, so that what is written there can be told from them.
    #[inline]
    pub(super) fn clean(&mut self, path: &Path<'a>, gfn: u64, now_ms: u64) {
        if let Some(node) = path.parent().filter(|node| node.is_dirty(now_ms)) {
            self.clean_node(node, path, gfn, now_ms);
        }
    }

    #[inline(never)]
    pub(super) fn clean_node(&mut self, node: Child, path: &Path<'a>, gfn: u64, now_ms: u64) {
        let mut at = *path;
        at.ascend();
        let mut frame = at.start(gfn);
        at = *path;
        for _ in 0..NODE_SLOTS {
            if at.step(&self.hints, frame).is_none() {
                break;
            }
            let slot = at.slot();
            let is_hint = slot.0 & 7 != 0;
            if is_hint && (node.is_dead(now_ms) || slot.is_older(now_ms, OLDEST_MS)) {
                self.put(&at, Slot::EMPTY);
            }
            frame = at.end(frame);
        }
        path.set_cleaned(now_ms);
    }

    /// Takes nodes that have become empty out of the tree, from the path's end up.
    pub(super) fn prune(&mut self, path: &Path<'a>) {
        let mut path = *path;
        while path.parent().is_some_and(|node| node.used() == 0) {
            path.ascend();
            self.put(&path, Slot::EMPTY);
        }
    }

    /// Lets go of what a slot held that spanned 2^`shift` frames: a hint, or a
    /// node with all that is below it.
    pub(super) fn forget(&mut self, old: Slot, shift: u32) {
        match old.content() {
            Content::Empty => {}
            Content::Child(child) => {
                let below = shift.saturating_sub(NODE_BITS);
                for place in self.hints.nodes.node(child.id()).into_iter().flatten() {
                    let slot = Slot(place.load(Ordering::Relaxed));
                    if let Content::Cell { .. } = slot.content() {
                        // A reader may still be in this node, and the cell is free at once.
                        place.store(Slot::new(Content::Retired, 0).0, Ordering::Release);
                    }
                    self.forget(slot, below);
                }
                self.state.retire(self.hints.nodes, child.id());
            }
            hint => {
                let frames = 1u64.wrapping_shl(shift);
                debug_assert!(self.state.hints >= frames, "a hint was not counted");
                self.state.hints = self.state.hints.saturating_sub(frames);
                if old.is_kept() {
                    self.state.unkeep(frames);
                }
                self.release(hint);
            }
        }
    }

    pub(super) fn release(&mut self, content: Content) {
        if let Content::Cell { id, .. } = content {
            cells::release(self.hints.nodes, self.state, id);
        }
    }
}
