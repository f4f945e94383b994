// SPDX-License-Identifier: GPL-2.0

//! A hint table with its storage, addressed as a guest does: by words.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions)]

use gvahint_core::addr::{Gfn, MapSize, VaBits};
use gvahint_core::counters::Counters;
use gvahint_core::linear::LinearList;
use gvahint_core::log::Log;
use gvahint_core::node::{Node, Nodes, NODE_SLOTS};
use gvahint_core::plan::{flush_all, Reason};
use gvahint_core::policy::LinearAlias;
use gvahint_core::pool::{WriterState, NODES_PER_SET};
use gvahint_core::report::{self, Applied, Limits, Sets};
use gvahint_core::sync::{AtomicU64, Ordering};
use gvahint_core::table::{Hints, Query, Shape, Top};
use gvahint_core::wire::{Errno, Fault};
use gvahint_core::writer::Writer;

pub(crate) const MAPPED: u64 = 1;
pub(crate) const KERNEL_ONLY: u64 = 2;
pub(crate) const PAGE_TABLE: u64 = 3;
pub(crate) const TOO_MANY: u64 = 4;
pub(crate) const REVOKED: u64 = 5;
pub(crate) const ANYWHERE: u64 = 6;

pub(crate) fn header(gfn: u64, order: u64, kind: u64, count: u64) -> u64 {
    gfn | order << 40 | kind << 46 | count << 50
}

/// Nodes by their number less 1, and how often one was asked for.
#[derive(Default)]
pub(crate) struct Arena(Vec<Option<Box<Node>>>, AtomicU64);

impl Nodes for Arena {
    fn node(&self, id: u32) -> Option<&Node> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.get((id as usize).checked_sub(1)?)?.as_deref()
    }
}

impl Arena {
    /// A zeroed node under the lowest number that is free.
    fn add(&mut self) -> u32 {
        let free = self.0.iter().position(Option::is_none);
        let at = free.unwrap_or_else(|| {
            self.0.push(None);
            self.0.len() - 1
        });
        self.0[at] = Some(Box::new([const { AtomicU64::new(0) }; NODE_SLOTS]));
        at as u32 + 1
    }

    fn remove(&mut self, id: u32) {
        assert!(self.0[id as usize - 1].take().is_some(), "twice: {id}");
    }

    /// How often a node was asked for: a measure of work.
    pub(crate) fn steps(&self) -> u64 {
        self.1.load(Ordering::Relaxed)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().flatten().count()
    }
}

pub(crate) struct Storage {
    top: Top,
    pub(crate) nodes: Arena,
    shape: Shape,
    /// As many nodes there may be.
    pub(crate) limit: usize,
    pub(crate) state: WriterState,
    pub(crate) bits: VaBits,
    pub(crate) now_ms: u64,
    pub(crate) max_age_ms: u32,
    pub(crate) alias: LinearAlias,
    /// Whether everything is flushed after each REPORT, so that what was reported owes nothing.
    pub(crate) settles: bool,
}

impl Storage {
    pub(crate) fn new(max_gfn: u64, limit: usize) -> Self {
        Self {
            top: Top::new(),
            nodes: Arena::default(),
            shape: Shape::new(max_gfn).unwrap(),
            limit,
            state: WriterState::new(),
            bits: VaBits::Bits48,
            now_ms: 12_345,
            max_age_ms: 60_000,
            alias: LinearAlias::Auto,
            settles: true,
        }
    }

    pub(crate) fn hints(&self) -> Hints<'_, Arena> {
        Hints::new(&self.top, &self.nodes, self.shape)
    }

    pub(crate) fn writer(&mut self) -> Writer<'_, Arena> {
        let hints = Hints::new(&self.top, &self.nodes, self.shape);
        Writer::new(hints, &mut self.state)
    }

    /// Nodes in use; while no node was wanted in vain.
    pub(crate) fn used(&self) -> u64 {
        let free = NODES_PER_SET - self.state.wanted();
        u64::from(self.state.held() - self.state.retired() - free)
    }

    /// Takes back what is out of use: nobody reads.
    pub(crate) fn reap(&mut self) {
        while let Some(id) = self.state.take_back(&self.nodes) {
            self.nodes.remove(id);
        }
        assert_eq!(self.state.held() as usize, self.nodes.len());
    }

    /// Hands in what is wanted, up to the limit.
    pub(crate) fn grow(&mut self) {
        self.reap();
        for _ in 0..self.state.wanted() {
            if self.nodes.len() >= self.limit {
                self.state.set_exhausted(true);
                break;
            }
            let id = self.nodes.add();
            assert!(self.state.hand_in(&self.nodes, id));
        }
    }

    pub(crate) fn query(&self) -> Query {
        Query {
            now_ms: self.now_ms,
            max_age_ms: self.max_age_ms,
            alias: self.alias,
        }
    }

    /// The gVAs of a frame; none if only the context drops them.
    pub(crate) fn lookup(&self, gfn: u64) -> Result<Vec<u64>, Reason> {
        let list = self.hints().lookup(Gfn::new(gfn).unwrap(), &self.query())?;
        let gvas: Vec<u64> = list.iter().map(|gva| gva.raw()).collect();
        assert_eq!(gvas.len(), list.len());
        Ok(gvas)
    }

    /// The same with the sizes of the guest's mappings.
    pub(crate) fn sized(&self, gfn: u64) -> Vec<(u64, MapSize)> {
        let list = self.hints().lookup(Gfn::new(gfn).unwrap(), &self.query());
        let gvas = list.unwrap();
        let sized = gvas.sized().map(|(gva, size)| (gva.raw(), size));
        sized.collect()
    }

    /// REPORT of these words, all memory in memslots.
    pub(crate) fn apply(&mut self, words: &[u64]) -> Applied {
        self.apply_in(words, |_, _| true)
    }

    /// REPORT of these words with those memslots.
    pub(crate) fn apply_in(
        &mut self,
        words: &[u64],
        mut valid: impl FnMut(u64, u64) -> bool,
    ) -> Applied {
        let limits = Limits {
            bits: self.bits,
            max_gfn: self.shape.max_gfn(),
        };
        let now_ms = self.now_ms;
        let mut sets = Sets::new(words, limits);
        let mut before = 0;
        loop {
            let applied = report::apply(&mut sets, before, &mut self.writer(), now_ms, &mut valid);
            if applied.wanted == 0 {
                self.state.set_exhausted(false);
                if self.state.needs_grace() {
                    // Nobody reads.
                    self.state.grace_passed();
                }
                if self.settles {
                    self.flush_all();
                }
                return applied;
            }
            before = applied.sets;
            self.grow();
        }
    }

    /// Everything is flushed, of which some log tells.
    pub(crate) fn flush_all(&self) {
        let [head, full, context] = [const { AtomicU64::new(0) }; 3];
        let log = Log::new(&head, &full, &context, &[]);
        flush_all(log, Some(&self.hints()), &Counters::new());
    }

    /// REPORT of one set.
    pub(crate) fn set(
        &mut self,
        gfn: u64,
        order: u64,
        kind: u64,
        gvas: &[u64],
    ) -> Result<(), Errno> {
        let mut words = vec![header(gfn, order, kind, gvas.len() as u64)];
        words.extend(gvas);
        match self.apply(&words).answer() {
            Ok(1) => Ok(()),
            Ok(n) => panic!("{n} sets"),
            Err(errno) => Err(errno),
        }
    }

    /// LINEAR of these words; whether it was another list.
    pub(crate) fn set_linear(&mut self, words: &[u64]) -> bool {
        self.try_linear(words).unwrap()
    }

    /// The same where there may be no node for it.
    pub(crate) fn try_linear(&mut self, words: &[u64]) -> Result<bool, Fault> {
        let list = LinearList::parse(words, self.bits).unwrap();
        self.grow();
        self.state.set_exhausted(false);
        self.writer().set_linear(&list)
    }

    pub(crate) fn clear(&mut self) {
        self.writer().clear();
    }
}
