// SPDX-License-Identifier: GPL-2.0

//! The hint table under loom: a lookup beside a writer finds the set before,
//! the set after, or nothing. Run by scripts/models.

#![cfg(loom)]
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

use gvahint_core::addr::{Gfn, Level, VaBits};
use gvahint_core::counters::Counters;
use gvahint_core::linear::LinearList;
use gvahint_core::log::Log;
use gvahint_core::node::{Node, Nodes, NODE_SLOTS};
use gvahint_core::owed::reported;
use gvahint_core::plan::{aged, finish, flush_all, Env, Pass};
use gvahint_core::policy::{LinearAlias, Policy, Tunables};
use gvahint_core::pool::WriterState;
use gvahint_core::report::{self, Limits, Sets};
use gvahint_core::sync::{AtomicU32, AtomicU64, Ordering};
use gvahint_core::table::{Hints, Query, Shape, Top};
use gvahint_core::writer::Writer;
use loom::thread::{self, JoinHandle};
use std::sync::Arc;

/// Not the first of its node: that is where nodes that were dropped are linked.
const FRAME: u64 = 1;
const NEXT: u64 = 2;
/// In another 2M.
const FAR: u64 = 600;
const MAX_GFN: u64 = 1024;
const OLD: [u64; 2] = [0x1000, 0x2000];
const NEW: [u64; 2] = [0xa000, 0xb000];
/// Of 2M.
const LARGE: [u64; 2] = [0x4000_0000, 0x5000_0000];
/// What that says of the frame.
const LARGE_HERE: [u64; 2] = [LARGE[0] + (FRAME << 12), LARGE[1] + (FRAME << 12)];
const LINEAR: [[u64; 8]; 2] = [
    [0, 1 << 40, 1 << 21, 4096, 0, 2 << 40, 1 << 21, 4096],
    [0, 3 << 40, 1 << 21, 4096, 0, 4 << 40, 1 << 21, 4096],
];

/// Enough nodes that none has to be taken back; no reader needs a grace period.
struct Fixed(Vec<Box<Node>>);

impl Nodes for Fixed {
    fn node(&self, id: u32) -> Option<&Node> {
        Some(self.0.get((id as usize).checked_sub(1)?)?)
    }
}

const NODES: u32 = 14;
/// Words of a node that lookups of these models read: slots, ranges, two cells.
const READ: usize = 24;

struct World {
    top: Top,
    nodes: Fixed,
    head: AtomicU64,
    full: AtomicU64,
    context: AtomicU64,
    ring: [AtomicU64; 2],
}

impl World {
    fn new(state: &mut WriterState) -> Self {
        let node = |_| Box::new([const { AtomicU64::new(0) }; NODE_SLOTS]);
        let world = Self {
            top: Top::new(),
            nodes: Fixed((0..NODES).map(node).collect()),
            head: AtomicU64::new(0),
            full: AtomicU64::new(0),
            context: AtomicU64::new(0),
            ring: [const { AtomicU64::new(0) }; 2],
        };
        for id in 1..=NODES {
            assert!(state.hand_in(&world.nodes, id));
        }
        state.set_exhausted(true);
        world
    }

    /// See [`AtomicU64::touch`].
    fn touch(&self) {
        let words = self.nodes.0.iter().flat_map(|node| node.iter().take(READ));
        words.for_each(AtomicU64::touch);
        let log = [&self.head, &self.full, &self.context];
        log.into_iter().for_each(AtomicU64::touch);
        self.ring.iter().for_each(AtomicU64::touch);
        let _ = (self.hints().owes_full(), self.hints().owes_context());
        let _ = self.lookup();
    }

    fn hints(&self) -> Hints<'_, Fixed> {
        Hints::new(&self.top, &self.nodes, Shape::new(MAX_GFN).unwrap())
    }

    fn flush_all(&self) {
        let log = Log::new(&self.head, &self.full, &self.context, &[]);
        flush_all(log, Some(&self.hints()), &Counters::new());
    }

    fn log(&self) -> Log<'_> {
        Log::new(&self.head, &self.full, &self.context, &self.ring)
    }

    /// A notifier call that ages the frame; whether it did so by what is known.
    fn age(&self) -> bool {
        let counters = Counters::new();
        let env = Env {
            policy: Policy::CLEAR_YOUNG,
            tunables: Tunables::DEFAULT,
            log: self.log(),
            hints: Ok(self.hints()),
            can_flush_gva: true,
            counters: &counters,
            wanted: None,
            kept: None,
        };
        let mut pass = Pass::default();
        aged(&mut pass, &env, Gfn::new(FRAME).unwrap(), Level::L4K, 1);
        finish(&mut pass, &env, 0, &AtomicU32::new(0)).covered > 0
    }

    /// Whether that is known.
    fn logged(&self) -> bool {
        self.full.load(Ordering::Relaxed) != 0
    }

    fn lookup(&self) -> Option<Vec<u64>> {
        let query = Query {
            now_ms: 1,
            max_age_ms: 1000,
            alias: LinearAlias::Auto,
        };
        let list = self.hints().lookup(Gfn::new(FRAME).unwrap(), &query).ok()?;
        Some(list.iter().map(|gva| gva.raw()).collect())
    }
}

/// A set, as a guest reports it; without gVAs KERNEL_ONLY.
fn set_of(writer: &mut Writer<'_, Fixed>, gfn: u64, order: u64, gvas: &[u64]) {
    let kind = if gvas.is_empty() { 2 } else { 1 };
    let mut words = vec![gfn | order << 40 | kind << 46 | (gvas.len() as u64) << 50];
    words.extend(gvas);
    let limits = Limits {
        bits: VaBits::Bits48,
        max_gfn: MAX_GFN,
    };
    let applied = report::apply(&mut Sets::new(&words, limits), 0, writer, 1, |_, _| true);
    assert_eq!(applied.refused, None);
}

fn set(writer: &mut Writer<'_, Fixed>, gfn: u64, gvas: &[u64]) {
    set_of(writer, gfn, 0, gvas);
}

fn linear(writer: &mut Writer<'_, Fixed>, which: usize) {
    let list = LinearList::parse(&LINEAR[which], VaBits::Bits48).unwrap();
    assert_eq!(writer.set_linear(&list), Ok(true));
}

/// What the linear ranges give the frame.
fn linear_gvas(which: usize) -> [u64; 2] {
    [
        LINEAR[which][1] + (FRAME << 12),
        LINEAR[which][5] + (FRAME << 12),
    ]
}

/// Plays a model in all interleavings, in a world with what `prepare` writes.
fn beside(
    prepare: fn(&mut Writer<'_, Fixed>),
    model: impl Fn(&Arc<World>, &mut WriterState) + Send + Sync + 'static,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 20_000;
    builder.check(move || {
        let mut state = WriterState::new();
        let world = World::new(&mut state);
        prepare(&mut Writer::new(world.hints(), &mut state));
        world.touch();
        model(&Arc::new(world), &mut state);
    });
}

/// The same with another thread.
fn spawn<T: 'static>(world: &Arc<World>, run: impl FnOnce(&World) -> T + 'static) -> JoinHandle<T> {
    let world = world.clone();
    thread::spawn(move || run(&world))
}

fn run(
    prepare: fn(&mut Writer<'_, Fixed>),
    change: fn(&mut Writer<'_, Fixed>),
    good: &'static [[u64; 2]],
    after: Option<[u64; 2]>,
) {
    beside(prepare, move |world, state| {
        let reader = spawn(world, World::lookup);
        change(&mut Writer::new(world.hints(), state));
        if let Some(found) = reader.join().unwrap() {
            assert!(good.iter().any(|good| found == good), "torn: {found:x?}");
        }
        let after = after.map(|gvas| gvas.to_vec());
        assert_eq!(world.lookup(), after);
    });
}

fn mapped(writer: &mut Writer<'_, Fixed>) {
    linear(writer, 0);
    set(writer, FRAME, &OLD);
}

fn mapped_once(writer: &mut Writer<'_, Fixed>) {
    set(writer, FRAME, &OLD[..1]);
}

fn kernel_only(writer: &mut Writer<'_, Fixed>) {
    linear(writer, 0);
    set(writer, FRAME, &[]);
}

#[test]
fn a_set_is_replaced() {
    run(mapped, |w| set(w, FRAME, &NEW), &[OLD, NEW], Some(NEW));
}

#[test]
fn a_set_is_replaced_and_its_cell_used_for_another_frame() {
    let change = |w: &mut Writer<'_, Fixed>| {
        set(w, FRAME, &NEW);
        set(w, NEXT, &[0x7000, 0x8000]);
    };
    run(mapped, change, &[OLD, NEW], Some(NEW));
}

#[test]
fn a_frame_gets_its_cell_back() {
    let change = |w: &mut Writer<'_, Fixed>| {
        set(w, FRAME, &NEW);
        set(w, FRAME, &OLD);
    };
    run(mapped, change, &[OLD, NEW], Some(OLD));
}

#[test]
fn a_frame_is_revoked_and_its_cell_used_for_another() {
    let change = |w: &mut Writer<'_, Fixed>| {
        w.revoke(FRAME, 1);
        set(w, NEXT, &[0x7000, 0x8000]);
    };
    run(mapped, change, &[OLD], None);
}

fn large(writer: &mut Writer<'_, Fixed>) {
    linear(writer, 0);
    set_of(writer, 0, 9, &LARGE);
}

#[test]
fn a_first_hint_grows_the_tree() {
    run(|w| linear(w, 0), |w| set(w, FRAME, &NEW), &[NEW], Some(NEW));
}

#[test]
fn a_2m_replaces_its_pages_and_is_split() {
    let change = |w: &mut Writer<'_, Fixed>| set_of(w, 0, 9, &LARGE);
    run(mapped, change, &[OLD, LARGE_HERE], Some(LARGE_HERE));
    run(
        large,
        |w| set(w, NEXT, &[0x7000]),
        &[LARGE_HERE],
        Some(LARGE_HERE),
    );
    run(
        large,
        |w| set(w, FRAME, &NEW),
        &[LARGE_HERE, NEW],
        Some(NEW),
    );
}

#[test]
fn a_range_is_dropped_and_its_cell_used_for_another_frame() {
    let change = |w: &mut Writer<'_, Fixed>| {
        w.revoke(0, 512);
        set(w, FAR, &[0x7000, 0x8000]);
    };
    // With another cell in use the node of cells stays, too.
    let beside = |w: &mut Writer<'_, Fixed>| {
        mapped(w);
        set(w, FAR + 1, &NEW);
    };
    run(mapped, change, &[OLD], None);
    run(beside, change, &[OLD], None);
}

#[test]
fn everything_is_dropped() {
    run(mapped, |w| w.clear(), &[OLD], None);
}

#[test]
fn the_linear_ranges_change() {
    let good: &[[u64; 2]] = Box::leak(Box::new([0, 1].map(linear_gvas)));
    run(kernel_only, |w| linear(w, 1), good, Some(good[1]));
}

fn without_hints(writer: &mut Writer<'_, Fixed>) {
    linear(writer, 0);
}

// Fails if a page is found covered before it is known that everything has to be flushed for it.
#[test]
fn who_finds_a_first_hint_finds_a_flush_due() {
    beside(without_hints, |world, state| {
        let due = |world: &World| world.lookup().is_none() || world.hints().owes_full();
        let reader = spawn(world, due);
        set(&mut Writer::new(world.hints(), state), FRAME, &NEW);
        assert!(reader.join().unwrap());
    });
}

// Fails if a flush that was logged before a page turned into data counts for it.
#[test]
fn an_earlier_flush_settles_nothing() {
    beside(without_hints, |world, state| {
        let flusher = spawn(world, World::flush_all);
        let logged = world.logged();
        set(&mut Writer::new(world.hints(), state), FRAME, &NEW);
        flusher.join().unwrap();
        assert!(!logged || world.hints().owes_full());
    });
}

// Fails if a flush counts that is not in the log yet.
#[test]
fn who_finds_no_flush_due_finds_it_logged() {
    beside(mapped, |world, _| {
        let flusher = spawn(world, World::flush_all);
        assert!(world.hints().owes_full() || world.logged());
        flusher.join().unwrap();
        assert!(!world.hints().owes_full());
    });
}

// Fails if a flush counts for what was aged as data after it, until it was known to be none.
#[test]
fn what_is_aged_as_data_until_it_is_revoked_owes_a_flush() {
    beside(mapped, |world, state| {
        let ager = spawn(world, |world: &World| {
            world.flush_all();
            world.lookup().is_some()
        });
        Writer::new(world.hints(), state).revoke(FRAME, 1);
        assert!(!ager.join().unwrap() || world.hints().owes_full());
    });
}

// Fails if a flush of contexts counts for what was aged after it by what was known until it was told.
#[test]
fn what_is_aged_by_what_it_was_owes_its_context() {
    beside(mapped, |world, state| {
        let ager = spawn(world, |world: &World| {
            world.flush_all();
            world.lookup() == Some(OLD.to_vec())
        });
        set(&mut Writer::new(world.hints(), state), FRAME, &NEW);
        assert!(!ager.join().unwrap() || world.hints().owes_context());
    });
}

// Fails if a page is aged by what it was beside the report of what it is, and its context is not flushed:
// by the report if that comes last, else by the notifier call.
#[test]
fn who_ages_beside_a_report_has_the_context_flushed() {
    beside(mapped_once, |world, state| {
        world.flush_all();
        let ager = spawn(world, World::age);
        set(&mut Writer::new(world.hints(), state), FRAME, &NEW[..1]);
        reported(world.log(), &world.hints(), &Counters::new());
        ager.join().unwrap();
        // The first lap's tag is 1.
        let by_old = |slot: &AtomicU64| slot.load(Ordering::Relaxed) == OLD[0] | 1;
        let flushed = world.context.load(Ordering::Relaxed) != 0;
        assert!(flushed || !world.ring.iter().any(by_old));
    });
}
