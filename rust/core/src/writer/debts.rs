// SPDX-License-Identifier: GPL-2.0

//! What a change of a slot owes: see [`crate::owed`].

use super::Writer;
use crate::cast;
use crate::cells;
use crate::node::{Nodes, NODE_SLOTS};
use crate::slot::{Content, Slot};
use crate::sync::Ordering;

impl<N: Nodes> Writer<'_, N> {
    /// What `old` stands for will be covered by the next store. Who finds it so
    /// finds a flush of everything due if it may have been a page table; once is
    /// enough, for whatever this writer's guest tells of was over before it called.
    #[inline]
    pub(super) fn turn_into_data(&mut self, old: Slot) {
        if !self.turned && !self.is_all_data(old) {
            self.turned = true;
            self.hints.top.turned.incur();
        }
    }

    /// Whether all that a slot stands for is data, by hints as large as those of a node.
    #[inline]
    fn is_all_data(&self, slot: Slot) -> bool {
        match slot.content() {
            Content::Child(node) => {
                let mut slots = self.hints.nodes.node(node.id()).into_iter().flatten();
                node.used() == cast::u64_from_usize(NODE_SLOTS)
                    && slots.all(|place| Slot(place.load(Ordering::Relaxed)).is_data())
            }
            _ => slot.is_data(),
        }
    }

    /// Whether some of it may be.
    #[inline]
    pub(super) fn holds_data(&self, slot: Slot) -> bool {
        match slot.content() {
            Content::Child(node) => node.used() > 0,
            _ => slot.is_data(),
        }
    }

    /// Whether a page that was aged by what `old` lists may be reached otherwise, now that it is
    /// what `new` says.
    #[inline]
    pub(super) fn moves(&self, old: Slot, new: Slot) -> bool {
        match (old.content(), new.content()) {
            (Content::Child(_), _) => self.holds_data(old),
            (Content::Cell { id, .. }, Content::Cell { id: new, .. }) => {
                !cells::holds(self.hints.nodes, id, new)
            }
            (Content::One(..) | Content::Cell { .. } | Content::KernelOnly, _) => !old.says_as(new),
            _ => false,
        }
    }
}
