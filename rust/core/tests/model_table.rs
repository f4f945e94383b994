// SPDX-License-Identifier: GPL-2.0

//! The hint table under loom: a lookup beside a writer finds the set before,
//! the set after, or nothing. Run by scripts/models.

#![cfg(loom)]
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing, clippy::as_conversions)]

use gvahint_core::addr::{Gfn, VaBits};
use gvahint_core::linear::LinearList;
use gvahint_core::policy::LinearAlias;
use gvahint_core::report::{self, Limits};
use gvahint_core::sync::AtomicU64;
use gvahint_core::table::{Hints, Query, Shape};
use gvahint_core::writer::{Writer, WriterState};
use loom::thread;
use std::sync::Arc;

const FRAME: u64 = 0;
const NEXT: u64 = 1;
const OLD: [u64; 2] = [0x1000, 0x2000];
const NEW: [u64; 2] = [0xa000, 0xb000];
const LINEAR: [[u64; 8]; 2] = [
    [0, 1 << 40, 1 << 21, 4096, 0, 2 << 40, 1 << 21, 4096],
    [0, 3 << 40, 1 << 21, 4096, 0, 4 << 40, 1 << 21, 4096],
];

struct World(Vec<AtomicU64>);

impl World {
    fn shape() -> Shape {
        Shape::new(512, 2).unwrap()
    }

    fn hints(&self) -> Hints<'_> {
        Hints::new(&self.0, Self::shape()).unwrap()
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
fn set(writer: &mut Writer<'_>, gfn: u64, gvas: &[u64]) {
    let kind = if gvas.is_empty() { 2 } else { 1 };
    let mut words = vec![gfn | kind << 46 | (gvas.len() as u64) << 50];
    words.extend(gvas);
    let limits = Limits {
        bits: VaBits::Bits48,
        max_gfn: World::shape().max_gfn(),
    };
    let applied = report::apply(&words, limits, writer, 1, |_, _| true);
    assert_eq!(applied.refused, None);
}

fn linear(writer: &mut Writer<'_>, which: usize) {
    writer.set_linear(&LinearList::parse(&LINEAR[which], VaBits::Bits48).unwrap());
}

/// What the linear ranges give the frame.
fn linear_gvas(which: usize) -> [u64; 2] {
    [LINEAR[which][1], LINEAR[which][5]]
}

fn run(
    prepare: fn(&mut Writer<'_>),
    change: fn(&mut Writer<'_>),
    good: &'static [[u64; 2]],
    after: Option<[u64; 2]>,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let shape = World::shape();
        let world = World((0..shape.words()).map(|_| AtomicU64::new(0)).collect());
        let mut state = WriterState::new();
        prepare(&mut Writer::new(world.hints(), &mut state));
        world.0.iter().for_each(AtomicU64::touch);
        let world = Arc::new(world);
        let reader = {
            let world = world.clone();
            thread::spawn(move || world.lookup())
        };
        change(&mut Writer::new(world.hints(), &mut state));
        if let Some(found) = reader.join().unwrap() {
            assert!(good.iter().any(|good| found == good), "torn: {found:x?}");
        }
        let after = after.map(|gvas| gvas.to_vec());
        assert_eq!(world.lookup(), after);
    });
}

fn mapped(writer: &mut Writer<'_>) {
    linear(writer, 0);
    set(writer, FRAME, &OLD);
}

fn kernel_only(writer: &mut Writer<'_>) {
    linear(writer, 0);
    set(writer, FRAME, &[]);
}

#[test]
fn a_set_is_replaced() {
    run(mapped, |w| set(w, FRAME, &NEW), &[OLD, NEW], Some(NEW));
}

#[test]
fn a_set_is_replaced_and_its_cell_used_for_another_frame() {
    let change = |w: &mut Writer<'_>| {
        set(w, FRAME, &NEW);
        set(w, NEXT, &[0x7000, 0x8000]);
    };
    run(mapped, change, &[OLD, NEW], Some(NEW));
}

#[test]
fn a_frame_gets_its_cell_back() {
    let change = |w: &mut Writer<'_>| {
        set(w, FRAME, &NEW);
        set(w, FRAME, &OLD);
    };
    run(mapped, change, &[OLD, NEW], Some(OLD));
}

#[test]
fn a_frame_is_revoked_and_its_cell_used_for_another() {
    let change = |w: &mut Writer<'_>| {
        w.revoke(FRAME, 1);
        set(w, NEXT, &[0x7000, 0x8000]);
    };
    run(mapped, change, &[OLD], None);
}

#[test]
fn everything_is_dropped() {
    run(mapped, |w| w.clear(), &[OLD], None);
}

#[test]
fn the_linear_ranges_change() {
    let good: &[[u64; 2]] = Box::leak(Box::new([linear_gvas(0)]));
    run(kernel_only, |w| linear(w, 1), good, None);
}
