// SPDX-License-Identifier: GPL-2.0

//! Pages that may have been page tables: of these the CPU may keep more than a gVA's flush drops.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
#![allow(clippy::indexing_slicing)]

mod common;
mod storage;
mod world;

use common::Op;
use gvahint_core::counters::Counter;
use gvahint_core::policy::{Calibration, Flush, Timing, Uncovered};
use storage::{Storage, ANYWHERE, KERNEL_ONLY, MAPPED, PAGE_TABLE, REVOKED, TOO_MANY};
use world::{World, ONE, TWO, UNKNOWN};

/// A world whose table owes nothing, and flushes nothing for what is reported from here on.
fn settled(uncovered: Uncovered) -> World {
    let mut w = World::new(Flush::Hint, uncovered, Timing::Now);
    w.table.settles = false;
    w
}

/// Whether the frame owes a flush of everything after the second reports of it.
fn owes(first: &[u64], second: &[u64]) -> bool {
    let mut t = Storage::new(512, 64);
    for (settles, kinds) in [(true, first), (false, second)] {
        t.settles = settles;
        for kind in kinds {
            let gvas: &[u64] = if *kind == MAPPED {
                &[0x1000, 0x2000]
            } else {
                &[]
            };
            t.set(5, 0, *kind, gvas).unwrap();
        }
    }
    t.hints().owes_full()
}

// Fails if the page is aged by a gVA's flush alone, for one that was a page table or nothing; or if a
// large page that was aged as data until it held a page table stays without such a flush.
#[test]
fn what_turns_is_aged_by_one_flush_of_everything() {
    for uncovered in [Uncovered::Full, Uncovered::None] {
        for between in [PAGE_TABLE, REVOKED] {
            let mut w = settled(uncovered);
            let calls = |w: &World, gfn| {
                let _ = w.call(&[gfn], 0);
                [Counter::Turned, Counter::AppendedFull].map(|counter| w.counters.get(counter))
            };
            assert_eq!(calls(&w, TWO), [0, 0]);
            assert_eq!(w.flushes(), [Op::Gva(2), Op::Gva(3)]);
            w.table.set(ONE, 0, between, &[]).unwrap();
            // Whichever page is the next: what is flushed is everything.
            assert_eq!(calls(&w, TWO), [1, 1]);
            assert_eq!(w.flushes(), [Op::Full]);
            assert_eq!(calls(&w, TWO), [1, 1]);
            w.table.set(ONE, 0, MAPPED, &[0x1000]).unwrap();
            assert_eq!(calls(&w, TWO), [2, 2]);
            let entries = w.counters.get(Counter::AppendedGva);
            assert_eq!(calls(&w, ONE), [2, 2]);
            assert_eq!(w.counters.get(Counter::AppendedGva), entries + 1);
        }
    }
}

// Fails if a flush of everything for another reason is followed by one more.
#[test]
fn a_flush_of_everything_serves_whatever_it_is_for() {
    let mut w = settled(Uncovered::Full);
    w.table.set(ONE, 0, PAGE_TABLE, &[]).unwrap();
    w.table.set(ONE, 0, MAPPED, &[0x1000]).unwrap();
    let _ = w.call(&[UNKNOWN], 0);
    let _ = w.call(&[ONE], 0);
    assert_eq!(w.counters.get(Counter::AppendedFull), 1);
    assert_eq!(w.counters.get(Counter::Turned), 0);
}

// Fails if pages are aged by their context, for a verdict on hints, without a flush that they owe.
#[test]
fn a_context_that_stands_for_hints_owes_as_they_do() {
    let mut w = settled(Uncovered::Full);
    w.tunables.calibration = Calibration::FailedContext;
    w.table.set(ONE, 0, REVOKED, &[]).unwrap();
    let _ = w.call(&[ONE], 0);
    let _ = w.call(&[ONE], 0);
    assert_eq!(w.counters.get(Counter::AppendedFull), 1);
    assert_eq!(w.counters.get(Counter::AppendedContext), 1);
}

// Fails if a page whose ages no hint decides has everything flushed.
#[test]
fn nothing_is_flushed_for_what_no_hint_covers() {
    for (flush, gfns) in [
        (Flush::Hint, &[UNKNOWN][..]),
        (Flush::Context, &[ONE]),
        (Flush::None, &[ONE]),
        (Flush::Default, &[ONE]),
    ] {
        let mut w = settled(Uncovered::None);
        w.table.set(ONE, 0, REVOKED, &[]).unwrap();
        w.table.set(ONE, 0, MAPPED, &[0x1000]).unwrap();
        w.policy.flush = flush;
        let _ = w.call(gfns, 0);
        assert_eq!(w.counters.get(Counter::AppendedFull), 0, "{flush:?}");
        assert!(w.table.hints().owes_full());
    }
}

#[test]
fn only_what_turns_owes() {
    let data = [MAPPED, KERNEL_ONLY, TOO_MANY, ANYWHERE];
    for new in data {
        assert!(owes(&[], &[new]) && owes(&[PAGE_TABLE], &[new]), "{new}");
        assert!(
            owes(&[new], &[PAGE_TABLE]) && owes(&[new], &[REVOKED]),
            "{new}"
        );
        for old in data {
            assert!(!owes(&[old], &[new]), "{old} {new}");
        }
    }
    assert!(!owes(&[], &[PAGE_TABLE, REVOKED, PAGE_TABLE]));
}

// Fails if a piece of a larger hint is not looked at, or a larger hint over pieces.
#[test]
fn pieces_owe_as_the_whole_does() {
    let mut t = Storage::new(4096, 64);
    let large = |t: &mut Storage| t.set(512, 9, MAPPED, &[0x4000_0000 | 9]).unwrap();
    t.set(512, 9, PAGE_TABLE, &[]).unwrap();
    t.settles = false;
    t.set(600, 0, ANYWHERE, &[]).unwrap();
    assert!(t.hints().owes_full(), "a piece of a page table");
    large(&mut t);
    t.flush_all();
    t.set(600, 0, ANYWHERE, &[]).unwrap();
    large(&mut t);
    assert!(!t.hints().owes_full(), "all of it was data, and is");
    t.set(600, 0, PAGE_TABLE, &[]).unwrap();
    t.flush_all();
    large(&mut t);
    assert!(t.hints().owes_full(), "a piece was a page table");
    t.set(600, 0, ANYWHERE, &[]).unwrap();
    t.flush_all();
    t.set(512, 9, REVOKED, &[]).unwrap();
    assert!(t.hints().owes_full(), "pieces were data");
}

// Fails if a page that loses its gVAs for lack of room is taken for one that was none.
#[test]
fn what_loses_its_gvas_for_lack_of_room_owes_nothing() {
    let mut t = Storage::new(512, 4);
    let shared = |t: &mut Storage, gfn| t.set(gfn, 0, MAPPED, &[0x7000, 0x8000]).unwrap();
    (0..100).for_each(|gfn| shared(&mut t, gfn));
    assert!(t.state.take_shortened() > 0, "there was room for all");
    t.settles = false;
    (0..100).for_each(|gfn| shared(&mut t, gfn));
    assert!(t.state.take_shortened() > 0, "there was room for all");
    assert!(!t.hints().owes_full());
}
