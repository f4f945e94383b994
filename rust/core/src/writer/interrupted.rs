// SPDX-License-Identifier: GPL-2.0

//! A lookup interrupted by a writer at every access, and a writer by a lookup:
//! what is found is the set before or the set after, or nothing.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

extern crate std;

use super::*;
use crate::addr::{Gfn, VaBits};
use crate::linear::LinearList;
use crate::plan::Reason;
use crate::policy::LinearAlias;
use crate::report::{apply, Limits};
use crate::sync::step::interrupt;
use crate::table::{Query, Shape};
use core::cell::RefCell;
use std::boxed::Box;
use std::vec::Vec;

const MAX_GFN: u64 = 1024;
/// The frame that is looked up, one in its chunk and one in another.
const FRAME: u64 = 5;
const NEXT: u64 = 6;
const FAR: u64 = 600;
const LINEAR: [[u64; 8]; 2] = [
    [0, 1 << 40, 1 << 22, 4096, 0, 2 << 40, 1 << 22, 4096],
    [0, 3 << 40, 1 << 21, 4096, 0, 4 << 40, 1 << 21, 4096],
];

struct World {
    storage: Vec<AtomicU64>,
    state: RefCell<WriterState>,
    found: RefCell<Option<Result<Vec<u64>, Reason>>>,
}

impl World {
    fn new() -> &'static Self {
        let words = shape().words();
        Box::leak(Box::new(Self {
            storage: (0..words).map(|_| AtomicU64::new(0)).collect(),
            state: RefCell::new(WriterState::new()),
            found: RefCell::new(None),
        }))
    }

    fn hints(&self) -> Hints<'_> {
        Hints::new(&self.storage, shape()).unwrap()
    }

    fn write(&self, change: impl FnOnce(&mut Writer<'_>)) {
        change(&mut Writer::new(self.hints(), &mut self.state.borrow_mut()));
    }

    fn lookup(&self) {
        let query = Query {
            now_ms: 1,
            max_age_ms: 1000,
            alias: LinearAlias::Auto,
        };
        let list = self.hints().lookup(Gfn::new(FRAME).unwrap(), &query);
        let gvas = list.map(|list| list.iter().map(|gva| gva.raw()).collect());
        *self.found.borrow_mut() = Some(gvas);
    }
}

fn shape() -> Shape {
    Shape::new(MAX_GFN, 2).unwrap()
}

fn set(writer: &mut Writer<'_>, gfn: u64, gvas: &[u64]) {
    let kind = if gvas.is_empty() { 2 } else { 1 };
    let count = crate::cast::u64_from_usize(gvas.len());
    let mut words = std::vec![gfn | kind << 46 | count << 50];
    words.extend(gvas);
    let limits = Limits {
        bits: VaBits::Bits48,
        max_gfn: MAX_GFN,
    };
    let applied = apply(&words, limits, writer, 1, |_, _| true);
    assert_eq!(applied.refused, None);
}

fn linear(writer: &mut Writer<'_>, which: usize) {
    let list = LinearList::parse(LINEAR.get(which).unwrap(), VaBits::Bits48);
    writer.set_linear(&list.unwrap());
}

/// What the writer does, and what may be found then besides nothing.
type Change = (&'static str, fn(&mut Writer<'_>));

const OLD: [u64; 3] = [0x1000, 0x2000, 0x3000];
const NEW: [u64; 2] = [0xa000, 0xb000];

const CHANGES: [Change; 6] = [
    ("replaces it", |w| set(w, FRAME, &NEW)),
    ("replaces it and uses its cell for another frame", |w| {
        set(w, FRAME, &NEW);
        set(w, NEXT, &[0x7000, 0x8000, 0x9000]);
    }),
    ("gives it its cell back", |w| {
        set(w, FRAME, &NEW);
        set(w, FRAME, &OLD);
    }),
    ("revokes it and uses its cell in another chunk", |w| {
        w.revoke(FRAME, 1);
        set(w, FAR, &[0x7000, 0x8000, 0x9000]);
    }),
    ("clears all and uses its cell in another chunk", |w| {
        w.clear();
        set(w, FAR, &[0x7000, 0x8000, 0x9000]);
    }),
    ("replaces the linear ranges and uses its cell", |w| {
        linear(w, 1);
        set(w, FAR, &[0x7000, 0x8000, 0x9000]);
    }),
];

/// Runs `play(world, change, at)` for each change and place until it ends.
fn each(prepare: fn(&mut Writer<'_>), good: &[&[u64]], write_is_outer: bool) {
    for (name, change) in CHANGES {
        let mut ends = false;
        for at in 0u32..20_000 {
            let world = World::new();
            world.write(prepare);
            let write = move || world.write(change);
            let ran = if write_is_outer {
                interrupt(at, || world.lookup(), write)
            } else {
                interrupt(at, write, || world.lookup())
            };
            if !ran {
                assert!(at > 0);
                ends = true;
                break;
            }
            if let Some(Ok(gvas)) = world.found.take() {
                let good = good.iter().any(|good| gvas == *good);
                assert!(good, "{name}, at {at}: {gvas:x?}");
            }
        }
        assert!(ends);
    }
}

fn mapped(writer: &mut Writer<'_>) {
    linear(writer, 0);
    set(writer, FRAME, &OLD);
}

fn kernel_only(writer: &mut Writer<'_>) {
    linear(writer, 0);
    set(writer, FRAME, &[]);
}

/// The gVAs that a list of linear ranges gives the frame.
fn linear_gvas(which: usize) -> [u64; 2] {
    let [_, one, _, _, _, two, _, _] = *LINEAR.get(which).unwrap();
    [one + (FRAME << 12), two + (FRAME << 12)]
}

#[test]
fn a_lookup_interrupted_by_a_writer() {
    each(mapped, &[&OLD, &NEW], false);
    each(kernel_only, &[&linear_gvas(0), &OLD, &NEW], false);
}

#[test]
fn a_writer_interrupted_by_a_lookup() {
    each(mapped, &[&OLD, &NEW], true);
    each(kernel_only, &[&linear_gvas(0), &OLD, &NEW], true);
}
