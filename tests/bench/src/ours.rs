// SPDX-License-Identifier: GPL-2.0

//! The core's hint table with its storage.

use crate::arena::Arena;
use crate::maps::{limits, query, Map, NOW_MS};
use gvahint_core::addr::{Gfn, Level};
use gvahint_core::leaf::Cover;
use gvahint_core::pool::WriterState;
use gvahint_core::report::{self, Sets};
use gvahint_core::table::{Hints, Shape, Top};
use gvahint_core::writer::Writer;

/// A table.
pub struct Table {
    top: Top,
    nodes: Arena,
    shape: Shape,
    state: WriterState,
}

impl Table {
    /// An empty one for a guest of that many pages.
    pub fn new(pages: u64) -> Self {
        Self {
            top: Top::new(),
            nodes: Arena::default(),
            shape: Shape::new(pages).expect("at most 2^40 pages"),
            state: WriterState::new(),
        }
    }

    /// To look things up.
    #[inline]
    pub fn hints(&self) -> Hints<'_, Arena> {
        Hints::new(&self.top, &self.nodes, self.shape)
    }

    /// Uncovers everything, and frees what that leaves.
    pub fn revoke_all(&mut self) {
        let hints = Hints::new(&self.top, &self.nodes, self.shape);
        Writer::new(hints, &mut self.state).revoke(0, u64::MAX);
        while let Some(id) = self.state.take_back(&self.nodes) {
            self.nodes.remove(id);
        }
    }

    /// Frames with a hint.
    pub fn covered(&self) -> u64 {
        self.state.hints()
    }

    /// What the table takes: its own structures, nodes, and what finds these.
    pub fn bytes(&self) -> u64 {
        std::mem::size_of::<Self>() as u64 + self.nodes.bytes()
    }
}

impl Map for Table {
    const NAME: &'static str = "gvahint";

    fn new(pages: u64) -> Self {
        Table::new(pages)
    }

    fn report(&mut self, words: &[u64]) {
        let mut sets = Sets::new(words, limits(self.shape.max_gfn()));
        let mut before = 0;
        loop {
            let hints = Hints::new(&self.top, &self.nodes, self.shape);
            let mut writer = Writer::new(hints, &mut self.state);
            let applied = report::apply(&mut sets, before, &mut writer, NOW_MS, |_, _| true);
            assert!(applied.refused.is_none(), "{:?}", applied.refused);
            if applied.wanted == 0 {
                return;
            }
            before = applied.sets;
            for _ in 0..applied.wanted {
                let id = self.nodes.add();
                assert!(self.state.hand_in(&self.nodes, id));
            }
        }
    }

    fn lookup(&self, gfn: u64) -> Option<u64> {
        let cover = self.hints().cover(Gfn::new(gfn)?, Level::L4K, &query());
        match cover.ok()? {
            Cover::Gva((gva, _), _) => Some(gva.raw()),
            _ => None,
        }
    }

    fn hints(&self) -> u64 {
        self.covered()
    }
}
