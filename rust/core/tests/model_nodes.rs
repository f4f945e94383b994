// SPDX-License-Identifier: GPL-2.0

//! The hint table under loom while its nodes are taken back and used again: a
//! lookup never finds what a node holds in its second use. Run by scripts/models.

#![cfg(loom)]
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

use gvahint_core::addr::{Gfn, VaBits};
use gvahint_core::node::{Node, Nodes, NODE_SLOTS};
use gvahint_core::policy::LinearAlias;
use gvahint_core::pool::{WriterState, NODES_PER_SET};
use gvahint_core::report::{self, Limits, Sets};
use gvahint_core::sync::{AtomicU64, Ordering};
use gvahint_core::table::{Hints, Query, Shape, Top};
use gvahint_core::writer::Writer;
use loom::thread;
use std::sync::Arc;

/// The frame that is looked up, and one in another 2M.
const FRAME: u64 = 0;
const OTHER: u64 = 512;
const GVA: u64 = 0x1000;
const OTHER_GVA: u64 = 0xa000;
/// Words of a node that the lookup reads: slots, two cells.
const READ: usize = 24;

/// A node that was taken back is zeroed before it is handed in again.
struct Reused(Vec<Box<Node>>);

impl Nodes for Reused {
    fn node(&self, id: u32) -> Option<&Node> {
        Some(self.0.get((id as usize).checked_sub(1)?)?)
    }
}

struct World {
    top: Top,
    nodes: Reused,
    /// Lookups under way: what a grace period waits for.
    readers: AtomicU64,
}

impl World {
    fn new(state: &mut WriterState) -> Self {
        let node = |_| Box::new([const { AtomicU64::new(0) }; NODE_SLOTS]);
        let world = Self {
            top: Top::new(),
            nodes: Reused((0..NODES_PER_SET).map(node).collect()),
            readers: AtomicU64::new(0),
        };
        for id in 1..=NODES_PER_SET {
            assert!(state.hand_in(&world.nodes, id));
        }
        state.set_exhausted(true);
        world
    }

    /// See [`AtomicU64::touch`].
    fn touch(&self) {
        let words = self.nodes.0.iter().flat_map(|node| node.iter().take(READ));
        words.for_each(AtomicU64::touch);
        self.readers.touch();
    }

    fn hints(&self) -> Hints<'_, Reused> {
        Hints::new(&self.top, &self.nodes, Shape::new(1024).unwrap())
    }

    /// A lookup of [`FRAME`] within a read-side section.
    fn lookup(&self) -> Option<u64> {
        let query = Query {
            now_ms: 1,
            max_age_ms: 1000,
            alias: LinearAlias::Never,
        };
        self.readers.fetch_add(1, Ordering::AcqRel);
        let found = self.hints().lookup(Gfn::new(FRAME).unwrap(), &query);
        self.readers.fetch_add(u64::MAX, Ordering::AcqRel);
        found.ok().map(|list| list.iter().next().unwrap().raw())
    }

    fn set(&self, state: &mut WriterState, gfn: u64, gva: u64) {
        let words = [gfn | 1 << 46 | 1 << 50, gva];
        let limits = Limits {
            bits: VaBits::Bits48,
            max_gfn: 1024,
        };
        let mut writer = Writer::new(self.hints(), state);
        let sets = &mut Sets::new(&words, limits);
        let applied = report::apply(sets, 0, &mut writer, 1, |_, _| true);
        assert_eq!(applied.refused, None);
    }

    /// Takes back what is out of use and hands it in again. `wait`: as the host
    /// does it, after a grace period; if a lookup is under way, not at all.
    fn reuse(&self, state: &mut WriterState, wait: bool) -> bool {
        let back: Vec<u32> = std::iter::from_fn(|| state.take_back(&self.nodes)).collect();
        assert!(!back.is_empty());
        // An exchange reads the latest value: a lookup that begins after it
        // sees what was unlinked before it.
        if wait && self.readers.fetch_add(0, Ordering::AcqRel) != 0 {
            return false;
        }
        for id in back {
            let words = self.nodes.node(id).unwrap().iter().take(READ);
            words.for_each(|word| word.store(0, Ordering::Relaxed));
            assert!(state.hand_in(&self.nodes, id));
        }
        true
    }
}

/// A lookup of a frame beside the change of its hint, whose nodes then serve the
/// other frame; `check` gets what the lookup found.
fn run(wait: bool, check: fn(Option<u64>)) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 20_000;
    builder.check(move || {
        let mut state = WriterState::new();
        let world = World::new(&mut state);
        world.set(&mut state, FRAME, GVA);
        world.touch();
        let world = Arc::new(world);
        let reader = {
            let world = world.clone();
            thread::spawn(move || world.lookup())
        };
        Writer::new(world.hints(), &mut state).revoke(FRAME, 1);
        if world.reuse(&mut state, wait) {
            world.set(&mut state, OTHER, OTHER_GVA);
        }
        let found = reader.join().unwrap();
        check(found);
        assert_eq!(world.lookup(), None);
    });
}

#[test]
fn a_node_is_used_again_after_a_grace_period() {
    run(true, |found| {
        assert!(matches!(found, None | Some(GVA)), "{found:x?}");
    });
}

#[test]
#[should_panic(expected = "another frame's")]
fn without_a_grace_period_a_lookup_finds_another_frames() {
    run(false, |found| {
        assert_ne!(found, Some(OTHER_GVA), "another frame's");
    });
}
