// SPDX-License-Identifier: GPL-2.0

//! A lookup interrupted by a writer at every access, and a writer by a lookup:
//! what is found is the set before or the set after, or nothing.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

extern crate std;

use super::*;
use crate::addr::{Gfn, VaBits};
use crate::linear::LinearList;
use crate::node::{Node, Nodes};
use crate::plan::Reason;
use crate::policy::LinearAlias;
use crate::pool::WriterState;
use crate::report::{apply, Limits, Sets};
use crate::sync::step::interrupt;
use crate::sync::AtomicU64;
use crate::table::{Query, Shape, Top};
use core::cell::RefCell;
use std::boxed::Box;
use std::rc::Rc;
use std::vec::Vec;

/// The frame that is looked up, one in its 2M and one in another.
const FRAME: u64 = 5;
const NEXT: u64 = 6;
const FAR: u64 = 600;
const LINEAR: [[u64; 8]; 2] = [
    [0, 1 << 40, 1 << 22, 4096, 0, 2 << 40, 1 << 22, 4096],
    [0, 3 << 40, 1 << 21, 4096, 0, 4 << 40, 1 << 21, 4096],
];

/// Enough nodes that none has to be taken back.
struct Fixed(Vec<Box<Node>>);

impl Nodes for Fixed {
    fn node(&self, id: u32) -> Option<&Node> {
        let at = crate::cast::usize_from_u32(id).checked_sub(1)?;
        Some(self.0.get(at)?)
    }
}

const NODES: u32 = 16;

struct World {
    top: Top,
    nodes: Fixed,
    state: RefCell<WriterState>,
    found: RefCell<Option<Result<Vec<u64>, Reason>>>,
}

impl World {
    fn new() -> Rc<Self> {
        let node = |_| Box::new([const { AtomicU64::new(0) }; NODE_SLOTS]);
        let nodes = Fixed((0..NODES).map(node).collect());
        let mut state = WriterState::new();
        for id in 1..=NODES {
            assert!(state.hand_in(&nodes, id));
        }
        state.set_exhausted(true);
        Rc::new(Self {
            top: Top::new(),
            nodes,
            state: RefCell::new(state),
            found: RefCell::new(None),
        })
    }

    fn hints(&self) -> Hints<'_, Fixed> {
        Hints::new(&self.top, &self.nodes, Shape::new(1024).unwrap())
    }

    fn write(&self, change: impl FnOnce(&mut Writer<'_, Fixed>)) {
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

fn set(writer: &mut Writer<'_, Fixed>, gfn: u64, gvas: &[u64]) {
    set_of(writer, gfn, 0, gvas);
}

fn set_of(writer: &mut Writer<'_, Fixed>, gfn: u64, order: u64, gvas: &[u64]) {
    let kind = if gvas.is_empty() { 2 } else { 1 };
    let count = crate::cast::u64_from_usize(gvas.len());
    let mut words = std::vec![gfn | order << 40 | kind << 46 | count << 50];
    words.extend(gvas);
    let limits = Limits {
        bits: VaBits::Bits48,
        max_gfn: 1024,
    };
    let applied = apply(&mut Sets::new(&words, limits), 0, writer, 1, |_, _| true);
    assert_eq!(applied.refused, None);
}

fn linear(writer: &mut Writer<'_, Fixed>, which: usize) {
    let list = LinearList::parse(LINEAR.get(which).unwrap(), VaBits::Bits48);
    assert_eq!(writer.set_linear(&list.unwrap()), Ok(true));
}

/// What the writer does, and what may be found then besides nothing.
type Change = (&'static str, fn(&mut Writer<'_, Fixed>));

const OLD: [u64; 3] = [0x1000, 0x2000, 0x3000];
const NEW: [u64; 2] = [0xa000, 0xb000];

/// Of 2M, and what that says of the frame.
const LARGE: [u64; 2] = [0x4000_0000, 0x5000_0000];
const LARGE_HERE: [u64; 2] = [LARGE[0] + (FRAME << 12), LARGE[1] + (FRAME << 12)];

/// A slot that names the same cell again must not look as before.
const THIRD: [u64; 3] = [0xc000, 0xd000, 0xe000];

const CHANGES: [Change; 13] = [
    ("replaces it", |w| set(w, FRAME, &NEW)),
    ("replaces it and uses its cell for another frame", |w| {
        set(w, FRAME, &NEW);
        set(w, NEXT, &[0x7000, 0x8000, 0x9000]);
    }),
    ("gives it its cell back with another set", |w| {
        set(w, FRAME, &NEW);
        set(w, FRAME, &THIRD);
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
    ("replaces all of its 2M", |w| set_of(w, 0, 9, &LARGE)),
    ("replaces all of its 2M and splits that again", |w| {
        set_of(w, 0, 9, &LARGE);
        set(w, NEXT, &[0x7000]);
    }),
    ("replaces all of its 2M and uses its cell in another", |w| {
        set_of(w, 0, 9, &LARGE);
        set(w, FAR, &[0x7000, 0x8000, 0x9000]);
    }),
    ("drops all of its 2M and uses its cell in another", |w| {
        w.revoke(0, 512);
        set(w, FAR, &[0x7000, 0x8000, 0x9000]);
    }),
    ("drops all of its 2M and writes to the next", |w| {
        w.revoke(0, 512);
        set(w, FAR, &[0x7000]);
    }),
    ("drops the memory and reports it again", |w| {
        w.revoke(0, u64::MAX);
        set(w, FRAME, &NEW);
    }),
    ("replaces the linear ranges and uses its cell", |w| {
        linear(w, 1);
        set(w, FAR, &[0x7000, 0x8000, 0x9000]);
    }),
];

/// Runs `play(world, change, at)` for each change and place until it ends.
fn each(prepare: fn(&mut Writer<'_, Fixed>), good: &[&[u64]], write_is_outer: bool) {
    for (name, change) in CHANGES {
        let mut ends = false;
        for at in 0u32..20_000 {
            let world = World::new();
            world.write(prepare);
            let (reader, writer) = (world.clone(), world.clone());
            let lookup = move || reader.lookup();
            let write = move || writer.write(change);
            let ran = if write_is_outer {
                interrupt(at, lookup, write)
            } else {
                interrupt(at, write, lookup)
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

fn mapped(writer: &mut Writer<'_, Fixed>) {
    linear(writer, 0);
    set(writer, FRAME, &OLD);
}

/// The node of its cell stays in use when it goes.
fn mapped_beside(writer: &mut Writer<'_, Fixed>) {
    mapped(writer);
    set(writer, FAR + 1, &NEW);
}

fn large(writer: &mut Writer<'_, Fixed>) {
    linear(writer, 0);
    set_of(writer, 0, 9, &LARGE);
}

fn kernel_only(writer: &mut Writer<'_, Fixed>) {
    linear(writer, 0);
    set(writer, FRAME, &[]);
}

/// The gVAs that a list of linear ranges gives the frame.
fn linear_gvas(which: usize) -> [u64; 2] {
    let [_, one, _, _, _, two, _, _] = *LINEAR.get(which).unwrap();
    [one + (FRAME << 12), two + (FRAME << 12)]
}

fn each_world(write_is_outer: bool) {
    let (old, new) = (linear_gvas(0), linear_gvas(1));
    for prepare in [mapped, mapped_beside] {
        each(prepare, &[&OLD, &NEW, &LARGE_HERE, &THIRD], write_is_outer);
    }
    each(large, &[&LARGE_HERE, &NEW, &OLD, &THIRD], write_is_outer);
    let good: &[&[u64]] = &[&old, &new, &OLD, &NEW, &LARGE_HERE, &THIRD];
    each(kernel_only, good, write_is_outer);
}

#[test]
fn a_lookup_interrupted_by_a_writer() {
    each_world(false);
}

#[test]
fn a_writer_interrupted_by_a_lookup() {
    each_world(true);
}
