// SPDX-License-Identifier: GPL-2.0

//! Pages that moved: what was aged by where they were is made good once the guest has told.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing)]

mod common;
mod storage;
mod world;

use common::Op;
use gvahint_core::counters::Counter;
use gvahint_core::owed::reported;
use gvahint_core::policy::{Calibration, Flush};
use storage::{Storage, ANYWHERE, KERNEL_ONLY, MAPPED, PAGE_TABLE, REVOKED};
use world::{World, ONE, TWO};

type Set<'a> = (u64, &'a [u64]);

/// Whether the frame, first the one and then the other, owes a flush of the context.
fn owes(first: Set<'_>, second: Set<'_>) -> bool {
    let mut t = Storage::new(512, 64);
    t.set(5, 0, first.0, first.1).unwrap();
    t.flush_all();
    t.settles = false;
    // Later, as it is renewed.
    t.now_ms += 1_000;
    t.set(5, 0, second.0, second.1).unwrap();
    t.hints().owes_context()
}

// Fails if a page may be reached as it was not when it was aged, and owes nothing; or owes for being renewed, for
// having lost a gVA of several, or for having been aged by its context.
#[test]
fn what_moves_owes() {
    let (one, other) = ((MAPPED, &[0x1000][..]), (MAPPED, &[0x2000][..]));
    let (both, three) = (
        (MAPPED, &[0x1000, 0x2000][..]),
        (MAPPED, &[0x1000, 0x3000, 0x2000][..]),
    );
    let none = |kind| (kind, &[][..]);
    let lists = [one, other, both, three, none(KERNEL_ONLY)];
    for (n, first) in lists.into_iter().enumerate() {
        for (m, second) in lists.into_iter().enumerate() {
            let less = (first, second) == (three, both);
            assert_eq!(owes(first, second), n != m && !less, "{first:?} {second:?}");
        }
        for kind in [ANYWHERE, PAGE_TABLE, REVOKED] {
            assert!(owes(first, none(kind)), "{first:?} {kind}");
            assert!(!owes(none(kind), first), "{kind} {first:?}");
        }
    }
}

// Fails if a piece of a larger hint is not looked at, or a larger hint over pieces.
#[test]
fn pieces_move_as_the_whole_does() {
    let mut t = Storage::new(4096, 64);
    let large = |t: &mut Storage| t.set(512, 9, MAPPED, &[0x4000_0000 | 9]).unwrap();
    large(&mut t);
    large(&mut t);
    assert!(!t.hints().owes_context());
    t.settles = false;
    // As it was, but by a small mapping: a large one is dropped by any of its addresses.
    t.set(600, 0, MAPPED, &[0x4000_0000 + (88 << 12)]).unwrap();
    assert!(t.hints().owes_context(), "a piece");
    t.flush_all();
    large(&mut t);
    assert!(t.hints().owes_context(), "the whole");
}

// Fails if a report of pages that moved flushes nothing although pages were aged, or something where none was; if
// what is aged after it is not made good, or is twice.
#[test]
fn one_flush_of_the_context_makes_good() {
    let mut w = World::hint();
    let told = |w: &World| reported(w.vm.log(), &w.table.hints(), &w.counters);
    let count = |w: &World| w.counters.get(Counter::Moved);
    w.table.settles = false;
    assert!(!told(&w), "nothing moved");
    let _ = w.call(&[TWO], 0);
    assert!(!told(&w), "nothing moved since");
    w.table.set(ONE, 0, MAPPED, &[0x9000]).unwrap();
    assert!(told(&w) && !told(&w));
    assert_eq!(w.flushes(), [Op::Context]);
    // Nobody ages: it waits for who does.
    w.table.set(ONE, 0, MAPPED, &[0x1000]).unwrap();
    assert!(!told(&w) && !told(&w));
    assert_eq!(count(&w), 1);
    let _ = w.call(&[TWO], 0);
    let _ = w.call(&[TWO], 0);
    assert_eq!((count(&w), told(&w)), (2, false));
    assert_eq!(w.counters.get(Counter::AppendedContext), 2);
    // Whatever else is flushed serves.
    w.table.set(ONE, 0, MAPPED, &[0x9000]).unwrap();
    w.tunables.calibration = Calibration::FailedContext;
    let _ = w.call(&[TWO], 0);
    w.tunables.calibration = Calibration::Passed;
    w.table.set(ONE, 0, MAPPED, &[0x1000]).unwrap();
    w.table.flush_all();
    let _ = w.call(&[TWO], 0);
    assert_eq!((count(&w), told(&w)), (2, false));
}

// Fails if a page whose ages no hint decides has contexts flushed.
#[test]
fn nothing_is_flushed_for_other_policies() {
    for flush in [Flush::None, Flush::Default, Flush::Invept] {
        let mut w = World::hint();
        w.policy.flush = flush;
        w.table.settles = false;
        w.table.set(ONE, 0, MAPPED, &[0x9000]).unwrap();
        let _ = w.call(&[ONE, TWO], 0);
        assert!(!reported(w.vm.log(), &w.table.hints(), &w.counters));
        assert_eq!(w.counters.get(Counter::AppendedContext), 0, "{flush:?}");
    }
}
